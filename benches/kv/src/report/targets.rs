//! What Moonshine is meant to reach, and whether this run shows it.
//!
//! A target names the peers that its factor is about. Another one may be better in a row; so the same factor is held against
//! the best peer of the row too, and both are said.

use super::{Cell, Line, Section, Stored};
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
    /// The same against the best peer of the row, where the target is about peers.
    pub(super) against_best: Option<AgainstPeer>,
}

/// A target held against the best of some peers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct AgainstPeer {
    pub(super) peer: Engine,
    pub(super) measured: f64,
    pub(super) is_met: bool,
}

impl Verdict {
    /// Whether it is met, also against the best peer of the row if it is about peers.
    pub(super) fn is_met_by_all(&self) -> bool {
        self.is_met && self.against_best.is_none_or(|best| best.is_met)
    }
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
    let mut against_best = None;
    let (aim, measured, is_met) = match target.aim {
        Aim::Times(factor, engines) => {
            against_best = times(factor, cell, peers, PEERS);
            let named = times(factor, cell, peers, engines)?;
            let aim = format!("≥ {factor} × {}", names(engines));
            (aim, named.measured, named.is_met)
        }
        Aim::CpuShare(share, engines) => {
            against_best = cpu_share(share, cell, peers, PEERS);
            let named = cpu_share(share, cell, peers, engines)?;
            let aim = format!("CPU ≤ {share} × {}", names(engines));
            (aim, named.measured, named.is_met)
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
        against_best,
    })
}

/// A rate as so many times the best of these engines.
fn times(factor: f64, own: &Cell, line: &Line, engines: &[Engine]) -> Option<AgainstPeer> {
    let rates = engines
        .iter()
        .filter_map(|engine| Some((*engine, line.cells.get(engine)?.value)));
    let (peer, best) = rates.max_by(|a, b| a.1.total_cmp(&b.1))?;
    let measured = own.value / best;
    Some(AgainstPeer {
        peer,
        measured,
        is_met: measured >= factor,
    })
}

/// CPU time as a share of the least that one of these engines takes.
fn cpu_share(share: f64, own: &Cell, line: &Line, engines: &[Engine]) -> Option<AgainstPeer> {
    let cpu_us = engines
        .iter()
        .filter_map(|engine| Some((*engine, line.cells.get(engine)?.cpu_us_per_op?)));
    let (peer, least) = cpu_us.min_by(|a, b| a.1.total_cmp(&b.1))?;
    let measured = own.cpu_us_per_op? / least;
    Some(AgainstPeer {
        peer,
        measured,
        is_met: measured <= share,
    })
}

fn names(engines: &[Engine]) -> String {
    match engines {
        [engine] => engine.name().into(),
        _ if engines.len() == PEERS.len() => "the best peer".into(),
        _ => "the best LSM".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Unit;
    use super::*;

    fn cell(value: f64, cpu_us: f64) -> Cell {
        Cell {
            value,
            cpu_us_per_op: Some(cpu_us),
            planned_s: None,
            cut_short: false,
        }
    }

    fn line() -> Line {
        let cells = [
            (Moonshine, cell(30.0, 1.0)),
            // No peer, though it is the best.
            (MoonshineRange, cell(90.0, 0.1)),
            (Fjall, cell(10.0, 4.0)),
            (Rocksdb, cell(20.0, 5.0)),
        ];
        Line {
            row: String::new(),
            unit: Unit::OpsPerS,
            cells: cells.into(),
            best_peer: None,
        }
    }

    /// The peer that a target names may be met where the best one of the row is missed.
    #[test]
    fn a_target_is_held_against_the_best_of_some_peers() {
        let (line, own) = (line(), cell(30.0, 1.0));
        let held = |peer, measured, is_met| {
            Some(AgainstPeer {
                peer,
                measured,
                is_met,
            })
        };
        assert_eq!(times(3.0, &own, &line, &[Fjall]), held(Fjall, 3.0, true));
        assert_eq!(times(3.0, &own, &line, PEERS), held(Rocksdb, 1.5, false));
        let of_rocksdb = cpu_share(0.2, &own, &line, &[Rocksdb]);
        assert_eq!(of_rocksdb, held(Rocksdb, 0.2, true));
        assert_eq!(cpu_share(0.2, &own, &line, PEERS), held(Fjall, 0.25, false));
        assert_eq!(times(1.0, &own, &line, &[Sled]), None);
    }
}
