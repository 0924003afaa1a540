//! What Moonshine is meant to reach, and whether this run shows it.

use super::{Line, Section, Stored};
use crate::settings::BATCH_ROWS;
use crate::workloads::Engine;

/// Up to this many rows a run counts as small: write amplification grows with the depth of a tree.
const SMALL_ROW_COUNT: u64 = 2_000_000;

/// One aim in one row of the tables.
struct Target {
    engine: Engine,
    section: &'static str,
    row: &'static str,
    aim: Aim,
}

/// What is compared, and the bound.
#[derive(Clone, Copy)]
enum Aim {
    /// Rate: at least so many times the best of these engines.
    Times(f64, &'static [Engine]),
    /// CPU time an operation: at most so much of the least that one of these engines takes.
    CpuShare(f64, &'static [Engine]),
    /// CPU time an operation, in µs, at most.
    CpuUs(f64),
    /// A figure, at most: in a small run, and in a larger one.
    AtMost { small: f64, larger: f64 },
    /// Rate of single durable writes: at least this share of what the device allows.
    OfDurableWrites(f64),
    /// Rate of rows in durable batches: at least this share of what the device allows.
    OfDurableBatches(f64),
}

use Engine::{Fjall, Lmdb, Moonshine, MoonshineRange, Redb, Rocksdb, Sled};

const LSMS: &[Engine] = &[Rocksdb, Fjall];
const PEERS: &[Engine] = &[Rocksdb, Fjall, Redb, Lmdb, Sled];

const fn target(section: &'static str, row: &'static str, aim: Aim) -> Target {
    Target {
        engine: Moonshine,
        section,
        row,
        aim,
    }
}

/// Of a keyspace that is divided by range.
const fn range_target(section: &'static str, row: &'static str, aim: Aim) -> Target {
    Target {
        engine: MoonshineRange,
        ..target(section, row, aim)
    }
}

const fn at_most(bound: f64) -> Aim {
    Aim::AtMost {
        small: bound,
        larger: bound,
    }
}

const TARGETS: &[Target] = &[
    target(
        "bulk load",
        "bulk load, settled",
        Aim::Times(5.0, &[Rocksdb]),
    ),
    target(
        "bulk load",
        "bulk load, settled",
        Aim::CpuShare(0.25, &[Rocksdb]),
    ),
    target(
        "bulk load",
        "write amplification, settled",
        Aim::AtMost {
            small: 2.5,
            larger: 3.0,
        },
    ),
    target("bulk load", "space amplification, settled", at_most(1.2)),
    target("churn", "updates, settled", Aim::Times(4.0, &[Rocksdb])),
    target("churn", "deletes, settled", Aim::Times(4.0, &[Rocksdb])),
    target(
        "churn",
        "space amplification after updates, settled",
        at_most(1.2),
    ),
    target(
        "churn",
        "space amplification after deleting 80 %, settled",
        at_most(1.5),
    ),
    target(
        "writes",
        "batches of 1000, synced",
        Aim::OfDurableBatches(0.8),
    ),
    target(
        "writes",
        "single durable rows, 1 thread",
        Aim::OfDurableWrites(0.9),
    ),
    target(
        "writes",
        "single durable rows, 64 threads",
        Aim::Times(2.0, PEERS),
    ),
    target(
        "reads",
        "get, hit, uniform, 1 thread",
        Aim::Times(1.5, &[Lmdb]),
    ),
    target(
        "reads",
        "get, hit, uniform, 1 thread",
        Aim::Times(4.0, LSMS),
    ),
    target("reads", "get, hit, uniform, 1 thread", Aim::CpuUs(0.6)),
    target(
        "reads",
        "get, hit, zipf, 1 thread",
        Aim::Times(1.5, &[Lmdb]),
    ),
    target(
        "reads",
        "get, hit, uniform, all cores",
        Aim::Times(1.3, &[Lmdb]),
    ),
    target(
        "reads",
        "get, hit, zipf, all cores",
        Aim::Times(1.3, &[Lmdb]),
    ),
    target("reads", "get, miss, 1 thread", Aim::Times(1.5, PEERS)),
    target("reads", "get, miss, all cores", Aim::Times(1.5, PEERS)),
    target("reads", "full scan, rows", Aim::Times(1.0, &[Lmdb])),
    target(
        "reads",
        "full scan, Arrow batches",
        Aim::Times(4.0, &[Lmdb]),
    ),
    range_target(
        "reads",
        "ranges of 100, 1 thread",
        Aim::Times(1.5, &[Rocksdb]),
    ),
    target(
        "reads",
        "ranges of 100, 1 thread",
        Aim::Times(0.3, &[Rocksdb]),
    ),
    target(
        "YCSB",
        "A: 50 % reads, 50 % updates",
        Aim::Times(3.0, &[Fjall]),
    ),
    target(
        "YCSB",
        "B: 95 % reads, 5 % updates",
        Aim::Times(3.0, &[Fjall]),
    ),
    target("YCSB", "C: reads", Aim::Times(1.2, &[Lmdb])),
    target(
        "YCSB",
        "D: 95 % reads of the latest, 5 % inserts",
        Aim::Times(3.0, &[Fjall]),
    ),
    target(
        "YCSB",
        "E: 95 % ranges, 5 % inserts",
        Aim::Times(1.5, &[Rocksdb]),
    ),
    range_target(
        "YCSB",
        "E: 95 % ranges, 5 % inserts",
        Aim::Times(1.5, &[Rocksdb]),
    ),
    target(
        "YCSB",
        "F: 50 % reads, 50 % read-modify-writes",
        Aim::Times(3.0, &[Fjall]),
    ),
    target("reopen after kill -9", "open and first get", at_most(50.0)),
    target(
        "larger than memory",
        "get, hit, uniform, 1 thread",
        Aim::Times(1.5, LSMS),
    ),
    target(
        "larger than memory",
        "get, hit, uniform, 1 thread",
        Aim::Times(1.0, &[Lmdb]),
    ),
    target(
        "larger than memory",
        "write amplification, settled",
        at_most(3.0),
    ),
    target(
        "larger than memory",
        "space amplification, settled",
        at_most(1.2),
    ),
];

/// A target with what the run says.
pub(super) struct Verdict {
    pub(super) engine: Engine,
    pub(super) section: &'static str,
    pub(super) row: &'static str,
    /// The bound, in words.
    pub(super) aim: String,
    pub(super) measured: f64,
    pub(super) is_met: bool,
}

/// The targets of which the run has all that they compare.
pub(super) fn verdicts(stored: &Stored, sections: &[Section]) -> Vec<Verdict> {
    let verdict = |target: &Target| {
        let section = sections
            .iter()
            .find(|section| section.name == target.section)?;
        let compared_with = super::COMPARED_WITH
            .iter()
            .find(|(row, _)| *row == target.row)
            .map_or(target.row, |(_, other)| other);
        let line = |row| section.lines.iter().find(|line| line.row == row);
        judge(stored, target, line(target.row)?, line(compared_with)?)
    };
    TARGETS.iter().filter_map(verdict).collect()
}

fn judge(stored: &Stored, target: &Target, own: &Line, peers: &Line) -> Option<Verdict> {
    let cell = own.cells.get(&target.engine)?;
    let values = |engines: &[Engine]| {
        let cells = engines.iter().filter_map(|engine| peers.cells.get(engine));
        cells.copied().collect::<Vec<_>>()
    };
    let (aim, measured, is_met) = match target.aim {
        Aim::Times(factor, engines) => {
            let best = values(engines)
                .iter()
                .map(|cell| cell.value)
                .reduce(f64::max)?;
            let ratio = cell.value / best;
            let aim = format!("≥ {factor} × {}", names(engines));
            (aim, ratio, ratio >= factor)
        }
        Aim::CpuShare(share, engines) => {
            let least = values(engines)
                .iter()
                .filter_map(|cell| cell.cpu_us_per_op)
                .reduce(f64::min)?;
            let ratio = cell.cpu_us_per_op? / least;
            let aim = format!("CPU ≤ {share} × {}", names(engines));
            (aim, ratio, ratio <= share)
        }
        Aim::CpuUs(bound) => {
            let cpu_us = cell.cpu_us_per_op?;
            (format!("CPU ≤ {bound} µs"), cpu_us, cpu_us <= bound)
        }
        Aim::AtMost { small, larger } => {
            let is_small = stored.sizes.row_count <= SMALL_ROW_COUNT;
            let bound = if is_small { small } else { larger };
            (format!("≤ {bound}"), cell.value, cell.value <= bound)
        }
        Aim::OfDurableWrites(share) => {
            let machine = &stored.machine;
            let device = machine
                .durable_appends_per_s
                .max(machine.durable_overwrites_per_s);
            let ratio = cell.value / device;
            (
                format!("≥ {share} × the device's durable writes"),
                ratio,
                ratio >= share,
            )
        }
        Aim::OfDurableBatches(share) => {
            let machine = &stored.machine;
            let device = machine
                .durable_batch_appends_per_s
                .max(machine.durable_batch_overwrites_per_s);
            let ratio = cell.value / BATCH_ROWS as f64 / device;
            (
                format!("≥ {share} × the device's durable writes of that size"),
                ratio,
                ratio >= share,
            )
        }
    };
    Some(Verdict {
        engine: target.engine,
        section: target.section,
        row: target.row,
        aim,
        measured,
        is_met,
    })
}

fn names(engines: &[Engine]) -> String {
    match engines {
        [engine] => engine.name().into(),
        _ if engines.len() == PEERS.len() => "the best peer".into(),
        _ => "the best LSM".into(),
    }
}
