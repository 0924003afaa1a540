use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_select::concat::concat_batches;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::properties::WriterProperties;

use super::*;

/// Numbers that look random, the same in each run.
fn scattered(row: u64, column: u64) -> u64 {
    (row + 1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(column.wrapping_mul(0xd6e8_feb8_6659_fd93))
        .rotate_left(23)
        .wrapping_mul(0x2545_f491_4f6c_dd1d)
        >> 16
}

/// Columns of every type that is encoded here, with and without nulls, of few values and of many.
#[allow(
    clippy::too_many_lines,
    reason = "a column each, which the formatter spreads over many lines"
)]
fn rows(rows: std::ops::Range<u64>) -> RecordBatch {
    let each = |column: u64| rows.clone().map(move |row| scattered(row, column));
    let some = |column: u64| each(column).map(|bits| (!bits.is_multiple_of(3)).then_some(bits));
    let float = |bits: u64| match bits % 7 {
        0 => f64::NAN,
        1 => -0.0,
        _ => bits as f64 / 1e9 - 1e5,
    };
    let uuid =
        |bits: u64| (u128::from(bits).wrapping_mul(0x1234_5678_9abc_def1) << 7).to_be_bytes();
    let money = |values: Decimal128Array, precision| -> ArrayRef {
        Arc::new(values.with_precision_and_scale(precision, 2).unwrap())
    };
    let cents = |bits: u64, digits: u64| i128::from(bits % digits) - i128::from(digits / 2);
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "id",
            Arc::new(Int64Array::from_iter_values(
                rows.clone().map(|row| row as i64),
            )),
        ),
        (
            "int",
            Arc::new(
                each(1)
                    .map(|bits| Some(bits as i32))
                    .collect::<Int32Array>(),
            ),
        ),
        (
            "few",
            Arc::new(
                some(2)
                    .map(|bits| bits.map(|bits| bits as i32 % 50))
                    .collect::<Int32Array>(),
            ),
        ),
        (
            "many",
            Arc::new(
                some(3)
                    .map(|bits| bits.map(|bits| (bits % 300_000) as i64))
                    .collect::<Int64Array>(),
            ),
        ),
        (
            "day",
            Arc::new(Date32Array::from_iter_values(
                rows.clone().map(|row| row as i32 / 5000),
            )),
        ),
        (
            "at",
            Arc::new(
                some(5)
                    .map(|bits| bits.map(|bits| -(bits as i64)))
                    .collect::<TimestampMicrosecondArray>(),
            ),
        ),
        (
            "single",
            Arc::new(
                each(6)
                    .map(|bits| Some(float(bits) as f32))
                    .collect::<Float32Array>(),
            ),
        ),
        (
            "double",
            Arc::new(
                some(7)
                    .map(|bits| bits.map(|bits| float(bits % 100)))
                    .collect::<Float64Array>(),
            ),
        ),
        (
            "no_number",
            Arc::new(Float64Array::from_iter_values(
                rows.clone().map(|_| f64::NAN),
            )),
        ),
        (
            "cheap",
            money(
                some(8)
                    .map(|bits| bits.map(|bits| cents(bits, 100_000)))
                    .collect(),
                9,
            ),
        ),
        (
            "dear",
            money(each(9).map(|bits| Some(cents(bits, 1 << 47))).collect(), 18),
        ),
        (
            "flag",
            Arc::new(
                some(10)
                    .map(|bits| bits.map(|bits| bits % 2 == 0))
                    .collect::<BooleanArray>(),
            ),
        ),
        (
            "always",
            Arc::new(each(11).map(|_| Some(true)).collect::<BooleanArray>()),
        ),
        (
            "uuid",
            Arc::new(FixedSizeBinaryArray::try_from_iter(each(12).map(uuid)).unwrap()),
        ),
        (
            "uuids",
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                    some(13).map(|bits| bits.map(|bits| uuid(bits % 9))),
                    16,
                )
                .unwrap(),
            ),
        ),
        (
            "text",
            Arc::new(StringArray::from_iter_values(
                each(14).map(|bits| format!("text {bits}")),
            )),
        ),
        (
            "word",
            Arc::new(
                some(15)
                    .map(|bits| {
                        bits.map(|bits| {
                            ["", "a", "ü", "zz", "a much longer one"][bits as usize % 5]
                        })
                    })
                    .collect::<StringArray>(),
            ),
        ),
        (
            "long",
            Arc::new(
                some(16)
                    .map(|bits| bits.map(|bits| format!("{}{bits}", "ü".repeat(40))))
                    .collect::<StringArray>(),
            ),
        ),
        (
            "bytes",
            Arc::new(
                some(17)
                    .map(|bits| bits.map(|bits| bits.to_be_bytes().repeat(bits as usize % 12)))
                    .collect::<BinaryArray>(),
            ),
        ),
        (
            "nothing",
            Arc::new(rows.clone().map(|_| None::<i64>).collect::<Int64Array>()),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| {
        let is_nullable = column.null_count() > 0 || name == "day";
        (name, column, is_nullable)
    }))
    .unwrap()
}

fn properties(has_dictionary: bool) -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(has_dictionary)
        .build()
}

/// Writes row groups of the batches by what is here.
fn written(groups: &[Vec<RecordBatch>], has_dictionary: bool) -> Vec<u8> {
    let mut file = Vec::new();
    let schema = groups[0][0].schema();
    let options = ArrowWriterOptions::new().with_properties(properties(has_dictionary));
    let (mut writer, _) = ArrowWriter::try_new_with_options(&mut file, schema.clone(), options)
        .and_then(ArrowWriter::into_serialized_writer)
        .unwrap();
    let options = ChunkOptions {
        has_dictionary,
        bloom_filter_values: Some(1000),
    };
    let mut encoders: Vec<ChunkEncoder> = (0..schema.fields().len())
        .map(|i| {
            let descriptor = writer.schema_descr().column(i);
            let encoder = ChunkEncoder::new(&descriptor, schema.field(i).data_type(), options);
            encoder.unwrap().unwrap()
        })
        .collect();
    for batches in groups {
        let mut group = writer.next_row_group().unwrap();
        for (i, encoder) in encoders.iter_mut().enumerate() {
            for batch in batches {
                encoder.write(batch.column(i)).unwrap();
            }
            let closed = encoder.close().unwrap();
            group
                .append_column(&encoder.closed_bytes(), closed)
                .unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
    file
}

/// The same by the `parquet` crate.
fn written_by_parquet(groups: &[Vec<RecordBatch>], has_dictionary: bool) -> Vec<u8> {
    let mut file = Vec::new();
    let schema = groups[0][0].schema();
    let properties = Some(properties(has_dictionary));
    let mut writer = ArrowWriter::try_new(&mut file, schema, properties).unwrap();
    for batches in groups {
        for batch in batches {
            writer.write(batch).unwrap();
        }
        writer.flush().unwrap();
    }
    writer.close().unwrap();
    file
}

fn read(file: Vec<u8>) -> (RecordBatch, Arc<ParquetMetaData>) {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let builder =
        ParquetRecordBatchReaderBuilder::try_new_with_options(Bytes::from(file), options).unwrap();
    let (schema, metadata) = (builder.schema().clone(), builder.metadata().clone());
    let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    (concat_batches(&schema, &batches).unwrap(), metadata)
}

/// *Same*: chunks hold the values that they were given, and say the same of them as those of the `parquet` crate.
#[test]
fn chunks_are_those_of_the_parquet_crate() {
    let whole = rows(0..70_000);
    let piece = |start: usize, end: usize| whole.slice(start, end - start);
    let groups = [
        vec![piece(0, 3), piece(3, 30_000), piece(30_000, 50_001)],
        vec![piece(50_001, 70_000)],
        // What did not get smaller is not compressed here.
        vec![piece(0, 70_000)],
    ];
    for has_dictionary in [false, true] {
        let (found, metadata) = read(written(&groups, has_dictionary));
        let (expected, expected_metadata) = read(written_by_parquet(&groups, has_dictionary));
        assert_eq!(found, expected);
        let mut plain_chunks = 0;
        for (group, expected) in metadata
            .row_groups()
            .iter()
            .zip(expected_metadata.row_groups())
        {
            for (chunk, expected) in group.columns().iter().zip(expected.columns()) {
                let name = chunk.column_path().string();
                assert_eq!(chunk.num_values(), expected.num_values(), "{name}");
                let is_plain = chunk.compression() == Compression::UNCOMPRESSED;
                plain_chunks += usize::from(is_plain);
                assert_eq!(
                    chunk.dictionary_page_offset().is_some(),
                    expected.dictionary_page_offset().is_some(),
                    "{name}"
                );
                assert_eq!(
                    chunk.unencoded_byte_array_data_bytes(),
                    expected.unencoded_byte_array_data_bytes(),
                    "{name}"
                );
                assert_eq!(
                    chunk.definition_level_histogram(),
                    expected.definition_level_histogram(),
                    "{name}"
                );
                let (bounds, expected) =
                    (chunk.statistics().unwrap(), expected.statistics().unwrap());
                // Of texts that are cut off it may be another one that is as short.
                if name != "long" && name != "bytes" {
                    assert_eq!(bounds, expected, "{name}");
                } else {
                    assert_eq!(bounds.min_bytes_opt(), expected.min_bytes_opt(), "{name}");
                    assert!(!bounds.max_is_exact());
                }
            }
        }
        assert!(plain_chunks > 0);
        let orders = |metadata: &ParquetMetaData| {
            let index = metadata.column_index().unwrap();
            let groups = index.iter().flatten();
            groups
                .map(|index| index.get_boundary_order())
                .collect::<Vec<_>>()
        };
        assert_eq!(orders(&metadata), orders(&expected_metadata));
    }
}

/// *Same*: the index of pages tells where each begins, and bounds of its values; a bloom filter knows each value.
#[test]
fn pages_are_found_by_their_indexes() {
    let whole = rows(0..70_000);
    let (_, metadata) = read(written(&[vec![whole.clone()]], true));
    let offsets = &metadata.offset_index().unwrap()[0];
    let ids = &offsets[0].page_locations;
    assert_eq!(ids.len(), 70_000usize.div_ceil(PAGE_ROWS_MAX));
    for (page, location) in ids.iter().enumerate() {
        assert_eq!(location.first_row_index as usize, page * PAGE_ROWS_MAX);
    }
    let column = whole.column_by_name("long").unwrap();
    let texts = column.as_any().downcast_ref::<StringArray>().unwrap();
    let position = whole.schema().index_of("long").unwrap();
    let parquet::file::page_index::column_index::ColumnIndexMetaData::BYTE_ARRAY(index) =
        &metadata.column_index().unwrap()[0][position]
    else {
        panic!("texts have another index");
    };
    let starts = offsets[position]
        .page_locations
        .iter()
        .map(|page| page.first_row_index as usize);
    let starts: Vec<usize> = starts.chain([70_000]).collect();
    for (page, rows) in starts.windows(2).enumerate() {
        let (least, greatest) = (
            index.min_value(page).unwrap(),
            index.max_value(page).unwrap(),
        );
        assert!(least.len() <= 64 && greatest.len() <= 64);
        for text in (rows[0]..rows[1])
            .filter(|row| texts.is_valid(*row))
            .map(|row| texts.value(row))
        {
            assert!(
                least <= text.as_bytes() && text.as_bytes() <= greatest,
                "{text}"
            );
        }
    }
}

/// *Honest*: a column that can't be null takes none, and no column takes values of another type.
#[test]
fn what_does_not_fit_is_refused() {
    let batch = rows(0..10);
    let mut file = Vec::new();
    let writer = ArrowWriter::try_new(&mut file, batch.schema(), None).unwrap();
    let (writer, _) = writer.into_serialized_writer().unwrap();
    let options = ChunkOptions {
        has_dictionary: false,
        bloom_filter_values: None,
    };
    let descriptor = writer.schema_descr().column(0);
    let encoder = || {
        ChunkEncoder::new(&descriptor, &DataType::Int64, options)
            .unwrap()
            .unwrap()
    };
    assert!(encoder().write(batch.column(0)).is_ok());
    assert!(
        encoder()
            .write(batch.column_by_name("nothing").unwrap())
            .is_err()
    );
    assert!(
        encoder()
            .write(batch.column_by_name("text").unwrap())
            .is_err()
    );
    assert!(
        encoder()
            .write(batch.column_by_name("int").unwrap())
            .is_err()
    );
}
