//! Times reading a keyspace:
//! `cargo bench -p moonshine-engine --bench keyspace_read -- <folder> [rows] [threads] [memory in MiB] [name ...]`.
//!
//! The folder is filled once, with rows of 16-byte keys and 100-byte values, and used again by later runs, so that two
//! builds can be compared on the same database. Names choose measurements whose name contains one of them. Times are of
//! the processor, as Linux counts them for each thread; compare figures of alternating runs only. Behind each
//! stand the pages that an operation had to read, of rows and of everything else.

#![allow(clippy::indexing_slicing, reason = "a benchmark may panic")]

use std::path::Path;

use moonshine_engine::row_set::page::PageKind;
use moonshine_engine::{Database, Durability, Keyspace, Options, PairCursor};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
type Key = [u8; 16];

const PROBES: u64 = 1_000_000;
const RANGES: u64 = 10_000;
const RANGE_ROWS: usize = 100;
const KEYS_TOGETHER: usize = 100;
const MEMORY_MIB: u64 = 320;

fn key(i: u64) -> Key {
    xxh3_128(&i.to_le_bytes()).to_be_bytes()
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let folder = arguments.next().ok_or("name a folder")?;
    let rows: u64 = arguments
        .next()
        .map_or(Ok(1_000_000), |rows| rows.parse())?;
    let threads: u64 = arguments.next().map_or(Ok(1), |threads| threads.parse())?;
    let memory_mib: u64 = arguments
        .next()
        .map_or(Ok(MEMORY_MIB), |memory_mib| memory_mib.parse())?;
    let is_new = !Path::new(&folder).exists();
    let options = Options {
        memory_budget_bytes: memory_mib << 20,
        ..Options::unmeasured()
    };
    let database = Database::open(&folder, options)?;
    let keyspace = database.keyspace("rows")?;
    if is_new {
        load(&database, &keyspace, rows)?;
    }
    let bench = Bench {
        database,
        keyspace,
        rows,
        threads,
        names: arguments.collect(),
    };
    bench.warm_up()?;
    bench.gets()?;
    bench.gets_of_snapshot()?;
    bench.ranges()?;
    bench.scans()
}

fn value_of(value: &[u8]) -> u64 {
    u64::from(value[99])
}

fn load(database: &Database, keyspace: &Keyspace, rows: u64) -> Outcome<()> {
    let keyspace = keyspace.clone().with_durability(Durability::Buffered);
    for start in (0..rows).step_by(1000) {
        let mut batch = keyspace.batch();
        for i in start..rows.min(start + 1000) {
            let mut value = [7; 100];
            value[..8].copy_from_slice(&i.to_le_bytes());
            batch.insert(key(i), value)?;
        }
        batch.commit()?;
    }
    Ok(database.flush()?)
}

/// What is measured, on how many rows and threads.
struct Bench {
    database: Database,
    keyspace: Keyspace,
    rows: u64,
    threads: u64,
    names: Vec<String>,
}

impl Bench {
    fn pick(&self, i: u64) -> u64 {
        ((u128::from(xxh3_64(&i.to_le_bytes())) * u128::from(self.rows)) >> 64) as u64
    }

    /// The keys of rows that are there.
    fn hits(&self, thread: u64) -> Vec<Key> {
        let from = thread * PROBES;
        (from..from + PROBES).map(|i| key(self.pick(i))).collect()
    }

    /// Keys among the others of rows that never were.
    fn misses(&self, thread: u64) -> Vec<Key> {
        let from = (1 << 40) + thread * PROBES;
        (from..from + PROBES).map(key).collect()
    }

    fn warm_up(&self) -> Outcome<()> {
        self.keyspace.iter().try_for_each(|pair| pair.map(drop))?;
        for key in self.hits(self.threads) {
            self.keyspace.get(key)?;
        }
        Ok(())
    }

    fn gets(&self) -> Outcome<()> {
        let (database, keyspace) = (&self.database, &self.keyspace);
        let hits = |thread| self.hits(thread);
        self.time("get hit", PROBES, hits, |hits| {
            for key in hits {
                let value = keyspace.get(key)?.ok_or("a row is missing")?;
                assert_eq!(value_of(&value), 7);
            }
            Ok(())
        })?;
        self.time("get_with hit", PROBES, hits, |hits| {
            for key in hits {
                assert_eq!(keyspace.get_with(key, value_of)?, Some(7));
            }
            Ok(())
        })?;
        let misses = |thread| self.misses(thread);
        self.time("get miss", PROBES, misses, |misses| {
            for key in misses {
                assert!(keyspace.get(key)?.is_none());
            }
            Ok(())
        })?;
        let nothing = |_| ();
        self.time("snapshot", PROBES, nothing, |()| {
            for _ in 0..PROBES {
                assert!(database.snapshot().seq() > 0);
            }
            Ok(())
        })
    }

    fn gets_of_snapshot(&self) -> Outcome<()> {
        let keyspace = self.keyspace.snapshot();
        let hits = |thread| self.hits(thread);
        self.time("at, get_with hit", PROBES, hits, |hits| {
            for key in hits {
                assert_eq!(keyspace.get_with(key, value_of)?, Some(7));
            }
            Ok(())
        })?;
        self.time("at, multi_get hit", PROBES, hits, |hits| {
            for keys in hits.chunks(KEYS_TOGETHER) {
                let mut sum = 0;
                keyspace.multi_get(keys, |_, value| sum += value_of(value))?;
                assert_eq!(sum, 7 * keys.len() as u64);
            }
            Ok(())
        })?;
        let misses = |thread| self.misses(thread);
        self.time("at, get miss", PROBES, misses, |misses| {
            for key in misses {
                assert!(!keyspace.contains_key(key)?);
            }
            Ok(())
        })
    }

    fn ranges(&self) -> Outcome<()> {
        let keyspace = self.keyspace.snapshot();
        let starts = |thread| self.hits(thread)[..RANGES as usize].to_vec();
        self.time("pairs of 100", RANGES, starts, |starts| {
            for start in starts {
                let mut sum = 0;
                for pair in keyspace.range(&start[..]..).take(RANGE_ROWS) {
                    sum += pair?.1.len();
                }
                assert!(sum > 0);
            }
            Ok(())
        })?;
        for (name, limit) in [("ranges of 100", RANGE_ROWS), ("ranges of 1", 1)] {
            self.time(name, RANGES, starts, |starts| {
                for start in starts {
                    let mut cursor = keyspace.cursor(&start[..]..);
                    let (mut count, mut sum) = (0, 0);
                    while count < limit
                        && let Some((_, value)) = cursor.next_pair()?
                    {
                        count += 1;
                        sum += value_of(value);
                    }
                    assert_eq!(sum, 7 * count as u64);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn scans(&self) -> Outcome<()> {
        let keyspace = &self.keyspace;
        let nothing = |_| ();
        self.time("scan, pairs", self.rows, nothing, |()| {
            let mut count = 0;
            for pair in keyspace.iter() {
                count += u64::from(pair?.1.len() == 100);
            }
            assert_eq!(count, self.rows);
            Ok(())
        })?;
        self.time("scan, cursor", self.rows, nothing, |()| {
            self.check_all(keyspace.snapshot().cursor::<&[u8]>(..))
        })?;
        self.time("scan, cursor back", self.rows, nothing, |()| {
            self.check_all(keyspace.snapshot().cursor_back::<&[u8]>(..))
        })
    }

    fn check_all(&self, mut cursor: PairCursor) -> Outcome<()> {
        let mut sum = 0;
        while let Some((_, value)) = cursor.next_pair()? {
            sum += value_of(value);
        }
        assert_eq!(sum, 7 * self.rows);
        Ok(())
    }

    fn time<I>(
        &self,
        name: &str,
        count: u64,
        prepare: impl Fn(u64) -> I + Sync,
        work: impl Fn(&I) -> Outcome<()> + Sync,
    ) -> Outcome<()> {
        if !self.names.is_empty() && !self.names.iter().any(|one| name.contains(one.as_str())) {
            return Ok(());
        }
        let run = |thread| -> Outcome<u64> {
            let input = prepare(thread);
            let start_ns = cpu_ns()?;
            work(&input)?;
            Ok(cpu_ns()? - start_ns)
        };
        let misses = self.misses_by_kind();
        let total_ns = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads)
                .map(|thread| scope.spawn(move || run(thread)))
                .collect();
            threads
                .into_iter()
                .try_fold(0, |sum, thread| -> Outcome<u64> {
                    Ok(sum + thread.join().map_err(|_| "a thread ended in a panic")??)
                })
        })?;
        let each = |total: u64| total as f64 / (count * self.threads) as f64;
        let [rows, others] = self.misses_by_kind();
        println!(
            "{name:>20}, {} threads: {:9.1} ns each, {:.3} + {:.3} pages read",
            self.threads,
            each(total_ns),
            each(rows - misses[0]),
            each(others - misses[1])
        );
        Ok(())
    }

    /// Pages that were read so far: of rows, and others.
    fn misses_by_kind(&self) -> [u64; 2] {
        let pages = self.database.statistics().reads.pages;
        let of_rows = pages
            .by_kind
            .iter()
            .filter(|one| one.kind == PageKind::Rows);
        let of_rows = of_rows.map(|one| one.misses).sum();
        [of_rows, pages.misses() - of_rows]
    }
}

fn cpu_ns() -> Outcome<u64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().unwrap_or_default().parse()?)
}
