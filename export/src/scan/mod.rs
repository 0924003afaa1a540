//! A scan of one data file: the columns wanted, of the rows that live, in the engine's Arrow types.
//!
//! A file is read a row group at a time, or, where memory is to stay small, in `windows` of some of a row group's pages.

mod windows;

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use iceberg::io::{FileIO, InputFile};
use iceberg::spec::DataFile;
use moonshine_engine::{Column, TableSchema};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::ParquetRecordBatchStream;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::schema::types::SchemaDescriptor;
use roaring::RoaringTreemap;

use self::windows::{PageReader, Window, windows};
use crate::delete::read_positions;
use crate::error::{At, ExportError, Result};
use crate::lineage::{FileLineage, RowLineage, column_of};
use crate::schema::{adapted, missing_column};

/// Rows of a batch.
pub(crate) const BATCH_ROWS: usize = 8192;

/// What is to be read of a data file.
#[derive(Clone)]
pub(crate) struct FileScan {
    pub(crate) file_io: FileIO,
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) file: DataFile,
    pub(crate) deletes: Vec<DataFile>,
    pub(crate) projection: Option<Vec<usize>>,
    pub(crate) excluded: RoaringTreemap,
    /// Asks for the rows' lineage, in two columns behind the others.
    pub(crate) lineage: Option<FileLineage>,
    /// Rows of a batch at most.
    pub(crate) batch_rows: usize,
    /// About how many bytes of the file are to be in memory at once, at most; by default those of a row group's columns are.
    pub(crate) window_bytes_max: Option<u64>,
}

pub(crate) fn scan_file(scan: FileScan) -> BoxStream<'static, Result<RecordBatch>> {
    Box::pin(futures::stream::once(open(scan)).try_flatten())
}

async fn open(scan: FileScan) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let place = scan.file.file_path().to_owned();
    let mut skipped = scan.excluded;
    for delete in &scan.deletes {
        skipped |= read_positions(&scan.file_io, delete).await?;
    }
    let row_count = scan.file.record_count();
    if skipped.range_cardinality(..row_count) == row_count {
        return Ok(Box::pin(futures::stream::empty()));
    }
    let input = scan.file_io.new_input(&place).at(&place)?;
    let size_bytes = scan.file.file_size_in_bytes();
    let reader = PageReader::new(
        input.reader().await.at(&place)?,
        size_bytes,
        scan.window_bytes_max,
    );
    let builder = ParquetRecordBatchStreamBuilder::new(reader)
        .await
        .at(&place)?;
    let mut lineage = scan.lineage.map(|of_file| {
        RowLineage::new(
            of_file,
            builder.parquet_schema(),
            skipped.clone(),
            row_count,
        )
    });
    let columns = Columns::new(
        &place,
        &scan.schema,
        scan.projection.as_deref(),
        builder.parquet_schema(),
        lineage.iter().flat_map(RowLineage::columns),
    )?;
    if let Some(lineage) = &mut lineage {
        lineage.bind(&columns.read);
    }
    let reading = Reading {
        input,
        size_bytes,
        columns: ProjectionMask::roots(builder.parquet_schema(), columns.read.iter().copied()),
        batch_rows: scan.batch_rows,
        window_bytes_max: scan.window_bytes_max,
        skipped,
        row_count,
    };
    let batches = reading.batches(builder).at(&place)?;
    Ok(Box::pin(batches.map(move |batch| {
        let batch = batch.at(&columns.place)?;
        let adapted = columns.adapt(&batch)?;
        match &mut lineage {
            None => Ok(adapted),
            Some(lineage) => lineage.add(&batch, &adapted),
        }
    })))
}

type Builder = ParquetRecordBatchStreamBuilder<PageReader>;

/// What is read of an open file, and how.
struct Reading {
    input: InputFile,
    size_bytes: u64,
    columns: ProjectionMask,
    batch_rows: usize,
    window_bytes_max: Option<u64>,
    skipped: RoaringTreemap,
    row_count: u64,
}

impl Reading {
    fn batches(
        self,
        builder: Builder,
    ) -> parquet::errors::Result<BoxStream<'static, parquet::errors::Result<RecordBatch>>> {
        let Some(bytes_max) = self.window_bytes_max else {
            let mut builder = self.configured(builder);
            if !self.skipped.is_empty() {
                let all = 0..self.row_count;
                builder = builder.with_row_selection(selection(&self.skipped, &all, &all));
            }
            return Ok(builder.build()?.boxed());
        };
        let metadata = builder.metadata().clone();
        let metadata = ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new())?;
        let windows = windows(metadata.metadata(), &self.columns, bytes_max);
        let reading = Arc::new(self);
        let open = move |window| {
            let (reading, metadata) = (reading.clone(), metadata.clone());
            async move { reading.open(metadata, window).await }
        };
        let windows = futures::stream::iter(windows);
        Ok(windows.then(open).try_flatten().boxed())
    }

    fn configured(&self, builder: Builder) -> Builder {
        let builder = builder.with_batch_size(self.batch_rows);
        builder.with_projection(self.columns.clone())
    }

    async fn open(
        &self,
        metadata: ArrowReaderMetadata,
        window: Window,
    ) -> parquet::errors::Result<ParquetRecordBatchStream<PageReader>> {
        let read = self.input.reader().await;
        let read = read.map_err(|error| ParquetError::External(error.into()))?;
        let reader = PageReader::new(read, self.size_bytes, self.window_bytes_max);
        self.configured(Builder::new_with_metadata(reader, metadata))
            .with_row_groups(vec![window.row_group])
            .with_row_selection(selection(&self.skipped, &window.group_rows, &window.rows))
            .build()
    }
}

/// Of rows of a file, as it is read from the first of `all` on, those that are in a window and not skipped.
fn selection(skipped: &RoaringTreemap, all: &Range<u64>, window: &Range<u64>) -> RowSelection {
    let row = |position: u64| usize::try_from(position - all.start).unwrap_or(usize::MAX);
    let mut live = Vec::new();
    let mut next = window.start;
    let mut skipped = skipped.iter();
    skipped.advance_to(window.start);
    for position in skipped.take_while(|position| *position < window.end) {
        if position > next {
            live.push(row(next)..row(position));
        }
        next = position + 1;
    }
    if next < window.end {
        live.push(row(next)..row(window.end));
    }
    RowSelection::from_consecutive_ranges(live.into_iter(), row(all.end))
}

/// How a file's columns become those that are wanted. Columns are found by field id, so that renaming is free.
struct Columns {
    place: String,
    schema: SchemaRef,
    /// The wanted columns.
    columns: Vec<Column>,
    /// The file's columns to read, ascending.
    read: Vec<usize>,
    /// For each wanted column its position among those read; `None` where the file does not have it.
    sources: Vec<Option<usize>>,
}

impl Columns {
    fn new(
        place: &str,
        table: &TableSchema,
        projection: Option<&[usize]>,
        parquet: &SchemaDescriptor,
        more: impl Iterator<Item = usize>,
    ) -> Result<Columns> {
        let all: Vec<usize> = (0..table.columns().len()).collect();
        let projection = projection.unwrap_or(&all);
        let schema = table.arrow_schema().project(projection);
        let schema = schema
            .map_err(|error| ExportError::Config(format!("table '{}': {error}", table.name())))?;
        let wanted: Vec<Option<usize>> = projection
            .iter()
            .filter_map(|&position| table.columns().get(position))
            .map(|column| column_of(parquet, column.field_id))
            .collect();
        let mut read: Vec<usize> = wanted.iter().flatten().copied().collect();
        read.extend(more);
        read.sort_unstable();
        read.dedup();
        let source =
            |column: &Option<usize>| column.and_then(|column| read.binary_search(&column).ok());
        let sources: Vec<Option<usize>> = wanted.iter().map(source).collect();
        let columns = projection.iter().filter_map(|&at| table.columns().get(at));
        let columns: Vec<Column> = columns.cloned().collect();
        for (column, source) in columns.iter().zip(&sources) {
            if source.is_none() && !column.nullable && column.default.is_none() {
                return Err(ExportError::corrupt(
                    place,
                    format!("column '{}' is missing", column.name),
                ));
            }
        }
        Ok(Columns {
            place: place.to_owned(),
            schema: Arc::new(schema),
            columns,
            read,
            sources,
        })
    }

    fn adapt(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let corrupt = |error: arrow_schema::ArrowError| ExportError::corrupt(&self.place, error);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.sources.len());
        for (column, source) in self.columns.iter().zip(&self.sources) {
            let data_type = column.column_type.arrow_type();
            columns.push(
                match source.and_then(|source| batch.columns().get(source)) {
                    Some(array) => adapted(array, &data_type).map_err(corrupt)?,
                    None => missing_column(column, batch.num_rows()).map_err(corrupt)?,
                },
            );
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(corrupt)
    }
}

#[cfg(test)]
mod tests;
