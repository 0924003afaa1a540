//! What a client tried, and what it heard of it.

use std::collections::BTreeSet;

use super::rows::{KeyBytes, StoredRow};
use super::state::Effect;

/// A transaction as its client saw it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The number of the operation in the plan.
    pub operation: usize,
    /// What it writes, in order.
    pub effects: Vec<Effect>,
    /// The position of a source that it stores.
    pub origin: Option<(String, String)>,
    /// What must hold for it to be committed, beside that what it inserts is new.
    pub conditions: Option<Conditions>,
    /// What it found before it wrote, and what is therefore there at its place: table, key and row.
    pub expects: Vec<(usize, KeyBytes, Option<StoredRow>)>,
    /// Its commit sequence is greater than this.
    pub after_seq: u64,
    /// And not greater than this, if it was committed.
    pub seq_max: Option<u64>,
    /// Its commit sequence, if the client learnt it.
    pub seq: Option<u64>,
    /// What the client heard.
    pub end: End,
    /// Commit sequences without effect that it may have taken beside its own.
    pub spare_seqs: u64,
}

impl Attempt {
    /// Whether it changes nothing, so that it may have taken no commit sequence.
    pub fn has_no_effect(&self) -> bool {
        self.origin.is_none() && self.effects.iter().all(Effect::is_empty)
    }
}

/// What a client heard of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was committed.
    Committed,
    /// Somebody else came first.
    Refused,
    /// A row that it inserts exists.
    Exists,
    /// It did not happen and never will: there was no room for it, or nothing to do.
    Nothing,
    /// Nothing, or that the log can't be written: it may be there or not.
    Unknown,
}

/// What an optimistic transaction asks to be as it was.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// The commit sequence that it read at.
    pub since_seq: u64,
    /// The keys that it wrote, and if it is serializable those that it read.
    pub keys: BTreeSet<(usize, KeyBytes)>,
    /// Keys that it may have read: a scan that was not gone through to its end may have found it nevertheless.
    pub unsure_keys: BTreeSet<(usize, KeyBytes)>,
    /// Tables of which it wrote or read ranges: whatever else writes ranges of them may be in its way.
    pub tables_of_ranges: BTreeSet<usize>,
}

impl Attempt {
    /// What the client did is not decided by anything but the order of commits.
    pub fn new(operation: usize, effects: Vec<Effect>, after_seq: u64) -> Self {
        Attempt {
            operation,
            effects,
            origin: None,
            conditions: None,
            expects: Vec::new(),
            after_seq,
            seq_max: None,
            seq: None,
            end: End::Unknown,
            spare_seqs: 0,
        }
    }

    /// Whether others may keep it from being committed.
    pub fn is_refusable(&self) -> bool {
        self.conditions.is_some() || self.has_inserts()
    }

    /// Whether it writes rows that must be new.
    pub fn has_inserts(&self) -> bool {
        let is_insert = |effect: &Effect| {
            matches!(
                effect,
                Effect::Put {
                    must_be_new: true,
                    ..
                }
            )
        };
        self.effects.iter().any(is_insert)
    }
}
