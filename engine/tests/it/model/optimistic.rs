//! Transactions that others come in between of.

use std::collections::BTreeSet;
use std::ops::Bound;

use moonshine_engine::{Durability, Error, Isolation, Row, Scan, ScanOrder};
use proptest::prelude::*;

use super::writes::{KEY_COUNT, Write, any_write, replay};
use super::{Harness, TABLE_COUNT, key};
use crate::reading::{rows_of, sort_key};

/// A transaction, and what happens while it runs.
#[derive(Clone, Debug)]
pub(super) struct Optimistic {
    isolation: Isolation,
    /// Table and key.
    reads: Vec<(usize, u8)>,
    /// A table of which the rows from one key on, and before another, are read; in which order, and how many.
    scan: Option<(usize, u8, u8, ScanOrder, usize)>,
    writes: Vec<Write>,
    /// What others commit before it does, and whether that is flushed and compacted.
    between: Vec<Write>,
    settled: bool,
}

pub(super) fn any_optimistic() -> impl Strategy<Value = Optimistic> {
    let isolation = prop_oneof![Just(Isolation::Snapshot), Just(Isolation::Serializable)];
    let order = prop_oneof![
        Just(ScanOrder::Ascending),
        Just(ScanOrder::Descending),
        Just(ScanOrder::Unordered)
    ];
    let keys = || 0..KEY_COUNT;
    let reads = prop::collection::vec((0..TABLE_COUNT, keys()), 0..3);
    let scan = prop::option::of((0..TABLE_COUNT, keys(), keys(), order, 1..10_usize));
    let writes = |min| prop::collection::vec(any_write(), min..4);
    let parts = (isolation, reads, scan, writes(1), writes(0), any::<bool>());
    parts.prop_map(
        |(isolation, reads, scan, writes, between, settled)| Optimistic {
            isolation,
            reads,
            scan,
            writes,
            between,
            settled,
        },
    )
}

impl Harness {
    /// *Ordered*: it is refused exactly if others wrote what it asks to be as it was.
    pub(super) fn optimistic(&mut self, step: &Optimistic) {
        let before = self.state.clone();
        let mut transaction = self.database().begin_optimistic(step.isolation);
        let mut watched: Vec<(usize, String)> = Vec::new();
        let is_serializable = step.isolation == Isolation::Serializable;
        for &(t, k) in &step.reads {
            let found = transaction.get(&self.tables[t], &key(t, k)).unwrap();
            assert_eq!(found.as_ref(), before[t].get(&sort_key(&key(t, k))));
            if is_serializable {
                watched.push((t, sort_key(&key(t, k))));
            }
        }
        let mut own = before.clone();
        for write in &step.writes {
            write.make(&mut transaction, &self.tables);
            for t in 0..TABLE_COUNT {
                let keys = (0..KEY_COUNT).map(|k| sort_key(&key(t, k)));
                watched.extend(keys.filter(|key| write.touches(t, key)).map(|key| (t, key)));
            }
        }
        let is_sound = replay(&step.writes, &mut own);
        if let Some(scan) = &step.scan
            // A row that is inserted twice is found out by a scan too.
            && is_sound
        {
            let read = self.scan_own(&mut transaction, scan, &own);
            watched.extend(read.into_iter().filter(|_| is_serializable));
        }
        let came = step.between.is_empty() || self.commit(&step.between, Durability::Buffered);
        if step.settled {
            self.database().flush().unwrap();
            self.database().compact().unwrap();
        }
        let mut state = self.state.clone();
        let fits = replay(&step.writes, &mut state);
        let (mut must_fail, mut may_fail) = (!fits, !fits);
        for (t, key) in &watched {
            if came && step.between.iter().any(|write| write.touches(*t, key)) {
                may_fail = true;
                // Of a key that came and went nothing may be left to see.
                must_fail |= before[*t].contains_key(key) || self.state[*t].contains_key(key);
            }
        }
        if let Some((t, ..)) = step.scan {
            // These are writes of every key there can be.
            let is_of_ranges = |write: &Write| match write {
                Write::Truncate(of) | Write::DeleteRange(of, ..) => *of == t,
                _ => false,
            };
            may_fail |= is_serializable && step.between.iter().any(is_of_ranges);
        }
        let ranges = |writes: &[Write]| {
            let tables = writes.iter().filter_map(|write| match write {
                Write::Truncate(t) | Write::DeleteRange(t, ..) => Some(*t),
                _ => None,
            });
            tables.collect::<BTreeSet<usize>>()
        };
        may_fail |= !ranges(&step.writes).is_disjoint(&ranges(&step.between));
        match transaction.commit() {
            Ok(seq) => {
                assert!(!must_fail, "it is committed");
                self.advance(Some(state), None);
                assert_eq!(seq, self.seq);
            }
            Err(Error::Exists { .. } | Error::Conflict { .. }) => {
                assert!(may_fail, "it is refused");
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads the first batch of a scan, which shows the transaction's own writes; returns the keys that it went over.
    fn scan_own(
        &self,
        transaction: &mut moonshine_engine::Transaction,
        &(t, from, to, order, batch_rows): &(usize, u8, u8, ScanOrder, usize),
        own: &super::State,
    ) -> Vec<(usize, String)> {
        let (start, end) = (key(t, from), key(t, to));
        let (first, last) = (sort_key(&start), sort_key(&end));
        let scan = Scan {
            order,
            range: (Bound::Included(start), Bound::Excluded(end)),
            batch_rows,
            ..Scan::default()
        };
        let mut batches = transaction.scan(&self.tables[t], scan).unwrap();
        let mut rows: Vec<Row> = batches
            .next()
            .map(|batch| rows_of(&batch.unwrap(), &self.tables[t]))
            .unwrap_or_default();
        let is_within = |key: &String| first <= *key && *key < last;
        let mut expected: Vec<(&String, &Row)> =
            own[t].iter().filter(|(key, _)| is_within(key)).collect();
        let mut keys: Vec<String> = (0..KEY_COUNT).map(|k| sort_key(&key(t, k))).collect();
        keys.retain(is_within);
        if order == ScanOrder::Unordered {
            assert_eq!(rows.len(), expected.len().min(batch_rows));
            assert!(
                rows.iter()
                    .all(|row| expected.iter().any(|(_, e)| *e == row))
            );
            return keys.into_iter().map(|key| (t, key)).collect();
        }
        if order == ScanOrder::Descending {
            expected.reverse();
            keys.sort_by(|a, b| b.cmp(a));
        } else {
            keys.sort();
        }
        let is_cut = expected.len() >= batch_rows;
        expected.truncate(batch_rows);
        let expected_rows: Vec<Row> = expected.iter().map(|(_, row)| (*row).clone()).collect();
        assert_eq!(std::mem::take(&mut rows), expected_rows);
        if is_cut && let Some((reached, _)) = expected.last() {
            let behind = keys.iter().rposition(|key| key == *reached);
            keys.truncate(behind.map_or(0, |at| at + 1));
        }
        keys.into_iter().map(|key| (t, key)).collect()
    }
}
