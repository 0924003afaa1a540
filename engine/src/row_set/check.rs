//! Checking a RowSet from end to end.

use std::sync::Arc;

use crate::error::{Error, Result};

use super::budget::MemoryBudget;
use super::file::DeltaFile;
use super::index::LINE_SIZE_BYTES;
use super::meta::RowSetMeta;
use super::page_cache::PageCache;
use super::patch::{PatchMeta, Replaced};
use super::reader::RowSet;
use super::rows_page::RowRef;

/// Memory for pages while checking; less than this does no harm.
const CACHE_SIZE_BYTES: u64 = 16 << 20;

/// Bytes read at once.
const READ_SIZE_BYTES: usize = 1 << 20;

/// Reads all of a RowSet from its file, past any cache, and checks what there is to check: checksums, the order of keys,
/// that the directory and the index lead to each row and the index nowhere else, and that the entry counts them right.
///
/// # Errors
/// [`Error::Corrupt`] for the first thing that is wrong, [`Error::Io`] as the system answers.
pub fn check_row_set(
    meta: &RowSetMeta,
    file: &Arc<DeltaFile>,
    hash_of: impl Fn(&[u8]) -> u64,
) -> Result<()> {
    let cache = PageCache::new(MemoryBudget::new(CACHE_SIZE_BYTES));
    let row_set = RowSet::open(meta.clone(), file.clone(), &cache)?;
    let corrupt = |reason| file.corrupt(meta.offset, reason);
    let counted = check_rows(&row_set, hash_of)?;
    if counted.rows != meta.row_count
        || counted.tombstones != meta.tombstone_count
        || counted.key_bytes != meta.key_bytes
        || counted.value_bytes != meta.value_bytes
    {
        return Err(corrupt("the RowSet's entry counts other rows"));
    }
    if counted.first_key != *meta.key_min || counted.last_key != *meta.key_max {
        return Err(corrupt("the RowSet's entry names other keys"));
    }
    let mut slots = 0;
    for number in 0..meta.index_page_count() {
        slots += row_set.with_index_page(number, |content| {
            let lines = content.as_chunks::<LINE_SIZE_BYTES>().0;
            lines.iter().map(|line| u64::from(line[60])).sum::<u64>()
        })?;
    }
    // Each row was found through it, so there are no others.
    if slots != meta.row_count {
        return Err(file.corrupt(meta.index_offset, "the index names rows that do not exist"));
    }
    Ok(())
}

/// Checks what the patch of a RowSet says of an older one: that the ordinals are those of rows, that the RowSet holds the
/// key of each, and that the entry counts them right.
///
/// # Errors
/// As [`check_row_set`]; what is wrong with the patch is named at its place in the patch's file.
pub fn check_patch(
    newer: &RowSet,
    patch: &PatchMeta,
    patch_file: &DeltaFile,
    older: &RowSet,
    hash_of: impl Fn(&[u8]) -> u64,
) -> Result<()> {
    let corrupt = |reason| patch_file.corrupt(patch.offset, reason);
    let Some(target) = patch.target(older.meta().place()) else {
        return Ok(());
    };
    let mut marks = Replaced::none_of(older.meta());
    patch.mark(patch_file, older.meta(), &mut marks)?;
    let mut live_count = 0;
    let mut cursor = older.stream(READ_SIZE_BYTES);
    for ordinal in marks.iter() {
        cursor.seek_ordinal(ordinal)?;
        let Some(row) = cursor.row() else {
            return Err(corrupt("a patch names a row that does not exist"));
        };
        live_count += u32::from(row.value.is_some());
        if newer.get(hash_of(row.key), row.key)?.is_none() {
            return Err(corrupt("a patch names a row that nothing replaces"));
        }
    }
    if live_count != target.live_count {
        return Err(corrupt("the patch's entry counts other rows"));
    }
    Ok(())
}

#[derive(Default)]
struct Counted {
    rows: u64,
    tombstones: u64,
    key_bytes: u64,
    value_bytes: u64,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
}

impl Counted {
    fn add(&mut self, row: RowRef<'_>) {
        if self.rows == 0 {
            self.first_key = row.key.to_vec();
        }
        self.rows += 1;
        self.tombstones += u64::from(row.value.is_none());
        self.key_bytes += row.key.len() as u64;
        self.value_bytes += row.value.map_or(0, <[u8]>::len) as u64;
        self.last_key.clear();
        self.last_key.extend_from_slice(row.key);
    }
}

fn check_rows(row_set: &RowSet, hash_of: impl Fn(&[u8]) -> u64) -> Result<Counted> {
    let mut counted = Counted::default();
    let mut cursor = row_set.stream(READ_SIZE_BYTES);
    cursor.seek_first()?;
    while let (Some(row), Some(ordinal)) = (cursor.row(), cursor.ordinal()) {
        if counted.rows > 0 && *row.key <= *counted.last_key {
            return Err(at_row(row_set, ordinal, "keys are out of order"));
        }
        counted.add(row);
        if !row_set.names(hash_of(row.key), ordinal)? {
            return Err(at_row(row_set, ordinal, "the index does not name a row"));
        }
        let at_edge = cursor
            .page()
            .is_some_and(|(rows, slot)| slot == 0 || slot + 1 == rows.row_count());
        let page_number = ordinal >> row_set.meta().rows_per_page_log2;
        if at_edge && row_set.find_rows_page(row.key)? != page_number {
            return Err(at_row(row_set, ordinal, "the directory leads elsewhere"));
        }
        row_set.location(ordinal)?;
        cursor.advance()?;
    }
    Ok(counted)
}

/// The error for a row: it names the row's page.
fn at_row(row_set: &RowSet, ordinal: u32, reason: &str) -> Error {
    let page_number = ordinal >> row_set.meta().rows_per_page_log2;
    match row_set.rows_page_span(page_number) {
        Ok((offset, _)) => row_set.file().corrupt(offset, reason),
        Err(error) => error,
    }
}
