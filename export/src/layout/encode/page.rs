//! Pages of a chunk: levels and values, compressed, behind a header; and what Parquet says of pages and of the chunk.

use std::sync::Arc;

use arrow_array::Array;
use arrow_buffer::BooleanBufferBuilder;
use parquet::basic::{Compression, Encoding, EncodingMask, PageType, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{
    ColumnChunkMetaData, ColumnIndexBuilder, LevelHistogram, OffsetIndexBuilder, PageEncodingStats,
};
use parquet::schema::types::ColumnDescriptor;
use zstd::bulk::Compressor;

use super::ChunkEnd;
use super::levels::{put_levels, put_varint};

/// A page ends when it has so many rows, or about so many bytes.
pub(super) const PAGE_ROWS_MAX: usize = 20_000;
pub(super) const PAGE_SIZE_BYTES_MAX: usize = 1 << 20;

/// Where compression saved less than one part of so many, the next chunk of the column goes without; there one page of some is
/// compressed to see whether that is still so.
const SAVED_SHARE: usize = 16;
const TRIED_PAGES: usize = 16;

/// Room for levels before the values of a page, which are put in once all are known.
const LEVELS_ROOM: usize = PAGE_ROWS_MAX / 8 + 16;

/// What the values of a page come to.
pub(super) struct PageEnd {
    pub(super) encoding: Encoding,
    /// The least and the greatest, as the page index has them; `None` if they have no order.
    pub(super) bounds: Option<(Vec<u8>, Vec<u8>)>,
    /// Bytes of texts alone.
    pub(super) text_bytes: Option<i64>,
}

/// A page that is done.
struct Done {
    offset: i64,
    size_bytes: i32,
    row_count: i64,
    encoding: Encoding,
    text_bytes: Option<i64>,
}

/// The pages of a chunk.
pub(super) struct Pages {
    descriptor: Arc<ColumnDescriptor>,
    is_nullable: bool,
    compressor: Compressor<'static>,
    /// Room for levels, and the values of the page that is being filled.
    content: Vec<u8>,
    /// Whether each of its rows has a value; only where some may have none.
    present: BooleanBufferBuilder,
    row_count: usize,
    null_count: usize,
    compressed: Vec<u8>,
    /// The pages that are done, and those without values among them.
    bytes: Vec<u8>,
    done: Vec<Done>,
    index: ColumnIndexBuilder,
    uncompressed_bytes: i64,
    chunk_rows: i64,
    chunk_nulls: u64,
    /// The page of the dictionary of the chunk that was closed.
    dictionary: Vec<u8>,
    /// Whether the bytes are of a chunk that was closed.
    is_closed: bool,
    /// Whether pages are compressed in this chunk.
    is_compressed: bool,
    /// Bytes of pages that were, and what became of them.
    tried: (usize, usize),
}

impl Pages {
    pub(super) fn new(descriptor: Arc<ColumnDescriptor>) -> Result<Self> {
        let level = ZstdLevel::default().compression_level();
        Ok(Pages {
            is_nullable: descriptor.max_def_level() > 0,
            index: ColumnIndexBuilder::new(descriptor.physical_type()),
            compressor: Compressor::new(level)?,
            content: vec![0; LEVELS_ROOM],
            present: BooleanBufferBuilder::new(0),
            row_count: 0,
            null_count: 0,
            compressed: Vec::new(),
            bytes: Vec::new(),
            done: Vec::new(),
            uncompressed_bytes: 0,
            chunk_rows: 0,
            chunk_nulls: 0,
            dictionary: Vec::new(),
            is_closed: false,
            is_compressed: true,
            tried: (0, 0),
            descriptor,
        })
    }

    /// Where the values of the page go: behind what is in it.
    pub(super) fn values(&mut self) -> &mut Vec<u8> {
        &mut self.content
    }

    /// How many rows the page has so far.
    pub(super) fn row_count(&self) -> usize {
        self.row_count
    }

    /// How many rows of the chunk have no value.
    pub(super) fn null_count(&self) -> u64 {
        self.chunk_nulls
    }

    pub(super) fn encoded_bytes(&self) -> usize {
        let done = if self.is_closed { 0 } else { self.bytes.len() };
        done + self.content.len()
    }

    /// Notes which of the rows that the page took have values.
    pub(super) fn add_rows(
        &mut self,
        column: &dyn Array,
        rows: std::ops::Range<usize>,
    ) -> Result<()> {
        let count = rows.len();
        match column.nulls() {
            Some(nulls) if self.is_nullable => {
                let nulls = nulls.slice(rows.start, count);
                self.present.append_buffer(nulls.inner());
                self.null_count += nulls.null_count();
            }
            Some(nulls) if nulls.null_count() > 0 => {
                let name = self.descriptor.name();
                return Err(ParquetError::General(format!("column '{name}' has a null")));
            }
            _ if self.is_nullable => self.present.append_n(count, true),
            _ => {}
        }
        self.row_count += count;
        Ok(())
    }

    /// Ends the page.
    pub(super) fn end(&mut self, end: PageEnd) -> Result<()> {
        if std::mem::take(&mut self.is_closed) {
            self.bytes.clear();
            self.dictionary.clear();
        }
        let start = self.put_levels();
        let plain = self.content.get(start..).unwrap_or_default();
        if self.is_compressed || self.done.len().is_multiple_of(TRIED_PAGES) {
            compress(&mut self.compressor, plain, &mut self.compressed)?;
            self.tried.0 += plain.len();
            self.tried.1 += self.compressed.len();
        }
        let stored = match self.is_compressed {
            true => &self.compressed,
            false => plain,
        };
        let offset = self.bytes.len();
        let header = DataPage {
            row_count: self.row_count,
            encoding: end.encoding,
        };
        let sizes = (plain.len(), stored.len());
        put_header(&mut self.bytes, sizes, Header::Data(header));
        let header_bytes = self.bytes.len() - offset;
        self.bytes.extend_from_slice(stored);
        self.uncompressed_bytes += (plain.len() + header_bytes) as i64;
        self.add_to_index(end.bounds);
        self.done.push(Done {
            offset: offset as i64,
            size_bytes: i32::try_from(self.bytes.len() - offset).map_err(too_large)?,
            row_count: self.row_count as i64,
            encoding: end.encoding,
            text_bytes: end.text_bytes,
        });
        self.chunk_rows += self.row_count as i64;
        self.chunk_nulls += self.null_count as u64;
        self.present.truncate(0);
        self.content.truncate(LEVELS_ROOM);
        (self.row_count, self.null_count) = (0, 0);
        Ok(())
    }

    /// Puts the levels right before the values; where they begin.
    fn put_levels(&mut self) -> usize {
        if !self.is_nullable {
            return LEVELS_ROOM;
        }
        let mut levels = Vec::with_capacity(LEVELS_ROOM);
        let present = self.present.as_slice();
        put_levels(&mut levels, present, self.row_count, self.null_count);
        let start = LEVELS_ROOM.saturating_sub(levels.len());
        if let Some(place) = self.content.get_mut(start..start + levels.len()) {
            place.copy_from_slice(&levels);
        }
        start
    }

    fn add_to_index(&mut self, bounds: Option<(Vec<u8>, Vec<u8>)>) {
        if !self.index.valid() {
            return;
        }
        let is_null = self.null_count == self.row_count;
        match bounds {
            Some((least, greatest)) => {
                let nulls = self.null_count as i64;
                self.index.append(false, least, greatest, nulls);
            }
            None if is_null => {
                let nothing = Vec::new;
                self.index
                    .append(true, nothing(), nothing(), self.null_count as i64);
            }
            None => self.index.to_invalid(),
        }
        let levels = self.histogram(self.null_count as u64, self.row_count as u64);
        self.index.append_histograms(&None, &levels);
    }

    /// How many rows have each level, where there are levels.
    fn histogram(&self, null_count: u64, row_count: u64) -> Option<LevelHistogram> {
        let counts = || vec![null_count as i64, (row_count - null_count) as i64];
        self.is_nullable.then(|| counts().into())
    }

    /// Ends the chunk, and begins another.
    pub(super) fn close(&mut self, end: ChunkEnd) -> Result<ColumnCloseResult> {
        self.is_closed = true;
        let codec = self.codec();
        if let Some((values, count)) = &end.dictionary {
            self.put_dictionary(values, *count)?;
        }
        let dictionary_bytes = self.dictionary.len() as i64;
        let chunk_bytes = dictionary_bytes + self.bytes.len() as i64;
        let done = std::mem::take(&mut self.done);
        let has_dictionary = end.dictionary.is_some();
        let metadata = ColumnChunkMetaData::builder(self.descriptor.clone())
            .set_compression(codec)
            .set_encodings_mask(encodings(&done, has_dictionary))
            .set_page_encoding_stats(encoding_counts(&done, has_dictionary))
            .set_total_compressed_size(chunk_bytes)
            .set_total_uncompressed_size(std::mem::take(&mut self.uncompressed_bytes))
            .set_num_values(self.chunk_rows)
            .set_data_page_offset(dictionary_bytes)
            .set_dictionary_page_offset(has_dictionary.then_some(0))
            .set_statistics(end.statistics)
            .set_unencoded_byte_array_data_bytes(done.iter().map(|page| page.text_bytes).sum())
            .set_definition_level_histogram(
                self.histogram(self.chunk_nulls, self.chunk_rows as u64),
            )
            .build()?;
        let mut offsets = OffsetIndexBuilder::new();
        for page in &done {
            offsets.append_row_count(page.row_count);
            offsets.append_offset_and_size(page.offset + dictionary_bytes, page.size_bytes);
            offsets.append_unencoded_byte_array_data_bytes(page.text_bytes);
        }
        let next = ColumnIndexBuilder::new(self.descriptor.physical_type());
        let mut index = std::mem::replace(&mut self.index, next);
        index.set_boundary_order(end.boundary_order);
        self.chunk_nulls = 0;
        let (plain, compressed) = std::mem::take(&mut self.tried);
        self.is_compressed = plain - plain / SAVED_SHARE >= compressed;
        Ok(ColumnCloseResult {
            bytes_written: chunk_bytes as u64,
            rows_written: std::mem::take(&mut self.chunk_rows) as u64,
            metadata,
            bloom_filter: None,
            column_index: index.valid().then(|| index.build()).transpose()?,
            offset_index: Some(offsets.build()),
        })
    }

    fn codec(&self) -> Compression {
        match self.is_compressed {
            true => Compression::ZSTD(ZstdLevel::default()),
            false => Compression::UNCOMPRESSED,
        }
    }

    fn put_dictionary(&mut self, values: &[u8], value_count: u32) -> Result<()> {
        let stored = match self.is_compressed {
            true => {
                compress(&mut self.compressor, values, &mut self.compressed)?;
                &self.compressed
            }
            false => values,
        };
        let sizes = (values.len(), stored.len());
        put_header(&mut self.dictionary, sizes, Header::Dictionary(value_count));
        self.uncompressed_bytes += (values.len() + self.dictionary.len()) as i64;
        self.dictionary.extend_from_slice(stored);
        Ok(())
    }

    /// The dictionary's page and the others of the chunk that was closed.
    pub(super) fn closed_bytes(&self) -> (&[u8], &[u8]) {
        (&self.dictionary, &self.bytes)
    }
}

fn encodings(done: &[Done], has_dictionary: bool) -> EncodingMask {
    let of_dictionary = has_dictionary.then_some(&Encoding::PLAIN);
    let of_pages = done.iter().map(|page| &page.encoding);
    EncodingMask::new_from_encodings(
        [&Encoding::RLE]
            .into_iter()
            .chain(of_dictionary)
            .chain(of_pages),
    )
}

fn encoding_counts(done: &[Done], has_dictionary: bool) -> Vec<PageEncodingStats> {
    let dictionary = has_dictionary.then_some(PageEncodingStats {
        page_type: PageType::DICTIONARY_PAGE,
        encoding: Encoding::PLAIN,
        count: 1,
    });
    let runs = done.chunk_by(|a, b| a.encoding == b.encoding);
    let pages = runs.filter_map(|run| {
        Some(PageEncodingStats {
            page_type: PageType::DATA_PAGE,
            encoding: run.first()?.encoding,
            count: i32::try_from(run.len()).unwrap_or(i32::MAX),
        })
    });
    dictionary.into_iter().chain(pages).collect()
}

/// Compresses into a buffer that is used again.
fn compress(
    compressor: &mut Compressor<'static>,
    plain: &[u8],
    compressed: &mut Vec<u8>,
) -> Result<()> {
    compressed.clear();
    compressed.reserve(zstd::zstd_safe::compress_bound(plain.len()));
    compressor.compress_to_buffer(plain, compressed)?;
    Ok(())
}

fn too_large(error: std::num::TryFromIntError) -> ParquetError {
    ParquetError::General(format!("a page is too large: {error}"))
}

struct DataPage {
    row_count: usize,
    encoding: Encoding,
}

enum Header {
    Data(DataPage),
    /// With so many values.
    Dictionary(u32),
}

/// Types of fields in Thrift's compact protocol.
const I32: u8 = 5;
const STRUCT: u8 = 12;

/// Appends the header of a page of so many bytes, plain and compressed: a `PageHeader` of parquet.thrift in Thrift's compact protocol.
fn put_header(out: &mut Vec<u8>, (plain, compressed): (usize, usize), header: Header) {
    let number = |out: &mut Vec<u8>, step: u8, number: u64| {
        out.push(step << 4 | I32);
        // Zigzag, of a number that is not negative.
        put_varint(out, number << 1);
    };
    let (page_type, field) = match header {
        Header::Data(_) => (PageType::DATA_PAGE, 5),
        Header::Dictionary(_) => (PageType::DICTIONARY_PAGE, 7),
    };
    number(out, 1, page_type as u64);
    number(out, 1, plain as u64);
    number(out, 1, compressed as u64);
    out.push((field - 3) << 4 | STRUCT);
    match header {
        Header::Data(page) => {
            number(out, 1, page.row_count as u64);
            number(out, 1, page.encoding as u64);
            number(out, 1, Encoding::RLE as u64);
            number(out, 1, Encoding::RLE as u64);
        }
        Header::Dictionary(value_count) => {
            number(out, 1, value_count.into());
            number(out, 1, Encoding::PLAIN as u64);
        }
    }
    // The ends of both structs.
    out.extend([0, 0]);
}
