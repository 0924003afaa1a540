//! Futures on fibers.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::thread;

struct Unpark {
    thread: thread::Thread,
    /// What is called within a poll may park too, and take the unparking for its own.
    is_woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Runs a future to its end; the fiber, or off a fiber the thread, parks while it waits.
///
/// ```
/// use moonshine_sim_runtime::{Config, End, block_on, run};
/// let run = run(Config::of_seed(1), || assert_eq!(block_on(async { 7 }), 7));
/// assert_eq!(run.end, End::Done);
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    let unpark = Arc::new(Unpark {
        thread: thread::current(),
        is_woken: AtomicBool::new(false),
    });
    let waker = Waker::from(unpark.clone());
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        while !unpark.is_woken.swap(false, Ordering::SeqCst) {
            thread::park();
        }
    }
}
