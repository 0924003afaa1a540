//! What must hold for a transaction to be committed.

use super::reads::SettledReads;
use crate::error::{Error, Result};
use crate::sync::Mutex;

/// What a transaction asks for when it is committed.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// For each table part of its record: the rows whose key must not exist.
    pub(crate) new: Vec<Vec<NewRow>>,
    /// The sequence that it read at: what it writes must not have been written since. `None` in a blind transaction.
    pub(crate) since: Option<u64>,
    /// What it read and must not have been written since.
    pub(crate) reads: Vec<SettledReads>,
}

/// A row whose key must not exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRow {
    /// Its place in its table part.
    pub(crate) place: u32,
    /// Whether there is one that is visible; it may be deleted before the transaction's turn comes.
    pub(crate) exists: bool,
}

/// A commit sequence that is held for as long as this lives.
pub(crate) trait Hold: std::fmt::Debug + Send + Sync {
    /// The sequence.
    fn seq(&self) -> u64;
}

/// What a transaction in the queue still asks for, and what became of it.
#[derive(Debug)]
pub(crate) struct Conditions {
    pub(crate) wanted: Wanted,
    /// All up to it was looked at by who commits. Held until the rest is, so that what was written later is found apart.
    checked: Mutex<Option<Box<dyn Hold>>>,
    refused: Mutex<Option<Error>>,
}

impl Conditions {
    pub(crate) fn new(wanted: Wanted, checked: impl Hold + 'static) -> Self {
        Conditions {
            wanted,
            checked: Mutex::new(Some(Box::new(checked))),
            refused: Mutex::default(),
        }
    }

    /// The sequence up to which all was looked at; it is held.
    pub(crate) fn checked_seq(&self) -> Option<u64> {
        self.checked.lock().as_ref().map(|held| held.seq())
    }

    /// Lets go of that sequence: the transaction is written, or never will be.
    pub(crate) fn release(&self) {
        *self.checked.lock() = None;
    }

    /// Says why the transaction takes no effect.
    pub(crate) fn refuse(&self, error: Error) {
        *self.refused.lock() = Some(error);
    }

    /// What was said did not come to be: it is to be looked at again.
    pub(crate) fn admit_again(&self) {
        *self.refused.lock() = None;
    }

    /// Whether the transaction took effect; the error is given once. To be asked for when its record is written.
    pub(crate) fn outcome(&self) -> Result<()> {
        self.refused.lock().take().map_or(Ok(()), Err)
    }
}
