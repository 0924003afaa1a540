//! Where the I/Os of a load go.

use crate::probe::device::{Load, Pattern, Submission};

/// The offsets that a thread goes to.
pub(super) struct Offsets {
    block_size_bytes: u64,
    /// Blocks of the file.
    blocks: u64,
    /// The next block of a sequence, or the state of the generator.
    state: u64,
    pattern: Pattern,
}

impl Offsets {
    /// The offsets of one of the load's threads, in a file of that size. `turn` is another one for each measurement, so
    /// that none goes where the one before has been.
    pub(super) fn new(load: &Load, thread: u64, file_size_bytes: u64, turn: u64) -> Self {
        let blocks = (file_size_bytes / load.block_size_bytes.max(1)).max(1);
        let threads = match load.submission {
            Submission::Threads => load.in_flight.max(1),
            Submission::Queue => 1,
        };
        let mut seed = turn;
        let turned = random(&mut seed);
        Offsets {
            block_size_bytes: load.block_size_bytes,
            blocks,
            state: match load.pattern {
                Pattern::Sequential => thread * blocks / threads + turned % blocks,
                Pattern::Random => turned ^ thread.wrapping_mul(0x2545_f491_4f6c_dd1d),
            },
            pattern: load.pattern,
        }
    }

    pub(super) fn next(&mut self) -> u64 {
        let block = match self.pattern {
            Pattern::Sequential => {
                self.state += 1;
                self.state - 1
            }
            Pattern::Random => random(&mut self.state),
        };
        block % self.blocks * self.block_size_bytes
    }
}

/// SplitMix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number generators*, 2014).
pub(super) fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::device::Operation;

    #[test]
    fn offsets_are_whole_blocks_within_the_file() {
        for pattern in [Pattern::Sequential, Pattern::Random] {
            let load = Load {
                operation: Operation::Read,
                pattern,
                block_size_bytes: 8192,
                submission: Submission::Threads,
                in_flight: 4,
            };
            for thread in 0..4 {
                let mut offsets = Offsets::new(&load, thread, 80_000, thread);
                let found: Vec<u64> = (0..40).map(|_| offsets.next()).collect();
                assert!(
                    found
                        .iter()
                        .all(|offset| offset % 8192 == 0 && offset + 8192 <= 80_000)
                );
                assert!(
                    (0..9)
                        .all(|block| pattern == Pattern::Random || found.contains(&(block * 8192)))
                );
            }
        }
    }

    #[test]
    fn another_turn_goes_elsewhere() {
        let load = Load {
            operation: Operation::Read,
            pattern: Pattern::Random,
            block_size_bytes: 4096,
            submission: Submission::Threads,
            in_flight: 4,
        };
        let firsts: std::collections::HashSet<u64> = (0..20)
            .flat_map(|turn| (0..4).map(move |thread| (turn, thread)))
            .map(|(turn, thread)| Offsets::new(&load, thread, 1 << 40, turn).next())
            .collect();
        assert_eq!(firsts.len(), 80);
    }
}
