//! What the child writes, as it follows from a seed and a number: so what must be there needs no memory of what was written.
//!
//! Each writer has keys of its own in two tables that always hold the same, and numbers its transactions. The chain is one
//! table that all share: link `k` is a transaction that reads the last link and two balances, so its order is that of the
//! links. Bulk loads, and changes of a table's columns, are numbered as well.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Writers with keys of their own.
pub const WRITERS: usize = 3;
/// Keys of a writer that its transactions choose from.
const KEYS: u64 = 60;
/// From a writer's first key to the next one's.
const KEY_SPAN: i64 = 1000;
/// Where a writer has the number of its last transaction.
const PROGRESS_KEY: i64 = 999;
/// Where the chain has its length.
pub const CHAIN_HEAD: i64 = 0;
/// Balances in the chain, at the keys below zero.
const ACCOUNTS: u64 = 8;
/// Most rows of a bulk load.
const LOAD_ROWS: u64 = 60;
/// Every so many steps the columns of the evolving table change.
pub const STEPS_PER_COLUMN: u64 = 5;
/// More columns than that, and the oldest goes.
pub const COLUMNS_MAX: usize = 4;

/// The rows of a table: a number by key. Each row has a text besides, which follows from both.
pub type Rows = BTreeMap<i64, i64>;

/// One write of a writer's transaction; keys are the database's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The row of that key gets the transaction's number.
    Upsert(i64),
    /// The row goes.
    Delete(i64),
    /// All rows of the range go.
    DeleteRange(RangeInclusive<i64>),
}

/// A number that follows from the seed and those of what is drawn.
///
/// ```
/// use moonshine_crash::workload::draw;
/// assert_eq!(draw(7, &[1, 2]), draw(7, &[1, 2]));
/// assert_ne!(draw(7, &[1, 2]), draw(7, &[2, 1]));
/// ```
pub fn draw(seed: u64, what: &[u64]) -> u64 {
    let bytes: Vec<u8> = what.iter().flat_map(|n| n.to_le_bytes()).collect();
    xxh3_64_with_seed(&bytes, seed)
}

/// The text of a row; now and then a long one.
pub fn text(id: i64, number: i64) -> Vec<u8> {
    let drawn = draw(id as u64, &[number as u64]);
    let len = match drawn % 50 {
        0 => drawn % 5000,
        _ => drawn % 90,
    };
    let byte = |at: u64| (drawn >> (at % 57)) as u8;
    (0..len).map(byte).collect()
}

/// The writes of a writer's transaction, in order; its number is upserted at the end.
pub fn writes(seed: u64, writer: usize, number: u64) -> Vec<Write> {
    let start = writer as i64 * KEY_SPAN;
    let draw = |at: u64, what: u64| draw(seed, &[1, writer as u64, number, at, what]);
    let count = 1 + draw(0, 0) % 5;
    let mut writes: Vec<Write> = (0..count)
        .map(|at| {
            let key = start + (draw(at, 1) % KEYS) as i64;
            match draw(at, 2) % 16 {
                0..=10 => Write::Upsert(key),
                11..=14 => Write::Delete(key),
                _ => Write::DeleteRange(key..=key + (draw(at, 3) % 20) as i64),
            }
        })
        .collect();
    writes.push(Write::Upsert(start + PROGRESS_KEY));
    writes
}

/// Where a writer has its number.
pub fn progress_key(writer: usize) -> i64 {
    writer as i64 * KEY_SPAN + PROGRESS_KEY
}

/// The rows of a writer after so many transactions.
pub fn rows_of_writer(seed: u64, writer: usize, count: u64) -> Rows {
    let mut rows = Rows::new();
    for number in 1..=count {
        for write in writes(seed, writer, number) {
            match write {
                Write::Upsert(key) => {
                    rows.insert(key, number as i64);
                }
                Write::Delete(key) => {
                    rows.remove(&key);
                }
                Write::DeleteRange(range) => rows.retain(|key, _| !range.contains(key)),
            }
        }
    }
    rows
}

/// What link `k` moves: from one account to another, how much.
pub fn transfer(seed: u64, k: u64) -> (i64, i64, i64) {
    let from = draw(seed, &[2, k, 0]) % ACCOUNTS;
    let to = (from + 1 + draw(seed, &[2, k, 1]) % (ACCOUNTS - 1)) % ACCOUNTS;
    let amount = draw(seed, &[2, k, 2]) % 100;
    (-1 - from as i64, -1 - to as i64, amount as i64)
}

/// The chain with so many links.
pub fn chain_rows(seed: u64, length: u64) -> Rows {
    let mut rows = Rows::new();
    for k in 1..=length {
        let (from, to, amount) = transfer(seed, k);
        *rows.entry(from).or_default() -= amount;
        *rows.entry(to).or_default() += amount;
        rows.insert(k as i64, amount);
    }
    if length > 0 {
        rows.insert(CHAIN_HEAD, length as i64);
    }
    rows
}

/// The rows of a bulk load.
pub fn load_rows(seed: u64, number: u64) -> impl Iterator<Item = i64> {
    let count = 1 + draw(seed, &[3, number]) % LOAD_ROWS;
    (0..count).map(move |at| (number * LOAD_ROWS + at) as i64)
}

/// Which bulk load a row is of.
pub fn load_of_row(id: i64) -> u64 {
    id as u64 / LOAD_ROWS
}

/// All rows of so many loads.
pub fn loaded_rows(seed: u64, count: u64) -> Rows {
    (1..=count)
        .flat_map(|number| load_rows(seed, number).map(move |id| (id, number as i64)))
        .collect()
}

/// The steps whose columns the evolving table has after so many steps.
pub fn columns(steps: u64) -> Vec<u64> {
    let added = steps / STEPS_PER_COLUMN;
    let gone = added.saturating_sub(COLUMNS_MAX as u64);
    (gone + 1..=added).map(|at| at * STEPS_PER_COLUMN).collect()
}

/// What a column holds in rows that were written before it came.
pub fn column_default(column: u64) -> Option<i64> {
    (column / STEPS_PER_COLUMN)
        .is_multiple_of(2)
        .then_some(-(column as i64))
}

/// What a row of the evolving table has in a column that was there when it was written.
pub fn cell(step: u64, column: u64) -> i64 {
    (step * 1000 + column) as i64
}

/// The rows of the evolving table after so many steps: the cells of its columns by step.
pub fn evolving_rows(steps: u64) -> BTreeMap<i64, Vec<Option<i64>>> {
    let columns = columns(steps);
    let row = |step: u64| {
        let value = |column: &u64| match *column < step {
            true => Some(cell(step, *column)),
            false => column_default(*column),
        };
        (step as i64, columns.iter().map(value).collect())
    };
    (1..=steps)
        .filter(|step| !step.is_multiple_of(STEPS_PER_COLUMN))
        .map(row)
        .collect()
}
