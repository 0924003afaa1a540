//! Tasks that wait for records without a thread of their own.

use std::task::Waker;

use crate::sync::Mutex;

/// Who is to be woken when a record is written, by the record's number.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    waiting: Mutex<Vec<(u64, Waker)>>,
}

impl Wakers {
    /// Has a task woken when that record is written, or won't be. Whoever asks after this misses nothing.
    pub(crate) fn add(&self, number: u64, waker: &Waker) {
        let mut waiting = self.waiting.lock();
        match waiting.iter_mut().find(|(of, _)| *of == number) {
            Some((_, known)) => known.clone_from(waker),
            None => waiting.push((number, waker.clone())),
        }
    }

    /// Wakes those of all records up to a number.
    pub(crate) fn wake(&self, number: u64) {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            return;
        }
        let due: Vec<_> = waiting.extract_if(.., |(of, _)| *of <= number).collect();
        drop(waiting);
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Forgets the task of a record.
    pub(crate) fn remove(&self, number: u64) {
        self.waiting.lock().retain(|(of, _)| *of != number);
    }
}
