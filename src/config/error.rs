//! Problems and warnings of a configuration: file, place, and what to do.
//!
//! A finding is one line, in lower case and without a full stop. It never shows a value that may be a secret.

use std::fmt;
use std::path::Path;

/// All problems of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    problems: Vec<Finding>,
}

/// A problem or a warning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Finding {
    /// The file, as it was named to the loader.
    pub file: String,
    /// The place in the file.
    pub place: Place,
    /// The problem, and what to do.
    pub message: String,
}

/// The place of a [`Finding`] in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Place {
    /// The whole file: it is missing, unreadable or of an unknown format.
    File,
    /// A syntax error at a position, counted from 1.
    Position {
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// A key, by its full path.
    Key(String),
}

impl Finding {
    /// Whether the finding is about a key in a table.
    pub(super) fn is_under(&self, table: &str) -> bool {
        matches!(&self.place, Place::Key(key) if key.starts_with(table))
    }
}

impl Finding {
    /// A finding at a key, or about the whole file if the key is empty.
    pub(crate) fn at_key(file: &Path, key: &str, message: String) -> Self {
        let place = if key.is_empty() { Place::File } else { Place::Key(key.to_owned()) };
        Self { file: file.display().to_string(), place, message }
    }
}

impl Error {
    /// Wraps at least one problem. The order does not depend on the format.
    pub(crate) fn new(mut problems: Vec<Finding>) -> Self {
        problems.sort();
        Self { problems }
    }

    /// Every problem, ordered by place.
    pub fn problems(&self) -> &[Finding] {
        &self.problems
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(f, "{line_break}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, place, message } = self;
        match place {
            Place::File => write!(f, "{file}: {message}"),
            Place::Position { line, column } => write!(f, "{file}:{line}:{column}: {message}"),
            Place::Key(key) => write!(f, "{file}: {key}: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, Finding, Place};

    #[test]
    fn every_problem_has_its_own_line_with_file_and_place() {
        let finding =
            |place, message: &str| Finding { file: "zot.toml".to_owned(), place, message: message.to_owned() };
        let error = Error::new(vec![
            finding(Place::Key("http.port".to_owned()), "expected a port"),
            finding(Place::Position { line: 3, column: 7 }, "invalid string"),
            finding(Place::File, "cannot be read"),
        ]);
        assert_eq!(
            error.to_string(),
            "zot.toml: cannot be read\n\
             zot.toml:3:7: invalid string\n\
             zot.toml: http.port: expected a port"
        );
    }
}
