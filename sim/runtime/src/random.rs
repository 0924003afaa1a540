//! Random numbers that follow from a seed and a name.

/// A stream of random numbers.
///
/// The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
///
/// ```
/// use moonshine_sim_runtime::Random;
/// let mut faults = Random::of(7, "faults");
/// assert_eq!(faults.next_u64(), Random::of(7, "faults").next_u64());
/// assert_ne!(faults.next_u64(), Random::of(7, "operations").next_u64());
/// assert!(faults.below(10) < 10);
/// ```
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of that name.
    pub fn of(seed: u64, name: &str) -> Self {
        Random(
            name.bytes()
                .fold(mix(seed), |state, byte| mix(state ^ u64::from(byte))),
        )
    }

    /// The stream that goes on from a state.
    pub fn of_state(state: u64) -> Self {
        Random(state)
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&mut self, limit: usize) -> usize {
        assert!(limit > 0, "no number is below zero");
        (self.next_u64() % limit as u64) as usize
    }

    /// True so many times of a thousand.
    pub fn chance(&mut self, permille: u16) -> bool {
        self.next_u64() % 1000 < u64::from(permille)
    }
}

/// SplitMix64's last step: every bit of the state changes about half of the answer's.
pub(crate) fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}
