//! Profile files as earlier releases wrote them.

use serde::Deserialize;

use crate::profile_file::ProfileFile;

/// Version 1: the two numbers, and a machine whose cores were part of what it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VersionOne {
    #[serde(rename = "version")]
    _version: u32,
    pub(crate) measured_at: String,
    pub(crate) method: String,
    pub(crate) s_size_bytes: u64,
    pub(crate) s_paral: u32,
    pub(crate) machine: MachineOne,
}

/// The machine of version 1.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MachineOne {
    pub(crate) id: String,
    pub(crate) cores: usize,
    pub(crate) processor: String,
}

impl From<VersionOne> for ProfileFile {
    fn from(old: VersionOne) -> Self {
        ProfileFile::of_version_one(old)
    }
}
