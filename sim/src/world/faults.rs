//! What the world does between rounds.

use std::sync::atomic::Ordering;
use std::time::Duration;

use moonshine_engine::Error;
use moonshine_engine::io::{
    Fault, FaultPlan, FaultRule, FileKind, Lasts, Latency, Operation as Call,
};

use super::World;
use super::outcome::{Step, Stop};
use super::start::draw_death;
use crate::plan::config::Crash;
use crate::plan::operation::{Kind, Operation};
use crate::random::Stream;

/// How often a disk that has space again may still be called full.
const FULL_ANSWERS_MAX: u32 = 1000;

/// How the disk is broken during a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breakage {
    /// It is full, and has space again behind the round.
    Full,
    /// Writes or syncs fail, and the process dies behind the round.
    Failing,
}

impl World<'_> {
    /// An operation of the world.
    pub(super) fn intervene(&mut self, operation: &Operation) -> Step {
        let number = operation.number;
        let mut stream = self.stream(number);
        let process = self.process();
        process.say(format!("{operation:?}"));
        let disk = process.disk.disk().clone();
        match operation.kind {
            Kind::Settle => {
                self.settle(number)?;
                if stream.chance(300) {
                    self.check_folder(number)?;
                }
            }
            Kind::Reopen => {
                drop(process);
                self.reopen(number)?;
            }
            Kind::Crash => {
                process.disk.kill(Crash::draw(&mut stream));
                drop(process);
                self.bury(number)?;
            }
            Kind::CrashSoon => process.disk.plan(Some(draw_death(&mut stream, 80))),
            Kind::FullDisk => {
                process.faults.is_full.store(true, Ordering::SeqCst);
                disk.fill_after(Some(stream.below(12)));
                self.breakage = Some(Breakage::Full);
            }
            Kind::SlowDisk => disk.set_faults(slow(&mut stream)),
            Kind::FaultyDisk => {
                process.faults.is_faulty.store(true, Ordering::SeqCst);
                disk.set_faults(faulty(&mut stream));
                self.breakage = Some(Breakage::Failing);
            }
            Kind::FailWrites => {
                process.faults.is_failing.store(true, Ordering::SeqCst);
                disk.fail_writes_after(stream.below(20));
                self.breakage = Some(Breakage::Failing);
            }
            Kind::FailSyncs => {
                process.faults.is_failing.store(true, Ordering::SeqCst);
                disk.fail_syncs(true);
                self.breakage = Some(Breakage::Failing);
            }
            of_lake if of_lake.is_of_lake() => {
                drop(process);
                return self.intervene_in_lake(operation, &mut stream);
            }
            of_clients => unreachable!("clients do {of_clients:?}"),
        }
        Ok(())
    }

    /// The round is over: the disk has space again, or the process dies.
    pub(super) fn mend(&mut self, breakage: Breakage, round: &[Operation]) -> Step {
        let number = round.last().map_or(0, |last| last.number);
        let mut stream = self.stream(number);
        let process = self.process();
        if breakage == Breakage::Failing {
            for (_, fault, count) in process.disk.disk().fault_counts().iter() {
                self.report.add(fault, count);
            }
            process.disk.kill(Crash::draw(&mut stream));
            return Ok(());
        }
        process.disk.disk().fill_after(None);
        for _ in 0..FULL_ANSWERS_MAX {
            let submitted_seq = process.acknowledged.submitted_seq.load(Ordering::SeqCst);
            let database = &process.database;
            let settled = { database.wait_durable(submitted_seq) }
                .and_then(|()| database.flush())
                .and_then(|()| database.compact());
            match settled {
                Err(Error::NoSpace { .. }) => {}
                Err(error) => match process.stop(number, "a flush after a full disk", &error) {
                    Stop::Dead => return Ok(()),
                    other => return Err(other),
                },
                Ok(()) => {
                    process.faults.is_full.store(false, Ordering::SeqCst);
                    return Ok(());
                }
            }
        }
        Err(Stop::violation(
            "settles",
            number,
            "a disk that has space again is still called full",
        ))
    }
}

/// Calls take their time, and now and then much more.
fn slow(stream: &mut Stream) -> FaultPlan {
    FaultPlan {
        seed: stream.next(),
        latency: Latency {
            call: Duration::from_micros(stream.below(5000)),
            byte: Duration::from_nanos(stream.below(2000)),
            episodes_per_million: stream.below(100_000) as u32,
            episode: Duration::from_millis(stream.below(5000)),
            episode_factor: stream.between(2, 1000) as u32,
        },
        shuffles_lists: true,
        ..FaultPlan::default()
    }
}

/// One to three kinds of calls fail.
fn faulty(stream: &mut Stream) -> FaultPlan {
    let kinds = [
        FileKind::Log,
        FileKind::Edits,
        FileKind::Delta,
        FileKind::Manifest,
        FileKind::Other,
    ];
    let calls = [
        (Call::Read, Fault::Error),
        (Call::Write, Fault::Error),
        (Call::Write, Fault::NoSpace),
        (Call::Write, Fault::Short),
        (Call::Write, Fault::AfterArrival),
        (Call::Write, Fault::LostLater),
        (Call::Sync, Fault::Error),
        (Call::Sync, Fault::NoSpace),
        (Call::SyncFolder, Fault::Error),
        (Call::SetLen, Fault::Error),
        (Call::Open, Fault::Error),
        (Call::Create, Fault::Error),
        (Call::Create, Fault::NoSpace),
        (Call::Remove, Fault::Error),
        (Call::PunchHole, Fault::Error),
        (Call::Link, Fault::Error),
    ];
    let rules = (0..stream.between(1, 3)).map(|_| {
        let (operation, fault) = stream.pick(&calls);
        FaultRule {
            operation,
            files: stream.chance(700).then(|| stream.pick(&kinds)),
            fault,
            per_million: stream.pick(&[5_000, 50_000, 500_000, 1_000_000]),
            lasts: stream.pick(&[Lasts::Single, Lasts::Once, Lasts::File, Lasts::Forever]),
        }
    });
    FaultPlan {
        rules: rules.collect(),
        seed: stream.next(),
        shuffles_lists: stream.chance(500),
        ..FaultPlan::default()
    }
}
