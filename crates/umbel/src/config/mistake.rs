//! Mistakes in settings: each with its place and what would be right.

use std::fmt;
use std::path::PathBuf;

use super::mask::masked;

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of the file, counted from 1.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// The file as a whole.
    WholeFile(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A command-line flag.
    Flag(&'static str),
    /// Nowhere in particular: several settings together, or what they name.
    Settings,
}

/// One thing that must be put right before the node can start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// What is wrong, and what would be right.
    pub fault: String,
}

/// All mistakes of one run.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Adds one.
    pub fn add(&mut self, place: Place, fault: String) {
        self.0.push(Mistake { place, fault });
    }

    /// Orders what was found in a file as one reads it.
    pub(super) fn sort_by_line(&mut self) {
        self.0.sort_by_key(|mistake| match mistake.place {
            Place::File { line, .. } => line,
            _ => 0,
        });
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::WholeFile(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
            Self::Settings => Ok(()),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Settings => f.write_str(&masked(&self.fault)),
            _ => write!(f, "{}: {}", self.place, masked(&self.fault)),
        }
    }
}
