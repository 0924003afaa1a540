//! Write and space amplification of a load and of churn, settled: 16-byte keys, 100-byte values, as in benches/kv; what
//! the log, flushes and each kind of compaction wrote of it, and what the levels hold then.
//!
//! ```sh
//! cargo bench -p moonshine-engine --bench amplification -- FOLDER [ROWS [MEMORY_MIB]]
//! ```
//!
//! Bytes written are those that the kernel counts for the process, size on disk is allocated blocks, and *settled* means
//! that the database was asked to flush and then used no CPU for a while; no compaction is asked for.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program that measures, not the engine"
)]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use moonshine_engine::{Database, Durability, Keyspace, Options, Statistics};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const KEY_SIZE_BYTES: u64 = 16;
const ROW_SIZE_BYTES: u64 = 116;
const BATCH_ROWS: u64 = 1000;
/// One row in so many survives the deletes.
const SURVIVORS: u64 = 5;
const MEMORY_MIB: u64 = 320;
/// What the database lays itself out with, given this S-Size, S-Paral and memory.
const S_SIZE_BYTES: u64 = 512 << 10;
const S_PARAL: u32 = 4;
const FRAGMENT_SIZE_BYTES: u64 = 128 * S_SIZE_BYTES;
const GENERATIONS_PER_MEMORY: u64 = 6;

/// The finaliser of SplitMix64.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Consecutive ids are far apart in key order.
fn key(id: u64) -> [u8; 16] {
    let mut key = [0; 16];
    let (hash, number) = key.split_at_mut(8);
    hash.copy_from_slice(&mix(id).to_be_bytes());
    number.copy_from_slice(&id.to_be_bytes());
    key
}

fn value(id: u64, version: u64) -> [u8; 100] {
    let mut value = [0; 100];
    let mut word = mix(id ^ version.rotate_left(32));
    for chunk in value.chunks_mut(8) {
        for (place, byte) in chunk.iter_mut().zip(word.to_le_bytes()) {
            *place = byte;
        }
        word = mix(word);
    }
    value
}

/// All ids below a count once, in an order that looks random: a walk by a step that has no factor in common with it.
fn shuffled(count: u64, seed: u64) -> impl Iterator<Item = u64> {
    let gcd = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let mut step = mix(seed) % count;
    while gcd(step, count) != 1 {
        step = (step + 1) % count;
    }
    (0..count).map(move |i| (i * step + seed) % count)
}

#[derive(Clone, Copy)]
struct Usage {
    at: Instant,
    cpu: Duration,
    written_bytes: u64,
}

impl Usage {
    fn now() -> Result<Self> {
        let io = std::fs::read_to_string("/proc/self/io")?;
        let line = io
            .lines()
            .find_map(|line| line.strip_prefix("write_bytes: "));
        Ok(Usage {
            at: Instant::now(),
            cpu: cpu_time()?,
            written_bytes: line.ok_or("no write_bytes")?.parse()?,
        })
    }
}

/// CPU time of all threads, to a hundredth of a second.
fn cpu_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let mut fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let user: u64 = fields.nth(11).ok_or("no utime")?.parse()?;
    let system: u64 = fields.next().ok_or("no stime")?.parse()?;
    Ok(Duration::from_millis((user + system) * 10))
}

fn disk_bytes(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let metadata = entry.as_ref().map_err(ToString::to_string)?.metadata();
        let Ok(metadata) = metadata else { continue };
        bytes += if metadata.is_dir() {
            disk_bytes(&entry?.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}

/// Flushes, and waits until this process used no CPU for a third of a second.
fn settle(database: &Database) -> Result<Usage> {
    database.flush()?;
    let mut idle_since = Usage::now()?;
    while idle_since.at.elapsed() < Duration::from_millis(330) {
        std::thread::sleep(Duration::from_millis(20));
        let now = Usage::now()?;
        if now.cpu > idle_since.cpu || now.written_bytes > idle_since.written_bytes {
            idle_since = now;
        }
    }
    Ok(idle_since)
}

/// The write amplification of updates at random of so many bytes of rows, by the formula for a tree of fragments:
/// 1 + L + ⌊log_k(ρ·b/S)⌋ + 1/ρ. L is the number of levels below the root, b the bytes of a leaf, S what a flush brings it,
/// k how many RowSets a merge takes at least, and ρ the part of a leaf that may be dead.
fn formula(data_bytes: u64, generation_size_bytes: u64) -> f64 {
    const MERGED_ROW_SETS: f64 = 8.0;
    const DEAD_SHARE: f64 = 0.5;
    let fanout = f64::from(S_PARAL);
    let fragments = data_bytes as f64 / FRAGMENT_SIZE_BYTES as f64;
    let levels = fragments.log(fanout).ceil().max(0.0);
    let leaves = fanout.powf(levels);
    let flushed_bytes = (generation_size_bytes as f64 / leaves).max(S_SIZE_BYTES as f64);
    let dead_bytes = DEAD_SHARE * data_bytes as f64 / leaves;
    let merges = (dead_bytes / flushed_bytes).log(MERGED_ROW_SETS).floor();
    1.0 + levels + merges.max(0.0) + 1.0 / DEAD_SHARE
}

struct Bench<'a> {
    row_count: u64,
    generation_size_bytes: u64,
    folder: &'a Path,
    database: Database,
    rows: Keyspace,
}

/// What was written between two moments for each byte of rows, by who wrote it, and the levels as they are at the second.
fn print_levels(before: &Statistics, after: &Statistics, user_bytes: u64) {
    let times = |before: u64, after: u64| (after - before) as f64 / user_bytes as f64;
    print!(
        "  log {:.2}, flushes {:.2}",
        times(before.writes.log_bytes, after.writes.log_bytes),
        times(before.flushes.written_bytes, after.flushes.written_bytes),
    );
    for (kind, work) in &after.compactions {
        let known = before.compactions.iter().find(|(known, _)| known == kind);
        let written_bytes = known.map_or(0, |(_, work)| work.written_bytes);
        print!(", {kind} {:.2}", times(written_bytes, work.written_bytes));
    }
    println!();
    for level in after.tables.iter().flat_map(|table| &table.levels) {
        println!(
            "  level {}: {} fragments, {} MiB in {} RowSets, {} at most in one",
            level.level,
            level.fragments,
            level.held.size_bytes >> 20,
            level.held.row_sets,
            level.row_sets_max,
        );
    }
}

impl Bench<'_> {
    fn put(&self, ids: impl Iterator<Item = u64>, version: u64) -> Result<()> {
        let mut ids = ids.peekable();
        while ids.peek().is_some() {
            let mut batch = self.rows.batch();
            for id in ids.by_ref().take(BATCH_ROWS as usize) {
                batch.insert(key(id), value(id, version))?;
            }
            batch.commit()?;
        }
        Ok(self.database.sync()?)
    }

    fn delete(&self, ids: impl Iterator<Item = u64>) -> Result<u64> {
        let mut ids = ids.peekable();
        let mut count = 0;
        while ids.peek().is_some() {
            let mut batch = self.rows.batch();
            for id in ids.by_ref().take(BATCH_ROWS as usize) {
                batch.remove(key(id))?;
                count += 1;
            }
            batch.commit()?;
        }
        self.database.sync()?;
        Ok(count)
    }

    /// Does some work, settles, and says what it took.
    fn measure(
        &self,
        what: &str,
        live_rows: u64,
        work: impl FnOnce() -> Result<u64>,
    ) -> Result<()> {
        let (before, counted) = (Usage::now()?, self.database.statistics());
        let user_bytes = work()?;
        let worked = Usage::now()?;
        let settled = settle(&self.database)?;
        let written = (settled.written_bytes - before.written_bytes) as f64 / user_bytes as f64;
        let space = disk_bytes(self.folder)? as f64 / (live_rows * ROW_SIZE_BYTES) as f64;
        let bound = formula(self.row_count * ROW_SIZE_BYTES, self.generation_size_bytes);
        println!(
            "{what:<22} write amplification {written:6.2} (formula for updates {bound:.2})  space amplification {space:5.2}  {:6.1} s, settled after {:5.1} s, \
             {:6.1} CPU-s",
            (worked.at - before.at).as_secs_f64(),
            (settled.at - worked.at).as_secs_f64(),
            (settled.cpu - before.cpu).as_secs_f64(),
        );
        print_levels(&counted, &self.database.statistics(), user_bytes);
        Ok(())
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let folder = arguments.next().ok_or("a folder to make a database in")?;
    let row_count: u64 = arguments
        .next()
        .map_or(Ok(1_000_000), |rows| rows.parse())?;
    let memory_mib: u64 = arguments.next().map_or(Ok(MEMORY_MIB), |mib| mib.parse())?;
    let folder = Path::new(&folder);
    let database = Database::open(
        folder,
        Options {
            profile: moonshine_sysprobe::Profile::given(S_SIZE_BYTES, S_PARAL).into(),
            memory_budget_bytes: memory_mib << 20,
            ..Options::default()
        },
    )?;
    let rows = database.keyspace("rows")?;
    let rows = rows.with_durability(Durability::Buffered);
    let bench = Bench {
        row_count,
        generation_size_bytes: (memory_mib << 20) / GENERATIONS_PER_MEMORY,
        folder,
        database,
        rows,
    };
    bench.measure("load", row_count, || {
        bench.put(shuffled(row_count, 42), 0)?;
        Ok(row_count * ROW_SIZE_BYTES)
    })?;
    bench.measure("updates of a quarter", row_count, || {
        let quarter = row_count as usize / 4;
        let picks = (0..).map(|i| mix(i ^ 0xface) % row_count);
        bench.put(picks.take(quarter), 3)?;
        Ok(quarter as u64 * ROW_SIZE_BYTES)
    })?;
    bench.measure("two updates of each", row_count, || {
        for pass in 1..3 {
            bench.put(shuffled(row_count, 42 + pass), pass)?;
        }
        Ok(2 * row_count * ROW_SIZE_BYTES)
    })?;
    let survives = |id: &u64| mix(id ^ 0x5eed).is_multiple_of(SURVIVORS);
    let survivors = (0..row_count).filter(survives).count() as u64;
    bench.measure("80 % deleted", survivors, || {
        let victims = shuffled(row_count, 45).filter(|id| !survives(id));
        Ok(bench.delete(victims)? * KEY_SIZE_BYTES)
    })?;
    let found = bench.rows.iter().count() as u64;
    if found != survivors {
        return Err(format!("{found} rows of {survivors}").into());
    }
    Ok(())
}
