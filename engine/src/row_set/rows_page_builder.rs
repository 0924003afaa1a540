//! Gathering the rows of a page.

use crate::codec::{len_u32, put_u32};

use super::rows_page::{Bounds, FLAG_TOMBSTONES, RowRef};

/// Gathers the rows of a page.
#[derive(Debug, Default)]
pub(crate) struct RowsPageBuilder {
    keys: Vec<u8>,
    values: Vec<u8>,
    key_ends: Vec<u32>,
    value_ends: Vec<u32>,
    tombstones: Vec<bool>,
    tombstone_count: usize,
}

impl RowsPageBuilder {
    /// Appends a row; its key lies behind those that are there.
    pub(crate) fn push(&mut self, row: RowRef<'_>) {
        self.keys.extend_from_slice(row.key);
        self.values.extend_from_slice(row.value.unwrap_or_default());
        self.key_ends.push(len_u32(self.keys.len()));
        self.value_ends.push(len_u32(self.values.len()));
        self.tombstones.push(row.value.is_none());
        self.tombstone_count += usize::from(row.value.is_none());
    }

    pub(crate) fn row_count(&self) -> usize {
        self.key_ends.len()
    }

    /// Bytes of keys and values.
    pub(crate) fn size_bytes(&self) -> usize {
        self.keys.len() + self.values.len()
    }

    /// The key that was pushed last.
    #[inline]
    pub(crate) fn last_key(&self) -> Option<&[u8]> {
        let (_, before) = self.key_ends.split_last()?;
        let start = before.last().copied().unwrap_or(0) as usize;
        self.keys.get(start..)
    }

    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
        self.key_ends.clear();
        self.value_ends.clear();
        self.tombstones.clear();
        self.tombstone_count = 0;
    }

    /// The rows gathered so far.
    pub(crate) fn rows(&self) -> impl Iterator<Item = RowRef<'_>> {
        let (mut key_start, mut value_start) = (0, 0);
        self.key_ends
            .iter()
            .zip(&self.value_ends)
            .zip(&self.tombstones)
            .map(move |((&key_end, &value_end), &tombstone)| {
                let (key_end, value_end) = (key_end as usize, value_end as usize);
                let key = self.keys.get(key_start..key_end).unwrap_or_default();
                let value = self.values.get(value_start..value_end).unwrap_or_default();
                (key_start, value_start) = (key_end, value_end);
                RowRef {
                    key,
                    value: (!tombstone).then_some(value),
                }
            })
    }

    /// Appends the content of the page.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let key_bounds = choose_bounds(&self.key_ends);
        let value_bounds = choose_bounds(&self.value_ends);
        let row_count = u16::try_from(self.row_count()).unwrap_or(u16::MAX);
        out.extend_from_slice(&row_count.to_le_bytes());
        let flags = if self.tombstone_count > 0 {
            FLAG_TOMBSTONES
        } else {
            0
        };
        out.extend_from_slice(&[key_bounds.code(), value_bounds.code(), flags, 0, 0, 0]);
        put_u32(out, len_u32(self.keys.len()));
        put_u32(out, len_u32(self.values.len()));
        put_bounds(key_bounds, &self.key_ends, out);
        put_bounds(value_bounds, &self.value_ends, out);
        if self.tombstone_count > 0 {
            out.extend(self.tombstones.chunks(8).map(|rows| {
                rows.iter()
                    .enumerate()
                    .fold(0, |bits, (i, tombstone)| bits | u8::from(*tombstone) << i)
            }));
        }
        out.extend_from_slice(&self.keys);
        out.extend_from_slice(&self.values);
    }
}

fn choose_bounds(ends: &[u32]) -> Bounds {
    let len = ends.first().copied().unwrap_or(0);
    let last = ends.last().copied().unwrap_or(0);
    let one_length = ends
        .iter()
        .zip(ends.iter().skip(1))
        .fold(true, |same, (a, b)| same & (b - a == len));
    if one_length && !ends.is_empty() {
        Bounds::Fixed(len)
    } else if last <= u16::MAX.into() {
        Bounds::Narrow
    } else {
        Bounds::Wide
    }
}

fn put_bounds(bounds: Bounds, ends: &[u32], out: &mut Vec<u8>) {
    match bounds {
        Bounds::Fixed(_) => {}
        Bounds::Narrow => {
            out.extend_from_slice(&[0; 2]);
            for end in ends {
                out.extend_from_slice(&(*end as u16).to_le_bytes());
            }
        }
        Bounds::Wide => {
            out.extend_from_slice(&[0; 4]);
            for end in ends {
                put_u32(out, *end);
            }
        }
    }
}
