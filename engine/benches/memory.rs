//! What a process takes for a database of a given memory budget, at its peak in a load, in gets, and in updates, by several
//! threads: what the system says, what of it is allocated, and what of that the engine counts.
//!
//! ```sh
//! cargo bench -p moonshine-engine --bench memory -- FOLDER [ROWS [MEMORY_MIB [THREADS]]]
//! ```
//!
//! *Taken* is the process's `RssAnon`: memory that is no mapped file, what the allocator keeps of freed memory included. With
//! `MALLOC_ARENA_MAX=2` the C library's allocator has two pools instead of eight a core.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program that measures, not the engine"
)]

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use moonshine_engine::{Database, Durability, Keyspace, MemoryStatistics, Options};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Done = std::result::Result<(), moonshine_engine::Error>;

const BATCH_ROWS: u64 = 1000;
const SAMPLE_EVERY: Duration = Duration::from_millis(2);

/// The finaliser of SplitMix64.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Consecutive ids are far apart in key order.
fn key(id: u64) -> [u8; 16] {
    (u128::from(mix(id)) << 64 | u128::from(id)).to_be_bytes()
}

/// Bytes of this process's memory that is no mapped file.
fn taken_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// The most that was taken, what was allocated and what the engine counted then, and the most that it counted at all.
#[derive(Default)]
struct Peak {
    taken_bytes: u64,
    allocated_bytes: u64,
    counted: MemoryStatistics,
    counted_bytes_max: u64,
}

impl Peak {
    fn sample(&mut self, database: &Database) {
        let counted = database.statistics().memory;
        let counted_bytes = counted.used_bytes + counted.commit_queue_bytes;
        self.counted_bytes_max = self.counted_bytes_max.max(counted_bytes);
        let taken_bytes = taken_bytes().unwrap_or(0);
        if taken_bytes > self.taken_bytes {
            (self.taken_bytes, self.counted) = (taken_bytes, counted);
            self.allocated_bytes = ALLOCATOR.current_usage() as u64;
        }
    }

    fn print(&self, what: &str) {
        let mib = |size_bytes: u64| size_bytes as f64 / f64::from(1 << 20);
        let consumers = self.counted.by_consumer();
        let consumers = consumers.map(|(name, bytes)| format!("{name} {:.0}", mib(bytes)));
        println!(
            "{what:<8} taken at most {:4.0} MiB; allocated then {:.0}, counted {:.0}: {}; allocated at most {:.0}, counted {:.0}",
            mib(self.taken_bytes),
            mib(self.allocated_bytes),
            mib(self.counted.used_bytes + self.counted.commit_queue_bytes),
            consumers.join(", "),
            mib(ALLOCATOR.peak_usage() as u64),
            mib(self.counted_bytes_max),
        );
    }
}

/// Runs `work` on so many threads and returns the peak meanwhile.
fn watch(database: &Database, threads: u64, work: impl Fn(u64) -> Done + Sync) -> Result<Peak> {
    ALLOCATOR.reset_peak_usage();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = Peak::default();
            while !done.load(Ordering::Relaxed) {
                peak.sample(database);
                std::thread::sleep(SAMPLE_EVERY);
            }
            peak
        });
        let work = &work;
        let workers: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || work(thread)))
            .collect();
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        let flushed = database.flush();
        done.store(true, Ordering::Relaxed);
        let peak = watcher.join();
        for result in results {
            result.map_err(|_| "a thread panicked")??;
        }
        flushed?;
        peak.map_err(|_| "the watcher panicked".into())
    })
}

/// Writes every id that is `thread` modulo `threads`.
fn write(rows: &Keyspace, row_count: u64, (thread, threads): (u64, u64), version: u64) -> Done {
    let mut ids = (thread..row_count).step_by(threads as usize).peekable();
    while ids.peek().is_some() {
        let mut batch = rows.batch();
        for id in ids.by_ref().take(BATCH_ROWS as usize) {
            let value = mix(id ^ version).to_le_bytes();
            batch.insert(key(id), value.repeat(12))?;
        }
        batch.commit()?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let folder = arguments.next().ok_or("a folder to make a database in")?;
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (row_count, memory_mib, threads) = (number(5_000_000)?, number(160)?, number(4)?);
    let options = Options {
        memory_budget_bytes: memory_mib << 20,
        ..Options::unmeasured()
    };
    let database = Database::open(&folder, options)?;
    let rows = database.keyspace("rows")?;
    let rows = rows.with_durability(Durability::Buffered);
    println!("budget {memory_mib} MiB, {row_count} rows of 112 bytes, {threads} threads");
    let loaded = watch(&database, threads, |thread| {
        write(&rows, row_count, (thread, threads), 0)
    })?;
    loaded.print("load");
    let read = watch(&database, threads, |thread| {
        for i in 0..row_count / threads / 4 {
            let id = mix(i * threads + thread) % row_count;
            rows.get_with(key(id), |_| ())?;
        }
        Ok(())
    })?;
    read.print("gets");
    let updated = watch(&database, threads, |thread| {
        write(&rows, row_count / 4, (thread, threads), 1)
    })?;
    updated.print("updates");
    Ok(())
}
