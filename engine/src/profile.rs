//! A profile as a database keeps it: the numbers, and where they came from.

use std::fmt;

use moonshine_sysprobe::{Profile, ProfileFile, ProfileSource, Report};

use crate::codec::{Malformed, Reader, put_blob, put_u32, put_u64};

/// Most bytes of each of a profile's texts.
const TEXT_SIZE_BYTES_MAX: usize = 8 * 1024;

/// Where a number came from.
///
/// ```
/// use moonshine_engine::{Database, Options, Provenance};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// assert_eq!(database.profile().provenance(), Provenance::SafeDefault);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provenance {
    /// Measured on a device.
    Measured,
    /// Set by the caller.
    Given,
    /// Chosen to suit any device, and this machine's number of cores.
    SafeDefault,
    /// The database is of a format that did not keep it: the shards are those it has, the rest are safe defaults.
    Unrecorded,
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Provenance::Measured => "measured",
            Provenance::Given => "given",
            Provenance::SafeDefault => "safe default",
            Provenance::Unrecorded => "not recorded",
        })
    }
}

/// The numbers that a database was created with, and where they came from; what its MANIFEST keeps.
///
/// ```
/// use moonshine_engine::StoredProfile;
/// use moonshine_sysprobe::Profile;
///
/// let profile = StoredProfile::from(Profile::given(65_536, 6));
/// assert_eq!((profile.s_size_bytes(), profile.s_paral()), (65_536, 8));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredProfile {
    s_size_bytes: u64,
    s_paral: u32,
    commit_batch_bytes: Option<u64>,
    provenance: Provenance,
    measured_at: Option<String>,
    method: String,
    machine: Option<String>,
}

impl StoredProfile {
    /// Safe defaults, and why they are taken.
    pub fn safe_defaults(reason: &str) -> Self {
        let mut profile = StoredProfile::from(Profile::safe_defaults());
        profile.method = bounded(&format!("safe defaults: {reason}"));
        profile
    }

    /// What is known of a database whose format kept the number of its shards alone.
    pub(crate) fn unrecorded(shard_bits: u32) -> Self {
        StoredProfile {
            s_paral: 1 << shard_bits,
            provenance: Provenance::Unrecorded,
            method: "format 1 kept the number of shards alone; the rest are safe defaults".into(),
            ..StoredProfile::from(Profile::safe_defaults())
        }
    }

    /// The same, with a commit batch that the caller knows.
    #[must_use]
    pub fn with_commit_batch_bytes(self, bytes: u64) -> Self {
        StoredProfile {
            commit_batch_bytes: Some(bytes).filter(|bytes| *bytes > 0),
            ..self
        }
    }

    /// S-Size: the smallest I/O that reaches the device's greatest bandwidth, in bytes.
    pub fn s_size_bytes(&self) -> u64 {
        self.s_size_bytes
    }

    /// S-Paral: the fewest partitions that reach greatest bandwidth and full CPU; a power of two.
    pub fn s_paral(&self) -> u32 {
        self.s_paral
    }

    /// The greatest write whose commit takes at most twice as long as the smallest one, in bytes; `None` where it was
    /// not measured.
    pub fn commit_batch_bytes(&self) -> Option<u64> {
        self.commit_batch_bytes
    }

    /// Where the numbers came from.
    pub fn provenance(&self) -> Provenance {
        self.provenance
    }

    /// When they were measured, RFC 3339, UTC.
    pub fn measured_at(&self) -> Option<&str> {
        self.measured_at.as_deref()
    }

    /// How they were measured and what limits them, or why they were not, in words.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The machine that was measured, in words.
    pub fn machine(&self) -> Option<&str> {
        self.machine.as_deref()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.s_size_bytes);
        put_u32(out, self.s_paral);
        put_u32(
            out,
            match self.provenance {
                Provenance::SafeDefault => 1,
                Provenance::Given => 2,
                Provenance::Measured => 3,
                Provenance::Unrecorded => 4,
            },
        );
        put_u64(out, self.commit_batch_bytes.unwrap_or(0));
        for text in [
            self.measured_at.as_deref(),
            Some(self.method.as_str()),
            self.machine.as_deref(),
        ] {
            put_blob(out, text.unwrap_or_default().as_bytes());
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (s_size_bytes, s_paral) = (reader.u64()?, reader.u32()?);
        let rounded = Profile::given(s_size_bytes, s_paral);
        if (rounded.s_size_bytes, rounded.s_paral) != (s_size_bytes, s_paral) {
            return Err(Malformed("a profile whose numbers are out of range"));
        }
        let provenance = match reader.u32()? {
            1 => Provenance::SafeDefault,
            2 => Provenance::Given,
            3 => Provenance::Measured,
            4 => Provenance::Unrecorded,
            _ => return Err(Malformed("a profile from an unknown source")),
        };
        let commit_batch_bytes = Some(reader.u64()?).filter(|bytes| *bytes > 0);
        let present = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Ok(StoredProfile {
            s_size_bytes,
            s_paral,
            commit_batch_bytes,
            provenance,
            measured_at: present(reader.text()?),
            method: reader.text()?.to_owned(),
            machine: present(reader.text()?),
        })
    }
}

impl From<Profile> for StoredProfile {
    fn from(profile: Profile) -> Self {
        let rounded = Profile::given(profile.s_size_bytes, profile.s_paral);
        let (provenance, method) = match profile.source {
            ProfileSource::SafeDefaults => (Provenance::SafeDefault, "safe defaults"),
            ProfileSource::Given => (Provenance::Given, "given by the caller"),
            ProfileSource::Measured => (Provenance::Measured, "measured"),
        };
        StoredProfile {
            s_size_bytes: rounded.s_size_bytes,
            s_paral: rounded.s_paral,
            commit_batch_bytes: None,
            provenance,
            measured_at: None,
            method: method.into(),
            machine: None,
        }
    }
}

impl From<&ProfileFile> for StoredProfile {
    fn from(file: &ProfileFile) -> Self {
        let mut method = file.method.clone();
        for finding in &file.findings {
            method.push_str("; note: ");
            method.push_str(finding);
        }
        StoredProfile {
            commit_batch_bytes: file.commit_batch_bytes,
            measured_at: Some(bounded(&file.measured_at)),
            method: bounded(&method),
            machine: Some(bounded(&file.machine.to_string())),
            ..file.profile().into()
        }
    }
}

impl From<&Report> for StoredProfile {
    fn from(report: &Report) -> Self {
        StoredProfile::from(&report.profile_file())
    }
}

/// The start of a text, so that no file, however long its words, makes a MANIFEST that is too long.
fn bounded(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_SIZE_BYTES_MAX);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_cut_and_come_back() {
        let profile = StoredProfile::safe_defaults(&"ä".repeat(100_000));
        let mut bytes = Vec::new();
        profile.encode(&mut bytes);
        assert!(bytes.len() < 2 * TEXT_SIZE_BYTES_MAX, "{}", bytes.len());
        assert_eq!(StoredProfile::decode(&mut Reader::new(&bytes)), Ok(profile));
    }
}
