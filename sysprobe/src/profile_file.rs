//! A profile as a file.
//!
//! TOML, so that people can read it. Its first line is a checksum (xxh3) of all that follows: a profile decides a
//! database's layout for good, so a changed digit must not pass for a measurement. Nothing is taken from a file before
//! all of it was checked.

use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::ProfileError;
use crate::machine::Machine;
use crate::probe::cpu::cores;
use crate::probe::report::Report;
use crate::profile::Profile;
use crate::profile_versions::VersionOne;

/// The file's name in a database's folder.
pub const PROFILE_FILE_NAME: &str = "PROFILE.toml";
/// Version of the file that is written, and the newest that is read.
const VERSION: u32 = 2;
const CHECKSUM_KEY: &str = "checksum = ";

/// A measured profile and where it is from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    version: u32,
    /// When it was measured, RFC 3339, UTC.
    pub measured_at: String,
    /// How it was measured, in words.
    pub method: String,
    /// S-Size in bytes.
    pub s_size_bytes: u64,
    /// S-Paral as it was when it was measured: the greatest of the next three, rounded up to a power of two.
    pub s_paral: u32,
    /// Threads of synchronous I/O that the device needs; `None` in a file of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_threads: Option<u64>,
    /// Depth of a queue of asynchronous I/O that the device needs; `None` where that was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_depth: Option<u64>,
    /// Cores that the process could use when it was measured.
    pub cores: usize,
    /// Most bytes that may share a commit for little more than the smallest one costs; `None` where nothing was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_batch_bytes: Option<u64>,
    /// The smallest write and its `fdatasync`, the median in microseconds; `None` where nothing was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fdatasync_us: Option<f64>,
    /// What limits what the numbers mean, in words.
    #[serde(default)]
    pub findings: Vec<String>,
    /// Where it was measured.
    pub machine: Machine,
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl ProfileFile {
    /// A file for what was measured.
    pub fn new(report: &Report) -> Self {
        ProfileFile {
            version: VERSION,
            measured_at: report.measured_at.clone(),
            method: report.method.clone(),
            s_size_bytes: report.profile.s_size_bytes,
            s_paral: report.profile.s_paral,
            io_threads: Some(report.io_threads),
            io_depth: report.io_depth,
            cores: report.cores,
            commit_batch_bytes: report.commit_batch_bytes,
            fdatasync_us: report.fdatasync_us,
            findings: report.findings.iter().map(ToString::to_string).collect(),
            machine: report.machine.clone(),
        }
    }

    /// The profile for this process. The device's part of S-Paral is as it was measured; the cores' part is the number of
    /// cores that this process may use, which may not be what it was. A file of version 1 does not tell the two apart, so
    /// its S-Paral stays what it is.
    pub fn profile(&self) -> Profile {
        self.profile_on(cores())
    }

    fn profile_on(&self, cores: usize) -> Profile {
        let in_flight = self.io_threads.max(self.io_depth);
        match in_flight {
            Some(in_flight) => Profile::measured(self.s_size_bytes, in_flight, cores),
            None => Profile::measured(self.s_size_bytes, self.s_paral.into(), 1),
        }
    }

    /// Whether this process may use as many cores as the one that measured.
    pub fn has_same_cores(&self) -> bool {
        self.cores == cores()
    }

    /// Writes the file: whole, or not at all.
    ///
    /// # Errors
    /// [`ProfileError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), ProfileError> {
        let failed = |source: io::Error| ProfileError::Io {
            path: path.to_owned(),
            source,
        };
        let body = toml::to_string(self).map_err(|error| failed(io::Error::other(error)))?;
        let beside = path.with_extension("toml.new");
        let write = || {
            let mut file = std::fs::File::create(&beside)?;
            write!(file, "{}", with_checksum(&body))?;
            file.sync_all()?;
            std::fs::rename(&beside, path)
        };
        write().map_err(|error| {
            // A half-written file has no use, and why it can't be removed is not what went wrong.
            drop(std::fs::remove_file(&beside));
            failed(error)
        })
    }

    /// Reads a file that was measured on this machine.
    ///
    /// # Errors
    /// [`ProfileError`], by what should be done. A file that is refused is not used in part.
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        let text = std::fs::read_to_string(path).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => ProfileError::Damaged {
                path: path.to_owned(),
                reason: "it is not text".into(),
            },
            _ => ProfileError::Io {
                path: path.to_owned(),
                source,
            },
        })?;
        let file = Self::parse(path, &text)?;
        let ours = Machine::this();
        if file.machine != ours {
            return Err(ProfileError::Foreign {
                path: path.to_owned(),
                theirs: file.machine.to_string(),
                ours: ours.to_string(),
            });
        }
        Ok(file)
    }

    /// What a text says, wherever it was measured; `path` is for messages.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ProfileError> {
        let damaged = |reason: String| ProfileError::Damaged {
            path: path.to_owned(),
            reason,
        };
        let body = checked_body(text).map_err(|reason| damaged(reason.into()))?;
        let in_short = |error: toml::de::Error| damaged(error.message().to_owned());
        let Versioned { version } = toml::from_str(body).map_err(in_short)?;
        if version > VERSION {
            return Err(ProfileError::Newer {
                path: path.to_owned(),
                version,
                supported: VERSION,
            });
        }
        let file: ProfileFile = match version {
            1 => toml::from_str::<VersionOne>(body).map_err(in_short)?.into(),
            _ => toml::from_str(body).map_err(in_short)?,
        };
        file.check().map_err(|reason| damaged(reason.into()))?;
        Ok(file)
    }

    /// Whether the numbers are such as a measurement gives.
    fn check(&self) -> Result<(), &'static str> {
        let rounded = Profile::given(self.s_size_bytes, self.s_paral);
        let in_flight = self.io_threads.max(self.io_depth);
        if (rounded.s_size_bytes, rounded.s_paral) != (self.s_size_bytes, self.s_paral) {
            Err("its numbers are out of range")
        } else if in_flight.is_some() && self.profile_on(self.cores).s_paral != self.s_paral {
            Err("its S-Paral does not follow from its parts")
        } else if self
            .fdatasync_us
            .is_some_and(|cost| !cost.is_finite() || cost < 0.0)
        {
            Err("its fdatasync cost is no time")
        } else {
            Ok(())
        }
    }

    /// The profile file in a database's folder; `None` where no [`PROFILE_FILE_NAME`] lies there.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub fn of_database(folder: &Path) -> Result<Option<Self>, ProfileError> {
        match Self::load(&folder.join(PROFILE_FILE_NAME)) {
            Ok(file) => Ok(Some(file)),
            Err(ProfileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A file of version 1.
    pub(crate) fn of_version_one(old: VersionOne) -> Self {
        ProfileFile {
            version: VERSION,
            measured_at: old.measured_at,
            method: old.method,
            s_size_bytes: old.s_size_bytes,
            s_paral: old.s_paral,
            io_threads: None,
            io_depth: None,
            cores: old.machine.cores,
            commit_batch_bytes: None,
            fdatasync_us: None,
            findings: Vec::new(),
            machine: Machine {
                id: old.machine.id,
                processor: old.machine.processor,
            },
        }
    }
}

pub(crate) fn with_checksum(body: &str) -> String {
    format!(
        "{CHECKSUM_KEY}\"{:016x}\"\n{body}",
        xxh3_64(body.as_bytes())
    )
}

/// What follows the checksum, if it fits.
fn checked_body(text: &str) -> Result<&str, &'static str> {
    let (first, body) = text.split_once('\n').ok_or("it has less than two lines")?;
    let checksum = first
        .strip_prefix(CHECKSUM_KEY)
        .ok_or("its first line is no checksum")?;
    let expected = format!("\"{:016x}\"", xxh3_64(body.as_bytes()));
    if checksum == expected {
        Ok(body)
    } else {
        Err("its checksum does not fit")
    }
}

#[cfg(test)]
#[path = "profile_file_tests.rs"]
mod tests;
