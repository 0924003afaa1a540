//! Futures that are given up.

use std::pin::Pin;
use std::task::{Context, Poll};

/// A future that is dropped after so many polls, as by a process that dies between any two steps.
#[derive(Debug)]
pub struct DropAfter<F> {
    /// What is polled.
    pub inner: F,
    /// How often it still is; `None` comes of it then.
    pub polls_left: u64,
}

impl<F: Future + Unpin> Future for DropAfter<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls_left == 0 {
            return Poll::Ready(None);
        }
        self.polls_left -= 1;
        Pin::new(&mut self.inner).poll(context).map(Some)
    }
}
