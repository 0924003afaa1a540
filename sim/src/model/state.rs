//! All tables at one commit sequence, and what a transaction makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::rows::{KeyBytes, StoredRow};
use super::tables::TABLE_COUNT;

/// The rows of one table by their key.
pub type TableRows = BTreeMap<KeyBytes, StoredRow>;

/// All tables. A clone costs nothing until it is changed.
#[derive(Clone, Debug, Default)]
pub struct State {
    tables: [Arc<TableRows>; TABLE_COUNT],
    /// The position of each source.
    pub origins: Arc<BTreeMap<String, String>>,
}

/// A range of keys.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyRange {
    /// The bytes that the least key begins with, or comes after.
    pub from: Bound<KeyBytes>,
    /// The bytes that the greatest key begins with, or comes before.
    pub to: Bound<KeyBytes>,
}

impl KeyRange {
    /// Every key.
    pub const ALL: KeyRange = KeyRange {
        from: Bound::Unbounded,
        to: Bound::Unbounded,
    };

    /// Whether no key can lie in it.
    pub fn is_empty(&self) -> bool {
        match (&self.from, &self.to) {
            (Bound::Included(start), Bound::Excluded(end)) => start >= end,
            (Bound::Excluded(start), Bound::Included(end)) => end.starts_with(start),
            // The least key, an empty one.
            (Bound::Unbounded, Bound::Excluded(end)) => end[..] == [0],
            _ => false,
        }
    }

    /// Whether a key lies in it. Keys that begin with a bound lie in it if the bound does.
    pub fn contains(&self, key: &[u8]) -> bool {
        let is_behind_start = match &self.from {
            Bound::Unbounded => true,
            Bound::Included(start) => key >= &start[..],
            Bound::Excluded(start) => key > &start[..] && !key.starts_with(start),
        };
        let is_before_end = match &self.to {
            Bound::Unbounded => true,
            Bound::Included(end) => key <= &end[..] || key.starts_with(end),
            Bound::Excluded(end) => key < &end[..],
        };
        is_behind_start && is_before_end
    }
}

/// One write of a transaction.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A row is there.
    Put {
        /// The table.
        table: usize,
        /// Its key.
        key: KeyBytes,
        /// The row.
        row: StoredRow,
        /// Whether the transaction is refused if it was there before.
        must_be_new: bool,
    },
    /// A row is gone.
    Remove {
        /// The table.
        table: usize,
        /// Its key.
        key: KeyBytes,
    },
    /// All rows of a range are gone.
    RemoveRange {
        /// The table.
        table: usize,
        /// Which rows.
        range: KeyRange,
    },
}

impl Effect {
    /// Whether it is about a key, whether that exists or not.
    pub fn touches(&self, table: usize, key: &[u8]) -> bool {
        match self {
            Effect::Put {
                table: t, key: k, ..
            }
            | Effect::Remove { table: t, key: k } => *t == table && k == key,
            Effect::RemoveRange { table: t, range } => *t == table && range.contains(key),
        }
    }

    /// Whether it is about no key at all.
    pub fn is_empty(&self) -> bool {
        matches!(self, Effect::RemoveRange { range, .. } if range.is_empty())
    }

    /// The table of which a range is written.
    pub fn table_of_range(&self) -> Option<usize> {
        match self {
            Effect::RemoveRange { table, .. } => Some(*table),
            _ => None,
        }
    }
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        let is_same = |(one, other): (&Arc<TableRows>, &Arc<TableRows>)| {
            // Most tables are the same by their place already.
            Arc::ptr_eq(one, other) || one == other
        };
        self.tables.iter().zip(&other.tables).all(is_same) && self.origins == other.origins
    }
}

impl State {
    /// The rows of a table.
    pub fn table(&self, table: usize) -> &TableRows {
        &self.tables[table]
    }

    /// Moves the state on by a transaction; false if that inserts a row that exists, which it then must not do.
    pub fn apply(&mut self, effects: &[Effect]) -> bool {
        let mut broken = BTreeSet::new();
        for effect in effects {
            match effect {
                Effect::Put {
                    table,
                    key,
                    row,
                    must_be_new,
                } => {
                    let rows = Arc::make_mut(&mut self.tables[*table]);
                    let was_there = rows.insert(key.clone(), row.clone()).is_some();
                    if was_there && *must_be_new {
                        broken.insert((*table, key.clone()));
                    }
                }
                Effect::Remove { table, key } => {
                    if self.tables[*table].contains_key(key) {
                        Arc::make_mut(&mut self.tables[*table]).remove(key);
                    }
                }
                Effect::RemoveRange { table, range } => {
                    // What the transaction inserted before is as if it had never been.
                    broken.retain(|(t, key)| t != table || !range.contains(key));
                    let rows = Arc::make_mut(&mut self.tables[*table]);
                    rows.retain(|key, _| !range.contains(key));
                }
            }
        }
        broken.is_empty()
    }

    /// Notes the position of a source.
    pub fn set_origin(&mut self, source: &str, position: &str) {
        Arc::make_mut(&mut self.origins).insert(source.into(), position.into());
    }
}
