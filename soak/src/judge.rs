//! Whether the samples of a run are as they have to be.

use moonshine_engine::StallReason;

use crate::phases::Phase;
use crate::samples::Sample;

/// What memory may take beyond the budget.
const BEYOND_BUDGET_BYTES: u64 = 64 << 20;
/// What grows within the first minutes may be what a run takes anyway, so that a shorter one finds only what grows to so many times
/// as much.
const STEADY_MINUTES_MIN: f64 = 4.0;
const SHORT_FACTOR: f64 = 2.0;

/// What is compared over time: its name, how it is had, by which factor it may have grown, and by how much besides. The live
/// data vary a little, and where compactions stand varies more.
struct Trend {
    name: &'static str,
    of: fn(&Sample) -> u64,
    factor: f64,
    slack: f64,
}

const MIB: f64 = (1 << 20) as f64;
const TRENDS: [Trend; 5] = [
    Trend {
        name: "bytes of memory",
        of: |sample| sample.anonymous_bytes,
        factor: 1.10,
        slack: 24.0 * MIB,
    },
    Trend {
        name: "descriptors",
        of: |sample| sample.descriptors,
        factor: 1.25,
        slack: 12.0,
    },
    Trend {
        name: "threads",
        of: |sample| sample.threads,
        factor: 1.0,
        slack: 8.0,
    },
    Trend {
        name: "files",
        of: |sample| sample.files,
        factor: 1.25,
        slack: 12.0,
    },
    Trend {
        name: "bytes on disk",
        of: |sample| sample.disk_bytes,
        factor: 1.25,
        slack: 24.0 * MIB,
    },
];

/// What limits follow from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The memory budget.
    pub(crate) budget_bytes: u64,
    /// What the process took before the first row.
    pub(crate) baseline_bytes: u64,
    /// What the harness and the exporter take besides, at most.
    pub(crate) beside_bytes: u64,
    /// How long the run is.
    pub(crate) minutes: f64,
}

fn median(mut numbers: Vec<u64>) -> u64 {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied().unwrap_or(0)
}

/// The first and the last third of what was looked at while nothing else was tried.
fn thirds(samples: &[Sample]) -> (Vec<&Sample>, Vec<&Sample>) {
    let steady = samples
        .iter()
        .filter(|sample| sample.phase == Phase::Steady);
    let steady: Vec<&Sample> = steady.collect();
    let third = steady.len() / 3;
    let (first, last) = (&steady[..third], &steady[steady.len() - third..]);
    (first.to_vec(), last.to_vec())
}

/// The medians of what is compared over time, in its first and in its last third.
pub(crate) fn medians(samples: &[Sample]) -> Vec<(&'static str, u64, u64)> {
    let (first, last) = thirds(samples);
    let medians = TRENDS.iter().map(|trend| {
        let of = |samples: &[&Sample]| median(samples.iter().map(|s| (trend.of)(s)).collect());
        (trend.name, of(&first), of(&last))
    });
    medians.collect()
}

fn check_trends(samples: &[Sample], limits: &Limits, problems: &mut Vec<String>) {
    if thirds(samples).0.len() < 5 {
        problems.push("there are too few samples to see growth".into());
    }
    for (trend, (name, first, last)) in TRENDS.iter().zip(medians(samples)) {
        let factor = match limits.minutes < STEADY_MINUTES_MIN {
            true => SHORT_FACTOR,
            false => trend.factor,
        };
        let most = first as f64 * factor + trend.slack;
        if last as f64 > most {
            problems.push(format!(
                "{name} grew from {first} to {last} (medians of the first and the last third), at most {most:.0} are expected"
            ));
        }
    }
}

fn check_memory(samples: &[Sample], limits: &Limits, problems: &mut Vec<String>) {
    let most = limits.budget_bytes + BEYOND_BUDGET_BYTES;
    let used = samples.iter().map(|s| s.used_bytes + s.queue_bytes).max();
    if used.is_some_and(|used| used > most) {
        problems.push(format!(
            "the engine counts {used:?} bytes of memory, at most {most} are expected"
        ));
    }
    // The process as the system sees it: the engine, what its allocator keeps, the harness and the exporter.
    let most = most + limits.baseline_bytes + limits.beside_bytes;
    let taken = samples
        .iter()
        .map(|s| s.anonymous_bytes.saturating_sub(s.room_bytes));
    if taken.clone().max().is_some_and(|taken| taken > most) {
        problems.push(format!(
            "the process took {:?} bytes of memory, at most {most} are expected",
            taken.max()
        ));
    }
}

/// The time that commits waited in a phase by reason, in seconds.
pub(crate) fn stalls_in(samples: &[Sample], phase: Phase) -> [f64; StallReason::ALL.len()] {
    let mut waited = [0.0; StallReason::ALL.len()];
    for pair in samples.windows(2).filter(|pair| pair[0].phase == phase) {
        let both = pair[1].stalls.iter().zip(&pair[0].stalls);
        for (waited, (after, before)) in waited.iter_mut().zip(both) {
            *waited += after.0 - before.0;
        }
    }
    waited
}

/// What was looked at from when the disk became slow until it was long fast again: writers may come to wait only once what it owes
/// is all that they may leave to it.
fn slow_and_after(samples: &[Sample]) -> &[Sample] {
    let is_slow = |sample: &Sample| sample.phase == Phase::Slow;
    let start = samples.iter().position(is_slow).unwrap_or(samples.len());
    let rest = &samples[start..];
    let is_over = |sample: &Sample| !matches!(sample.phase, Phase::Slow | Phase::Recover);
    let end = rest.iter().position(is_over).unwrap_or(rest.len());
    &rest[..end]
}

/// How long a slow disk makes writers wait depends on the machine, but not that it does.
fn check_stalls(samples: &[Sample], problems: &mut Vec<String>) {
    if let [first, .., last] = slow_and_after(samples) {
        let waited = |sample: &Sample| sample.stalls.iter().map(|stall| stall.0).sum::<f64>();
        if waited(last) <= waited(first) {
            problems.push(format!(
                "the disk was slow, writers were in commits for {:.1} s until it was fast again, and the metrics show no stall",
                last.commit_seconds - first.commit_seconds
            ));
        }
    }
}

/// What is not as it has to be, in words.
pub(crate) fn problems(samples: &[Sample], limits: &Limits) -> Vec<String> {
    let mut problems = Vec::new();
    check_memory(samples, limits, &mut problems);
    check_trends(samples, limits, &mut problems);
    check_stalls(samples, &mut problems);
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        budget_bytes: 100 << 20,
        baseline_bytes: 10 << 20,
        beside_bytes: 0,
        minutes: 30.0,
    };

    /// A run as it should be, whose figures vary.
    fn samples() -> Vec<Sample> {
        let mut stalled = 0.0;
        let sample = |second: u64| {
            let phase = match second {
                40..60 => Phase::Slow,
                60..80 => Phase::Held,
                _ => Phase::Steady,
            };
            if phase == Phase::Slow {
                stalled += 1.5;
            }
            let wave = second * 7 % 11;
            Sample {
                second: second as f64,
                phase,
                anonymous_bytes: (150 << 20) + (wave << 20),
                used_bytes: 99 << 20,
                room_bytes: 4 << 20,
                queue_bytes: 1 << 20,
                descriptors: 50 + wave,
                threads: 20 + second % 3,
                files: 30 + wave,
                disk_bytes: (200 << 20) + (wave << 22),
                commits: second * 1000,
                stalls: [(0.0, 0), (stalled, 1), (0.0, 0), (0.0, 0)],
                commit_seconds: stalled * 1.2,
            }
        };
        (0..120).map(sample).collect()
    }

    fn problems_with(change: impl Fn(&mut Sample)) -> Vec<String> {
        let mut samples = samples();
        samples.iter_mut().for_each(change);
        problems(&samples, &LIMITS)
    }

    #[test]
    fn a_run_as_it_should_be_passes() {
        assert_eq!(problems_with(|_| ()), Vec::<String>::new());
    }

    #[test]
    fn growth_is_found() {
        type Leak = fn(&mut Sample);
        let leaks: [(&str, Leak); 5] = [
            ("bytes of memory", |s| {
                s.anonymous_bytes += s.second as u64 * (1 << 19)
            }),
            ("descriptors", |s| s.descriptors += s.second as u64),
            ("threads", |s| s.threads += s.second as u64 / 5),
            ("files", |s| s.files += s.second as u64),
            ("bytes on disk", |s| {
                s.disk_bytes += s.second as u64 * (2 << 20)
            }),
        ];
        for (name, leak) in leaks {
            let found = problems_with(leak);
            assert!(
                found.iter().any(|why| why.starts_with(name)),
                "{name}: {found:?}"
            );
        }
    }

    #[test]
    fn too_much_memory_is_found() {
        let counted = problems_with(|sample| sample.used_bytes = 170 << 20);
        assert!(counted[0].contains("the engine counts"), "{counted:?}");
        let once = problems_with(|sample| {
            if sample.second == 70.0 {
                sample.anonymous_bytes = 400 << 20;
            }
        });
        assert!(once[0].contains("the process took"), "{once:?}");
    }

    #[test]
    fn a_stall_may_end_when_the_disk_is_fast_again() {
        let late = |sample: &mut Sample| {
            if sample.phase == Phase::Held {
                sample.phase = Phase::Recover;
            }
            let waited = if sample.second < 65.0 { 0.0 } else { 25.0 };
            sample.stalls[1] = (waited, 1);
        };
        assert_eq!(problems_with(late), Vec::<String>::new());
    }

    #[test]
    fn stalls_that_are_not_counted_are_found() {
        let found = problems_with(|sample| sample.stalls = Default::default());
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
