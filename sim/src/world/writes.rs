//! Writes of transactions: as they are drawn, as the engine is told of them, and as the model is.

use std::ops::Bound;

use moonshine_engine::{Error, Table, Transaction, Value};

use crate::model::rows::{KeyBytes, StoredRow, key_bytes};
use crate::model::state::{Effect, KeyRange};
use crate::model::tables::{TABLE_COUNT, key, row};
use crate::plan::config::Config;
use crate::random::Stream;

/// A write, by the numbers of its keys.
#[derive(Clone, Copy, Debug)]
pub enum Write {
    /// Table, key, content.
    Upsert(usize, u64, u64),
    /// Only if the key does not exist.
    Insert(usize, u64, u64),
    /// Table and key.
    Delete(usize, u64),
    /// Table.
    Truncate(usize),
    /// Table, and what [`range`] takes.
    DeleteRange(usize, u64, u64, u64),
}

/// Bounds of a range of keys, for the engine.
pub type Bounds = (Bound<Vec<Value>>, Bound<Vec<Value>>);

/// A range of keys: between two of them in either order, with or without its ends; open at one side; or all that begin with
/// the first column of one.
pub fn range(table: usize, from: u64, to: u64, form: u64) -> (Bounds, KeyRange) {
    let (one, other) = (key(table, from), key(table, to));
    let (first, last) = match key_bytes(&one) <= key_bytes(&other) {
        true => (one, other),
        false => (other, one),
    };
    let prefix = || vec![first[0].clone()];
    let bounds = match form % 6 {
        0 => (Bound::Included(first), Bound::Included(last)),
        1 => (Bound::Included(first), Bound::Excluded(last)),
        2 => (Bound::Excluded(first), Bound::Included(last)),
        3 => (Bound::Included(prefix()), Bound::Included(prefix())),
        4 => (Bound::Included(first), Bound::Unbounded),
        _ => (Bound::Unbounded, Bound::Excluded(first)),
    };
    let bytes = |bound: &Bound<Vec<Value>>| bound.as_ref().map(|key| key_bytes(key));
    let range = KeyRange {
        from: bytes(&bounds.0),
        to: bytes(&bounds.1),
    };
    (bounds, range)
}

/// The key of a number as the model has it.
pub fn bytes_of(table: usize, number: u64) -> KeyBytes {
    key_bytes(&key(table, number))
}

impl Write {
    /// A few writes, at least one.
    pub fn draw(stream: &mut Stream, config: &Config) -> Vec<Write> {
        let count = stream.between(1, config.write_count_max);
        (0..count)
            .map(|_| Write::draw_one(stream, config))
            .collect()
    }

    fn draw_one(stream: &mut Stream, config: &Config) -> Write {
        let table = stream.below(TABLE_COUNT as u64) as usize;
        let mut k = || stream.below(config.key_count);
        let (from, to) = (k(), k());
        match stream.weighted(&[160, 10, 70, 10, 30]) {
            0 => Write::Upsert(table, from, stream.next()),
            1 => Write::Insert(table, from, stream.next()),
            2 => Write::Delete(table, from),
            3 => Write::Truncate(table),
            _ => Write::DeleteRange(table, from, to, stream.next()),
        }
    }

    /// The table.
    pub fn table(&self) -> usize {
        match *self {
            Write::Upsert(table, ..)
            | Write::Insert(table, ..)
            | Write::Delete(table, _)
            | Write::Truncate(table)
            | Write::DeleteRange(table, ..) => table,
        }
    }

    /// Tells the engine, and what it comes to.
    ///
    /// # Errors
    /// As the engine answers.
    pub fn make(&self, transaction: &mut Transaction, tables: &[Table]) -> Result<Effect, Error> {
        let schema = |table: usize| tables[table].schema();
        match *self {
            Write::Upsert(table, k, content) | Write::Insert(table, k, content) => {
                let row = row(schema(table), table, k, content);
                let must_be_new = matches!(self, Write::Insert(..));
                let effect = Effect::Put {
                    table,
                    key: bytes_of(table, k),
                    row: StoredRow::new(schema(table), &row),
                    must_be_new,
                };
                match must_be_new {
                    true => transaction.insert(&tables[table], row)?,
                    false => transaction.upsert(&tables[table], row)?,
                }
                Ok(effect)
            }
            Write::Delete(table, k) => {
                transaction.delete(&tables[table], &key(table, k))?;
                let key = bytes_of(table, k);
                Ok(Effect::Remove { table, key })
            }
            Write::Truncate(table) => {
                transaction.truncate(&tables[table])?;
                let range = KeyRange::ALL;
                Ok(Effect::RemoveRange { table, range })
            }
            Write::DeleteRange(table, from, to, form) => {
                let (bounds, range) = range(table, from, to, form);
                transaction.delete_range(&tables[table], &bounds)?;
                Ok(Effect::RemoveRange { table, range })
            }
        }
    }
}
