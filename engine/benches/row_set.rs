//! Times the RowSets below level 0 on one core: `cargo bench -p moonshine-engine --bench row_set -- [rows]`.
//!
//! Rows of 16-byte keys and 100-byte values, everything in memory. Times are of the processor, as Linux counts them for
//! the thread; compare figures of one run only.

#![allow(clippy::indexing_slicing, reason = "a benchmark may panic")]

use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::{Io, SyscallIo};
use moonshine_engine::row_set::budget::MemoryBudget;
use moonshine_engine::row_set::file::{DeltaFile, delta_file_path};
use moonshine_engine::row_set::meta::RowSetHead;
use moonshine_engine::row_set::multi_get::HashedKey;
use moonshine_engine::row_set::page_cache::PageCache;
use moonshine_engine::row_set::reader::RowSet;
use moonshine_engine::row_set::rows_page::RowRef;
use moonshine_engine::row_set::writer::{DeltaFileOptions, DeltaFileWriter};
use uuid::Uuid;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;
type Key = [u8; 16];

const DATABASE_ID: Uuid = Uuid::from_u128(1 << 70);
const PROBES: usize = 2_000_000;

fn key(i: u64) -> Key {
    xxh3_128(&i.to_le_bytes()).to_be_bytes()
}

fn main() -> Outcome<()> {
    let rows: u64 = match std::env::args()
        .skip(1)
        .find(|argument| argument != "--bench")
    {
        Some(rows) => rows.parse()?,
        None => 1_000_000,
    };
    let folder = tempfile::tempdir()?;
    println!("{rows} rows of 16 + 100 bytes");
    let mut keys: Vec<Key> = (0..rows).map(key).collect();
    keys.sort_unstable();
    let cache = PageCache::new(MemoryBudget::new(64 << 30));
    let row_set = time("build", "rows", rows, || {
        build(folder.path(), 1, &cache, &keys)
    })?;
    let meta = row_set.meta();
    println!(
        "  {:.1} bytes a row, {} rows a page",
        meta.size_bytes as f64 / rows as f64,
        1u32 << meta.rows_per_page_log2
    );
    scans(&row_set, rows)?;
    page_scan(&row_set, rows)?;
    gets(&row_set, &keys, rows)?;
    println!("  {:?}", cache.stats());
    Ok(())
}

fn build(folder: &Path, number: u64, cache: &Arc<PageCache>, keys: &[Key]) -> Outcome<RowSet> {
    let io: Arc<dyn Io> = Arc::new(SyscallIo);
    let path = delta_file_path(folder, number);
    let options = DeltaFileOptions::default();
    let mut writer = DeltaFileWriter::create(io, &path, DATABASE_ID, number, options)?;
    writer.begin(RowSetHead::default())?;
    let value = [7; 100];
    for key in keys {
        let row = RowRef {
            key,
            value: Some(&value),
        };
        writer.push(row, xxh3_64(key), None)?;
    }
    let meta = writer.finish_row_set()?.ok_or("no rows")?;
    let file: Arc<DeltaFile> = writer.finish()?;
    Ok(RowSet::open(meta, file, cache)?)
}

fn scans(row_set: &RowSet, rows: u64) -> Outcome<()> {
    for what in [
        "scan past the cache",
        "scan into the cache",
        "scan in the cache",
        "scan backwards",
    ] {
        let sum = time(what, "rows", rows, || {
            let mut cursor = match what {
                "scan past the cache" => row_set.stream(1 << 20),
                _ => row_set.cursor(),
            };
            let backwards = what == "scan backwards";
            if backwards {
                cursor.seek_last()?;
            } else {
                cursor.seek_first()?;
            }
            let mut sum = 0u64;
            while let Some(row) = cursor.row() {
                sum += u64::from(row.key[15]) + row.value.map_or(0, |value| u64::from(value[99]));
                if backwards {
                    cursor.retreat()?;
                } else {
                    cursor.advance()?;
                }
            }
            Ok(sum)
        })?;
        assert!(sum > 0);
    }
    Ok(())
}

/// As [`scans`], a page at a time.
fn page_scan(row_set: &RowSet, rows: u64) -> Outcome<()> {
    let sum = time("scan by pages", "rows", rows, || {
        let mut cursor = row_set.cursor();
        cursor.seek_first()?;
        let mut sum = 0u64;
        while let Some((page, _)) = cursor.page() {
            for row in page.iter() {
                sum += u64::from(row.key[15]) + row.value.map_or(0, |value| u64::from(value[99]));
            }
            cursor.next_page()?;
        }
        Ok(sum)
    })?;
    assert!(sum > 0);
    Ok(())
}

fn gets(row_set: &RowSet, keys: &[Key], rows: u64) -> Outcome<()> {
    let pick = |i: u64| {
        let at = (u128::from(xxh3_64(&i.to_le_bytes())) * u128::from(rows)) >> 64;
        keys[at as usize]
    };
    let hits: Vec<(u64, Key)> = (0..PROBES as u64)
        .map(pick)
        .map(|key| (xxh3_64(&key), key))
        .collect();
    let misses: Vec<(u64, Key)> = (rows..rows + PROBES as u64)
        .map(key)
        .map(|key| (xxh3_64(&key), key))
        .collect();
    roofline(row_set, &hits, rows)?;
    // Everything into the cache, the index too.
    for (hash, _) in &misses {
        row_set.may_contain(*hash)?;
    }
    for (what, probes, expected) in [("get, hit", &hits, PROBES), ("get, miss", &misses, 0)] {
        let found = time(what, "gets", PROBES as u64, || {
            let mut found = 0;
            for (hash, key) in probes {
                if let Some(row) = row_set.get(*hash, key)? {
                    found += usize::from(row.value().is_some_and(|value| value[50] == 7));
                }
            }
            Ok(found)
        })?;
        assert_eq!(found, expected);
        let what = what.replace("get", "multi_get of 64");
        let hashed: Vec<_> = probes
            .iter()
            .map(|(hash, key)| HashedKey { hash: *hash, key })
            .collect();
        let found = time(&what, "gets", PROBES as u64, || {
            let mut found = 0;
            for keys in hashed.chunks(64) {
                row_set.multi_get(keys, |_, row| {
                    found += usize::from(row.value.is_some_and(|value| value[50] == 7));
                })?;
            }
            Ok(found)
        })?;
        assert_eq!(found, expected);
    }
    Ok(())
}

/// What memory allows: a lookup takes at least a line of an index and one of a row, the second known after the first.
fn roofline(row_set: &RowSet, probes: &[(u64, Key)], rows: u64) -> Outcome<()> {
    let index = vec![[1u64; 8]; (rows / 7) as usize];
    let data = vec![[1u64; 8]; row_set.meta().size_bytes as usize / 64];
    let place = |hash: u64, len: usize| ((u128::from(hash) * len as u128) >> 64) as usize;
    for (what, dependent) in [("two lines", 1), ("two lines, independent", 0)] {
        let sum = time(what, "gets", PROBES as u64, || {
            let mut sum = 0u64;
            for (hash, _) in probes {
                let hash = hash.wrapping_add(sum * dependent);
                let line = index[place(hash, index.len())];
                let row = data[place(hash.rotate_left(17).wrapping_mul(line[3]), data.len())];
                sum += row[5];
            }
            Ok(sum)
        })?;
        assert!(sum > 0);
    }
    Ok(())
}

/// Merges inputs that share the keys among them at random.
/// Nanoseconds that this thread has run; unlike the clock it does not count while others have the core.
fn cpu_ns() -> Outcome<u64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().unwrap_or_default().parse()?)
}

fn time<T>(what: &str, unit: &str, count: u64, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let start_ns = cpu_ns()?;
    let done = work()?;
    let ns = (cpu_ns()? - start_ns) as f64;
    println!(
        "{what:>24}: {:8.2} M {unit}/s, {:7.1} ns each",
        count as f64 / ns * 1e3,
        ns / count as f64
    );
    Ok(done)
}
