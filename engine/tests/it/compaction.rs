//! Compactions side by side: what they give back, what they leave alone, and what crashes in the middle of several leave.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moonshine_engine::io::{CrashStyle, Io, SimulatedIo};
use moonshine_engine::{Database, Durability, Error, Keyspace, Options, Scan, ScanOrder};

use crate::wait_until;

const TABLE_COUNT: usize = 4;
/// What a delta file has in front of its RowSets.
const FILE_HEADER_SIZE_BYTES: usize = 48;

fn options(io: &SimulatedIo) -> Options {
    Options {
        io: Arc::new(io.clone()),
        profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
        memory_budget_bytes: 1 << 20,
        segment_size_bytes_max: Some(16 << 10),
        generation_size_bytes_max: Some(32 << 10),
        fragment_size_bytes_max: Some(16 << 10),
        compaction_threads: Some(4),
    }
}

struct Tables {
    database: Database,
    keyspaces: Vec<Keyspace>,
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

impl Tables {
    fn open(io: &SimulatedIo) -> Result<Self, Error> {
        let database = Database::open(Path::new("/db"), options(io))?;
        let names = (0..TABLE_COUNT).map(|number| format!("table {number}"));
        let keyspaces = names
            .map(|name| {
                Ok(database
                    .keyspace(&name)?
                    .with_durability(Durability::Buffered))
            })
            .collect::<Result<_, Error>>()?;
        Ok(Tables {
            database,
            keyspaces,
        })
    }

    fn write(&self, table: usize, keys: impl Iterator<Item = u32>, value: &str) {
        let mut batch = self.keyspaces[table].batch();
        for k in keys {
            batch.insert(format!("key {k:06}"), value).unwrap();
        }
        batch.commit().unwrap();
    }

    fn rows(&self) -> Vec<Rows> {
        let snapshot = self.database.snapshot();
        let rows = |keyspace: &Keyspace| {
            let all = keyspace.range_at::<&[u8]>(&snapshot, ..).unwrap();
            let all = all.map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec())));
            all.collect::<Result<Rows, _>>().unwrap()
        };
        self.keyspaces.iter().map(rows).collect()
    }
}

fn delta_files(io: &SimulatedIo) -> Vec<(PathBuf, usize)> {
    let mut files = io.files();
    files.retain(|(path, _)| path.to_string_lossy().ends_with(".mdelta"));
    files
}

fn hole_bytes(io: &SimulatedIo) -> usize {
    let holes = delta_files(io).into_iter();
    let holes = holes.flat_map(|(path, _)| io.holes(&path).unwrap_or_default());
    holes.map(|(start, end)| end - start).sum()
}

/// A database whose first flush wrote one file with RowSets of all tables.
fn one_file_for_all(io: &SimulatedIo) -> Tables {
    let tables = Tables::open(io).unwrap();
    for table in 0..TABLE_COUNT {
        tables.write(table, 0..20, &"v".repeat(100));
    }
    tables.database.flush().unwrap();
    assert_eq!(delta_files(io).len(), 1);
    tables
}

/// *Bounded*: a RowSet that died in a file in which others live gives its bytes back, and they read on.
#[test]
fn a_row_set_that_died_leaves_a_hole_when_its_last_reader_let_go() {
    let io = SimulatedIo::new(1);
    let tables = one_file_for_all(&io);
    let expected = tables.rows();
    let snapshot = tables.database.snapshot();
    // Of the readers that are put aside these keep what they began with.
    let scan = Scan {
        order: ScanOrder::Ascending,
        batch_rows: 1,
        ..Scan::default()
    };
    let mut reader = snapshot.scan(tables.keyspaces[0].table(), scan).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().num_rows(), 1);
    // The table outgrows its leaves, whose RowSets go to their children.
    tables.write(0, 20..1000, &"w".repeat(100));
    tables.database.flush().unwrap();
    tables.database.compact().unwrap();
    assert_eq!(hole_bytes(&io), 0, "the reader is still there");
    let rest = reader.by_ref().map(Result::unwrap).count();
    assert_eq!(rest, 19, "what a reader holds stays readable");
    drop((reader, snapshot));
    assert!(hole_bytes(&io) > 20 * 100, "{} bytes", hole_bytes(&io));
    assert_eq!(tables.rows()[1..], expected[1..]);
    assert_eq!(tables.rows()[0].len(), 1000);
    drop(tables);
    assert_eq!(Tables::open(&io).unwrap().rows()[1..], expected[1..]);
}

/// A hole never gets into a file that has a second name, as that of a backup, nor into one that a reader beside has open.
#[test]
fn what_others_read_has_no_holes() {
    let io = SimulatedIo::new(2);
    let tables = one_file_for_all(&io);
    let (file, len) = delta_files(&io).remove(0);
    let beside = Database::open_read_only(Path::new("/db"), options(&io)).unwrap();
    tables.write(0, 0..20, "new");
    tables.database.compact().unwrap();
    assert_eq!(io.holes(&file).unwrap(), []);
    let keyspace = beside.table("table 0").unwrap();
    assert_eq!(beside.snapshot().row_count(&keyspace).unwrap(), 20);
    drop((keyspace, beside));
    io.hard_link(&file, Path::new("/backup")).unwrap();
    tables.write(1, 0..20, "new");
    tables.database.compact().unwrap();
    assert_eq!(io.holes(&file).unwrap(), []);
    // Once nobody else has it, the next start gives back what was left.
    io.remove(Path::new("/backup")).unwrap();
    let expected = tables.rows();
    drop(tables);
    let tables = Tables::open(&io).unwrap();
    let hole_bytes = || {
        let holes = io.holes(&file).unwrap();
        holes.iter().map(|(start, end)| end - start).sum::<usize>()
    };
    wait_until("the dead rows leave holes", || hole_bytes() >= len / 4);
    assert_eq!(tables.rows(), expected);
}

/// *Durable*, *ordered*: whichever write is the last one while several compactions and a flush are under way, nothing is
/// lost, no hole comes too early, and no file is left over.
#[test]
fn a_crash_amid_compactions_side_by_side_loses_nothing() {
    let base = SimulatedIo::new(3);
    let tables = Tables::open(&base).unwrap();
    for round in 0..24_u32 {
        for table in 0..TABLE_COUNT {
            let keys = (0..20).map(|k| (k * 11 + round * (3 + table as u32)) % 150);
            tables.write(table, keys, &format!("{round}{}", "y".repeat(80)));
        }
        if round % 2 == 0 {
            tables.database.flush().unwrap();
        }
    }
    tables.database.sync().unwrap();
    let expected = tables.rows();
    drop(tables);
    for writes in (0..140).step_by(4) {
        let io = base.crash(CrashStyle::LoseUnsynced);
        let tables = Tables::open(&io).unwrap();
        io.fail_writes_after(writes);
        // It fails, or not, with other jobs at any stage.
        let done = tables.database.compact();
        let style = match writes / 4 % 3 {
            0 => CrashStyle::LoseUnsynced,
            1 => CrashStyle::KeepUnsynced,
            _ => CrashStyle::TearUnsynced(writes),
        };
        let after = io.crash(style);
        drop((tables, done));
        let tables = Tables::open(&after).unwrap();
        assert_eq!(tables.rows(), expected, "{writes} writes");
        tables.database.compact().unwrap();
        assert_eq!(tables.rows(), expected, "{writes} writes");
        drop(tables);
        let (before, tables) = (delta_files(&after), Tables::open(&after).unwrap());
        assert_eq!(delta_files(&after), before, "files that no edit names");
        drop(tables);
    }
}

/// *Ordered*: tables that are written, flushed and compacted all at once hold what was written last.
#[test]
fn compactions_beside_writers_keep_the_newest_rows() {
    let io = SimulatedIo::new(4);
    let tables = Tables::open(&io).unwrap();
    std::thread::scope(|scope| {
        for table in 0..TABLE_COUNT {
            let tables = &tables;
            scope.spawn(move || {
                for round in 0..60_u32 {
                    let keys = (0..30).map(|k| (k * 7 + round * 13) % 300);
                    tables.write(table, keys, &format!("{round:03}{}", "z".repeat(60)));
                }
            });
        }
        for _ in 0..6 {
            tables.database.compact().unwrap();
        }
    });
    let mut expected = Rows::new();
    for round in 0..60_u32 {
        for k in (0..30).map(|k| (k * 7 + round * 13) % 300) {
            let value = format!("{round:03}{}", "z".repeat(60));
            expected.insert(format!("key {k:06}").into_bytes(), value.into_bytes());
        }
    }
    tables.database.compact().unwrap();
    for rows in tables.rows() {
        assert_eq!(rows, expected);
    }
}

/// *Bounded*: a full compaction leaves nothing that was replaced or deleted.
#[test]
fn a_full_compaction_leaves_live_rows_alone() {
    let io = SimulatedIo::new(5);
    let tables = Tables::open(&io).unwrap();
    for round in 0..40_u32 {
        for table in 0..TABLE_COUNT {
            tables.write(table, 0..100, &format!("{round}{}", "x".repeat(100)));
        }
    }
    for keyspace in &tables.keyspaces {
        for k in 0..80 {
            keyspace.remove(format!("key {k:06}")).unwrap();
        }
    }
    tables.database.compact().unwrap();
    let held: Vec<_> = tables.database.statistics().tables;
    let held: Vec<_> = held.into_iter().map(|table| table.held).collect();
    assert_eq!(held.len(), TABLE_COUNT);
    for held in &held {
        assert_eq!((held.rows, held.tombstones), (20, 0), "{held:?}");
    }
    // Nothing lies in the files but that.
    let held_bytes: u64 = held.iter().map(|held| held.size_bytes).sum();
    let files = delta_files(&io);
    let stored: usize = files.iter().map(|(_, len)| len).sum();
    let unnamed_bytes = stored - hole_bytes(&io) - held_bytes as usize;
    assert!(unnamed_bytes <= files.len() * FILE_HEADER_SIZE_BYTES);
    assert!(tables.rows().iter().all(|rows| rows.len() == 20));
}

/// *Bounded*: tables that nobody writes to neither keep the log nor cost anything at a flush.
#[test]
fn ten_thousand_idle_tables_keep_no_log() {
    const IDLE_COUNT: usize = 10_000;
    let io = SimulatedIo::new(6);
    let database = Database::open(
        Path::new("/db"),
        Options {
            generation_size_bytes_max: Some(1 << 20),
            memory_budget_bytes: 16 << 20,
            segment_size_bytes_max: Some(1 << 20),
            fragment_size_bytes_max: None,
            ..options(&io)
        },
    )
    .unwrap();
    for number in 0..IDLE_COUNT {
        let idle = database.keyspace(&format!("idle {number}")).unwrap();
        let idle = idle.with_durability(Durability::Buffered);
        idle.insert("key", "value").unwrap();
    }
    database.flush().unwrap();
    let busy = database.keyspace("busy").unwrap();
    let busy = busy.with_durability(Durability::Buffered);
    let edits = |io: &SimulatedIo| -> usize {
        let files = io.files().into_iter();
        let edits = files.filter(|(path, _)| path.to_string_lossy().ends_with(".medits"));
        edits.map(|(_, len)| len).sum()
    };
    let before = edits(&io);
    for k in 0..2_000_u32 {
        busy.insert(k.to_be_bytes(), [7; 1000]).unwrap();
    }
    database.flush().unwrap();
    let log_bytes: u64 = database
        .log_segments()
        .unwrap()
        .iter()
        .map(|one| one.size_bytes)
        .sum();
    assert!(log_bytes < 300 << 10, "a log of {log_bytes} bytes");
    // A few flushes of one table, each an edit of some hundred bytes.
    assert!(
        edits(&io) < before + (64 << 10),
        "{} after {before}",
        edits(&io)
    );
    assert!(delta_files(&io).len() < 80, "{}", delta_files(&io).len());
    drop((database, busy));
    let database = Database::open(Path::new("/db"), options(&io)).unwrap();
    let last = database
        .keyspace(&format!("idle {}", IDLE_COUNT - 1))
        .unwrap();
    assert_eq!(last.get("key").unwrap().as_deref(), Some(&b"value"[..]));
}

/// A table that doubles faster and faster is divided for what it will hold; one that grows steadily is divided level by
/// level. What is known of its growth outlives a restart.
#[test]
fn a_table_that_grows_ever_faster_divides_into_more_children_at_once() {
    let leaves = |pauses_s: [u64; 5]| {
        let io = SimulatedIo::new(7);
        let mut tables = Tables::open(&io).unwrap();
        let mut next = 0;
        for pause_s in pauses_s {
            // Each time as much as there is.
            let count = u32::max(next, 24);
            tables.write(0, next..next + count, &"g".repeat(100));
            tables.database.flush().unwrap();
            next += count;
            io.sleep(std::time::Duration::from_secs(pause_s));
            drop(tables);
            tables = Tables::open(&io).unwrap();
        }
        tables.write(0, next..next + 300, &"g".repeat(100));
        tables.database.compact().unwrap();
        assert_eq!(tables.rows()[0].len() as u32, next + 300);
        let statistics = tables.database.statistics();
        let table = statistics
            .tables
            .iter()
            .find(|table| table.name == "table 0");
        table.unwrap().fragments.len()
    };
    let steady = leaves([10; 5]);
    let faster = leaves([100_000, 8000, 800, 60, 4]);
    assert!(
        faster >= 2 * steady,
        "{faster} leaves, {steady} if steadily"
    );
}
