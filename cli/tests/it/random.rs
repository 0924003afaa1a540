//! Random choices that a printed seed repeats.

use std::time::{SystemTime, UNIX_EPOCH};

/// A random sequence (SplitMix64), which needs no more than to be repeatable.
pub(crate) struct Random(u64);

impl Random {
    /// Starts from `MOONSHINE_TEST_SEED` or else from the clock, and prints the seed.
    pub(crate) fn from_environment(test: &str) -> Self {
        let seed = match std::env::var("MOONSHINE_TEST_SEED") {
            Ok(text) => text.parse().expect("MOONSHINE_TEST_SEED is a number"),
            Err(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_nanos() as u64,
        };
        println!("{test}: MOONSHINE_TEST_SEED={seed}");
        Random(seed)
    }

    /// A sequence of its own for another thread.
    pub(crate) fn fork(&mut self) -> Self {
        Random(self.next())
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
