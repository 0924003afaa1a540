//! Bytes from values and back: the primary key ([`key`]), the rest of a row ([`row`]), lists, structs and maps in it
//! ([`nested`]), what Arrow batches hold ([`columns`]), rows of past versions of a schema ([`versions`]), and the reader and writer of plain fields that the
//! log's records are made of.
//!
//! Decoding never trusts its input: what does not decode is [`Malformed`], which the caller turns into an error that
//! names file and offset.

mod cells;
pub(crate) mod columns;
pub(crate) mod key;
pub(crate) mod nested;
pub(crate) mod row;
pub(crate) mod versions;

use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes that are not what their place says they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Takes fields from the front of a byte slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(Malformed("ends early"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Malformed("ends early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A count of things that take at least `size_bytes_min` each, so that damage can't ask for more memory than there
    /// are bytes.
    pub(crate) fn count(&mut self, size_bytes_min: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        if count.saturating_mul(size_bytes_min) > self.rest.len() {
            return Err(Malformed("count beyond the end"));
        }
        Ok(count)
    }

    /// Bytes behind a u32 length.
    pub(crate) fn blob(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u32()? as usize;
        self.bytes(len)
    }

    /// Text behind a u32 length.
    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.blob()?).map_err(|_| Malformed("text is not UTF-8"))
    }

    /// An unsigned LEB128 number.
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("number too long"))
    }

    /// A length in bytes, as a varint.
    pub(crate) fn len(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.varint()?).map_err(|_| Malformed("a length beyond all memory"))
    }

    pub(crate) fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed("bytes left over"))
        }
    }
}

/// A length as the u32 that the format has for it. Everything written is below that by the limits on entry.
pub(crate) fn len_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, len_u32(bytes.len()));
    out.extend_from_slice(bytes);
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The 48 bytes that each of a database's numbered files begins with: magic, format version, database, the file's number,
/// and a checksum of these.
pub(crate) fn encode_file_header(
    magic: &[u8; 8],
    version: u32,
    database_id: Uuid,
    file_number: u64,
) -> Vec<u8> {
    let mut out = magic.to_vec();
    put_u32(&mut out, version);
    put_u32(&mut out, 0);
    out.extend_from_slice(database_id.as_bytes());
    put_u64(&mut out, file_number);
    let checksum = xxh3_64(&out);
    put_u64(&mut out, checksum);
    out
}

/// Bytes may change with their version alone, so their checksum is kept with it: (version, checksum).
#[cfg(test)]
pub(crate) fn check_bytes(what: &str, bytes: &[u8], version: u32, kept: (u32, u64)) {
    let written = (version, xxh3_64(bytes));
    assert_eq!(
        written, kept,
        "the bytes of {what} are others than they were. If this was meant, raise the version of the file that holds them, say in \
         docs/format.md what changed, and put the new version and checksum here. If it is this test's input that changed, the \
         checksum alone"
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_round_trip(value: u64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn a_count_beyond_the_end_is_refused() {
        let mut bytes = Vec::new();
        put_u32(&mut bytes, 1_000_000);
        assert_eq!(
            Reader::new(&bytes).count(8),
            Err(Malformed("count beyond the end"))
        );
    }
}
