//! What rows hold: each follows from its key and a number, so that whoever reads one can say whether it is whole.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The least and the most bytes of a text.
const TEXT_MIN: u64 = 150;
const TEXT_MAX: u64 = 600;

fn mixed(id: i64, number: i64) -> u64 {
    xxh3_64_with_seed(&number.to_le_bytes(), id as u64)
}

/// The text of a row; about half of it can be compressed.
pub(crate) fn text(id: i64, number: i64) -> Vec<u8> {
    let drawn = mixed(id, number);
    let len = (TEXT_MIN + drawn % (TEXT_MAX - TEXT_MIN)) as usize;
    let mut text = Vec::with_capacity(len + 16);
    let mut word = drawn;
    while text.len() < len {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text.extend_from_slice(&word.to_le_bytes());
        text.extend_from_slice(b"moonrise");
    }
    text.truncate(len);
    text
}

/// A number for all of a row; never 0, which stands for none.
pub(crate) fn hash(id: i64, number: i64, text: &[u8]) -> u64 {
    xxh3_64_with_seed(text, mixed(id, number)) | 1
}

/// How many rows there are, and the sum of their hashes: what a table holds, in two numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    /// Rows.
    pub(crate) count: i64,
    /// The sum of their hashes, wrapped.
    pub(crate) sum: u64,
}

impl Digest {
    /// With another row.
    pub(crate) fn add(&mut self, hash: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(hash);
    }

    /// Without a row of it.
    pub(crate) fn remove(&mut self, hash: u64) {
        self.count -= 1;
        self.sum = self.sum.wrapping_sub(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_rows_apart() {
        let row = |id, number| hash(id, number, &text(id, number));
        assert_ne!(row(1, 2), row(2, 1));
        let mut digest = Digest::default();
        digest.add(row(1, 1));
        digest.add(row(2, 1));
        let before = digest;
        digest.remove(row(2, 1));
        digest.add(row(2, 2));
        assert_ne!(digest, before);
        digest.remove(row(2, 2));
        digest.add(row(2, 1));
        assert_eq!(digest, before);
    }
}
