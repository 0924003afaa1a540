//! One Parquet file: its properties, and its row groups with their columns encoded beside each other.

use arrow_array::{Array, RecordBatch};
use arrow_schema::{FieldRef, SchemaRef};
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, Struct};
use moonshine_engine::{Column, ColumnType, TableSchema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriterOptions,
    compute_leaves,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::Layout;
use super::distinct::is_worth_a_dictionary;
use crate::error::{At, ExportError, Result};
use crate::metrics::{ColumnTracker, set_column_metrics};
use crate::schema::parquet_schema;

/// Values that are not worth another thread.
const VALUES_PER_THREAD_MIN: usize = 1 << 16;
/// Most threads that encode one row group.
const THREADS_MAX: usize = 8;

/// A data file that is being written. Its bytes are taken away as they come.
pub(super) struct OpenFile {
    pub(super) number: usize,
    path: String,
    fields: Vec<FieldRef>,
    writer: SerializedFileWriter<Vec<u8>>,
    factory: ArrowRowGroupWriterFactory,
    /// By column of the table.
    trackers: Vec<ColumnTracker>,
    row_group_count: usize,
    /// The numbers of its rows, where they are kept.
    pub(super) rows: Vec<u32>,
}

impl OpenFile {
    /// Begins a file whose first row group will be `first`, and whose row groups hold at most about so many rows.
    pub(super) fn open(
        number: usize,
        path: String,
        schema: &TableSchema,
        first: &[RecordBatch],
        row_group_rows: usize,
        layout: &Layout,
    ) -> Result<Self> {
        let arrow_schema = first
            .first()
            .map_or_else(|| schema.arrow_schema().clone(), RecordBatch::schema);
        // The Arrow schema is left out of the file: what the Parquet types say is what every reader sees.
        let properties = properties(schema, &arrow_schema, first, row_group_rows)
            .set_sorting_columns(layout.sorting_columns(schema));
        let options = ArrowWriterOptions::new()
            .with_properties(properties.build())
            .with_skip_arrow_metadata(true)
            .with_parquet_schema(parquet_schema(schema, &arrow_schema)?);
        let (writer, factory) =
            ArrowWriter::try_new_with_options(Vec::new(), arrow_schema.clone(), options)
                .and_then(ArrowWriter::into_serialized_writer)
                .at(&path)?;
        Ok(OpenFile {
            number,
            path,
            fields: arrow_schema.fields().iter().cloned().collect(),
            writer,
            factory,
            trackers: schema.columns().iter().map(ColumnTracker::new).collect(),
            row_group_count: 0,
            rows: Vec::new(),
        })
    }

    /// Adds rows as one row group.
    pub(super) fn write_row_group(&mut self, batches: &[RecordBatch]) -> Result<()> {
        let writers = self
            .factory
            .create_column_writers(self.row_group_count)
            .at(&self.path)?;
        self.row_group_count += 1;
        let mut writers = writers.into_iter();
        let mut trackers = self.trackers.iter_mut();
        let mut jobs = Vec::with_capacity(self.fields.len());
        for (position, field) in self.fields.iter().enumerate() {
            jobs.push(ColumnJob {
                position,
                field,
                writers: writers.by_ref().take(leaf_count(field)).collect(),
                tracker: trackers.next(),
                size_bytes: column_size_bytes(batches, position),
            });
        }
        let values = batches
            .iter()
            .map(|batch| batch.num_rows() * batch.num_columns())
            .sum::<usize>();
        let chunks = encode(jobs, batches, values / VALUES_PER_THREAD_MIN).at(&self.path)?;
        let append = || {
            let mut group = self.writer.next_row_group()?;
            for chunk in chunks {
                chunk.append_to_row_group(&mut group)?;
            }
            group.close()
        };
        append().map(drop).at(&self.path)
    }

    /// The bytes that are complete since they were taken last.
    pub(super) fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.inner_mut())
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.writer.bytes_written() as u64
    }

    /// Ends the file; the last bytes, and the manifest's entry.
    pub(super) fn finish(
        mut self,
        layout: &Layout,
        columns: &[Column],
        partition: Struct,
    ) -> Result<(Vec<u8>, DataFile)> {
        let metadata = self.writer.finish().at(&self.path)?;
        let offsets = metadata.row_groups().iter();
        let offsets =
            offsets.filter_map(|group| i64::try_from(group.columns().first()?.byte_range().0).ok());
        let mut builder = DataFileBuilder::default();
        builder
            .content(DataContentType::Data)
            .file_path(self.path.clone())
            .file_format(DataFileFormat::Parquet)
            .partition(partition)
            .partition_spec_id(layout.spec_id)
            .sort_order_id(layout.sort_order_id)
            .record_count(u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0))
            .file_size_in_bytes(self.size_bytes())
            .split_offsets(Some(offsets.collect()));
        set_column_metrics(&mut builder, columns, &metadata, &self.trackers);
        let entry = builder
            .build()
            .map_err(|error| ExportError::corrupt(&self.path, error))?;
        Ok((self.take_bytes(), entry))
    }
}

/// One column of a row group.
struct ColumnJob<'f> {
    position: usize,
    field: &'f FieldRef,
    writers: Vec<ArrowColumnWriter>,
    /// None for a column that is not the table's.
    tracker: Option<&'f mut ColumnTracker>,
    size_bytes: usize,
}

type EncodedColumn = (usize, Vec<ArrowColumnChunk>);

impl ColumnJob<'_> {
    fn run(self, batches: &[RecordBatch]) -> parquet::errors::Result<EncodedColumn> {
        let ColumnJob {
            position,
            field,
            mut writers,
            mut tracker,
            ..
        } = self;
        for column in batches
            .iter()
            .filter_map(|batch| batch.columns().get(position))
        {
            for (writer, leaf) in writers.iter_mut().zip(compute_leaves(field, column)?) {
                writer.write(&leaf)?;
            }
            if let Some(tracker) = &mut tracker {
                tracker.observe(column);
            }
        }
        let chunks = writers.into_iter().map(ArrowColumnWriter::close);
        Ok((position, chunks.collect::<Result<_, _>>()?))
    }
}

/// Encodes the columns of a row group, in at most so many threads.
fn encode(
    jobs: Vec<ColumnJob<'_>>,
    batches: &[RecordBatch],
    threads: usize,
) -> parquet::errors::Result<Vec<ArrowColumnChunk>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let run = |jobs: Vec<ColumnJob<'_>>| -> parquet::errors::Result<Vec<EncodedColumn>> {
        jobs.into_iter().map(|job| job.run(batches)).collect()
    };
    let mut shares = shares(jobs, threads.clamp(1, cores.min(THREADS_MAX))).into_iter();
    let own = shares.next().unwrap_or_default();
    let mut encoded = std::thread::scope(|scope| {
        let others: Vec<_> = shares.map(|share| scope.spawn(|| run(share))).collect();
        let mut encoded = run(own)?;
        for other in others {
            let other = other.join().map_err(|_| {
                parquet::errors::ParquetError::General(
                    "a thread that encodes columns ended early".into(),
                )
            })?;
            encoded.extend(other?);
        }
        Ok::<_, parquet::errors::ParquetError>(encoded)
    })?;
    encoded.sort_by_key(|(position, _)| *position);
    Ok(encoded.into_iter().flat_map(|(_, chunks)| chunks).collect())
}

/// Deals jobs out: the largest first, each to whoever has least.
fn shares(mut jobs: Vec<ColumnJob<'_>>, count: usize) -> Vec<Vec<ColumnJob<'_>>> {
    let mut shares: Vec<(usize, Vec<ColumnJob<'_>>)> = (0..count.min(jobs.len()))
        .map(|_| Default::default())
        .collect();
    jobs.sort_by_key(|job| std::cmp::Reverse(job.size_bytes));
    for job in jobs {
        if let Some((size_bytes, share)) =
            shares.iter_mut().min_by_key(|(size_bytes, _)| *size_bytes)
        {
            *size_bytes += job.size_bytes;
            share.push(job);
        }
    }
    shares.into_iter().map(|(_, share)| share).collect()
}

fn column_size_bytes(batches: &[RecordBatch], position: usize) -> usize {
    let columns = batches
        .iter()
        .filter_map(|batch| batch.columns().get(position));
    columns.map(|column| column.get_array_memory_size()).sum()
}

/// How many columns Parquet makes of one of Arrow's.
pub(super) fn leaf_count(field: &FieldRef) -> usize {
    use arrow_schema::DataType as D;
    match field.data_type() {
        D::Struct(fields) => fields.iter().map(leaf_count).sum(),
        D::List(inner) | D::LargeList(inner) | D::FixedSizeList(inner, _) | D::Map(inner, _) => {
            leaf_count(inner)
        }
        _ => 1,
    }
}

/// Key columns have a bloom filter; columns of few values a dictionary.
fn properties(
    schema: &TableSchema,
    arrow_schema: &SchemaRef,
    first: &[RecordBatch],
    row_group_rows: usize,
) -> WriterPropertiesBuilder {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(None)
        .set_dictionary_enabled(false)
        .set_created_by(concat!("moonshine version ", env!("CARGO_PKG_VERSION")).to_owned());
    for (position, field) in arrow_schema.fields().iter().enumerate() {
        if is_worth_a_dictionary(first, position) {
            builder = builder
                .set_column_dictionary_enabled(ColumnPath::from(field.name().as_str()), true);
        }
    }
    for column in schema.key_columns() {
        if !matches!(
            column.column_type,
            ColumnType::Boolean | ColumnType::Float32 | ColumnType::Float64
        ) {
            // Folded to what the values need once they are in.
            let path = ColumnPath::from(column.name.as_str());
            builder = builder
                .set_column_bloom_filter_enabled(path.clone(), true)
                .set_column_bloom_filter_fpp(path.clone(), 0.01)
                .set_column_bloom_filter_ndv(path, row_group_rows as u64);
        }
    }
    builder
}
