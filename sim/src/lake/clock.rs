//! Time, identities and chance that follow from a seed.

use std::future::poll_fn;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Poll;

use async_trait::async_trait;
use moonshine_export::environment::{Clock, Identities};
use parking_lot::Mutex;
use uuid::Uuid;

/// When simulated time begins, in milliseconds since 1970.
const BEGIN_MS: i64 = 1_700_000_000_000;

/// Lets whoever else can go on do so once; by any executor.
pub async fn yield_once() {
    let mut is_over = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A clock that does not wait. Each look at it is a millisecond after the one before, whoever looks.
#[derive(Clone, Copy, Debug)]
pub struct InstantClock;

static LOOKS: AtomicI64 = AtomicI64::new(0);

#[async_trait]
impl Clock for InstantClock {
    fn now_ms(&self) -> i64 {
        BEGIN_MS + LOOKS.fetch_add(1, Ordering::SeqCst)
    }

    async fn pause(&self, _: u64) {
        yield_once().await;
    }
}

/// A clock of its own: a millisecond passes with each look at it, and a pause takes no real time.
#[derive(Debug)]
pub struct SimulatedClock(AtomicI64);

impl Default for SimulatedClock {
    fn default() -> Self {
        SimulatedClock(AtomicI64::new(BEGIN_MS))
    }
}

impl SimulatedClock {
    /// So much time passes.
    pub fn advance(&self, duration_ms: i64) {
        self.0.fetch_add(duration_ms, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for SimulatedClock {
    fn now_ms(&self) -> i64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    async fn pause(&self, duration_ms: u64) {
        yield_once().await;
        self.advance(i64::try_from(duration_ms).unwrap_or(i64::MAX / 2));
    }
}

/// Identities that a seed makes, so that a history can be replayed.
#[derive(Debug)]
pub struct SeededIdentities(Mutex<Random>);

impl SeededIdentities {
    /// Those of that seed.
    pub fn new(seed: u64) -> Self {
        SeededIdentities(Mutex::new(Random::mixed(seed)))
    }
}

impl Identities for SeededIdentities {
    fn uuid(&self) -> Uuid {
        let mut random = self.0.lock();
        Uuid::from_u64_pair(random.next(), random.next())
    }
}

/// A small generator of pseudo-random numbers (xorshift64), so that a failure can be replayed. Its state is never 0.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Default for Random {
    fn default() -> Self {
        Random(1)
    }
}

impl Random {
    /// A generator whose numbers have nothing to do with the one that the seed may be from.
    pub fn mixed(seed: u64) -> Self {
        let mixed = (seed ^ (seed >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Random((mixed ^ (mixed >> 31)) | 1)
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "there is always one more")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Whether something happens that happens so often of a thousand times.
    pub fn permille(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }
}
