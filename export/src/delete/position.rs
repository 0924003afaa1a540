//! Position delete files of format v2: Parquet files of (data file, position), sorted, each for one data file.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use roaring::RoaringTreemap;

use crate::catalog::write_file;
use crate::error::{At, ExportError, Result};

/// The field id that the specification reserves for `file_path`.
const FILE_PATH_FIELD_ID: i32 = 2_147_483_546;
/// The field id that the specification reserves for `pos`.
const POS_FIELD_ID: i32 = 2_147_483_545;
/// Rows a batch, on either way.
const BATCH_ROWS: usize = 64 * 1024;

fn schema() -> Arc<Schema> {
    let field = |name: &str, data_type: DataType, id: i32| {
        Field::new(name, data_type, false)
            .with_metadata([("PARQUET:field_id".to_owned(), id.to_string())].into())
    };
    Arc::new(Schema::new(vec![
        field("file_path", DataType::Utf8, FILE_PATH_FIELD_ID),
        field("pos", DataType::Int64, POS_FIELD_ID),
    ]))
}

fn encode(path: &str, data_file: &str, positions: &RoaringTreemap) -> Result<Vec<u8>> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        // No position comes twice: a dictionary makes the file twice as large, and slower to read.
        .set_column_dictionary_enabled(ColumnPath::from("pos"), false)
        // Bounds have to be exact for the file to be known as one data file's only.
        .set_statistics_truncate_length(None)
        .set_column_index_truncate_length(None)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema(), Some(properties)).at(path)?;
    let mut rest = positions
        .iter()
        .map(|position| i64::try_from(position).unwrap_or(i64::MAX))
        .peekable();
    while rest.peek().is_some() {
        let batch: Vec<i64> = rest.by_ref().take(BATCH_ROWS).collect();
        let files = StringArray::from_iter_values(std::iter::repeat_n(data_file, batch.len()));
        let columns = vec![Arc::new(files) as _, Arc::new(Int64Array::from(batch)) as _];
        let batch = RecordBatch::try_new(schema(), columns)
            .map_err(|error| ExportError::corrupt(path, error))?;
        writer.write(&batch).at(path)?;
    }
    writer.into_inner().at(path)
}

/// Writes the positions of one data file.
pub(crate) async fn write(
    file_io: &FileIO,
    path: String,
    data_file: &str,
    positions: &RoaringTreemap,
) -> Result<DataFile> {
    let bytes = encode(&path, data_file, positions)?;
    let size = bytes.len() as u64;
    write_file(file_io, &path, bytes.into()).await?;
    let bounds = |position: Option<u64>| {
        let position = i64::try_from(position.unwrap_or(0)).unwrap_or(i64::MAX);
        HashMap::from([
            (FILE_PATH_FIELD_ID, Datum::string(data_file)),
            (POS_FIELD_ID, Datum::long(position)),
        ])
    };
    let counts = |count: u64| HashMap::from([(FILE_PATH_FIELD_ID, count), (POS_FIELD_ID, count)]);
    DataFileBuilder::default()
        .content(DataContentType::PositionDeletes)
        .file_path(path.clone())
        .file_format(DataFileFormat::Parquet)
        .record_count(positions.len())
        .file_size_in_bytes(size)
        .value_counts(counts(positions.len()))
        .null_value_counts(counts(0))
        .lower_bounds(bounds(positions.min()))
        .upper_bounds(bounds(positions.max()))
        .referenced_data_file(Some(data_file.to_owned()))
        .build()
        .map_err(|error| ExportError::corrupt(&path, error))
}

/// Reads the positions of a manifest entry.
pub(crate) async fn read(file_io: &FileIO, entry: &DataFile) -> Result<RoaringTreemap> {
    let place = entry.file_path();
    let bytes = file_io.new_input(place).at(place)?.read().await.at(place)?;
    let data_file = entry.referenced_data_file();
    decode(place, data_file.as_deref(), bytes)
}

fn decode(place: &str, data_file: Option<&str>, bytes: Bytes) -> Result<RoaringTreemap> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .at(place)?
        .with_batch_size(BATCH_ROWS);
    let mut positions = RoaringTreemap::new();
    for batch in reader.build().at(place)? {
        let batch = batch.map_err(|error| ExportError::corrupt(place, error))?;
        let files = batch
            .column_by_name("file_path")
            .and_then(|column| column.as_string_opt::<i32>());
        let values = batch
            .column_by_name("pos")
            .and_then(|column| column.as_primitive_opt::<Int64Type>());
        let (Some(files), Some(values)) = (files, values) else {
            return Err(ExportError::corrupt(
                place,
                "not a position delete file: no columns file_path and pos",
            ));
        };
        if files.iter().any(|file| file != data_file) {
            return Err(ExportError::foreign(
                place,
                "it deletes rows of more than one data file",
            ));
        }
        for value in values.iter() {
            let position = value.and_then(|value| u64::try_from(value).ok());
            positions
                .insert(position.ok_or_else(|| ExportError::corrupt(place, "a position below 0"))?);
        }
    }
    Ok(positions)
}
