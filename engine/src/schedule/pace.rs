//! How fast compactions write: as fast as they can while nobody else does, and in their turn else.
//!
//! Before each piece of S-Size or more a compaction asks for it. While a block of the log is being written it waits for
//! the end of that block, so that a commit finds the device free, and is held up by one block a piece at most. While a
//! generation is flushed it may write one byte for each [`FLUSHED_BYTES_PER_BYTE`] that the flush wrote: the flush goes
//! first, since writers may wait for it, and compactions go on at a part of its speed, since reads and space need them. A
//! flush always comes to its end, so nobody starves. What moves rows down waits for no flush: whatever is flushed into its
//! fragment before it ends is written once more.

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Bytes that are flushed for each that compactions may write meanwhile.
const FLUSHED_BYTES_PER_BYTE: u64 = 2;

/// What compactions ask before they write.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    state: Mutex<State>,
    changed: Condvar,
    /// Counts the begins and the ends of the log's blocks: odd while one is written.
    block_bounds: AtomicU64,
    /// How many wait for the end of a block.
    block_waiters: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    is_flushing: bool,
    /// Bytes that compactions may write while a generation is flushed.
    allowed_bytes: u64,
    is_stopped: bool,
}

/// A flush or a block that is being written.
pub(crate) struct Turn<'a>(&'a Pace, fn(&Pace));

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.1(self.0);
    }
}

impl Pace {
    /// A block of the log is written until this is dropped. One at a time.
    pub(crate) fn block(&self) -> Turn<'_> {
        self.block_bounds.fetch_add(1, Ordering::SeqCst);
        Turn(self, |pace| {
            pace.block_bounds.fetch_add(1, Ordering::SeqCst);
            if pace.block_waiters.load(Ordering::SeqCst) > 0 {
                let _state = pace.state.lock();
                pace.changed.notify_all();
            }
        })
    }

    /// A generation is flushed until this is dropped. One at a time.
    pub(crate) fn flush(&self) -> Turn<'_> {
        let mut state = self.state.lock();
        state.is_flushing = true;
        state.allowed_bytes = 0;
        Turn(self, |pace| {
            pace.state.lock().is_flushing = false;
            pace.changed.notify_all();
        })
    }

    /// Counts bytes that the flush wrote.
    pub(crate) fn flushed(&self, size_bytes: u64) {
        self.state.lock().allowed_bytes += size_bytes / FLUSHED_BYTES_PER_BYTE;
        self.changed.notify_all();
    }

    /// Waits for the end of the block of the log that is being written, if one is.
    pub(crate) fn await_block(&self) {
        let mut state = self.state.lock();
        self.await_block_with(&mut state);
    }

    fn await_block_with(&self, state: &mut MutexGuard<'_, State>) {
        self.block_waiters.fetch_add(1, Ordering::SeqCst);
        let bounds = self.block_bounds.load(Ordering::SeqCst);
        let is_written = bounds % 2 == 1;
        while is_written && self.block_bounds.load(Ordering::SeqCst) == bounds && !state.is_stopped
        {
            self.changed.wait(state);
        }
        self.block_waiters.fetch_sub(1, Ordering::SeqCst);
    }

    /// Waits until a compaction may write so many bytes more.
    pub(crate) fn permit(&self, size_bytes: u64) {
        let mut state = self.state.lock();
        self.await_block_with(&mut state);
        let mut left_bytes = size_bytes;
        while state.is_flushing && !state.is_stopped {
            let taken_bytes = left_bytes.min(state.allowed_bytes);
            state.allowed_bytes -= taken_bytes;
            left_bytes -= taken_bytes;
            if left_bytes == 0 {
                break;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Lets all go on; what they do ends.
    pub(crate) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::io::SimulatedIo;
    use crate::{Database, Options};

    /// Asks on another thread; meanwhile `still` must see it wait, and `then` let it go on.
    fn asks(pace: &Pace, size_bytes: u64, still: impl FnOnce(&AtomicBool), then: impl FnOnce()) {
        let is_permitted = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                pace.permit(size_bytes);
                is_permitted.store(true, Ordering::SeqCst);
            });
            still(&is_permitted);
            then();
            asking.join().unwrap();
        });
        assert!(is_permitted.into_inner());
    }

    fn waits(is_permitted: &AtomicBool) {
        (0..1000).for_each(|_| std::thread::yield_now());
        assert!(!is_permitted.load(Ordering::SeqCst));
    }

    #[test]
    fn who_is_alone_writes_at_once() {
        let pace = Pace::default();
        drop(pace.flush());
        drop(pace.block());
        pace.permit(u64::MAX);
    }

    #[test]
    fn a_flush_goes_first_and_lets_others_write_a_part_of_what_it_writes() {
        let pace = Pace::default();
        let flush = pace.flush();
        asks(&pace, 100, waits, || {
            pace.flushed(100 * FLUSHED_BYTES_PER_BYTE)
        });
        asks(&pace, 100, waits, || drop(flush));
    }

    /// Else compactions stand still beside flushes of many small RowSets.
    #[test]
    fn all_that_a_flush_writes_counts() {
        let options = Options {
            io: Arc::new(SimulatedIo::new(1)),
            ..Options::unmeasured()
        };
        let database = Database::open("/db", options).unwrap();
        for keyspace in ["some", "more"] {
            let keyspace = database.keyspace(keyspace).unwrap();
            keyspace.insert("key", [1; 1000]).unwrap();
        }
        database.flush().unwrap();
        let pace = &database.shared().scheduler.pace;
        let allowed_bytes = pace.state.lock().allowed_bytes;
        assert!(allowed_bytes >= 2 * 1000 / FLUSHED_BYTES_PER_BYTE);
    }

    #[test]
    fn a_block_is_waited_for_and_only_that_one() {
        let pace = Pace::default();
        let block = pace.block();
        let mut next = None;
        let waits_for_block = |is_permitted: &AtomicBool| {
            // Else it may ask only when the next block is written.
            while pace.block_waiters.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            waits(is_permitted);
        };
        asks(&pace, 1, waits_for_block, || {
            drop(block);
            next = Some(pace.block());
        });
        drop(next);
        assert_eq!(pace.block_waiters.load(Ordering::SeqCst), 0);
    }

    /// Else all that is flushed meanwhile is written once more.
    #[test]
    fn what_moves_rows_down_waits_for_no_flush() {
        let pace = Pace::default();
        let _flush = pace.flush();
        pace.await_block();
    }

    #[test]
    fn nobody_waits_for_what_ends() {
        let pace = Pace::default();
        let (_flush, _block) = (pace.flush(), pace.block());
        asks(&pace, 1, waits, || pace.stop());
    }
}
