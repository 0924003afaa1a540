//! Outcomes of exports, what a start calls durable, and rows that look like the log.

use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::{CrashStyle, Io, OpenMode, SimulatedIo};
use moonshine_engine::{
    ColumnType, Database, Error, ExportFile, Options, Table, TableSchema, Value,
};

fn open(io: &SimulatedIo) -> Result<Database, Error> {
    Database::open(
        Path::new("/db"),
        Options {
            io: Arc::new(io.clone()),
            ..Options::unmeasured()
        },
    )
}
fn table(database: &Database) -> Table {
    database
        .create_table(
            TableSchema::builder("t")
                .column("id", ColumnType::Int64, false)
                .primary_key(["id"])
                .build()
                .unwrap(),
        )
        .unwrap()
}
fn write(database: &Database, table: &Table, id: i64) -> Result<u64, Error> {
    let mut transaction = database.begin();
    transaction.upsert(table, vec![Value::Int64(id)]).unwrap();
    transaction.commit()
}

/// A process that dies between a write and its sync leaves a block in the page cache; what the next start reads of it,
/// and calls durable, survives a power failure right after.
#[test]
fn what_a_start_calls_durable_survives_a_power_failure() {
    let io = SimulatedIo::new(1);
    let database = open(&io).unwrap();
    let t = table(&database);
    write(&database, &t, 1).unwrap();
    io.fail_syncs(true);
    write(&database, &t, 2).unwrap_err();
    let after_kill = io.crash(CrashStyle::KeepUnsynced);
    let database = open(&after_kill).unwrap();
    let durable = database.durable_seq();
    let after_power = after_kill.crash(CrashStyle::LoseUnsynced);
    assert_eq!(open(&after_power).unwrap().durable_seq(), durable);
}

#[test]
fn a_pending_export_is_resolved_once() {
    let io = SimulatedIo::new(1);
    let database = open(&io).unwrap();
    let t = table(&database);
    write(&database, &t, 1).unwrap();
    let mut export = database.begin_export(&t, &database.snapshot()).unwrap();
    export
        .prepare(
            uuid::Uuid::from_u128(1),
            &[ExportFile {
                path: "f".into(),
                row_count: 1,
            }],
        )
        .unwrap();
    drop(export);
    let (first, second) = (
        database.pending_exports().remove(0),
        database.pending_exports().remove(0),
    );
    first.commit("1".into()).unwrap();
    second.abort().unwrap_err();
    drop((t, database));
    open(&io).unwrap();
}

#[test]
fn an_export_outlives_its_database_without_a_panic() {
    let io = SimulatedIo::new(1);
    let database = open(&io).unwrap();
    let t = table(&database);
    write(&database, &t, 1).unwrap();
    let mut export = database.begin_export(&t, &database.snapshot()).unwrap();
    drop(database);
    let _ = export.prepare(
        uuid::Uuid::from_u128(1),
        &[ExportFile {
            path: "f".into(),
            row_count: 1,
        }],
    );
}

/// A row may hold a copy of the log itself; its blocks verify, but say nothing of the block before them.
#[test]
fn a_row_that_holds_a_copy_of_the_log_does_not_hide_damage() {
    let io = SimulatedIo::new(1);
    let database = open(&io).unwrap();
    let schema = TableSchema::builder("copies")
        .column("id", ColumnType::Int64, false)
        .column("copy", ColumnType::Binary, false)
        .primary_key(["id"])
        .build()
        .unwrap();
    let copies = database.create_table(schema).unwrap();
    let path = Path::new("/db/log/log-00000001.mlog");
    let read = || {
        let file = io.open(path, OpenMode::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len_bytes().unwrap()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        // What it holds so far is followed by zeros.
        let len = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        bytes.truncate(len);
        bytes
    };
    let mut damaged_at = 0;
    for id in 0..3 {
        let log = read();
        if id == 1 {
            damaged_at = log.len() + 60;
        }
        let mut transaction = database.begin();
        transaction
            .upsert(&copies, vec![Value::Int64(id), Value::Binary(log)])
            .unwrap();
        transaction.commit().unwrap();
    }
    let crashed = io.crash(CrashStyle::KeepUnsynced);
    crashed.damage(path, damaged_at, 1).unwrap();
    let error = open(&crashed).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}
