//! Which records may be asked for while threads insert more of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Numbers of records: the next free one, and up to which all are visible.
///
/// Commits become visible in another order than numbers are taken, and a read must find what it asks for.
#[derive(Debug)]
pub(super) struct Inserted {
    next: AtomicU64,
    visible: AtomicU64,
    /// Visible ranges behind a gap, by their first number: their end.
    behind_gap: Mutex<BTreeMap<u64, u64>>,
}

impl Inserted {
    /// All records below a number are visible.
    pub(super) fn new(records: u64) -> Self {
        Inserted {
            next: AtomicU64::new(records),
            visible: AtomicU64::new(records),
            behind_gap: Mutex::default(),
        }
    }

    /// Takes numbers for new records.
    pub(super) fn take(&self, count: u64) -> Range<u64> {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        first..first + count
    }

    /// Notes that new records can be read.
    pub(super) fn publish(&self, numbers: Range<u64>) {
        let mut behind_gap = self
            .behind_gap
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        behind_gap.insert(numbers.start, numbers.end);
        let mut visible = self.visible.load(Ordering::Relaxed);
        while let Some(end) = behind_gap.remove(&visible) {
            visible = end;
        }
        self.visible.store(visible, Ordering::Release);
    }

    /// All records below this can be read.
    pub(super) fn visible(&self) -> u64 {
        self.visible.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_behind_a_gap_wait_for_it_to_close() {
        let inserted = Inserted::new(10);
        let (one, other, last) = (inserted.take(2), inserted.take(3), inserted.take(1));
        assert_eq!(
            (one.clone(), other.clone(), last.clone()),
            (10..12, 12..15, 15..16)
        );
        inserted.publish(last);
        inserted.publish(other);
        assert_eq!(inserted.visible(), 10);
        inserted.publish(one);
        assert_eq!(inserted.visible(), 16);
    }

    #[test]
    fn threads_leave_no_number_out() {
        let inserted = Inserted::new(0);
        std::thread::scope(|scope| {
            for count in 1..=4 {
                let inserted = &inserted;
                scope.spawn(move || {
                    for _ in 0..1000 {
                        let numbers = inserted.take(count);
                        assert!(inserted.visible() <= numbers.start);
                        inserted.publish(numbers);
                    }
                });
            }
        });
        assert_eq!(inserted.visible(), 10_000);
    }
}
