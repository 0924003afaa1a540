//! YCSB's core workloads A to F (Cooper et al., SoCC 2010), on all cores, writes buffered.
//!
//! A row is read and written whole; a reader is made for each read, as rows change beside it. Inserts of each thread
//! have ids of their own, and D's newest rows are those of the thread itself, so every read must find its row.

use super::{Job, rng, settle};
use crate::data::{self, Picks, Rng, Zipf, ensure};
use crate::kv::{Durability, Kv, Reader, Result};
use crate::measure::{Done, run as run_threads};

/// Longest range of workload E.
const SCAN_ROWS_MAX: u64 = 100;
/// Workload E does as many operations less as a range is longer than a row.
const SCAN_OPS_DIVISOR: u64 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Read,
    ReadLatest,
    Update,
    Insert,
    Scan,
    ReadModifyWrite,
}

struct Workload {
    row: &'static str,
    /// The operation of most draws, and the other with its share in per cent.
    usual: Operation,
    other: Operation,
    other_percent: u64,
}

const WORKLOADS: [Workload; 6] = [
    Workload {
        row: "A: 50 % reads, 50 % updates",
        usual: Operation::Read,
        other: Operation::Update,
        other_percent: 50,
    },
    Workload {
        row: "B: 95 % reads, 5 % updates",
        usual: Operation::Read,
        other: Operation::Update,
        other_percent: 5,
    },
    Workload {
        row: "C: reads",
        usual: Operation::Read,
        other: Operation::Read,
        other_percent: 0,
    },
    Workload {
        row: "F: 50 % reads, 50 % read-modify-writes",
        usual: Operation::Read,
        other: Operation::ReadModifyWrite,
        other_percent: 50,
    },
    Workload {
        row: "D: 95 % reads of the latest, 5 % inserts",
        usual: Operation::ReadLatest,
        other: Operation::Insert,
        other_percent: 5,
    },
    Workload {
        row: "E: 95 % ranges, 5 % inserts",
        usual: Operation::Scan,
        other: Operation::Insert,
        other_percent: 5,
    },
];

pub(super) fn run<K: Kv>(job: &Job) -> Result<()> {
    let kv: K = job.open()?;
    let (row_count, threads) = (job.sizes.row_count, job.sizes.threads as u64);
    let zipf = Zipf::new(row_count);
    super::check_all_rows(&kv, row_count)?;
    let inserted: Vec<_> = (0..threads)
        .map(|_| std::sync::atomic::AtomicU64::new(0))
        .collect();
    for (phase, workload) in WORKLOADS.iter().enumerate() {
        let divisor = if workload.usual == Operation::Scan {
            SCAN_OPS_DIVISOR
        } else {
            1
        };
        let ops = job.sizes.op_count / divisor;
        let rate = run_threads(
            job.sizes.threads,
            job.sizes.phase_limit,
            |thread| {
                (
                    thread,
                    draw(
                        workload,
                        &zipf,
                        ops,
                        &mut rng(job, 16 + phase as u64, thread),
                    ),
                )
            },
            |(thread, draws), deadline| {
                let counter = inserted
                    .get(thread as usize)
                    .ok_or("more threads than planned")?;
                let before = counter.load(std::sync::atomic::Ordering::Relaxed);
                let mut client = Client {
                    kv: &kv,
                    row_count,
                    threads,
                    thread,
                    phase: phase as u64,
                    inserted: before,
                };
                let mut done = 0;
                for (i, &(operation, pick)) in draws.iter().enumerate() {
                    let slow = operation == Operation::Scan;
                    if if slow {
                        deadline.passed()
                    } else {
                        deadline.passed_at(i)
                    } {
                        break;
                    }
                    client.perform(operation, pick)?;
                    done += 1;
                }
                counter.store(client.inserted, std::sync::atomic::Ordering::Relaxed);
                Ok(Done::of(done, ops))
            },
        )?;
        job.rate(workload.row, rate);
    }
    kv.sync()?;
    settle(&kv)?;
    let inserted = inserted
        .into_iter()
        .map(std::sync::atomic::AtomicU64::into_inner)
        .sum::<u64>();
    super::check_all_rows(&kv, row_count + inserted)
}

/// The operations, drawn before the clock starts. What the number picks depends on the operation.
fn draw(workload: &Workload, zipf: &Zipf, ops: u64, rng: &mut Rng) -> Vec<(Operation, u64)> {
    let scrambled = Picks::Zipf(zipf.clone());
    (0..ops)
        .map(|_| {
            let other = rng.below(100) < workload.other_percent;
            let operation = if other {
                workload.other
            } else {
                workload.usual
            };
            let pick = if operation == Operation::ReadLatest {
                zipf.rank(rng)
            } else {
                scrambled.pick(rng)
            };
            (operation, pick)
        })
        .collect()
}

/// One thread of a workload.
struct Client<'a, K> {
    kv: &'a K,
    row_count: u64,
    threads: u64,
    thread: u64,
    phase: u64,
    /// How many rows this thread has inserted, in earlier workloads too.
    inserted: u64,
}

impl<K: Kv> Client<'_, K> {
    fn perform(&mut self, operation: Operation, pick: u64) -> Result<()> {
        match operation {
            Operation::Read => self.read(pick).map(drop),
            Operation::ReadLatest if pick < self.inserted => self
                .read(self.inserted_id(self.inserted - 1 - pick))
                .map(drop),
            Operation::ReadLatest => self
                .read(self.row_count.saturating_sub(1 + pick - self.inserted))
                .map(drop),
            Operation::Update => self.update(pick, self.phase),
            Operation::Insert => {
                self.update(self.inserted_id(self.inserted), 0)?;
                self.inserted += 1;
                Ok(())
            }
            Operation::Scan => {
                let limit = 1 + data::mix(pick) % SCAN_ROWS_MAX;
                super::reads::check_range(&mut self.kv.reader()?, pick, limit)
            }
            Operation::ReadModifyWrite => {
                let version = self.read(pick)?;
                self.update(pick, version + 1)
            }
        }
    }

    fn inserted_id(&self, number: u64) -> u64 {
        self.row_count + number * self.threads + self.thread
    }

    fn read(&self, id: u64) -> Result<u64> {
        let mut found = None;
        self.kv
            .reader()?
            .get(&data::key(id), |value| found = data::check_value(value))?;
        let (found_id, version) =
            found.ok_or_else(|| format!("wrong answer: row {id} is missing or damaged"))?;
        ensure(found_id == id, || {
            format!("row {id} has the value of {found_id}")
        })?;
        Ok(version)
    }

    fn update(&self, id: u64, version: u64) -> Result<()> {
        self.kv.put(
            &data::key(id),
            &data::value(id, version),
            Durability::Buffered,
        )
    }
}
