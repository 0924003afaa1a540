//! Who does which compaction: jobs side by side, never two on one fragment.
//!
//! A table is *due* for a look after a change of its tree. Whoever is free looks for a job in the tables that are due,
//! and claims its fragment until the job's edit is made, or given up. So a plan is always made from a tree that no edit
//! of another job can invalidate: jobs on other fragments, and flushes, only add RowSets that are newer than all that the
//! job reads. Nothing of this is kept on disk; after a start everything is due once, and planned anew.
//!
//! What is worth doing only while nobody writes waits until no commit came for a moment ([`Depth::Idle`]), or until somebody
//! has everything flushed, and may write no more than was flushed: each flushed byte earns it one ([`Scheduler::earn`]).

pub(crate) mod job;
pub(crate) mod pace;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use self::job::Job;
use self::pace::Pace;
use crate::error::{Error, Result};
use crate::generation::LOCATIONS_BIT;
use crate::space::{RetryPause, SpaceFailures};
use crate::sync::{Condvar, Mutex};
use crate::tree::fragment::FragmentId;

/// Without a commit for so long, nobody writes.
const IDLE_PAUSE: Duration = Duration::from_millis(100);

/// How much is compacted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Depth {
    /// What reads and space need.
    #[default]
    Regular,
    /// And what gives back much space for the writing it takes, since there is time for it.
    Idle,
    /// Everything that leaves anything smaller.
    Full,
}

/// Who knows the trees, and what is written.
pub(crate) trait Planner {
    /// The newest commit.
    fn visible_seq(&self) -> u64;

    /// Whether a generation waits to be flushed.
    fn is_flushing(&self) -> bool;

    /// The compaction that is due first in a table, in fragments that nobody claims.
    fn plan(
        &self,
        table_id: u32,
        depth: Depth,
        is_claimed: &dyn Fn(u32, FragmentId) -> bool,
    ) -> Option<Job>;
}

/// The compactions of a database.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    state: Mutex<State>,
    /// Something became due, or the work ends.
    due: Condvar,
    /// Nothing is due, or the work ends.
    settled: Condvar,
    /// What waits for space is to be tried now.
    hurry: Condvar,
    /// Held by a flush from when it chooses fragments until its edit, and by who moves rows down for the last bit of the way.
    pub(crate) placing: Mutex<()>,
    /// What compactions ask before they write.
    pub(crate) pace: Pace,
    /// Bytes that compactions may still write which only give back space.
    earned_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// The tables to look at.
    due: BTreeMap<u32, Depth>,
    /// The table of the last job. Those behind it come before it: one that is always due leaves the others their turn.
    last_table_id: u32,
    /// The tables that changed since they were looked at while nobody wrote.
    stirred: BTreeSet<u32>,
    /// Each with how thoroughly its table was looked at meanwhile.
    claimed: BTreeMap<(u32, FragmentId), Depth>,
    /// Where a job failed since all was looked at.
    given_up: BTreeSet<(u32, FragmentId)>,
    /// Whether somebody waits for nobody to write.
    is_watched: bool,
    /// The last commit while nobody wrote.
    idle_seq: Option<u64>,
    is_stopped: bool,
    no_space: SpaceFailures,
}

impl State {
    fn is_settled(&self) -> bool {
        self.due.is_empty() && self.claimed.is_empty()
    }

    /// Lets others have the fragment of a job, which was left out when its table was looked at meanwhile.
    fn release(&mut self, job: &Job) {
        let missed = self.claimed.remove(&(job.table_id, job.fragment_id));
        self.add(table_of(job), missed.unwrap_or_default().max(job.depth));
    }

    /// Notes that all of a table was looked at but for the fragments that are claimed.
    fn look_done(&mut self, table_id: u32, depth: Depth) {
        self.due.remove(&table_id);
        for ((claimed_id, _), missed) in &mut self.claimed {
            if claimed_id & !LOCATIONS_BIT == table_id {
                *missed = depth.max(*missed);
            }
        }
    }

    /// The table whose turn it is.
    fn next_due(&self) -> Option<(u32, Depth)> {
        let behind = (Bound::Excluded(self.last_table_id), Bound::Unbounded);
        let next = self.due.range(behind).next();
        let next = next.or_else(|| self.due.first_key_value())?;
        Some((*next.0, *next.1))
    }

    fn add(&mut self, table_id: u32, depth: Depth) {
        let known = self.due.entry(table_id).or_default();
        *known = depth.max(*known);
    }
}

impl Scheduler {
    /// The next job. Waits for one; `None` when the work in the background ends. To be followed by
    /// [`finish`](Self::finish).
    pub(crate) fn next(&self, planner: &impl Planner) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if state.is_stopped {
                return None;
            }
            if let Some(job) = find(planner, &mut state) {
                let place = (job.table_id, job.fragment_id);
                state.claimed.insert(place, Depth::Regular);
                return Some(job);
            }
            if !state.is_settled() || state.stirred.is_empty() || state.is_watched {
                if state.is_settled() {
                    self.settled.notify_all();
                }
                self.due.wait(&mut state);
                continue;
            }
            self.settled.notify_all();
            let seq = planner.visible_seq();
            state.is_watched = true;
            let waited = self.due.wait_for(&mut state, IDLE_PAUSE);
            state.is_watched = false;
            let is_idle = waited.timed_out() && state.is_settled();
            if is_idle && planner.visible_seq() == seq && !planner.is_flushing() {
                state.idle_seq = Some(seq);
                for table_id in std::mem::take(&mut state.stirred) {
                    state.add(table_id, Depth::Idle);
                }
            }
        }
    }

    /// Ends a job whose edit was made.
    pub(crate) fn finish(&self, mut job: Job) {
        // What it read goes before it is told that the job is done, so that who waits for that finds the space free.
        job.let_go();
        let mut state = self.state.lock();
        state.no_space.clear();
        state.release(&job);
        state.stirred.insert(table_of(&job));
        self.due.notify_all();
    }

    /// Ends a job that found no space, and waits before anybody has to try it again.
    pub(crate) fn pause(&self, job: &Job, error: &Error, pause: &mut RetryPause) {
        let mut state = self.state.lock();
        state.no_space.note(error);
        self.settled.notify_all();
        if !state.is_stopped {
            pause.wait(&self.hurry, &mut state);
        }
        state.release(job);
        self.due.notify_all();
    }

    /// Ends a job that failed. It is tried again after the next flush.
    pub(crate) fn give_up(&self, job: &Job) {
        let mut state = self.state.lock();
        state.given_up.insert((job.table_id, job.fragment_id));
        state.release(job);
        self.due.notify_all();
    }

    /// Has all tables looked at.
    pub(crate) fn look_at(&self, table_ids: impl Iterator<Item = u32>, depth: Depth) {
        let mut state = self.state.lock();
        state.given_up.clear();
        for table_id in table_ids {
            state.add(table_id, depth);
            state.stirred.insert(table_id);
        }
        self.due.notify_all();
    }

    /// Has all tables looked at as while nobody writes, unless somebody has written since a commit.
    pub(crate) fn rest(&self, table_ids: impl Iterator<Item = u32>, seq: u64) {
        self.state.lock().idle_seq = Some(seq);
        self.look_at(table_ids, Depth::Idle);
    }

    /// Counts bytes that were flushed.
    pub(crate) fn earn(&self, size_bytes: u64) {
        self.earned_bytes.fetch_add(size_bytes, Ordering::Relaxed);
    }

    /// Takes bytes for a compaction that only gives back space; false if there are not so many.
    pub(crate) fn spend(&self, size_bytes: u64) -> bool {
        self.earned_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |earned| {
                earned.checked_sub(size_bytes)
            })
            .is_ok()
    }

    /// Waits until no compaction is due that does not wait for a better time, or none is done any more.
    ///
    /// # Errors
    /// [`Error::NoSpace`] where one finds no space.
    pub(crate) fn wait_settled(&self) -> Result<()> {
        let mut state = self.state.lock();
        let failures_before = state.no_space.count();
        self.hurry.notify_all();
        while !state.is_settled() && !state.is_stopped {
            if let Some(error) = state.no_space.since(failures_before) {
                return Err(error);
            }
            self.settled.wait(&mut state);
        }
        Ok(())
    }

    /// Whether nothing is due, nor under way.
    pub(crate) fn is_settled(&self) -> bool {
        self.state.lock().is_settled()
    }

    /// Ends the work in the background, as soon as it can.
    pub(crate) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.pace.stop();
        self.due.notify_all();
        self.settled.notify_all();
        self.hurry.notify_all();
    }
}

fn table_of(job: &Job) -> u32 {
    job.table_id & !LOCATIONS_BIT
}

/// A job in a table that is due. Tables without one are done with until they change.
fn find(planner: &impl Planner, state: &mut State) -> Option<Job> {
    while let Some((table_id, depth)) = state.next_due() {
        if depth == Depth::Idle && state.idle_seq != Some(planner.visible_seq()) {
            // Somebody writes again.
            state.due.insert(table_id, Depth::Regular);
            state.stirred.insert(table_id);
            continue;
        }
        let is_claimed = |id, fragment| {
            let place = (id, fragment);
            state.claimed.contains_key(&place) || state.given_up.contains(&place)
        };
        let job = planner.plan(table_id, depth, &is_claimed);
        if job.is_some() {
            state.last_table_id = table_id;
            return job;
        }
        state.look_done(table_id, depth);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::job::JobKind;
    use super::*;

    /// Each of these tables always has a job.
    struct AlwaysDue;

    fn job_of(table_id: u32) -> Job {
        Job {
            table_id,
            fragment_id: FragmentId::ROOT,
            kind: JobKind::Merge,
            depth: Depth::Regular,
            tree: Arc::default(),
            inputs: Vec::new(),
            dead: Vec::new(),
            is_bottom: true,
        }
    }

    impl Planner for AlwaysDue {
        fn visible_seq(&self) -> u64 {
            0
        }

        fn is_flushing(&self) -> bool {
            false
        }

        fn plan(
            &self,
            table_id: u32,
            _: Depth,
            _: &dyn Fn(u32, FragmentId) -> bool,
        ) -> Option<Job> {
            Some(job_of(table_id))
        }
    }

    /// *Bounded*: no table waits for another one to have nothing more to do.
    #[test]
    fn tables_take_turns() {
        let mut state = State::default();
        for table_id in [3, 5, 9] {
            state.add(table_id, Depth::Regular);
        }
        let jobs = (0..7).filter_map(|_| find(&AlwaysDue, &mut state));
        let tables: Vec<u32> = jobs.map(|job| job.table_id).collect();
        assert_eq!(tables, [3, 5, 9, 3, 5, 9, 3]);
    }

    /// *Bounded*: a full compaction that finds a fragment held by a job comes back to it.
    #[test]
    fn what_was_asked_for_while_a_job_held_a_fragment_is_done_after_it() {
        let job = job_of(3 | LOCATIONS_BIT);
        let mut state = State::default();
        for place in [(3 | LOCATIONS_BIT, job.fragment_id), (4, job.fragment_id)] {
            state.claimed.insert(place, Depth::Regular);
        }
        state.add(3, Depth::Full);
        state.look_done(3, Depth::Full);
        state.look_done(3, Depth::Regular);
        assert!(state.due.is_empty() && !state.is_settled());
        state.release(&job);
        assert_eq!(state.due.get(&3), Some(&Depth::Full));
        assert_eq!(
            state.claimed.into_iter().collect::<Vec<_>>(),
            [((4, job.fragment_id), Depth::Regular)],
            "other tables' jobs were not asked for more"
        );
    }
}
