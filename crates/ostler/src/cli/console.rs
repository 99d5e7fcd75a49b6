//! Where a command writes: standard output for what was asked for, standard error for what is said about it.
//!
//! Writing is checked: a closed pipe ends the command quietly, never with a panic.

use std::env;
use std::io::{self, IsTerminal, Write};

use super::failure::Failure;
use crate::render::text::clean;
use crate::render::{Colour, Style};

/// The two outputs and how the first looks.
pub(crate) struct Console {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// Reads one line of a person. `None`: there is nobody to be asked.
    answers: Option<Answers>,
    pub(crate) style: Style,
}

/// Where the answers of a person come from.
pub(crate) type Answers = Box<dyn FnMut() -> io::Result<String> + Send>;

impl Console {
    /// The outputs of this process.
    pub(crate) fn of_process() -> Self {
        let out = io::stdout();
        let is_terminal = out.is_terminal();
        let has_colour = is_terminal
            && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && env::var_os("TERM").is_none_or(|term| term != "dumb");
        let width = if is_terminal { terminal_size::terminal_size_of(&out).map(|(width, _)| width.0) } else { None };
        let style = match (is_terminal, has_colour) {
            (false, _) => Style::Plain,
            (true, true) => Style::Terminal { width, colour: Colour::On },
            (true, false) => Style::Terminal { width, colour: Colour::Off },
        };
        let answers = io::stdin().is_terminal().then(|| Box::new(typed) as Answers);
        Self { answers, ..Self::new(Box::new(out), Box::new(io::stderr()), style) }
    }

    pub(crate) fn new(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>, style: Style) -> Self {
        Self { out, err, answers: None, style }
    }

    /// The same with somebody who answers.
    #[cfg(test)]
    pub(crate) fn with_answers(self, answers: Answers) -> Self {
        Self { answers: Some(answers), ..self }
    }

    /// Asks a question whose answer is no unless it is yes. `None`: there is nobody to be asked. Blocks until the answer.
    pub(crate) fn confirm(&mut self, question: &str) -> io::Result<Option<bool>> {
        let Some(answers) = &mut self.answers else { return Ok(None) };
        write!(self.err, "{} [y/N] ", clean(question))?;
        self.err.flush()?;
        let answer = answers()?;
        Ok(Some(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")))
    }

    /// Writes text as it is and shows it at once.
    pub(crate) fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        self.write(&format!("{line}\n"))
    }

    /// Writes words that are not ours: as they are into a pipe, made harmless for a terminal.
    pub(crate) fn foreign(&mut self, text: &str) -> io::Result<()> {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        if self.style.is_terminal() {
            self.write(&format!("{}{end}", clean(text)))
        } else {
            self.write(&format!("{text}{end}"))
        }
    }

    /// Says a line about the command. Nobody has to hear it.
    pub(crate) fn note(&mut self, line: &str) {
        let _ = writeln!(self.err, "{}", clean(line));
    }

    /// Says why a command failed.
    pub(crate) fn complain(&mut self, failure: &Failure) {
        let Some(error) = &failure.error else { return };
        self.note(&format!("error: {}", error.message));
        if let Some(hint) = &error.hint {
            self.note(&format!("  hint: {hint}"));
        }
    }
}

fn typed() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line)
}
