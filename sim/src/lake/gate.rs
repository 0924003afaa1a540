//! Processes that are held up: what they ask for is not sent, and what they are answered does not reach them, until they are let go.

use std::collections::HashSet;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use super::{Lake, ProcessId};

/// Who is held up, and who waits for that to end.
#[derive(Debug, Default)]
pub(super) struct Gate {
    held_up: HashSet<ProcessId>,
    waiting: Vec<Waker>,
}

impl Lake {
    /// From now on nothing that a process asks is sent, and no answer reaches it: it looks dead.
    pub fn hold_up(&self, process: ProcessId) {
        self.shared.state.lock().gate.held_up.insert(process);
    }

    /// A process that was held up goes on where it was.
    pub fn let_go(&self, process: ProcessId) {
        let waiting = {
            let mut state = self.shared.state.lock();
            state.gate.held_up.remove(&process);
            std::mem::take(&mut state.gate.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Returns when the process is not held up.
    pub(super) async fn pass(&self, process: ProcessId) {
        poll_fn(|context| {
            let gate = &mut self.shared.state.lock().gate;
            if !gate.held_up.contains(&process) {
                return Poll::Ready(());
            }
            gate.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
