//! Whether the conditions of a transaction hold.
//!
//! Backward validation (Kung and Robinson, 1981): what a transaction read and wrote must not have been written since its
//! snapshot by one that comes before it in commit order. It is done in two parts. The thread that commits looks at all
//! that is visible, and holds that sequence; this may read pages. Whoever writes the block of the log, and so decides the
//! order, looks at what came since: the newest versions in the DeltaCache, and the records before it in the block.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::refusal;
use crate::codec::Malformed;
use crate::error::{Error, Result};
use crate::key_range::{KeyInterval, is_in, united};
use crate::log::delta::{Delta, TablePart, decode_delta};
use crate::log::format::RecordKind;
use crate::queue::commit_queue::Queued;
use crate::queue::conditions::{Conditions, Wanted};
use crate::read::lookup::Lookup;
use crate::read::merge::not_stored;
use crate::read::since::{Since, Written};
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::tree::table::TableState;

/// Looks at everything that is visible; what remains is to be looked at when the record is written.
///
/// # Errors
/// [`Error::Conflict`] and [`Error::Exists`]; what reading may end in.
pub(crate) fn check_visible(
    shared: &Arc<Shared>,
    body: &[u8],
    mut wanted: Wanted,
) -> Result<Conditions> {
    let checked = Snapshot::new(shared.clone());
    let delta = decode_delta(body).map_err(not_stored)?;
    for (part, new) in delta.tables.iter().zip(&mut wanted.new) {
        let table = table_of(shared, part)?;
        for one in new {
            let row = part.row(one.place as usize).map_err(not_stored)?;
            one.exists = Lookup::at(shared, &table, Some(checked.seq()), |lookup| {
                lookup.get(row.hash, row.key).map(|found| found.is_some())
            })?;
            // Else a transaction that waits to be written may delete it.
            if one.exists && shared.queue.last_seq() == checked.seq() {
                return Err(refusal::exists(&table.schema(), row.key));
            }
        }
    }
    if let Some(since) = wanted.since {
        check_unchanged(shared, &delta, &wanted, since, &BlockWrites::default())?;
    }
    Ok(Conditions::new(wanted, checked))
}

/// Leaves of the records that must not be written nothing but their commit sequence, and tells who waits for them. For
/// whoever writes the block: all before it is in the DeltaCache.
pub(crate) fn refuse_conflicting(shared: &Shared, records: &mut [Queued]) {
    if records.iter().all(|record| record.conditions.is_none()) {
        return;
    }
    let watched = Watched::of(records);
    let mut block = BlockWrites::default();
    for record in records {
        if record.header.kind != RecordKind::Delta {
            continue;
        }
        let body = record.body.clone();
        let checked = decode_delta(&body).map_err(not_stored).and_then(|delta| {
            if let Some(conditions) = &record.conditions {
                check_since(shared, &delta, conditions, &block)?;
            }
            block.add(&delta, &watched).map_err(not_stored)
        });
        if let Err(error) = checked {
            record.refuse(shared.database_id, error);
        }
    }
}

/// Looks at what came after what the committing thread looked at.
fn check_since(
    shared: &Shared,
    delta: &Delta<'_>,
    conditions: &Conditions,
    block: &BlockWrites,
) -> Result<()> {
    let Some(after_seq) = conditions.checked_seq() else {
        return Err(Error::Usage("a transaction is written twice".into()));
    };
    let wanted = &conditions.wanted;
    for (part, new) in delta.tables.iter().zip(&wanted.new) {
        let table = table_of(shared, part)?;
        let changed = Changed::new(shared, &table, after_seq, block);
        for one in new {
            let row = part.row(one.place as usize).map_err(not_stored)?;
            let written = changed.key(row.hash, row.key)?;
            if written.map_or(one.exists, |written| written == Written::Row) {
                return Err(refusal::exists(&table.schema(), row.key));
            }
        }
    }
    if wanted.since.is_some() {
        check_unchanged(shared, delta, wanted, after_seq, block)?;
    }
    Ok(())
}

fn table_of(shared: &Shared, part: &TablePart<'_>) -> Result<Arc<TableState>> {
    let table = shared.table_state(part.table_id);
    table.ok_or_else(|| not_stored(Malformed("a delta of an unknown table")))
}

/// Checks that nobody wrote what a transaction wrote and read.
fn check_unchanged(
    shared: &Shared,
    delta: &Delta<'_>,
    wanted: &Wanted,
    after_seq: u64,
    block: &BlockWrites,
) -> Result<()> {
    for part in &delta.tables {
        let table = table_of(shared, part)?;
        let changed = Changed::new(shared, &table, after_seq, block);
        if part.truncate {
            changed.check_intervals(&table, &[KeyInterval::ALL])?;
        }
        changed.check_intervals(&table, &part.deletes)?;
        for row in part.rows() {
            let row = row.map_err(not_stored)?;
            changed.check_key(&table, row.hash, row.key)?;
        }
    }
    for reads in &wanted.reads {
        let changed = Changed::new(shared, &reads.table, after_seq, block);
        for (hash, key) in &reads.keys {
            changed.check_key(&reads.table, *hash, key)?;
        }
        changed.check_intervals(&reads.table, &reads.intervals)?;
    }
    Ok(())
}

/// What was written to a table after a sequence, and before a record in its block.
struct Changed<'b> {
    since: Since,
    block: Option<&'b TableBlock>,
}

impl<'b> Changed<'b> {
    fn new(shared: &Shared, table: &TableState, after_seq: u64, block: &'b BlockWrites) -> Self {
        Changed {
            since: Since::new(shared, table, after_seq),
            block: block.tables.get(&table.id),
        }
    }

    fn key(&self, hash: u64, key: &[u8]) -> Result<Option<Written>> {
        let in_block = self.block.and_then(|block| {
            let row = block.rows.get(key).copied();
            row.or_else(|| is_in(&block.deleted, key).then_some(Written::Gone))
        });
        match in_block {
            Some(written) => Ok(Some(written)),
            None => self.since.key(hash, key),
        }
    }

    fn check_key(&self, table: &TableState, hash: u64, key: &[u8]) -> Result<()> {
        match self.key(hash, key)? {
            None => Ok(()),
            Some(_) => Err(refusal::conflict(&table.schema(), key)),
        }
    }

    fn check_intervals(&self, table: &TableState, intervals: &[KeyInterval]) -> Result<()> {
        let in_block = self.block.and_then(|block| block.key_in(intervals));
        let key = match in_block {
            Some(key) => Some(key.to_vec()),
            None => self.since.key_in(intervals)?,
        };
        key.map_or(Ok(()), |key| Err(refusal::conflict(&table.schema(), &key)))
    }
}

/// What the records of a block wrote so far, as far as somebody in the block asks for it.
#[derive(Debug, Default)]
struct BlockWrites {
    tables: HashMap<u32, TableBlock>,
}

#[derive(Debug, Default)]
struct TableBlock {
    rows: BTreeMap<Box<[u8]>, Written>,
    /// Ascending and disjoint.
    deleted: Vec<KeyInterval>,
}

impl BlockWrites {
    fn add(&mut self, delta: &Delta<'_>, watched: &Watched) -> std::result::Result<(), Malformed> {
        for part in &delta.tables {
            let Some(watched) = watched.tables.get(&part.table_id) else {
                continue;
            };
            let block = self.tables.entry(part.table_id).or_default();
            if part.truncate {
                block.rows.clear();
                block.deleted = vec![KeyInterval::ALL];
            }
            if !part.deletes.is_empty() {
                block.rows.retain(|key, _| !is_in(&part.deletes, key));
                block.deleted = united([&block.deleted[..], &part.deletes].concat());
            }
            for row in part.rows() {
                let row = row?;
                let written = match row.value_size_bytes {
                    Some(_) => Written::Row,
                    None => Written::Gone,
                };
                if watched.wants(row.hash, row.key) {
                    block.rows.insert(row.key.into(), written);
                }
            }
        }
        Ok(())
    }
}

impl TableBlock {
    fn key_in(&self, intervals: &[KeyInterval]) -> Option<&[u8]> {
        let overlaps = |deleted: &KeyInterval| intervals.iter().any(|one| one.overlaps(deleted));
        if self.deleted.iter().any(overlaps) {
            return Some(&[]);
        }
        let mut keys = self.rows.keys();
        keys.find(|key| is_in(intervals, key)).map(AsRef::as_ref)
    }
}

/// What the conditions of a block's records are about.
#[derive(Debug, Default)]
struct Watched {
    tables: HashMap<u32, WatchedTable>,
}

#[derive(Debug, Default)]
struct WatchedTable {
    hashes: HashSet<u64>,
    intervals: Vec<KeyInterval>,
}

impl Watched {
    fn of(records: &[Queued]) -> Self {
        let mut watched = Watched::default();
        for record in records {
            let Some(conditions) = &record.conditions else {
                continue;
            };
            for reads in &conditions.wanted.reads {
                let table = watched.tables.entry(reads.table.id).or_default();
                table.hashes.extend(reads.keys.iter().map(|(hash, _)| hash));
                table.intervals.extend_from_slice(&reads.intervals);
            }
            // What does not decode is refused when its turn comes.
            let Ok(delta) = decode_delta(&record.body) else {
                continue;
            };
            for part in &delta.tables {
                let table = watched.tables.entry(part.table_id).or_default();
                let rows = part.rows().filter_map(std::result::Result::ok);
                table.hashes.extend(rows.map(|row| row.hash));
                if part.truncate {
                    table.intervals.push(KeyInterval::ALL);
                }
                table.intervals.extend_from_slice(&part.deletes);
            }
        }
        watched
    }
}

impl WatchedTable {
    fn wants(&self, hash: u64, key: &[u8]) -> bool {
        self.hashes.contains(&hash) || self.intervals.iter().any(|one| one.contains(key))
    }
}
