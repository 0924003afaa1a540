//! What `fuzz/` runs: any text as a profile file.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a property that does not hold is told by a panic, as in tests"
)]

use std::path::Path;

use crate::profile_file::{ProfileFile, with_checksum};

/// What is read with its checksum right is written to what reads the same, and no longer once a letter is another.
pub fn profile_file(bytes: &[u8]) {
    let Ok(body) = std::str::from_utf8(bytes) else {
        return;
    };
    let path = Path::new("PROFILE.toml");
    let _ = ProfileFile::parse(path, body);
    let sealed = with_checksum(body);
    let Ok(file) = ProfileFile::parse(path, &sealed) else {
        return;
    };
    assert!(file.s_paral.is_power_of_two() && file.profile().s_paral.is_power_of_two());
    let written = with_checksum(&toml::to_string(&file).unwrap());
    assert_eq!(ProfileFile::parse(path, &written).unwrap(), file);
    let changed = written.replacen('1', "2", 1);
    assert!(changed == written || ProfileFile::parse(path, &changed).is_err());
}

/// Files of both versions.
pub fn profile_file_seeds() -> Vec<Vec<u8>> {
    let second = "version = 2\nmeasured_at = \"2024-02-29T12:00:00Z\"\nmethod = \"pread\"\ns_size_bytes = 65536\ns_paral = 8\nio_threads = 5\nio_depth = 8\ncores = 4\ncommit_batch_bytes = 262144\nfdatasync_us = 81.5\nfindings = [\"a note\"]\n\n[machine]\nid = \"4711\"\nprocessor = \"x\"\n";
    let least = "version = 2\nmeasured_at = \"\"\nmethod = \"\"\ns_size_bytes = 4096\ns_paral = 4\ncores = 4\n[machine]\nid = \"\"\nprocessor = \"\"\n";
    let first = "version = 1\nmeasured_at = \"2024-02-29T12:00:00Z\"\nmethod = \"pread\"\ns_size_bytes = 65536\ns_paral = 8\n[machine]\nid = \"4711\"\nprocessor = \"x\"\ncores = 4\n";
    [second, least, first]
        .map(|text| text.as_bytes().to_vec())
        .into()
}
