//! The numbers that follow from a profile.

use super::tree_numbers::{Given, TreeNumbers};
use crate::profile::{Provenance, StoredProfile};

const MIB: u64 = 1 << 20;

/// I/Os of S-Size in a segment of the log. A new segment costs three syncs; after so many I/Os they are lost in the
/// noise, and reading a segment back is sequential for long enough to count as that.
const S_SIZES_PER_SEGMENT: u64 = 256;
/// Below this, segments would be too many: each is an open file.
const SEGMENT_SIZE_BYTES_MIN: u64 = 16 * MIB;
/// A start holds one segment in memory: half of what rows may take there by default.
const SEGMENT_SIZE_BYTES_LIMIT: u64 = 128 * MIB;

/// Commit batches in a block. A commit batch is what the device writes in the time that one sync costs, so with n of
/// them the sync is a share of 1 / (n + 1) of the block's time: below 5 %, as S-Size is the block that reaches 95 %.
const COMMIT_BATCHES_PER_BLOCK: u64 = 20;
/// I/Os of S-Size in a block, where the commit batch is not known.
const S_SIZES_PER_BLOCK: u64 = 16;
/// Below this the work for a block weighs more than its sync on any device, and a commit batch that was measured too
/// small would slow bulk loads down.
const BLOCK_SIZE_BYTES_MIN: u64 = MIB;
/// A block is encoded in memory, and whoever waits for its first record waits for all of it: larger ones leave writers
/// nothing to do in between, and loads get slower again (docs/ARCHITECTURE.md has the figures).
const BLOCK_SIZE_BYTES_LIMIT: u64 = 8 * MIB;
/// Blocks that may wait: one is written while the next ones gather.
const BLOCKS_PER_QUEUE: u64 = 4;

/// All of a segment is wanted, so a piece has only to be no smaller than S-Size. 1 MiB keeps the pieces, each a system
/// call and a hand-over between threads, few where S-Size is small.
const RECOVERY_READ_SIZE_BYTES_MIN: u64 = MIB;

/// The memory budget of the default options.
pub(crate) const MEMORY_BUDGET_BYTES: u64 = 256 * MIB;

/// What a number of the layout counts.
///
/// ```
/// use moonshine_engine::{Database, Options, Unit};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let bytes = database.layout().numbers().into_iter().filter(|number| number.unit == Unit::Bytes);
/// assert!(bytes.count() > 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things.
    Count,
}

/// A number of the layout.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// for number in database.layout().numbers() {
///     println!("{} = {}, from {}", number.name, number.value, number.formula);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutNumber {
    /// Its name, that of the field of [`Layout`].
    pub name: &'static str,
    /// The number.
    pub value: u64,
    /// What it counts.
    pub unit: Unit,
    /// How it follows from the profile, in words.
    pub formula: &'static str,
    /// Where what it follows from came from; [`Provenance::Given`] where the caller set the number itself.
    pub provenance: Provenance,
}

/// Every number that the engine derives from its profile. All are sizes and counts that are used.
///
/// ```
/// # use moonshine_engine::{Database, Options, ProfileChoice};
/// # use moonshine_sysprobe::Profile;
/// # let folder = tempfile::tempdir()?;
/// let options = Options {
///     profile: ProfileChoice::from(Profile::given(512 * 1024, 8)),
///     ..Options::default()
/// };
/// let database = Database::open(folder.path(), options)?;
/// assert_eq!(database.layout().shard_count.value, 8);
/// assert_eq!(database.layout().log_segment_size_bytes.value, 128 << 20);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// RowSets of a delta at most, and children of a fragment: S-Paral when the database was created.
    /// It never changes, since the order of rows in the log follows from it.
    pub shard_count: LayoutNumber,
    /// A segment of the log ends before it would grow beyond this, unless one block alone is larger: 256 × S-Size, at
    /// least 16 MiB and at most 128 MiB.
    pub log_segment_size_bytes: LayoutNumber,
    /// Most bytes of records that one group commit writes and syncs at once, unless one record alone is larger: 20 ×
    /// commit batch in whole S-Sizes, or 16 × S-Size where that was not measured; at least 1 MiB and at most 8 MiB.
    pub commit_block_size_bytes: LayoutNumber,
    /// Bytes of records that may wait to be written; past it, submitting waits: 4 blocks.
    pub commit_queue_size_bytes: LayoutNumber,
    /// The pieces that a start reads the log in: S-Size, at least 1 MiB.
    pub recovery_read_size_bytes: LayoutNumber,
    /// Threads that read those pieces side by side: S-Paral.
    pub recovery_threads: LayoutNumber,
    /// So many bytes of deltas in memory are flushed at once: a sixth of the memory budget.
    pub generation_size_bytes: LayoutNumber,
    /// P-Size, a fragment that is larger divides: 128 × S-Size, at least 64 MiB and at most 256 MiB
    /// or the memory budget.
    pub fragment_size_bytes: LayoutNumber,
    /// A flush goes no further down than to fragments that get so much: S-Size, at least 256 KiB.
    pub flush_size_bytes_min: LayoutNumber,
    /// Children that a fragment divides into: the number of shards, at least two.
    pub child_count: LayoutNumber,
    /// Compactions side by side: S-Paral, but one fewer than there are cores.
    pub compaction_threads: LayoutNumber,
    /// Delta files that are open at once.
    pub open_files_max: LayoutNumber,
}

impl Layout {
    /// The layout that a database has which is created from a profile, with the default options and on this machine.
    ///
    /// ```
    /// use moonshine_engine::{Layout, StoredProfile};
    /// use moonshine_sysprobe::Profile;
    ///
    /// let layout = Layout::of(&StoredProfile::from(Profile::given(256 * 1024, 16)));
    /// assert_eq!(layout.shard_count.value, 16);
    /// ```
    pub fn of(profile: &StoredProfile) -> Self {
        let given = Given::of_memory(MEMORY_BUDGET_BYTES);
        Layout::new(profile, profile.s_paral().ilog2(), &given)
    }

    /// The layout that follows from a profile and what the caller set.
    pub(crate) fn new(profile: &StoredProfile, shard_bits: u32, given: &Given) -> Self {
        let s_size_bytes = profile.s_size_bytes();
        let number = |name, value, unit, formula| LayoutNumber {
            name,
            value,
            unit,
            formula,
            provenance: profile.provenance(),
        };
        let bytes = |name, value, formula| number(name, value, Unit::Bytes, formula);
        let (block_size_bytes, block_formula) = block_size(profile);
        let segment_of_profile = bytes(
            "log_segment_size_bytes",
            s_size_bytes
                .saturating_mul(S_SIZES_PER_SEGMENT)
                .clamp(SEGMENT_SIZE_BYTES_MIN, SEGMENT_SIZE_BYTES_LIMIT),
            "256 × S-Size, from 16 MiB to 128 MiB",
        );
        let log_segment_size_bytes = match given.log_segment_size_bytes {
            None => segment_of_profile,
            Some(value) => LayoutNumber {
                value,
                formula: "set when the database was opened",
                provenance: Provenance::Given,
                ..segment_of_profile
            },
        };
        let tree = TreeNumbers::new(profile, shard_bits, given);
        Layout {
            shard_count: number(
                "shard_count",
                1 << shard_bits,
                Unit::Count,
                "S-Paral at creation",
            ),
            log_segment_size_bytes,
            commit_block_size_bytes: bytes(
                "commit_block_size_bytes",
                block_size_bytes,
                block_formula,
            ),
            commit_queue_size_bytes: bytes(
                "commit_queue_size_bytes",
                block_size_bytes * BLOCKS_PER_QUEUE,
                "4 × commit block",
            ),
            recovery_read_size_bytes: bytes(
                "recovery_read_size_bytes",
                s_size_bytes.max(RECOVERY_READ_SIZE_BYTES_MIN),
                "S-Size, at least 1 MiB",
            ),
            recovery_threads: number(
                "recovery_threads",
                u64::from(profile.s_paral()),
                Unit::Count,
                "S-Paral",
            ),
            generation_size_bytes: tree.generation_size_bytes,
            fragment_size_bytes: tree.fragment_size_bytes,
            flush_size_bytes_min: tree.flush_size_bytes_min,
            child_count: tree.child_count,
            compaction_threads: tree.compaction_threads,
            open_files_max: tree.open_files_max,
        }
    }

    /// All numbers, in the order of the fields.
    pub fn numbers(&self) -> [&LayoutNumber; 12] {
        [
            &self.shard_count,
            &self.log_segment_size_bytes,
            &self.commit_block_size_bytes,
            &self.commit_queue_size_bytes,
            &self.recovery_read_size_bytes,
            &self.recovery_threads,
            &self.generation_size_bytes,
            &self.fragment_size_bytes,
            &self.flush_size_bytes_min,
            &self.child_count,
            &self.compaction_threads,
            &self.open_files_max,
        ]
    }
}

impl LayoutNumber {
    /// The number as a length in memory.
    pub(crate) fn as_usize(&self) -> usize {
        usize::try_from(self.value).unwrap_or(usize::MAX)
    }
}

fn block_size(profile: &StoredProfile) -> (u64, &'static str) {
    let s_size_bytes = profile.s_size_bytes();
    let (size_bytes, formula) = match profile.commit_batch_bytes() {
        Some(batch_bytes) => (
            batch_bytes
                .saturating_mul(COMMIT_BATCHES_PER_BLOCK)
                .checked_next_multiple_of(s_size_bytes)
                .unwrap_or(BLOCK_SIZE_BYTES_LIMIT),
            "20 × commit batch in whole S-Sizes, from 1 MiB to 8 MiB",
        ),
        None => (
            s_size_bytes.saturating_mul(S_SIZES_PER_BLOCK),
            "16 × S-Size, from 1 MiB to 8 MiB (no commit batch was measured)",
        ),
    };
    let size_bytes = size_bytes.clamp(BLOCK_SIZE_BYTES_MIN, BLOCK_SIZE_BYTES_LIMIT);
    (size_bytes, formula)
}

#[cfg(test)]
mod tests {
    use moonshine_sysprobe::Profile;

    use super::*;

    fn layout(s_size_bytes: u64, s_paral: u32) -> Layout {
        let profile = StoredProfile::from(Profile::given(s_size_bytes, s_paral));
        Layout::of(&profile)
    }

    #[test]
    fn numbers_follow_s_size_within_their_limits() {
        for (s_size_bytes, segment_mib, block_mib, read_mib) in [
            (4 << 10, 16, 1, 1),
            (128 << 10, 32, 2, 1),
            (256 << 10, 64, 4, 1),
            (4 << 20, 128, 8, 4),
            (u64::MAX, 128, 8, u64::MAX / MIB),
        ] {
            let layout = layout(s_size_bytes, 4);
            assert_eq!(layout.log_segment_size_bytes.value, segment_mib * MIB);
            assert_eq!(layout.commit_block_size_bytes.value, block_mib * MIB);
            assert_eq!(layout.commit_queue_size_bytes.value, 4 * block_mib * MIB);
            assert_eq!(layout.recovery_read_size_bytes.value / MIB, read_mib);
        }
    }

    #[test]
    fn a_block_holds_so_many_commit_batches_that_its_sync_is_a_twentieth() {
        for (batch_kib, block_kib) in [(4, 1024), (100, 2048), (256, 5120), (1024, 8 * 1024)] {
            let profile = StoredProfile::from(Profile::given(256 << 10, 4))
                .with_commit_batch_bytes(batch_kib << 10);
            let layout = Layout::new(&profile, 2, &Given::of_memory(MEMORY_BUDGET_BYTES));
            assert_eq!(
                layout.commit_block_size_bytes.value,
                block_kib << 10,
                "{batch_kib} KiB"
            );
        }
    }

    #[test]
    fn numbers_follow_s_paral() {
        let layout = layout(65_536, 100);
        assert_eq!(layout.shard_count.value, 128);
        assert_eq!(layout.recovery_threads.value, 128);
    }

    #[test]
    fn a_segment_size_that_the_caller_set_is_taken_and_told() {
        let profile = StoredProfile::safe_defaults("asked for");
        let given = Given {
            log_segment_size_bytes: Some(4096),
            ..Given::of_memory(MEMORY_BUDGET_BYTES)
        };
        let layout = Layout::new(&profile, 2, &given);
        assert_eq!(layout.log_segment_size_bytes.value, 4096);
        assert_eq!(layout.log_segment_size_bytes.provenance, Provenance::Given);
        assert_eq!(
            layout.commit_block_size_bytes.provenance,
            Provenance::SafeDefault
        );
    }
}
