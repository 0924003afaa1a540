//! How much a probe may take.

use std::time::Duration;

/// How much disk and time a probe may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Most bytes of the temporary file.
    pub file_size_bytes: u64,
    /// Most time for the whole probe, beside the I/O that is under way at its end.
    pub duration: Duration,
    /// Time of one measurement.
    pub window: Duration,
    /// Measurements of each point, unless the time runs out.
    pub rounds_min: usize,
    /// Measurements of a point that is still undecided.
    pub rounds_max: usize,
    /// Whether sequential I/O and 4 KiB I/O are measured too. The profile does not need them.
    pub all_curves: bool,
}

impl Budget {
    /// Everything, within a minute.
    pub fn full() -> Self {
        Budget {
            file_size_bytes: 1 << 30,
            duration: Duration::from_secs(55),
            window: Duration::from_millis(80),
            rounds_min: 3,
            rounds_max: 9,
            all_curves: true,
        }
    }

    /// What the profile needs, within ten seconds.
    pub fn quick() -> Self {
        Budget {
            file_size_bytes: 256 << 20,
            duration: Duration::from_secs(9),
            window: Duration::from_millis(30),
            rounds_min: 3,
            rounds_max: 7,
            all_curves: false,
        }
    }

    /// Time for filling the temporary file, unless even its least part takes longer.
    pub fn fill_time(&self) -> Duration {
        self.duration / 6
    }
}
