//! A scan of one data file: the columns wanted, of the rows that live, in the engine's Arrow types.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use iceberg::arrow::ArrowFileReader;
use iceberg::io::{FileIO, FileMetadata};
use iceberg::spec::DataFile;
use moonshine_engine::{Column, TableSchema};
use parquet::arrow::arrow_reader::RowSelection;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::schema::types::SchemaDescriptor;
use roaring::RoaringTreemap;

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
    let metadata = FileMetadata {
        size: scan.file.file_size_in_bytes(),
    };
    let reader = ArrowFileReader::new(metadata, input.reader().await.at(&place)?);
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
    let mut builder = builder.with_batch_size(scan.batch_rows);
    let mask = ProjectionMask::roots(builder.parquet_schema(), columns.read.iter().copied());
    builder = builder.with_projection(mask);
    if !skipped.is_empty() {
        builder = builder.with_row_selection(selection(&skipped, row_count));
    }
    let batches = builder.build().at(&place)?;
    Ok(Box::pin(batches.map(move |batch| {
        let batch = batch.at(&columns.place)?;
        let adapted = columns.adapt(&batch)?;
        match &mut lineage {
            None => Ok(adapted),
            Some(lineage) => lineage.add(&batch, &adapted),
        }
    })))
}

/// Every row but the skipped ones.
fn selection(skipped: &RoaringTreemap, row_count: u64) -> RowSelection {
    let row = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
    let mut live = Vec::new();
    let mut next = 0;
    for position in skipped.iter().take_while(|position| *position < row_count) {
        if position > next {
            live.push(row(next)..row(position));
        }
        next = position + 1;
    }
    if next < row_count {
        live.push(row(next)..row(row_count));
    }
    RowSelection::from_consecutive_ranges(live.into_iter(), row(row_count))
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
mod tests {
    use super::*;

    #[test]
    fn a_selection_leaves_out_what_is_skipped() {
        let live_ranges = |skipped: &[u64], ranges: &[(usize, usize)]| {
            let ranges = ranges.iter().map(|&(start, end)| start..end);
            let expected = RowSelection::from_consecutive_ranges(ranges, 10);
            assert_eq!(
                selection(&skipped.iter().copied().collect(), 10),
                expected,
                "{skipped:?}"
            );
        };
        live_ranges(&[], &[(0, 10)]);
        live_ranges(&[0, 1, 9], &[(2, 9)]);
        live_ranges(&[3, 7, 12], &[(0, 3), (4, 7), (8, 10)]);
        live_ranges(&[1, 2, 3, 4, 5, 6, 7, 8, 9], &[(0, 1)]);
    }
}
