//! Which names were seen, in memory that does not grow with their number: a Bloom filter
//! (<https://doi.org/10.1145/362686.362692>), its bits found by double hashing.

use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Sixteen bits for each of a million names, with which one of a thousand others is taken for one of them.
const WORDS: usize = 1 << 18;
/// Bits of a name. More would be better for few names, and fewer for many more than a million.
const BITS_OF_NAME: usize = 4;

/// A set of names that may take another name for one of its own, and never one of its own for another.
pub(super) struct NameFilter {
    words: Vec<u64>,
    seed: u64,
}

impl NameFilter {
    /// An empty one. With another seed other names are mistaken.
    pub(super) fn new(seed: u64) -> Self {
        Self::of_words(WORDS, seed)
    }

    fn of_words(words: usize, seed: u64) -> Self {
        NameFilter {
            words: vec![0; words],
            seed,
        }
    }

    pub(super) fn add(&mut self, name: &str) {
        for (word, bit) in self.places(name) {
            if let Some(word) = self.words.get_mut(word) {
                *word |= bit;
            }
        }
    }

    pub(super) fn may_contain(&self, name: &str) -> bool {
        let is_set = |(word, bit)| self.words.get(word).is_some_and(|word| word & bit != 0);
        self.places(name).into_iter().all(is_set)
    }

    /// The words and bits of a name.
    fn places(&self, name: &str) -> [(usize, u64); BITS_OF_NAME] {
        let hash = xxh3_128_with_seed(name.as_bytes(), self.seed);
        let (first, step) = (hash as u64, (hash >> 64) as u64 | 1);
        let size_bits = self.words.len() as u64 * u64::from(u64::BITS);
        std::array::from_fn(|i| {
            let place = first.wrapping_add(step.wrapping_mul(i as u64)) % size_bits.max(1);
            let word = place / u64::from(u64::BITS);
            let bit = 1 << (place % u64::from(u64::BITS));
            (usize::try_from(word).unwrap_or(usize::MAX), bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Invariants 5, "same", and 7, "bounded": no name that was added is missing, and of others few are mistaken.
    #[test]
    fn names_that_were_added_are_never_missing() {
        let name = |number: u32| format!("s3://bucket/shop/orders/data/{number:012}-00000.parquet");
        let mistaken = |bits_per_name: u32, seed| {
            let count = 4096;
            let words = (count * bits_per_name / u64::BITS) as usize;
            let mut filter = NameFilter::of_words(words, seed);
            (0..count).for_each(|number| filter.add(&name(number)));
            assert!((0..count).all(|number| filter.may_contain(&name(number))));
            let others = count..count + 10_000;
            let mistaken = others.filter(|&number| filter.may_contain(&name(number)));
            mistaken.collect::<Vec<_>>()
        };
        let few = mistaken(16, 1).len();
        assert!(few < 50, "{few}");
        let (one, other) = (mistaken(4, 1), mistaken(4, 2));
        assert!(one.len() < 3000, "{}", one.len());
        // So what one look leaves behind the next one finds.
        let both = one.iter().filter(|number| other.contains(number)).count();
        assert!(both < one.len() / 3, "{both} of {}", one.len());
    }
}
