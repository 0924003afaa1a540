//! Histories of small transactions by many threads, checked for cycles.
//!
//! Every write has a value of its own and no row is ever deleted, so what a read returned names the write that it saw, and
//! the commit sequences order the writes of a key. From that follow the edges of Adya's serialization graph: ww (the next
//! write of a key), wr (who read it) and rw (who overwrote what was read, keys that were not there included). A history is
//! serializable if the graph has no cycle. The checker knows nothing of snapshots and validation.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{
    ColumnType, Database, Durability, Error, Isolation, Options, Scan, ScanOrder, Table,
    TableSchema, Transaction, Value,
};
use parking_lot::Mutex;

use crate::reading::rows_of;

const KEYS: i64 = 12;
const THREADS: u64 = 6;
/// In place of a written value: the key was not there.
const ABSENT: i64 = 0;

/// What a transaction did that was committed.
#[derive(Clone, Debug, Default)]
struct Done {
    seq: u64,
    /// Key and the value that was found.
    reads: Vec<(i64, i64)>,
    writes: Vec<(i64, i64)>,
}

/// A cycle in the serialization graph, if there is one.
fn cycle(history: &[Done]) -> Option<Vec<usize>> {
    // Each key's writes in commit order: sequence, transaction, value.
    let mut writes: BTreeMap<i64, Vec<(u64, usize, i64)>> = BTreeMap::new();
    for (i, done) in history.iter().enumerate() {
        for &(key, value) in &done.writes {
            writes.entry(key).or_default().push((done.seq, i, value));
        }
    }
    let mut edges: Vec<Vec<usize>> = vec![Vec::new(); history.len()];
    let mut places: HashMap<i64, (i64, usize)> = HashMap::new();
    for (key, writes) in &mut writes {
        writes.sort_unstable();
        for (place, pair) in writes.windows(2).enumerate() {
            edges[pair[0].1].push(pair[1].1);
            places.insert(pair[0].2, (*key, place));
        }
        if let Some(last) = writes.last() {
            places.insert(last.2, (*key, writes.len() - 1));
        }
    }
    for (reader, done) in history.iter().enumerate() {
        for &(key, value) in &done.reads {
            let of_key = writes.get(&key).map_or(&[][..], Vec::as_slice);
            let next = if value == ABSENT {
                0
            } else {
                let (of, place) = places[&value];
                assert_eq!(of, key, "a value of another key");
                edges[of_key[place].1].push(reader);
                place + 1
            };
            if let Some(&(_, overwriter, _)) = of_key.get(next) {
                edges[reader].push(overwriter);
            }
        }
    }
    for (i, to) in edges.iter_mut().enumerate() {
        to.retain(|&to| to != i);
    }
    // Depth first: 0 unseen, 1 on the path, 2 done.
    let mut colors = vec![0_u8; history.len()];
    for start in 0..history.len() {
        let mut path = vec![(start, 0)];
        while let Some((at, next)) = path.last_mut() {
            if *next == 0 {
                if colors[*at] == 2 {
                    path.pop();
                    continue;
                }
                colors[*at] = 1;
            }
            match edges[*at].get(*next).copied() {
                None => {
                    colors[*at] = 2;
                    path.pop();
                }
                Some(to) => {
                    *next += 1;
                    match colors[to] {
                        0 => path.push((to, 0)),
                        1 => return Some(path.iter().map(|(at, _)| *at).collect()),
                        _ => {}
                    }
                }
            }
        }
    }
    None
}

struct Random(u64);

impl Random {
    fn next(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn key(&mut self) -> i64 {
        self.next(KEYS as u64) as i64
    }
}

fn value_of(row: &[Value]) -> (i64, i64) {
    match row {
        [Value::Int64(key), Value::Int64(value)] => (*key, *value),
        other => panic!("{other:?}"),
    }
}

/// Reads and writes a few keys; what it read, unless it had written that before itself.
fn act(
    transaction: &mut Transaction,
    table: &Table,
    random: &mut Random,
    next_value: &AtomicI64,
) -> Result<Done, Error> {
    let mut done = Done::default();
    let mut own: BTreeMap<i64, i64> = BTreeMap::new();
    for _ in 0..=random.next(3) {
        let key = random.key();
        match random.next(3) {
            0 => {
                let found = transaction.get(table, &[Value::Int64(key)])?;
                let found = found.map_or(ABSENT, |row| value_of(&row).1);
                match own.get(&key) {
                    Some(own) => assert_eq!(found, *own),
                    None => done.reads.push((key, found)),
                }
            }
            1 => {
                let end = key + 1 + random.next(5) as i64;
                let scan = Scan {
                    order: [
                        ScanOrder::Ascending,
                        ScanOrder::Descending,
                        ScanOrder::Unordered,
                    ][random.next(3) as usize],
                    range: (
                        Bound::Included(vec![Value::Int64(key)]),
                        Bound::Excluded(vec![Value::Int64(end)]),
                    ),
                    ..Scan::default()
                };
                let mut found: BTreeMap<i64, i64> = BTreeMap::new();
                for batch in transaction.scan(table, scan)? {
                    found.extend(rows_of(&batch?, table).iter().map(|row| value_of(row)));
                }
                for key in key..end {
                    let found = found.get(&key).copied().unwrap_or(ABSENT);
                    match own.get(&key) {
                        Some(own) => assert_eq!(found, *own),
                        None => done.reads.push((key, found)),
                    }
                }
            }
            _ => {
                let value = next_value.fetch_add(1, Ordering::Relaxed);
                let row = vec![Value::Int64(key), Value::Int64(value)];
                transaction.upsert(table, row)?;
                own.insert(key, value);
            }
        }
    }
    done.writes = own.into_iter().collect();
    Ok(done)
}

/// What was committed by threads that run transactions on the same few keys, while rows are flushed and compacted.
fn history(isolation: Isolation, seed: u64, rounds: usize) -> Vec<Done> {
    let options = Options {
        io: Arc::new(SimulatedIo::new(seed)),
        // A generation lasts for a few dozen transactions.
        memory_budget_bytes: 100_000,
        generation_size_bytes_max: Some(6000),
        ..Options::unmeasured()
    };
    let database = Database::open(Path::new("/db"), options).unwrap();
    let schema = TableSchema::builder("rows")
        .column("id", ColumnType::Int64, false)
        .column("value", ColumnType::Int64, false)
        .primary_key(["id"])
        .build()
        .unwrap();
    let table = database.create_table(schema).unwrap();
    let next_value = AtomicI64::new(1);
    let history = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (database, table, history) = (&database, &table, &history);
            let next_value = &next_value;
            scope.spawn(move || {
                let mut random = Random(seed * 1000 + thread * 77 + 1);
                for _ in 0..rounds {
                    let mut transaction = database.begin_optimistic(isolation);
                    transaction.set_durability(Durability::Buffered);
                    let mut done = act(&mut transaction, table, &mut random, next_value).unwrap();
                    if random.next(4) == 0 {
                        std::thread::yield_now();
                    }
                    match transaction.commit() {
                        Ok(seq) => {
                            done.seq = seq;
                            history.lock().push(done);
                        }
                        Err(Error::Conflict { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    history.into_inner()
}

/// *Ordered*: serializable transactions take effect as if one ran after the other.
#[test]
fn serializable_histories_have_no_cycle() {
    for seed in 1..=6 {
        let history = history(Isolation::Serializable, seed, 250);
        let writers = history.iter().filter(|done| !done.writes.is_empty());
        assert!(writers.count() > 100, "hardly anything was committed");
        if let Some(cycle) = cycle(&history) {
            let cycle: Vec<_> = cycle.into_iter().map(|i| &history[i]).collect();
            panic!("seed {seed}: {cycle:#?}");
        }
    }
}

/// *Ordered*: under snapshot isolation no two transactions overwrite what both of them read of a key.
#[test]
fn snapshot_histories_lose_no_update() {
    for seed in 11..=13 {
        let history = history(Isolation::Snapshot, seed, 250);
        // The writes of a key, by the value that their transaction read of it.
        let mut read: HashMap<(i64, i64), u64> = HashMap::new();
        for done in &history {
            for (key, value) in &done.reads {
                if done.writes.iter().any(|(written, _)| written == key) {
                    let other = read.insert((*key, *value), done.seq);
                    let is_same = other.is_none_or(|other| other == done.seq);
                    assert!(
                        is_same,
                        "key {key}: {other:?} and {} saw the same",
                        done.seq
                    );
                }
            }
        }
    }
}

/// The checker itself: it sees the anomalies that it is there for.
#[test]
fn the_checker_finds_anomalies() {
    let done = |seq, reads: &[(i64, i64)], writes: &[(i64, i64)]| Done {
        seq,
        reads: reads.to_vec(),
        writes: writes.to_vec(),
    };
    let serial = [
        done(1, &[(1, ABSENT)], &[(1, 10)]),
        done(2, &[(1, 10), (2, ABSENT)], &[(2, 20)]),
        done(2, &[(1, 10), (2, 20)], &[]),
        done(3, &[(2, 20)], &[(1, 11)]),
    ];
    assert_eq!(cycle(&serial), None);
    let lost_update = [
        done(1, &[(1, ABSENT)], &[(1, 10)]),
        done(2, &[(1, ABSENT)], &[(1, 11)]),
    ];
    let write_skew = [
        done(1, &[(1, ABSENT), (2, ABSENT)], &[(1, 10)]),
        done(2, &[(1, ABSENT), (2, ABSENT)], &[(2, 20)]),
    ];
    let read_skew = [
        done(1, &[], &[(1, 10), (2, 20)]),
        done(1, &[(1, 10), (2, ABSENT)], &[]),
    ];
    // Fekete, O'Neil and O'Neil, 2004: the one that only reads makes it wrong.
    let read_only = [
        done(1, &[(2, ABSENT)], &[(2, 20)]),
        done(1, &[(1, ABSENT), (2, 20)], &[]),
        done(2, &[(1, ABSENT), (2, ABSENT)], &[(1, 10)]),
    ];
    for anomaly in [&lost_update[..], &write_skew, &read_skew, &read_only] {
        assert!(cycle(anomaly).is_some(), "{anomaly:?}");
    }
}
