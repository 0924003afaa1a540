//! Reading: snapshots that are new or kept, and scans that are put aside.

use std::collections::BTreeMap;
use std::sync::Arc;

use moonshine_engine::{Batches, Error, Row, Scan, ScanOrder, Snapshot, TableSchema, Value};

use super::client::Client;
use super::outcome::Step;
use super::writes::{Bounds, bytes_of, range};
use crate::model::observation::{Observation, Order, Seen};
use crate::model::rows::rows_of;
use crate::model::state::KeyRange;
use crate::model::tables::{PAIRS, TABLE_COUNT, key};
use crate::plan::config::Config;
use crate::random::Stream;

/// A scan that was put aside.
#[derive(Debug)]
pub(super) struct Parked {
    operation: usize,
    seq: u64,
    wanted: Wanted,
    schema: Arc<TableSchema>,
    batches: Batches,
    rows: Vec<Row>,
}

/// Rows that a scan is to find.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Of which table.
    pub(super) table: usize,
    /// In which order.
    pub(super) order: Order,
    /// Of which keys.
    pub(super) range: KeyRange,
    bounds: Bounds,
}

impl Wanted {
    /// All rows of a table, in some order.
    pub(super) fn all(table: usize, order: Order) -> Self {
        Wanted {
            table,
            order,
            range: KeyRange::ALL,
            bounds: Scan::default().range,
        }
    }

    /// Some rows of some table.
    pub(super) fn draw(stream: &mut Stream, config: &Config) -> Self {
        let table = stream.below(TABLE_COUNT as u64) as usize;
        let order = stream.pick(&[Order::Any, Order::Ascending, Order::Descending]);
        let mut wanted = Wanted::all(table, order);
        if stream.chance(600) {
            let (from, to) = (
                stream.below(config.key_count),
                stream.below(config.key_count),
            );
            (wanted.bounds, wanted.range) = range(table, from, to, stream.next());
        }
        wanted
    }

    /// The scan for it.
    pub(super) fn scan(&self) -> Scan {
        Scan {
            order: match self.order {
                Order::Any => ScanOrder::Unordered,
                Order::Ascending => ScanOrder::Ascending,
                Order::Descending => ScanOrder::Descending,
            },
            range: self.bounds.clone(),
            batch_rows: 7,
            ..Scan::default()
        }
    }
}

/// The rows of so many batches, and whether those were all.
///
/// # Errors
/// As the engine answers.
pub(super) fn collect(
    batches: &mut Batches,
    schema: &TableSchema,
    batches_max: usize,
) -> Result<(Vec<Row>, bool), Error> {
    let mut rows = Vec::new();
    for _ in 0..batches_max {
        match batches.next() {
            None => return Ok((rows, true)),
            Some(batch) => rows.extend(rows_of(&batch?, schema)),
        }
    }
    Ok((rows, false))
}

/// How far each source is.
pub(super) fn origins(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let origins = snapshot.origins().into_iter();
    origins
        .map(|origin| (origin.source, origin.position))
        .collect()
}

impl Client {
    /// Reads what a snapshot holds that is read again in a later round: what was undecided is decided at the end of this one.
    pub(super) fn pin_down(&mut self, number: usize, snapshot: &Snapshot) -> Step {
        if self.process.config.client_count == 1 {
            return Ok(());
        }
        for table in 0..TABLE_COUNT {
            self.scan(number, snapshot, Wanted::all(table, Order::Ascending))?;
        }
        let seen = Seen::Origins(origins(snapshot));
        self.observe(number, snapshot.seq(), 0, &[], seen);
        Ok(())
    }

    pub(super) fn read_newest(&mut self, number: usize, stream: &mut Stream) -> Step {
        let snapshot = self.process.snapshot(number)?;
        self.read_some(number, &snapshot, stream)?;
        self.process.durable_seq(number).map(drop)
    }

    pub(super) fn read_held(&mut self, number: usize, stream: &mut Stream) -> Step {
        if self.held.is_empty() {
            return Ok(());
        }
        let at = stream.below(self.held.len() as u64) as usize;
        let snapshot = self.held[at].clone();
        match stream.chance(200) {
            true => self.read_all(number, &snapshot),
            false => self.read_some(number, &snapshot, stream),
        }
    }

    fn read_some(&mut self, number: usize, snapshot: &Snapshot, stream: &mut Stream) -> Step {
        for _ in 0..stream.between(1, 3) {
            let table = stream.below(TABLE_COUNT as u64) as usize;
            match stream.below(6) {
                0..2 => {
                    let wanted = Wanted::draw(stream, &self.process.config);
                    self.scan(number, snapshot, wanted)?;
                }
                2 => self.count(number, snapshot, table)?,
                3 => self.get(number, snapshot, table, stream)?,
                4 => self.multi_get(number, snapshot, table)?,
                _ => self.look_up_pair(number, snapshot, stream)?,
            }
        }
        Ok(())
    }

    /// Reads everything in every way.
    pub(super) fn read_all(&mut self, number: usize, snapshot: &Snapshot) -> Step {
        for table in 0..TABLE_COUNT {
            for order in [Order::Ascending, Order::Descending, Order::Any] {
                self.scan(number, snapshot, Wanted::all(table, order))?;
            }
            self.count(number, snapshot, table)?;
            self.multi_get(number, snapshot, table)?;
        }
        let seen = Seen::Origins(origins(snapshot));
        self.observe(number, snapshot.seq(), 0, &[], seen);
        Ok(())
    }

    fn scan(&mut self, number: usize, snapshot: &Snapshot, wanted: Wanted) -> Step {
        let table = wanted.table;
        let schema = self.tables[table].schema().clone();
        let scanned = snapshot
            .scan(&self.tables[table], wanted.scan())
            .and_then(|mut batches| collect(&mut batches, &schema, usize::MAX));
        let (rows, is_whole) = self.expect_current(number, "a scan", scanned)?;
        let seen = Seen::Scan {
            range: wanted.range,
            order: wanted.order,
            is_whole,
            rows,
        };
        self.observe(number, snapshot.seq(), table, &[], seen);
        Ok(())
    }

    fn count(&mut self, number: usize, snapshot: &Snapshot, table: usize) -> Step {
        let counted = snapshot.row_count(&self.tables[table]);
        let count = self.expect_current(number, "a count", counted)?;
        self.observe(number, snapshot.seq(), table, &[], Seen::Count(count));
        Ok(())
    }

    fn get(
        &mut self,
        number: usize,
        snapshot: &Snapshot,
        table: usize,
        stream: &mut Stream,
    ) -> Step {
        for _ in 0..4 {
            let k = stream.below(self.process.config.key_count);
            let found = snapshot.get(&self.tables[table], &key(table, k));
            let row = self.expect_current(number, "a get", found)?;
            let seen = Seen::Row(bytes_of(table, k), row);
            self.observe(number, snapshot.seq(), table, &[], seen);
        }
        Ok(())
    }

    fn multi_get(&mut self, number: usize, snapshot: &Snapshot, table: usize) -> Step {
        let numbers = 0..self.process.config.key_count;
        let keys: Vec<Vec<Value>> = numbers.clone().map(|k| key(table, k)).collect();
        let found = snapshot.multi_get(&self.tables[table], &keys);
        let rows = self.expect_current(number, "many gets", found)?;
        for (k, row) in numbers.zip(rows) {
            let seen = Seen::Row(bytes_of(table, k), row);
            self.observe(number, snapshot.seq(), table, &[], seen);
        }
        Ok(())
    }

    /// A pair of the keyspace, by its key.
    fn look_up_pair(&mut self, number: usize, snapshot: &Snapshot, stream: &mut Stream) -> Step {
        let k = stream.below(self.process.config.key_count);
        let Some(Value::Binary(key)) = key(PAIRS, k).pop() else {
            return Ok(());
        };
        let keyspace = self.keyspace(number)?;
        let found = keyspace.get_at(snapshot, &key);
        let value = self.process.expect(number, "a get of a pair", found)?;
        let seen = Seen::Value(bytes_of(PAIRS, k), value.map(|value| value.to_vec()));
        self.observe(number, snapshot.seq(), PAIRS, &[], seen);
        Ok(())
    }

    pub(super) fn park(&mut self, number: usize, stream: &mut Stream) -> Step {
        let wanted = Wanted::draw(stream, &self.process.config);
        let snapshot = match self.held.last() {
            Some(held) if stream.chance(500) => held.clone(),
            _ => self.process.snapshot(number)?,
        };
        self.pin_down(number, &snapshot)?;
        let table = wanted.table;
        let scan = Scan {
            batch_rows: stream.between(1, 6) as usize,
            ..wanted.scan()
        };
        let scanned = snapshot.scan(&self.tables[table], scan);
        let batches = self.expect_current(number, "a scan", scanned)?;
        self.parked.push(Parked {
            operation: number,
            seq: snapshot.seq(),
            schema: self.tables[table].schema().clone(),
            wanted,
            batches,
            rows: Vec::new(),
        });
        Ok(())
    }

    pub(super) fn resume(&mut self, number: usize, stream: &mut Stream) -> Step {
        if self.parked.is_empty() {
            return Ok(());
        }
        let at = stream.below(self.parked.len() as u64) as usize;
        let mut parked = self.parked.swap_remove(at);
        let batches_max = stream.between(1, 4) as usize;
        let collected = collect(&mut parked.batches, &parked.schema, batches_max);
        let (rows, is_whole) = self.expect_current(number, "a scan that goes on", collected)?;
        parked.rows.extend(rows);
        match is_whole {
            true => self.end_parked(parked, true),
            false => self.parked.push(parked),
        }
        Ok(())
    }

    pub(super) fn end_parked(&mut self, parked: Parked, is_whole: bool) {
        self.observations.push(Observation {
            operation: parked.operation,
            seq: parked.seq,
            table: parked.wanted.table,
            schema: parked.schema,
            own: Vec::new(),
            seen: Seen::Scan {
                range: parked.wanted.range,
                order: parked.wanted.order,
                is_whole,
                rows: parked.rows,
            },
        });
    }
}
