//! Reading a data file some pages at a time: what of it is in memory at once is bounded, where a row group's columns would be
//! read whole otherwise.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use iceberg::io::FileRead;
use object_store::{OBJECT_STORE_COALESCE_DEFAULT, coalesce_ranges};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

/// What lies between two ranges of bytes is read along with them, up to this part of a window. Columns lie one behind the other in
/// a row group, so pages of all of them would bring the whole row group where more is read along.
const GAP_PARTS: u64 = 32;
/// Bytes at the end of a file that are read at once, since its metadata and the places of its pages mostly lie there.
const FOOTER_BYTES: usize = 512 << 10;
/// Dictionaries, and the pages in which one window ends and the next begins, are read once for each window. They are at most one of so
/// many parts of what is read.
const PARTS_READ_AGAIN: u64 = 4;

/// Rows of a file, all of one row group, that are read together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) row_group: usize,
    /// The positions of the row group's rows in the file.
    pub(super) group_rows: Range<u64>,
    /// Those of the window.
    pub(super) rows: Range<u64>,
}

/// Divides a file into windows of about `bytes_max` bytes of these columns, as they are stored.
pub(super) fn windows(
    metadata: &ParquetMetaData,
    columns: &ProjectionMask,
    bytes_max: u64,
) -> Vec<Window> {
    let mut windows = Vec::new();
    let mut start = 0_u64;
    for (row_group, group) in metadata.row_groups().iter().enumerate() {
        let row_count = u64::try_from(group.num_rows()).unwrap_or(0);
        let group_rows = start..start.saturating_add(row_count);
        let count =
            window_count(metadata, row_group, columns, bytes_max).clamp(1, row_count.max(1));
        let begin = |number: u64| group_rows.start + share(row_count, number, count);
        windows.extend((0..count).map(|number| Window {
            row_group,
            group_rows: group_rows.clone(),
            rows: begin(number)..begin(number + 1),
        }));
        start = group_rows.end;
    }
    windows
}

/// `number` parts of `all`, of which there are `count`.
fn share(all: u64, number: u64, count: u64) -> u64 {
    let part = u128::from(all) * u128::from(number) / u128::from(count.max(1));
    u64::try_from(part).unwrap_or(all)
}

fn window_count(
    metadata: &ParquetMetaData,
    row_group: usize,
    columns: &ProjectionMask,
    bytes_max: u64,
) -> u64 {
    let group = metadata.row_groups().get(row_group);
    let offsets = metadata
        .offset_index()
        .and_then(|index| index.get(row_group));
    let (Some(group), Some(offsets)) = (group, offsets) else {
        // It is not known where pages lie.
        return 1;
    };
    let bytes = |size: i64| u64::try_from(size).unwrap_or(0);
    let (mut all, mut again) = (0_u64, 0_u64);
    for (leaf, (column, offsets)) in group.columns().iter().zip(offsets).enumerate() {
        if columns.leaf_included(leaf) {
            let pages = offsets.page_locations();
            let sizes = pages
                .iter()
                .map(|page| i64::from(page.compressed_page_size));
            let (size, pages_bytes) = (bytes(column.compressed_size()), bytes(sizes.sum()));
            let page_bytes = pages_bytes / (pages.len() as u64).max(1);
            let dictionary_bytes = size.saturating_sub(pages_bytes);
            all = all.saturating_add(size);
            again = again.saturating_add(dictionary_bytes.saturating_add(page_bytes));
        }
    }
    all.div_ceil(bytes_max.max(1))
        .min(all / again.saturating_mul(PARTS_READ_AGAIN).max(1))
}

/// Reads a data file.
pub(super) struct PageReader {
    read: Box<dyn FileRead>,
    size_bytes: u64,
    gap_bytes_max: u64,
}

impl PageReader {
    /// A file that is read in windows of so many bytes, or a row group at a time.
    pub(super) fn new(
        read: Box<dyn FileRead>,
        size_bytes: u64,
        window_bytes_max: Option<u64>,
    ) -> Self {
        let gap_bytes_max = window_bytes_max.map(|bytes_max| bytes_max / GAP_PARTS);
        PageReader {
            read,
            size_bytes,
            gap_bytes_max: gap_bytes_max.unwrap_or(OBJECT_STORE_COALESCE_DEFAULT),
        }
    }
}

fn external(error: iceberg::Error) -> ParquetError {
    ParquetError::External(error.into())
}

impl AsyncFileReader for PageReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        self.read.read(range).map_err(external).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move {
            let read = |range| self.read.read(range).map_err(external);
            coalesce_ranges(&ranges, read, self.gap_bytes_max).await
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            let reader = ParquetMetaDataReader::new()
                .with_prefetch_hint(Some(FOOTER_BYTES))
                .with_offset_index_policy(PageIndexPolicy::Optional);
            let size_bytes = self.size_bytes;
            reader.load_and_finish(self, size_bytes).await.map(Arc::new)
        }
        .boxed()
    }
}
