//! Who goes on next, and when.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::Location;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use generator::{Generator, Gn};

use crate::random::Random;
use crate::trace::Trace;

/// What a step takes on the run's clock, so that who looks at it again and again comes to an end.
const STEP_TIME: Duration = Duration::from_nanos(200);
/// The stack of a fiber, in bytes. Memory is taken only for what is used of it.
const STACK_SIZE_BYTES: usize = 4 << 20;
/// For how much real time no step may come to its end: something blocks the thread that all fibers share.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) type TaskId = usize;

/// A kind of place at which another fiber may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A call of the disk.
    Io,
    /// A sync of the disk.
    Sync,
    /// A lock is about to be taken.
    Lock,
    /// A lock was let go.
    Unlock,
    /// Somebody was woken.
    Notify,
    /// A reader could meet a change that is half done.
    Publish,
    /// A thread was started.
    Spawn,
}

impl Point {
    fn name(self) -> &'static str {
        match self {
            Point::Io => "leaves at a call of the disk",
            Point::Sync => "leaves at a sync",
            Point::Lock => "leaves before a lock",
            Point::Unlock => "leaves behind a lock",
            Point::Notify => "leaves when it woke somebody",
            Point::Publish => "leaves where a change is half done",
            Point::Spawn => "leaves when it started a thread",
        }
    }
}

/// How many times of a thousand the fiber changes at each kind of [`Point`].
#[derive(Clone, Copy, Debug)]
pub struct SwitchRates {
    /// At a call of the disk.
    pub io: u16,
    /// At a sync.
    pub sync: u16,
    /// Before a lock is taken.
    pub lock: u16,
    /// When a lock was let go.
    pub unlock: u16,
    /// When somebody was woken.
    pub notify: u16,
    /// Where a reader could meet a change that is half done.
    pub publish: u16,
    /// When a thread was started.
    pub spawn: u16,
}

impl SwitchRates {
    fn of(&self, point: Point) -> u16 {
        match point {
            Point::Io => self.io,
            Point::Sync => self.sync,
            Point::Lock => self.lock,
            Point::Unlock => self.unlock,
            Point::Notify => self.notify,
            Point::Publish => self.publish,
            Point::Spawn => self.spawn,
        }
    }
}

/// How the next fiber is chosen among those that can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Each with the same chance.
    Uniform,
    /// The one of highest priority. Priorities are drawn, and that of the fiber that runs becomes the lowest at steps that are drawn, one in so
    /// many: probabilistic concurrency testing (Burckhardt et al., "A randomized scheduler with probabilistic guarantees of finding
    /// bugs", ASPLOS 2010), for runs whose length nobody knows.
    Priorities {
        /// One step in how many changes a priority.
        change_every: u32,
    },
    /// The one that waits for longest.
    RoundRobin,
}

/// What a run follows from.
#[derive(Clone, Debug)]
pub struct Config {
    /// Every choice follows from it.
    pub seed: u64,
    /// Who goes on next.
    pub policy: Policy,
    /// How often fibers change.
    pub rates: SwitchRates,
    /// The run ends as [`End::TooManySteps`] after so many.
    pub steps_max: u64,
    /// How many cores the fibers believe in.
    pub core_count: usize,
    /// Whether all notes are kept, also those of a run that was [`End::Done`].
    pub keeps_notes: bool,
}

impl Config {
    /// Policy and rates as the seed draws them.
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::of(seed, "schedule");
        let policy = match random.below(4) {
            0 => Policy::RoundRobin,
            1 => Policy::Priorities {
                change_every: 1 << (3 + random.below(8)),
            },
            _ => Policy::Uniform,
        };
        let mut rate = |usual: u16| match random.below(4) {
            0 => 0,
            1 => random.below(1001) as u16,
            _ => usual,
        };
        let rates = SwitchRates {
            io: rate(300),
            sync: rate(500),
            lock: rate(20),
            unlock: rate(20),
            notify: rate(100),
            publish: rate(500),
            spawn: rate(300),
        };
        Config {
            seed,
            policy,
            rates,
            steps_max: 20_000_000,
            core_count: 4,
            keeps_notes: false,
        }
    }
}

/// Who waits, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The fiber's name.
    pub task: String,
    /// The call that waits.
    pub place: String,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Every fiber came to its end.
    Done,
    /// A fiber panicked.
    Failed {
        /// The fiber's name.
        task: String,
        /// What it said, and where.
        message: String,
    },
    /// Every fiber waits, and no time ends it.
    Deadlock(Vec<Waiting>),
    /// It went on for too long.
    TooManySteps(Vec<Waiting>),
}

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Run {
    /// How it ended.
    pub end: End,
    /// A hash of all that happened: equal for equal seeds.
    pub trace: u64,
    /// How often a fiber was let go on.
    pub step_count: u64,
    /// How much time passed on the run's clock.
    pub simulated: Duration,
    /// The last notes, or all that were to be kept, a line each; else empty where the run was [`End::Done`].
    pub notes: String,
}

/// What a fiber waits for that another one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum WaitsFor {
    /// The release of the lock, or the notification, of that address.
    Address(usize),
    /// A fiber's end.
    End(TaskId),
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Ready,
    Running,
    Waiting {
        place: &'static Location<'static>,
        is_parked: bool,
    },
    Ended,
}

struct Task {
    name: String,
    process: u64,
    state: State,
    /// It was unparked since it last parked.
    has_token: bool,
    /// What ended its wait was the clock.
    timed_out: bool,
    /// Its timer, where it waits for one.
    timer: Option<(Duration, u64)>,
    /// The highest goes on first, under [`Policy::Priorities`].
    priority: u64,
    fiber: Option<Fiber>,
}

type Fiber = Generator<'static, (), ()>;

pub(crate) struct Scheduler {
    config: Config,
    random: Random,
    tasks: Vec<Task>,
    /// Those that can go on, who came first in front.
    ready: Vec<TaskId>,
    suspended: BTreeSet<u64>,
    waiters: HashMap<WaitsFor, Vec<TaskId>>,
    timers: BTreeMap<(Duration, u64), TaskId>,
    timer_count: u64,
    now: Duration,
    step_count: u64,
    priority_floor: u64,
    trace: Trace,
    failure: Option<(String, String)>,
}

thread_local! {
    static RUNNING: RefCell<Option<Scheduler>> = const { RefCell::new(None) };
    static CURRENT: Cell<Option<TaskId>> = const { Cell::new(None) };
}

/// The fiber that runs on this thread.
pub(crate) fn current() -> Option<TaskId> {
    CURRENT.try_with(Cell::get).ok().flatten()
}

/// Asks the scheduler of this thread. It must not let another fiber run meanwhile.
pub(crate) fn with_running<T>(ask: impl FnOnce(&mut Scheduler) -> T) -> T {
    RUNNING.with_borrow_mut(|running| match running {
        Some(scheduler) => ask(scheduler),
        None => panic!("no run on this thread"),
    })
}

/// Lets the scheduler choose who goes on; returns when it chose this fiber.
#[allow(
    deprecated,
    reason = "a fiber is left from deep within calls that hold no scope"
)]
fn leave() {
    generator::yield_with(());
}

/// Another fiber may go on here.
pub(crate) fn come_to(point: Point) {
    if with_running(|scheduler| scheduler.draws_switch(point)) {
        yield_now();
    }
}

/// Another fiber goes on, if one can.
pub(crate) fn yield_now() {
    with_running(Scheduler::make_current_ready);
    leave();
}

/// Another fiber goes on, if one can, although this one comes first: it waits without a lock.
pub(crate) fn give_way() {
    with_running(Scheduler::lower_current);
    yield_now();
}

/// Waits for another fiber, or the time is over. True if the time was over.
#[track_caller]
pub(crate) fn wait_for(awaited: WaitsFor, timeout: Option<Duration>) -> bool {
    let place = Location::caller();
    with_running(|scheduler| scheduler.wait(Some(awaited), timeout, place, false));
    leave();
    with_running(Scheduler::take_timed_out)
}

/// Waits until so much time passed.
#[track_caller]
pub(crate) fn wait_until(duration: Duration) {
    let place = Location::caller();
    with_running(|scheduler| scheduler.wait(None, Some(duration), place, false));
    leave();
}

/// Waits until somebody unparks this fiber, or did since it last parked.
#[track_caller]
pub(crate) fn park(timeout: Option<Duration>) {
    let place = Location::caller();
    let waits = with_running(|scheduler| {
        let waits = !scheduler.take_token();
        if waits {
            scheduler.wait(None, timeout, place, true);
        }
        waits
    });
    if waits {
        leave();
        with_running(Scheduler::take_token);
    }
}

/// Starts a fiber of the current one's process.
pub(crate) fn start(name: String, body: Box<dyn FnOnce() + Send>) -> TaskId {
    let task = with_running(|scheduler| scheduler.add(name, body));
    come_to(Point::Spawn);
    task
}

impl Scheduler {
    fn new(config: Config) -> Self {
        Scheduler {
            random: Random::of(config.seed, "scheduler"),
            tasks: Vec::new(),
            ready: Vec::new(),
            suspended: BTreeSet::new(),
            waiters: HashMap::new(),
            timers: BTreeMap::new(),
            timer_count: 0,
            now: Duration::ZERO,
            step_count: 0,
            priority_floor: u64::from(u32::MAX),
            trace: Trace::new(config.keeps_notes),
            failure: None,
            config,
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    pub(crate) fn core_count(&self) -> usize {
        self.config.core_count
    }

    pub(crate) fn note(&mut self, kind: &'static str, numbers: &[u64]) {
        let task = current().unwrap_or(usize::MAX);
        self.trace.note(self.now, task, kind, numbers);
    }

    pub(crate) fn set_process(&mut self, task: TaskId, process: u64) -> u64 {
        std::mem::replace(&mut self.tasks[task].process, process)
    }

    pub(crate) fn suspend(&mut self, process: u64, suspend: bool) {
        self.note("suspend", &[process, u64::from(suspend)]);
        if suspend {
            self.suspended.insert(process);
        } else {
            self.suspended.remove(&process);
        }
    }

    pub(crate) fn has_ended(&self, task: TaskId) -> bool {
        self.tasks[task].state == State::Ended
    }

    pub(crate) fn name(&self, task: TaskId) -> &str {
        &self.tasks[task].name
    }

    fn add(&mut self, name: String, body: Box<dyn FnOnce() + Send>) -> TaskId {
        let id = self.tasks.len();
        let words = STACK_SIZE_BYTES / size_of::<usize>();
        let fiber = Gn::<()>::new_opt(words, move || {
            // The hook has noted the panic.
            let _noted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            with_running(Scheduler::end_current);
        });
        self.tasks.push(Task {
            name,
            process: current().map_or(0, |parent| self.tasks[parent].process),
            state: State::Ready,
            has_token: false,
            timed_out: false,
            timer: None,
            priority: u64::from(u32::MAX) + (self.random.next_u64() >> 33),
            fiber: Some(fiber),
        });
        self.ready.push(id);
        self.note("spawn", &[id as u64]);
        id
    }

    fn draws_switch(&mut self, point: Point) -> bool {
        if self.failure.is_some() {
            return true;
        }
        if let Policy::Priorities { change_every } = self.config.policy {
            if self
                .random
                .next_u64()
                .is_multiple_of(u64::from(change_every))
            {
                self.lower_current();
            }
            return true;
        }
        let rate = self.config.rates.of(point);
        let switches = rate > 0 && self.random.chance(rate);
        if switches {
            self.note(point.name(), &[]);
        }
        switches
    }

    fn lower_current(&mut self) {
        let Some(task) = current() else { return };
        self.priority_floor -= 1;
        self.tasks[task].priority = self.priority_floor;
    }

    fn make_current_ready(&mut self) {
        let Some(task) = current() else { return };
        self.tasks[task].state = State::Ready;
        self.ready.push(task);
    }

    fn wait(
        &mut self,
        awaited: Option<WaitsFor>,
        timeout: Option<Duration>,
        place: &'static Location<'static>,
        is_parked: bool,
    ) {
        let Some(task) = current() else { return };
        if let Some(awaited) = awaited {
            self.waiters.entry(awaited).or_default().push(task);
        }
        self.tasks[task].state = State::Waiting { place, is_parked };
        self.tasks[task].timed_out = false;
        if let Some(timeout) = timeout {
            self.timer_count += 1;
            let timer = (self.now + timeout, self.timer_count);
            self.timers.insert(timer, task);
            self.tasks[task].timer = Some(timer);
        }
    }

    fn take_timed_out(&mut self) -> bool {
        current().is_some_and(|task| std::mem::take(&mut self.tasks[task].timed_out))
    }

    fn take_token(&mut self) -> bool {
        current().is_some_and(|task| std::mem::take(&mut self.tasks[task].has_token))
    }

    fn make_ready(&mut self, task: TaskId) {
        if let Some(timer) = self.tasks[task].timer.take() {
            self.timers.remove(&timer);
        }
        self.tasks[task].state = State::Ready;
        self.ready.push(task);
    }

    /// Lets one who waits for that go on, by the seed's choice. False if nobody does.
    pub(crate) fn wake_one(&mut self, awaited: WaitsFor) -> bool {
        let Some(waiting) = self.waiters.get_mut(&awaited) else {
            return false;
        };
        let place = self.random.below(waiting.len());
        let task = waiting.remove(place);
        if waiting.is_empty() {
            self.waiters.remove(&awaited);
        }
        self.make_ready(task);
        true
    }

    /// Lets all go on that wait for that. How many.
    pub(crate) fn wake_all(&mut self, awaited: WaitsFor) -> usize {
        let waiting = self.waiters.remove(&awaited).unwrap_or_default();
        waiting.iter().for_each(|task| self.make_ready(*task));
        waiting.len()
    }

    pub(crate) fn unpark(&mut self, task: TaskId) {
        self.tasks[task].has_token = true;
        if matches!(
            self.tasks[task].state,
            State::Waiting {
                is_parked: true,
                ..
            }
        ) {
            self.make_ready(task);
        }
    }

    fn end_current(&mut self) {
        let Some(task) = current() else { return };
        self.tasks[task].state = State::Ended;
        self.note("end", &[]);
        self.wake_all(WaitsFor::End(task));
    }

    /// Those whose time has come go on; when nobody else can, time jumps to the next.
    fn let_time_pass(&mut self) {
        self.now += STEP_TIME;
        self.end_due_waits();
        while self.runnable().next().is_none()
            && let Some(((time, _), _)) = self.timers.first_key_value()
        {
            self.now = self.now.max(*time);
            self.end_due_waits();
        }
    }

    fn end_due_waits(&mut self) {
        while let Some(first) = self.timers.first_entry()
            && first.key().0 <= self.now
        {
            let task = first.remove();
            self.tasks[task].timer = None;
            self.tasks[task].timed_out = true;
            for waiting in self.waiters.values_mut() {
                waiting.retain(|other| *other != task);
            }
            self.waiters.retain(|_, waiting| !waiting.is_empty());
            self.make_ready(task);
        }
    }

    fn runnable(&self) -> impl Iterator<Item = (usize, TaskId)> {
        let is_free = |task: TaskId| !self.suspended.contains(&self.tasks[task].process);
        (self.ready.iter().copied().enumerate()).filter(move |(_, task)| is_free(*task))
    }

    fn choose(&mut self) -> Option<TaskId> {
        self.let_time_pass();
        let place = match self.config.policy {
            Policy::RoundRobin => self.runnable().next()?.0,
            Policy::Priorities { .. } => {
                let priority = |place: &(usize, TaskId)| self.tasks[place.1].priority;
                self.runnable().max_by_key(priority)?.0
            }
            Policy::Uniform => {
                let count = self.runnable().count();
                if count == 0 {
                    return None;
                }
                let chosen = if count == 1 {
                    0
                } else {
                    self.random.below(count)
                };
                self.runnable().nth(chosen)?.0
            }
        };
        Some(self.ready.remove(place))
    }

    /// The next fiber, and its number; how the run ends if there is none.
    fn next(&mut self) -> Result<(TaskId, Fiber), End> {
        if let Some((task, message)) = self.failure.take() {
            return Err(End::Failed { task, message });
        }
        if self.step_count == self.config.steps_max {
            return Err(End::TooManySteps(self.waiting()));
        }
        let Some(task) = self.choose() else {
            let waiting = self.waiting();
            return Err(if waiting.is_empty() {
                End::Done
            } else {
                End::Deadlock(waiting)
            });
        };
        self.step_count += 1;
        self.trace.note(self.now, task, "step", &[]);
        self.tasks[task].state = State::Running;
        match self.tasks[task].fiber.take() {
            Some(fiber) => Ok((task, fiber)),
            None => panic!("a fiber runs already"),
        }
    }

    fn waiting(&self) -> Vec<Waiting> {
        let waiting = |task: &Task| {
            let place = match &task.state {
                State::Ended => return None,
                State::Waiting { place, .. } => format!("{}:{}", place.file(), place.line()),
                State::Ready | State::Running => "ready".into(),
            };
            let task = task.name.clone();
            Some(Waiting { task, place })
        };
        self.tasks.iter().filter_map(waiting).collect()
    }
}

/// Runs a closure as the first fiber of a fresh thread, and everything that it starts, to the end of the last.
///
/// The fibers of a run that failed are not unwound: what they hold is lost to the process.
///
/// ```
/// use std::sync::Arc;
///
/// use moonshine_sim_runtime::sync::Mutex;
/// use moonshine_sim_runtime::{Config, End, run, thread};
/// let count = |seed| run(Config::of_seed(seed), || {
///     let count = Arc::new(Mutex::new(0));
///     let other = count.clone();
///     let helper = thread::Builder::new().spawn(move || *other.lock() += 1).unwrap();
///     *count.lock() += 1;
///     helper.join().unwrap();
///     assert_eq!(*count.lock(), 2);
/// });
/// assert_eq!(count(1).end, End::Done);
/// assert_eq!(count(1).trace, count(1).trace);
/// ```
pub fn run(config: Config, main: impl FnOnce() + Send + 'static) -> Run {
    catch_panics();
    let (steps, seen) = channel();
    let name = Arc::new(Mutex::new(String::new()));
    let of_runner = name.clone();
    let runner = std::thread::Builder::new()
        .name(format!("seed {}", config.seed))
        .spawn(move || {
            crate::entropy::seed_this_thread(config.seed);
            let mut scheduler = Scheduler::new(config);
            scheduler.add("main".into(), Box::new(main));
            RUNNING.set(Some(scheduler));
            let end = run_fibers(|task| {
                *of_runner
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner()) = task;
                let _nobody_watches = steps.send(());
            });
            let scheduler = RUNNING.take();
            report(scheduler, end)
        });
    let runner = match runner {
        Ok(runner) => runner,
        Err(error) => panic!("no thread for the run: {error}"),
    };
    watch(&seen, &name);
    match runner.join() {
        Ok(run) => run,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// How often the thread of a run shows that it goes on.
const SHOWN_STEPS: u64 = 10_000;

fn run_fibers(mut show: impl FnMut(String)) -> End {
    let mut shown = 0;
    loop {
        let (task, mut fiber) = match with_running(Scheduler::next) {
            Ok(next) => next,
            Err(end) => return end,
        };
        shown += 1;
        if shown % SHOWN_STEPS == 1 {
            show(with_running(|scheduler| scheduler.name(task).to_owned()));
        }
        CURRENT.set(Some(task));
        fiber.resume();
        CURRENT.set(None);
        if with_running(|scheduler| scheduler.has_ended(task)) {
            // What the fiber's closure held was dropped on the fiber.
            drop(fiber);
        } else {
            with_running(|scheduler| scheduler.tasks[task].fiber = Some(fiber));
        }
    }
}

fn report(scheduler: Option<Scheduler>, end: End) -> Run {
    let Some(mut scheduler) = scheduler else {
        panic!("the run lost its scheduler");
    };
    let notes = if end == End::Done && !scheduler.config.keeps_notes {
        String::new()
    } else {
        let name = |task: usize| {
            scheduler
                .tasks
                .get(task)
                .map_or(String::new(), |task| task.name.clone())
        };
        scheduler.trace.text(name)
    };
    // A fiber that is dropped before its end unwinds, and would ask the scheduler.
    scheduler
        .tasks
        .iter_mut()
        .filter_map(|task| task.fiber.take())
        .for_each(std::mem::forget);
    Run {
        end,
        trace: scheduler.trace.hash(),
        step_count: scheduler.step_count,
        simulated: scheduler.now,
        notes,
    }
}

/// Ends the process if a run hangs: a call that waits for real holds up every fiber.
fn watch(seen: &Receiver<()>, name: &Mutex<String>) {
    loop {
        match seen.recv_timeout(STEP_TIMEOUT) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let name = name
                    .lock()
                    .map_or_else(|_| String::new(), |name| name.clone());
                eprintln!("a run hangs for real, since some step behind one of fiber {name}");
                std::process::abort();
            }
        }
    }
}

/// A panic of a fiber ends the run at the next call of this crate: destructors that unwinding runs may wait for other fibers, which would
/// go on then on a thread that counts as panicking.
fn catch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let Some(task) = current() else {
                return usual(panic);
            };
            let place = panic
                .location()
                .map(ToString::to_string)
                .unwrap_or_default();
            let message = message_of(panic.payload());
            let backtrace = std::backtrace::Backtrace::capture();
            RUNNING.with(|running| {
                if let Ok(mut running) = running.try_borrow_mut()
                    && let Some(scheduler) = running.as_mut()
                {
                    let name = scheduler.tasks[task].name.clone();
                    scheduler.failure = Some((name, format!("{message}\nat {place}\n{backtrace}")));
                }
            });
        }));
    });
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    match (
        payload.downcast_ref::<&str>(),
        payload.downcast_ref::<String>(),
    ) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "a panic".into(),
    }
}
