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
use crate::profile::{Profile, ProfileSource};

/// The file's name in a database's folder.
pub const PROFILE_FILE_NAME: &str = "PROFILE.toml";
/// Version of the file that is written, and the newest that is read.
const VERSION: u32 = 1;
const CHECKSUM_KEY: &str = "checksum = ";

/// A measured profile and where it is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    version: u32,
    /// When it was measured, RFC 3339, UTC.
    pub measured_at: String,
    /// How it was measured, in words.
    pub method: String,
    /// S-Size in bytes.
    pub s_size_bytes: u64,
    /// S-Paral.
    pub s_paral: u32,
    /// Where it was measured.
    pub machine: Machine,
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl ProfileFile {
    /// A file for a profile of this machine.
    pub fn new(profile: &Profile, measured_at: String, method: String) -> Self {
        ProfileFile {
            version: VERSION,
            measured_at,
            method,
            s_size_bytes: profile.s_size_bytes,
            s_paral: profile.s_paral,
            machine: Machine::this(),
        }
    }

    /// The profile.
    pub fn profile(&self) -> Profile {
        Profile {
            s_size_bytes: self.s_size_bytes,
            s_paral: self.s_paral,
            source: ProfileSource::Measured,
        }
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
            write!(
                file,
                "{CHECKSUM_KEY}\"{:016x}\"\n{body}",
                xxh3_64(body.as_bytes())
            )?;
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
        let damaged = |reason: String| ProfileError::Damaged {
            path: path.to_owned(),
            reason,
        };
        let body = checked_body(&text).map_err(|reason| damaged(reason.into()))?;
        let in_short = |error: toml::de::Error| damaged(error.message().to_owned());
        let Versioned { version } = toml::from_str(body).map_err(in_short)?;
        if version > VERSION {
            return Err(ProfileError::Newer {
                path: path.to_owned(),
                version,
                supported: VERSION,
            });
        }
        let file: ProfileFile = toml::from_str(body).map_err(in_short)?;
        let rounded = Profile::given(file.s_size_bytes, file.s_paral);
        if (rounded.s_size_bytes, rounded.s_paral) != (file.s_size_bytes, file.s_paral) {
            return Err(damaged("its numbers are out of range".into()));
        }
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

    /// The profile in a database's folder; `None` where no [`PROFILE_FILE_NAME`] lies there.
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
mod tests {
    use super::*;

    fn saved(change: impl FnOnce(&mut ProfileFile)) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(PROFILE_FILE_NAME);
        let profile = Profile::measured(65_536, 3, 1);
        let mut file = ProfileFile::new(&profile, "2026-01-02T03:04:05Z".into(), "quick".into());
        change(&mut file);
        file.save(&path).unwrap();
        (folder, path)
    }

    #[test]
    fn a_profile_comes_back() {
        let (folder, _) = saved(|_| ());
        let file = ProfileFile::of_database(folder.path()).unwrap().unwrap();
        assert_eq!(file.profile(), Profile::measured(65_536, 4, 1));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(
            ProfileFile::of_database(&folder.path().join("none"))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn every_changed_byte_is_refused() {
        let (_folder, path) = saved(|_| ());
        let whole = std::fs::read(&path).unwrap();
        for position in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[position] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let loaded = ProfileFile::load(&path);
            assert!(
                matches!(loaded, Err(ProfileError::Damaged { .. })),
                "byte {position}: {loaded:?}"
            );
            std::fs::write(&path, &whole[..position]).unwrap();
            let loaded = ProfileFile::load(&path);
            assert!(
                matches!(loaded, Err(ProfileError::Damaged { .. })),
                "cut at {position}: {loaded:?}"
            );
        }
    }

    #[test]
    fn a_foreign_or_newer_file_is_refused() {
        let (_folder, path) = saved(|file| file.machine.id = "another".into());
        let loaded = ProfileFile::load(&path);
        assert!(
            matches!(loaded, Err(ProfileError::Foreign { .. })),
            "{loaded:?}"
        );
        let (_folder, path) = saved(|file| file.version = VERSION + 1);
        let loaded = ProfileFile::load(&path);
        assert!(
            matches!(loaded, Err(ProfileError::Newer { version: 2, .. })),
            "{loaded:?}"
        );
        let (_folder, path) = saved(|file| file.s_paral = 3);
        let loaded = ProfileFile::load(&path);
        assert!(
            matches!(loaded, Err(ProfileError::Damaged { .. })),
            "{loaded:?}"
        );
    }
}
