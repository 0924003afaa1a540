//! Kills and errors within the system's calls, by strace: the engine's own error paths and those of the standard library.

use std::time::Duration;

use super::life::{Life, Run};
use super::{Request, Totals, Violation, keep};
use crate::workload::draw;

/// Calls that change files, as x86-64 names them.
const CALLS: [&str; 11] = [
    "openat",
    "pwrite64",
    "pwritev",
    "fdatasync",
    "fsync",
    "rename",
    "unlink",
    "ftruncate",
    "fallocate",
    "linkat",
    "flock",
];
/// strace counts the calls of each thread.
const NUMBERS: [u64; 8] = [1, 2, 3, 5, 8, 13, 21, 34];
/// A child whose calls fail is killed after that time.
const TIME_MAX: Duration = Duration::from_secs(6);

fn around(call: &str, what: &str) -> Vec<String> {
    let inject = format!("inject={call}:{what}");
    let trace = format!("trace={call}");
    let words = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &trace,
        "-e",
        &inject,
    ];
    words.map(str::to_owned).to_vec()
}

/// Why it can't be done, if so.
pub fn is_missing() -> Option<String> {
    let ran = std::process::Command::new("strace")
        .args(
            around("getppid", "error=EIO:when=1")
                .get(1..)
                .unwrap_or_default(),
        )
        .arg("true")
        .status();
    match ran {
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("strace ends with {status}")),
        Err(error) => Some(format!("strace: {error}")),
    }
}

/// Each call at each number: killed there, and failing there in each way, once and from then on.
///
/// # Errors
/// What was found that must not be.
pub fn run(request: &Request, totals: &mut Totals) -> Result<(), Box<Violation>> {
    for (at, call) in CALLS.into_iter().enumerate() {
        for number in NUMBERS {
            let drawn = draw(request.seed, &[22, at as u64, number]);
            let error = ["EIO", "ENOSPC", "EINTR"][drawn as usize % 3];
            let lasts = ["", "+"][(drawn >> 8) as usize % 2];
            // A call that is interrupted for ever is tried again for ever.
            let lasts = if error == "EINTR" { "" } else { lasts };
            one(request, call, &format!("signal=KILL:when={number}"), totals)?;
            one(
                request,
                call,
                &format!("error={error}:when={number}{lasts}"),
                totals,
            )?;
        }
    }
    Ok(())
}

/// One call at one number, as strace has it: `signal=KILL:when=3`.
///
/// # Errors
/// What was found that must not be.
pub fn one(
    request: &Request,
    call: &str,
    what: &str,
    totals: &mut Totals,
) -> Result<(), Box<Violation>> {
    let command = format!("crash --strace --seed {}", request.seed);
    let folder = request.folder.join(format!("strace-{call}"));
    let mut life = Life::new(request, folder, request.seed)
        .map_err(|what| keep(what, command.clone(), None))?;
    let has_errors = what.starts_with("error");
    let run = Run {
        around: around(call, what),
        killed_after: Some(TIME_MAX),
        rounds: Some(6),
        has_errors,
        ..Run::default()
    };
    let ran = life.run(&run).and_then(|died| {
        if has_errors {
            totals.count("failed system calls");
        } else if died {
            totals.count("kills at a system call");
        }
        life.verify(totals)
    });
    ran.map_err(|found| keep(format!("{call}, {what}: {found}"), command, Some(&life)))?;
    if request.is_verbose {
        eprintln!(
            "{call} {what}: {:?}, calls {:?}",
            life.told.failures, life.told.calls
        );
    }
    life.remove();
    Ok(())
}
