//! The generations of the DeltaCache: one that is written, and those that wait to be flushed.

use std::collections::VecDeque;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::error::{Error, Result};
use crate::exported::files::Exports;
use crate::generation::Generation;
use crate::log::segments::LogStart;
use crate::origins::Origin;
use crate::row_set::budget::MemoryBudget;
use crate::space::{RetryPause, SpaceFailures};
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{self, Condvar, Mutex, Point};
use crate::tree::loaded::LoadedRows;

/// A generation that is not written any more, and what was known when its last block was applied.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) generation: Arc<Generation>,
    /// Its last delta.
    pub(crate) seq_to: u64,
    /// The block that ended with it.
    pub(crate) block_number: u64,
    pub(crate) log_start: LogStart,
    /// The exports of each table that there was.
    pub(crate) exports: Vec<Arc<Exports>>,
    pub(crate) origins: Vec<Origin>,
    /// Rows at its last sequence that are on disk already.
    pub(crate) load: Option<Arc<LoadedRows>>,
}

/// All generations.
#[derive(Debug)]
pub(crate) struct Generations {
    /// Newest first; never empty.
    list: ArcSwap<Vec<Arc<Generation>>>,
    state: Mutex<State>,
    /// Something was frozen or flushed, or the work in the background ends.
    changed: Condvar,
    /// What waits for space is to be tried now.
    hurry: Condvar,
    /// A generation that reaches this size in bytes is frozen.
    size_bytes_max: u64,
    /// Takes the memory of all that somebody holds.
    budget: Arc<MemoryBudget>,
    /// Most generations that wait to be flushed before writers wait.
    frozen_count_max: usize,
    /// How many wait; changed under the lock of the state, read without it.
    frozen_count: AtomicUsize,
    /// Bytes of the log since the last generation was frozen, and how many freeze one.
    log_bytes: AtomicU64,
    log_bytes_max: u64,
    /// Counts bulk loads that are in the tree.
    load_count: AtomicU64,
    stopping: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Oldest first.
    frozen: VecDeque<Arc<Frozen>>,
    /// Why nothing is flushed any more.
    failed: bool,
    /// Flushes that found no space.
    flush_no_space: SpaceFailures,
}

/// Generations that wait before writers do: one is flushed while the next ones fill.
pub(crate) const FROZEN_COUNT_MAX: usize = 3;

impl Generations {
    pub(crate) fn new(
        seq_from: u64,
        size_bytes_max: u64,
        log_bytes_max: u64,
        budget: &Arc<MemoryBudget>,
    ) -> Self {
        let budget = MemoryBudget::part_of(budget);
        let first = Arc::new(Generation::counted(seq_from, Some(budget.clone())));
        Generations {
            list: ArcSwap::from_pointee(vec![first]),
            state: Mutex::default(),
            changed: Condvar::new(),
            hurry: Condvar::new(),
            size_bytes_max,
            budget,
            frozen_count_max: FROZEN_COUNT_MAX,
            frozen_count: AtomicUsize::new(0),
            log_bytes: AtomicU64::new(0),
            log_bytes_max,
            load_count: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        }
    }

    /// All of them, newest first.
    pub(crate) fn list(&self) -> Guard<Arc<Vec<Arc<Generation>>>> {
        self.list.load()
    }

    /// The one that is written.
    pub(crate) fn active(&self) -> Arc<Generation> {
        self.list.load().first().cloned().unwrap_or_default()
    }

    /// Counts bulk loads, each before its rows become visible. Those are newer than the generations that were there
    /// before, so who takes a list and then a visible sequence must find the same count before and after.
    pub(crate) fn load_count(&self) -> u64 {
        self.load_count.load(Ordering::Acquire)
    }

    /// Counts a bulk load whose rows are in the tree, and not visible yet.
    pub(crate) fn note_load(&self) {
        self.load_count.fetch_add(1, Ordering::Release);
    }

    /// Bytes of all generations.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.list.load().iter().map(|one| one.size_bytes()).sum()
    }

    /// How many wait to be flushed.
    pub(crate) fn frozen_count(&self) -> usize {
        self.frozen_count.load(Ordering::Relaxed)
    }

    /// How many wait to be flushed, the active one by its share.
    pub(crate) fn fill(&self) -> f64 {
        let active = self.active_size_bytes() as f64 / self.size_bytes_max.max(1) as f64;
        self.frozen_count() as f64 + active.min(1.0)
    }

    /// The most that [`fill`](Self::fill) comes to before writers wait.
    pub(crate) fn fill_max(&self) -> f64 {
        self.frozen_count_max as f64
    }

    fn active_size_bytes(&self) -> u64 {
        self.list.load().first().map_or(0, |one| one.size_bytes())
    }

    /// Whether nothing is flushed any more, because of a failure or the end.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_stopping() || self.state.lock().failed
    }

    /// Bytes of all generations that somebody holds: those, and flushed ones that scans still read.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.budget.used_bytes()
    }

    /// A generation of so many bytes is full.
    pub(crate) fn size_bytes_max(&self) -> u64 {
        self.size_bytes_max
    }

    /// Counts bytes of the log.
    pub(crate) fn note_logged(&self, size_bytes: u64) {
        self.log_bytes.fetch_add(size_bytes, Ordering::Relaxed);
    }

    /// Whether the active generation, or the log behind it, is full.
    pub(crate) fn is_full(&self) -> bool {
        self.active_size_bytes() >= self.size_bytes_max
            || self.log_bytes.load(Ordering::Relaxed) >= self.log_bytes_max
    }

    /// Goes on in a new generation. Only who writes may call this.
    pub(crate) fn freeze(&self, frozen: Frozen) {
        let mut state = self.state.lock();
        let next = Arc::new(Generation::counted(
            frozen.seq_to,
            Some(self.budget.clone()),
        ));
        let mut list = vec![next];
        list.extend(self.list.load().iter().cloned());
        self.list.store(Arc::new(list));
        state.frozen.push_back(Arc::new(frozen));
        self.frozen_count
            .store(state.frozen.len(), Ordering::Relaxed);
        self.log_bytes.store(0, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// The oldest one that waits to be flushed. Waits for one; `None` when the work in the background ends.
    pub(crate) fn next_frozen(&self) -> Option<Arc<Frozen>> {
        let mut state = self.state.lock();
        loop {
            if self.is_stopping() || state.failed {
                return None;
            }
            if let Some(frozen) = state.frozen.front() {
                return Some(frozen.clone());
            }
            self.changed.wait(&mut state);
        }
    }

    /// Lets a generation go whose RowSets are in the trees that readers find; `let_go` has those who read it do the same.
    pub(crate) fn drop_flushed(&self, frozen: &Arc<Frozen>, let_go: impl FnOnce()) {
        {
            // Nothing is frozen meanwhile.
            let _state = self.state.lock();
            let mut list = self.list.load().to_vec();
            list.retain(|one| !Arc::ptr_eq(one, &frozen.generation));
            self.list.store(Arc::new(list));
        }
        sync::point(Point::Publish);
        let_go();
        let mut state = self.state.lock();
        state.frozen.retain(|one| !Arc::ptr_eq(one, frozen));
        self.frozen_count
            .store(state.frozen.len(), Ordering::Relaxed);
        state.flush_no_space.clear();
        self.changed.notify_all();
    }

    /// Whether too much waits to be flushed.
    pub(crate) fn is_crowded(&self) -> bool {
        self.frozen_count() >= self.frozen_count_max
    }

    /// Waits while too much waits to be flushed; but not for space on a disk that is full.
    pub(crate) fn wait_for_room(&self) -> Result<()> {
        let mut state = self.state.lock();
        while state.frozen.len() >= self.frozen_count_max && !state.failed && !self.is_stopping() {
            if let Some(error) = state.flush_no_space.current() {
                return Err(error);
            }
            self.changed.wait(&mut state);
        }
        Ok(())
    }

    /// Waits until nothing waits to be flushed any more, or nothing is flushed any more.
    pub(crate) fn wait_flushed(&self) -> Result<()> {
        let mut state = self.state.lock();
        let failures_before = state.flush_no_space.count();
        self.hurry.notify_all();
        while !state.frozen.is_empty() && !state.failed && !self.is_stopping() {
            if let Some(error) = state.flush_no_space.since(failures_before) {
                return Err(error);
            }
            self.changed.wait(&mut state);
        }
        Ok(())
    }

    /// Says that a flush found no space, and waits before another try.
    pub(crate) fn pause_flush(&self, error: &Error, pause: &mut RetryPause) {
        let mut state = self.state.lock();
        state.flush_no_space.note(error);
        self.changed.notify_all();
        if !self.is_stopping() && !state.failed {
            pause.wait(&self.hurry, &mut state);
        }
    }

    /// Whether something waits to be flushed.
    pub(crate) fn is_flushing(&self) -> bool {
        !self.state.lock().frozen.is_empty()
    }

    /// Whether something is flushed: it waits, and not for space.
    pub(crate) fn has_flush_under_way(&self) -> bool {
        let state = self.state.lock();
        !state.frozen.is_empty() && state.flush_no_space.current().is_none()
    }

    /// Ends the work in the background, as soon as it can.
    pub(crate) fn stop(&self) {
        let _state = self.state.lock();
        self.stopping.store(true, Ordering::Relaxed);
        self.changed.notify_all();
        self.hurry.notify_all();
    }

    /// Says that nothing is flushed any more.
    pub(crate) fn fail(&self) {
        self.state.lock().failed = true;
        self.changed.notify_all();
        self.hurry.notify_all();
    }

    /// Whether the work in the background ends.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}
