//! Writes that find no space now and then, while several clients commit: what was refused never takes effect, what was
//! acknowledged does.

use std::sync::Arc;

use moonshine_engine::io::{
    CrashStyle, Fault, FaultPlan, FaultRule, FileKind, Lasts, NamesStyle, Operation, SimulatedIo,
};
use moonshine_engine::{
    ColumnType, Database, Durability, Error, Options, Origin, Table, TableSchema, Value,
};

const CLIENTS: i64 = 4;
const COMMITS: i64 = 25;

fn options(io: &SimulatedIo) -> Options {
    Options {
        io: Arc::new(io.clone()),
        segment_size_bytes_max: Some(4096),
        generation_size_bytes_max: Some(4000),
        fragment_size_bytes_max: Some(4000),
        memory_budget_bytes: 40_000,
        profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
        ..Options::unmeasured()
    }
}

fn table(database: &Database) -> Table {
    let schema = TableSchema::builder("counts")
        .column("id", ColumnType::Int64, false)
        .column("count", ColumnType::Int64, false)
        .primary_key(["id"])
        .build()
        .unwrap();
    database.create_table(schema).unwrap()
}

/// What is there of a client: its row, and how far its source has come.
fn found(database: &Database, client: i64) -> (i64, i64) {
    let counts = table(database);
    let row = database.snapshot().get(&counts, &[Value::Int64(client)]);
    let count = match row.unwrap().map(|row| row[1].clone()) {
        Some(Value::Int64(count)) => count,
        other => panic!("{other:?}"),
    };
    let origin = database.origin(&format!("client {client}")).unwrap();
    (count, origin.position.parse().unwrap())
}

/// Commits numbers, each under another one than what was refused; returns the last that was acknowledged.
fn commit_all(database: &Database, counts: &Table, client: i64, seed: u64) -> i64 {
    let mut acknowledged = 0;
    let mut waiting = Vec::new();
    for n in 1..=COMMITS {
        let kind = (seed + n as u64 * 7 + client as u64) % 5;
        let submit = || {
            let mut transaction = database.begin();
            let row = vec![Value::Int64(client), Value::Int64(n)];
            transaction.upsert(counts, row).unwrap();
            transaction.set_origin(Origin {
                source: format!("client {client}"),
                position: n.to_string(),
            });
            if kind < 2 {
                transaction.set_durability(Durability::Buffered);
            }
            transaction.submit()
        };
        // Until something finds space again, nothing is queued.
        let handle = loop {
            match submit() {
                Ok(handle) => break handle,
                Err(Error::NoSpace { .. }) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        waiting.push((n, handle));
        if kind == 4 {
            continue;
        }
        for (n, handle) in waiting.drain(..) {
            match handle.wait() {
                Ok(_) => acknowledged = n,
                Err(Error::NoSpace { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    for (n, handle) in waiting {
        if handle.wait().is_ok() {
            acknowledged = n;
        }
    }
    acknowledged
}

/// *Durable*, *once*: a commit that found no space is not there, also not after the next start, and no origin speaks of it.
#[test]
fn what_found_no_space_never_takes_effect() {
    let mut refused = 0;
    for seed in 0..10 {
        let disk = SimulatedIo::new(seed);
        let database = Database::open("/db", options(&disk)).unwrap();
        let counts = table(&database);
        let rule = |files, per_million| FaultRule {
            operation: Operation::Write,
            files: Some(files),
            fault: Fault::NoSpace,
            per_million,
            lasts: Lasts::Once,
        };
        disk.set_faults(FaultPlan {
            seed,
            rules: vec![
                rule(FileKind::Log, [20_000, 100_000, 400_000][seed as usize % 3]),
                rule(FileKind::Edits, 100_000),
                rule(FileKind::Delta, 50_000),
            ],
            ..FaultPlan::default()
        });
        let acknowledged: Vec<i64> = std::thread::scope(|scope| {
            let clients = (0..CLIENTS).map(|client| {
                let (database, counts) = (&database, &counts);
                scope.spawn(move || commit_all(database, counts, client, seed))
            });
            let clients: Vec<_> = clients.collect();
            clients
                .into_iter()
                .map(|client| client.join().unwrap())
                .collect()
        });
        refused += disk.fault_counts().of(Operation::Write, Fault::NoSpace);
        disk.set_faults(FaultPlan::default());
        database.sync().unwrap();
        let check = |database: &Database, when: &str| {
            for (client, &last) in (0..).zip(&acknowledged) {
                assert!(
                    last > 0,
                    "seed {seed}: {acknowledged:?}, {:?}",
                    disk.fault_counts()
                );
                assert_eq!(found(database, client), (last, last), "seed {seed}, {when}");
            }
        };
        check(&database, "before the crash");
        let style = CrashStyle::TearUnsynced(seed);
        let after = disk.crash_image(style, NamesStyle::Any(seed));
        drop(database);
        check(
            &Database::open("/db", options(&after)).unwrap(),
            "after the crash",
        );
        check(
            &Database::open("/db", options(&disk)).unwrap(),
            "after the close",
        );
    }
    assert!(refused > 50, "{refused}");
}
