//! One Parquet file: its properties, and its row groups, into which rows are encoded as they come, columns beside each other.

use std::io::Write;

use arrow_array::{Array, RecordBatch};
use arrow_schema::{FieldRef, SchemaRef};
use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat, Struct};
use moonshine_engine::{Column, ColumnType, FileKeys, TableSchema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriterOptions,
    compute_leaves,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::ColumnPath;

use super::distinct::is_worth_a_dictionary;
use super::encode::{BLOOM_FILTER_FPP, ChunkEncoder, ChunkOptions};
use super::writer::FileBytes;
use super::{Layout, WrittenFile};
use crate::error::{At, ExportError, Result};
use crate::lineage::row_ids_of;
use crate::metrics::{ColumnTracker, set_column_metrics};
use crate::schema::parquet_schema;

/// Values that are not worth another thread.
const VALUES_PER_THREAD_MIN: usize = 1 << 16;
/// Rows in memory whose row group is not worth another thread when it ends.
const BYTES_PER_CLOSING_THREAD_MIN: usize = 4 << 20;
/// Most threads that encode one row group.
const THREADS_MAX: usize = 8;

/// A data file that is being written. Its bytes leave with each row group.
pub(super) struct OpenFile<B: FileBytes> {
    pub(super) number: usize,
    path: String,
    writer: SerializedFileWriter<B>,
    factory: ArrowRowGroupWriterFactory,
    columns: Vec<OpenColumn>,
    row_group_count: usize,
    /// What the rows of the row group that is being written took in memory; 0 for none.
    pub(super) group_bytes: usize,
    /// The keys of its rows, where they are taken down.
    keys: Option<FileKeys>,
}

impl<B: FileBytes> OpenFile<B> {
    /// Begins a file whose first rows are `first`. Its first row group has about so many rows, and so have the largest.
    pub(super) fn open(
        (number, path, bytes): (usize, String, B),
        schema: &TableSchema,
        layout: &Layout,
        first: &[RecordBatch],
        (first_group_rows, row_group_rows): (usize, usize),
        keys: Option<FileKeys>,
    ) -> Result<Self> {
        let arrow_schema = first
            .first()
            .map_or_else(|| schema.arrow_schema().clone(), RecordBatch::schema);
        // The Arrow schema is left out of the file: what the Parquet types say is what every reader sees.
        let options = chunk_options(
            schema,
            &arrow_schema,
            (first, first_group_rows),
            row_group_rows,
        );
        let properties =
            properties(&arrow_schema, &options).set_sorting_columns(layout.sorting_columns(schema));
        let writer_options = ArrowWriterOptions::new()
            .with_properties(properties.build())
            .with_skip_arrow_metadata(true)
            .with_parquet_schema(parquet_schema(schema, &arrow_schema)?);
        let (writer, factory) =
            ArrowWriter::try_new_with_options(bytes, arrow_schema.clone(), writer_options)
                .and_then(ArrowWriter::into_serialized_writer)
                .at(&path)?;
        let mut trackers = schema.columns().iter().map(ColumnTracker::new);
        let mut columns = Vec::with_capacity(options.len());
        let mut leaf = 0;
        let fields = arrow_schema.fields().iter().cloned().enumerate();
        for ((position, field), options) in fields.zip(options) {
            let descriptor = writer.schema_descr().column(leaf);
            leaf += leaf_count(&field);
            let encoder = ChunkEncoder::new(&descriptor, field.data_type(), options);
            columns.push(OpenColumn {
                position,
                field,
                tracker: trackers.next(),
                encoder: match encoder.at(&path)? {
                    Some(encoder) => Encoder::Own(Box::new(encoder)),
                    None => Encoder::Parquets(Vec::new()),
                },
                closed: Vec::new(),
            });
        }
        Ok(OpenFile {
            number,
            path,
            writer,
            factory,
            columns,
            row_group_count: 0,
            group_bytes: 0,
            keys,
        })
    }

    /// Adds rows, which take so many bytes, to the row group that is being written.
    pub(super) fn write_rows(
        &mut self,
        batches: &[RecordBatch],
        memory_bytes: usize,
    ) -> Result<()> {
        if let Some(keys) = &mut self.keys {
            for batch in batches {
                keys.add(batch, row_ids_of(batch))?;
            }
        }
        if self.group_bytes == 0 {
            self.begin_row_group()?;
        }
        self.group_bytes += memory_bytes.max(1);
        let values = batches
            .iter()
            .map(|batch| batch.num_rows() * batch.num_columns())
            .sum::<usize>();
        let size_bytes = |column: &OpenColumn| column_size_bytes(batches, column.position);
        let shares = shares(
            &mut self.columns,
            values / VALUES_PER_THREAD_MIN,
            size_bytes,
        );
        let written = on_threads(shares, |column| column.write(batches));
        written.at(&self.path)
    }

    /// Makes writers for the columns that are not encoded here.
    fn begin_row_group(&mut self) -> Result<()> {
        let mut columns = self.columns.iter();
        if columns.all(|column| matches!(column.encoder, Encoder::Own(_))) {
            return Ok(());
        }
        let made = self.factory.create_column_writers(self.row_group_count);
        let mut made = made.at(&self.path)?.into_iter();
        for column in &mut self.columns {
            let of_column = made.by_ref().take(leaf_count(&column.field));
            match &mut column.encoder {
                Encoder::Own(_) => of_column.for_each(drop),
                Encoder::Parquets(writers) => *writers = of_column.collect(),
            }
        }
        Ok(())
    }

    /// Ends the row group that is being written, if there is one.
    pub(super) fn end_row_group(&mut self) -> Result<()> {
        if self.group_bytes == 0 {
            return Ok(());
        }
        let threads = self.group_bytes / BYTES_PER_CLOSING_THREAD_MIN;
        let size_bytes = |column: &OpenColumn| column.encoded_bytes();
        let shares = shares(&mut self.columns, threads, size_bytes);
        on_threads(shares, OpenColumn::close).at(&self.path)?;
        let mut append = || {
            let mut group = self.writer.next_row_group()?;
            for column in &mut self.columns {
                column.append_to(&mut group)?;
            }
            group.close()
        };
        append().map(drop).at(&self.path)?;
        self.row_group_count += 1;
        self.group_bytes = 0;
        Ok(())
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.writer.bytes_written() as u64
    }

    /// Ends the file.
    pub(super) fn finish(
        mut self,
        layout: &Layout,
        columns: &[Column],
        partition: Struct,
    ) -> Result<WrittenFile> {
        self.end_row_group()?;
        let metadata = self.writer.finish().at(&self.path)?;
        self.writer.inner_mut().end()?;
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
        let trackers = self
            .columns
            .iter()
            .filter_map(|column| column.tracker.clone());
        let trackers: Vec<ColumnTracker> = trackers.collect();
        set_column_metrics(&mut builder, columns, &metadata, &trackers);
        let entry = builder
            .build()
            .map_err(|error| ExportError::corrupt(&self.path, error))?;
        let mut keys = self.keys;
        if let Some(keys) = &mut keys {
            keys.end()?;
        }
        Ok(WrittenFile { entry, keys })
    }
}

/// One column of a file.
struct OpenColumn {
    position: usize,
    field: FieldRef,
    /// None for a column that is not the table's.
    tracker: Option<ColumnTracker>,
    encoder: Encoder,
    /// The chunks of the row group that ends.
    closed: Vec<ClosedChunk>,
}

/// What encodes a column.
enum Encoder {
    Own(Box<ChunkEncoder>),
    /// Those of the row group that is being written.
    Parquets(Vec<ArrowColumnWriter>),
}

enum ClosedChunk {
    /// Its bytes are the encoder's.
    Own(ColumnCloseResult),
    Parquets(ArrowColumnChunk),
}

impl OpenColumn {
    fn write(&mut self, batches: &[RecordBatch]) -> parquet::errors::Result<()> {
        for column in batches
            .iter()
            .filter_map(|batch| batch.columns().get(self.position))
        {
            match &mut self.encoder {
                Encoder::Own(encoder) => encoder.write(column)?,
                Encoder::Parquets(writers) => {
                    let leaves = compute_leaves(&self.field, column)?;
                    for (writer, leaf) in writers.iter_mut().zip(leaves) {
                        writer.write(&leaf)?;
                    }
                }
            }
            if let Some(tracker) = &mut self.tracker {
                tracker.observe(column);
            }
        }
        Ok(())
    }

    fn encoded_bytes(&self) -> usize {
        match &self.encoder {
            Encoder::Own(encoder) => encoder.encoded_bytes(),
            Encoder::Parquets(writers) => {
                let writers = writers.iter();
                writers
                    .map(ArrowColumnWriter::get_estimated_total_bytes)
                    .sum()
            }
        }
    }

    fn close(&mut self) -> parquet::errors::Result<()> {
        match &mut self.encoder {
            Encoder::Own(encoder) => self.closed.push(ClosedChunk::Own(encoder.close()?)),
            Encoder::Parquets(writers) => {
                for writer in writers.drain(..) {
                    self.closed.push(ClosedChunk::Parquets(writer.close()?));
                }
            }
        }
        Ok(())
    }

    /// Brings its chunks into a row group.
    fn append_to<W: Write + Send>(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> parquet::errors::Result<()> {
        for chunk in self.closed.drain(..) {
            match (chunk, &self.encoder) {
                (ClosedChunk::Own(closed), Encoder::Own(encoder)) => {
                    group.append_column(&encoder.closed_bytes(), closed)?;
                }
                (ClosedChunk::Parquets(chunk), _) => chunk.append_to_row_group(group)?,
                (ClosedChunk::Own(_), Encoder::Parquets(_)) => {}
            }
        }
        Ok(())
    }
}

/// Does something with all columns, each share in a thread of its own.
fn on_threads(
    shares: Vec<Vec<&mut OpenColumn>>,
    act: impl Fn(&mut OpenColumn) -> parquet::errors::Result<()> + Sync,
) -> parquet::errors::Result<()> {
    let run = |share: Vec<&mut OpenColumn>| share.into_iter().try_for_each(&act);
    let mut shares = shares.into_iter();
    let own = shares.next().unwrap_or_default();
    std::thread::scope(|scope| {
        let others: Vec<_> = shares.map(|share| scope.spawn(|| run(share))).collect();
        run(own)?;
        for other in others {
            other.join().map_err(|_| {
                parquet::errors::ParquetError::General(
                    "a thread that encodes columns ended early".into(),
                )
            })??;
        }
        Ok(())
    })
}

/// Deals columns out to at most so many threads: the largest first, each to whoever has least.
fn shares(
    columns: &mut [OpenColumn],
    threads: usize,
    size_bytes: impl Fn(&OpenColumn) -> usize,
) -> Vec<Vec<&mut OpenColumn>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = threads.clamp(1, cores.min(THREADS_MAX));
    let mut shares: Vec<(usize, Vec<&mut OpenColumn>)> = (0..count.min(columns.len()))
        .map(|_| Default::default())
        .collect();
    let mut sized: Vec<(usize, &mut OpenColumn)> = columns
        .iter_mut()
        .map(|column| (size_bytes(column), column))
        .collect();
    sized.sort_by_key(|(size_bytes, _)| std::cmp::Reverse(*size_bytes));
    for (column_bytes, column) in sized {
        if let Some((share_bytes, share)) = shares.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            *share_bytes += column_bytes;
            share.push(column);
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

/// What the chunks of each column have: those of key columns a bloom filter, those of few values a dictionary.
fn chunk_options(
    schema: &TableSchema,
    arrow_schema: &SchemaRef,
    (first, first_group_rows): (&[RecordBatch], usize),
    row_group_rows: usize,
) -> Vec<ChunkOptions> {
    let has_filter = |name: &str| {
        let mut keys = schema.key_columns();
        let key = keys.find(|column| column.name == name);
        key.is_some_and(|column| {
            !matches!(
                column.column_type,
                ColumnType::Boolean | ColumnType::Float32 | ColumnType::Float64
            )
        })
    };
    let fields = arrow_schema.fields().iter().enumerate();
    let options = fields.map(|(position, field)| ChunkOptions {
        has_dictionary: is_worth_a_dictionary(first, first_group_rows, position),
        bloom_filter_values: has_filter(field.name()).then_some(row_group_rows as u64),
    });
    options.collect()
}

/// The same for the columns that the `parquet` crate encodes.
fn properties(arrow_schema: &SchemaRef, options: &[ChunkOptions]) -> WriterPropertiesBuilder {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(None)
        .set_dictionary_enabled(false)
        .set_created_by(concat!("moonshine version ", env!("CARGO_PKG_VERSION")).to_owned());
    for (field, options) in arrow_schema.fields().iter().zip(options) {
        let path = ColumnPath::from(field.name().as_str());
        builder = builder.set_column_dictionary_enabled(path.clone(), options.has_dictionary);
        if let Some(values) = options.bloom_filter_values {
            builder = builder
                .set_column_bloom_filter_enabled(path.clone(), true)
                .set_column_bloom_filter_fpp(path.clone(), BLOOM_FILTER_FPP)
                .set_column_bloom_filter_ndv(path, values);
        }
    }
    builder
}
