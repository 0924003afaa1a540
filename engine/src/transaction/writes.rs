//! The writes of a transaction to one table: rows in an arena, the newest of each key found by hash when one is read.

use std::sync::Arc;

use hashbrown::HashTable;

use super::conditions::NewRow;
use crate::cache::table::hash_key;
use crate::codec::len_u32;
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::log::delta::{PendingRow, PendingTable, shard_of};
use crate::shared::Table;

/// Largest encoded row, in bytes, its key included.
const ROW_SIZE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What is done to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowKind {
    Upsert,
    /// As an upsert, but the commit fails if the key exists.
    Insert,
    Delete,
}

/// The writes of a transaction to one table.
#[derive(Debug)]
pub(super) struct TableWrites {
    pub(super) table: Table,
    pub(super) truncate: bool,
    pub(super) arena: Vec<u8>,
    /// In the order they were written; a later one of the same key replaces an earlier one.
    pub(super) rows: Vec<PendingRow>,
    /// The newest row of each key, by hash; built when first read.
    pub(super) index: Option<HashTable<u32>>,
    /// The same as a generation, for scans; made when first scanned.
    pub(super) overlay: Option<Arc<Generation>>,
}

impl TableWrites {
    pub(super) fn new(table: &Table) -> Self {
        TableWrites {
            table: table.clone(),
            truncate: false,
            arena: Vec::new(),
            rows: Vec::new(),
            index: None,
            overlay: None,
        }
    }

    fn key(&self, row: &PendingRow) -> &[u8] {
        self.arena
            .get(row.key_start..row.key_end)
            .unwrap_or_default()
    }

    /// Takes what was appended to the arena since `key_start` as a row.
    pub(super) fn push(&mut self, key_start: usize, key_end: usize, kind: RowKind) -> Result<()> {
        let value_end = self.arena.len();
        if value_end - key_start > ROW_SIZE_BYTES_MAX {
            self.arena.truncate(key_start);
            return Err(Error::Row(format!(
                "table '{}': a row of {} bytes, at most {ROW_SIZE_BYTES_MAX} are supported",
                self.table.name(),
                value_end - key_start
            )));
        }
        let hash = hash_key(self.arena.get(key_start..key_end).unwrap_or_default());
        self.rows.push(PendingRow {
            hash,
            key_start,
            key_end,
            value_end,
            tombstone: kind == RowKind::Delete,
            insert: kind == RowKind::Insert,
        });
        self.overlay = None;
        if let Some(mut index) = self.index.take() {
            self.index_row(&mut index, self.rows.len() - 1);
            self.index = Some(index);
        }
        Ok(())
    }

    fn index_row(&self, index: &mut HashTable<u32>, i: usize) {
        let Some(row) = self.rows.get(i) else { return };
        let same = |&other: &u32| {
            self.rows
                .get(other as usize)
                .is_some_and(|other| other.hash == row.hash && self.key(other) == self.key(row))
        };
        let number = len_u32(i);
        match index.find_mut(row.hash, same) {
            Some(found) => *found = number,
            None => {
                let hash_of =
                    |&other: &u32| self.rows.get(other as usize).map_or(0, |row| row.hash);
                index.insert_unique(row.hash, number, hash_of);
            }
        }
    }

    pub(super) fn find(&mut self, key: &[u8]) -> Option<PendingRow> {
        let index = match self.index.take() {
            Some(index) => index,
            None => {
                let mut index = HashTable::with_capacity(self.rows.len());
                (0..self.rows.len()).for_each(|i| self.index_row(&mut index, i));
                index
            }
        };
        let same = |&i: &u32| {
            self.rows
                .get(i as usize)
                .is_some_and(|row| self.key(row) == key)
        };
        let found = index
            .find(hash_key(key), same)
            .and_then(|&i| self.rows.get(i as usize))
            .copied();
        self.index = Some(index);
        found
    }

    /// The rows as a delta holds them: by shard and key, the newest of each key. The second part is those whose
    /// key must not exist before.
    ///
    /// # Errors
    /// [`Error::Exists`] if one is to be inserted that the transaction itself wrote before.
    pub(super) fn sorted(&self, shard_bits: u32) -> Result<(PendingTable<'_>, Vec<NewRow>)> {
        let mut rows = self.rows.clone();
        // The sort is stable, so that rows of one key stay in the order they were written.
        rows.sort_by(|a, b| {
            let by_shard = shard_of(a.hash, shard_bits).cmp(&shard_of(b.hash, shard_bits));
            by_shard.then_with(|| self.key(a).cmp(self.key(b)))
        });
        let mut newest: Vec<PendingRow> = Vec::with_capacity(rows.len());
        let mut new = Vec::new();
        // Whether the key at hand exists, as far as this transaction knows.
        let mut exists = None;
        for row in rows {
            let is_same = newest
                .last()
                .is_some_and(|last| self.key(last) == self.key(&row));
            if !is_same {
                exists = self.truncate.then_some(false);
            }
            if row.insert {
                match exists {
                    None => new.push(NewRow {
                        place: len_u32(newest.len()),
                        exists: false,
                    }),
                    Some(false) => {}
                    Some(true) => return Err(Error::exists(self.table.schema(), self.key(&row))),
                }
            }
            exists = Some(!row.tombstone);
            match newest.last_mut() {
                Some(last) if is_same => *last = row,
                _ => newest.push(row),
            }
        }
        let table = PendingTable {
            table_id: self.table.id(),
            truncate: self.truncate,
            arena: &self.arena,
            rows: newest,
        };
        Ok((table, new))
    }
}
