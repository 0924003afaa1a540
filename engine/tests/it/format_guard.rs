//! The bytes of the format: a history that is always the same gives the files that are kept in `tests/data/golden`.
//!
//! Defends *durable* for later builds: bytes that change without their version would be misread by those who know the version.
//! Ids, time and the order of all work follow from the history: one thread, one compaction at a time, a simulated disk. Pages
//! of which LZ4 saves less than an eighth are stored as they are, so values are noise and no library decides what lies there.
//! What threads in the background put together as they come (the keys of an export, patches, divisions) is not in the
//! histories; the bytes of each such part by itself are held by `bytes_of_…` in the engine's unit tests.

#![allow(
    clippy::disallowed_methods,
    reason = "the kept files are read, and written when somebody asks for it"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moonshine_engine::io::{Io, OpenMode, SimulatedIo};
use moonshine_engine::{
    ColumnType, Database, Durability, Isolation, NestedField, Options, Origin, Row, SchemaChange,
    ShardKey, Table, TableSchema, Value,
};
use moonshine_sysprobe::Profile;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::old_formats::{check_same, copy_folder, schemas, write_round};
use crate::reading::extremes;

/// Writes the kept files anew. Those whose bytes changed must have another version, unless this is `history`: then the history
/// below is what changed.
const UPDATE: &str = "MOONSHINE_UPDATE_GOLDEN";
/// Where every file has its version: 4 bytes behind 8 that say what it is.
const VERSION_OFFSET: usize = 8;

/// Longer values are cut, so that the kept files are small.
const TEXT_MAX: usize = 60;

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn kept_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden")
}

fn options(io: &SimulatedIo) -> Options {
    Options {
        profile: Profile::given(4096, 4).into(),
        memory_budget_bytes: 64 << 20,
        segment_size_bytes_max: Some(12_000),
        // Nothing is flushed, and nothing divides, but when the history says so.
        generation_size_bytes_max: Some(8 << 20),
        fragment_size_bytes_max: Some(8 << 20),
        compaction_threads: Some(1),
        io: Arc::new(io.clone()),
    }
}

fn open(io: &SimulatedIo) -> Database {
    Database::open("/db", options(io)).unwrap()
}

/// Bytes that nothing makes shorter.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let words = (0..).flat_map(|i: u64| xxh3_64_with_seed(&i.to_le_bytes(), seed).to_le_bytes());
    words.take(len).collect()
}

/// Every type that there is, with comments, written before and after each kind of change.
fn write_types(database: &Database) {
    let (schema, mut rows) = extremes();
    for value in rows.iter_mut().flatten() {
        match value {
            Value::Utf8(text) if text.len() > TEXT_MAX => *text = "ü".repeat(TEXT_MAX / 2),
            Value::Binary(bytes) => bytes.truncate(TEXT_MAX),
            _ => {}
        }
    }
    let mut table = database.create_table(schema).unwrap();
    let write = |table: &Table, rows: &[Row]| {
        let mut transaction = database.begin();
        for row in rows {
            transaction.upsert(table, row.clone()).unwrap();
        }
        transaction.commit().unwrap();
    };
    write(&table, &rows);
    let changes = [
        SchemaChange::AddColumn {
            name: "added".into(),
            column_type: ColumnType::Int32,
            nullable: false,
            default: Some(Value::Int32(7)),
        },
        SchemaChange::RenameColumn {
            name: "added".into(),
            new_name: "renamed".into(),
        },
        SchemaChange::WidenColumn {
            name: "renamed".into(),
            column_type: ColumnType::Int64,
        },
        SchemaChange::CommentColumn {
            name: "renamed".into(),
            comment: Some("what it means".into()),
        },
        SchemaChange::CommentTable {
            comment: Some("what it is for".into()),
        },
        SchemaChange::DropColumn {
            name: table.schema().columns()[1].name.clone(),
        },
    ];
    table = database.alter_table(&table, &changes).unwrap();
    let changed: Vec<Row> = rows
        .iter()
        .map(|row| {
            let mut row = row.clone();
            row.remove(1);
            row.push(Value::Int64(1 << 40));
            row
        })
        .collect();
    write(&table, &changed[..2]);
    let nested = TableSchema::builder("nested")
        .column("id", ColumnType::Int64, false)
        .column(
            "point",
            ColumnType::structure([NestedField::new("x", ColumnType::Int32, true)]),
            true,
        )
        .primary_key(["id"]);
    let nested = database.create_table(nested.build().unwrap()).unwrap();
    let point = Value::Struct(vec![Value::Int32(3)]);
    write(&nested, &[vec![Value::Int64(1), point]]);
    let within = SchemaChange::Within {
        path: vec!["point".into()],
        change: Box::new(SchemaChange::AddColumn {
            name: "y".into(),
            column_type: ColumnType::Utf8,
            nullable: true,
            default: None,
        }),
    };
    database.alter_table(&nested, &[within]).unwrap();
}

/// Noise, and a transaction that is refused.
fn write_pairs(database: &Database) {
    let pairs = database.keyspace("noise").unwrap();
    let mut batch = pairs.batch();
    for key in 0..100 {
        batch.insert(noise(key, 12), noise(1000 + key, 40)).unwrap();
    }
    batch.commit().unwrap();
    let mut first = database.begin_optimistic(Isolation::Serializable);
    let row = |value: &str| {
        let pair = ["key", value].map(|text| Value::Binary(text.into()));
        pair.to_vec()
    };
    first.upsert(pairs.table(), row("first")).unwrap();
    pairs.insert("key", "second").unwrap();
    assert!(first.commit().is_err());
}

fn bulk_load(database: &Database) {
    let schema = TableSchema::builder("loaded")
        .column("id", ColumnType::Int64, false)
        .column("bytes", ColumnType::Binary, true)
        .primary_key(["id"])
        .shard_key(ShardKey::Range);
    let table = database.create_table(schema.build().unwrap()).unwrap();
    let mut load = database.bulk_load(&table).unwrap();
    for id in 0..60 {
        let bytes = Value::Binary(noise(id, 30));
        load.upsert(vec![Value::Int64(id as i64), bytes]).unwrap();
    }
    load.finish().unwrap();
}

/// A range delete that is buffered.
fn delete_range(database: &Database) {
    let pairs = database.keyspace("noise").unwrap();
    let bound = |byte: u8| std::ops::Bound::Included(vec![Value::Binary(vec![byte])]);
    let mut transaction = database.begin();
    transaction
        .delete_range(pairs.table(), &(bound(10), bound(12)))
        .unwrap();
    transaction.set_durability(Durability::Buffered);
    transaction.commit().unwrap();
}

/// All that stands in the log alone, in several segments, behind a start and a clean close.
fn write_log(io: &SimulatedIo) {
    let database = open(io);
    let tables = schemas().map(|schema| database.create_table(schema).unwrap());
    for round in 0..12 {
        write_round(&database, &tables, round);
    }
    write_types(&database);
    write_pairs(&database);
    delete_range(&database);
    drop((tables, database));
    let database = open(io);
    let tables = schemas().map(|schema| database.table(schema.name()).unwrap());
    let mut transaction = database.begin();
    transaction.truncate(&tables[2]).unwrap();
    transaction.set_origin(Origin {
        source: "kafka".into(),
        position: "topic 0:17".into(),
    });
    transaction.commit().unwrap();
    write_round(&database, &tables, 12);
}

/// What lies below the log: RowSets of a flush, tombstones among them, and of a bulk load, and the edits that
/// lead there.
fn write_tree(io: &SimulatedIo) {
    let database = open(io);
    let tables = schemas().map(|schema| database.create_table(schema).unwrap());
    write_round(&database, &tables, 0);
    write_types(&database);
    write_pairs(&database);
    bulk_load(&database);
}

type Write = fn(&SimulatedIo);
/// The histories. Who changes one writes the kept files anew, with `MOONSHINE_UPDATE_GOLDEN=history`.
const HISTORIES: [(&str, Write); 2] = [("log", write_log), ("tree", write_tree)];

/// The databases that the histories give, and the files of all.
fn written() -> ([SimulatedIo; 2], Files) {
    let mut files = Files::new();
    let disks = HISTORIES.map(|(history, write)| {
        let io = SimulatedIo::new(20);
        write(&io);
        for (path, len) in io.files().into_iter().filter(|(_, len)| *len > 0) {
            let mut bytes = vec![0; len];
            let file = io.open(&path, OpenMode::Read).unwrap();
            file.read_exact_at(&mut bytes, 0).unwrap();
            let name = Path::new(history).join(path.strip_prefix("/db").unwrap());
            files.insert(name, bytes);
        }
        io
    });
    (disks, files)
}

/// The files that are kept.
fn kept(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(within) = folders.pop() {
        for entry in std::fs::read_dir(folder.join(&within)).unwrap() {
            let entry = entry.unwrap();
            let name = within.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(name),
                false => drop(files.insert(name, std::fs::read(entry.path()).unwrap())),
            }
        }
    }
    files
}

fn version(bytes: &[u8]) -> u32 {
    let version = bytes[VERSION_OFFSET..].first_chunk::<4>().unwrap();
    u32::from_le_bytes(*version)
}

/// The kind of a file, which has a version of its own.
fn kind(name: &Path) -> &str {
    match name.extension().and_then(|ending| ending.to_str()) {
        Some("mlog") => "segment",
        Some("medits") => "log of edits",
        Some("mdelta") => "delta file",
        _ => "manifest",
    }
}

/// The version of each kind of file.
fn versions(files: &Files) -> BTreeMap<&str, u32> {
    let all = files.iter();
    all.map(|(name, bytes)| (kind(name), version(bytes)))
        .collect()
}

/// What differs, and by its first byte; nothing if the files are the same.
fn differences(kept: &Files, written: &Files) -> Vec<String> {
    let names: std::collections::BTreeSet<&PathBuf> = kept.keys().chain(written.keys()).collect();
    let mut differences = Vec::new();
    for name in names {
        let (Some(old), Some(new)) = (kept.get(name), written.get(name)) else {
            let where_it_is = match kept.contains_key(name) {
                true => "is not written any more",
                false => "is new",
            };
            differences.push(format!("{} {where_it_is}", name.display()));
            continue;
        };
        if old != new {
            let at = old.iter().zip(new).take_while(|(old, new)| old == new);
            differences.push(format!(
                "{} ({}, version {}, before {}) differs from byte {} on",
                name.display(),
                kind(name),
                version(new),
                version(old),
                at.count()
            ));
        }
    }
    differences
}

fn update(folder: &Path, written: &Files) {
    let _ = std::fs::remove_dir_all(folder);
    for (name, bytes) in written {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// *Durable*, *honest*: bytes change with their version, or not at all.
#[test]
fn bytes_change_with_their_version() {
    let (_, written) = written();
    let folder = kept_folder();
    if std::env::var(UPDATE).is_ok_and(|what| what == "history") {
        update(&folder, &written);
    }
    let kept = kept(&folder);
    let differences = differences(&kept, &written);
    if differences.is_empty() {
        return;
    }
    let (old, new) = (versions(&kept), versions(&written));
    let is_raised = new
        .iter()
        .any(|(kind, version)| old.get(kind) < Some(version));
    if is_raised && std::env::var_os(UPDATE).is_some() {
        return update(&folder, &written);
    }
    panic!(
        "the bytes of the format changed:\n{}\nversions before: {old:?}, now: {new:?}\n\
         If this was meant: raise the version of what holds the bytes that changed, say in docs/format.md what changed, keep \
         engine/tests/data/golden as a folder of its own name beside it, add that to KEPT in engine/tests/it/old_formats.rs, and \
         run this test with {UPDATE}=1. Only if the history in engine/tests/it/format_guard.rs is what changed, run it with \
         {UPDATE}=history.",
        differences.join("\n")
    );
}

/// The guard sees each byte, each file that is missing and each one too many.
#[test]
fn a_change_of_any_byte_is_seen() {
    let kept = kept(&kept_folder());
    assert_eq!(differences(&kept, &kept), Vec::<String>::new());
    for name in kept.keys() {
        for offset in [
            0,
            VERSION_OFFSET,
            kept[name].len() / 2,
            kept[name].len() - 1,
        ] {
            let mut changed = kept.clone();
            changed.get_mut(name).unwrap()[offset] ^= 1;
            let [difference] = differences(&kept, &changed).try_into().unwrap();
            assert!(difference.ends_with(&format!("from byte {offset} on")));
        }
        let mut fewer = kept.clone();
        fewer.remove(name);
        assert_eq!(differences(&kept, &fewer).len(), 1);
        assert_eq!(differences(&fewer, &kept).len(), 1);
    }
}

/// What the kept files are opened as is what the history wrote: by this build, and by each that comes.
#[test]
fn the_kept_files_hold_the_history() {
    let (disks, _) = written();
    for ((history, _), io) in HISTORIES.iter().zip(&disks) {
        let expected = open(io);
        let folder = tempfile::tempdir().unwrap();
        copy_folder(&kept_folder().join(history), folder.path());
        let of_real = || Options {
            io: Options::default().io,
            ..options(io)
        };
        let found = Database::open(folder.path(), of_real()).unwrap();
        check_same(&found, &expected);
        for one in [&found, &expected] {
            let tables = schemas().map(|schema| one.table(schema.name()).unwrap());
            write_round(one, &tables, 13);
            one.flush().unwrap();
            one.compact().unwrap();
        }
        check_same(&found, &expected);
        drop(found);
        let again = Database::open(folder.path(), of_real()).unwrap();
        check_same(&again, &expected);
        drop(again);
        let checked = Database::check(folder.path(), &of_real()).unwrap();
        assert_eq!(checked.problems, []);
    }
}

/// docs/format.md says the versions that this build writes.
#[test]
fn the_documentation_says_the_versions() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let read = |name: &str| std::fs::read_to_string(docs.join(name)).unwrap();
    let (format, delta_file) = (read("format.md"), read("format-delta-file.md"));
    let (_, files) = written();
    let versions = versions(&files);
    let [manifest, segment, edits, delta] =
        ["manifest", "segment", "log of edits", "delta file"].map(|kind| versions[kind]);
    for (text, sentence) in [
        (
            &format,
            format!("# The on-disk format, version {manifest}\n"),
        ),
        (&format, format!("This build writes format {manifest}.")),
        (&format, format!("| format version: {manifest} |")),
        (&format, format!("version of the segment: {segment};")),
        (
            &format,
            format!("| {manifest} | {manifest} | 1 to {segment} | 1 to {edits} | 1, {delta} |"),
        ),
        (&delta_file, format!("| format version: {delta};")),
    ] {
        assert!(
            text.contains(&sentence),
            "the documentation lacks: {sentence}"
        );
    }
}
