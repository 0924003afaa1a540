//! Group commit: the records of concurrent commits become one block, one write and at most one sync.
//!
//! Submitting assigns the commit sequence and queues the record. Whoever waits for a record when nobody is writing leads:
//! it takes all that is queued for one block and writes it, on its own thread, while the next block gathers. So a single
//! writer never waits for another thread, and many writers share a sync. Records that nobody waits for are written by a
//! thread of the database.
//!
//! A block that finds no space is queued again as it was. Who waits for one of its records then takes it back: a delta
//! that others follow leaves an empty one behind, so that their commit sequences stay. A record that nobody waits for stays,
//! since nobody could be told, and is tried again.

use std::collections::VecDeque;
use std::sync::Arc;

use uuid::Uuid;

use super::conditions::Conditions;
use super::wakers::Wakers;
use crate::codec::len_u32;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::log::delta::encode_delta;
use crate::log::format::{RecordHeader, RecordKind, hash_body};
use crate::row_set::budget::MemoryBudget;
use crate::space::{RetryPause, SpaceFailures};
use crate::statistics::counters::Counters;
use crate::statistics::figures::StallReason;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::thread::{self, Thread};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::tree::loaded::LoadedRows;

/// When a commit counts as done.
///
/// ```
/// use moonshine_engine::{ColumnType, Database, Durability, Options, TableSchema, Value};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// # let schema = TableSchema::builder("users")
/// #     .column("id", ColumnType::Int64, false)
/// #     .column("name", ColumnType::Utf8, true)
/// #     .primary_key(["id"]);
/// # let users = database.create_table(schema.build()?)?;
/// # let mut transaction = database.begin();
/// # transaction.upsert(&users, vec![Value::Int64(1), Value::Utf8("ada".into())])?;
/// # transaction.commit()?;
/// let mut transaction = database.begin();
/// transaction.set_durability(Durability::Buffered);
/// transaction.upsert(&users, vec![Value::Int64(2), Value::Null])?;
/// let seq = transaction.commit()?;
/// database.wait_durable(seq)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it is synced to the device: it survives any crash.
    #[default]
    Synced,
    /// When the operating system has it: it survives the end of the process, and a crash of the machine only if a later
    /// commit or [`Database::sync`](crate::Database::sync) was synced. What survives is always all commits up to one.
    Buffered,
}

/// What whoever waits for a record is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing: the record is written.
    Done,
    /// Write what is queued, and then [`CommitQueue::resign`]: nobody else does.
    Lead,
}

/// What a submitted record is waited for by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    /// The record's commit sequence; that of the delta before it for a record that is no delta.
    pub(crate) seq: u64,
    /// Counts all records of this process.
    pub(crate) number: u64,
    /// Whether the record needs no sync, so that it is written in microseconds once its turn comes.
    is_buffered: bool,
}

/// How often a thread looks whether its record is written before it goes to sleep: about as long as a few blocks without
/// a sync take, which is less than falling asleep and being woken.
const LOOKS_MAX: u32 = if cfg!(moonshine_sim) { 3 } else { 4000 };

/// The queue holds at most this part of the memory budget, and at least so many bytes.
const QUEUE_SHARE: u64 = 16;
const QUEUE_SIZE_BYTES_MIN: usize = 64 << 10;

/// Buffered records of so many bytes are written before a thread could be handed the lead.
const QUICK_SIZE_BYTES_MAX: usize = 256 << 10;

#[derive(Debug)]
pub(crate) struct CommitQueue {
    database_id: Uuid,
    /// Most bytes that wait to be written; past it, submitting waits.
    queue_size_bytes_max: usize,
    /// Most bytes of records in one block, unless one record alone is larger.
    block_size_bytes_max: usize,
    state: Mutex<State>,
    /// Records are queued that nobody waits for, or the queue is closing.
    unattended: Condvar,
    taken: Condvar,
    pub(crate) wakers: Wakers,
    /// All records up to it are written and applied.
    done_number: AtomicU64,
    /// Whether somebody is writing; changed under the lock of the state.
    is_led: AtomicBool,
    /// Threads that look whether their record is written, without the lock, and lead if nobody does.
    watcher_count: AtomicUsize,
    /// So many may look at once: who leads needs a processor too.
    watcher_count_max: usize,
    /// Whether writing failed, and how many blocks found no space; as in the state, and changed under its lock.
    has_failed: AtomicBool,
    no_space_count: AtomicU64,
}

/// A thread that waits for its record. Each is woken by itself: when its record is written, or to lead. So a block wakes
/// those whose records it held and one more, however many wait.
#[derive(Debug)]
struct Waiter {
    number: u64,
    thread: Thread,
}

/// Threads that need wait no longer. They are woken when this is dropped, which is best done without holding anything.
#[derive(Debug, Default)]
#[must_use = "those that are in it wait for it to be dropped"]
pub(crate) struct Woken(VecDeque<Waiter>);

impl Drop for Woken {
    fn drop(&mut self) {
        self.0.iter().for_each(|waiter| waiter.thread.unpark());
    }
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Queued>,
    waiting_bytes: usize,
    last_seq: u64,
    last_number: u64,
    /// Those that wait for a record, each ready to lead.
    waiters: VecDeque<Waiter>,
    closing: bool,
    failed: Option<String>,
    /// Blocks that found no space.
    no_space: SpaceFailures,
}

/// A record that waits to be written.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) ticket: Ticket,
    pub(crate) header: RecordHeader,
    pub(crate) body: Arc<[u8]>,
    pub(crate) durability: Durability,
    /// What must hold for it to be written; else it is written empty.
    pub(crate) conditions: Option<Arc<Conditions>>,
    /// Of a bulk load: its rows, which are on disk already.
    pub(crate) load: Option<Arc<LoadedRows>>,
    /// Whether it was taken back and only keeps a commit sequence.
    is_empty: bool,
    /// What it was before it was refused, until that is in the log: what it conflicts with may never be written.
    refused: Option<Box<Refused>>,
}

#[derive(Debug)]
struct Refused {
    header: RecordHeader,
    body: Arc<[u8]>,
    durability: Durability,
    conditions: Arc<Conditions>,
}

impl CommitQueue {
    pub(crate) fn new(
        database_id: Uuid,
        last_seq: u64,
        layout: &Layout,
        budget: &MemoryBudget,
    ) -> Self {
        let share = |size_bytes: usize| budget.share(QUEUE_SHARE, QUEUE_SIZE_BYTES_MIN, size_bytes);
        let state = State {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            last_seq,
            last_number: 0,
            waiters: VecDeque::new(),
            closing: false,
            failed: None,
            no_space: SpaceFailures::default(),
        };
        CommitQueue {
            database_id,
            queue_size_bytes_max: share(layout.commit_queue_size_bytes.as_usize()),
            block_size_bytes_max: layout.commit_block_size_bytes.as_usize(),
            state: Mutex::new(state),
            unattended: Condvar::new(),
            taken: Condvar::new(),
            done_number: AtomicU64::new(0),
            is_led: AtomicBool::new(false),
            watcher_count: AtomicUsize::new(0),
            watcher_count_max: thread::available_parallelism().map_or(1, usize::from) - 1,
            wakers: Wakers::default(),
            has_failed: AtomicBool::new(false),
            no_space_count: AtomicU64::new(0),
        }
    }

    /// Queues a record; waits only while the queue is full. To be followed by [`turn`](Self::turn) or
    /// [`leave`](Self::leave).
    pub(crate) fn submit(
        &self,
        kind: RecordKind,
        body: impl Into<Arc<[u8]>>,
        durability: Durability,
        conditions: Option<Arc<Conditions>>,
        counters: &Counters,
    ) -> Result<Ticket> {
        self.enqueue(kind, body.into(), durability, (conditions, None), counters)
    }

    /// Queues the record of a bulk load, a delta without rows.
    pub(crate) fn submit_load(&self, load: Arc<LoadedRows>, counters: &Counters) -> Result<Ticket> {
        let (kind, body) = (RecordKind::Delta, encode_delta(None, &[], 0));
        self.enqueue(kind, body, Durability::Synced, (None, Some(load)), counters)
    }

    fn enqueue(
        &self,
        kind: RecordKind,
        body: Arc<[u8]>,
        durability: Durability,
        (conditions, load): (Option<Arc<Conditions>>, Option<Arc<LoadedRows>>),
        counters: &Counters,
    ) -> Result<Ticket> {
        let body_size_bytes = u32::try_from(body.len()).map_err(|_| {
            Error::Usage(format!(
                "a transaction of {} bytes, at most 4 GiB are supported; split it",
                body.len()
            ))
        })?;
        let body_hash = hash_body(&body, self.database_id);
        let mut state = self.state.lock();
        let is_full = |state: &State| {
            state.failed.is_none() && state.waiting_bytes > self.queue_size_bytes_max
        };
        if is_full(&state) {
            let _stall = counters.stall(StallReason::Log);
            while is_full(&state) {
                if let Some(error) = state.no_space.current() {
                    return Err(error);
                }
                self.taken.wait(&mut state);
            }
        }
        if let Some(reason) = &state.failed {
            return Err(Error::Poisoned(reason.clone()));
        }
        if state.closing {
            // An export that outlives its database.
            return Err(Error::Usage("the database is closed".into()));
        }
        if kind == RecordKind::Delta {
            state.last_seq += 1;
        }
        state.last_number += 1;
        let ticket = Ticket {
            seq: state.last_seq,
            number: state.last_number,
            is_buffered: durability == Durability::Buffered,
        };
        let header = RecordHeader::new(kind, body_size_bytes, ticket.seq, body_hash);
        state.waiting_bytes += body.len();
        state.waiting.push_back(Queued {
            ticket,
            header,
            body,
            durability,
            conditions,
            load,
            is_empty: false,
            refused: None,
        });
        Ok(ticket)
    }

    /// Counts the blocks that found no space.
    pub(crate) fn failure_count(&self) -> u64 {
        self.no_space_count.load(Ordering::Acquire)
    }

    /// Waits until a submitted record is written, or nobody writes it. [`Error::NoSpace`] if a block found no space since
    /// that many did: the record is taken back, and will not be written.
    pub(crate) fn turn(&self, ticket: Ticket, failures_before: u64) -> Result<Turn> {
        if ticket.is_buffered && self.watch(ticket) {
            return Ok(Turn::Done);
        }
        let mut state = self.state.lock();
        let mut waits = false;
        loop {
            let turn = self.turn_now(&mut state, ticket, failures_before);
            if let Some(turn) = turn {
                if waits {
                    state
                        .waiters
                        .retain(|waiter| waiter.number != ticket.number);
                }
                self.hand_over(&mut state);
                return turn;
            }
            if !waits {
                waits = true;
                state.waiters.push_back(Waiter {
                    number: ticket.number,
                    thread: thread::current(),
                });
            }
            MutexGuard::unlocked(&mut state, thread::park);
        }
    }

    /// Looks for a while, as long as somebody leads, whether a record is written. True if it is and nobody has to be
    /// found who leads next.
    fn watch(&self, ticket: Ticket) -> bool {
        if !self.is_led.load(Ordering::SeqCst) {
            return false;
        }
        let others = self.watcher_count.fetch_add(1, Ordering::SeqCst);
        if others < self.watcher_count_max {
            let _seen = (0..LOOKS_MAX).any(|_| {
                thread::spin_loop();
                self.is_written(ticket) || !self.is_led.load(Ordering::Relaxed)
            });
        }
        self.watcher_count.fetch_sub(1, Ordering::SeqCst);
        // Who ended leading before this thread was no longer counted has relied on it to lead.
        self.is_written(ticket) && self.is_led.load(Ordering::SeqCst)
    }

    /// Whether a record is written and applied.
    pub(crate) fn is_written(&self, ticket: Ticket) -> bool {
        self.done_number.load(Ordering::Acquire) >= ticket.number
    }

    /// What whoever waits for a record is to do next; `None`: go on waiting.
    fn turn_now(
        &self,
        state: &mut State,
        ticket: Ticket,
        failures_before: u64,
    ) -> Option<Result<Turn>> {
        match self.outcome(state, ticket, failures_before) {
            Some(outcome) => Some(outcome.map(|()| Turn::Done)),
            None if self.is_led.load(Ordering::SeqCst) => None,
            None => {
                self.is_led.store(true, Ordering::SeqCst);
                Some(Ok(Turn::Lead))
            }
        }
    }

    /// Whether a submitted record is written, for who does not wait. The error is that of [`turn`](Self::turn).
    pub(crate) fn is_done(&self, ticket: Ticket, failures_before: u64) -> Result<bool> {
        let outcome = self.outcome(&mut self.state.lock(), ticket, failures_before);
        outcome.map_or(Ok(false), |outcome| outcome.map(|()| true))
    }

    /// What became of a record; `None` while it waits to be written.
    fn outcome(
        &self,
        state: &mut State,
        ticket: Ticket,
        failures_before: u64,
    ) -> Option<Result<()>> {
        if self.is_written(ticket) {
            return Some(Ok(()));
        }
        if let Some(reason) = &state.failed {
            return Some(Err(Error::Poisoned(reason.clone())));
        }
        let error = state.no_space.since(failures_before)?;
        let is_taken_back = state.take_back(self.database_id, ticket.number);
        is_taken_back.then_some(Err(error))
    }

    /// Leaves what is queued to the database's thread.
    pub(crate) fn leave(&self) {
        self.hand_over(&mut self.state.lock());
    }

    /// Waits until records are queued that nobody waits for, to lead; false once the queue is closed and empty, or closed
    /// and the disk full.
    pub(crate) fn attend(&self, pause: &mut RetryPause) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.failed.is_some() {
                return false;
            }
            if state.no_space.current().is_none() {
                pause.reset();
            }
            let is_led = self.is_led.load(Ordering::SeqCst);
            let is_idle = !is_led && !state.waiting.is_empty();
            let is_attended = !state.waiters.is_empty() || self.is_watched();
            if is_idle && (!is_attended || state.closing) {
                let is_due = state.no_space.current().is_none() || pause.is_over();
                if is_due || (state.closing && pause.last_try()) {
                    self.is_led.store(true, Ordering::SeqCst);
                    return true;
                }
                if state.closing {
                    tracing::error!(
                        records = state.waiting.len(),
                        "the disk is full: what was submitted and not waited for is lost"
                    );
                    return false;
                }
                pause.wait(&self.unattended, &mut state);
                continue;
            }
            if state.closing && !is_led && state.waiting.is_empty() {
                return false;
            }
            self.unattended.wait(&mut state);
        }
    }

    /// Ends leading. What was queued meanwhile is for whoever waits for it, or for the database's thread.
    pub(crate) fn resign(&self) {
        let mut state = self.state.lock();
        self.is_led.store(false, Ordering::SeqCst);
        self.hand_over(&mut state);
        if state.closing {
            self.unattended.notify_all();
        }
    }

    /// Whether a thread looks whether its record is written. Before it goes on or to sleep it leads, or finds who does, if
    /// it sees that nobody leads.
    fn is_watched(&self) -> bool {
        self.watcher_count.load(Ordering::SeqCst) > 0
    }

    /// Has somebody lead if nobody does and records are queued.
    fn hand_over(&self, state: &mut State) {
        let is_led = self.is_led.load(Ordering::SeqCst);
        if is_led || state.waiting.is_empty() || self.is_watched() {
            return;
        }
        match state.waiters.front() {
            Some(waiter) => waiter.thread.unpark(),
            None => {
                self.unattended.notify_all();
            }
        }
    }

    /// How many records wait to be written, and their bytes.
    pub(crate) fn queued(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.waiting.len(), state.waiting_bytes)
    }

    /// The commit sequence that was given out last.
    pub(crate) fn last_seq(&self) -> u64 {
        self.state.lock().last_seq
    }

    /// Why writing stopped, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        if !self.has_failed.load(Ordering::Acquire) {
            return None;
        }
        self.state.lock().failed.clone()
    }

    /// Lets the database's thread end once the queue is empty.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.unattended.notify_all();
    }

    /// Takes as many records as fit a block; none if none are queued. That of a bulk load comes alone. For whoever leads.
    pub(crate) fn take(&self) -> Vec<Queued> {
        let mut state = self.state.lock();
        let mut taken: Vec<Queued> = Vec::new();
        let mut size_bytes = 0;
        while let Some(record) = state.waiting.front()
            && (taken.is_empty()
                || size_bytes + record.body.len() <= self.block_size_bytes_max
                    && record.load.is_none()
                    && taken.iter().all(|taken| taken.load.is_none()))
        {
            size_bytes += record.body.len();
            taken.extend(state.waiting.pop_front());
        }
        state.waiting_bytes -= size_bytes;
        self.taken.notify_all();
        taken
    }

    /// Queues records again, as they were: there was no space for their block. For whoever leads.
    pub(crate) fn put_back(&self, records: Vec<Queued>, error: &Error) {
        let mut state = self.state.lock();
        for mut record in records.into_iter().rev() {
            record.admit_again();
            state.waiting_bytes += record.body.len();
            state.waiting.push_front(record);
        }
        state.no_space.note(error);
        let count = state.no_space.count();
        self.no_space_count.store(count, Ordering::Release);
        // Each takes its own record back.
        state
            .waiters
            .iter()
            .for_each(|waiter| waiter.thread.unpark());
        self.taken.notify_all();
        drop(state);
        self.wakers.wake(u64::MAX);
    }

    /// Takes a record back that is not written yet; false if it is, or is being written.
    pub(crate) fn take_back(&self, ticket: Ticket) -> bool {
        self.state.lock().take_back(self.database_id, ticket.number)
    }

    /// Says that everything up to that record is written, as durably as asked for, and applied. True, if that is asked for,
    /// where what waits is little and needs no sync, so that who leads may well write it for others.
    pub(crate) fn finish(&self, number: u64, asks: bool) -> (Woken, bool) {
        self.done_number.store(number, Ordering::Release);
        let mut state = self.state.lock();
        state.no_space.clear();
        let waiters = std::mem::take(&mut state.waiters);
        let (done, left) = waiters
            .into_iter()
            .partition(|waiter| waiter.number <= number);
        state.waiters = left;
        let is_quick = asks && state.is_quick();
        drop(state);
        self.wakers.wake(number);
        (Woken(done), is_quick)
    }

    /// Ends writing, and says why.
    pub(crate) fn fail(&self, reason: &str) {
        let mut state = self.state.lock();
        state.failed.get_or_insert_with(|| reason.to_owned());
        self.has_failed.store(true, Ordering::Release);
        state.waiting.clear();
        state
            .waiters
            .iter()
            .for_each(|waiter| waiter.thread.unpark());
        self.taken.notify_all();
        self.unattended.notify_all();
        drop(state);
        self.wakers.wake(u64::MAX);
    }
}

impl State {
    fn is_quick(&self) -> bool {
        let mut waiting = self.waiting.iter();
        self.waiting_bytes <= QUICK_SIZE_BYTES_MAX
            && waiting.all(|record| record.durability == Durability::Buffered)
    }

    /// Takes a record out of those that wait. A delta that others follow becomes an empty one, which keeps its commit
    /// sequence.
    fn take_back(&mut self, database_id: Uuid, number: u64) -> bool {
        let found = self
            .waiting
            .binary_search_by_key(&number, |record| record.ticket.number);
        let Ok(place) = found else {
            return false;
        };
        if let Some(record) = self.waiting.get_mut(place)
            && record.header.kind == RecordKind::Delta
        {
            self.waiting_bytes -= record.body.len();
            record.make_empty(database_id);
            self.waiting_bytes += record.body.len();
        } else if let Some(record) = self.waiting.remove(place) {
            self.waiting_bytes -= record.body.len();
        }
        // Nothing follows those at the end, so they need no place.
        while let Some(last) = self.waiting.pop_back_if(|record| record.is_empty) {
            self.waiting_bytes -= last.body.len();
            self.last_seq -= 1;
        }
        true
    }
}

impl Queued {
    /// Leaves nothing but the commit sequence of a delta whose conditions don't hold: sequences have no gaps.
    pub(crate) fn refuse(&mut self, database_id: Uuid, error: Error) {
        if let Some(conditions) = self.conditions.take() {
            conditions.refuse(error);
            self.refused = Some(Box::new(Refused {
                header: self.header,
                body: self.body.clone(),
                durability: self.durability,
                conditions,
            }));
            self.empty(database_id);
        }
    }

    /// Takes a refusal back.
    fn admit_again(&mut self) {
        if let Some(refused) = self.refused.take() {
            refused.conditions.admit_again();
            self.header = refused.header;
            self.body = refused.body;
            self.durability = refused.durability;
            self.conditions = Some(refused.conditions);
        }
    }

    /// Lets go of what was held until it is written.
    pub(crate) fn release(&self) {
        let refused = self.refused.as_ref().map(|refused| &refused.conditions);
        if let Some(conditions) = self.conditions.as_ref().or(refused) {
            conditions.release();
        }
    }

    fn make_empty(&mut self, database_id: Uuid) {
        self.conditions = None;
        self.empty(database_id);
        self.is_empty = true;
    }

    fn empty(&mut self, database_id: Uuid) {
        let body = encode_delta(None, &[], 0);
        let (kind, seq) = (RecordKind::Delta, self.ticket.seq);
        self.header = RecordHeader::new(
            kind,
            len_u32(body.len()),
            seq,
            hash_body(&body, database_id),
        );
        self.body = body;
        self.durability = Durability::Buffered;
        self.load = None;
    }
}
