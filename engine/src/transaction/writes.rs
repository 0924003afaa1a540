//! The writes of a transaction to one table: rows in an arena, the newest of each key found by hash when one is read.

use std::sync::Arc;

use hashbrown::HashTable;

use crate::codec::key::hash_key;
use crate::codec::key::prefix_of;
use crate::codec::len_u32;
use crate::commit::refusal;
use crate::deletes::{RangeDelete, RangeDeletes};
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::key_range::KeyInterval;
use crate::log::delta::{PendingRow, PendingTable, shard_of};
use crate::queue::conditions::NewRow;
use crate::row_set::budget::{Charge, MemoryBudget};
use crate::table::Table;

/// Largest encoded row, in bytes, its key included.
const ROW_SIZE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Memory is counted in steps of at least so much.
const CHARGE_STEP_BYTES: u64 = 64 << 10;

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
    /// Ranges that were deleted, each at one more than the number of rows before it: those are gone.
    pub(super) deletes: RangeDeletes,
    pub(super) arena: Vec<u8>,
    /// In the order they were written; a later one of the same key replaces an earlier one.
    pub(super) rows: Vec<PendingRow>,
    /// The newest row of each key, by hash; built when first read.
    pub(super) index: Option<HashTable<u32>>,
    /// The same as a generation, for scans; made when first scanned.
    pub(super) overlay: Option<Arc<Generation>>,
    has_inserts: bool,
    memory: Option<Charge>,
}

impl TableWrites {
    pub(super) fn new(table: &Table) -> Self {
        TableWrites {
            table: table.clone(),
            truncate: false,
            deletes: RangeDeletes::default(),
            arena: Vec::new(),
            rows: Vec::new(),
            index: None,
            overlay: None,
            has_inserts: false,
            memory: None,
        }
    }

    /// Counts the memory that was taken meanwhile. A small transaction is not worth it.
    pub(super) fn charge_memory(&mut self, budget: &Arc<MemoryBudget>) {
        let held_bytes = self.arena.capacity() + self.rows.capacity() * size_of::<PendingRow>();
        let charged_bytes = self.memory.as_ref().map_or(0, Charge::size_bytes);
        let grown_bytes = (held_bytes as u64).saturating_sub(charged_bytes);
        if grown_bytes < CHARGE_STEP_BYTES {
            return;
        }
        match &mut self.memory {
            Some(charge) => charge.grow(grown_bytes),
            None => self.memory = Some(budget.charge(grown_bytes)),
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
        self.has_inserts |= kind == RowKind::Insert;
        self.overlay = None;
        if let Some(mut index) = self.index.take() {
            self.index_row(&mut index, self.rows.len() - 1);
            self.index = Some(index);
        }
        Ok(())
    }

    /// Deletes the rows of an interval, those written before included.
    pub(super) fn delete(&mut self, interval: KeyInterval) {
        let seq = self.rows.len() as u64 + 1;
        self.deletes = self.deletes.with(vec![RangeDelete { seq, interval }]);
        self.overlay = None;
    }

    /// Whether all rows of a key from before the transaction are deleted.
    pub(super) fn deletes(&self, key: &[u8]) -> bool {
        self.truncate || self.deletes.newest_seq(key, u64::MAX) > 0
    }

    /// Whether a row was written before its range was deleted.
    fn is_gone(&self, number: usize, key: &[u8]) -> bool {
        !self.deletes.is_empty() && self.deletes.newest_seq(key, u64::MAX) > number as u64 + 1
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
            .filter(|&&i| !self.is_gone(i as usize, key))
            .and_then(|&i| self.rows.get(i as usize))
            .copied();
        self.index = Some(index);
        found
    }

    /// Whether keys may have to be new.
    pub(super) fn has_inserts(&self) -> bool {
        self.has_inserts
    }

    /// Whether nothing was written.
    pub(super) fn is_empty(&self) -> bool {
        !self.truncate && self.deletes.is_empty() && self.rows.is_empty()
    }

    /// The rows as a delta holds them: by shard and key, the newest of each key. The second part is those whose key must
    /// not exist before.
    ///
    /// # Errors
    /// [`Error::Exists`] if one is to be inserted that the transaction itself wrote before.
    pub(super) fn sorted(&self, shard_bits: u32) -> Result<(PendingTable<'_>, Vec<NewRow>)> {
        let number_bits = usize::BITS - self.rows.len().leading_zeros();
        let row = |rank: &u64| self.rows.get((rank & !(u64::MAX << number_bits)) as usize);
        let key = |rank: &u64| row(rank).map(|row| self.key(row));
        let place =
            |rank: &u64| row(rank).map(|row| (shard_of(row.hash, shard_bits), self.key(row)));
        let mut newest: Vec<PendingRow> = Vec::with_capacity(self.rows.len());
        let mut new = Vec::new();
        let mut ranks = self.ranks(shard_bits, number_bits);
        for alike in ranks.chunk_by_mut(|a, b| a >> number_bits == b >> number_bits) {
            if alike.len() > 1 {
                // The sort is stable, so that rows of one key stay in the order they were written.
                alike.sort_by(|a, b| place(a).cmp(&place(b)));
            }
            for of_key in alike.chunk_by(|a, b| key(a) == key(b)) {
                if self.has_inserts && self.must_be_new(of_key.iter().filter_map(row))? {
                    new.push(NewRow {
                        place: len_u32(newest.len()),
                        exists: false,
                    });
                }
                newest.extend(of_key.last().and_then(row));
            }
        }
        let table = PendingTable {
            table_id: self.table.id(),
            truncate: self.truncate,
            deletes: self.deletes.intervals(0, u64::MAX),
            arena: &self.arena,
            rows: newest,
        };
        Ok((table, new))
    }

    /// A rank for each row that is left, ascending: of its shard and the first eight bytes of its key as many bits as there
    /// is room for, without those that all rows have in common, and then its number. It mostly decides without a look at
    /// the key.
    fn ranks(&self, shard_bits: u32, number_bits: u32) -> Vec<u64> {
        if self.rows.len() == 1 && self.deletes.is_empty() {
            return vec![0];
        }
        let is_left = |number: u32, row| !self.is_gone(number as usize, self.key(row));
        let left = (0..).zip(&self.rows);
        let left = left.filter(|(number, row)| self.deletes.is_empty() || is_left(*number, row));
        let places = left.map(|(number, row)| {
            let shard = u128::from(shard_of(row.hash, shard_bits));
            (shard << 64 | u128::from(prefix_of(self.key(row))), number)
        });
        let places: Vec<(u128, u32)> = places.collect();
        let bounds = places
            .iter()
            .fold((u128::MAX, 0), |(least, most), &(place, _)| {
                (place.min(least), place.max(most))
            });
        let (least, most) = bounds;
        let spread_bits = u128::BITS - most.saturating_sub(least).leading_zeros();
        let cut_bits = spread_bits.saturating_sub(u64::BITS - number_bits);
        let ranks = places.iter().map(|&(place, number)| {
            let place = ((place - least) >> cut_bits) as u64;
            place << number_bits | u64::from(number)
        });
        let mut ranks: Vec<u64> = ranks.collect();
        ranks.sort_unstable();
        ranks
    }

    /// Whether a key must not exist before the transaction, from its rows in the order they were written.
    fn must_be_new<'r>(&self, rows: impl Iterator<Item = &'r PendingRow>) -> Result<bool> {
        // Whether it exists, as far as the transaction knows.
        let mut exists = None;
        let mut must_be_new = false;
        for row in rows {
            let key = self.key(row);
            if exists.is_none() && self.deletes(key) {
                exists = Some(false);
            }
            if row.insert {
                match exists {
                    None => must_be_new = true,
                    Some(false) => {}
                    Some(true) => return Err(refusal::exists(self.table.schema(), key)),
                }
            }
            exists = Some(!row.tombstone);
        }
        Ok(must_be_new)
    }
}
