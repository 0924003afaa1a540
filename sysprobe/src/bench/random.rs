//! Random numbers: SplitMix64, as fast as a harness needs and the same on every machine.

use std::hash::{BuildHasher, RandomState};

/// What the seeds of a job's threads come from where neither `randseed` nor `randrepeat=0` says otherwise.
const SEED_DEFAULT: u64 = 0x6d6f_6f6e_7368_696e;

/// A stream of random numbers (Steele, Lea and Flood: Fast splittable pseudorandom number generators, 2014).
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random { state: seed }
    }

    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly from 0 to below `limit`; 0 where that is 0.
    #[inline]
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(limit);
        (wide >> 64) as u64
    }

    /// Evenly from 0 to below 1.
    #[inline]
    pub(super) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Fills with random bytes.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            let random = self.next().to_le_bytes();
            for (byte, random) in part.iter_mut().zip(random) {
                *byte = random;
            }
        }
    }
}

/// The seed of one thread of a job: the same in each run unless the job wants others.
pub(super) fn thread_seed(
    randseed: Option<u64>,
    randrepeat: bool,
    job: usize,
    thread: usize,
) -> u64 {
    let base = match (randseed, randrepeat) {
        (Some(seed), _) => seed,
        (None, true) => SEED_DEFAULT,
        (None, false) => RandomState::new().hash_one(thread),
    };
    let mut random = Random::new(base ^ ((job as u64) << 32) ^ thread as u64);
    random.next()
}
