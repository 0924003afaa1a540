//! Checking a database: all that is damaged is named, and nothing else.
//!
//! Defends *honest*: whatever byte is flipped, the check names the file, or the byte is of no use and every row is as it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use moonshine_engine::io::{CrashStyle, Io, OpenMode, SimulatedIo};
use moonshine_engine::{
    Check, ColumnType, Database, Error, ExportFile, Options, Scan, ScanOrder, Table, TableSchema,
    Value,
};
use uuid::Uuid;

fn options(io: &SimulatedIo) -> Options {
    Options {
        io: Arc::new(io.clone()),
        segment_size_bytes_max: Some(2048),
        generation_size_bytes_max: Some(4096),
        fragment_size_bytes_max: Some(4096),
        ..Options::unmeasured()
    }
}

fn open(io: &SimulatedIo) -> Result<Database, Error> {
    Database::open(Path::new("/db"), options(io))
}

fn check(io: &SimulatedIo) -> Check {
    Database::check("/db", &options(io)).unwrap()
}

fn table(database: &Database) -> Table {
    let schema = TableSchema::builder("rows")
        .column("id", ColumnType::Int64, false)
        .column("text", ColumnType::Utf8, false)
        .primary_key(["id"])
        .build()
        .unwrap();
    database.create_table(schema).unwrap()
}

fn write(database: &Database, ids: std::ops::Range<i64>, text: &str) {
    let table = table(database);
    let mut transaction = database.begin();
    for id in ids {
        let row = vec![Value::Int64(id), Value::Utf8(format!("{text} {id}"))];
        transaction.upsert(&table, row).unwrap();
    }
    transaction.commit().unwrap();
}

/// All rows as text; an error of any kind ends it.
fn read(database: &Database) -> Result<String, Error> {
    let mut found = String::new();
    let table = table(database);
    let ascending = Scan {
        order: ScanOrder::Ascending,
        ..Scan::default()
    };
    for batch in database.snapshot().scan(&table, ascending)? {
        found.push_str(&format!("{:?}", batch?));
    }
    Ok(found)
}

/// Divided fragments, patches or small RowSets, an export with its locations, and a log behind them.
fn filled(io: &SimulatedIo) -> String {
    let database = open(io).unwrap();
    for round in 0..6 {
        write(&database, round * 20..round * 20 + 60, "first");
    }
    database.flush().unwrap();
    database.compact().unwrap();
    let rows = table(&database);
    let mut export = database.begin_export(&rows, &database.snapshot()).unwrap();
    let files = [ExportFile {
        path: "one".into(),
        row_count: export.row_count(),
    }];
    export.prepare(Uuid::from_u128(1), &files).unwrap();
    export.commit("token".into()).unwrap();
    write(&database, 5..30, "second");
    database.flush().unwrap();
    database.compact().unwrap();
    drop(database);
    // What follows stays in the log, in several segments.
    let larger = Options {
        generation_size_bytes_max: Some(1 << 20),
        ..options(io)
    };
    let database = Database::open("/db", larger).unwrap();
    for id in 40..60 {
        write(&database, id..id + 10, "third");
    }
    read(&database).unwrap()
}

#[test]
fn a_sound_database_has_no_problems_and_is_counted() {
    let io = SimulatedIo::new(1);
    filled(&io);
    let before = io.files();
    let found = check(&io);
    assert_eq!(found.problems, []);
    assert_eq!(found.unnamed_files, Vec::<PathBuf>::new());
    assert_eq!(found.tables, 1);
    assert!(found.row_sets > 4 && found.rows >= 160 + 160, "{found:?}");
    assert!(found.fragments > 3 && found.delta_files > 0, "{found:?}");
    assert!(found.log_rows >= 10 && found.edits > 2, "{found:?}");
    assert_eq!(io.files(), before, "a check changes nothing");
    assert!(matches!(
        Database::check("/nowhere", &options(&io)),
        Err(Error::Usage(_))
    ));
}

#[test]
fn any_flipped_byte_is_named_or_of_no_use() {
    let io = SimulatedIo::new(1);
    let expected = filled(&io);
    let (mut named, mut harmless) = (0, 0);
    for (path, len) in io.files() {
        // All bytes of what is small, about 60 of the others; the last of them, the whole file is cut there.
        for offset in (0..len).step_by((len / 60).max(1)).chain([len]) {
            let damaged = io.crash(CrashStyle::KeepUnsynced);
            if offset == len {
                let file = damaged.open(&path, OpenMode::Write).unwrap();
                file.set_len(len as u64 / 2).unwrap();
            } else {
                damaged.damage(&path, offset, 1 << (offset % 8)).unwrap();
            }
            let at = || format!("{} byte {offset}", path.display());
            let check = check(&damaged);
            // A log that is shorter than it was, or whose last edit is damaged, can't be told from one that ended there;
            // what it leads to is named.
            let is_end = offset == len || path.extension().is_some_and(|kind| kind == "medits");
            let is_cut = is_end && !check.problems.is_empty();
            let is_named = is_cut || check.problems.iter().any(|problem| problem.path == path);
            let opened = open(&damaged).and_then(|database| read(&database));
            match opened {
                Ok(rows) if rows == expected => {}
                Ok(_) => panic!("{}: other rows", at()),
                Err(error) => assert!(is_named, "{}: {error} but {:?}", at(), check.problems),
            }
            if is_named {
                named += 1;
            } else {
                assert_eq!(check.problems, [], "{}", at());
                harmless += 1;
            }
        }
    }
    assert!(named > 5 * harmless, "{named} named, {harmless} not");
}

#[test]
fn it_goes_on_behind_what_is_damaged() {
    let io = SimulatedIo::new(1);
    filled(&io);
    let files: Vec<(PathBuf, usize)> = io.files();
    let of_kind = |kind: &str| {
        let mut found = files
            .iter()
            .filter(|(path, _)| path.to_string_lossy().ends_with(kind));
        found.next().cloned().unwrap()
    };
    let (log, _) = of_kind("mlog");
    let (delta, len) = of_kind("mdelta");
    io.damage(Path::new("/db/MANIFEST"), 20, 1).unwrap();
    io.damage(&log, 60, 1).unwrap();
    io.damage(&delta, len - 100, 1).unwrap();
    io.remove(
        &files
            .iter()
            .rev()
            .find(|(path, _)| path.to_string_lossy().ends_with("mdelta"))
            .unwrap()
            .0,
    )
    .unwrap();
    let unnamed = PathBuf::from("/db/tree/delta-00009999.mdelta");
    io.open(&unnamed, OpenMode::CreateNew).unwrap();
    let found = check(&io);
    assert!(found.problems.len() >= 3, "{:?}", found.problems);
    for path in [Path::new("/db/MANIFEST"), &log] {
        let named = found.problems.iter().any(|problem| problem.path == path);
        assert!(named, "{}: {:?}", path.display(), found.problems);
    }
    assert!(
        found
            .problems
            .iter()
            .any(|problem| problem.reason.contains("missing"))
    );
    assert_eq!(found.unnamed_files, [unnamed]);
    assert!(found.log_records > 0);
}

/// Files go while they are looked for, and that is no damage.
#[test]
fn a_check_beside_a_writer_finds_nothing_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let small = Options {
        segment_size_bytes_max: Some(64 << 10),
        generation_size_bytes_max: Some(64 << 10),
        fragment_size_bytes_max: Some(256 << 10),
        ..Options::unmeasured()
    };
    let database = Database::open(folder.path(), small.clone()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
                write(&database, round * 7 % 3000..round * 7 % 3000 + 100, "text");
            }
        });
        let checks: Vec<_> = (0..10)
            .map(|_| Database::check(folder.path(), &small))
            .collect();
        done.store(true, Ordering::Relaxed);
        for check in checks {
            assert_eq!(check.unwrap().problems, []);
        }
    });
}
