//! Rows within a page: key bytes together, value bytes together, and the bounds of each.
//!
//! The bounds are left out where all keys, or all values, of the page have one length. What is decoded here was checked
//! once, when the page was loaded, so that a row costs no more than its address.

use super::index::LINE_SIZE_BYTES;
use crate::codec::key::prefix_of;
use crate::codec::{Malformed, Reader, len_u32};

const HEADER_SIZE_BYTES: usize = 16;
pub(crate) const FLAG_TOMBSTONES: u8 = 1;

/// The most that is loaded of a page's keys ahead of a search.
const TOUCHED_KEY_BYTES_MAX: usize = 2048;

/// A page holds at most 2^9 rows.
pub(crate) const ROWS_PER_PAGE_LOG2_MAX: u8 = 9;

/// A row, borrowed from its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRef<'a> {
    /// The encoded primary key.
    pub key: &'a [u8],
    /// The encoded rest of the row; `None` for a tombstone.
    pub value: Option<&'a [u8]>,
}

/// How a page says where each of its keys, or values, ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bounds {
    /// All have this length in bytes.
    Fixed(u32),
    /// One more u16 than there are rows.
    #[default]
    Narrow,
    /// One more u32 than there are rows.
    Wide,
}

impl Bounds {
    pub(crate) fn code(self) -> u8 {
        match self {
            Bounds::Fixed(_) => 0,
            Bounds::Narrow => 2,
            Bounds::Wide => 4,
        }
    }

    fn size_bytes(self, row_count: usize) -> usize {
        usize::from(self.code()) * (row_count + 1)
    }

    fn decode(code: u8, total: u32, row_count: u32) -> Result<Self, Malformed> {
        match code {
            0 => match total.checked_div(row_count) {
                Some(len) if len * row_count == total => Ok(Bounds::Fixed(len)),
                _ => Err(Malformed("rows of one length don't add up")),
            },
            2 => Ok(Bounds::Narrow),
            4 => Ok(Bounds::Wide),
            _ => Err(Malformed("unknown kind of bounds")),
        }
    }
}

/// Where things lie in a page of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowsLayout {
    row_count: u16,
    tombstones: bool,
    key_bounds: Bounds,
    value_bounds: Bounds,
    value_bounds_at: u32,
    keys_at: u32,
    values_at: u32,
}

impl RowsLayout {
    /// The layout of one row alone: a byte that says whether it is a tombstone, its key, its value.
    pub(crate) fn of_row(row: RowRef<'_>) -> Self {
        let key_size_bytes = len_u32(row.key.len());
        RowsLayout {
            row_count: 1,
            tombstones: row.value.is_none(),
            key_bounds: Bounds::Fixed(key_size_bytes),
            value_bounds: Bounds::Fixed(len_u32(row.value.map_or(0, <[u8]>::len))),
            value_bounds_at: 0,
            keys_at: 1,
            values_at: 1 + key_size_bytes,
        }
    }

    /// Checks the content of a page, so that every row of it can be taken without a further check.
    pub(crate) fn decode(content: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(content);
        let row_count = u16::from_le_bytes(reader.array()?);
        let [key_code, value_code, flags, ..] = reader.array::<6>()?;
        let (key_bytes, value_bytes) = (reader.u32()?, reader.u32()?);
        let key_bounds = Bounds::decode(key_code, key_bytes, row_count.into())?;
        let value_bounds = Bounds::decode(value_code, value_bytes, row_count.into())?;
        let rows = usize::from(row_count);
        check_bounds(
            reader.bytes(key_bounds.size_bytes(rows))?,
            key_bounds,
            key_bytes,
        )?;
        let at = |reader: &Reader<'_>| len_u32(content.len() - reader.remaining().len());
        let value_bounds_at = at(&reader);
        check_bounds(
            reader.bytes(value_bounds.size_bytes(rows))?,
            value_bounds,
            value_bytes,
        )?;
        let tombstones = flags & FLAG_TOMBSTONES != 0;
        reader.bytes(if tombstones { rows.div_ceil(8) } else { 0 })?;
        let keys_at = at(&reader);
        reader.bytes(key_bytes as usize)?;
        let values_at = at(&reader);
        reader.bytes(value_bytes as usize)?;
        reader.finish()?;
        Ok(RowsLayout {
            row_count,
            tombstones,
            key_bounds,
            value_bounds,
            value_bounds_at,
            keys_at,
            values_at,
        })
    }
}

fn check_bounds(bytes: &[u8], bounds: Bounds, total: u32) -> Result<(), Malformed> {
    let good = match bounds {
        Bounds::Fixed(_) => true,
        Bounds::Narrow => ascends(
            bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| u16::from_le_bytes(*b).into()),
            total,
        ),
        Bounds::Wide => ascends(
            bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| u32::from_le_bytes(*b)),
            total,
        ),
    };
    if good {
        Ok(())
    } else {
        Err(Malformed("bounds of rows go backwards"))
    }
}

/// Whether the numbers go from 0 to `total` and never back.
fn ascends(mut bounds: impl Iterator<Item = u32>, total: u32) -> bool {
    let mut last = 0;
    let mut good = bounds.next() == Some(0);
    for bound in bounds {
        good &= bound >= last;
        last = bound;
    }
    good && last == total
}

/// The rows of one page, as they lie there. Slots count from 0.
#[derive(Clone, Copy, Debug)]
pub struct RowsView<'a> {
    content: &'a [u8],
    layout: RowsLayout,
}

impl<'a> RowsView<'a> {
    pub(crate) fn new(content: &'a [u8], layout: RowsLayout) -> Self {
        RowsView { content, layout }
    }

    /// How many there are.
    pub fn row_count(&self) -> usize {
        self.layout.row_count.into()
    }

    /// All key bytes, one key after the other.
    pub fn key_bytes(&self) -> &'a [u8] {
        self.content
            .get(self.layout.keys_at as usize..self.layout.values_at as usize)
            .unwrap_or_default()
    }

    /// All value bytes, one value after the other; a tombstone has none.
    pub fn value_bytes(&self) -> &'a [u8] {
        self.content
            .get(self.layout.values_at as usize..)
            .unwrap_or_default()
    }

    /// Where in [`key_bytes`](Self::key_bytes) the key of that slot starts and ends.
    pub fn key_span(&self, slot: usize) -> (usize, usize) {
        self.span(self.layout.key_bounds, HEADER_SIZE_BYTES, slot)
    }

    /// Where in [`value_bytes`](Self::value_bytes) the value of that slot starts and ends.
    pub fn value_span(&self, slot: usize) -> (usize, usize) {
        let at = self.layout.value_bounds_at as usize;
        self.span(self.layout.value_bounds, at, slot)
    }

    /// The key in a slot; empty beyond the last.
    #[inline]
    pub fn key(&self, slot: usize) -> &'a [u8] {
        let (start, end) = self.key_span(slot);
        let at = self.layout.keys_at as usize;
        self.content.get(at + start..at + end).unwrap_or_default()
    }

    /// The value in a slot; `None` for a tombstone.
    #[inline]
    pub fn value(&self, slot: usize) -> Option<&'a [u8]> {
        (!self.is_tombstone(slot)).then(|| self.live_value(slot))
    }

    /// The value in a slot that is known to hold no tombstone.
    #[inline]
    pub(crate) fn live_value(&self, slot: usize) -> &'a [u8] {
        let (start, end) = self.value_span(slot);
        let at = self.layout.values_at as usize;
        self.content.get(at + start..at + end).unwrap_or_default()
    }

    /// Uses a byte of the key and the ends of the value in a slot, to have them loaded; in few instructions, so that many
    /// of these are under way at once.
    #[inline]
    pub(crate) fn touch(&self, slot: usize) -> u8 {
        let byte = |at: usize| self.content.get(at).copied().unwrap_or(0);
        let (key_start, _) = self.key_span(slot);
        let (value_start, value_end) = self.value_span(slot);
        let values_at = self.layout.values_at as usize;
        byte(self.layout.keys_at as usize + key_start)
            ^ byte(values_at + value_start)
            ^ byte((values_at + value_end).saturating_sub(1))
    }

    /// Uses a byte of each line of the keys, to have them loaded before they are searched.
    #[inline]
    pub(crate) fn touch_keys(&self) -> u8 {
        let keys = self.key_bytes();
        let keys = keys.get(..TOUCHED_KEY_BYTES_MAX).unwrap_or(keys);
        let lines = keys.iter().step_by(LINE_SIZE_BYTES);
        lines.fold(0, |sum, byte| sum ^ byte)
    }

    /// Uses a byte of each line of the values from a slot on, so many bytes of them, to have them loaded at once.
    #[inline]
    pub(crate) fn touch_values(&self, slot: usize, size_bytes: usize) -> u8 {
        let (start, _) = self.value_span(slot);
        let values = self.value_bytes().get(start..).unwrap_or_default();
        let values = values.get(..size_bytes).unwrap_or(values);
        let lines = values.iter().step_by(LINE_SIZE_BYTES);
        lines.fold(0, |sum, byte| sum ^ byte)
    }

    /// The row in a slot; `None` beyond the last.
    #[inline]
    pub fn get(&self, slot: usize) -> Option<RowRef<'a>> {
        (slot < self.row_count()).then(|| RowRef {
            key: self.key(slot),
            value: self.value(slot),
        })
    }

    /// The first slot whose key is not below the given one; the number of rows if there is none.
    pub fn lower_bound(&self, key: &[u8]) -> usize {
        let prefix = prefix_of(key);
        let (mut low, mut high) = (0, self.row_count());
        while low < high {
            let middle = low.midpoint(high);
            let found = self.key(middle);
            // The first bytes mostly decide, and cost no call.
            let order = prefix_of(found).cmp(&prefix);
            if order.then_with(|| found.cmp(key)).is_lt() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The rows in key order, from either end.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = RowRef<'a>> + ExactSizeIterator + use<'a> {
        (0..self.row_count()).map(move |slot| RowRef {
            key: self.key(slot),
            value: self.value(slot),
        })
    }

    /// Whether any of them is a tombstone.
    #[inline]
    pub fn has_tombstones(&self) -> bool {
        self.layout.tombstones
    }

    /// Whether the row in a slot is a tombstone.
    #[inline]
    pub fn is_tombstone(&self, slot: usize) -> bool {
        self.layout.tombstones && {
            let at = self.layout.keys_at as usize - self.row_count().div_ceil(8);
            self.content
                .get(at + slot / 8)
                .is_some_and(|byte| byte >> (slot % 8) & 1 == 1)
        }
    }

    #[inline]
    fn span(&self, bounds: Bounds, at: usize, slot: usize) -> (usize, usize) {
        match bounds {
            Bounds::Fixed(len) => (slot * len as usize, (slot + 1) * len as usize),
            Bounds::Narrow => match self.chunk::<4>(at + slot * 2) {
                [a, b, c, d] => (
                    u16::from_le_bytes([a, b]).into(),
                    u16::from_le_bytes([c, d]).into(),
                ),
            },
            Bounds::Wide => match self.chunk::<8>(at + slot * 4) {
                [a, b, c, d, e, f, g, h] => (
                    u32::from_le_bytes([a, b, c, d]) as usize,
                    u32::from_le_bytes([e, f, g, h]) as usize,
                ),
            },
        }
    }

    #[inline]
    fn chunk<const N: usize>(&self, at: usize) -> [u8; N] {
        self.content
            .get(at..)
            .and_then(|rest| rest.first_chunk::<N>())
            .copied()
            .unwrap_or([0; N])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::rows_page_builder::RowsPageBuilder;
    use super::*;

    type Model = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

    fn encode(rows: &Model) -> Vec<u8> {
        let mut builder = RowsPageBuilder::default();
        for (key, value) in rows {
            builder.push(RowRef {
                key,
                value: value.as_deref(),
            });
        }
        assert!(
            builder
                .rows()
                .map(|row| (row.key.to_vec(), row.value.map(<[u8]>::to_vec)))
                .eq(rows.clone())
        );
        let mut content = Vec::new();
        builder.encode(&mut content);
        content
    }

    fn models() -> impl Strategy<Value = Model> {
        let bytes = |len| prop::collection::vec(prop::sample::select(vec![0u8, 1, 255]), len);
        let varied = prop::collection::btree_map(
            bytes(0..9),
            prop::option::weighted(0.8, bytes(0..200)),
            0..50,
        );
        let fixed = prop::collection::btree_map(bytes(8..9), bytes(30..31).prop_map(Some), 1..50);
        let huge = prop::collection::btree_map(
            bytes(0..3),
            prop::option::weighted(0.9, bytes(20_000..40_000)),
            1..5,
        );
        prop_oneof![6 => varied, 3 => fixed, 1 => huge]
    }

    fn keep_all(view: RowsView<'_>) -> usize {
        view.iter()
            .map(|row| row.key.len() + row.value.map_or(0, <[u8]>::len))
            .sum()
    }

    proptest! {
        #[test]
        fn rows_round_trip(rows in models(), probe in prop::collection::vec(prop::sample::select(vec![0u8, 1, 255]), 0..9)) {
            let content = encode(&rows);
            if rows.is_empty() {
                // The writer makes no page without rows.
                return Ok(());
            }
            let view = RowsView::new(&content, RowsLayout::decode(&content).unwrap());
            prop_assert_eq!(view.row_count(), rows.len());
            let expected: Vec<_> = rows.iter().map(|(key, value)| RowRef { key, value: value.as_deref() }).collect();
            prop_assert!(view.iter().eq(expected.iter().copied()));
            prop_assert!(view.iter().rev().eq(expected.iter().rev().copied()));
            prop_assert_eq!(view.get(rows.len()), None);
            prop_assert_eq!(view.lower_bound(&probe), rows.range(..probe.clone()).count());
            for (slot, row) in expected.iter().enumerate() {
                prop_assert_eq!(view.get(slot), Some(*row));
                prop_assert_eq!(view.lower_bound(row.key), slot);
                let (start, end) = view.value_span(slot);
                prop_assert_eq!(&view.value_bytes()[start..end], row.value.unwrap_or_default());
                let (start, end) = view.key_span(slot);
                prop_assert_eq!(&view.key_bytes()[start..end], row.key);
            }
            let keys: Vec<u8> = rows.keys().flatten().copied().collect();
            prop_assert_eq!(view.key_bytes(), &keys[..]);
        }

        #[test]
        fn damaged_content_is_refused_or_read_without_a_panic(
            rows in models(), position: prop::sample::Index, byte: u8, cut: prop::sample::Index,
        ) {
            let mut content = encode(&rows);
            let whole = content.len();
            *position.get_mut(&mut content) = byte;
            if let Ok(layout) = RowsLayout::decode(&content) {
                prop_assert!(keep_all(RowsView::new(&content, layout)) <= whole);
            }
            content.truncate(cut.index(whole));
            if let Ok(layout) = RowsLayout::decode(&content) {
                keep_all(RowsView::new(&content, layout));
            }
        }
    }

    #[test]
    fn rows_of_one_length_need_no_bounds() {
        let rows = (0..32u8)
            .map(|i| (vec![i; 16], Some(vec![i; 100])))
            .collect();
        assert_eq!(encode(&rows).len(), HEADER_SIZE_BYTES + 32 * 116);
    }
}
