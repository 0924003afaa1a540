//! Segments of the log of an older version: read, and never written to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moonshine_engine::io::{Io, OpenMode, SimulatedIo};
use moonshine_engine::{Database, Options};
use xxhash_rust::xxh3::xxh3_64;

const HEADER_SIZE_BYTES: usize = 48;

fn open(io: &SimulatedIo) -> Database {
    let options = Options {
        io: Arc::new(io.clone()),
        ..Options::unmeasured()
    };
    Database::open(Path::new("/db"), options).unwrap()
}

fn segments(io: &SimulatedIo) -> Vec<PathBuf> {
    let files = io.files().into_iter().map(|(path, _)| path);
    files
        .filter(|path| path.extension().is_some_and(|it| it == "mlog"))
        .collect()
}

fn header(io: &SimulatedIo, path: &Path) -> [u8; HEADER_SIZE_BYTES] {
    let mut header = [0; HEADER_SIZE_BYTES];
    let file = io.open(path, OpenMode::Read).unwrap();
    file.read_exact_at(&mut header, 0).unwrap();
    header
}

fn version(io: &SimulatedIo, path: &Path) -> u8 {
    header(io, path)[8]
}

/// Honest: records that an older build would misread never lie in a segment that it takes for its own.
#[test]
fn writing_goes_on_in_a_new_segment_behind_one_of_an_older_version() {
    let io = SimulatedIo::new(1);
    let pairs = open(&io).keyspace("pairs").unwrap();
    pairs.insert("a", "1").unwrap();
    drop(pairs);
    let [first] = segments(&io).try_into().unwrap();
    assert_eq!(version(&io, &first), 6);
    let mut as_version_1 = header(&io, &first);
    as_version_1[8] = 1;
    let checksum = xxh3_64(&as_version_1[..HEADER_SIZE_BYTES - 8]);
    as_version_1[HEADER_SIZE_BYTES - 8..].copy_from_slice(&checksum.to_le_bytes());
    let file = io.open(&first, OpenMode::Write).unwrap();
    file.write_all_at(&as_version_1, 0).unwrap();

    for (key, value) in [("b", "2"), ("c", "3")] {
        let pairs = open(&io).keyspace("pairs").unwrap();
        assert_eq!(pairs.get("a").unwrap().as_deref(), Some(&b"1"[..]));
        pairs.insert(key, value).unwrap();
    }
    let versions: Vec<_> = segments(&io)
        .iter()
        .map(|path| version(&io, path))
        .collect();
    assert_eq!(versions, [1, 6]);
    let pairs = open(&io).keyspace("pairs").unwrap();
    assert_eq!(pairs.iter().count(), 3);
}
