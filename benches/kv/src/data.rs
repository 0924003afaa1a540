//! The rows: keys in random order, values that can be checked, and which row an operation picks.
//!
//! Row `id` has a key and, at each version, a value, both computed from nothing but the numbers. So every thread can
//! make any row without shared state, and whoever reads a value can tell whether it is whole and belongs to its key.

use crate::kv::Result;

pub(crate) const KEY_SIZE_BYTES: usize = 16;
pub(crate) const VALUE_SIZE_BYTES: usize = 100;
pub(crate) const ROW_SIZE_BYTES: u64 = (KEY_SIZE_BYTES + VALUE_SIZE_BYTES) as u64;

/// Ids from here on are never written: keys for misses, spread evenly among the others.
pub(crate) const ID_NEVER_WRITTEN: u64 = 1 << 40;

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection that makes neighbours unlike.
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The key of a row. Consecutive ids are far apart in key order.
pub(crate) fn key(id: u64) -> [u8; KEY_SIZE_BYTES] {
    let mut key = [0; KEY_SIZE_BYTES];
    key[..8].copy_from_slice(&mix(id).to_be_bytes());
    key[8..].copy_from_slice(&id.to_be_bytes());
    key
}

/// The value of a row at a version: id, version, bytes that don't compress, and a checksum of id and version.
pub(crate) fn value(id: u64, version: u64) -> [u8; VALUE_SIZE_BYTES] {
    let mut value = [0; VALUE_SIZE_BYTES];
    value[..8].copy_from_slice(&id.to_le_bytes());
    value[8..16].copy_from_slice(&version.to_le_bytes());
    let mut word = check_word(id, version);
    for chunk in value[16..].rchunks_mut(8) {
        let len = chunk.len();
        chunk.copy_from_slice(&word.to_le_bytes()[..len]);
        word = mix(word);
    }
    value
}

fn check_word(id: u64, version: u64) -> u64 {
    mix(id ^ version.rotate_left(32))
}

/// Id and version of a value, if it is whole: reads its first and last bytes.
pub(crate) fn check_value(value: &[u8]) -> Option<(u64, u64)> {
    if value.len() != VALUE_SIZE_BYTES {
        return None;
    }
    let word = |at: usize| {
        value
            .get(at..at + 8)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u64::from_le_bytes)
    };
    let (id, version) = (word(0)?, word(8)?);
    (word(VALUE_SIZE_BYTES - 8)? == check_word(id, version)).then_some((id, version))
}

/// Checks that a value is whole and belongs to this id.
pub(crate) fn is_value_of(value: &[u8], id: u64) -> bool {
    check_value(value).is_some_and(|(found, _)| found == id)
}

/// Checks that a row's value belongs to its key.
pub(crate) fn is_row(row_key: &[u8], value: &[u8]) -> bool {
    check_value(value).is_some_and(|(id, _)| row_key == key(id))
}

/// A number to sum over values that were read; zero for one that is not whole.
pub(crate) fn check_sum(value: &[u8]) -> u64 {
    check_value(value).map_or(0, |(id, version)| check_word(id, version))
}

/// The sum that all rows of ids `0..row_count` at one version have.
pub(crate) fn check_sum_of(row_count: u64, version: u64) -> u64 {
    (0..row_count).fold(0, |sum, id| sum.wrapping_add(check_word(id, version)))
}

/// Ends a step with an error unless what was read is right.
pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(format!("wrong answer: {}", what()).into())
    }
}

/// A stream of pseudo-random numbers: SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Rng(mix(seed))
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Below `bound`, which is above 0; the bias of the multiplication is far below what is measured.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// In `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let len = chunk.len();
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..len]);
        }
    }
}

/// The numbers `0..count` in random order.
pub(crate) fn shuffled(count: u64, seed: u64) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..u32::try_from(count).unwrap_or(u32::MAX)).collect();
    let mut rng = Rng::new(seed);
    for i in (1..ids.len()).rev() {
        ids.swap(i, rng.below(i as u64 + 1) as usize);
    }
    ids
}

/// Which rows reads and updates pick.
#[derive(Clone, Debug)]
pub(crate) enum Picks {
    Uniform {
        row_count: u64,
    },
    /// YCSB's scrambled Zipfian: few rows get most operations, and they lie anywhere in key order.
    Zipf(Zipf),
}

impl Picks {
    pub(crate) fn pick(&self, rng: &mut Rng) -> u64 {
        match self {
            Picks::Uniform { row_count } => rng.below(*row_count),
            Picks::Zipf(zipf) => mix(zipf.rank(rng)) % zipf.count,
        }
    }

    /// Many picks, made before the clock starts.
    pub(crate) fn ids(&self, count: u64, rng: &mut Rng) -> Vec<u64> {
        (0..count).map(|_| self.pick(rng)).collect()
    }
}

/// Zipf-distributed ranks with YCSB's constant 0.99, by the method of Gray et al. (SIGMOD 1994).
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    count: u64,
    zeta_n: f64,
    alpha: f64,
    eta: f64,
}

const ZIPF_THETA: f64 = 0.99;

impl Zipf {
    pub(crate) fn new(count: u64) -> Self {
        let zeta = |n: u64| (1..=n).map(|i| (i as f64).powf(-ZIPF_THETA)).sum::<f64>();
        let zeta_n = zeta(count);
        Zipf {
            count,
            zeta_n,
            alpha: 1.0 / (1.0 - ZIPF_THETA),
            eta: (1.0 - (2.0 / count as f64).powf(1.0 - ZIPF_THETA)) / (1.0 - zeta(2) / zeta_n),
        }
    }

    /// From 0, the most frequent, to `count - 1`.
    pub(crate) fn rank(&self, rng: &mut Rng) -> u64 {
        let unit = rng.unit();
        let scaled = unit * self.zeta_n;
        if scaled < 1.0 {
            0
        } else if scaled < 1.0 + 0.5f64.powf(ZIPF_THETA) {
            1
        } else {
            let rank = self.count as f64 * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
            (rank as u64).min(self.count - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_tells_its_row_and_whether_it_is_whole() {
        let whole = value(7, 3);
        assert_eq!(check_value(&whole), Some((7, 3)));
        assert!(is_row(&key(7), &whole) && !is_row(&key(8), &whole));
        for position in [0, 9, VALUE_SIZE_BYTES - 1] {
            let mut damaged = whole;
            damaged[position] ^= 1;
            assert_eq!(check_value(&damaged), None);
        }
        assert_eq!(check_value(&whole[..99]), None);
    }

    #[test]
    fn zipf_prefers_low_ranks_as_its_constant_says() {
        let (zipf, mut rng) = (Zipf::new(1000), Rng::new(1));
        let mut counts = vec![0u32; 1000];
        (0..100_000).for_each(|_| counts[zipf.rank(&mut rng) as usize] += 1);
        let expected = 100_000.0 / zipf.zeta_n;
        assert!(
            (f64::from(counts[0]) - expected).abs() < expected * 0.1,
            "{} {expected}",
            counts[0]
        );
        assert!(counts[0] > counts[1] && counts[1] > counts[20] && counts[20] > counts[900]);
    }

    #[test]
    fn shuffled_has_every_number_once() {
        let mut ids = shuffled(1000, 5);
        assert_ne!(ids[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        ids.sort_unstable();
        assert_eq!(ids, (0..1000).collect::<Vec<_>>());
    }
}
