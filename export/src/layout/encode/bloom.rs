//! Bloom filters of blocks (<https://parquet.apache.org/docs/file-format/bloomfilter/>).

use parquet::bloom_filter::{BITSET_MAX_LENGTH, BITSET_MIN_LENGTH, Sbbf};
use xxhash_rust::xxh64::xxh64;

/// The share of wrong answers of a filter.
pub(in crate::layout) const BLOOM_FILTER_FPP: f64 = 0.01;

/// Values that are put in together: the processor waits for their blocks side by side.
const VALUES_TOGETHER: usize = 32;

/// Up to so many values, their hashes are kept instead of blocks for all that the filter may come to hold: most files of a tick
/// have few rows.
const VALUES_HELD_MAX: usize = 8192;

/// The format's constants, by which a hash chooses one bit of each word of its block.
const SALT: [u32; 8] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// A filter that is being filled.
pub(super) struct BloomFilter {
    /// What it will be with all its values.
    block_count: usize,
    /// Empty while the hashes of all values are held.
    blocks: Vec<[u32; 8]>,
    /// Of values that are not in yet.
    hashes: Vec<u64>,
}

impl BloomFilter {
    /// For so many different values at most.
    pub(super) fn new(value_count: u64) -> Self {
        BloomFilter {
            block_count: block_count_for(value_count),
            blocks: Vec::new(),
            hashes: Vec::new(),
        }
    }

    /// Puts a value in, given as it stands in a page, a text without its length.
    #[inline]
    pub(super) fn insert(&mut self, value: &[u8]) {
        self.hashes.push(xxh64(value, 0));
        if self.hashes.len() == VALUES_HELD_MAX {
            if self.blocks.is_empty() {
                self.blocks = vec![[0; 8]; self.block_count];
            }
            self.put_in();
        }
    }

    fn put_in(&mut self) {
        let block_count = self.blocks.len() as u64;
        // Below the number of blocks.
        let place = |hash: &u64| (((hash >> 32) * block_count) >> 32) as usize;
        for hashes in self.hashes.chunks(VALUES_TOGETHER) {
            let touched = hashes
                .iter()
                .filter_map(|hash| self.blocks.get(place(hash))?.first());
            std::hint::black_box(touched.fold(0, |all, word| all ^ word));
            for hash in hashes {
                if let Some(block) = self.blocks.get_mut(place(hash)) {
                    for (word, salt) in block.iter_mut().zip(SALT) {
                        // The lower half of the hash.
                        *word |= 1 << ((*hash as u32).wrapping_mul(salt) >> 27);
                    }
                }
            }
        }
        self.hashes.clear();
    }

    /// The filter, no larger than its values need.
    pub(super) fn finish(mut self) -> Sbbf {
        if self.blocks.is_empty() {
            // With room to spare: what is too large is folded.
            let block_count = block_count_for(2 * self.hashes.len() as u64);
            let block_count = block_count.min(self.block_count);
            self.blocks = vec![[0; 8]; block_count];
        }
        self.put_in();
        let words = self.blocks.as_flattened().iter();
        let bytes: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
        let mut filter = Sbbf::new(&bytes);
        filter.fold_to_target_fpp(BLOOM_FILTER_FPP);
        filter
    }
}

/// The blocks for so many different values, a power of two: as many bits as give the share of wrong answers where a value sets 8 of
/// them (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters, 2007).
fn block_count_for(value_count: u64) -> usize {
    let bits_a_value = -8.0 / (1.0 - BLOOM_FILTER_FPP.powf(1.0 / 8.0)).ln();
    let size_bytes = (bits_a_value * value_count as f64) as usize / 8;
    let size_bytes = size_bytes.clamp(BITSET_MIN_LENGTH, BITSET_MAX_LENGTH);
    size_bytes.next_power_of_two() / size_of::<[u32; 8]>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(filter: &Sbbf) -> Vec<u8> {
        let mut bytes = Vec::new();
        filter.write_bitset(&mut bytes).unwrap();
        bytes
    }

    /// *Same*: the filter is the `parquet` crate's, so that every reader finds what is in it, and as large as its.
    #[test]
    fn a_filter_is_that_of_the_parquet_crate() {
        let held_max = VALUES_HELD_MAX as u64 / 2;
        for value_count in [
            1,
            2,
            100,
            1000,
            held_max - 1,
            held_max,
            held_max + 1,
            50_000,
        ] {
            for value_count_max in [value_count, 2 * value_count, 200_000] {
                let mut filter = BloomFilter::new(value_count_max);
                let mut expected =
                    Sbbf::new_with_ndv_fpp(value_count_max, BLOOM_FILTER_FPP).unwrap();
                assert_eq!(filter.block_count, expected.num_blocks());
                for value in 0..value_count {
                    let text = format!("value {value}");
                    filter.insert(text.as_bytes());
                    expected.insert(text.as_str());
                    filter.insert(&value.to_le_bytes());
                    expected.insert(&value.to_le_bytes()[..]);
                }
                expected.fold_to_target_fpp(BLOOM_FILTER_FPP);
                assert_eq!(bytes(&filter.finish()), bytes(&expected), "{value_count}");
            }
        }
    }

    #[test]
    fn a_filter_without_values_is_one_block() {
        let filter = BloomFilter::new(1 << 20).finish();
        assert_eq!(filter.num_blocks(), 1);
        assert!(!filter.check(&7i64));
    }
}
