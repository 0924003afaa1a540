//! What a client read, to be compared once it is known what was there.

use std::collections::BTreeMap;
use std::sync::Arc;

use moonshine_engine::{Row, TableSchema};

use super::rows::{KeyBytes, differences, key_of};
use super::state::{Effect, KeyRange, State, TableRows};

/// Something that was read at a commit sequence.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The number of the operation in the plan.
    pub operation: usize,
    /// The commit sequence.
    pub seq: u64,
    /// The table.
    pub table: usize,
    /// The schema that it was read with.
    pub schema: Arc<TableSchema>,
    /// What the transaction that read had written itself.
    pub own: Vec<Effect>,
    /// What was read.
    pub seen: Seen,
}

/// What was read.
#[derive(Clone, Debug)]
pub enum Seen {
    /// The row of a key, or that there is none.
    Row(KeyBytes, Option<Row>),
    /// Keys and values of a keyspace.
    Value(KeyBytes, Option<Vec<u8>>),
    /// How many rows there are.
    Count(u64),
    /// The rows of a scan.
    Scan {
        /// Of which keys.
        range: KeyRange,
        /// In which order.
        order: Order,
        /// Whether the scan came to its end.
        is_whole: bool,
        /// The rows.
        rows: Vec<Row>,
    },
    /// The positions of the sources.
    Origins(BTreeMap<String, String>),
}

/// The order of the rows of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any.
    Any,
    /// By key.
    Ascending,
    /// By key, the greatest first.
    Descending,
}

impl Observation {
    /// Compares it with the state at its commit sequence.
    ///
    /// # Errors
    /// What differs, in words.
    pub fn check(&self, state: &State) -> Result<(), String> {
        if !self.own.is_empty() {
            let mut state = state.clone();
            state.apply(&self.own);
            return self.check_state(&state);
        }
        self.check_state(state)
    }

    fn check_state(&self, state: &State) -> Result<(), String> {
        let rows = state.table(self.table);
        let name = self.schema.name();
        let differs = |what: &str, seen: &dyn std::fmt::Debug, expected: &dyn std::fmt::Debug| {
            let (operation, seq) = (self.operation, self.seq);
            Err(format!(
                "operation {operation} read at commit sequence {seq} {what} of '{name}': {seen:?}, expected {expected:?}"
            ))
        };
        match &self.seen {
            Seen::Row(key, seen) => {
                let expected = rows.get(key).map(|row| row.as_of(&self.schema));
                if *seen != expected {
                    return differs("a row", seen, &expected);
                }
            }
            Seen::Value(key, seen) => {
                let row = rows.get(key).map(|row| row.as_of(&self.schema));
                let expected = row.map(|row| match &row[1] {
                    moonshine_engine::Value::Binary(value) => value.clone(),
                    other => panic!("{other:?} is no value of a keyspace"),
                });
                if *seen != expected {
                    return differs("a value", seen, &expected);
                }
            }
            Seen::Count(seen) => {
                if *seen != rows.len() as u64 {
                    return differs("a count", seen, &rows.len());
                }
            }
            Seen::Scan { order, range, .. } => {
                if let Err((seen, expected)) = self.check_scan(rows) {
                    let (operation, seq) = (self.operation, self.seq);
                    let differences = differences(&expected, &seen);
                    return Err(format!(
                        "operation {operation} scanned '{name}' at commit sequence {seq}, {order:?}, {range:?}: {differences}"
                    ));
                }
            }
            Seen::Origins(seen) => {
                if *seen != *state.origins {
                    return differs("origins", seen, &state.origins);
                }
            }
        }
        Ok(())
    }

    fn check_scan(&self, table: &TableRows) -> Result<(), (Vec<Row>, Vec<Row>)> {
        let Seen::Scan {
            range,
            order,
            is_whole,
            rows,
        } = &self.seen
        else {
            return Ok(());
        };
        let within = table.iter().filter(|(key, _)| range.contains(key));
        let mut expected: Vec<Row> = within.map(|(_, row)| row.as_of(&self.schema)).collect();
        let mut seen = rows.clone();
        match order {
            Order::Ascending => {}
            Order::Descending => expected.reverse(),
            Order::Any => seen.sort_by_cached_key(|row| key_of(&self.schema, row)),
        }
        let is_same = if *is_whole {
            seen == expected
        } else if *order == Order::Any {
            seen.len() <= expected.len() && seen.iter().all(|row| expected.contains(row))
        } else {
            expected.starts_with(&seen)
        };
        if is_same {
            Ok(())
        } else {
            Err((seen, expected))
        }
    }
}
