//! Whether the wall clock may decide what is old.
//!
//! Ages of snapshots and files are by the wall clock, which somebody may set: a machine that was asleep, a clock that was wrong
//! until the network told it. What was young a moment ago would then be old at once, under its readers. So a jump against
//! the time that passes is noticed, and nothing is old by the new time until that has stood for as long as readers are
//! granted.

use crate::environment::Clock;

/// A jump of more than this is noticed, in milliseconds.
const JUMP_MS: i64 = 60 * 60 * 1000;

/// What is known of the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WallTime {
    /// From the monotonic clock to the wall clock that is believed, in milliseconds.
    offset_ms: i64,
    /// Another offset, and since when it stands by the monotonic clock.
    other: Option<(i64, i64)>,
}

impl WallTime {
    /// Looks at the clock again; `None` becomes what is believed from then on. Whether the wall clock tells the time that it
    /// told before, or has told another one for `stands_ms`.
    pub(super) fn is_believed(
        wall_time: &mut Option<WallTime>,
        clock: &dyn Clock,
        stands_ms: i64,
    ) -> bool {
        let now_ms = clock.monotonic_ms();
        let offset_ms = clock.now_ms().saturating_sub(now_ms);
        let this = wall_time.get_or_insert(WallTime {
            offset_ms,
            other: None,
        });
        let is_near = |other_ms: i64| offset_ms.abs_diff(other_ms) <= JUMP_MS.unsigned_abs();
        if is_near(this.offset_ms) {
            this.other = None;
            return true;
        }
        match this.other {
            Some((other_ms, since_ms)) if is_near(other_ms) => {
                let stood = now_ms.saturating_sub(since_ms) >= stands_ms;
                if stood {
                    *this = WallTime {
                        offset_ms,
                        other: None,
                    };
                }
                stood
            }
            _ => {
                let jump_ms = offset_ms.saturating_sub(this.offset_ms);
                tracing::warn!(
                    jump_ms,
                    "the clock was set; nothing is old by its new time until that has stood for a while"
                );
                this.other = Some((offset_ms, now_ms));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use async_trait::async_trait;

    use super::*;

    #[derive(Debug, Default)]
    struct TwoClocks {
        wall_ms: AtomicI64,
        monotonic_ms: AtomicI64,
    }

    #[async_trait]
    impl Clock for TwoClocks {
        fn now_ms(&self) -> i64 {
            self.wall_ms.load(Ordering::SeqCst)
        }

        fn monotonic_ms(&self) -> i64 {
            self.monotonic_ms.load(Ordering::SeqCst)
        }

        async fn pause(&self, _: u64) {}
    }

    #[test]
    fn a_clock_that_was_set_is_believed_once_it_stood() {
        let clock = TwoClocks::default();
        let mut known = None;
        let mut after = |wall_ms: i64, monotonic_ms: i64| {
            clock.wall_ms.fetch_add(wall_ms, Ordering::SeqCst);
            clock.monotonic_ms.fetch_add(monotonic_ms, Ordering::SeqCst);
            WallTime::is_believed(&mut known, &clock, 10_000)
        };
        assert!(after(0, 0));
        assert!(after(5_000, 5_000));
        assert!(after(JUMP_MS, 0), "it is slewed");
        assert!(!after(100 * JUMP_MS, 5_000));
        assert!(!after(9_999, 9_999));
        assert!(after(1, 1));
        assert!(after(5_000, 5_000));
        // Back, and forth again before that was believed.
        assert!(!after(-50 * JUMP_MS, 0));
        assert!(!after(9_000, 9_000));
        assert!(after(50 * JUMP_MS, 5_000));
        // Each new time has to stand by itself.
        assert!(!after(-50 * JUMP_MS, 0));
        assert!(!after(-50 * JUMP_MS, 9_000));
        assert!(!after(9_999, 9_999));
        assert!(after(1, 1));
    }
}
