//! What is used of `std::thread`, on fibers.

use std::any::Any;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use crate::scheduler::{self, TaskId, WaitsFor, with_running};

/// Starts threads; on a fiber, fibers.
#[derive(Debug, Default)]
pub struct Builder {
    name: Option<String>,
}

impl Builder {
    /// A thread without a name.
    pub fn new() -> Self {
        Builder::default()
    }

    /// Names the thread.
    #[must_use]
    pub fn name(mut self, name: String) -> Self {
        self.name = Some(name);
        self
    }

    /// Starts a thread.
    ///
    /// # Errors
    /// As the system answers.
    pub fn spawn<T: Send + 'static>(
        self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        if scheduler::current().is_none() {
            return Ok(JoinHandle(Joined::Thread(self.of_system().spawn(body)?)));
        }
        let made = Arc::new(Mutex::new(None));
        let place = made.clone();
        let body = move || {
            let output = body();
            *place.lock() = Some(output);
        };
        let task = scheduler::start(self.name.unwrap_or_default(), Box::new(body));
        Ok(JoinHandle(Joined::Fiber { task, made }))
    }

    /// Starts a thread that ends before its scope does.
    ///
    /// # Errors
    /// As the system answers; `Unsupported` on a fiber, whose scope is one of the thread that all fibers share.
    pub fn spawn_scoped<'scope, T: Send + 'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        body: impl FnOnce() -> T + Send + 'scope,
    ) -> io::Result<ScopedJoinHandle<'scope, T>> {
        if scheduler::current().is_some() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.of_system().spawn_scoped(scope, body)
    }

    fn of_system(self) -> std::thread::Builder {
        let builder = std::thread::Builder::new();
        match self.name {
            Some(name) => builder.name(name),
            None => builder,
        }
    }
}

/// A thread to wait for.
#[derive(Debug)]
pub struct JoinHandle<T>(Joined<T>);

#[derive(Debug)]
enum Joined<T> {
    Fiber {
        task: TaskId,
        made: Arc<Mutex<Option<T>>>,
    },
    Thread(std::thread::JoinHandle<T>),
}

impl<T> JoinHandle<T> {
    /// Waits for the thread's end.
    ///
    /// # Errors
    /// The panic that it ended in. A fiber's ends the whole run.
    #[track_caller]
    pub fn join(self) -> Result<T, Box<dyn Any + Send>> {
        match self.0 {
            Joined::Thread(thread) => thread.join(),
            Joined::Fiber { task, made } => {
                while !with_running(|scheduler| scheduler.has_ended(task)) {
                    scheduler::wait_for(WaitsFor::End(task), None);
                }
                let output = made.lock().take();
                output.ok_or_else(|| Box::new("a fiber without an outcome") as Box<dyn Any + Send>)
            }
        }
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        match &self.0 {
            Joined::Thread(thread) => thread.is_finished(),
            Joined::Fiber { task, .. } => with_running(|scheduler| scheduler.has_ended(*task)),
        }
    }
}

/// A thread to unpark.
#[derive(Clone, Debug)]
pub struct Thread(Parked);

#[derive(Clone, Debug)]
enum Parked {
    Fiber(TaskId),
    Thread(std::thread::Thread),
}

impl Thread {
    /// Lets it go on if it parks, or not park the next time.
    pub fn unpark(&self) {
        match &self.0 {
            Parked::Fiber(task) => with_running(|scheduler| scheduler.unpark(*task)),
            Parked::Thread(thread) => thread.unpark(),
        }
    }
}

/// This thread.
pub fn current() -> Thread {
    Thread(match scheduler::current() {
        Some(task) => Parked::Fiber(task),
        None => Parked::Thread(std::thread::current()),
    })
}

/// Waits until somebody unparks this thread.
#[track_caller]
pub fn park() {
    match scheduler::current() {
        Some(_) => scheduler::park(None),
        None => std::thread::park(),
    }
}

/// Waits until somebody unparks this thread, or for so long.
#[track_caller]
pub fn park_timeout(timeout: Duration) {
    match scheduler::current() {
        Some(_) => scheduler::park(Some(timeout)),
        None => std::thread::park_timeout(timeout),
    }
}

/// Lets others go on.
pub fn yield_now() {
    match scheduler::current() {
        Some(_) => scheduler::give_way(),
        None => std::thread::yield_now(),
    }
}

/// Lets others go on, in a loop that waits without a lock.
pub fn spin_loop() {
    match scheduler::current() {
        Some(_) => scheduler::give_way(),
        None => std::hint::spin_loop(),
    }
}

/// Whether this thread unwinds. Fibers don't.
pub fn panicking() -> bool {
    scheduler::current().is_none() && std::thread::panicking()
}

/// How many threads can run at once.
///
/// # Errors
/// As the system answers.
pub fn available_parallelism() -> io::Result<NonZeroUsize> {
    if scheduler::current().is_none() {
        return std::thread::available_parallelism();
    }
    let count = with_running(|scheduler| scheduler.core_count());
    NonZeroUsize::new(count).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
