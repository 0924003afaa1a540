//! Writers, snapshot readers, exporters and reopens at once, on real files: every snapshot shows whole transactions, and
//! an exported copy that follows `Changes` alone equals the engine.

#![allow(
    clippy::disallowed_methods,
    reason = "threads on real files for a while: a simulated clock has nothing to say here"
)]

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use moonshine_engine::{
    ColumnType, Database, ExportFile, Options, Scan, Snapshot, Table, TableSchema, Value,
};

const KEYS: i64 = 60;

fn schema(name: &str) -> TableSchema {
    TableSchema::builder(name)
        .column("id", ColumnType::Int64, false)
        .column("v", ColumnType::Int64, false)
        .primary_key(["id"])
        .build()
        .unwrap()
}

struct Random(u64);
impl Random {
    fn next(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// What an exporter's files hold: (file, position) to (id, v), and what was deleted is gone.
#[derive(Clone, Default)]
struct Lake {
    rows: HashMap<(String, u64), (i64, i64)>,
    seq: u64,
    token: u64,
    commits: HashMap<u128, u64>,
}

fn rows(batches: moonshine_engine::Batches) -> Vec<(i64, i64)> {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    let mut out = Vec::new();
    for batch in batches {
        let batch = batch.unwrap();
        let (ids, vs) = (
            batch.column(0).as_primitive::<Int64Type>(),
            batch.column(1).as_primitive::<Int64Type>(),
        );
        out.extend(
            ids.values()
                .iter()
                .copied()
                .zip(vs.values().iter().copied()),
        );
    }
    out
}

fn scan(snapshot: &Snapshot, table: &Table) -> BTreeMap<i64, i64> {
    let list = rows(snapshot.scan(table, Scan::default()).unwrap());
    let map: BTreeMap<_, _> = list.iter().copied().collect();
    assert_eq!(map.len(), list.len(), "a key twice");
    map
}

/// Both tables get the same writes in a transaction, so they are equal in every snapshot.
fn check_snapshot(database: &Database, a: &Table, b: &Table, lake: Option<&Mutex<Lake>>) {
    let _held = lake.map(|lake| lake.lock().unwrap());
    let snapshot = database.snapshot();
    let (first, second) = (scan(&snapshot, a), scan(&snapshot, b));
    assert_eq!(first, second, "half a transaction at {}", snapshot.seq());
    assert_eq!(snapshot.row_count(a).unwrap(), first.len() as u64);
    for id in 0..KEYS {
        let row = snapshot.get(a, &[Value::Int64(id)]).unwrap();
        assert_eq!(
            row.map(|row| row[1].clone()),
            first.get(&id).map(|v| Value::Int64(*v))
        );
    }
    assert_eq!(scan(&snapshot, a), first, "the snapshot moved");
    if let Some(lake) = &_held {
        let changes = database.changes(a, &snapshot).unwrap();
        let mut union = lake.rows.clone();
        for placement in changes.removed().iter() {
            let gone = union.remove(&(placement.file.to_string(), placement.position));
            assert!(gone.is_some(), "{placement:?} was removed before");
        }
        let mut union: BTreeMap<_, _> = union.into_values().collect();
        for (id, v) in rows(changes.batches(None, 7).unwrap()) {
            assert!(union.insert(id, v).is_none(), "key {id} twice");
        }
        assert_eq!(union, first, "lake and changes at {}", snapshot.seq());
    }
}

fn export(
    database: &Database,
    table: &Table,
    lake: &Mutex<Lake>,
    random: &mut Random,
    n: u64,
    check: bool,
) {
    let snapshot = database.snapshot();
    if check {
        std::thread::sleep(Duration::from_micros(random.next(3000)));
    }
    let mut export = match database.begin_export(table, &snapshot) {
        Ok(export) => export,
        Err(error) => panic!("{error}"),
    };
    drop(snapshot);
    assert_eq!(export.from_seq(), lake.lock().unwrap().seq);
    let new = rows(export.batches(None, 1 + random.next(20) as usize).unwrap());
    assert_eq!(new.len() as u64, export.row_count());
    let cut = random.next(new.len() as u64 + 1) as usize;
    let id = uuid::Uuid::from_u128(u128::from(n) << 32 | u128::from(random.next(1 << 30)));
    let files: Vec<ExportFile> = [&new[..cut], &new[cut..]]
        .iter()
        .enumerate()
        .map(|(i, rows)| ExportFile {
            path: format!("{id}-{i}"),
            row_count: rows.len() as u64,
        })
        .collect();
    export.prepare(id, &files).unwrap();
    match random.next(6) {
        0 => return export.abort().unwrap(),
        // Dropped: pending, and not in the lake.
        1 if random.next(2) == 0 => return,
        _ => {}
    }
    // The lake's commit and the engine's are one moment for the checking readers.
    let mut held = lake.lock().unwrap();
    for placement in export.removed().iter() {
        assert!(
            held.rows
                .remove(&(placement.file.to_string(), placement.position))
                .is_some()
        );
    }
    for (i, row) in new.iter().enumerate() {
        let (file, at) = if i < cut { (0, i) } else { (1, i - cut) };
        held.rows
            .insert((files[file].path.clone(), at as u64), *row);
    }
    held.seq = export.to_seq();
    held.token += 1;
    let token = held.token;
    held.commits.insert(id.as_u128(), token);
    if random.next(5) == 0 {
        drop(export); // committed in the lake, the engine does not know
        settle(database, &held, table);
    } else {
        export.commit(token.to_string()).unwrap();
    }
}

fn settle(database: &Database, lake: &Lake, table: &Table) {
    for pending in database.pending_exports() {
        if pending.table().id() != table.id() {
            continue;
        }
        match lake.commits.get(&pending.commit_id().as_u128()) {
            Some(token) => pending.commit(token.to_string()).unwrap(),
            None => pending.abort().unwrap(),
        }
    }
}

fn transaction(
    database: &Database,
    a: &Table,
    b: &Table,
    random: &mut Random,
    n: &mut i64,
) -> moonshine_engine::CommitHandle {
    let mut transaction = database.begin();
    if random.next(40) == 0 {
        for table in [a, b] {
            transaction.truncate(table).unwrap();
        }
    }
    for _ in 0..1 + random.next(8) {
        let id = random.next(KEYS as u64) as i64;
        *n += 1;
        for table in [a, b] {
            if random.0 % 5 < 2 {
                transaction.delete(table, &[Value::Int64(id)]).unwrap();
            } else {
                transaction
                    .upsert(table, vec![Value::Int64(id), Value::Int64(*n)])
                    .unwrap();
            }
        }
    }
    transaction.submit().unwrap()
}

#[test]
fn threads_never_see_half_of_anything() {
    let seconds: u64 = std::env::var("STRESS_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(3);
    let folder = tempfile::tempdir().unwrap();
    let options = || Options {
        memory_budget_bytes: 20_000,
        segment_size_bytes_max: Some(40_000),
        ..Options::unmeasured()
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    let lakes: Arc<[Mutex<Lake>; 2]> = Arc::default();
    let mut round = 0u64;
    let mut expected: Option<(u64, BTreeMap<i64, i64>)> = None;
    while Instant::now() < end {
        round += 1;
        let database = Database::open(folder.path(), options()).unwrap();
        let (a, b) = (
            database.create_table(schema("s.a")).unwrap(),
            database.create_table(schema("s.b")).unwrap(),
        );
        if let Some((seq, rows)) = expected.take() {
            assert_eq!(database.durable_seq(), seq);
            assert_eq!(scan(&database.snapshot(), &a), rows);
        }
        for (table, lake) in [&a, &b].into_iter().zip(lakes.iter()) {
            settle(&database, &lake.lock().unwrap(), table);
            let held = lake.lock().unwrap();
            assert_eq!(database.exported(table).map_or(0, |e| e.seq), held.seq);
        }
        check_snapshot(&database, &a, &b, Some(&lakes[0]));
        check_snapshot(&database, &b, &a, Some(&lakes[1]));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for w in 0..2u64 {
                let (database, a, b, stop) = (&database, &a, &b, &stop);
                scope.spawn(move || {
                    let mut random = Random(round * 97 + w * 31 + 5);
                    let mut n = (round as i64) << 24 | (w as i64) << 20;
                    while !stop.load(Ordering::Relaxed) {
                        let handle = transaction(database, a, b, &mut random, &mut n);
                        if random.next(4) == 0 {
                            handle.wait().unwrap();
                        }
                    }
                });
            }
            for (table, lake) in [&a, &b].into_iter().zip(lakes.iter()) {
                let (database, stop) = (&database, &stop);
                scope.spawn(move || {
                    let mut random = Random(round * 13 + u64::from(table.id()) + 7);
                    let mut n = round << 20;
                    while !stop.load(Ordering::Relaxed) {
                        n += 1;
                        settle(database, &lake.lock().unwrap(), table);
                        export(
                            database,
                            table,
                            lake,
                            &mut random,
                            n << 1 | u64::from(table.id()),
                            true,
                        );
                    }
                });
            }
            for r in 0..3 {
                let (database, a, b, stop, lakes) = (&database, &a, &b, &stop, &lakes);
                let (folder, options) = (folder.path(), &options);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        match r {
                            0 => check_snapshot(database, a, b, Some(&lakes[0])),
                            1 => check_snapshot(database, b, a, None),
                            _ => {
                                let other = Database::open_read_only(folder, options()).unwrap();
                                if let (Some(a), Some(b)) = (other.table("s.a"), other.table("s.b"))
                                {
                                    check_snapshot(&other, &a, &b, None);
                                }
                            }
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(300 + round % 5 * 200));
            stop.store(true, Ordering::Relaxed);
        });
        let seq = {
            let handle = transaction(
                &database,
                &a,
                &b,
                &mut Random(round + 3),
                &mut ((round as i64) << 24 | 3 << 20),
            );
            handle.wait().unwrap()
        };
        expected = Some((seq, scan(&database.snapshot(), &a)));
    }
    eprintln!("{round} rounds, seq {:?}", expected.map(|e| e.0));
}
