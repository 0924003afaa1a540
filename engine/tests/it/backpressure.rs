//! Writers that are faster than the flush: slowed down first, stopped at the limit, and never for good.
//!
//! Defends *bounded*: at a limit, writers wait.

use std::path::Path;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use moonshine_engine::io::{Io, SimulatedIo};
use moonshine_engine::{Database, Error, Keyspace, Options, Scan, StallReason, StallStatistics};

use crate::wait_until;

const GENERATION_SIZE_BYTES: u64 = 64 << 10;
const VALUE_SIZE_BYTES: usize = 200;

fn open(io: &SimulatedIo) -> (Database, Keyspace) {
    open_with(io, 4 << 20)
}

fn open_with(io: &SimulatedIo, memory_budget_bytes: u64) -> (Database, Keyspace) {
    let options = Options {
        io: Arc::new(io.clone()),
        profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
        memory_budget_bytes,
        generation_size_bytes_max: Some(GENERATION_SIZE_BYTES),
        ..Options::unmeasured()
    };
    let database = Database::open(Path::new("/db"), options).unwrap();
    let keyspace = database.keyspace("pairs").unwrap();
    (database, keyspace)
}

fn insert(keyspace: &Keyspace, k: u32) -> Result<(), Error> {
    keyspace.insert(k.to_be_bytes(), [1; VALUE_SIZE_BYTES])
}

fn flush_stalls(database: &Database) -> StallStatistics {
    let stalls = database.statistics().stalls;
    let mut stalls = stalls.into_iter();
    stalls
        .find(|stall| stall.reason == StallReason::Flush)
        .unwrap()
}

/// The thread that flushes lets a generation go a moment after it said that it was flushed.
pub(crate) fn wait_until_nothing_is_kept(database: &Database) {
    let kept = || database.statistics().memory.kept_generation_bytes;
    wait_until("no generation is kept", || kept() == 0);
}

/// Lets writes go on when a test ends, however it ends.
struct Held(SimulatedIo);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.hold_writes(None);
    }
}

/// A database whose flush takes a microsecond a byte, after its first one, with the next ones held.
fn with_a_held_flush(io: &SimulatedIo) -> (Database, Keyspace, Held) {
    let (database, keyspace) = open(io);
    io.set_write_time(Duration::from_micros(1));
    (0..300).for_each(|k| insert(&keyspace, k).unwrap());
    database.flush().unwrap();
    io.hold_writes(Some(".mdelta"));
    (database, keyspace, Held(io.clone()))
}

/// How much each of so many commits was slowed down, as long as none waits at the limit.
fn delays_below_the_limit(database: &Database, keyspace: &Keyspace) -> Vec<Duration> {
    let mut delays = Vec::new();
    let mut before = flush_stalls(database).time;
    for k in 0.. {
        let queued = database.statistics().queued_flushes;
        if queued == 3 {
            break;
        }
        insert(keyspace, k).unwrap();
        let now = flush_stalls(database).time;
        delays.push(now.saturating_sub(before));
        before = now;
    }
    delays
}

#[test]
fn a_commit_is_delayed_the_longer_the_nearer_the_limit_is() {
    let io = SimulatedIo::new(1);
    let (database, keyspace, _held) = with_a_held_flush(&io);
    let delays = delays_below_the_limit(&database, &keyspace);
    // Generations 0 and ½ pass for nothing.
    let free = delays.iter().take_while(|delay| delay.is_zero()).count();
    assert!(
        free > delays.len() / 3 && free < delays.len() * 2 / 3,
        "{free} of {}",
        delays.len()
    );
    let slowed = &delays[free..];
    assert!(slowed.iter().all(|delay| !delay.is_zero()), "{slowed:?}");
    let parts: Vec<Duration> = slowed
        .chunks(slowed.len() / 4)
        .take(4)
        .map(|part| part.iter().sum::<Duration>())
        .collect();
    assert!(
        parts.is_sorted_by(|a, b| 2 * *a < *b),
        "each quarter costs over twice the one before: {parts:?}"
    );
    // The flush's rate is one byte a microsecond, and a little less with what it does besides writing.
    let cost = Duration::from_micros((4 + VALUE_SIZE_BYTES as u64 + 64) * 2);
    let middle = slowed[slowed.len() / 2];
    assert!(
        middle > cost / 4 && middle < cost * 2,
        "{middle:?} where writers and flush are equally fast, about {cost:?}"
    );
    io.hold_writes(None);
    database.flush().unwrap();
}

#[test]
fn writers_stand_still_at_the_limit_and_go_on_after_the_flush() {
    let io = SimulatedIo::new(1);
    let (database, keyspace, _held) = with_a_held_flush(&io);
    let written = delays_below_the_limit(&database, &keyspace).len() as u32;
    let before = flush_stalls(&database).count;
    std::thread::scope(|scope| {
        let writers: Vec<ScopedJoinHandle<'_, ()>> = (0..4)
            .map(|writer| {
                let keyspace = &keyspace;
                scope.spawn(move || insert(keyspace, 1_000_000 + writer).unwrap())
            })
            .collect();
        // They are inside once their commits are counted; none of them gets through.
        wait_until("all writers are inside", || {
            database.statistics().writes.commits >= u64::from(300 + written + 4)
        });
        (0..1_000).for_each(|_| std::thread::yield_now());
        assert!(writers.iter().all(|writer| !writer.is_finished()));
        let memory = database.statistics().memory;
        assert!(
            memory.generation_bytes < 5 * GENERATION_SIZE_BYTES,
            "{memory:?}"
        );
        // They are seen to wait while they do.
        wait_until("all writers wait", || flush_stalls(&database).waiting == 4);
        let waiting = flush_stalls(&database);
        assert!(waiting.count >= before + 4);
        io.sleep(Duration::from_secs(1));
        let later = flush_stalls(&database);
        assert!(later.time - waiting.time >= Duration::from_secs(4));
        io.hold_writes(None);
    });
    let after = flush_stalls(&database);
    assert_eq!((after.waiting, after.count >= before + 4), (0, true));
    for k in (0..written).chain(1_000_000..1_000_004) {
        assert!(keyspace.contains_key(k.to_be_bytes()).unwrap(), "{k}");
    }
}

/// Scans that can't let go of what they began with slow writers down, also their own thread, but never stop them.
#[test]
fn memory_that_scans_keep_slows_writers_down_and_is_told() {
    let io = SimulatedIo::new(1);
    let (database, keyspace) = open_with(&io, 1 << 20);
    let of_memory = || {
        let stalls = database.statistics().stalls;
        let mut stalls = stalls.into_iter();
        let stall = stalls.find(|stall| stall.reason == StallReason::Memory);
        stall.unwrap().count
    };
    let mut scans = Vec::new();
    while of_memory() < 100 {
        assert!(scans.len() < 200, "{:?}", database.statistics().memory);
        (0..40).for_each(|k| insert(&keyspace, k).unwrap());
        let scan = Scan {
            batch_rows: 10,
            ..Scan::default()
        };
        let mut batches = database.snapshot().scan(keyspace.table(), scan).unwrap();
        batches.next().unwrap().unwrap();
        scans.push(batches);
        database.flush().unwrap();
    }
    let memory = database.statistics().memory;
    let three_quarters = memory.budget_bytes * 3 / 4;
    assert!(
        memory.kept_generation_bytes > three_quarters - (64 << 10),
        "{memory:?}"
    );
    drop(scans);
    wait_until_nothing_is_kept(&database);
    let before = of_memory();
    (0..40).for_each(|k| insert(&keyspace, k).unwrap());
    assert_eq!(of_memory(), before);
}

#[test]
fn who_waits_at_the_limit_hears_of_a_flush_that_fails() {
    let io = SimulatedIo::new(1);
    let (database, keyspace, _held) = with_a_held_flush(&io);
    delays_below_the_limit(&database, &keyspace);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| insert(&keyspace, 1_000_000));
        io.fail_writes_after(0);
        io.hold_writes(None);
        assert!(writer.join().unwrap().is_err());
    });
    assert!(keyspace.contains_key(0_u32.to_be_bytes()).unwrap());
}
