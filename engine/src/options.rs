//! How a database is opened.

use std::sync::Arc;

use crate::io::{Io, SyscallIo};
use crate::layout::{MEMORY_BUDGET_BYTES, ProfileChoice};

/// How to open a database.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let options = Options { memory_budget_bytes: 64 << 20, ..Options::unmeasured() };
/// let database = Database::open(folder.path(), options)?;
/// assert!(database.statistics().memory.budget_bytes <= 64 << 20);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// What a new database is laid out from. One that exists keeps the profile that it was created with, and is never
    /// measured again.
    pub profile: ProfileChoice,
    /// Bytes of memory for everything: the newest deltas, transactions that are being built, pages of what lies below,
    /// flushes, compactions and scans. Pages take what the others leave. Past it writers are slowed down.
    pub memory_budget_bytes: u64,
    /// A segment of the log ends before it would grow beyond this, unless one block alone is larger. `None` for the size
    /// that follows from the profile, see [`Layout`](crate::Layout).
    pub segment_size_bytes_max: Option<u64>,
    /// So many bytes of deltas in memory are written below level 0 at once. `None` for a sixth of the memory budget.
    pub generation_size_bytes_max: Option<u64>,
    /// P-Size: a fragment of a table that is larger is divided. `None` for the size that
    /// follows from the profile, see [`Layout`](crate::Layout).
    pub fragment_size_bytes_max: Option<u64>,
    /// Compactions side by side. `None` for S-Paral, at most one fewer than there are cores, and at least one.
    pub compaction_threads: Option<usize>,
    /// Files and randomness.
    pub io: Arc<dyn Io>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            profile: ProfileChoice::Measure,
            memory_budget_bytes: MEMORY_BUDGET_BYTES,
            segment_size_bytes_max: None,
            generation_size_bytes_max: None,
            fragment_size_bytes_max: None,
            compaction_threads: None,
            io: Arc::new(SyscallIo),
        }
    }
}

impl Options {
    /// The default options, but a new database takes safe defaults instead of measuring its device: for tests, and for
    /// databases that don't live long enough for ten seconds to pay off.
    pub fn unmeasured() -> Self {
        Options {
            profile: ProfileChoice::SafeDefaults,
            ..Options::default()
        }
    }
}
