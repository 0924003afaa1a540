//! Databases that builds of each older format wrote, kept in `tests/data`: they open, hold what was written, and go on.
//!
//! [`write_history`] is what each of them was written with, by the last build of its format, in a process that went away
//! without closing it. So the same history in a new database says what they hold.

#![allow(
    clippy::disallowed_methods,
    reason = "what lies in a real folder is looked at and changed behind the engine's back"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moonshine_engine::io::{CrashStyle, Io, NamesStyle, OpenMode, SimulatedIo};
use moonshine_engine::{
    ColumnType, Database, Error, ExportFile, Options, Origin, Row, Scan, ScanOrder, SchemaChange,
    Snapshot, Table, TableSchema, Value,
};
use moonshine_sysprobe::Profile;
use uuid::Uuid;

use crate::reading::rows_of;

/// The format that this build writes.
const FORMAT_VERSION: u8 = 4;
/// What builds wrote, by the name of its folder, each with its format and the versions of its segments, edits and delta files; 0 for
/// what there was not. A change of any of them adds the folder that the build before it wrote.
const KEPT: [(&str, u8, [u8; 3]); 8] = [
    ("format-1", 1, [1, 0, 0]),
    ("format-2", 2, [1, 0, 0]),
    ("format-3", 3, [1, 1, 1]),
    ("format-4", 4, [2, 2, 2]),
    ("format-4-parts-4", 4, [4, 4, 2]),
    ("format-4-parts-5", 4, [5, 4, 2]),
    ("format-4-edits-5", 4, [5, 5, 2]),
    ("format-4-parts-6", 4, [6, 5, 2]),
];

pub(crate) fn schemas() -> [TableSchema; 3] {
    let decimal = ColumnType::Decimal {
        precision: 20,
        scale: 2,
    };
    let lines = TableSchema::builder("shop.lines")
        .column("amount", decimal, true)
        .column("shop", ColumnType::Utf8, false)
        .column("line", ColumnType::Int32, false)
        .column("at", ColumnType::TimestampTz, true)
        .column("weight", ColumnType::Float32, true)
        .primary_key(["shop", "line"]);
    let pairs = TableSchema::builder("pairs")
        .column("key", ColumnType::Binary, false)
        .column("value", ColumnType::Binary, false)
        .primary_key(["key"]);
    let flags = TableSchema::builder("flags")
        .column("id", ColumnType::Int64, false)
        .primary_key(["id"]);
    [lines, pairs, flags].map(|builder| builder.build().unwrap())
}

fn line(number: i32, round: i32) -> Row {
    let shop = ["", "a", "a\0", "b"][number as usize % 4];
    vec![
        Value::Decimal(i128::from(number) * 1000 + i128::from(round)),
        Value::Utf8(shop.into()),
        Value::Int32(number - 10),
        if number % 5 == 0 {
            Value::Null
        } else {
            Value::TimestampTz(i64::from(round))
        },
        Value::Float32(number as f32 / 2.0),
    ]
}

pub(crate) fn write_round(database: &Database, tables: &[Table], round: i32) {
    let [lines, pairs, flags] = tables else {
        panic!("three tables")
    };
    let mut transaction = database.begin();
    for number in round..round + 6 {
        transaction.upsert(lines, line(number, round)).unwrap();
        let value = vec![round as u8; number as usize];
        let pair = vec![Value::Binary(vec![number as u8; 3]), Value::Binary(value)];
        transaction.upsert(pairs, pair).unwrap();
        transaction
            .upsert(flags, vec![Value::Int64(number.into())])
            .unwrap();
    }
    let gone = line(round + 1, round);
    transaction.delete(lines, &gone[1..3]).unwrap();
    transaction.set_origin(Origin {
        source: "postgres".into(),
        position: format!("0/{round}"),
    });
    transaction.commit().unwrap();
}

/// Exports a table; without a token it stays prepared.
pub(crate) fn export(database: &Database, table: &Table, commit_id: u128, token: Option<&str>) {
    let mut export = database.begin_export(table, &database.snapshot()).unwrap();
    let file = ExportFile {
        path: format!("data/{commit_id}.parquet"),
        row_count: export.row_count(),
    };
    export.prepare(Uuid::from_u128(commit_id), &[file]).unwrap();
    if let Some(token) = token {
        export.commit(token.into()).unwrap();
    }
}

/// Has exported rows lie in another file, which says their ids.
pub(crate) fn move_exported(database: &Database, table: &Table) {
    let old_files = ["data/1.parquet".to_owned(), "data/2.parquet".to_owned()];
    let snapshot = database.snapshot();
    let scan = Scan {
        projection: Some(table.schema().primary_key().to_vec()),
        order: ScanOrder::Ascending,
        ..Scan::default()
    };
    let mut relocation = database
        .begin_relocation(table, Uuid::from_u128(9), &old_files)
        .unwrap();
    let mut row_count = 0;
    for keys in snapshot.scan(table, scan).unwrap() {
        let keys = keys.unwrap();
        let row_ids: Vec<u64> = (row_count..).take(keys.num_rows()).collect();
        relocation.add(&keys, Some(&row_ids)).unwrap();
        row_count += row_ids.len() as u64;
    }
    let file = ExportFile {
        path: "data/moved.parquet".into(),
        row_count,
    };
    relocation.prepare(&[file]).unwrap();
    relocation.commit("moved".into()).unwrap();
}

/// Writes, exports and flushes, where the format knows flushes.
fn write_history(database: &Database, flush: impl Fn(&Database)) {
    let tables = schemas().map(|schema| database.create_table(schema).unwrap());
    for round in 0..20 {
        write_round(database, &tables, round);
        match round {
            5 => flush(database),
            8 => export(database, &tables[0], 1, Some("first")),
            11 => {
                let mut transaction = database.begin();
                transaction.truncate(&tables[2]).unwrap();
                transaction.commit().unwrap();
            }
            12 => export(database, &tables[0], 2, Some("second")),
            14 => flush(database),
            17 => export(database, &tables[1], 3, None),
            _ => {}
        }
    }
}

fn options() -> Options {
    Options {
        profile: Profile::given(4096, 4).into(),
        segment_size_bytes_max: Some(6000),
        ..Options::default()
    }
}

/// A copy of what a build left.
fn copied(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&kept_folder(name), folder.path());
    folder
}

fn kept_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn version_of(folder: &Path) -> u8 {
    std::fs::read(folder.join("MANIFEST")).unwrap()[8]
}

fn rows(snapshot: &Snapshot, table: &Table) -> Vec<Row> {
    let scan = Scan {
        order: ScanOrder::Ascending,
        ..Scan::default()
    };
    let batches = snapshot.scan(table, scan).unwrap();
    batches
        .flat_map(|batch| rows_of(&batch.unwrap(), table))
        .collect()
}

/// Rows, origins and exports are those of another database with the same history.
pub(crate) fn check_same(database: &Database, expected: &Database) {
    let (found, other) = (database.snapshot(), expected.snapshot());
    assert_eq!(found.seq(), other.seq());
    assert_eq!(found.origins(), other.origins());
    let (tables, others) = (database.tables(), expected.tables());
    assert_eq!(tables.len(), others.len());
    for (table, other_table) in tables.iter().zip(&others) {
        assert_eq!(table.schema().columns(), other_table.schema().columns());
        assert_eq!(
            table.schema().primary_key(),
            other_table.schema().primary_key()
        );
        assert_eq!(rows(&found, table), rows(&other, other_table));
        for row in rows(&other, other_table) {
            let key = table.schema().primary_key().iter();
            let key: Vec<Value> = key.map(|&position| row[position].clone()).collect();
            assert_eq!(found.get(table, &key).unwrap(), Some(row));
        }
        assert_eq!(database.exported(table), expected.exported(other_table));
        let changes = database.changes(table, &found).unwrap();
        let other_changes = expected.changes(other_table, &other).unwrap();
        assert_eq!(changes.removed(), other_changes.removed());
        assert_eq!(changes.row_count(), other_changes.row_count());
    }
    let pending = |database: &Database| -> Vec<Uuid> {
        let pending = database.pending_exports().into_iter();
        pending.map(|export| export.commit_id()).collect()
    };
    assert_eq!(pending(database), pending(expected));
}

/// *Durable*: what a build of an older format committed is there, to read as it is, and to go on with.
#[test]
fn databases_of_older_formats_are_kept_and_opened() {
    for (name, format, _) in KEPT {
        let folder = copied(name);
        let path = folder.path();
        assert_eq!(version_of(path), format);
        let new_folder = tempfile::tempdir().unwrap();
        let expected = Database::open(new_folder.path(), options()).unwrap();
        write_history(&expected, |database| database.flush().unwrap());

        let reading = Database::open_read_only(path, options()).unwrap();
        check_same(&reading, &expected);
        drop(reading);
        assert_eq!(version_of(path), format, "a reader changed the manifest");

        for round in 20..24 {
            let database = Database::open(path, options()).unwrap();
            assert_eq!(version_of(path), FORMAT_VERSION);
            check_same(&database, &expected);
            for one in [&database, &expected] {
                write_round(one, &one.tables(), round);
            }
            if round == 21 {
                for one in [&database, &expected] {
                    one.pending_exports()
                        .pop()
                        .unwrap()
                        .commit("third".into())
                        .unwrap();
                }
            }
            if round % 2 == 0 {
                database.flush().unwrap();
                database.compact().unwrap();
            }
            check_same(&database, &expected);
        }
        for database in [&Database::open(path, options()).unwrap(), &expected] {
            move_exported(database, &database.tables()[0]);
        }
        let reading = Database::open_read_only(path, options()).unwrap();
        check_same(&reading, &expected);
        if format == FORMAT_VERSION {
            continue;
        }

        // Their rows don't say which version of the schema they have.
        let database = Database::open(path, options());
        drop(reading);
        let database = database.unwrap();
        let change = SchemaChange::DropColumn {
            name: "weight".into(),
        };
        let refused = database.alter_table(&database.tables()[0], &[change]);
        assert!(matches!(refused, Err(Error::Schema(_))), "{refused:?}");
    }
}

/// The same on a simulated disk, all of it durable.
fn simulated(name: &str) -> SimulatedIo {
    let io = SimulatedIo::new(1);
    let mut folders = vec![(kept_folder(name), PathBuf::from("/db"))];
    while let Some((from, to)) = folders.pop() {
        io.create_folder(&to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let (path, target) = {
                let entry = entry.unwrap();
                (entry.path(), to.join(entry.file_name()))
            };
            if path.is_dir() {
                folders.push((path, target));
                continue;
            }
            let file = io.open(&target, OpenMode::CreateNew).unwrap();
            file.write_all_at(&std::fs::read(path).unwrap(), 0).unwrap();
            file.sync_data().unwrap();
        }
    }
    for folder in ["/", "/db", "/db/log", "/db/tree"] {
        io.sync_folder(Path::new(folder)).unwrap();
    }
    io
}

/// *Durable*: a start that raises a database to this format is cut short at any call, and the one after it too.
#[test]
fn a_start_of_an_older_format_can_be_cut_short() {
    let new_folder = tempfile::tempdir().unwrap();
    let expected = Database::open(new_folder.path(), options()).unwrap();
    write_history(&expected, |database| database.flush().unwrap());
    let options = |io: &SimulatedIo| Options {
        io: Arc::new(io.clone()),
        ..options()
    };
    for (name, _, _) in KEPT {
        for seed in 0..60 {
            let mut disk = simulated(name);
            for round in 0..2 {
                let process = disk.of_process(1);
                process.kill_after((seed / (round * 6 + 1)) % 20);
                let ended = Database::open("/db", options(&process));
                drop(ended);
                let names = match seed % 3 {
                    0 => NamesStyle::Ordered(seed + round),
                    _ => NamesStyle::Any(seed + round),
                };
                let style = match seed % 5 {
                    0 => CrashStyle::LoseUnsynced,
                    1 => CrashStyle::KeepUnsynced,
                    _ => CrashStyle::TearUnsynced(seed + round),
                };
                disk = disk.crash_image(style, names);
            }
            let database = Database::open("/db", options(&disk));
            let database = database.unwrap_or_else(|error| panic!("{name}, {seed}: {error}"));
            check_same(&database, &expected);
        }
    }
}

/// Writes what this build leaves to the folder that the variable names, for a later build to keep.
#[test]
fn a_database_for_later_builds_to_keep() {
    let Some(kept) = std::env::var_os("MOONSHINE_KEEP_DATABASE") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), options()).unwrap();
    write_history(&database, |database| {
        database.flush().unwrap();
        database.compact().unwrap();
    });
    // As a process leaves it that goes away: what is written is in the system's hands.
    std::fs::create_dir(&kept).unwrap();
    copy_folder(folder.path(), Path::new(&kept));
}

/// The newest version of the files in a folder whose names end so; 0 if there is none.
fn newest_version(folder: &Path, ending: &str) -> u8 {
    let files = std::fs::read_dir(folder).into_iter().flatten();
    let paths = files.map(|file| file.unwrap().path());
    let versions = paths
        .filter(|path| path.extension().is_some_and(|it| it == ending))
        .map(|path| std::fs::read(path).unwrap()[8]);
    versions.max().unwrap_or(0)
}

/// The kept databases are of the versions that they are kept for, and the newest is of this build's.
#[test]
fn every_version_is_kept() {
    let parts_of = |folder: &Path| {
        [("log", "mlog"), ("tree", "medits"), ("tree", "mdelta")]
            .map(|(within, ending)| newest_version(&folder.join(within), ending))
    };
    for (name, format, parts) in KEPT {
        let folder = kept_folder(name);
        assert_eq!(
            (version_of(&folder), parts_of(&folder)),
            (format, parts),
            "{name}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), options()).unwrap();
    write_history(&database, |database| database.flush().unwrap());
    let (name, format, parts) = KEPT[KEPT.len() - 1];
    assert_eq!(
        (version_of(folder.path()), parts_of(folder.path())),
        (format, parts),
        "this build writes another version than that of {name}: keep what it writes, with MOONSHINE_KEEP_DATABASE"
    );
}

/// *Honest*: a format that this build does not know is refused by an error of its own, and nothing changes.
#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    drop(Database::open(path, options()).unwrap());
    let mut manifest = std::fs::read(path.join("MANIFEST")).unwrap();
    manifest[8] = FORMAT_VERSION + 1;
    let covered = manifest.len() - 8;
    let checksum = xxhash_rust::xxh3::xxh3_64(&manifest[..covered]);
    manifest[covered..].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(path.join("MANIFEST"), &manifest).unwrap();
    for refused in [
        Database::open(path, options()).map(|_| ()),
        Database::open_read_only(path, options()).map(|_| ()),
        Database::exists(path, &options()).map(|_| ()),
    ] {
        match refused {
            Err(Error::NewerFormat {
                version,
                version_max,
                ..
            }) => assert_eq!((version, version_max), (5, 4)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(std::fs::read(path.join("MANIFEST")).unwrap(), manifest);
}
