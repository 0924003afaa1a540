//! A disk that is full: who waits is told, and what can't be given up is tried again.

use std::time::Duration;

use crate::error::Error;
use crate::sync::{Condvar, MutexGuard};

/// The first pause before another try, and the longest: short enough that writing goes on soon after space was made.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Writes that found no space, counted so that who waits learns of those since it began to.
#[derive(Debug, Default)]
pub(crate) struct SpaceFailures {
    count: u64,
    /// The last one; `None` once a write found space again.
    current: Option<Error>,
}

impl SpaceFailures {
    pub(crate) fn note(&mut self, error: &Error) {
        self.count += 1;
        self.current = error.no_space();
    }

    pub(crate) fn clear(&mut self) {
        self.current = None;
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The last failure, if no write found space since.
    pub(crate) fn current(&self) -> Option<Error> {
        self.current.as_ref()?.no_space()
    }

    /// The same, for who counted so many before.
    pub(crate) fn since(&self, count: u64) -> Option<Error> {
        self.current().filter(|_| self.count > count)
    }
}

/// Pauses between tries that grow while they fail.
#[derive(Debug)]
pub(crate) struct RetryPause {
    next: Duration,
    is_over: bool,
    closing_seen: bool,
}

impl Default for RetryPause {
    fn default() -> Self {
        RetryPause {
            next: PAUSE_MIN,
            is_over: false,
            closing_seen: false,
        }
    }
}

impl RetryPause {
    /// Waits once; what ends it early, too, is a notification.
    pub(crate) fn wait<T>(&mut self, condvar: &Condvar, guard: &mut MutexGuard<'_, T>) {
        if condvar.wait_for(guard, self.next).timed_out() {
            self.is_over = true;
            self.next = (self.next * 2).min(PAUSE_MAX);
        }
    }

    /// Whether a pause came to its end; says so once.
    pub(crate) fn is_over(&mut self) -> bool {
        std::mem::take(&mut self.is_over)
    }

    /// True once: what is being closed makes one more try.
    pub(crate) fn last_try(&mut self) -> bool {
        !std::mem::replace(&mut self.closing_seen, true)
    }

    /// Begins anew with short pauses.
    pub(crate) fn reset(&mut self) {
        *self = RetryPause::default();
    }
}
