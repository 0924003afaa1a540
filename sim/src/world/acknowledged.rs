//! What clients were promised: what a crash must not take from them.

use std::sync::atomic::{AtomicU64, Ordering};

use moonshine_engine::io::CrashStyle;

use crate::plan::config::CLIENT_COUNT_MAX;

/// The most that anybody was told.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// The newest commit sequence that was visible to anybody.
    pub visible_seq: AtomicU64,
    /// The newest that was called durable.
    pub durable_seq: AtomicU64,
    /// The newest version of the schema that changes.
    pub schema_version: AtomicU64,
    /// The position of each source that was acknowledged to it.
    pub positions: [AtomicU64; CLIENT_COUNT_MAX],
    /// The newest commit sequence that was given to a transaction that nobody waits for.
    pub submitted_seq: AtomicU64,
}

/// What a start must find.
#[derive(Clone, Copy, Debug, Default)]
pub struct Promise {
    /// All up to this commit sequence.
    pub seq: u64,
    /// At least this version of the schema that changes.
    pub schema_version: u64,
}

impl Acknowledged {
    /// What holds after a crash.
    pub fn promise(&self, style: CrashStyle) -> Promise {
        let seq = match style {
            // A process that dies loses nothing that the system has.
            CrashStyle::KeepUnsynced => &self.visible_seq,
            _ => &self.durable_seq,
        };
        Promise {
            seq: seq.load(Ordering::SeqCst),
            schema_version: self.schema_version.load(Ordering::SeqCst),
        }
    }
}

/// Raises a number that anybody was told.
pub fn note(what: &AtomicU64, number: u64) {
    what.fetch_max(number, Ordering::SeqCst);
}
