//! What a database holds, by a map; and how a database is held against it.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::input::Input;
use super::values::{is_same_row, row};
use crate::codec::columns::BatchColumns;
use crate::codec::key::encode_key;
use crate::codec::row::encode_row;
use crate::error::{Error, Result};
use crate::io::FileKind;
use crate::key_range::{KeyBounds, KeyRange};
use crate::schema::TableSchema;
use crate::snapshot::{Scan, ScanOrder, Snapshot};
use crate::table::Table;
use crate::value::{Row, Value};

/// The rows of a table by their encoded keys, whose order the target `rows` holds against that of their values.
pub(super) type Rows = BTreeMap<Vec<u8>, Row>;

/// The rows of each table.
pub(super) type State = Vec<Rows>;

pub(super) fn key_of(schema: &TableSchema, row: &[Value]) -> Vec<Value> {
    let positions = schema.primary_key().iter();
    positions.map(|&position| row[position].clone()).collect()
}

pub(super) fn encoded_key(schema: &TableSchema, key: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(schema, key.iter(), &mut out).unwrap();
    out
}

/// Rows that were written, so that later ones meet them.
#[derive(Debug, Default)]
pub(super) struct Pool {
    rows: Vec<Row>,
}

impl Pool {
    /// A row with a key of before or another one.
    pub(super) fn row(&mut self, schema: &TableSchema, input: &mut Input<'_>) -> Row {
        let mut new = row(schema, input);
        if let Some(old) = self.old(input) {
            for &position in schema.primary_key() {
                new[position] = old[position].clone();
            }
        }
        self.rows.push(new.clone());
        new
    }

    /// A key of before, mostly.
    pub(super) fn key(&self, schema: &TableSchema, input: &mut Input<'_>) -> Vec<Value> {
        match self.old(input) {
            Some(old) => key_of(schema, old),
            None => key_of(schema, &row(schema, input)),
        }
    }

    fn old(&self, input: &mut Input<'_>) -> Option<&Row> {
        let choice = usize::from(input.u8());
        (choice & 3 > 0).then(|| self.rows.get((choice >> 2) % self.rows.len().max(1)))?
    }

    pub(super) fn bounds(&self, schema: &TableSchema, input: &mut Input<'_>) -> KeyBounds {
        let bound = |input: &mut Input<'_>| {
            let mut key = self.key(schema, input);
            key.truncate(1 + input.below(key.len()));
            match input.below(5) {
                0 => Bound::Unbounded,
                1 | 2 => Bound::Included(key),
                _ => Bound::Excluded(key),
            }
        };
        (bound(input), bound(input))
    }
}

pub(super) fn is_in(range: &KeyRange, key: &[u8]) -> bool {
    range.starts_before(key) && range.ends_after(key)
}

/// Whether an error says no more than what was done to the disk.
pub(super) fn may_be(error: &Error) -> bool {
    match error {
        Error::Io { .. } | Error::Poisoned(_) | Error::NoSpace { .. } => true,
        Error::Corrupt { path, .. } => FileKind::of(path) == FileKind::Delta,
        _ => false,
    }
}

/// All rows of a table.
pub(super) fn read(snapshot: &Snapshot, table: &Table) -> Result<Rows> {
    let schema = table.schema();
    let mut rows = Rows::new();
    let ascending = Scan {
        order: ScanOrder::Ascending,
        ..Scan::default()
    };
    for (key, _) in encoded(snapshot, table, ascending)? {
        let values = crate::codec::key::decode_key(schema, &key).unwrap();
        let row = snapshot.get(table, &values)?;
        rows.insert(
            key,
            row.expect("a row that a scan shows is found by its key"),
        );
    }
    Ok(rows)
}

/// What a scan shows, as keys and values are encoded.
fn encoded(snapshot: &Snapshot, table: &Table, scan: Scan) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let schema = table.schema();
    let mut found = Vec::new();
    for batch in snapshot.scan(table, scan)? {
        let batch = batch?;
        let columns = BatchColumns::of_rows(schema, &batch).unwrap();
        for i in 0..batch.num_rows() {
            let (mut key, mut values) = (Vec::new(), Vec::new());
            columns.encode_key(schema, i, &mut key).unwrap();
            columns.encode_row(i, &mut values);
            found.push((key, values));
        }
    }
    Ok(found)
}

/// Holds a table against its rows, by what an input chooses to ask.
pub(super) fn compare(
    snapshot: &Snapshot,
    table: &Table,
    rows: &Rows,
    pool: &Pool,
    input: &mut Input<'_>,
) -> Result<()> {
    let schema = table.schema();
    let orders = [
        ScanOrder::Ascending,
        ScanOrder::Descending,
        ScanOrder::Unordered,
    ];
    let order = orders[input.below(3)];
    let bounds = pool.bounds(schema, input);
    let range = KeyRange::new(schema, &bounds).unwrap();
    let expected = rows.iter().filter(|(key, _)| is_in(&range, key));
    let mut expected: Vec<(Vec<u8>, Vec<u8>)> = expected
        .map(|(key, row)| {
            let mut values = Vec::new();
            encode_row(schema, row, &mut values);
            (key.clone(), values)
        })
        .collect();
    let scan = Scan {
        order,
        range: bounds,
        batch_rows: 1 + input.below(50),
        ..Scan::default()
    };
    let mut found = encoded(snapshot, table, scan.clone())?;
    match order {
        ScanOrder::Descending => expected.reverse(),
        ScanOrder::Unordered => found.sort(),
        ScanOrder::Ascending => {}
    }
    assert!(
        found == expected,
        "{scan:?}: {found:?}, expected {expected:?}"
    );
    assert_eq!(snapshot.row_count(table)?, rows.len() as u64);
    let keys: Vec<Vec<Value>> = (0..input.below(6))
        .map(|_| pool.key(schema, input))
        .collect();
    let many = snapshot.multi_get(table, &keys)?;
    for (key, by_many) in keys.iter().zip(many) {
        let found = snapshot.get(table, key)?;
        let expected = rows.get(&encoded_key(schema, key));
        assert!(
            same(found.as_ref(), expected),
            "{key:?}: {found:?}, not {expected:?}"
        );
        assert!(
            same(by_many.as_ref(), expected),
            "{key:?}: {by_many:?}, not {expected:?}"
        );
    }
    Ok(())
}

pub(super) fn same(a: Option<&Row>, b: Option<&Row>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => is_same_row(a, b),
        _ => false,
    }
}

/// Whether two states hold the same.
pub(super) fn is_same_state(a: &State, b: &State) -> bool {
    let is_same = |(a, b): (&Rows, &Rows)| {
        a.len() == b.len()
            && a.iter()
                .zip(b)
                .all(|((key_a, a), (key_b, b))| key_a == key_b && is_same_row(a, b))
    };
    a.iter().zip(b).all(is_same)
}
