//! A delta file, from its writer to its readers, and with damage in between.

use std::path::Path;
use std::sync::Arc;

use super::input::{Input, damaged};
use super::{DATABASE, noise};
use crate::codec::key::hash_key;
use crate::error::{Error, Result};
use crate::io::{Io, OpenMode, SimulatedIo};
use crate::row_set::budget::MemoryBudget;
use crate::row_set::check::check_row_set;
use crate::row_set::file::DeltaFile;
use crate::row_set::location::Location;
use crate::row_set::meta::{RowSetHead, RowSetMeta};
use crate::row_set::page::Compression;
use crate::row_set::page_cache::PageCache;
use crate::row_set::reader::RowSet;
use crate::row_set::rows_page::RowRef;
use crate::row_set::writer::{DeltaFileOptions, DeltaFileWriter};

pub(super) fn seeds() -> Vec<Vec<u8>> {
    noise(24, 128)
}

#[derive(Clone, Debug, PartialEq)]
struct WrittenRow {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    location: Option<Location>,
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let rows = rows(&mut input);
    let io = SimulatedIo::new(1);
    let path = Path::new("/delta");
    let meta = write(&io, path, &rows, &mut input).unwrap();
    let Some(meta) = meta else {
        assert!(rows.is_empty());
        return;
    };
    assert_eq!(read(&io, path, &meta).unwrap(), rows);
    check(&io, path, &meta).unwrap();
    // Any change of any byte is named, or concerns nothing that is read.
    let file = io.open(path, OpenMode::Write).unwrap();
    let mut stored = vec![0; file.len_bytes().unwrap() as usize];
    file.read_exact_at(&mut stored, 0).unwrap();
    let changed = damaged(&stored, &mut input);
    file.set_len(0).unwrap();
    file.write_all_at(&changed, 0).unwrap();
    match read(&io, path, &meta) {
        Ok(found) => assert_eq!(found, rows),
        Err(Error::Corrupt { .. }) => {}
        Err(error) => panic!("{error:?}"),
    }
    let part = meta.offset as usize..(meta.offset + meta.size_bytes) as usize;
    if changed.get(part.clone()) != stored.get(part) {
        assert!(matches!(
            check(&io, path, &meta),
            Err(Error::Corrupt { .. })
        ));
    }
}

/// Up to 255 rows, of keys that ascend.
fn rows(input: &mut Input<'_>) -> Vec<WrittenRow> {
    let mut rows = std::collections::BTreeMap::new();
    let (count, has_locations) = (input.u8(), input.bool());
    // Many rows of few choices, and few of many.
    let is_regular = input.bool();
    for n in 0..count {
        let key = match is_regular {
            true => vec![7, n, 1],
            false => input.bytes(9).to_vec(),
        };
        let value = match input.below(5) {
            0 => None,
            1 => Some(input.bytes(40).to_vec()),
            size => Some(vec![n; size * 9]),
        };
        let location = (has_locations && input.bool()).then(|| Location {
            file: n.into(),
            position: n.into(),
        });
        rows.insert(key, (value, location));
        if !is_regular && input.is_empty() {
            break;
        }
    }
    let written = |(key, (value, location))| WrittenRow {
        key,
        value,
        location,
    };
    rows.into_iter().map(written).collect()
}

fn write(
    io: &SimulatedIo,
    path: &Path,
    rows: &[WrittenRow],
    input: &mut Input<'_>,
) -> Result<Option<RowSetMeta>> {
    let options = DeltaFileOptions {
        compression: [
            Compression::None,
            Compression::Lz4,
            Compression::Zstd { level: 1 },
        ][input.below(3)],
        ..DeltaFileOptions::default()
    };
    let mut writer = DeltaFileWriter::create(Arc::new(io.clone()), path, DATABASE, 1, options)?;
    writer.begin(RowSetHead::default())?;
    for row in rows {
        let key = row.key.as_slice();
        let value = row.value.as_deref();
        writer.push(RowRef { key, value }, hash_key(key), row.location)?;
    }
    let meta = writer.finish_row_set()?;
    writer.finish()?;
    Ok(meta)
}

fn open(io: &SimulatedIo, path: &Path) -> Result<Arc<DeltaFile>> {
    DeltaFile::open(io, path, DATABASE, 1)
}

/// All rows by the cursor, each once more by its key, and those that are not there.
fn read(io: &SimulatedIo, path: &Path, meta: &RowSetMeta) -> Result<Vec<WrittenRow>> {
    let cache = PageCache::new(MemoryBudget::new(1 << 20));
    let row_set = RowSet::open(meta.clone(), open(io, path)?, &cache)?;
    let mut cursor = row_set.cursor();
    cursor.seek_first()?;
    let mut rows = Vec::new();
    while let (Some(row), Some(ordinal)) = (cursor.row(), cursor.ordinal()) {
        let written = WrittenRow {
            key: row.key.to_vec(),
            value: row.value.map(<[u8]>::to_vec),
            location: row_set.location(ordinal)?,
        };
        let found = row_set.get(hash_key(row.key), row.key)?;
        let found = found.map(|found| (found.ordinal(), found.value().map(<[u8]>::to_vec)));
        assert_eq!(found, Some((ordinal, written.value.clone())), "{written:?}");
        let absent = [row.key, &[1]].concat();
        let is_absent = row_set.get(hash_key(&absent), &absent)?.is_none();
        let mut seeking = row_set.cursor();
        seeking.seek(&absent)?;
        let next = seeking.row().map(|row| row.key.to_vec());
        assert!(next.as_ref().is_none_or(|next| *next >= absent));
        assert_eq!(is_absent, next != Some(absent));
        rows.push(written);
        cursor.advance()?;
    }
    cursor.seek_last()?;
    let mut left = rows.iter().rev();
    while let Some(row) = cursor.row() {
        assert_eq!(left.next().map(|row| row.key.as_slice()), Some(row.key));
        cursor.retreat()?;
    }
    Ok(rows)
}

fn check(io: &SimulatedIo, path: &Path, meta: &RowSetMeta) -> Result<()> {
    check_row_set(meta, &open(io, path)?, hash_key)
}
