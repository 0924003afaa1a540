//! Random numbers that follow from a seed by name.
//!
//! Each thing that is drawn has a stream of its own, found by its name and number: what is drawn for operation 17 is the
//! same whether operation 16 is there or not. That is what makes shrinking work.

use moonshine_sim_runtime::Random;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A sequence of random numbers.
///
/// ```
/// use moonshine_sim::random::Stream;
/// let (mut one, mut same) = (Stream::new(7, "operation", 17), Stream::new(7, "operation", 17));
/// assert_eq!(one.next(), same.next());
/// assert!(one.below(10) < 10);
/// ```
#[derive(Clone, Debug)]
pub struct Stream(Random);

impl Stream {
    /// The stream of that name and number.
    pub fn new(seed: u64, name: &str, number: u64) -> Self {
        let named = xxh3_64_with_seed(name.as_bytes(), seed);
        let state = xxh3_64_with_seed(&number.to_le_bytes(), named);
        Stream(Random::of_state(state))
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below another, which must not be 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number from one to another, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// True so many times in a thousand.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// One of several, each as likely.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let at = self.below(from.len() as u64) as usize;
        from[at].clone()
    }

    /// The number of one of several, by weight; 0 if none has any.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let sum: u64 = weights.iter().sum();
        let mut left = if sum == 0 { 0 } else { self.below(sum) };
        for (at, weight) in weights.iter().enumerate() {
            if left < *weight {
                return at;
            }
            left -= weight;
        }
        0
    }
}
