//! Bounds of keys.

use std::ops::Bound;

use crate::codec::key::{KEY_SIZE_BYTES_MAX, encode_key_prefix};
use crate::error::{Error, Result};
use crate::schema::TableSchema;
use crate::value::Value;

/// Encoded bounds of a scan.
#[derive(Clone, Debug)]
pub(crate) struct KeyRange {
    pub(crate) start: Bound<Vec<u8>>,
    pub(crate) end: Bound<Vec<u8>>,
}

impl KeyRange {
    /// All keys.
    pub(crate) const ALL: KeyRange = KeyRange {
        start: Bound::Unbounded,
        end: Bound::Unbounded,
    };

    /// The range between bounds that are encoded already.
    pub(crate) fn of_bytes(start: Bound<Vec<u8>>, end: Bound<Vec<u8>>) -> Self {
        KeyRange { start, end }
    }

    pub(crate) fn new(
        schema: &TableSchema,
        range: &(Bound<Vec<Value>>, Bound<Vec<Value>>),
    ) -> Result<Self> {
        let encode = |values: &Vec<Value>| {
            let count = schema.primary_key().len();
            if values.is_empty() || values.len() > count {
                return Err(Error::Row(format!(
                    "table '{}': a bound of {} values, the primary key has {count} columns",
                    schema.name(),
                    values.len()
                )));
            }
            let mut key = Vec::new();
            encode_key_prefix(schema, values.iter(), &mut key)?;
            Ok((key, values.len() < count))
        };
        // A bound of the key's first columns stands before or after all keys that start with it.
        let start = match &range.0 {
            Bound::Unbounded => Bound::Unbounded,
            Bound::Included(values) => Bound::Included(encode(values)?.0),
            Bound::Excluded(values) => match encode(values)? {
                (key, false) => Bound::Excluded(key),
                (key, true) => Bound::Included(after_prefix(key).unwrap_or_else(above_all)),
            },
        };
        let end = match &range.1 {
            Bound::Unbounded => Bound::Unbounded,
            Bound::Excluded(values) => Bound::Excluded(encode(values)?.0),
            Bound::Included(values) => match encode(values)? {
                (key, false) => Bound::Included(key),
                (key, true) => after_prefix(key).map_or(Bound::Unbounded, Bound::Excluded),
            },
        };
        Ok(KeyRange { start, end })
    }

    /// The key that it is the range of, if it is bounded on both sides and has room for one alone.
    pub(crate) fn only_key(&self) -> Option<&[u8]> {
        let Bound::Included(key) = &self.start else {
            return None;
        };
        let is_alone = match &self.end {
            Bound::Unbounded => false,
            Bound::Included(end) => end == key,
            Bound::Excluded(end) => end.split_last() == Some((&0, key.as_slice())),
        };
        is_alone.then_some(key.as_slice())
    }

    /// Whether a key lies above the start.
    pub(crate) fn starts_before(&self, key: &[u8]) -> bool {
        match &self.start {
            Bound::Unbounded => true,
            Bound::Included(start) => key >= start.as_slice(),
            Bound::Excluded(start) => key > start.as_slice(),
        }
    }

    /// Whether a key lies below the end.
    pub(crate) fn ends_after(&self, key: &[u8]) -> bool {
        match &self.end {
            Bound::Unbounded => true,
            Bound::Included(end) => key <= end.as_slice(),
            Bound::Excluded(end) => key < end.as_slice(),
        }
    }
}

/// The smallest key above all that start with a prefix; `None` if there is none.
pub(crate) fn after_prefix(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            return Some(prefix);
        }
    }
    None
}

/// Above every key: nothing stands behind a prefix of the greatest bytes.
pub(crate) fn above_all() -> Vec<u8> {
    vec![u8::MAX; KEY_SIZE_BYTES_MAX + 1]
}

/// The keys from one on and below another; `None` for no end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyInterval {
    pub(crate) start: Vec<u8>,
    pub(crate) end: Option<Vec<u8>>,
}

impl From<&KeyRange> for KeyInterval {
    fn from(range: &KeyRange) -> Self {
        // The next key after one is that with a zero behind it.
        let next = |key: &Vec<u8>| [key.as_slice(), &[0]].concat();
        KeyInterval {
            start: match &range.start {
                Bound::Unbounded => Vec::new(),
                Bound::Included(key) => key.clone(),
                Bound::Excluded(key) => next(key),
            },
            end: match &range.end {
                Bound::Unbounded => None,
                Bound::Included(key) => Some(next(key)),
                Bound::Excluded(key) => Some(key.clone()),
            },
        }
    }
}

impl From<&KeyInterval> for KeyRange {
    fn from(interval: &KeyInterval) -> Self {
        KeyRange {
            start: match interval.start.as_slice() {
                [] => Bound::Unbounded,
                start => Bound::Included(start.to_vec()),
            },
            end: interval
                .end
                .clone()
                .map_or(Bound::Unbounded, Bound::Excluded),
        }
    }
}

impl KeyInterval {
    /// All keys.
    pub(crate) const ALL: KeyInterval = KeyInterval {
        start: Vec::new(),
        end: None,
    };

    /// Whether no key is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && self.ends_after(key)
    }

    /// Whether a key lies below the end.
    pub(crate) fn ends_after(&self, key: &[u8]) -> bool {
        self.end.as_ref().is_none_or(|end| key < end.as_slice())
    }

    /// Whether it ends before a bound.
    fn end_is_below(&self, bound: &[u8]) -> bool {
        self.end.as_ref().is_some_and(|end| end.as_slice() < bound)
    }

    /// Whether both have room for a same key.
    pub(crate) fn overlaps(&self, other: &KeyInterval) -> bool {
        self.ends_after(&other.start) && other.ends_after(&self.start)
    }
}

/// The same keys in intervals that ascend and don't touch.
pub(crate) fn united(mut intervals: Vec<KeyInterval>) -> Vec<KeyInterval> {
    intervals.retain(|interval| !interval.is_empty());
    intervals.sort_unstable();
    let mut united: Vec<KeyInterval> = Vec::with_capacity(intervals.len());
    for interval in intervals {
        match united.last_mut() {
            Some(last) if last.end.as_ref().is_none_or(|end| *end >= interval.start) => {
                let is_longer = match (&last.end, &interval.end) {
                    (None, _) => false,
                    (_, None) => true,
                    (Some(last), Some(end)) => end > last,
                };
                if is_longer {
                    last.end = interval.end;
                }
            }
            _ => united.push(interval),
        }
    }
    united
}

/// The keys that are in both of two lists of intervals that ascend and don't touch.
pub(crate) fn intersected(a: &[KeyInterval], b: &[KeyInterval]) -> Vec<KeyInterval> {
    let mut both = Vec::new();
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(first), Some(second)) = (a.peek(), b.peek()) {
        let first_ends = first
            .end
            .as_ref()
            .is_some_and(|end| !second.end_is_below(end));
        let end = if first_ends { &first.end } else { &second.end };
        both.push(KeyInterval {
            start: first.start.clone().max(second.start.clone()),
            end: end.clone(),
        });
        if first_ends {
            a.next();
        } else {
            b.next();
        }
    }
    both.retain(|interval| !interval.is_empty());
    both
}

/// Whether a key is in one of intervals that ascend and don't touch.
pub(crate) fn is_in(intervals: &[KeyInterval], key: &[u8]) -> bool {
    let behind = intervals.partition_point(|interval| interval.start.as_slice() <= key);
    let before = behind.checked_sub(1).and_then(|i| intervals.get(i));
    before.is_some_and(|interval| interval.ends_after(key))
}
