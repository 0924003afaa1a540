//! The exporter's environment within a simulation: time is the run's, what blocks is done by fibers, identities follow from a
//! seed.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moonshine_export::environment::{Clock, Environment, Work};
use moonshine_sim_runtime as runtime;
use parking_lot::Mutex;
use runtime::thread::JoinHandle;

use super::clock::{SeededIdentities, SimulatedClock, yield_once};

/// The environment of one exporter.
pub fn environment(clock: Arc<dyn Clock>, seed: u64) -> Environment {
    environment_with(clock, seed, FiberWork::default())
}

/// The same; who holds the work can wait for all of it.
pub fn environment_with(clock: Arc<dyn Clock>, seed: u64, work: FiberWork) -> Environment {
    Environment {
        clock,
        identities: Arc::new(SeededIdentities::new(seed)),
        work: Arc::new(work),
    }
}

/// The run's clock, and more time than has passed on it; off a fiber, a [`SimulatedClock`].
#[derive(Debug, Default)]
pub struct RunClock {
    /// Time that was skipped, and off a fiber all of it.
    skipped: SimulatedClock,
}

impl RunClock {
    /// So much time passes at once.
    pub fn advance(&self, duration_ms: i64) {
        self.skipped.advance(duration_ms);
    }
}

#[async_trait]
impl Clock for RunClock {
    fn now_ms(&self) -> i64 {
        let passed = runtime::now().unwrap_or_default().as_millis();
        self.skipped.now_ms() + i64::try_from(passed).unwrap_or(i64::MAX / 2)
    }

    async fn pause(&self, duration_ms: u64) {
        yield_once().await;
        match runtime::is_simulated() {
            true => runtime::sleep(Duration::from_millis(duration_ms)),
            false => self.skipped.pause(duration_ms).await,
        }
    }
}

/// Does what blocks on a fiber of its own; off a fiber, on a thread. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct FiberWork(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl FiberWork {
    /// Waits until all that was begun is done, also what nobody waits for any more.
    pub fn join(&self) {
        loop {
            let Some(handle) = self.0.lock().pop() else {
                return;
            };
            // Who waited for it was told.
            drop(handle.join());
        }
    }
}

#[async_trait]
impl Work for FiberWork {
    fn spawn(&self, work: Box<dyn FnOnce() + Send>) {
        let builder = runtime::thread::Builder::new().name("export".to_owned());
        // Whoever waits for it waits on a channel of its own, and learns there that it was dropped.
        let work = Mutex::new(Some(work));
        let spawned = builder.spawn(move || {
            let work = work.lock().take();
            if let Some(work) = work {
                work();
            }
        });
        let mut begun = self.0.lock();
        begun.retain(|handle| !handle.is_finished());
        begun.extend(spawned);
    }

    fn wait(&self, awaited: Pin<&mut (dyn Future<Output = ()> + Send)>) {
        runtime::block_on(awaited);
    }

    /// Nothing takes too long: a run that does not end is found by its steps.
    async fn limit(&self, _: Duration) {
        std::future::pending().await
    }
}
