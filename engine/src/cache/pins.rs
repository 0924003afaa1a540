//! Which commit sequence is visible, and which older ones readers still hold.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::space::SpaceFailures;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex};

/// The visible commit sequence and the snapshots that are alive.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    state: Mutex<State>,
    /// Changed under the lock of the state; read without it.
    visible_seq: AtomicU64,
    visible_changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    durable_seq: u64,
    pinned: BTreeMap<u64, usize>,
    stopped: Option<String>,
    no_space: SpaceFailures,
}

impl Pins {
    /// The newest commit sequence that readers see.
    pub(crate) fn visible_seq(&self) -> u64 {
        self.visible_seq.load(Ordering::Acquire)
    }

    /// The newest commit sequence that is durable; it is visible too.
    pub(crate) fn durable_seq(&self) -> u64 {
        self.state.lock().durable_seq
    }

    /// Makes everything up to that sequence visible, and says whether all of it is durable.
    pub(crate) fn publish(&self, seq: u64, is_durable: bool) {
        let mut state = self.state.lock();
        let visible_seq = self.visible_seq();
        assert!(
            seq >= visible_seq,
            "the visible sequence moves from {visible_seq} back to {seq}"
        );
        self.visible_seq.store(seq, Ordering::Release);
        if is_durable {
            state.durable_seq = seq;
        }
        self.visible_changed.notify_all();
    }

    /// Says that everything up to a visible sequence is durable.
    pub(crate) fn note_durable(&self, seq: u64) {
        let mut state = self.state.lock();
        state.durable_seq = state.durable_seq.max(seq);
        self.visible_changed.notify_all();
    }

    /// Says that nothing more will become visible, and why.
    pub(crate) fn stop(&self, reason: &str) {
        self.state
            .lock()
            .stopped
            .get_or_insert_with(|| reason.to_owned());
        self.visible_changed.notify_all();
    }

    /// Says that what was to become visible found no space, and will be tried again.
    pub(crate) fn note_no_space(&self, error: &Error) {
        self.state.lock().no_space.note(error);
        self.visible_changed.notify_all();
    }

    /// Waits until that sequence is visible. [`Error::Poisoned`] says why it never will be, [`Error::NoSpace`] that it is
    /// not as long as the disk is full.
    pub(crate) fn wait_visible(&self, seq: u64) -> Result<()> {
        let mut state = self.state.lock();
        let failures_before = state.no_space.count();
        loop {
            if self.visible_seq() >= seq {
                return Ok(());
            }
            if let Some(reason) = &state.stopped {
                return Err(Error::Poisoned(reason.clone()));
            }
            if let Some(error) = state.no_space.since(failures_before) {
                return Err(error);
            }
            self.visible_changed.wait(&mut state);
        }
    }

    /// Holds the visible sequence, so that its versions stay; returns it.
    pub(crate) fn pin_visible(&self) -> u64 {
        let mut state = self.state.lock();
        let seq = self.visible_seq();
        *state.pinned.entry(seq).or_default() += 1;
        seq
    }

    /// Ends one hold of that sequence.
    pub(crate) fn unpin(&self, seq: u64) {
        let mut state = self.state.lock();
        if let Some(count) = state.pinned.get_mut(&seq) {
            *count -= 1;
            if *count == 0 {
                state.pinned.remove(&seq);
            }
        }
    }

    /// The sequences that are held, ascending.
    pub(crate) fn pinned(&self) -> Vec<u64> {
        self.state.lock().pinned.keys().copied().collect()
    }

    /// No reader, now or later, asks for a sequence below this. The durable one is asked for by sources.
    pub(crate) fn horizon_seq(&self) -> u64 {
        let state = self.state.lock();
        let oldest = state.pinned.keys().next();
        oldest.map_or(state.durable_seq, |&pinned| pinned.min(state.durable_seq))
    }
}
