//! Texts and bytes of any length.

use std::ops::Range;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_schema::DataType;
use parquet::basic::Encoding;
use parquet::data_type::ByteArray;
use parquet::errors::Result;
use xxhash_rust::xxh3::xxh3_64;

use super::bloom::BloomFilter;
use super::dictionary::{DICTIONARY_SIZE_BYTES_MAX, Slots};
use super::levels::put_numbers;
use super::page::{PAGE_SIZE_BYTES_MAX, PageEnd};
use super::values::{PageOrder, other_type, statistics};
use super::{ChunkEnd, EncodeValues};
use crate::metrics::{raised_bytes, raised_text};

/// Longest bound of a page or a chunk, in bytes.
const BOUND_SIZE_BYTES_MAX: usize = 64;

/// A dictionary of texts, as they stand in its page: each behind its length.
#[derive(Default)]
struct TextDictionary {
    slots: Slots,
    bytes: Vec<u8>,
    /// Where each text is.
    spans: Vec<Range<usize>>,
    /// Whether each is in the page.
    is_in_page: Vec<bool>,
}

impl TextDictionary {
    #[inline]
    fn number(&mut self, text: &[u8]) -> u32 {
        let (bytes, spans) = (&self.bytes, &self.spans);
        let is_it = |number: u32| {
            let span = spans.get(number as usize).cloned();
            span.and_then(|span| bytes.get(span)) == Some(text)
        };
        let (number, is_new) = self.slots.number(xxh3_64(text), is_it);
        if is_new {
            put_plain(&mut self.bytes, text);
            let end = self.bytes.len();
            self.spans.push(end - text.len()..end);
            self.is_in_page.push(true);
        } else if let Some(is_in_page) = self.is_in_page.get_mut(number as usize) {
            *is_in_page = true;
        }
        number
    }

    /// Ends a page: takes the bounds of the texts that are in it.
    fn end_page(&mut self, bounds: &mut Bounds) {
        for (is_in_page, span) in self.is_in_page.iter_mut().zip(&self.spans) {
            if std::mem::take(is_in_page) {
                bounds.add(self.bytes.get(span.clone()).unwrap_or_default());
            }
        }
    }

    fn is_full(&self) -> bool {
        self.bytes.len() > DICTIONARY_SIZE_BYTES_MAX
    }
}

/// Appends a text behind its length.
#[inline]
fn put_plain(out: &mut Vec<u8>, text: &[u8]) {
    // A text is part of a batch, whose offsets have 31 bits.
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text);
}

/// The least and the greatest of some texts, in memory that is used again.
#[derive(Clone, Default)]
struct Bounds {
    is_known: bool,
    least: Vec<u8>,
    greatest: Vec<u8>,
    /// What both begin with.
    least_prefix: u64,
    greatest_prefix: u64,
}

/// The first eight bytes as a number: of two texts whose numbers differ, the one with the smaller number is less.
#[inline]
fn prefix_of(text: &[u8]) -> u64 {
    match text.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => text
            .iter()
            .zip((0..8).rev())
            .fold(0, |prefix, (byte, place)| {
                prefix | u64::from(*byte) << (place * 8)
            }),
    }
}

impl Bounds {
    #[inline]
    fn add(&mut self, text: &[u8]) {
        let prefix = prefix_of(text);
        if prefix > self.least_prefix && prefix < self.greatest_prefix {
            return;
        }
        self.add_at_edge(prefix, text);
    }

    fn add_at_edge(&mut self, prefix: u64, text: &[u8]) {
        if !self.is_known || text < self.least.as_slice() {
            self.least_prefix = prefix;
            self.least.clear();
            self.least.extend_from_slice(text);
        }
        if !self.is_known || text > self.greatest.as_slice() {
            self.greatest_prefix = prefix;
            self.greatest.clear();
            self.greatest.extend_from_slice(text);
        }
        self.is_known = true;
    }

    /// Adds the bounds of others.
    fn join(&mut self, others: &Bounds) {
        if others.is_known {
            self.add(&others.least);
            self.add(&others.greatest);
        }
    }

    /// Both, cut off where they are too long, if they are known.
    fn shortened(&self, is_text: bool) -> Option<(Vec<u8>, Vec<u8>)> {
        self.is_known.then(|| {
            (
                least_shortened(&self.least, is_text),
                greatest_shortened(&self.greatest, is_text),
            )
        })
    }
}

/// The first bytes, no character of a text cut in two.
fn head(bytes: &[u8], is_text: bool) -> &[u8] {
    let head = bytes.get(..BOUND_SIZE_BYTES_MAX).unwrap_or(bytes);
    match std::str::from_utf8(head) {
        Err(error) if is_text => head.get(..error.valid_up_to()).unwrap_or_default(),
        _ => head,
    }
}

fn least_shortened(bytes: &[u8], is_text: bool) -> Vec<u8> {
    head(bytes, is_text).to_vec()
}

/// The first bytes, raised; all if that can't be.
fn greatest_shortened(bytes: &[u8], is_text: bool) -> Vec<u8> {
    if bytes.len() <= BOUND_SIZE_BYTES_MAX {
        return bytes.to_vec();
    }
    let head = head(bytes, is_text);
    let raised = match std::str::from_utf8(head) {
        Ok(text) if is_text => raised_text(text.chars().collect()).map(String::into_bytes),
        _ => raised_bytes(head.to_vec()),
    };
    raised.unwrap_or_else(|| bytes.to_vec())
}

/// Texts on their way into pages.
#[derive(Default)]
pub(super) struct Texts {
    has_dictionary: bool,
    dictionary: Option<TextDictionary>,
    /// Whether it takes more values.
    is_open: bool,
    is_text: bool,
    /// The page's values, by their numbers.
    indices: Vec<u32>,
    text_bytes: i64,
    page_bounds: Bounds,
    last_bounds: Bounds,
    chunk_bounds: Bounds,
    order: PageOrder,
}

impl Texts {
    pub(super) fn new(has_dictionary: bool) -> Self {
        Texts {
            has_dictionary,
            dictionary: has_dictionary.then(TextDictionary::default),
            is_open: has_dictionary,
            ..Texts::default()
        }
    }

    fn take_text(
        &mut self,
        text: &[u8],
        page: &mut Vec<u8>,
        bloom_filter: Option<&mut BloomFilter>,
    ) {
        self.text_bytes += text.len() as i64;
        if let Some(filter) = bloom_filter {
            filter.insert(text);
        }
        match &mut self.dictionary {
            Some(dictionary) if self.is_open => self.indices.push(dictionary.number(text)),
            _ => {
                self.page_bounds.add(text);
                put_plain(page, text);
            }
        }
    }
}

impl EncodeValues for Texts {
    fn take(
        &mut self,
        column: &dyn Array,
        rows: Range<usize>,
        page: &mut Vec<u8>,
        mut bloom_filter: Option<&mut BloomFilter>,
    ) -> Result<usize> {
        self.is_text = *column.data_type() == DataType::Utf8;
        let (offsets, data) = match column.as_string_opt::<i32>() {
            Some(texts) => (texts.value_offsets(), texts.value_data()),
            None => {
                let bytes = column.as_binary_opt::<i32>();
                let bytes = bytes.ok_or_else(|| other_type(column))?;
                (bytes.value_offsets(), bytes.value_data())
            }
        };
        let nulls = column
            .nulls()
            .map(|nulls| nulls.slice(rows.start, rows.len()));
        let ends = offsets.get(rows.start + 1..=rows.end).unwrap_or_default();
        let starts = offsets.get(rows).unwrap_or_default();
        for (row, (start, end)) in starts.iter().zip(ends).enumerate() {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            // Offsets of an array ascend and are not negative.
            let text = data.get(*start as usize..*end as usize).unwrap_or_default();
            self.take_text(text, page, bloom_filter.as_deref_mut());
            if self.is_full(page) {
                return Ok(row + 1);
            }
        }
        Ok(starts.len())
    }

    fn is_full(&self, page: &[u8]) -> bool {
        let dictionary = self.dictionary.as_ref().filter(|_| self.is_open);
        page.len() >= PAGE_SIZE_BYTES_MAX || dictionary.is_some_and(TextDictionary::is_full)
    }

    fn end_page(&mut self, page: &mut Vec<u8>) -> PageEnd {
        let mut encoding = Encoding::PLAIN;
        if let Some(dictionary) = self.dictionary.as_mut().filter(|_| self.is_open) {
            encoding = Encoding::RLE_DICTIONARY;
            dictionary.end_page(&mut self.page_bounds);
            put_numbers(page, &self.indices, dictionary.slots.number_bits());
            self.is_open = !dictionary.is_full();
            self.indices.clear();
        }
        let bounds = &mut self.page_bounds;
        let shortened = bounds.shortened(self.is_text);
        if bounds.is_known {
            let last = &self.last_bounds;
            if last.is_known {
                let is_below = bounds.least < last.least || bounds.greatest < last.greatest;
                let is_above = bounds.least > last.least || bounds.greatest > last.greatest;
                self.order.add(is_below, is_above);
            }
            self.chunk_bounds.join(bounds);
            std::mem::swap(bounds, &mut self.last_bounds);
            bounds.is_known = false;
            (bounds.least_prefix, bounds.greatest_prefix) = (0, 0);
        }
        PageEnd {
            encoding,
            bounds: shortened,
            text_bytes: Some(std::mem::take(&mut self.text_bytes)),
        }
    }

    fn end_chunk(&mut self, null_count: u64) -> ChunkEnd {
        let next = Texts {
            indices: std::mem::take(&mut self.indices),
            ..Texts::new(self.has_dictionary)
        };
        let ended = std::mem::replace(self, next);
        let bounds = ended.chunk_bounds;
        let (least, greatest) = bounds.shortened(ended.is_text).unzip();
        let is_exact = |exact: &[u8], bound: &Option<Vec<u8>>| bound.as_deref() == Some(exact);
        let (least_is_exact, greatest_is_exact) = (
            is_exact(&bounds.least, &least),
            is_exact(&bounds.greatest, &greatest),
        );
        let bounds = (least.map(ByteArray::from), greatest.map(ByteArray::from));
        let statistics = statistics(bounds, null_count, false)
            .with_min_is_exact(least_is_exact)
            .with_max_is_exact(greatest_is_exact);
        let dictionary = ended.dictionary;
        ChunkEnd {
            dictionary: dictionary.map(|one| (one.bytes, one.slots.count())),
            statistics: statistics.into(),
            boundary_order: ended.order.boundary_order(),
        }
    }
}
