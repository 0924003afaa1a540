//! Crashes at any call of a change of the log of edits, and of the start after it.

use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::edit_log::{EditLog, replay_edits};
use crate::error::Result;
use crate::io::{
    CrashStyle, Fault, FaultPlan, FaultRule, Io, Lasts, NamesStyle, Operation, SimulatedIo,
};

const DATABASE: Uuid = Uuid::from_u128(7);
const FOLDER: &str = "/tree";

/// A log of three edits in its first file.
fn made() -> SimulatedIo {
    let disk = SimulatedIo::new(1);
    let folder = Path::new(FOLDER);
    disk.create_folder(folder).unwrap();
    let mut log = EditLog::create(Arc::new(disk.clone()), folder, DATABASE, b"one").unwrap();
    log.append(b"two").unwrap();
    log.append(b"three").unwrap();
    disk.sync_folder(Path::new("/")).unwrap();
    disk
}

/// A start: what it finds.
fn start(io: &SimulatedIo) -> Result<(EditLog, Vec<Vec<u8>>)> {
    let folder = Path::new(FOLDER);
    let replayed = replay_edits(io, folder, DATABASE, true)?.expect("there is a log");
    let log = EditLog::resume(Arc::new(io.clone()), folder, DATABASE, &replayed)?;
    Ok((log, replayed.edits))
}

/// Crashes of the machine, and of the process alone.
fn crashes(disk: &SimulatedIo) -> impl Iterator<Item = SimulatedIo> + '_ {
    let of_machine = (0..12).map(|seed| {
        let names = match seed % 3 {
            0 => NamesStyle::Ordered(seed),
            _ => NamesStyle::Any(seed),
        };
        disk.crash_image(CrashStyle::TearUnsynced(seed), names)
    });
    of_machine.chain([disk.crash(CrashStyle::KeepUnsynced)])
}

/// Whether edits are those of the first file, or of the one that follows it.
fn is_sound(edits: &[Vec<u8>]) -> bool {
    edits == [b"one".as_slice(), b"two", b"three"] || edits == [b"state".as_slice()]
}

/// *Durable*: a log that a crash caught between two files, and another one while the first was being seen to, is one of them.
#[test]
fn a_start_that_is_cut_short_keeps_a_whole_file() {
    for calls in 0..9 {
        let disk = made();
        let process = disk.of_process(1);
        let (mut log, _) = start(&process).unwrap();
        process.kill_after(calls);
        let restated = log.restate(b"state");
        for image in crashes(&disk) {
            for calls in 0..5 {
                let image = image.crash(CrashStyle::KeepUnsynced);
                let process = image.of_process(2);
                process.kill_after(calls);
                let _ended = start(&process);
                for image in crashes(&image) {
                    let (_, found) = start(&image).unwrap();
                    assert!(is_sound(&found), "{found:?}");
                    assert!(restated.is_err() || found.len() == 1);
                }
            }
        }
    }
}

/// *Durable*: what a start reads from the page cache is on the device before the older file goes, also where a sync failed
/// and the page cache takes it for written.
#[test]
fn a_file_whose_sync_failed_is_made_durable_by_the_next_start() {
    for seed in 0..8 {
        for edit in [None, Some(b"four".as_slice())] {
            let disk = made();
            let (mut log, _) = start(&disk).unwrap();
            disk.set_faults(FaultPlan {
                seed,
                rules: vec![FaultRule {
                    operation: Operation::Sync,
                    files: None,
                    fault: Fault::Error,
                    per_million: 1_000_000,
                    lasts: Lasts::Single,
                }],
                ..FaultPlan::default()
            });
            let failed = match edit {
                Some(edit) => log.append(edit),
                None => log.restate(b"state"),
            };
            failed.unwrap_err();
            let killed = disk.crash(CrashStyle::KeepUnsynced);
            let (_, found) = start(&killed).unwrap();
            for image in crashes(&killed) {
                assert_eq!(start(&image).unwrap().1, found);
            }
        }
    }
}
