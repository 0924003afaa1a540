//! Bloom filters of blocks (<https://parquet.apache.org/docs/file-format/bloomfilter/>).

use parquet::bloom_filter::Sbbf;
use parquet::errors::Result;
use xxhash_rust::xxh64::xxh64;

/// The share of wrong answers of a filter.
pub(in crate::layout) const BLOOM_FILTER_FPP: f64 = 0.01;

/// Values that are put in together: the processor waits for their blocks side by side.
const VALUES_TOGETHER: usize = 32;

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
    blocks: Vec<[u32; 8]>,
    /// Of values that are not in yet.
    hashes: Vec<u64>,
}

impl BloomFilter {
    /// For so many different values.
    pub(super) fn new(value_count: u64) -> Result<Self> {
        let empty = Sbbf::new_with_ndv_fpp(value_count, BLOOM_FILTER_FPP)?;
        Ok(BloomFilter {
            blocks: vec![[0; 8]; empty.num_blocks().max(1)],
            hashes: Vec::with_capacity(VALUES_TOGETHER),
        })
    }

    /// Puts a value in, given as it stands in a page, a text without its length.
    #[inline]
    pub(super) fn insert(&mut self, value: &[u8]) {
        self.hashes.push(xxh64(value, 0));
        if self.hashes.len() == VALUES_TOGETHER {
            self.put_in();
        }
    }

    fn put_in(&mut self) {
        let block_count = self.blocks.len() as u64;
        // Below the number of blocks.
        let place = |hash: &u64| (((hash >> 32) * block_count) >> 32) as usize;
        let touched = self
            .hashes
            .iter()
            .filter_map(|hash| self.blocks.get(place(hash))?.first());
        std::hint::black_box(touched.fold(0, |all, word| all ^ word));
        for hash in &self.hashes {
            if let Some(block) = self.blocks.get_mut(place(hash)) {
                for (word, salt) in block.iter_mut().zip(SALT) {
                    // The lower half of the hash.
                    *word |= 1 << ((*hash as u32).wrapping_mul(salt) >> 27);
                }
            }
        }
        self.hashes.clear();
    }

    /// The filter, no larger than its values need.
    pub(super) fn finish(mut self) -> Sbbf {
        self.put_in();
        let words = self.blocks.as_flattened().iter();
        let bytes: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
        let mut filter = Sbbf::new(&bytes);
        filter.fold_to_target_fpp(BLOOM_FILTER_FPP);
        filter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// *Same*: the filter is the `parquet` crate's, so that every reader finds what is in it.
    #[test]
    fn a_filter_is_that_of_the_parquet_crate() {
        for value_count in [1u64, 1000, 100_000] {
            let mut filter = BloomFilter::new(value_count).unwrap();
            let mut expected = Sbbf::new_with_ndv_fpp(value_count, BLOOM_FILTER_FPP).unwrap();
            for value in 0..value_count {
                let text = format!("value {value}");
                filter.insert(text.as_bytes());
                expected.insert(text.as_str());
                filter.insert(&value.to_le_bytes());
                expected.insert(&value.to_le_bytes()[..]);
            }
            expected.fold_to_target_fpp(BLOOM_FILTER_FPP);
            let bytes = |filter: Sbbf| {
                let mut bytes = Vec::new();
                filter.write_bitset(&mut bytes).unwrap();
                bytes
            };
            assert_eq!(bytes(filter.finish()), bytes(expected));
        }
    }
}
