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
    /// Measurements of each point that decides S-Size or S-Paral, unless the time runs out.
    pub rounds_min: usize,
    /// Measurements of such a point while the knee of its curve is unsettled.
    pub rounds_max: usize,
    /// Whether the time that is left goes to all other block sizes, depths and patterns. The profile does not need them.
    pub whole_grid: bool,
}

impl Budget {
    /// Everything, within a minute.
    pub fn full() -> Self {
        Budget {
            file_size_bytes: 1 << 30,
            duration: Duration::from_secs(55),
            window: Duration::from_millis(40),
            rounds_min: 10,
            rounds_max: 24,
            whole_grid: true,
        }
    }

    /// What the profile needs, within ten seconds.
    pub fn quick() -> Self {
        Budget {
            file_size_bytes: 256 << 20,
            duration: Duration::from_secs(9),
            window: Duration::from_millis(20),
            rounds_min: 6,
            rounds_max: 16,
            whole_grid: false,
        }
    }

    /// Time for filling the temporary file, unless even its least part takes longer.
    pub fn fill_time(&self) -> Duration {
        self.duration / 6
    }

    /// The same with half of the measurements, for what is measured twice.
    pub(crate) fn halved(&self) -> Self {
        Budget {
            rounds_min: self.rounds_min.div_ceil(2),
            rounds_max: self.rounds_max.div_ceil(2),
            ..*self
        }
    }

    /// Time of one measurement of the cores, so that all of them fit in a fortieth of the budget.
    pub(crate) fn cpu_window(&self) -> Duration {
        (self.duration / 800).min(self.window * 2)
    }
}
