//! What is done to the database beside the load, and when.

use std::time::Duration;

/// A part of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Phase {
    /// The rows that are there from then on are written.
    Load,
    /// Until sizes have settled.
    Warm,
    /// The load alone: what is compared over time.
    Steady,
    /// The disk takes delta files slowly: writers are faster than it.
    Slow,
    /// No write finds space.
    Full,
    /// Snapshots are taken and held, one after the other.
    Held,
    /// Until what the phase before left is worked off.
    Recover,
}

impl Phase {
    /// By their numbers.
    pub(crate) const ALL: [Phase; 7] = [
        Phase::Load,
        Phase::Warm,
        Phase::Steady,
        Phase::Slow,
        Phase::Full,
        Phase::Held,
        Phase::Recover,
    ];

    /// Whether a write may find no space: one that began while there was none may say so later.
    pub(crate) fn may_lack_space(self) -> bool {
        matches!(self, Phase::Full | Phase::Recover)
    }
}

/// What follows the load, and how many hundredths of the time it takes.
const PLAN: [(Phase, u32); 9] = [
    (Phase::Warm, 15),
    (Phase::Steady, 20),
    (Phase::Slow, 8),
    (Phase::Recover, 6),
    (Phase::Full, 5),
    (Phase::Recover, 8),
    (Phase::Held, 8),
    (Phase::Recover, 8),
    (Phase::Steady, 22),
];

/// The phases of a run of that length, and when each ends.
pub(crate) fn plan(all: Duration) -> Vec<(Phase, Duration)> {
    let mut end = Duration::ZERO;
    let ends = PLAN.iter().map(|(phase, hundredths)| {
        end += all * *hundredths / 100;
        (*phase, end)
    });
    ends.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_take_all_of_the_time() {
        let all = Duration::from_secs(120);
        assert_eq!(plan(all).last().map(|(_, end)| *end), Some(all));
        for (number, phase) in Phase::ALL.iter().enumerate() {
            assert_eq!(*phase as usize, number);
        }
    }
}
