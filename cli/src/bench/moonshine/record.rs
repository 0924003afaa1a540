//! The bytes of a benchmark's records: keys and values from numbers, and back.

use moonshine_sysprobe::bench::BufferContent;
use moonshine_sysprobe::bench::ycsb::Random;

/// An odd constant: multiplying by it permutes the numbers of 64 bits and spreads neighbours far apart (2^64 divided by
/// the golden ratio), so that keys in order of their bytes are not in order of their numbers, as in YCSB.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// What undoes [`SPREAD`].
const SPREAD_INVERSE: u64 = 0xf1de_83e1_9937_733d;
/// Bytes of a key that tell its number.
pub(super) const KEY_SIZE_BYTES_MIN: u64 = 8;
/// Bytes of a value that tell its record's number and its stamp.
pub(super) const VALUE_SIZE_BYTES_MIN: u64 = 16;
/// Bytes beyond the longest value that contents are cut from, so that they differ from record to record.
const CONTENT_SLACK_BYTES: usize = 1 << 20;

/// Makes keys and values of one size.
#[derive(Debug)]
pub(super) struct RecordFormat {
    key_size: usize,
    value_size: usize,
    content: Vec<u8>,
}

/// What a value says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ValueHead {
    /// The number of its record.
    pub(super) number: u64,
    /// Counts the changes of a read-modify-write; which put it was, else; 0 as loaded or inserted.
    pub(super) stamp: u64,
}

impl RecordFormat {
    pub(super) fn new(key_size: usize, value_size: usize, content: &BufferContent) -> Self {
        let size = value_size + CONTENT_SLACK_BYTES;
        let content = match content {
            BufferContent::Zeros => vec![0; size],
            BufferContent::Pattern(pattern) if !pattern.is_empty() => {
                pattern.iter().copied().cycle().take(size).collect()
            }
            BufferContent::Pattern(_) | BufferContent::Random => {
                let mut random = Random::new(0);
                let words = std::iter::repeat_with(|| random.draw().to_le_bytes());
                words.flatten().take(size).collect()
            }
        };
        RecordFormat {
            key_size,
            value_size,
            content,
        }
    }

    /// Bytes of a record, key and value.
    pub(super) fn size_bytes(&self) -> u64 {
        (self.key_size + self.value_size) as u64
    }

    pub(super) fn key_size_bytes(&self) -> u64 {
        self.key_size as u64
    }

    /// The key of a record.
    pub(super) fn key(&self, number: u64) -> Vec<u8> {
        let spread = number.wrapping_mul(SPREAD).to_be_bytes();
        spread.into_iter().cycle().take(self.key_size).collect()
    }

    /// The number of a key's record; `None` for a key that this format does not make.
    pub(super) fn number(&self, key: &[u8]) -> Option<u64> {
        let spread = u64::from_be_bytes(*key.first_chunk()?);
        let number = spread.wrapping_mul(SPREAD_INVERSE);
        (self.key(number) == key).then_some(number)
    }

    /// The value of a record.
    pub(super) fn value(&self, head: ValueHead) -> Vec<u8> {
        let mut value = Vec::with_capacity(self.value_size);
        value.extend_from_slice(&head.number.to_le_bytes());
        value.extend_from_slice(&head.stamp.to_le_bytes());
        let left = self.value_size.saturating_sub(value.len());
        let spread = (head.number ^ head.stamp).wrapping_mul(SPREAD);
        let start = (spread >> 32) as usize % CONTENT_SLACK_BYTES;
        value.extend_from_slice(self.content.get(start..start + left).unwrap_or_default());
        value
    }

    /// What a value of a record says of itself.
    ///
    /// # Errors
    /// Says what is wrong with it: another size, or another record's.
    pub(super) fn check(&self, number: u64, value: &[u8]) -> Result<ValueHead, String> {
        if value.len() != self.value_size {
            return Err(format!(
                "record {number} has a value of {} bytes instead of {}",
                value.len(),
                self.value_size
            ));
        }
        let word = |at: usize| {
            let bytes = value.get(at..)?.first_chunk()?;
            Some(u64::from_le_bytes(*bytes))
        };
        let (Some(found), Some(stamp)) = (word(0), word(8)) else {
            return Err(format!("record {number} has a value of too few bytes"));
        };
        if found != number {
            return Err(format!("record {number} has the value of record {found}"));
        }
        Ok(ValueHead { number, stamp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_and_back() {
        for key_size in [8, 16, 23] {
            let format = RecordFormat::new(key_size, 16, &BufferContent::Zeros);
            for number in [0, 1, 99_999, u64::MAX] {
                let key = format.key(number);
                assert_eq!(key.len(), key_size);
                assert_eq!(format.number(&key), Some(number));
            }
            let mut foreign = format.key(5);
            foreign.push(0);
            assert_eq!(format.number(&foreign), None);
            assert_eq!(format.number(b"short"), None);
        }
    }

    #[test]
    fn values_say_whose_they_are_and_have_the_content_that_was_asked_for() {
        let head = ValueHead {
            number: 7,
            stamp: 3,
        };
        let pattern = BufferContent::Pattern(b"ab".to_vec());
        for content in [BufferContent::Random, BufferContent::Zeros, pattern] {
            let format = RecordFormat::new(16, 100, &content);
            let value = format.value(head);
            assert_eq!(value.len(), 100);
            assert_eq!(format.check(7, &value), Ok(head));
            assert!(format.check(8, &value).unwrap_err().contains("record 7"));
            assert!(format.check(7, &value[1..]).unwrap_err().contains("99"));
            let rest = &value[16..];
            match content {
                BufferContent::Zeros => assert!(rest.iter().all(|&byte| byte == 0)),
                BufferContent::Pattern(_) => {
                    assert!(rest.windows(2).all(|pair| pair[0] != pair[1]));
                    assert!(rest.iter().all(|byte| b"ab".contains(byte)));
                }
                BufferContent::Random => {
                    assert_ne!(rest, &format.value(ValueHead { stamp: 4, ..head })[16..])
                }
            }
        }
        assert_eq!(
            RecordFormat::new(8, 16, &BufferContent::Random)
                .value(head)
                .len(),
            16
        );
    }
}
