//! Exports of more rows than a generation holds the locations of, which go into the tree by a load: *once* and *same*, also where a
//! crash or a full disk cuts them short, and within the memory that there is.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use moonshine_engine::io::{CrashStyle, SimulatedIo};
use moonshine_engine::{
    ColumnType, Database, Error, Export, ExportFile, Options, Placement, Result, Table,
    TableSchema, Value,
};
use uuid::Uuid;

/// Their locations take several times a generation.
const ROW_COUNT: i64 = 1_000;
const SOME: i64 = 20;
/// Of those that the first export has, so many are gone in the second.
const GONE: i64 = 5;
const SECOND: u128 = 2;

fn schema() -> TableSchema {
    let schema = TableSchema::builder("t")
        .column("id", ColumnType::Int64, false)
        .primary_key(["id"]);
    schema.build().unwrap()
}

fn open(io: &SimulatedIo) -> (Database, Table) {
    let options = Options {
        io: Arc::new(io.clone()),
        generation_size_bytes_max: Some(10_000),
        segment_size_bytes_max: Some(20_000),
        ..Options::unmeasured()
    };
    let database = Database::open(Path::new("/db"), options).unwrap();
    let table = database.create_table(schema()).unwrap();
    (database, table)
}

fn upsert(database: &Database, table: &Table, ids: impl Iterator<Item = i64>) {
    let mut transaction = database.begin();
    for id in ids {
        transaction.upsert(table, vec![Value::Int64(id)]).unwrap();
    }
    transaction.commit().unwrap();
}

fn files(files: &[(&str, i64)]) -> Vec<ExportFile> {
    let file = |&(path, row_count): &(&str, i64)| ExportFile {
        path: path.into(),
        row_count: row_count as u64,
    };
    files.iter().map(file).collect()
}

/// A table with an export of some rows, and more that were written since.
fn exported_in_part(io: &SimulatedIo) -> (Database, Table) {
    let (database, table) = open(io);
    upsert(&database, &table, 0..SOME);
    let mut export = database.begin_export(&table, &database.snapshot()).unwrap();
    export
        .prepare(Uuid::from_u128(1), &files(&[("first", SOME)]))
        .unwrap();
    export.commit("first".into()).unwrap();
    let mut transaction = database.begin();
    for id in 0..GONE {
        transaction.delete(&table, &[Value::Int64(id)]).unwrap();
    }
    transaction.commit().unwrap();
    upsert(&database, &table, SOME..SOME + ROW_COUNT);
    (database, table)
}

/// An export of the rest, but for the last step.
fn prepared_rest(database: &Database, table: &Table) -> Result<Export> {
    let mut export = database.begin_export(table, &database.snapshot())?;
    let rest = files(&[("a", 300), ("b", ROW_COUNT - 300)]);
    export.prepare(Uuid::from_u128(SECOND), &rest)?;
    Ok(export)
}

/// Exports the rest; says of `catalog_holds` whether a catalog was told of it.
fn export_rest(database: &Database, table: &Table, catalog_holds: &mut bool) -> Result<()> {
    let export = prepared_rest(database, table)?;
    *catalog_holds = true;
    export.commit("second".into())
}

/// All rows lie where the catalog says.
fn check(database: &Database, table: &Table, is_second: bool) {
    let token = if is_second { "second" } else { "first" };
    assert_eq!(database.exported(table).unwrap().token, token);
    let mut paths: Vec<_> = database.export_files(table);
    paths.sort();
    let known: &[&str] = if is_second {
        &["a", "b", "first"]
    } else {
        &["first"]
    };
    assert_eq!(paths.iter().map(|path| &**path).collect::<Vec<_>>(), known);

    let place = |path: &str, positions: std::ops::Range<i64>| {
        let path: Arc<str> = path.into();
        positions.map(move |position| Placement {
            file: path.clone(),
            position: position as u64,
        })
    };
    let mut expected: Vec<_> = place("first", if is_second { GONE } else { 0 }..SOME).collect();
    if is_second {
        expected.extend(place("a", 0..300).chain(place("b", 0..ROW_COUNT - 300)));
    }
    expected.sort();
    let emptied = database.snapshot().row_count(table).unwrap() == 0;
    if !emptied {
        let mut transaction = database.begin();
        transaction.truncate(table).unwrap();
        transaction.commit().unwrap();
    }
    let changes = database.changes(table, &database.snapshot()).unwrap();
    assert!(changes.removed().iter().eq(expected));
}

fn settle(database: &Database, catalog_holds: bool) {
    for pending in database.pending_exports() {
        assert_eq!(pending.commit_id(), Uuid::from_u128(SECOND));
        match catalog_holds {
            true => pending.commit("second".into()).unwrap(),
            false => pending.abort().unwrap(),
        }
    }
    assert!(database.pending_exports().is_empty());
}

#[test]
fn a_crash_at_any_write_of_a_large_export_leaves_it_done_or_pending() {
    let styles = [
        CrashStyle::LoseUnsynced,
        CrashStyle::KeepUnsynced,
        CrashStyle::TearUnsynced(9),
    ];
    for style in styles {
        for passing in 0.. {
            let io = SimulatedIo::new(1);
            let (database, table) = exported_in_part(&io);
            io.fail_writes_after(passing);
            let mut catalog_holds = false;
            let exported = export_rest(&database, &table, &mut catalog_holds);
            let io = io.crash(style);
            drop((table, database));

            let (database, table) = open(&io);
            settle(&database, catalog_holds);
            check(&database, &table, catalog_holds);
            database.flush().unwrap();
            drop((table, database));
            let (database, table) = open(&io);
            check(&database, &table, catalog_holds);
            if exported.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn a_large_export_whose_locations_find_no_space_is_pending() {
    let mut refused = 0;
    for writes in 0.. {
        let io = SimulatedIo::new(1);
        let (database, table) = exported_in_part(&io);
        let export = prepared_rest(&database, &table).unwrap();
        io.fill_after(Some(writes));
        match export.commit("second".into()) {
            Ok(()) => {
                assert!(refused > 3, "{refused}");
                io.fill_after(None);
                return check(&database, &table, true);
            }
            Err(Error::NoSpace { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        // Again without success, and again as often as it takes.
        let settled = database.pending_exports().pop().unwrap();
        let is_settled = settled.commit("second".into()).is_ok();
        io.fill_after(None);
        if !is_settled {
            settle(&database, true);
        }
        check(&database, &table, true);
    }
}

/// The tree has the locations a moment before the log has the outcome.
#[test]
fn an_export_that_took_effect_is_not_aborted() {
    let mut passing = 0;
    // When that is depends on threads.
    for _ in 0..10_000 {
        let io = SimulatedIo::new(1);
        let (database, table) = exported_in_part(&io);
        io.fail_writes_after(passing);
        let exported = export_rest(&database, &table, &mut false);
        passing = if exported.is_ok() { 0 } else { passing + 1 };
        let io = io.crash(CrashStyle::KeepUnsynced);
        drop((table, database));
        let (database, table) = open(&io);
        let is_placed = database.exported(&table).unwrap().token == "second";
        let Some(pending) = database.pending_exports().pop().filter(|_| is_placed) else {
            continue;
        };
        pending.abort().unwrap();
        check(&database, &table, true);
        drop((table, database));
        let (database, table) = open(&io);
        assert!(database.pending_exports().is_empty());
        return check(&database, &table, true);
    }
    panic!("none was placed and pending");
}

/// *Same*: who looks for changes beside an export finds them all, or none.
#[test]
fn changes_beside_a_large_export_are_those_before_it_or_after_it() {
    let is_over = AtomicBool::new(false);
    let io = SimulatedIo::new(1);
    let (database, table) = exported_in_part(&io);
    export_rest(&database, &table, &mut false).unwrap();
    std::thread::scope(|threads| {
        let look = || {
            while !is_over.load(Ordering::Relaxed) {
                let snapshot = database.snapshot();
                let changes = match database.changes(&table, &snapshot) {
                    Ok(changes) => changes,
                    // The export is of a later snapshot by now.
                    Err(Error::Usage(why)) if why.contains("the snapshot is older") => continue,
                    Err(error) => panic!("{error}"),
                };
                let (new, removed) = (changes.row_count(), changes.removed().row_count());
                assert!(removed == 0 || removed == new, "{removed} of {new}");
            }
        };
        (0..2).for_each(|_| drop(threads.spawn(look)));
        for number in 10..60 {
            // The same rows again, each in the place of one that was exported.
            upsert(&database, &table, SOME..SOME + ROW_COUNT);
            let mut export = database.begin_export(&table, &database.snapshot()).unwrap();
            let path = number.to_string();
            export
                .prepare(Uuid::from_u128(number), &files(&[(&path, ROW_COUNT)]))
                .unwrap();
            export.commit(path).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn the_locations_of_a_large_export_are_not_held_in_memory() {
    const GENERATION_SIZE_BYTES: u64 = 256 << 10;
    const ROWS: i64 = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        memory_budget_bytes: 16 << 20,
        generation_size_bytes_max: Some(GENERATION_SIZE_BYTES),
        ..Options::unmeasured()
    };
    let database = Database::open(folder.path(), options).unwrap();
    let table = database.create_table(schema()).unwrap();
    let mut load = database.bulk_load(&table).unwrap();
    for id in 0..ROWS {
        load.upsert(vec![Value::Int64(id)]).unwrap();
    }
    load.finish().unwrap();
    let mut export = database.begin_export(&table, &database.snapshot()).unwrap();
    export
        .prepare(Uuid::from_u128(1), &files(&[("all", ROWS)]))
        .unwrap();
    let is_over = AtomicBool::new(false);
    let generation_bytes_max = std::thread::scope(|threads| {
        let watching = threads.spawn(|| {
            let mut most = 0;
            while !is_over.load(Ordering::Relaxed) {
                most = most.max(database.statistics().memory.generation_bytes);
            }
            most
        });
        export.commit("all".into()).unwrap();
        is_over.store(true, Ordering::Relaxed);
        watching.join().unwrap()
    });
    assert!(
        generation_bytes_max <= GENERATION_SIZE_BYTES,
        "{generation_bytes_max}"
    );
    let mut transaction = database.begin();
    transaction.delete(&table, &[Value::Int64(77)]).unwrap();
    transaction.commit().unwrap();
    let changes = database.changes(&table, &database.snapshot()).unwrap();
    let places: Vec<u64> = changes.removed().iter().map(|one| one.position).collect();
    assert_eq!(places, [77]);
}
