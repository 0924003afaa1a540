//! What stays in memory where the data are larger than it: *bounded*, and a key that is not there costs no read.

use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::SimulatedIo;
use moonshine_engine::row_set::page::PageKind;
use moonshine_engine::{Database, Durability, Keyspace, Options};

const ROW_COUNT: u64 = 30_000;
const MEMORY_BYTES: u64 = 1 << 20;

fn key(i: u64) -> [u8; 16] {
    xxhash_rust::xxh3::xxh3_128(&i.to_le_bytes()).to_be_bytes()
}

/// Pages that were read so far: of the index, and of rows.
fn reads(database: &Database) -> (u64, u64) {
    let pages = database.statistics().reads.pages.by_kind;
    let of = |kind| {
        let of_kind = pages.iter().filter(|one| one.kind == kind);
        of_kind.map(|one| one.misses).sum::<u64>()
    };
    (of(PageKind::Index), of(PageKind::Rows))
}

fn filled() -> (Database, Keyspace) {
    let options = Options {
        io: Arc::new(SimulatedIo::new(3)),
        memory_budget_bytes: MEMORY_BYTES,
        profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
        ..Options::default()
    };
    let database = Database::open(Path::new("/db"), options).unwrap();
    let rows = database.keyspace("rows").unwrap();
    let rows = rows.with_durability(Durability::Buffered);
    for start in (0..ROW_COUNT).step_by(100) {
        let mut batch = rows.batch();
        for i in start..start + 100 {
            batch.insert(key(i), [7; 100]).unwrap();
        }
        batch.commit().unwrap();
    }
    database.flush().unwrap();
    database.compact().unwrap();
    (database, rows)
}

/// Pages of rows come and go in masses; those of the index, which are used far more often, stay through that.
#[test]
fn the_index_outlives_pages_of_rows() {
    let (database, rows) = filled();
    let pick = |i: u64| {
        key(
            ((u128::from(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * u128::from(ROW_COUNT)) >> 64)
                as u64,
        )
    };
    let gets = 40_000;
    (0..gets).for_each(|i| assert!(rows.contains_key(pick(i)).unwrap()));
    let (index_before, rows_before) = reads(&database);
    (gets..2 * gets).for_each(|i| assert!(rows.contains_key(pick(i)).unwrap()));
    let (index_after, rows_after) = reads(&database);
    assert!(rows_after - rows_before > gets / 2, "all rows fit");
    let index_reads = index_after - index_before;
    assert!(
        index_reads < gets / 100,
        "{index_reads} pages of the index were read"
    );
    let before = reads(&database);
    let misses = (ROW_COUNT..2 * ROW_COUNT).filter(|i| rows.contains_key(key(*i)).unwrap());
    assert_eq!(misses.count(), 0);
    let after = reads(&database);
    // Of 30,000 keys a few look as if they were there.
    assert!(
        after.0 - before.0 < 30 && after.1 - before.1 < 30,
        "{before:?} {after:?}"
    );
    let memory = database.statistics().memory;
    assert!(memory.used_bytes <= MEMORY_BYTES, "{memory:?}");
}

/// Whoever goes through all rows in order reads ahead, and leaves memory to others.
#[test]
fn a_long_scan_leaves_pages_in_memory_alone() {
    let (database, rows) = filled();
    let before = reads(&database);
    let mut cursor = rows.snapshot().cursor::<&[u8]>(..);
    let (mut count, mut last) = (0, Vec::new());
    while let Some((key, value)) = cursor.next_pair().unwrap() {
        assert!(key > &last[..] && value == [7; 100]);
        last = key.to_vec();
        count += 1;
    }
    assert_eq!(count, ROW_COUNT);
    let after = reads(&database);
    // There are about a thousand.
    assert!(after.1 - before.1 < 300, "{before:?} {after:?}");
}
