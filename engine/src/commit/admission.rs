//! Letting commits in: each waits as long as `backpressure` says.

use std::time::Duration;

use crate::backpressure::{
    COMPACTION_PRESSURE_MAX, GENERATIONS_EASY, MEMORY_EASY, Pressure, ROW_SETS_EASY, ROW_SETS_MOST,
    between, rate,
};
use crate::error::Result;
use crate::shared::Shared;
use crate::statistics::figures::StallReason;

/// What a row takes in a generation besides its bytes.
const ROW_OVERHEAD_BYTES: u64 = 64;
/// A delay looks this often whether it has lost its reason.
const SLICE: Duration = Duration::from_millis(5);

impl Shared {
    /// Counts a commit, and has it wait: the longer, the nearer a limit is.
    ///
    /// # Errors
    /// [`Error::NoSpace`](crate::Error::NoSpace) at the limit of what waits to be flushed, if no flush finds space.
    pub(crate) fn admit(&self, rows: u64, size_bytes: u64) -> Result<()> {
        self.counters.count_commit(rows, size_bytes);
        let size_bytes = size_bytes + rows * ROW_OVERHEAD_BYTES;
        let pressure = self.pressure();
        // At the limit of generations there is a better end to wait for than that of a delay.
        if !self.generations.is_crowded()
            && let Some(rate) = rate(self.counters.flushes.rate(), pressure.x)
        {
            self.delay(size_bytes, pressure, rate);
        }
        if self.generations.is_crowded() {
            let _stall = self.counters.stall(StallReason::Flush);
            self.generations.wait_for_room()?;
        }
        Ok(())
    }

    fn delay(&self, size_bytes: u64, pressure: Pressure, rate: f64) {
        let _stall = self.counters.stall(pressure.reason);
        let mut now = self.io.now();
        let until = self.backpressure.admission(now, size_bytes, rate);
        // Less pressure lets more in, so a delay ends early where it has lost half of its reason.
        let goes_on = || self.pressure().x > pressure.x / 2.0 && !self.generations.is_ending();
        while now < until && goes_on() {
            self.io.sleep(SLICE.min(until - now));
            now = self.io.now();
        }
    }

    /// The limit that is nearest.
    fn pressure(&self) -> Pressure {
        let mut nearest = Pressure {
            x: between(
                self.generations.fill(),
                GENERATIONS_EASY,
                self.generations.fill_max(),
            ),
            reason: StallReason::Flush,
        };
        let mut consider = |x: f64, reason| {
            if x > nearest.x {
                nearest = Pressure { x, reason };
            }
        };
        if self.counters.is_compacting() {
            let debt = between(
                self.store.row_sets_max() as f64,
                ROW_SETS_EASY,
                ROW_SETS_MOST,
            );
            consider(debt.min(COMPACTION_PRESSURE_MAX), StallReason::Compaction);
        }
        let memory = between(self.memory_held_share(), MEMORY_EASY, 1.0);
        consider(memory, StallReason::Memory);
        nearest
    }
}
