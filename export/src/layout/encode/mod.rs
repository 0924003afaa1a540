//! Column chunks of Parquet, encoded from Arrow's columns.
//!
//! A [`ChunkEncoder`] takes a column that is neither a list, a struct nor a map, piece by piece, and makes the chunks of one row
//! group after the other of it. `values`, `booleans` and `texts` take values of their physical types: their bounds, and their bytes,
//! or their numbers in a `dictionary`; those of keys go into a `bloom` filter. `levels` says which rows have a value, and packs
//! numbers. `page` compresses what a page holds, and puts pages and their indexes together.
//!
//! What other columns need, the writer of the `parquet` crate does. It allocates for each value of a column of fixed bytes, for each
//! page three times, and hashes each value of a dictionary; here memory is used again from page to page and from row group to row
//! group, and hashing costs no more than finding the value takes.

mod bloom;
mod booleans;
mod dictionary;
mod levels;
mod page;
mod texts;
mod values;

#[cfg(test)]
mod tests;

use std::io::{Chain, Read};
use std::sync::Arc;

use arrow_array::Array;
use arrow_schema::DataType;
use bytes::Bytes;
use parquet::basic::{BoundaryOrder, Type};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

pub(super) use bloom::BLOOM_FILTER_FPP;
use bloom::BloomFilter;
use booleans::Booleans;
use page::{PAGE_ROWS_MAX, PageEnd, Pages};
use texts::Texts;
use values::{Numbers, other_type};

/// What a chunk has beside its values.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkOptions {
    /// Whether values are told by their number in a dictionary, as long as that is small.
    pub(super) has_dictionary: bool,
    /// For how many different values there is a bloom filter, if there is one.
    pub(super) bloom_filter_values: Option<u64>,
}

/// Takes the values of one physical type into pages.
trait EncodeValues: Send {
    /// Takes values of some rows of a column, fewer if the page is full before; of how many rows.
    fn take(
        &mut self,
        column: &dyn Array,
        rows: std::ops::Range<usize>,
        page: &mut Vec<u8>,
        bloom_filter: Option<&mut BloomFilter>,
    ) -> Result<usize>;

    /// Whether the page has to end before it has the most rows.
    fn is_full(&self, page: &[u8]) -> bool;

    /// Ends a page, whose bytes get what is not in them yet.
    fn end_page(&mut self, page: &mut Vec<u8>) -> PageEnd;

    /// Ends a chunk, and begins another: the values of the dictionary as they stand in its page, and how many.
    fn end_chunk(&mut self, null_count: u64) -> ChunkEnd;
}

/// What the values of a chunk come to.
struct ChunkEnd {
    dictionary: Option<(Vec<u8>, u32)>,
    statistics: Statistics,
    boundary_order: BoundaryOrder,
}

/// Encodes the chunks of one column, row group after row group.
pub(super) struct ChunkEncoder {
    values: Box<dyn EncodeValues>,
    pages: Pages,
    options: ChunkOptions,
    data_type: DataType,
    bloom_filter: Option<BloomFilter>,
}

impl ChunkEncoder {
    /// For a column of that type; `None` if its values are not encoded here.
    pub(super) fn new(
        descriptor: &Arc<ColumnDescriptor>,
        data_type: &DataType,
        options: ChunkOptions,
    ) -> Result<Option<Self>> {
        use DataType as D;
        if descriptor.max_rep_level() > 0 || descriptor.max_def_level() > 1 {
            return Ok(None);
        }
        let dictionary = options.has_dictionary;
        let values: Box<dyn EncodeValues> = match (descriptor.physical_type(), data_type) {
            (Type::BOOLEAN, D::Boolean) => Box::new(Booleans::default()),
            (Type::INT32, D::Int32 | D::Date32 | D::Decimal128(..)) => {
                Box::new(Numbers::<i32>::new(dictionary))
            }
            (Type::INT64, D::Int64 | D::Time64(_) | D::Timestamp(..) | D::Decimal128(..)) => {
                Box::new(Numbers::<i64>::new(dictionary))
            }
            (Type::FLOAT, D::Float32) => Box::new(Numbers::<f32>::new(dictionary)),
            (Type::DOUBLE, D::Float64) => Box::new(Numbers::<f64>::new(dictionary)),
            (Type::FIXED_LEN_BYTE_ARRAY, D::FixedSizeBinary(16)) => {
                // Few of them are alike.
                Box::new(Numbers::<[u8; 16]>::new(false))
            }
            (Type::BYTE_ARRAY, D::Utf8 | D::Binary) => Box::new(Texts::new(dictionary)),
            _ => return Ok(None),
        };
        Ok(Some(ChunkEncoder {
            values,
            pages: Pages::new(descriptor.clone())?,
            bloom_filter: bloom_filter(options),
            data_type: data_type.clone(),
            options,
        }))
    }

    /// Takes the next rows.
    pub(super) fn write(&mut self, column: &dyn Array) -> Result<()> {
        if *column.data_type() != self.data_type {
            return Err(other_type(column));
        }
        let mut start = 0;
        while start < column.len() {
            let room = PAGE_ROWS_MAX.saturating_sub(self.pages.row_count());
            let end = column.len().min(start + room);
            let page = self.pages.values();
            let bloom_filter = self.bloom_filter.as_mut();
            let taken = self.values.take(column, start..end, page, bloom_filter)?;
            let is_full = self.values.is_full(page);
            self.pages.add_rows(column, start..start + taken)?;
            if is_full || self.pages.row_count() >= PAGE_ROWS_MAX {
                self.end_page()?;
            } else if taken == 0 {
                return Err(ParquetError::General("a page takes no more rows".into()));
            }
            start += taken;
        }
        Ok(())
    }

    fn end_page(&mut self) -> Result<()> {
        let end = self.values.end_page(self.pages.values());
        self.pages.end(end)
    }

    /// How many bytes the chunk has so far.
    pub(super) fn encoded_bytes(&self) -> usize {
        self.pages.encoded_bytes()
    }

    /// Ends a chunk. Its bytes are there until the next one is written.
    pub(super) fn close(&mut self) -> Result<ColumnCloseResult> {
        if self.pages.row_count() > 0 {
            self.end_page()?;
        }
        let end = self.values.end_chunk(self.pages.null_count());
        let mut closed = self.pages.close(end)?;
        closed.bloom_filter = self.bloom_filter.take().map(BloomFilter::finish);
        self.bloom_filter = bloom_filter(self.options);
        Ok(closed)
    }

    /// The bytes of the chunk that was closed last.
    pub(super) fn closed_bytes(&self) -> ChunkBytes<'_> {
        let (dictionary, pages) = self.pages.closed_bytes();
        ChunkBytes { dictionary, pages }
    }
}

fn bloom_filter(options: ChunkOptions) -> Option<BloomFilter> {
    options.bloom_filter_values.map(BloomFilter::new)
}

/// The bytes of a chunk.
pub(super) struct ChunkBytes<'a> {
    dictionary: &'a [u8],
    pages: &'a [u8],
}

impl Length for ChunkBytes<'_> {
    fn len(&self) -> u64 {
        (self.dictionary.len() + self.pages.len()) as u64
    }
}

impl<'a> ChunkReader for ChunkBytes<'a> {
    type T = Chain<&'a [u8], &'a [u8]>;

    /// They are read once, from their beginning.
    fn get_read(&self, start: u64) -> Result<Self::T> {
        match start {
            0 => Ok(self.dictionary.chain(self.pages)),
            _ => Err(ParquetError::General("a chunk is read as a whole".into())),
        }
    }

    fn get_bytes(&self, _start: u64, _length: usize) -> Result<Bytes> {
        Err(ParquetError::General("a chunk is read as a whole".into()))
    }
}
