//! The records of an export's keys: those of the rows in its files, in the files' order, and those that are gone.
//!
//! A record's body holds a commit id, a kind, a count, and the keys, in a record of marked rows each followed by the mark. An export
//! has as many of them as it takes, and the order of the log is that of the keys.
//!
//! A key is written without the bytes that it begins with in common with the key before it (front coding: Witten, Moffat and Bell,
//! Managing Gigabytes, section 4.1). Rows of a file mostly lie in key order, so little of a key is left.

use std::sync::Arc;

use uuid::Uuid;

use crate::codec::{Malformed, Reader, put_varint};
use crate::exported::location::RowMark;

const PLACED: u8 = 0;
const CLEARED: u8 = 1;
const MARKED: u8 = 2;
/// Added to a kind whose keys are front coded, which is each that is written; older builds wrote keys as blobs.
const FRONT_CODED: u8 = 4;

/// Where the kind stands, and the first key.
const KIND_OFFSET: usize = 16;
const KEYS_OFFSET: usize = 21;

/// A body that is being put together. It gets its commit id at the end.
#[derive(Debug)]
pub(crate) struct ExportKeysBody {
    bytes: Vec<u8>,
    key_count: u32,
    last_key: Vec<u8>,
    /// Memory for the next key.
    key: Vec<u8>,
}

impl ExportKeysBody {
    /// Without a key; with `cleared`, for keys of rows that the export takes away without replacing.
    pub(crate) fn new(cleared: bool) -> Self {
        let mut bytes = vec![0; KEYS_OFFSET];
        if let Some(kind) = bytes.get_mut(KIND_OFFSET) {
            *kind = FRONT_CODED | if cleared { CLEARED } else { PLACED };
        }
        Self::from_bytes(bytes, 0)
    }

    /// Whether a key with that mark can be added.
    pub(crate) fn takes(&self, mark: RowMark) -> bool {
        mark == RowMark::PLAIN || self.is_marked() || self.key_count == 0
    }

    fn is_marked(&self) -> bool {
        self.bytes.get(KIND_OFFSET) == Some(&(FRONT_CODED | MARKED))
    }

    /// Adds a key that `put` appends, with what there is to say of its row.
    pub(crate) fn push_with<E>(
        &mut self,
        mark: RowMark,
        put: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.key.clear();
        put(&mut self.key)?;
        if mark != RowMark::PLAIN
            && let Some(kind) = self.bytes.get_mut(KIND_OFFSET)
        {
            *kind = FRONT_CODED | MARKED;
        }
        let pairs = self.key.iter().zip(&self.last_key);
        let shared_len = pairs.take_while(|(byte, last)| byte == last).count();
        let rest = self.key.get(shared_len..).unwrap_or_default();
        put_varint(&mut self.bytes, shared_len as u64);
        put_varint(&mut self.bytes, rest.len() as u64);
        self.bytes.extend_from_slice(rest);
        if self.is_marked() {
            put_varint(&mut self.bytes, mark.0);
        }
        std::mem::swap(&mut self.key, &mut self.last_key);
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
        ExportKeysBody {
            bytes,
            key_count,
            last_key: Vec::new(),
            key: Vec::new(),
        }
    }

    /// Takes all keys away. What was for marked rows stays so, as more of them are likely to come.
    pub(crate) fn clear(&mut self) {
        self.bytes.truncate(KEYS_OFFSET);
        self.key_count = 0;
        self.last_key.clear();
    }

    /// Gives back the memory that further keys would use; they may come all the same.
    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.last_key = Vec::new();
        self.key = Vec::new();
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
    is_front_coded: bool,
    body: Arc<[u8]>,
}

impl ExportKeys {
    /// Takes a body, of whose keys nothing is looked at: that [`each_key`](Self::each_key) does.
    pub(crate) fn decode(body: Arc<[u8]>) -> Result<Self, Malformed> {
        let mut reader = Reader::new(&body);
        let commit_id = Uuid::from_bytes(reader.array()?);
        let kind = reader.u8()?;
        if kind & !FRONT_CODED > MARKED {
            return Err(Malformed("keys of an unknown kind"));
        }
        let key_count = reader.u32()?;
        Ok(ExportKeys {
            commit_id,
            cleared: kind & !FRONT_CODED == CLEARED,
            key_count,
            is_marked: kind & !FRONT_CODED == MARKED,
            is_front_coded: kind & FRONT_CODED != 0,
            body,
        })
    }

    /// Hands out the keys, and what there is to say of their rows.
    ///
    /// # Errors
    /// [`Malformed`] of a body that holds others than so many keys; or what `take` answers.
    pub(crate) fn each_key<E: From<Malformed>>(
        &self,
        mut take: impl FnMut(&[u8], RowMark) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reader = Reader::new(self.body.get(KEYS_OFFSET..).unwrap_or_default());
        let mut key = Vec::new();
        for _ in 0..self.key_count {
            let shared_len = match self.is_front_coded {
                true => reader.len()?,
                false => 0,
            };
            if shared_len > key.len() {
                return Err(Malformed("a key shares more than the one before it has").into());
            }
            key.truncate(shared_len);
            key.extend_from_slice(match self.is_front_coded {
                true => {
                    let len = reader.len()?;
                    reader.bytes(len)?
                }
                false => reader.blob()?,
            });
            let mark = match self.is_marked {
                true => RowMark(reader.varint()?),
                false => RowMark::PLAIN,
            };
            take(&key, mark)?;
        }
        Ok(reader.finish()?)
    }

    /// Looks at all keys once.
    ///
    /// # Errors
    /// As [`each_key`](Self::each_key).
    pub(crate) fn seen(&self) -> Result<SeenKeys, Malformed> {
        let mut seen = SeenKeys::default();
        self.each_key(|key, mark| {
            if mark != RowMark::SUPERSEDED {
                seen.push(key);
            }
            Ok::<(), Malformed>(())
        })?;
        Ok(seen)
    }
}

/// What is known of keys that were looked at, but for those of rows that count no more.
#[derive(Clone, Debug, Default)]
pub(crate) struct SeenKeys {
    pub(crate) key_count: u64,
    /// Of the keys as they are, not as they lie in the log.
    pub(crate) size_bytes: u64,
    /// Whether a key was not greater than the one before it.
    is_unsorted: bool,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
}

impl SeenKeys {
    fn push(&mut self, key: &[u8]) {
        if self.key_count == 0 {
            self.first_key.extend_from_slice(key);
        } else {
            self.is_unsorted |= *self.last_key >= *key;
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.key_count += 1;
        self.size_bytes += key.len() as u64;
    }

    /// Adds keys that come behind these.
    pub(crate) fn append(&mut self, next: SeenKeys) {
        if self.key_count == 0 {
            *self = next;
        } else if next.key_count > 0 {
            self.is_unsorted |= next.is_unsorted || self.last_key >= next.first_key;
            self.last_key = next.last_key;
            self.key_count += next.key_count;
            self.size_bytes += next.size_bytes;
        }
    }

    /// Whether each key is greater than the one before.
    pub(crate) fn is_sorted(&self) -> bool {
        !self.is_unsorted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COMMIT_ID: Uuid = Uuid::from_u128(11);

    type MarkedKey = (Vec<u8>, RowMark);

    fn body_of(cleared: bool, keys: &[MarkedKey]) -> ExportKeysBody {
        let mut body = ExportKeysBody::new(cleared);
        for (key, mark) in keys {
            assert!(body.takes(*mark));
            let put = |out: &mut Vec<u8>| {
                out.extend_from_slice(key);
                Ok::<(), ()>(())
            };
            body.push_with(*mark, put).unwrap();
            assert_eq!(body.push_with(*mark, |_| Err("too long")), Err("too long"));
        }
        body
    }

    fn keys_of(record: &ExportKeys) -> Result<Vec<MarkedKey>, Malformed> {
        let mut keys = Vec::new();
        record.each_key(|key, mark| {
            keys.push((key.to_vec(), mark));
            Ok::<(), Malformed>(())
        })?;
        Ok(keys)
    }

    fn read(body: &[u8]) -> Result<(bool, Vec<MarkedKey>), Malformed> {
        let record = ExportKeys::decode(body.into())?;
        assert_eq!(record.commit_id, COMMIT_ID);
        Ok((record.cleared, keys_of(&record)?))
    }

    fn mark() -> impl Strategy<Value = RowMark> {
        prop_oneof![
            Just(RowMark::PLAIN),
            Just(RowMark::SUPERSEDED),
            (2..500_u64).prop_map(RowMark)
        ]
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![0..2_u8, any::<u8>()], 0..12)
    }

    proptest! {
        #[test]
        fn keys_round_trip(
            mut keys in prop::collection::vec((key(), mark()), 0..40), cleared: bool, is_marked: bool, is_sorted: bool,
        ) {
            if is_sorted {
                keys.sort_by(|one, other| one.0.cmp(&other.0));
            }
            let is_marked = is_marked && !cleared;
            for (number, (_, mark)) in keys.iter_mut().enumerate() {
                *mark = match (is_marked, number) {
                    (true, 0) => RowMark(300),
                    (true, _) => *mark,
                    (false, _) => RowMark::PLAIN,
                };
            }
            let body = body_of(cleared, &keys).finish(COMMIT_ID);
            prop_assert_eq!(read(&body), Ok((cleared, keys)));
            for len in 0..body.len() {
                prop_assert!(read(&body[..len]).is_err(), "{}", len);
            }
        }

        #[test]
        fn what_is_seen_of_records_is_seen_of_their_keys(
            records in prop::collection::vec(prop::collection::vec((0..40_u8, any::<bool>()), 0..5), 0..5),
            is_sorted: bool,
        ) {
            let mut records: Vec<Vec<(u8, bool)>> = records;
            if is_sorted {
                let mut all: Vec<_> = records.concat();
                all.sort_unstable();
                let mut all = all.into_iter();
                records.iter_mut().flatten().for_each(|key| *key = all.next().unwrap());
            }
            let mut seen = SeenKeys::default();
            for record in &records {
                let marked = record.iter().map(|(key, counts)| match counts {
                    true => (vec![*key], RowMark(7)),
                    false => (Vec::new(), RowMark::SUPERSEDED),
                });
                let body = body_of(false, &marked.collect::<Vec<_>>()).finish(COMMIT_ID);
                seen.append(ExportKeys::decode(body.into()).unwrap().seen().unwrap());
            }
            let keys = records.concat().into_iter();
            let keys: Vec<_> = keys.filter_map(|(key, counts)| counts.then_some(key)).collect();
            prop_assert_eq!(seen.key_count, keys.len() as u64);
            prop_assert_eq!(seen.size_bytes, keys.len() as u64);
            prop_assert_eq!(seen.is_sorted(), keys.is_sorted_by(|one, next| one < next));
        }
    }

    #[test]
    fn keys_of_older_builds_are_read() {
        let header = |kind: u8| [COMMIT_ID.as_bytes(), &[kind][..], &2_u32.to_le_bytes()].concat();
        let blobs = [&[1, 0, 0, 0][..], b"b", &[2, 0, 0, 0], b"ba"].concat();
        let plain = |key: &str| (key.as_bytes().to_vec(), RowMark::PLAIN);
        for (kind, cleared) in [(PLACED, false), (CLEARED, true)] {
            let keys = vec![plain("b"), plain("ba")];
            assert_eq!(
                read(&[header(kind), blobs.clone()].concat()),
                Ok((cleared, keys))
            );
        }
        let marked = [&[1, 0, 0, 0][..], b"b", &[9], &[0, 0, 0, 0], &[1]].concat();
        let keys = vec![
            (b"b".to_vec(), RowMark(9)),
            (Vec::new(), RowMark::SUPERSEDED),
        ];
        assert_eq!(read(&[header(MARKED), marked].concat()), Ok((false, keys)));
        assert!(read(&[header(3), blobs].concat()).is_err());
    }

    #[test]
    fn keys_in_order_take_what_is_new_of_them() {
        let keys = (0..10_000_u64).map(|id| (id.to_be_bytes().to_vec(), RowMark::PLAIN));
        let body = body_of(false, &keys.collect::<Vec<_>>());
        assert!(body.size_bytes() < 10_000 * 7 / 2, "{}", body.size_bytes());
    }

    #[test]
    fn a_body_says_what_it_takes_and_is_filled_again() {
        let mut body = body_of(false, &[(b"ab".to_vec(), RowMark::PLAIN)]);
        assert!(!body.takes(RowMark::SUPERSEDED));
        body.clear();
        let put = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"ac");
            Ok::<(), ()>(())
        };
        body.push_with(RowMark(3), put).unwrap();
        let again = ExportKeysBody::from_bytes(body.bytes().to_vec(), body.key_count());
        let keys = vec![(b"ac".to_vec(), RowMark(3))];
        assert_eq!(read(&again.finish(COMMIT_ID)), Ok((false, keys)));
    }
}
