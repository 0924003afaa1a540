//! Data files: rows of the engine as Parquet.
//!
//! Encoding runs on a blocking thread and hands bytes over as they are ready; the async side writes them to the
//! store. Between the two stand at most [`PIECES_IN_FLIGHT_MAX`] pieces, so memory is bounded by one row group.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use iceberg::io::{FileIO, FileWrite};
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat};
use moonshine_engine::{ColumnType, TableSchema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::SchemaDescriptor;
use tokio::sync::mpsc;

use crate::error::{At, ExportError, Result};
use crate::metrics::set_column_metrics;
use crate::schema::parquet_schema;

/// A row group is closed at about this size in memory, in bytes.
const ROW_GROUP_BYTES_MAX: usize = 64 << 20;
/// Encoded bytes are handed over in pieces of at least this size.
const PIECE_BYTES_MIN: usize = 1 << 20;
/// Rows that are encoded between two looks at the size of the file.
const SLICE_ROWS: usize = 1024;
/// How many pieces may wait for the store.
const PIECES_IN_FLIGHT_MAX: usize = 4;

/// Writes rows to files of about `target_size_bytes`, whose n-th is at `path(n)`.
///
/// `started` collects the paths of begun files, so that a caller can remove them when this fails.
pub(crate) async fn write_data_files<B, P>(
    file_io: &FileIO,
    schema: &Arc<TableSchema>,
    batches: B,
    path: P,
    target_size_bytes: u64,
    started: &mut Vec<String>,
) -> Result<Vec<DataFile>>
where
    B: Iterator<Item = Result<RecordBatch>> + Send + 'static,
    P: Fn(usize) -> String + Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel(PIECES_IN_FLIGHT_MAX);
    let schema = schema.clone();
    let encode = move || {
        let mut encoder = Encoder::new(&schema, path, target_size_bytes, sender)?;
        for batch in batches {
            let batch = batch?;
            for offset in (0..batch.num_rows()).step_by(SLICE_ROWS) {
                let rows = SLICE_ROWS.min(batch.num_rows() - offset);
                if !encoder.write(&batch.slice(offset, rows))? {
                    return Ok(());
                }
            }
        }
        encoder.close_file()
    };
    let encoder = tokio::task::spawn_blocking(encode);
    let stored = store_pieces(file_io, &mut receiver, started).await;
    // A failed store closes the channel, at which the encoder ends early.
    drop(receiver);
    let encoded: Result<()> = encoder.await.at("the Parquet encoder")?;
    let files = stored?;
    encoded?;
    Ok(files)
}

/// What the encoder hands to the store.
enum Piece {
    /// A new file begins.
    Open(String),
    /// The next bytes of it.
    Bytes(Bytes),
    /// It is complete.
    Close(Box<DataFile>),
}

async fn store_pieces(
    file_io: &FileIO,
    receiver: &mut mpsc::Receiver<Piece>,
    started: &mut Vec<String>,
) -> Result<Vec<DataFile>> {
    let mut files = Vec::new();
    let mut current: Option<(String, Box<dyn FileWrite>)> = None;
    let unavailable = |path: &str, error: iceberg::Error| ExportError::unavailable(path, error);
    while let Some(piece) = receiver.recv().await {
        match (piece, &mut current) {
            (Piece::Open(path), current) => {
                started.push(path.clone());
                let output = file_io
                    .new_output(&path)
                    .map_err(|error| unavailable(&path, error))?;
                let writer = output
                    .writer()
                    .await
                    .map_err(|error| unavailable(&path, error))?;
                *current = Some((path, writer));
            }
            (Piece::Bytes(bytes), Some((path, writer))) => {
                writer
                    .write(bytes)
                    .await
                    .map_err(|error| unavailable(path, error))?;
            }
            (Piece::Close(file), current) => {
                if let Some((path, mut writer)) = current.take() {
                    writer
                        .close()
                        .await
                        .map_err(|error| unavailable(&path, error))?;
                }
                files.push(*file);
            }
            (Piece::Bytes(_), None) => {}
        }
    }
    Ok(files)
}

/// The blocking side: batches in, pieces of files out.
struct Encoder<'a, P> {
    schema: &'a TableSchema,
    parquet_schema: SchemaDescriptor,
    arrow_schema: SchemaRef,
    path: P,
    target_size_bytes: u64,
    sender: mpsc::Sender<Piece>,
    file_count: usize,
    current: Option<OpenFile>,
}

struct OpenFile {
    path: String,
    writer: ArrowWriter<Vec<u8>>,
    nan_counts: Vec<u64>,
}

impl<'a, P: Fn(usize) -> String> Encoder<'a, P> {
    fn new(
        schema: &'a TableSchema,
        path: P,
        target_size_bytes: u64,
        sender: mpsc::Sender<Piece>,
    ) -> Result<Self> {
        Ok(Encoder {
            schema,
            parquet_schema: parquet_schema(schema)?,
            arrow_schema: schema.arrow_schema().clone(),
            path,
            target_size_bytes,
            sender,
            file_count: 0,
            current: None,
        })
    }

    /// Encodes rows; false once the store has stopped taking pieces.
    fn write(&mut self, batch: &RecordBatch) -> Result<bool> {
        let mut file = match self.current.take() {
            Some(file) => file,
            None => self.open_file()?,
        };
        count_nans(self.schema, batch, &mut file.nan_counts);
        file.writer.write(batch).at(&file.path)?;
        if file.writer.inner().len() >= PIECE_BYTES_MIN {
            let bytes = std::mem::take(file.writer.inner_mut());
            if self
                .sender
                .blocking_send(Piece::Bytes(bytes.into()))
                .is_err()
            {
                return Ok(false);
            }
        }
        let size_bytes = file.writer.bytes_written() + file.writer.in_progress_size();
        self.current = Some(file);
        if size_bytes as u64 >= self.target_size_bytes {
            self.close_file()?;
        }
        Ok(true)
    }

    fn open_file(&mut self) -> Result<OpenFile> {
        let path = (self.path)(self.file_count);
        self.file_count += 1;
        // The Arrow schema is left out of the file: what the Parquet types say is what every reader sees.
        let options = ArrowWriterOptions::new()
            .with_properties(writer_properties())
            .with_skip_arrow_metadata(true)
            .with_parquet_schema(self.parquet_schema.clone());
        let writer =
            ArrowWriter::try_new_with_options(Vec::new(), self.arrow_schema.clone(), options)
                .at(&path)?;
        // A store that has stopped shows at the next piece.
        let _ = self.sender.blocking_send(Piece::Open(path.clone()));
        Ok(OpenFile {
            path,
            writer,
            nan_counts: vec![0; self.schema.columns().len()],
        })
    }

    fn close_file(&mut self) -> Result<()> {
        let Some(mut file) = self.current.take() else {
            return Ok(());
        };
        let metadata = file.writer.finish().at(&file.path)?;
        let bytes = std::mem::take(file.writer.inner_mut());
        let mut builder = DataFileBuilder::default();
        builder
            .content(DataContentType::Data)
            .file_path(file.path.clone())
            .file_format(DataFileFormat::Parquet)
            .record_count(u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0))
            .file_size_in_bytes(file.writer.bytes_written() as u64)
            .split_offsets(Some(
                metadata
                    .row_groups()
                    .iter()
                    .filter_map(|group| i64::try_from(group.columns().first()?.byte_range().0).ok())
                    .collect(),
            ));
        set_column_metrics(
            &mut builder,
            self.schema.columns(),
            &metadata,
            &file.nan_counts,
        );
        let entry = builder
            .build()
            .map_err(|error| ExportError::corrupt(&file.path, error))?;
        let _ = self.sender.blocking_send(Piece::Bytes(bytes.into()));
        let _ = self.sender.blocking_send(Piece::Close(Box::new(entry)));
        Ok(())
    }
}

fn writer_properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES_MAX))
        .set_created_by(concat!("moonshine version ", env!("CARGO_PKG_VERSION")).to_owned())
        .build()
}

fn count_nans(schema: &TableSchema, batch: &RecordBatch, nan_counts: &mut [u64]) {
    for ((column, array), nans) in schema.columns().iter().zip(batch.columns()).zip(nan_counts) {
        let count = match column.column_type {
            ColumnType::Float32 => array.as_primitive_opt::<Float32Type>().map_or(0, |values| {
                values
                    .iter()
                    .flatten()
                    .filter(|value| value.is_nan())
                    .count()
            }),
            ColumnType::Float64 => array.as_primitive_opt::<Float64Type>().map_or(0, |values| {
                values
                    .iter()
                    .flatten()
                    .filter(|value| value.is_nan())
                    .count()
            }),
            _ => 0,
        };
        *nans += count as u64;
    }
}
