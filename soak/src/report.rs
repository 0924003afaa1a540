//! What a run was like, as text and as a line of JSON.

use moonshine_crash::harness::ledger;
use moonshine_engine::StallReason;

use crate::Flags;
use crate::judge::{medians, stalls_in};
use crate::phases::Phase;
use crate::samples::Sample;
use crate::soak::Outcome;

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A sample in one line.
pub(crate) fn line(sample: &Sample) -> String {
    let stalled: f64 = sample.stalls.iter().map(|(seconds, _)| seconds).sum();
    format!(
        "{:6.1} s {:8} memory {:6.1} MiB, counted {:5.1}, room {:4.1}; disk {:6.1} MiB in {:3} files; {:3} descriptors, {:2} threads; {} commits, \
         {stalled:.1} s stalled",
        sample.second,
        format!("{:?}", sample.phase),
        mib(sample.anonymous_bytes),
        mib(sample.used_bytes),
        mib(sample.room_bytes),
        mib(sample.disk_bytes),
        sample.files,
        sample.descriptors,
        sample.threads,
        sample.commits,
    )
}

/// The greatest of a phase.
fn most(samples: &[Sample], phase: Phase, of: fn(&Sample) -> u64) -> u64 {
    let all = samples.iter().filter(|sample| sample.phase == phase);
    all.map(of).max().unwrap_or(0)
}

fn print_phases(samples: &[Sample]) {
    println!(
        "{:8} {:>12} {:>12} {:>10} {:>6} {:>12} {:>8}  stalled seconds by reason",
        "phase", "memory, MiB", "counted, MiB", "disk, MiB", "files", "descriptors", "threads"
    );
    for phase in Phase::ALL {
        if !samples.iter().any(|sample| sample.phase == phase) {
            continue;
        }
        let stalled = stalls_in(samples, phase);
        let reasons = StallReason::ALL.iter().zip(stalled);
        let stalled: Vec<String> = reasons
            .filter(|(_, seconds)| *seconds > 0.0)
            .map(|(reason, seconds)| format!("{} {seconds:.1}", reason.name()))
            .collect();
        println!(
            "{:8} {:12.1} {:12.1} {:10.1} {:6} {:12} {:8}  {}",
            format!("{phase:?}"),
            mib(most(samples, phase, |sample| sample.anonymous_bytes)),
            mib(most(samples, phase, |sample| sample.used_bytes)),
            mib(most(samples, phase, |sample| sample.disk_bytes)),
            most(samples, phase, |sample| sample.files),
            most(samples, phase, |sample| sample.descriptors),
            most(samples, phase, |sample| sample.threads),
            stalled.join(", "),
        );
    }
}

/// Prints what was found, and adds it to the ledger; whether all was well.
///
/// # Errors
/// In words, if the ledger can't be written.
pub(crate) fn report(flags: &Flags, outcome: &Outcome) -> Result<bool, String> {
    let samples = &outcome.samples;
    println!("the greatest of each phase, on {}:", outcome.disk);
    print_phases(samples);
    println!("medians of the first and the last third of the steady load:");
    for (name, first, last) in medians(samples) {
        println!("  {name}: {first}, {last}");
    }
    for (what, count) in &outcome.counts {
        println!("{count} {what}");
    }
    let peak = samples.iter().map(|sample| sample.anonymous_bytes).max();
    let peak = peak.unwrap_or(0);
    println!(
        "the process took {:.1} MiB at most, {:.1} before the first row, for a budget of {} MiB",
        mib(peak),
        mib(outcome.limits.baseline_bytes),
        flags.budget_mib
    );
    for problem in &outcome.problems {
        println!("VIOLATED: {problem}");
    }
    if !outcome.problems.is_empty() {
        println!(
            "to repeat it, as far as threads do:\ncargo xtask soak --minutes {} --seed {} --budget-mib {}",
            flags.minutes, flags.seed, flags.budget_mib
        );
    }
    if let Some(path) = &flags.ledger {
        let all: std::collections::BTreeMap<_, _> = outcome.counts.iter().copied().collect();
        let medians: std::collections::BTreeMap<_, _> = medians(samples)
            .into_iter()
            .map(|(name, first, last)| (name, [first, last]))
            .collect();
        let line = serde_json::json!({
            "kind": "soak",
            "commit": ledger::commit(),
            "seed": flags.seed,
            "seconds": samples.last().map_or(0.0, |sample| sample.second),
            "budget_bytes": [outcome.limits.budget_bytes],
            "baseline_bytes": [outcome.limits.baseline_bytes],
            "memory_bytes_max": [peak],
            "memory_used_bytes_max": [samples.iter().map(|sample| sample.used_bytes).max()],
            "medians": medians,
            "counts": all,
            "violation": outcome.problems.first(),
        });
        ledger::append_line(path, &line).map_err(|error| error.to_string())?;
    }
    Ok(outcome.problems.is_empty())
}
