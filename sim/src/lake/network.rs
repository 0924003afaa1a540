//! The one place of faults: what becomes of each request.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::Bytes;
use futures::task::AtomicWaker;
use iceberg::TableIdent;
use moonshine_export::catalog::{Change, NewTable};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::clock::Random;
use super::store::Weather;
use super::{LakeTable, State};

/// Who sends a request. A process that died sends none; what it sent before arrives all the same.
pub type ProcessId = u64;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is done, and answered.
    None,
    /// 429: not now.
    Busy,
    /// 409, though nothing changed.
    SpuriousConflict,
    /// A proxy sends it twice: the first copy holds the table's lock for long, the second one is answered 409.
    LateConflict,
    /// 403, and it did not take place.
    Refused,
    /// 500, and it did not take place.
    FailedUnseen,
    /// 200 with the table as it was, as from a cache, and it did not take place.
    Ignored,
    /// It takes place, and the answer shows the table as it was.
    OldAnswer,
    /// It takes place, and the answer is lost.
    LostAnswer,
    /// A proxy sends it twice and passes on the second answer.
    SentTwice,
    /// A proxy sends it twice: the first copy takes place, the second one is answered 403.
    CopyRefused,
    /// It is on its way for long, and arrives when others came before.
    Late,
    /// It is on its way for a while, and answered: others come in between.
    Slow,
    /// It is on its way for long, and somebody rolls the table back meanwhile.
    RolledBack,
    /// It takes place, and a copy of it arrives later.
    Echo,
    /// Somebody sets a property first.
    Disturbed,
    /// Nothing is answered for ever; it did not take place. The caller is to die meanwhile.
    HangBefore,
    /// The same, but it did take place.
    HangAfter,
}

/// What chance does to commits.
pub const FAULTS: [Fault; 15] = [
    Fault::None,
    Fault::Busy,
    Fault::SpuriousConflict,
    Fault::LateConflict,
    Fault::Refused,
    Fault::FailedUnseen,
    Fault::Ignored,
    Fault::OldAnswer,
    Fault::LostAnswer,
    Fault::SentTwice,
    Fault::CopyRefused,
    Fault::Late,
    Fault::Slow,
    Fault::Echo,
    Fault::Disturbed,
];

/// What chance does to an object that is put or deleted.
const STORE_FAULTS: [Fault; 5] = [
    Fault::FailedUnseen,
    Fault::LostAnswer,
    Fault::Late,
    Fault::Slow,
    Fault::Echo,
];

/// How often requests fare badly, of a thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Climate {
    /// Commits, and tables that are made.
    pub commits_permille: u64,
    /// Looks at a table that fail.
    pub looks_permille: u64,
    /// Requests to the store.
    pub objects_permille: u64,
    /// The longest that a request is on its way, in milliseconds.
    pub late_max_ms: u64,
}

impl Climate {
    /// Everything is answered.
    pub const CALM: Climate = Climate {
        commits_permille: 0,
        looks_permille: 0,
        objects_permille: 0,
        late_max_ms: 1,
    };

    /// Most commits fare badly.
    pub const ROUGH: Climate = Climate {
        commits_permille: 667,
        looks_permille: 125,
        objects_permille: 17,
        late_max_ms: 40,
    };
}

/// Something that is asked for and changes something.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Commit(Box<Commit>),
    Create(Box<Create>),
    Put { key: String, bytes: Bytes },
    Delete { key: String },
}

#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub(super) base: LakeTable,
    pub(super) change: Change,
    pub(super) file_id: Uuid,
    /// Whether all of the metadata has to be what it was.
    pub(super) compares_location: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Create {
    pub(super) ident: TableIdent,
    pub(super) table: NewTable,
    pub(super) file_id: Uuid,
}

/// What a request brought about.
#[derive(Clone, Debug)]
pub(super) enum Done {
    Committed(LakeTable),
    Conflict,
    Refused(String),
    Stored,
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Sent {
    id: u64,
    request: Request,
    arrives_at_ms: i64,
    is_awaited: bool,
}

/// What is known of a request when it was sent.
pub(super) enum Sending {
    /// It is over.
    Done(Done),
    /// It is over, or will be, and its sender is told this.
    Told(Told),
    /// Its answer comes at that time.
    Awaited { id: u64, at_ms: i64 },
    /// There never is an answer.
    Never,
}

/// What a sender is told that is not what happened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    Busy,
    Conflict,
    Refused,
    OldTable,
    Unknown(&'static str),
}

pub(super) struct Network {
    pub(super) random: Random,
    pub(super) climate: Climate,
    pub(super) weather: Weather,
    pub(super) on_the_way: Vec<Sent>,
    answers: BTreeMap<u64, Done>,
    next_id: u64,
    /// How often each fault happened.
    pub(super) seen: BTreeMap<String, u32>,
    /// The faults of the next commits, before chance decides.
    pub(super) next_faults: VecDeque<Fault>,
    /// Whether the next looks at a table fail, before chance decides.
    pub(super) next_looks_fail: VecDeque<bool>,
    /// How many requests to the store failed.
    pub(super) failures: u64,
}

impl Default for Network {
    fn default() -> Self {
        Network::new(1)
    }
}

impl Network {
    pub(super) fn new(seed: u64) -> Network {
        Network {
            random: Random::mixed(seed),
            climate: Climate::CALM,
            weather: Weather::Calm,
            on_the_way: Vec::new(),
            answers: BTreeMap::new(),
            next_id: 0,
            seen: BTreeMap::new(),
            next_faults: VecDeque::new(),
            next_looks_fail: VecDeque::new(),
            failures: 0,
        }
    }

    fn fault(&mut self, request: &Request) -> Fault {
        let (faults, permille): (&[Fault], u64) = match request {
            Request::Commit(_) => {
                if let Some(fault) = self.next_faults.pop_front() {
                    return fault;
                }
                (&FAULTS, self.climate.commits_permille)
            }
            Request::Create(_) => (&STORE_FAULTS, self.climate.commits_permille),
            _ => (&STORE_FAULTS, self.climate.objects_permille),
        };
        if permille == 0 || !self.random.permille(permille) {
            return Fault::None;
        }
        let fault = faults[self.random.below(faults.len() as u64) as usize];
        let name = match request {
            Request::Commit(_) => format!("{fault:?}"),
            Request::Create(_) => format!("{fault:?} create"),
            Request::Put { .. } => format!("{fault:?} put"),
            Request::Delete { .. } => format!("{fault:?} delete"),
        };
        *self.seen.entry(name).or_default() += 1;
        fault
    }

    /// Has a request arrive later; its id and when that is.
    fn delay(&mut self, request: &Request, now_ms: i64, is_awaited: bool) -> (u64, i64) {
        self.next_id += 1;
        let delay_ms = self.random.below(self.climate.late_max_ms.max(1)) + 1;
        // What a test has planned arrives when the test says so.
        let is_planned = self.climate == Climate::CALM && !is_awaited;
        let arrives_at_ms = match is_planned {
            true => i64::MAX / 2,
            false => now_ms.saturating_add_unsigned(delay_ms),
        };
        self.on_the_way.push(Sent {
            id: self.next_id,
            request: request.clone(),
            arrives_at_ms,
            is_awaited,
        });
        (self.next_id, arrives_at_ms)
    }

    pub(super) fn answer(&mut self, id: u64) -> Option<Done> {
        self.answers.remove(&id)
    }
}

/// Makes a request a part of the run's trace. Of an object its size: Avro files have a random marker, which is not the seed's.
fn note(request: &Request, now_ms: i64) {
    let (kind, what) = match request {
        Request::Commit(commit) => ("commit", (commit.file_id.as_u128() as u64, 0)),
        Request::Create(create) => ("create", (create.file_id.as_u128() as u64, 0)),
        Request::Put { key, bytes } => ("put", (xxh3_64(key.as_bytes()), bytes.len() as u64)),
        Request::Delete { key } => ("delete", (xxh3_64(key.as_bytes()), 0)),
    };
    moonshine_sim_runtime::note(kind, &[now_ms.cast_unsigned(), what.0, what.1]);
}

impl State {
    /// What is due by a time arrives, in its order; it is now `now_ms`.
    pub(super) fn deliver_due(&mut self, due_ms: i64, now_ms: i64) {
        loop {
            let sent = &self.network.on_the_way;
            let next = (0..sent.len())
                .filter(|at| sent[*at].arrives_at_ms <= due_ms)
                .min_by_key(|at| (sent[*at].arrives_at_ms, sent[*at].id));
            let Some(next) = next else {
                return;
            };
            let sent = self.network.on_the_way.swap_remove(next);
            let done = self.carry_out(&sent.request, now_ms);
            if sent.is_awaited {
                self.network.answers.insert(sent.id, done);
            }
        }
    }

    fn carry_out(&mut self, request: &Request, now_ms: i64) -> Done {
        match request {
            Request::Commit(commit) => self.commit(commit, now_ms),
            Request::Create(create) => self.create(create, now_ms),
            Request::Put { key, bytes } => self.put(key, bytes.clone(), now_ms),
            Request::Delete { key } => self.delete(key, now_ms),
        }
    }

    /// Sends a request, which fares as the seed has it.
    pub(super) fn send(&mut self, request: &Request, now_ms: i64) -> Sending {
        note(request, now_ms);
        if self.network.next_faults.is_empty() {
            self.deliver_due(now_ms, now_ms);
        }
        let fault = self.network.fault(request);
        match fault {
            Fault::Busy => return Sending::Told(Told::Busy),
            Fault::SpuriousConflict => return Sending::Told(Told::Conflict),
            Fault::LateConflict => {
                self.network.delay(request, now_ms, false);
                return Sending::Told(Told::Conflict);
            }
            Fault::Refused => return Sending::Told(Told::Refused),
            Fault::Ignored => return Sending::Told(Told::OldTable),
            Fault::FailedUnseen => return Sending::Told(Told::Unknown("status 500")),
            Fault::Late | Fault::RolledBack => {
                self.network.delay(request, now_ms, false);
                if let (Fault::RolledBack, Request::Commit(commit)) = (fault, request) {
                    self.roll_back(&commit.base.ident.clone(), now_ms);
                }
                return Sending::Told(Told::Unknown("timed out"));
            }
            Fault::Slow => {
                let (id, at_ms) = self.network.delay(request, now_ms, true);
                return Sending::Awaited { id, at_ms };
            }
            Fault::HangBefore => return Sending::Never,
            Fault::Disturbed => {
                if let Request::Commit(commit) = request {
                    self.set_property(
                        &commit.base.ident,
                        "owner",
                        &commit.file_id.to_string(),
                        now_ms,
                    );
                }
            }
            _ => {}
        }
        let done = self.carry_out(request, now_ms);
        match fault {
            Fault::HangAfter => Sending::Never,
            Fault::LostAnswer => Sending::Told(Told::Unknown("connection reset")),
            Fault::OldAnswer => Sending::Told(Told::OldTable),
            Fault::CopyRefused => Sending::Told(Told::Refused),
            Fault::SentTwice => Sending::Done(self.carry_out(request, now_ms)),
            Fault::Echo => {
                self.network.delay(request, now_ms, false);
                Sending::Done(done)
            }
            _ => Sending::Done(done),
        }
    }
}

/// Tells one who waits that something happened.
#[derive(Debug, Default)]
pub(super) struct Bell {
    is_rung: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    pub(super) fn ring(&self) {
        self.is_rung.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    pub(super) async fn rung(&self) {
        poll_fn(|context| {
            self.waker.register(context.waker());
            match self.is_rung.swap(false, Ordering::SeqCst) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}
