//! The records of an export's keys: those of the rows in its files, in the files' order, and those that are gone.
//!
//! A record's body holds a commit id, a kind, a count, and for each key its bytes behind their length, in a record of marked
//! rows followed by the mark. An export has as many of them as it takes, and the order of the log is that of the keys.

use std::sync::Arc;

use uuid::Uuid;

use crate::codec::{Malformed, Reader, len_u32, put_varint};
use crate::exported::location::RowMark;

const PLACED: u8 = 0;
const CLEARED: u8 = 1;
const MARKED: u8 = 2;

/// Where the kind stands, and the first key.
const KIND_OFFSET: usize = 16;
const KEYS_OFFSET: usize = 21;

/// A body that is being put together. It gets its commit id at the end.
#[derive(Debug)]
pub(crate) struct ExportKeysBody {
    bytes: Vec<u8>,
    key_count: u32,
}

impl ExportKeysBody {
    /// Without a key; with `cleared`, for keys of rows that the export takes away without replacing.
    pub(crate) fn new(cleared: bool) -> Self {
        let mut bytes = vec![0; KEYS_OFFSET];
        if let Some(kind) = bytes.get_mut(KIND_OFFSET) {
            *kind = if cleared { CLEARED } else { PLACED };
        }
        ExportKeysBody {
            bytes,
            key_count: 0,
        }
    }

    /// Whether a key with that mark can be added.
    pub(crate) fn takes(&self, mark: RowMark) -> bool {
        mark == RowMark::PLAIN || self.is_marked() || self.key_count == 0
    }

    fn is_marked(&self) -> bool {
        self.bytes.get(KIND_OFFSET) == Some(&MARKED)
    }

    /// Adds a key that `put` appends, with what there is to say of its row.
    pub(crate) fn push_with<E>(
        &mut self,
        mark: RowMark,
        put: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        if mark != RowMark::PLAIN
            && let Some(kind) = self.bytes.get_mut(KIND_OFFSET)
        {
            *kind = MARKED;
        }
        let len_offset = self.bytes.len();
        self.bytes.extend([0; 4]);
        let start = self.bytes.len();
        if let Err(error) = put(&mut self.bytes) {
            self.bytes.truncate(len_offset);
            return Err(error);
        }
        let len = len_u32(self.bytes.len() - start);
        if let Some(place) = self.bytes.get_mut(len_offset..start) {
            place.copy_from_slice(&len.to_le_bytes());
        }
        if self.is_marked() {
            put_varint(&mut self.bytes, mark.0);
        }
        self.key_count += 1;
        Ok(())
    }

    pub(crate) fn key_count(&self) -> u32 {
        self.key_count
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What was put together; with the number of keys, [`from_bytes`](Self::from_bytes) makes the same of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn from_bytes(bytes: Vec<u8>, key_count: u32) -> Self {
        ExportKeysBody { bytes, key_count }
    }

    /// Takes all keys away. What was for marked rows stays so, as more of them are likely to come.
    pub(crate) fn clear(&mut self) {
        self.bytes.truncate(KEYS_OFFSET);
        self.key_count = 0;
    }

    /// The body of that export's record.
    pub(crate) fn finish(mut self, commit_id: Uuid) -> Vec<u8> {
        let header = commit_id.as_bytes().iter().copied();
        let kind = self.bytes.get(KIND_OFFSET).copied();
        let header = header.chain(kind).chain(self.key_count.to_le_bytes());
        self.bytes
            .iter_mut()
            .zip(header)
            .for_each(|(to, byte)| *to = byte);
        self.bytes
    }
}

/// The keys of one record, as it was logged.
#[derive(Clone, Debug)]
pub(crate) struct ExportKeys {
    pub(crate) commit_id: Uuid,
    /// Whether the keys are of rows that the export takes away without replacing, not of rows in its files.
    pub(crate) cleared: bool,
    pub(crate) key_count: u32,
    is_marked: bool,
    body: Arc<[u8]>,
}

impl ExportKeys {
    /// Checks a body.
    pub(crate) fn decode(body: Arc<[u8]>) -> Result<Self, Malformed> {
        let mut reader = Reader::new(&body);
        let commit_id = Uuid::from_bytes(reader.array()?);
        let kind = reader.u8()?;
        if kind > MARKED {
            return Err(Malformed("keys of an unknown kind"));
        }
        let key_count = len_u32(reader.count(4)?);
        let keys = ExportKeys {
            commit_id,
            cleared: kind == CLEARED,
            key_count,
            is_marked: kind == MARKED,
            body,
        };
        let mut left = keys.keys();
        left.by_ref().try_for_each(|key| key.map(drop))?;
        left.reader.finish()?;
        Ok(keys)
    }

    /// The keys, and what there is to say of their rows.
    pub(crate) fn keys(&self) -> KeysOfRecord<'_> {
        KeysOfRecord {
            reader: Reader::new(self.body.get(KEYS_OFFSET..).unwrap_or_default()),
            left: self.key_count,
            is_marked: self.is_marked,
        }
    }
}

/// Goes through the keys of a record.
#[derive(Debug)]
pub(crate) struct KeysOfRecord<'a> {
    reader: Reader<'a>,
    left: u32,
    is_marked: bool,
}

impl<'a> KeysOfRecord<'a> {
    fn take(&mut self) -> Result<(&'a [u8], RowMark), Malformed> {
        let key = self.reader.blob()?;
        let mark = match self.is_marked {
            true => RowMark(self.reader.varint()?),
            false => RowMark::PLAIN,
        };
        Ok((key, mark))
    }
}

impl<'a> Iterator for KeysOfRecord<'a> {
    type Item = Result<(&'a [u8], RowMark), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip() {
        let commit_id = Uuid::from_u128(11);
        let plain = [RowMark::PLAIN; 3];
        let marked = [RowMark(300), RowMark::PLAIN, RowMark::SUPERSEDED];
        for (cleared, marks) in [(true, plain), (false, plain), (false, marked)] {
            let mut body = ExportKeysBody::new(cleared);
            let keys: Vec<(&[u8], RowMark)> =
                [&b"a"[..], b"", b"bc"].into_iter().zip(marks).collect();
            for (key, mark) in &keys {
                assert!(body.takes(*mark));
                let put = |out: &mut Vec<u8>| {
                    out.extend_from_slice(key);
                    Ok::<(), ()>(())
                };
                body.push_with(*mark, put).unwrap();
            }
            assert_eq!(
                body.push_with(RowMark::PLAIN, |_| Err("too long")),
                Err("too long")
            );
            let body: Arc<[u8]> = body.finish(commit_id).into();
            let record = ExportKeys::decode(body.clone()).unwrap();
            let found: Vec<_> = record.keys().map(Result::unwrap).collect();
            assert_eq!(
                (record.commit_id, record.cleared, found),
                (commit_id, cleared, keys)
            );
            for len in 0..body.len() {
                assert!(ExportKeys::decode(body[..len].into()).is_err(), "{len}");
            }
        }
        let mut plain = ExportKeysBody::new(false);
        plain
            .push_with(RowMark::PLAIN, |_| Ok::<(), ()>(()))
            .unwrap();
        assert!(!plain.takes(RowMark::SUPERSEDED));
    }
}
