//! Relocations of exported rows, where a crash cuts them short: *once* and *same*. What they do to the rows is in `model.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch};
use moonshine_engine::io::{CrashStyle, SimulatedIo};
use moonshine_engine::{
    ColumnType, Database, Error, ExportFile, Options, Placement, Result, Table, TableSchema, Value,
};
use uuid::Uuid;

const ROW_COUNT: i64 = 300;
const OLD: &str = "old";
const NEW: &str = "new";

/// A generation holds the locations of all rows, or does not, so that they go into the tree by a load.
const GENERATION_SIZES_BYTES: [u64; 2] = [40_000, 10_000];

fn open(io: &SimulatedIo) -> (Database, Table) {
    open_with(io, GENERATION_SIZES_BYTES[0])
}

fn open_with(io: &SimulatedIo, generation_size_bytes: u64) -> (Database, Table) {
    let options = Options {
        io: Arc::new(io.clone()),
        generation_size_bytes_max: Some(generation_size_bytes),
        segment_size_bytes_max: Some(20_000),
        ..Options::unmeasured()
    };
    let database = Database::open(Path::new("/db"), options).unwrap();
    let schema = TableSchema::builder("t")
        .column("id", ColumnType::Int64, false)
        .primary_key(["id"]);
    let table = database.create_table(schema.build().unwrap()).unwrap();
    (database, table)
}

fn file(path: &str) -> [ExportFile; 1] {
    [ExportFile {
        path: path.into(),
        row_count: ROW_COUNT as u64,
    }]
}

/// A database whose rows were exported to one file.
fn exported(io: &SimulatedIo) -> (Database, Table) {
    exported_with(io, GENERATION_SIZES_BYTES[0])
}

fn exported_with(io: &SimulatedIo, generation_size_bytes: u64) -> (Database, Table) {
    let (database, table) = open_with(io, generation_size_bytes);
    let mut transaction = database.begin();
    for id in 0..ROW_COUNT {
        transaction.upsert(&table, vec![Value::Int64(id)]).unwrap();
    }
    transaction.commit().unwrap();
    let mut export = database.begin_export(&table, &database.snapshot()).unwrap();
    export.prepare(Uuid::from_u128(1), &file(OLD)).unwrap();
    export.commit("first".into()).unwrap();
    (database, table)
}

fn log_bytes(io: &SimulatedIo) -> usize {
    let log = |(path, len): (PathBuf, usize)| path.starts_with("/db/log").then_some(len);
    io.files().into_iter().filter_map(log).sum()
}

fn keys() -> RecordBatch {
    let ids = Arc::new(Int64Array::from_iter_values(0..ROW_COUNT)) as _;
    RecordBatch::try_from_iter([("id", ids)]).unwrap()
}

/// Moves the rows; says of `catalog_holds` whether a catalog was told of it.
fn relocate(database: &Database, table: &Table, catalog_holds: &mut bool) -> Result<()> {
    let row_ids: Vec<u64> = (1000..).take(ROW_COUNT as usize).collect();
    let commit_id = Uuid::from_u128(2);
    let mut relocation = database.begin_relocation(table, commit_id, &[OLD.into()])?;
    relocation.add(&keys(), Some(&row_ids))?;
    relocation.prepare(&file(NEW))?;
    *catalog_holds = true;
    relocation.commit("second".into())
}

/// All rows lie where the catalog says.
fn check(database: &Database, table: &Table, is_moved: bool) {
    let exported = database.exported(table).unwrap();
    let token = if is_moved { "second" } else { "first" };
    assert_eq!((exported.seq, exported.token.as_str()), (1, token));
    let mut transaction = database.begin();
    for id in 0..ROW_COUNT {
        transaction.upsert(table, vec![Value::Int64(id)]).unwrap();
    }
    transaction.commit().unwrap();
    let export = database.begin_export(table, &database.snapshot()).unwrap();
    assert_eq!(export.replaced_count(), ROW_COUNT as u64);
    for (number, replaced) in (0..).zip(export.replaced()) {
        let replaced = replaced.unwrap();
        let path = if is_moved { NEW } else { OLD };
        assert_eq!(replaced.placement.file.as_ref(), path);
        assert_eq!(
            (replaced.row, replaced.placement.position),
            (number, number)
        );
        assert_eq!(replaced.row_id, is_moved.then_some(1000 + number));
    }
}

#[test]
fn a_crash_at_any_write_leaves_all_rows_in_one_place() {
    let styles = [
        CrashStyle::LoseUnsynced,
        CrashStyle::KeepUnsynced,
        CrashStyle::TearUnsynced(9),
    ];
    let both = |style| GENERATION_SIZES_BYTES.map(|size_bytes| (style, size_bytes));
    for (style, size_bytes) in styles.into_iter().flat_map(both) {
        for passing in 0.. {
            let io = SimulatedIo::new(1);
            let (database, table) = exported_with(&io, size_bytes);
            io.fail_writes_after(passing);
            let mut catalog_holds = false;
            let moved = relocate(&database, &table, &mut catalog_holds);
            let io = io.crash(style);
            drop((table, database));

            let (database, table) = open_with(&io, size_bytes);
            for pending in database.pending_exports() {
                assert!(pending.is_relocation());
                assert_eq!(pending.files()[0].path, NEW);
                match catalog_holds {
                    true => pending.commit("second".into()).unwrap(),
                    false => pending.abort().unwrap(),
                }
            }
            check(&database, &table, catalog_holds);
            database.flush().unwrap();
            drop((table, database));
            let (database, table) = open_with(&io, size_bytes);
            check(&database, &table, catalog_holds);
            if moved.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn what_is_no_relocation_is_refused_and_leaves_nothing() {
    let io = SimulatedIo::new(1);
    let (database, table) = open(&io);
    let begin = |files: &[&str]| {
        let files: Vec<String> = files.iter().map(|&file| file.into()).collect();
        database.begin_relocation(&table, Uuid::from_u128(2), &files)
    };
    assert!(matches!(begin(&[OLD]), Err(Error::Usage(_))));
    drop((database, table));
    let (database, table) = exported(&SimulatedIo::new(1));
    let commit_ids = std::cell::Cell::new(10);
    let begin = |files: &[&str]| {
        let files: Vec<String> = files.iter().map(|&file| file.into()).collect();
        commit_ids.set(commit_ids.get() + 1);
        database.begin_relocation(&table, Uuid::from_u128(commit_ids.get()), &files)
    };
    for files in [&[][..], &["unknown"], &[OLD, "unknown"]] {
        assert!(matches!(begin(files), Err(Error::Usage(_))), "{files:?}");
    }
    // Not all rows, none of them, or one twice.
    let some = keys().slice(0, 299);
    let twice = RecordBatch::try_from_iter([(
        "id",
        Arc::new(Int64Array::from_iter_values((0..ROW_COUNT).chain([0]))) as _,
    )]);
    for (batch, row_count) in [(some, 299), (keys().slice(0, 0), 0), (twice.unwrap(), 301)] {
        let mut relocation = begin(&[OLD]).unwrap();
        relocation.add(&batch, None).unwrap();
        let files = [ExportFile {
            path: NEW.into(),
            row_count,
        }];
        let refused = relocation.prepare(&files);
        assert!(matches!(refused, Err(Error::Usage(_))), "{refused:?}");
        drop(relocation);
        assert!(database.pending_exports().is_empty());
    }
    // An export that came in between.
    let mut relocation = begin(&[OLD]).unwrap();
    relocation.add(&keys(), None).unwrap();
    let mut transaction = database.begin();
    transaction.upsert(&table, vec![Value::Int64(0)]).unwrap();
    transaction.commit().unwrap();
    let mut export = database.begin_export(&table, &database.snapshot()).unwrap();
    let later = [ExportFile {
        path: "later".into(),
        row_count: 1,
    }];
    export.prepare(Uuid::from_u128(3), &later).unwrap();
    assert!(relocation.is_current());
    export.commit("later".into()).unwrap();
    assert!(!relocation.is_current());
    assert!(relocation.prepare(&file(NEW)).is_err());
    drop(relocation);

    let mut relocation = begin(&[OLD]).unwrap();
    assert!(relocation.add(&keys(), Some(&[1, 2])).is_err());
    relocation.add(&keys(), None).unwrap();
    let dead = relocation.prepare(&file(NEW)).unwrap();
    assert_eq!(
        dead.iter()
            .map(|placement| placement.position)
            .collect::<Vec<_>>(),
        [0]
    );
    assert!(relocation.prepare(&file(NEW)).is_err());
    relocation.commit("second".into()).unwrap();
    let exported = database.exported(&table).unwrap();
    assert_eq!(exported.token, "second");
}

/// *Same*: which rows count no more is told of each of several files.
#[test]
fn dead_rows_are_told_file_by_file() {
    let io = SimulatedIo::new(1);
    let (database, table) = exported(&io);
    let anew = [0, 99, 100, 250];
    let mut transaction = database.begin();
    for id in anew {
        transaction.upsert(&table, vec![Value::Int64(id)]).unwrap();
    }
    transaction.commit().unwrap();
    let files = |files: &[(&str, u64)]| -> Vec<ExportFile> {
        let file = |&(path, row_count): &(&str, u64)| ExportFile {
            path: path.into(),
            row_count,
        };
        files.iter().map(file).collect()
    };
    let mut export = database.begin_export(&table, &database.snapshot()).unwrap();
    let later = files(&[("later", anew.len() as u64)]);
    export.prepare(Uuid::from_u128(2), &later).unwrap();
    export.commit("later".into()).unwrap();

    let mut relocation = database
        .begin_relocation(&table, Uuid::from_u128(3), &[OLD.into()])
        .unwrap();
    relocation.add(&keys(), None).unwrap();
    let moved = files(&[("a", 100), ("b", 150), ("c", 50)]);
    let dead = relocation.prepare(&moved).unwrap();
    let place = |(path, position): (&str, u64)| Placement {
        file: path.into(),
        position,
    };
    let expected = [("a", 0), ("a", 99), ("b", 0), ("c", 0)].map(place);
    assert!(dead.iter().eq(expected));
    relocation.commit("moved".into()).unwrap();

    let mut transaction = database.begin();
    for id in [1, 101, 299, 250] {
        transaction.delete(&table, &[Value::Int64(id)]).unwrap();
    }
    transaction.commit().unwrap();
    let changes = database.changes(&table, &database.snapshot()).unwrap();
    let removed: Vec<Placement> = changes.removed().iter().collect();
    let expected = [("a", 1), ("b", 1), ("c", 49), ("later", 3)].map(place);
    assert_eq!(removed, expected);
}

/// *Once*: keys that an export left in the log before it failed are none of a later one's, and hold no log.
#[test]
fn a_commit_id_is_of_one_export() {
    // More than a record of keys.
    const KEY_COUNT: i64 = 100_000;
    let all = [ExportFile {
        path: OLD.into(),
        row_count: KEY_COUNT as u64,
    }];
    let commit_id = Uuid::from_u128(1);
    for writes in 0.. {
        let io = SimulatedIo::new(1);
        let (database, table) = open(&io);
        let mut transaction = database.begin();
        for id in 0..KEY_COUNT {
            transaction.upsert(&table, vec![Value::Int64(id)]).unwrap();
        }
        transaction.commit().unwrap();
        database.flush().unwrap();
        let mut export = database.begin_export(&table, &database.snapshot()).unwrap();
        io.fill_after(Some(writes));
        let prepared = export.prepare(commit_id, &all);
        io.fill_after(None);
        if prepared.is_ok() {
            assert!(writes > 0, "a full disk takes no keys");
            return;
        }
        assert!(
            matches!(prepared, Err(Error::NoSpace { .. })),
            "{prepared:?}"
        );
        drop(export);
        let mut export = database.begin_export(&table, &database.snapshot()).unwrap();
        let refused = export.prepare(commit_id, &all);
        assert!(
            matches!(&refused, Err(Error::Usage(reason)) if reason.contains("tried before")),
            "{refused:?}"
        );
        drop(export);
        // A log goes with a flush, and that needs a row.
        let mut transaction = database.begin();
        transaction.upsert(&table, vec![Value::Int64(0)]).unwrap();
        transaction.commit().unwrap();
        database.flush().unwrap();
        assert!(log_bytes(&io) < 100_000, "{} bytes of log", log_bytes(&io));
        drop((table, database));

        // What of the keys came into the log is not known; it went with its segment.
        let (database, table) = open(&io);
        let mut export = database.begin_export(&table, &database.snapshot()).unwrap();
        match export.prepare(commit_id, &all) {
            Ok(()) => export.abort().unwrap(),
            Err(error) => assert!(matches!(error, Error::Usage(_)), "{error}"),
        }
        drop((table, database));
        let (database, table) = open(&io);
        let mut export = database.begin_export(&table, &database.snapshot()).unwrap();
        export.prepare(Uuid::from_u128(2), &all).unwrap();
        export.commit("first".into()).unwrap();
        drop((table, database));
        let (database, table) = open(&io);
        assert_eq!(database.exported(&table).unwrap().token, "first");
    }
}

/// *Bounded*: nothing but relocations happens to a database, and what they say is flushed all the same.
#[test]
fn relocations_of_an_idle_database_leave_the_log() {
    let io = SimulatedIo::new(1);
    let (database, table) = exported(&io);
    let mut path = OLD.to_owned();
    for number in 0..60 {
        let commit_id = Uuid::from_u128(100 + number);
        let mut relocation = database
            .begin_relocation(&table, commit_id, &[path])
            .unwrap();
        relocation.add(&keys(), None).unwrap();
        path = format!("{NEW} {number}");
        relocation.prepare(&file(&path)).unwrap();
        relocation.commit(format!("token {number}")).unwrap();
    }
    database.flush().unwrap();
    assert!(log_bytes(&io) < 100_000, "{} bytes of log", log_bytes(&io));
    drop((table, database));
    let (database, table) = open(&io);
    assert_eq!(database.exported(&table).unwrap().token, "token 59");
    let found: Vec<String> = database
        .export_files(&table)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found, [path]);
}

/// Rows that were exported anew while they were moved take no room in the generation that the others' locations go to.
#[test]
fn rows_that_count_no_more_take_no_memory() {
    const ROW_COUNT: i64 = 20_000;
    let (database, table) = open_with(&SimulatedIo::new(1), 1 << 20);
    let export = |ids: std::ops::Range<i64>, number: u128| {
        let mut transaction = database.begin();
        for id in ids.clone() {
            transaction.upsert(&table, vec![Value::Int64(id)]).unwrap();
        }
        transaction.commit().unwrap();
        let mut export = database.begin_export(&table, &database.snapshot()).unwrap();
        let file = ExportFile {
            path: number.to_string(),
            row_count: ids.count() as u64,
        };
        export.prepare(Uuid::from_u128(number), &[file]).unwrap();
        export.commit(number.to_string()).unwrap();
    };
    export(0..ROW_COUNT, 1);
    export(5..ROW_COUNT, 2);
    database.flush().unwrap();
    let mut relocation = database
        .begin_relocation(&table, Uuid::from_u128(3), &["1".into()])
        .unwrap();
    let ids = Arc::new(Int64Array::from_iter_values(0..ROW_COUNT)) as _;
    let keys = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    relocation.add(&keys, None).unwrap();
    let before = database.statistics().memory.generation_bytes;
    let moved = ExportFile {
        path: NEW.into(),
        row_count: ROW_COUNT as u64,
    };
    relocation.prepare(&[moved]).unwrap();
    relocation.commit("3".into()).unwrap();
    let taken = database.statistics().memory.generation_bytes - before;
    assert!(taken < 20_000, "{taken} bytes");
    let mut transaction = database.begin();
    transaction.delete(&table, &[Value::Int64(4)]).unwrap();
    transaction.delete(&table, &[Value::Int64(5)]).unwrap();
    transaction.commit().unwrap();
    let changes = database.changes(&table, &database.snapshot()).unwrap();
    let placements = [("2", 0), (NEW, 4)].map(|(path, position)| Placement {
        file: path.into(),
        position,
    });
    assert!(changes.removed().iter().eq(placements));
}
