//! Times the write path: `cargo bench -p moonshine-engine --bench write -- [rows] [folder] [phases]`.
//!
//! Rows of 16-byte keys and 100-byte values in random order, in batches of 1000 through a keyspace: loaded, overwritten,
//! deleted, overwritten with a sync a batch, and each of it flushed; single durable rows by 1, 16 and 64 threads; the same
//! rows by a bulk load. Phases are letters in any order, `luds1b` if left out. Times are of the process, background threads included; compare figures of one run only.

#![allow(clippy::indexing_slicing, reason = "a benchmark may panic")]
#![allow(clippy::disallowed_methods, reason = "a benchmark looks at the clock")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use moonshine_engine::{Database, Durability, Keyspace, Options};
use rustix::time::{ClockId, clock_gettime};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const BATCH_ROWS: usize = 1000;
const THREAD_COUNTS: [u64; 3] = [1, 16, 64];
/// Single durable rows are written for so long.
const PHASE: Duration = Duration::from_secs(3);

fn main() -> Outcome<()> {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let rows: u64 = match arguments.next() {
        Some(rows) => rows.parse()?,
        None => 1_000_000,
    };
    let temporary = tempfile::tempdir()?;
    let folder = match arguments.next() {
        Some(folder) => PathBuf::from(folder),
        None => temporary.path().to_owned(),
    };
    let phases = arguments.next().unwrap_or_else(|| "luds1b".into());
    let database = Database::open(&folder, Options::unmeasured())?;
    let synced = database.keyspace("rows")?;
    let buffered = synced.clone().with_durability(Durability::Buffered);
    println!("{rows} rows of 16 + 100 bytes");
    for phase in phases.chars() {
        match phase {
            'l' => batches(&database, &buffered, rows, 0, "load")?,
            'u' => batches(&database, &buffered, rows, 1, "overwrite")?,
            'b' => bulk_load(&database, &synced, rows)?,
            'd' => deletes(&database, &buffered, rows)?,
            's' => batches(&database, &synced, rows, 2, "overwrite, synced")?,
            '1' => single(&synced, rows)?,
            _ => return Err(format!("phase {phase} is unknown").into()),
        }
    }
    Ok(())
}

fn key(i: u64) -> [u8; 16] {
    xxh3_128(&i.to_le_bytes()).to_be_bytes()
}

/// A permutation of the numbers below `rows`: a step that shares no factor with it.
fn shuffled(rows: u64, pass: u64) -> impl Iterator<Item = u64> {
    let mut step = rows / 3 * 2 + 7919 * (pass + 1);
    while gcd(step, rows) != 1 {
        step += 1;
    }
    (0..rows).map(move |i| i.wrapping_mul(step) % rows)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn batches(
    database: &Database,
    keyspace: &Keyspace,
    rows: u64,
    pass: u64,
    what: &str,
) -> Outcome<()> {
    let mut value = [0; 100];
    let mut ids = shuffled(rows, pass).peekable();
    let usage = Usage::now();
    while ids.peek().is_some() {
        let mut batch = keyspace.batch();
        for id in ids.by_ref().take(BATCH_ROWS) {
            value[..8].copy_from_slice(&xxh3_64(&id.to_le_bytes()).to_le_bytes());
            value[8..16].copy_from_slice(&pass.to_le_bytes());
            batch.insert(key(id), value)?;
        }
        batch.commit()?;
    }
    database.sync()?;
    usage.print(what, rows);
    database.flush()?;
    usage.print(&format!("{what}, flushed"), rows);
    database.compact()?;
    usage.print(&format!("{what}, compacted"), rows);
    Ok(())
}

fn bulk_load(database: &Database, keyspace: &Keyspace, rows: u64) -> Outcome<()> {
    let mut value = [0; 100];
    let usage = Usage::now();
    let mut load = keyspace.bulk_load()?;
    for id in shuffled(rows, 5) {
        value[..8].copy_from_slice(&xxh3_64(&id.to_le_bytes()).to_le_bytes());
        load.insert(key(id), value)?;
    }
    usage.print("bulk load, gathered", rows);
    load.finish()?;
    usage.print("bulk load", rows);
    database.compact()?;
    usage.print("bulk load, compacted", rows);
    Ok(())
}

fn deletes(database: &Database, keyspace: &Keyspace, rows: u64) -> Outcome<()> {
    let mut ids = shuffled(rows, 3).peekable();
    let usage = Usage::now();
    while ids.peek().is_some() {
        let mut batch = keyspace.batch();
        for id in ids.by_ref().take(BATCH_ROWS) {
            batch.remove(key(id))?;
        }
        batch.commit()?;
    }
    database.sync()?;
    usage.print("delete", rows);
    database.flush()?;
    usage.print("delete, flushed", rows);
    Ok(())
}

fn single(keyspace: &Keyspace, rows: u64) -> Outcome<()> {
    for threads in THREAD_COUNTS {
        let usage = Usage::now();
        let write = |thread| {
            let started = Instant::now();
            let mut written = 0;
            while started.elapsed() < PHASE {
                let id = xxh3_64(&[thread, written].map(u64::to_le_bytes).concat()) % rows;
                keyspace.insert(key(id), [1; 100])?;
                written += 1;
            }
            Ok::<u64, moonshine_engine::Error>(written)
        };
        let written: Vec<_> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads)
                .map(|thread| scope.spawn(move || write(thread)))
                .collect();
            handles.into_iter().map(|handle| handle.join()).collect()
        });
        let mut count = 0;
        for written in written {
            count += written.map_err(|_| "a thread ended in a panic")??;
        }
        usage.print(&format!("single rows, {threads} threads"), count);
    }
    Ok(())
}

/// When a phase began, and the processor time of the process then.
struct Usage {
    started: Instant,
    cpu_ns: f64,
}

impl Usage {
    fn now() -> Self {
        Usage {
            started: Instant::now(),
            cpu_ns: cpu_ns(),
        }
    }

    fn print(&self, what: &str, count: u64) {
        let ns = cpu_ns() - self.cpu_ns;
        println!(
            "{what:>28}: {:8.3} M/s, {:8.1} ns of CPU each",
            count as f64 / self.started.elapsed().as_secs_f64() / 1e6,
            ns / count as f64
        );
    }
}

fn cpu_ns() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
