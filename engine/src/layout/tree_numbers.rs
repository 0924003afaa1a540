//! The numbers of the fragment tree.

use super::numbers::{LayoutNumber, Unit};
use crate::profile::{Provenance, StoredProfile};
use crate::sync::thread;

const MIB: u64 = 1 << 20;

/// The part of the memory budget at which one generation is full. The fewer and larger flushes are, the less often their
/// rows are written again: with a sixth, a leaf of P-Size takes the flushes of ten generations.
const GENERATIONS_PER_MEMORY: u64 = 6;
/// A generation is worth a flush from this size on, however small the budget is.
const GENERATION_SIZE_BYTES_MIN: u64 = 4 << 10;

/// I/Os of S-Size in a leaf: so many that its few random accesses are lost in them.
const S_SIZES_PER_FRAGMENT: u64 = 128;
/// Below this a division costs more in files and entries than small leaves save.
const FRAGMENT_SIZE_BYTES_MIN: u64 = 64 * MIB;
/// A compaction needs room for a leaf on the disk, and in memory for its index, a fifth of that.
const FRAGMENT_SIZE_BYTES_LIMIT: u64 = 256 * MIB;

/// A fast device has a small S-Size; a RowSet of that size costs more in index and entries than it saves in waiting.
const FLUSH_SIZE_BYTES_MIN: u64 = 256 << 10;
/// A leaf takes so many flushes at least before it divides.
const FLUSHES_PER_FRAGMENT: u64 = 16;

/// Half of what a process usually may have open.
const OPEN_FILES_MAX: u64 = 512;

/// What the caller set, and what the machine has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given {
    pub(crate) memory_budget_bytes: u64,
    pub(crate) core_count: u64,
    pub(crate) log_segment_size_bytes: Option<u64>,
    pub(crate) generation_size_bytes: Option<u64>,
    pub(crate) fragment_size_bytes: Option<u64>,
    pub(crate) compaction_threads: Option<u64>,
}

impl Given {
    /// Nothing but a memory budget and this machine's cores.
    pub(crate) fn of_memory(memory_budget_bytes: u64) -> Self {
        Given {
            memory_budget_bytes,
            core_count: thread::available_parallelism().map_or(1, usize::from) as u64,
            log_segment_size_bytes: None,
            generation_size_bytes: None,
            fragment_size_bytes: None,
            compaction_threads: None,
        }
    }
}

/// The numbers of the fragment tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct TreeNumbers {
    pub(super) generation_size_bytes: LayoutNumber,
    pub(super) fragment_size_bytes: LayoutNumber,
    pub(super) flush_size_bytes_min: LayoutNumber,
    pub(super) child_count: LayoutNumber,
    pub(super) compaction_threads: LayoutNumber,
    pub(super) open_files_max: LayoutNumber,
}

impl TreeNumbers {
    pub(super) fn new(profile: &StoredProfile, shard_bits: u32, given: &Given) -> Self {
        let number = |name, unit, set: Option<u64>, derived, formula| LayoutNumber {
            name,
            value: set.unwrap_or(derived),
            unit,
            formula: set.map_or(formula, |_| "set when the database was opened"),
            provenance: set.map_or(profile.provenance(), |_| Provenance::Given),
        };
        let bytes = |name, set, derived, formula| number(name, Unit::Bytes, set, derived, formula);
        let count = |name, set, derived, formula| number(name, Unit::Count, set, derived, formula);
        let s_size_bytes = profile.s_size_bytes();
        let fragment_size_bytes = bytes(
            "fragment_size_bytes",
            given.fragment_size_bytes,
            s_size_bytes
                .saturating_mul(S_SIZES_PER_FRAGMENT)
                .clamp(FRAGMENT_SIZE_BYTES_MIN, FRAGMENT_SIZE_BYTES_LIMIT)
                .min(given.memory_budget_bytes.max(MIB)),
            "P-Size: 128 × S-Size, from 64 MiB to 256 MiB, at most the memory budget",
        );
        TreeNumbers {
            generation_size_bytes: LayoutNumber {
                provenance: Provenance::Given,
                ..bytes(
                    "generation_size_bytes",
                    given
                        .generation_size_bytes
                        .map(|size| size.max(GENERATION_SIZE_BYTES_MIN)),
                    (given.memory_budget_bytes / GENERATIONS_PER_MEMORY)
                        .max(GENERATION_SIZE_BYTES_MIN),
                    "a sixth of the memory budget, at least 4 KiB",
                )
            },
            fragment_size_bytes,
            flush_size_bytes_min: bytes(
                "flush_size_bytes_min",
                None,
                s_size_bytes
                    .max(FLUSH_SIZE_BYTES_MIN)
                    .min(fragment_size_bytes.value / FLUSHES_PER_FRAGMENT),
                "S-Size, at least 256 KiB, at most P-Size / 16",
            ),
            child_count: count(
                "child_count",
                None,
                1 << shard_bits.max(1),
                "shard count, at least 2",
            ),
            compaction_threads: count(
                "compaction_threads",
                given.compaction_threads.map(|threads| threads.max(1)),
                u64::from(profile.s_paral())
                    .min(given.core_count.saturating_sub(1))
                    .max(1),
                "S-Paral, at most one fewer than cores, at least 1",
            ),
            open_files_max: LayoutNumber {
                provenance: Provenance::SafeDefault,
                ..count(
                    "open_files_max",
                    None,
                    OPEN_FILES_MAX,
                    "half of what a process usually may have open",
                )
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use moonshine_sysprobe::Profile;

    use super::*;

    fn numbers(s_size_bytes: u64, s_paral: u32, given: Given) -> TreeNumbers {
        let profile = StoredProfile::from(Profile::given(s_size_bytes, s_paral));
        TreeNumbers::new(&profile, profile.s_paral().ilog2(), &given)
    }

    fn given() -> Given {
        Given {
            core_count: 8,
            ..Given::of_memory(240 * MIB)
        }
    }

    #[test]
    fn sizes_follow_s_size_within_their_limits() {
        for (s_size_bytes, fragment_mib, flush_kib) in [
            (4 << 10, 64, 256),
            (512 << 10, 64, 512),
            (MIB, 128, 1024),
            (8 * MIB, 240, 8 * 1024),
            (u64::MAX, 240, 15 * 1024),
        ] {
            let numbers = numbers(s_size_bytes, 4, given());
            assert_eq!(numbers.fragment_size_bytes.value, fragment_mib * MIB);
            assert_eq!(numbers.flush_size_bytes_min.value, flush_kib << 10);
            assert_eq!(numbers.generation_size_bytes.value, 40 * MIB);
        }
    }

    #[test]
    fn compactions_leave_a_core_to_others() {
        for (s_paral, core_count, threads) in [(4, 8, 4), (16, 8, 7), (1, 8, 1), (4, 1, 1)] {
            let given = Given {
                core_count,
                ..given()
            };
            let numbers = numbers(MIB, s_paral, given);
            assert_eq!(numbers.compaction_threads.value, threads);
        }
        assert_eq!(numbers(MIB, 1, given()).child_count.value, 2);
        assert_eq!(numbers(MIB, 16, given()).child_count.value, 16);
    }

    #[test]
    fn what_the_caller_set_is_taken_and_told() {
        let given = Given {
            fragment_size_bytes: Some(32 << 10),
            generation_size_bytes: Some(1),
            compaction_threads: Some(0),
            ..given()
        };
        let numbers = numbers(MIB, 4, given);
        assert_eq!(numbers.fragment_size_bytes.value, 32 << 10);
        assert_eq!(numbers.fragment_size_bytes.provenance, Provenance::Given);
        assert_eq!(numbers.flush_size_bytes_min.value, 2 << 10);
        assert_eq!(numbers.generation_size_bytes.value, 4 << 10);
        assert_eq!(numbers.compaction_threads.value, 1);
    }
}
