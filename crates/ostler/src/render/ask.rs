//! The story of an `ask`, event by event: with signs and colours for a terminal, as stable lines for a pipe.

use super::text::{clean, count, one_line, span};
use super::{Paint, Style};
use crate::http::event::AskEvent;

/// How much of a tool's arguments or answer is shown.
const EXCERPT: usize = 160;

/// Tells the events of one `ask`.
pub(crate) struct Teller {
    style: Style,
    /// How many prompts there are: a single one is not repeated.
    prompts: usize,
    /// What the model said since the last line of ours; a terminal has it on its screen already.
    said: String,
}

impl Teller {
    pub(crate) fn new(style: Style, prompts: usize) -> Self {
        Self { style, prompts, said: String::new() }
    }

    /// What to write for this event, perhaps nothing.
    pub(crate) fn tell(&mut self, event: &AskEvent) -> String {
        if let AskEvent::Text { text } = event {
            return self.text(text);
        }
        if let AskEvent::Answer(answer) = event {
            return self.answer(&answer.text);
        }
        match self.line(event) {
            Some(line) => format!("{}{line}\n", self.interrupt()),
            None => String::new(),
        }
    }

    fn text(&mut self, text: &str) -> String {
        self.said.push_str(text);
        if self.style.is_terminal() { clean(text) } else { String::new() }
    }

    /// Ends what the model is saying, because a line of ours follows.
    fn interrupt(&mut self) -> String {
        let said = std::mem::take(&mut self.said);
        if said.trim().is_empty() {
            return String::new();
        }
        let end = if said.ends_with('\n') { "" } else { "\n" };
        if self.style.is_terminal() { end.to_owned() } else { format!("{said}{end}") }
    }

    fn answer(&mut self, text: &str) -> String {
        let said = std::mem::take(&mut self.said);
        let end = if text.ends_with('\n') { "" } else { "\n" };
        if !self.style.is_terminal() {
            return format!("{text}{end}");
        }
        if !text.trim().is_empty() && said.trim() == text.trim() {
            return if said.ends_with('\n') { String::new() } else { "\n".to_owned() };
        }
        let before = if said.is_empty() || said.ends_with('\n') { "" } else { "\n" };
        format!("{before}{}{end}", clean(text))
    }

    fn line(&self, event: &AskEvent) -> Option<String> {
        if self.style.is_terminal() { self.decorated(event) } else { plain(event) }
    }

    fn decorated(&self, event: &AskEvent) -> Option<String> {
        let sign = |paint, sign| self.style.paint(paint, sign);
        let faint = |text: &str| self.style.paint(Paint::Faint, text);
        Some(match event {
            AskEvent::ServerUp { server, .. } => {
                format!("{} {server} {}", sign(Paint::Good, "▲"), faint(&up(event)?))
            }
            AskEvent::ServerDown { server, state, .. } => {
                format!("{} {server} {state}{}", sign(Paint::Bad, "▼"), down(event)?)
            }
            AskEvent::Notice { server, text } => {
                format!("{} {server} {}", sign(Paint::Wait, "!"), one_line(text, 1000))
            }
            AskEvent::GoingAhead { without } => {
                format!("{} going ahead without {}: still coming up", sign(Paint::Wait, "…"), without.join(", "))
            }
            AskEvent::Model(_) => format!("{} {}", sign(Paint::Good, "◆"), model(event)?),
            AskEvent::Prompt { text, .. } => {
                if self.prompts < 2 {
                    return None;
                }
                format!("{} {}", sign(Paint::Faint, ">"), one_line(text, 1000))
            }
            AskEvent::Retrying { after_ms, why } => {
                format!("{} again in {}: {}", sign(Paint::Wait, "…"), span(*after_ms), one_line(why, 1000))
            }
            AskEvent::ToolStarted { name, arguments, .. } => {
                format!("{} {} {}", sign(Paint::Good, "→"), clean(name), faint(&one_line(arguments, EXCERPT)))
            }
            AskEvent::ToolEnded { server, elapsed_ms, content, is_error, .. } => {
                let paint = if *is_error { Paint::Bad } else { Paint::Good };
                let who = format!("{} {}", server.as_deref().unwrap_or("nobody"), span(*elapsed_ms));
                format!("{} {}  {}", sign(paint, "←"), one_line(content, EXCERPT), faint(&who))
            }
            AskEvent::Asking { .. }
            | AskEvent::Text { .. }
            | AskEvent::Answer(_)
            | AskEvent::Failed { .. }
            | AskEvent::Done => return None,
        })
    }
}

fn plain(event: &AskEvent) -> Option<String> {
    Some(match event {
        AskEvent::ServerUp { server, .. } => format!("server {server} {}", up(event)?),
        AskEvent::ServerDown { server, state, .. } => format!("server {server} {state}{}", down(event)?),
        AskEvent::Notice { server, text } => format!("notice {server} {}", one_line(text, 1000)),
        AskEvent::GoingAhead { without } => format!("going ahead without {}", without.join(", ")),
        AskEvent::Model(_) => format!("model {}", model(event)?),
        AskEvent::Prompt { number, text } => format!("prompt {number} {}", one_line(text, 1000)),
        AskEvent::Retrying { after_ms, why } => format!("retry in {} {}", span(*after_ms), one_line(why, 1000)),
        AskEvent::ToolStarted { name, arguments, .. } => {
            format!("call {} {}", clean(name), one_line(arguments, EXCERPT))
        }
        AskEvent::ToolEnded { name, server, elapsed_ms, outcome, content, .. } => {
            let server = server.as_deref().unwrap_or("nobody");
            let content = one_line(content, EXCERPT);
            format!("result {} {outcome} {server} {}: {content}", clean(name), span(*elapsed_ms))
        }
        AskEvent::Asking { .. }
        | AskEvent::Text { .. }
        | AskEvent::Answer(_)
        | AskEvent::Failed { .. }
        | AskEvent::Done => return None,
    })
}

fn up(event: &AskEvent) -> Option<String> {
    let AskEvent::ServerUp { elapsed_ms, tools, pid, .. } = event else { return None };
    let took = elapsed_ms.map_or(String::new(), |ms| format!(" in {}", span(ms)));
    let pid = pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
    Some(format!("ready{took}, {}{pid}", count(*tools, "tool")))
}

fn down(event: &AskEvent) -> Option<String> {
    let AskEvent::ServerDown { why, hint, next_try_in_ms, .. } = event else { return None };
    let why = why.as_ref().map_or(String::new(), |why| format!(": {}", one_line(why, 1000)));
    let hint = hint.as_ref().map_or(String::new(), |hint| format!("\n  hint: {}", one_line(hint, 1000)));
    let next = next_try_in_ms.map_or(String::new(), |ms| format!("; next try in {}", span(ms)));
    Some(format!("{why}{next}{hint}"))
}

fn model(event: &AskEvent) -> Option<String> {
    let AskEvent::Model(model) = event else { return None };
    let notice = model.notice.as_ref().map_or(String::new(), |notice| format!(": {}", one_line(notice, 1000)));
    let model_id = if model.model == model.provider { String::new() } else { format!(" {}", clean(&model.model)) };
    Some(format!("{}{model_id}{notice}", model.provider))
}

#[cfg(test)]
mod tests;
