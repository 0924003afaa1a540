//! The exporters of one process: where they run, and what becomes of them when the process dies.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use moonshine_engine::{Database, Snapshot};
use moonshine_export::catalog::Guard;
use moonshine_export::{ExportError, Exporter, SettingsByTable};
use moonshine_sim_runtime::block_on;
use moonshine_sim_runtime::sync::{Condvar, Mutex};
use moonshine_sim_runtime::thread::{Builder, JoinHandle};

use super::client::Standing;
use crate::lake::{FiberWork, Lake, ProcessId, RunClock, SimulatedCatalog, environment_with};
use crate::random::Stream;
use crate::world::disk::Survivor;

/// What an exporter is asked to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task {
    /// To export.
    Tick,
    /// To look after the tables: all that there is to do, or what is due.
    Maintain {
        /// Whether all is done.
        by_hand: bool,
    },
    /// Both beside each other.
    Both {
        /// As above.
        by_hand: bool,
    },
}

/// What came of a task, in words; or each error.
pub(super) type Outcome = Result<String, Vec<ExportError>>;

/// What a task is done with.
pub(super) struct Order {
    pub(super) task: Task,
    pub(super) database: Database,
    pub(super) snapshot: Snapshot,
    /// The task is dropped after so many polls.
    pub(super) polls: u64,
}

/// An exporter of the process, which opens with its first task.
pub(super) struct Seat {
    number: ProcessId,
    exporter: futures::lock::Mutex<Option<Exporter>>,
    /// Whether it has opened.
    pub(super) is_open: AtomicBool,
    /// Whether another one was to take over, or may be the newer one.
    pub(super) is_older: AtomicBool,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Seat").field(&self.number).finish()
    }
}

#[derive(Debug, Default)]
struct Told {
    outcomes: BTreeMap<u64, Option<Outcome>>,
    is_ended: bool,
}

/// The exporters of a process.
#[derive(Debug)]
pub struct Host {
    pub(super) lake: Lake,
    clock: Arc<RunClock>,
    guard: Guard,
    settings: SettingsByTable,
    seed: u64,
    /// Numbers of processes as the lake knows them, of which each exporter has one.
    next_number: Arc<AtomicU64>,
    orders: Arc<AtomicU64>,
    seats: Mutex<Vec<Arc<Seat>>>,
    work: FiberWork,
    running: Mutex<Vec<JoinHandle<()>>>,
    told: Mutex<Told>,
    rung: Condvar,
    /// How many open at the moment.
    opening: Arc<()>,
    /// When the process dies its exporters are held up, and wake up later.
    becomes_zombie: AtomicBool,
    is_killed: AtomicBool,
}

impl Survivor for Host {
    fn bereave(&self) {
        // One that opens takes over once it wakes up, whoever has opened since.
        let is_open = |seat: &Arc<Seat>| seat.is_open.load(Ordering::SeqCst);
        if !self.seats.lock().iter().all(is_open) {
            self.becomes_zombie.store(false, Ordering::SeqCst);
        }
        let is_zombie = self.is_zombie();
        for seat in self.seats.lock().iter() {
            match is_zombie {
                true => self.lake.hold_up(seat.number),
                false => self.lake.kill(seat.number),
            }
        }
        self.is_killed.store(!is_zombie, Ordering::SeqCst);
        self.told.lock().is_ended = true;
        self.rung.notify_all();
    }
}

/// What hosts share.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) lake: Lake,
    pub(super) clock: Arc<RunClock>,
    pub(super) guard: Guard,
    pub(super) next_number: Arc<AtomicU64>,
    /// How many orders the exporters of all processes were given.
    pub(super) orders: Arc<AtomicU64>,
}

impl Host {
    pub(super) fn new(
        ground: &Ground,
        settings: SettingsByTable,
        seed: u64,
        becomes_zombie: bool,
    ) -> Self {
        let host = Host {
            lake: ground.lake.clone(),
            clock: ground.clock.clone(),
            guard: ground.guard,
            settings,
            seed,
            next_number: ground.next_number.clone(),
            orders: ground.orders.clone(),
            seats: Mutex::new(Vec::new()),
            work: FiberWork::default(),
            running: Mutex::new(Vec::new()),
            told: Mutex::new(Told::default()),
            rung: Condvar::new(),
            opening: Arc::default(),
            becomes_zombie: AtomicBool::new(becomes_zombie),
            is_killed: AtomicBool::new(false),
        };
        host.add_seat();
        host
    }

    /// Another exporter is to take over from all before it.
    pub(super) fn add_seat(&self) -> Arc<Seat> {
        let mut seats = self.seats.lock();
        let seat = Arc::new(Seat {
            number: self.next_number.fetch_add(1, Ordering::SeqCst),
            exporter: futures::lock::Mutex::new(None),
            is_open: AtomicBool::new(false),
            // Of two that open at once either may be the newer one.
            is_older: AtomicBool::new(Arc::strong_count(&self.opening) > 1),
        });
        overtake(&seats, &seat);
        seats.push(seat.clone());
        seat
    }

    /// The newest exporter, and those before it.
    pub(super) fn seats(&self) -> Vec<Arc<Seat>> {
        self.seats.lock().iter().rev().cloned().collect()
    }

    /// How the newest exporter stands to the others of the process. What an older one was at may come to its end at any time.
    pub(super) fn standing(&self) -> Standing {
        match self.seats.lock().len() > 1 {
            true => Standing::Newer,
            false => Standing::Alone,
        }
    }

    /// Waits for what tasks left behind that were dropped.
    pub(super) fn come_to_rest(&self) {
        self.work.join();
    }

    /// Has an exporter do something, and does not wait for it.
    pub(super) fn begin(self: &Arc<Self>, seat: &Arc<Seat>, order: Order) -> u64 {
        let number = self.orders.fetch_add(1, Ordering::SeqCst);
        let (host, seat) = (self.clone(), seat.clone());
        let body = move || {
            let outcome = block_on(host.carry_out(&seat, order));
            host.told.lock().outcomes.insert(number, outcome);
            host.rung.notify_all();
        };
        let begun = Builder::new().name("exporter".into()).spawn(body);
        self.running
            .lock()
            .push(begun.unwrap_or_else(|error| panic!("no thread: {error}")));
        number
    }

    /// Waits for what was begun; `None` if the process died before. Of a task that was dropped nothing is told.
    pub(super) fn wait(&self, number: u64) -> Option<Option<Outcome>> {
        let mut told = self.told.lock();
        loop {
            if told.is_ended {
                return None;
            }
            if let Some(outcome) = told.outcomes.remove(&number) {
                return Some(outcome);
            }
            self.rung.wait(&mut told);
        }
    }

    async fn carry_out(&self, seat: &Arc<Seat>, order: Order) -> Option<Outcome> {
        let mut polls_left = order.polls;
        let mut work = pin!(self.work_on(seat, order));
        let ended = poll_fn(|context| {
            if self.is_killed.load(Ordering::SeqCst) || polls_left == 0 {
                return Poll::Ready(None);
            }
            polls_left -= 1;
            work.as_mut().poll(context).map(Some)
        });
        ended.await
    }

    async fn work_on(&self, seat: &Arc<Seat>, order: Order) -> Outcome {
        let all = |errors: Vec<ExportError>| match errors.is_empty() {
            true => Ok(()),
            false => Err(errors),
        };
        let mut place = seat.exporter.lock().await;
        if place.is_none() {
            let opened = self.open(seat, &order.database).await;
            *place = Some(opened.map_err(|error| vec![error])?);
            seat.is_open.store(true, Ordering::SeqCst);
        }
        let Some(exporter) = place.as_mut() else {
            return Ok(String::new());
        };
        let maintainer = exporter.maintainer();
        let maintain = async |by_hand: bool| match by_hand {
            true => maintainer.run(None, false).await,
            false => Ok(maintainer.run_due().await),
        };
        match order.task {
            Task::Tick => {
                let exports = exporter.tick(&order.snapshot).await;
                exports
                    .map(|exports| format!("{exports:?}"))
                    .map_err(|error| vec![error])
            }
            Task::Maintain { by_hand } => {
                drop(place);
                let actions = maintain(by_hand).await;
                actions
                    .map(|actions| format!("{actions:?}"))
                    .map_err(|error| vec![error])
            }
            Task::Both { by_hand } => {
                let tick = exporter.tick(&order.snapshot);
                let (actions, exports) = futures::future::join(maintain(by_hand), tick).await;
                let said = format!("{actions:?} {exports:?}");
                let errors = [actions.err(), exports.err()];
                all(errors.into_iter().flatten().collect()).map(|()| said)
            }
        }
    }

    async fn open(&self, seat: &Arc<Seat>, database: &Database) -> Result<Exporter, ExportError> {
        let _opening = self.opening.clone();
        overtake(&self.seats.lock(), seat);
        let catalog = SimulatedCatalog::of(&self.lake, self.guard, seat.number);
        let open_number = self.orders.fetch_add(1, Ordering::SeqCst);
        let seed = Stream::new(self.seed, "identities", seat.number << 20 | open_number).next();
        let environment = environment_with(self.clock.clone(), seed, self.work.clone());
        let settings = self.settings.clone();
        Exporter::open_with(database.clone(), catalog, settings, environment).await
    }

    /// Exporters that were held up go on where they were.
    pub(super) fn wake(&self) {
        for seat in self.seats.lock().iter() {
            self.lake.let_go(seat.number);
        }
    }

    /// Whether its exporters are held up when the process dies.
    pub(super) fn is_zombie(&self) -> bool {
        self.becomes_zombie.load(Ordering::SeqCst)
    }

    /// Whatever is under way is dropped.
    pub(super) fn end(&self) {
        self.is_killed.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Waits for all that was begun, and ends the exporters.
    pub(super) fn close(&self) {
        self.becomes_zombie.store(false, Ordering::SeqCst);
        self.wake();
        loop {
            let Some(running) = self.running.lock().pop() else {
                break;
            };
            if let Err(panic) = running.join() {
                std::panic::resume_unwind(panic);
            }
        }
        let seats = std::mem::take(&mut *self.seats.lock());
        drop(seats);
        self.work.join();
    }
}

/// An exporter may be newer than all others from now on.
fn overtake(seats: &[Arc<Seat>], newer: &Arc<Seat>) {
    for seat in seats {
        if !Arc::ptr_eq(seat, newer) {
            seat.is_older.store(true, Ordering::SeqCst);
        }
    }
}
