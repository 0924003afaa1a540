//! Dictionaries: each value once, in the order in which they come, and the number of each.

/// A dictionary that grows beyond this is used no more, in bytes of its page.
pub(super) const DICTIONARY_SIZE_BYTES_MAX: usize = 1 << 20;

const SLOTS_MIN_LOG2: u32 = 8;

/// There are far fewer values than that.
fn len_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Spreads a number's bits over the upper ones of the result (Fibonacci hashing; Knuth, The Art of Computer Programming 3, 6.4).
#[inline]
pub(super) fn spread(number: u64) -> u64 {
    (number ^ number >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The numbers of values by their hashes: open addressing, at most half full.
#[derive(Debug)]
pub(super) struct Slots {
    /// Of each, the number of the value and one more; 0 for none.
    slots: Vec<u32>,
    bits: u32,
    /// The upper half of the hash of each value, by its number.
    hashes: Vec<u32>,
}

impl Default for Slots {
    fn default() -> Self {
        Slots {
            slots: vec![0; 1 << SLOTS_MIN_LOG2],
            bits: SLOTS_MIN_LOG2,
            hashes: Vec::new(),
        }
    }
}

impl Slots {
    /// The number of a value with that hash, where `is_it` says that a number is the value's. If it has none, it gets the next
    /// one; whether it did.
    #[inline]
    pub(super) fn number(&mut self, hash: u64, is_it: impl Fn(u32) -> bool) -> (u32, bool) {
        let upper = (hash >> 32) as u32;
        let mut place = (upper >> (32 - self.bits)) as usize;
        loop {
            match self.slots.get_mut(place) {
                Some(slot) if *slot == 0 => {
                    let number = len_u32(self.hashes.len());
                    *slot = number + 1;
                    self.hashes.push(upper);
                    if self.hashes.len() * 2 > self.slots.len() {
                        self.grow();
                    }
                    return (number, true);
                }
                Some(slot) if is_it(*slot - 1) => return (*slot - 1, false),
                Some(_) => place += 1,
                None => place = 0,
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        self.bits += 1;
        self.slots = vec![0; 1 << self.bits];
        for (number, hash) in (1..).zip(&self.hashes) {
            let mut place = (hash >> (32 - self.bits)) as usize;
            loop {
                match self.slots.get_mut(place) {
                    Some(slot) if *slot == 0 => {
                        *slot = number;
                        break;
                    }
                    Some(_) => place += 1,
                    None => place = 0,
                }
            }
        }
    }

    pub(super) fn count(&self) -> u32 {
        len_u32(self.hashes.len())
    }

    /// How many bits a number takes; at least one, so that no reader meets an empty one.
    pub(super) fn number_bits(&self) -> u8 {
        let bits = u32::BITS - self.count().saturating_sub(1).leading_zeros();
        u8::try_from(bits.max(1)).unwrap_or(32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_one_number() {
        // Of few hashes, so that many values meet in one place.
        for hash_of in [spread, |value| value % 3 * 7, |_| u64::MAX] {
            let (mut slots, mut values) = (Slots::default(), Vec::new());
            for round in 0..2 {
                for value in 0..1000u64 {
                    let is_it = |number: u32| values[number as usize] == value;
                    let (number, is_new) = slots.number(hash_of(value), is_it);
                    assert_eq!((u64::from(number), is_new), (value, round == 0));
                    if is_new {
                        values.push(value);
                    }
                }
            }
            assert_eq!((slots.count(), slots.number_bits()), (1000, 10));
        }
        assert_eq!(Slots::default().number_bits(), 1);
    }
}
