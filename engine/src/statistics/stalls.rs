//! Waits of writers: those that ended, and those that go on, which say most where something stands still.

use std::time::Duration;

use super::figures::{StallReason, StallStatistics};
use crate::io::Io;
use crate::sync::Mutex;

/// The waits for one reason. Who comes here waits anyway, so a lock costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Stalls(Mutex<Waits>);

#[derive(Debug, Default)]
struct Waits {
    begun_count: u64,
    waiting: u32,
    /// How long those waited that wait no more.
    ended_time: Duration,
    /// The moments at which those began that wait, summed up.
    begun_at: Duration,
}

impl Stalls {
    /// A writer waits, until what this returns is dropped.
    pub(super) fn begin<'a>(&'a self, clock: &'a dyn Io) -> Stall<'a> {
        let start = clock.now();
        let mut waits = self.0.lock();
        waits.begun_count += 1;
        waits.waiting += 1;
        waits.begun_at += start;
        Stall {
            stalls: self,
            clock,
            start,
        }
    }

    pub(super) fn statistics(&self, reason: StallReason, clock: &dyn Io) -> StallStatistics {
        let waits = self.0.lock();
        // Under the lock, as a wait's end is: what is told never becomes less.
        let going_on = (clock.now() * waits.waiting).saturating_sub(waits.begun_at);
        StallStatistics {
            reason,
            count: waits.begun_count,
            waiting: waits.waiting.into(),
            time: waits.ended_time + going_on,
        }
    }
}

/// A writer that waits.
#[derive(Debug)]
pub(crate) struct Stall<'a> {
    stalls: &'a Stalls,
    clock: &'a dyn Io,
    start: Duration,
}

impl Drop for Stall<'_> {
    fn drop(&mut self) {
        let mut waits = self.stalls.0.lock();
        let now = self.clock.now();
        waits.waiting -= 1;
        waits.begun_at = waits.begun_at.saturating_sub(self.start);
        waits.ended_time += now.saturating_sub(self.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SimulatedIo;

    #[test]
    fn waits_count_from_their_beginning_on() {
        let io = SimulatedIo::new(1);
        let stalls = Stalls::default();
        let figures = || {
            let now = stalls.statistics(StallReason::Memory, &io);
            (now.count, now.waiting, now.time.as_millis())
        };
        let first = stalls.begin(&io);
        io.sleep(Duration::from_millis(10));
        assert_eq!(figures(), (1, 1, 10));
        let second = stalls.begin(&io);
        io.sleep(Duration::from_millis(5));
        assert_eq!(figures(), (2, 2, 20));
        drop(first);
        io.sleep(Duration::from_millis(1));
        assert_eq!(figures(), (2, 1, 21));
        drop(second);
        io.sleep(Duration::from_millis(7));
        assert_eq!(figures(), (2, 0, 21));
    }
}
