//! Truth values.

use std::ops::Range;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_buffer::BooleanBufferBuilder;
use parquet::basic::Encoding;
use parquet::errors::Result;

use super::bloom::BloomFilter;
use super::page::PageEnd;
use super::values::{PageOrder, other_type, statistics};
use super::{ChunkEnd, EncodeValues};

/// Truth values on their way into pages: a bit each.
#[derive(Default)]
pub(super) struct Booleans {
    bits: Option<BooleanBufferBuilder>,
    page: Seen,
    last: Option<(bool, bool)>,
    chunk: Seen,
    order: PageOrder,
}

/// Which of the two values came.
#[derive(Clone, Copy, Default)]
struct Seen {
    no: bool,
    yes: bool,
}

impl Seen {
    fn bounds(self) -> Option<(bool, bool)> {
        (self.no || self.yes).then_some((!self.no, self.yes))
    }
}

impl EncodeValues for Booleans {
    fn take(
        &mut self,
        column: &dyn Array,
        rows: Range<usize>,
        _page: &mut Vec<u8>,
        _bloom_filter: Option<&mut BloomFilter>,
    ) -> Result<usize> {
        let count = rows.len();
        let column = column.as_boolean_opt().ok_or_else(|| other_type(column))?;
        let values = column.values().slice(rows.start, count);
        let bits = self
            .bits
            .get_or_insert_with(|| BooleanBufferBuilder::new(0));
        let before = bits.len();
        match column.nulls() {
            None => bits.append_buffer(&values),
            Some(nulls) => {
                let nulls = nulls.slice(rows.start, count);
                let both = values.iter().zip(nulls.iter());
                both.filter(|(_, is_valid)| *is_valid)
                    .for_each(|(value, _)| bits.append(value));
            }
        }
        let taken = before..bits.len();
        self.page.yes |= taken.clone().any(|place| bits.get_bit(place));
        self.page.no |= taken.into_iter().any(|place| !bits.get_bit(place));
        Ok(count)
    }

    fn is_full(&self, _page: &[u8]) -> bool {
        false
    }

    fn end_page(&mut self, page: &mut Vec<u8>) -> PageEnd {
        if let Some(bits) = &mut self.bits {
            page.extend_from_slice(bits.as_slice());
            bits.truncate(0);
        }
        let seen = std::mem::take(&mut self.page);
        self.chunk.no |= seen.no;
        self.chunk.yes |= seen.yes;
        let bounds = seen.bounds();
        if let (Some(last), Some(next)) = (self.last, bounds) {
            let is_below = (last.0 && !next.0) || (last.1 && !next.1);
            let is_above = (!last.0 && next.0) || (!last.1 && next.1);
            self.order.add(is_below, is_above);
        }
        self.last = bounds.or(self.last);
        let byte = |value: bool| vec![u8::from(value)];
        PageEnd {
            encoding: Encoding::PLAIN,
            bounds: bounds.map(|(least, greatest)| (byte(least), byte(greatest))),
            text_bytes: None,
        }
    }

    fn end_chunk(&mut self, null_count: u64) -> ChunkEnd {
        let ended = std::mem::take(self);
        ChunkEnd {
            dictionary: None,
            statistics: statistics(ended.chunk.bounds().unzip(), null_count, true).into(),
            boundary_order: ended.order.boundary_order(),
        }
    }
}
