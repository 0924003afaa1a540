//! What a job file or a command line says, before anything is made of it: sections of names and values, with their places.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Where something stands, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a job file.
    File {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
    },
    /// Among the flags.
    CommandLine,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Place::CommandLine => formatter.write_str("command line"),
        }
    }
}

/// One option as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The name as it was written, perhaps an alias.
    pub name: String,
    /// What stands behind the `=`; `None` without one.
    pub value: Option<String>,
    /// Where it stands.
    pub place: Place,
}

/// What a section's settings are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// All jobs behind it, to the end of the file.
    Global,
    /// One job of that name.
    Job(String),
}

/// A section of a job file, or the flags from one `--name` to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What the settings are for.
    pub kind: SectionKind,
    /// The settings, in the order that they were given.
    pub settings: Vec<Setting>,
    /// Where it begins.
    pub place: Place,
}

impl Section {
    /// A section without settings; a name that begins with `global` makes it a global one, as in fio.
    pub fn named(name: &str, place: Place) -> Self {
        let kind = if name.starts_with("global") {
            SectionKind::Global
        } else {
            SectionKind::Job(name.to_owned())
        };
        Section {
            kind,
            settings: Vec::new(),
            place,
        }
    }
}

/// What the user has to mend in a job file or in the flags; nothing was run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A job file can't be read.
    #[error("{}: the job file can't be read: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A line is neither a section, a setting nor a comment, or stands where it must not.
    #[error("{place}: {reason}")]
    Line {
        /// The line.
        place: Place,
        /// What is wrong.
        reason: String,
    },
    /// There is no such option, or none that is supported.
    #[error("{place}: {reason}")]
    Option {
        /// Where it stands.
        place: Place,
        /// Its name, why it is not taken and which one may be meant.
        reason: String,
    },
    /// An option's value is not allowed.
    #[error("{place}: {name}={value}: {reason}")]
    Value {
        /// Where it stands.
        place: Place,
        /// The option.
        name: String,
        /// The value, as it was given.
        value: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// The settings of a job don't fit together.
    #[error("{place}: job '{job}': {reason}")]
    Job {
        /// Where the job begins.
        place: Place,
        /// Its name.
        job: String,
        /// What does not fit.
        reason: String,
    },
    /// The flags don't fit together, or name no job.
    #[error("{0}")]
    Arguments(String),
}

impl SettingsError {
    pub(crate) fn unreadable(path: &Path, source: io::Error) -> Self {
        SettingsError::Unreadable {
            path: path.to_owned(),
            source,
        }
    }
}
