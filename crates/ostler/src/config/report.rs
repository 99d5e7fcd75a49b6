//! What is wrong with a configuration: every problem with its place and with what to write instead.
//!
//! Messages never hold a configured value that could be a secret. Reading stops nowhere; the report decides at the end.

use std::fmt;
use std::sync::Arc;

/// Where a value stands: file, line and key path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    file: Arc<str>,
    line: Option<usize>,
    path: String,
}

impl Spot {
    /// A whole file, as it is called in messages.
    pub(super) fn file(file: &str) -> Self {
        Self { file: file.into(), line: None, path: String::new() }
    }

    /// The same file at `line`, counted from 1.
    #[must_use]
    pub(super) fn on_line(&self, line: usize) -> Self {
        Self { line: Some(line), ..self.clone() }
    }

    /// A key below this place. Keys that TOML would quote are quoted.
    #[must_use]
    pub(super) fn key(&self, key: &str, line: usize) -> Self {
        let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        let segment = if bare { key.to_owned() } else { format!("{key:?}") };
        let path = if self.path.is_empty() { segment } else { format!("{}.{segment}", self.path) };
        Self { file: Arc::clone(&self.file), line: Some(line), path }
    }

    /// An item of the list at this place, from 0.
    #[must_use]
    pub(super) fn item(&self, index: usize, line: usize) -> Self {
        Self { file: Arc::clone(&self.file), line: Some(line), path: format!("{}[{index}]", self.path) }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        Ok(())
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub spot: Spot,
}

/// One thing that is wrong, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub spot: Spot,
    /// What, and the advice after a semicolon.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.spot, self.message)
    }
}

/// All problems of a configuration, in the order of the file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<Problem>);

impl ConfigErrors {
    /// The problems.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.0.iter();
        if let Some(first) = lines.next() {
            write!(f, "{first}")?;
        }
        for problem in lines {
            write!(f, "\n{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects problems and notices while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    notices: Vec<String>,
}

impl Report {
    /// Notes a problem. Returns `None`, so that a reader can end with it.
    pub(super) fn problem<T>(&mut self, spot: &Spot, message: impl Into<String>) -> Option<T> {
        self.problems.push(Problem { spot: spot.clone(), message: message.into() });
        None
    }

    /// Takes over what another report has. Advice about `spot` itself ends with `suffix`.
    pub(super) fn absorb(&mut self, other: Self, spot: &Spot, suffix: &str) {
        for mut problem in other.problems {
            if problem.spot == *spot {
                problem.message.push_str(suffix);
            }
            self.problems.push(problem);
        }
        self.notices.extend(other.notices);
    }

    /// Whether a problem was noted at `spot` or below it.
    pub(super) fn has_problem_in(&self, spot: &Spot) -> bool {
        let below = |path: &str| {
            path.strip_prefix(&spot.path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.problems.iter().any(|problem| problem.spot.file == spot.file && below(&problem.spot.path))
    }

    /// Notes something that is no error but that a person should know.
    pub(super) fn notice(&mut self, spot: &Spot, message: &str) {
        self.notices.push(format!("{spot}: {message}"));
    }

    /// Ends the reading: the notices, or all problems of all files, each file's in the order of its lines.
    pub(super) fn finish(mut self) -> Result<Vec<String>, ConfigErrors> {
        if self.problems.is_empty() {
            return Ok(self.notices);
        }
        let mut files: Vec<Arc<str>> = Vec::new();
        for problem in &self.problems {
            if !files.contains(&problem.spot.file) {
                files.push(Arc::clone(&problem.spot.file));
            }
        }
        self.problems.sort_by_key(|problem| (files.iter().position(|f| *f == problem.spot.file), problem.spot.line));
        Err(ConfigErrors(self.problems))
    }
}
