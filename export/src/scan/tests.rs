use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, BinaryArray, Int64Array};
use arrow_select::concat::concat_batches;
use async_trait::async_trait;
use bytes::Bytes;
use iceberg::io::FileRead;
use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat};
use moonshine_engine::ColumnType;
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;

use super::*;

const ROWS: u64 = 20_000;
const GROUP_ROWS: usize = 8000;
const PAGE_ROWS: usize = 250;
const ROW_BYTES: usize = 40;
const PLACE: &str = "memory:///table/data/1.parquet";

fn schema() -> Arc<TableSchema> {
    let schema = TableSchema::builder("windows")
        .column("id", ColumnType::Int64, false)
        .column("bytes", ColumnType::Binary, false)
        .primary_key(["id"]);
    Arc::new(schema.build().unwrap())
}

/// A file of rows whose second column does not get smaller: three row groups of many pages.
fn file(schema: &TableSchema) -> Bytes {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 40) as u8
    };
    let texts: Vec<Vec<u8>> = (0..ROWS)
        .map(|_| (0..ROW_BYTES).map(|_| next()).collect())
        .collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..ROWS as i64)),
        Arc::new(BinaryArray::from_iter_values(texts)),
    ];
    let fields = schema.arrow_schema().fields().iter().zip(schema.columns());
    let fields: Vec<arrow_schema::Field> = fields
        .map(|(field, column)| {
            let id = column.field_id.to_string();
            let metadata = [(PARQUET_FIELD_ID_META_KEY.to_owned(), id)];
            field.as_ref().clone().with_metadata(metadata.into())
        })
        .collect();
    let rows = RecordBatch::try_new(Arc::new(arrow_schema::Schema::new(fields)), columns).unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS)
        .set_dictionary_enabled(false);
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties.build())).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    bytes.into()
}

/// All rows of a scan, with their ids.
async fn read(
    bytes: &Bytes,
    excluded: RoaringTreemap,
    window_bytes_max: Option<u64>,
) -> Vec<RecordBatch> {
    let file_io = FileIO::new_with_memory();
    let output = file_io.new_output(PLACE).unwrap();
    output.write(bytes.clone()).await.unwrap();
    let file = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(PLACE.to_owned())
        .file_format(DataFileFormat::Parquet)
        .record_count(ROWS)
        .file_size_in_bytes(bytes.len() as u64)
        .build();
    let scan = FileScan {
        file_io,
        schema: schema(),
        file: file.unwrap(),
        deletes: Vec::new(),
        projection: None,
        excluded,
        lineage: Some(FileLineage {
            first_row_id: 1000,
            sequence_number: 7,
        }),
        batch_rows: 512,
        window_bytes_max,
    };
    scan_file(scan).try_collect().await.unwrap()
}

#[test]
fn a_selection_leaves_out_what_is_skipped() {
    let live_ranges = |skipped: &[u64], window: Range<u64>, ranges: &[(usize, usize)]| {
        let ranges = ranges.iter().map(|&(start, end)| start..end);
        let expected = RowSelection::from_consecutive_ranges(ranges, 10);
        let skipped = skipped.iter().copied().collect();
        assert_eq!(selection(&skipped, &(100..110), &window), expected);
    };
    let all = 100..110;
    live_ranges(&[], all.clone(), &[(0, 10)]);
    live_ranges(&[100, 101, 109], all.clone(), &[(2, 9)]);
    live_ranges(&[3, 103, 107, 112], all.clone(), &[(0, 3), (4, 7), (8, 10)]);
    live_ranges(
        &[101, 102, 103, 104, 105, 106, 107, 108, 109],
        all,
        &[(0, 1)],
    );
    live_ranges(&[99, 104, 108], 103..106, &[(3, 4), (5, 6)]);
    live_ranges(&[103, 104, 105], 103..106, &[]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// *Same*: in windows of any size come the rows that come at once, with their ids.
    #[test]
    fn windows_bring_all_rows_in_their_order(
        bytes_max in 1_u64..400_000,
        gaps in proptest::collection::vec((0..ROWS, 0_u64..9000), 0..6),
    ) {
        let bytes = file(&schema());
        let mut excluded = RoaringTreemap::new();
        for (start, count) in gaps {
            excluded.insert_range(start..(start + count).min(ROWS));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let all = |window| runtime.block_on(read(&bytes, excluded.clone(), window));
        let (whole, in_windows) = (all(None), all(Some(bytes_max)));
        let live: Vec<i64> = (0..ROWS).filter(|row| !excluded.contains(*row)).map(|row| row as i64).collect();
        let Some(first) = whole.first() else {
            prop_assert!(live.is_empty() && in_windows.is_empty());
            return Ok(());
        };
        let whole = concat_batches(first.schema_ref(), &whole).unwrap();
        let in_windows = concat_batches(first.schema_ref(), &in_windows).unwrap();
        prop_assert_eq!(&in_windows, &whole);
        prop_assert_eq!(whole.column(0).as_primitive::<Int64Type>().values().as_ref(), &live[..]);
        let ids = whole.column(2).as_primitive::<Int64Type>().values();
        prop_assert!(ids.iter().zip(&live).all(|(id, row)| *id == row + 1000));
    }
}

/// Counts what is read, and how much of it at once.
#[derive(Debug)]
struct Counted {
    bytes: Bytes,
    read: Arc<AtomicU64>,
}

#[async_trait]
impl FileRead for Counted {
    async fn read(&self, range: Range<u64>) -> iceberg::Result<Bytes> {
        self.read
            .fetch_add(range.end - range.start, Ordering::Relaxed);
        Ok(self.bytes.slice(range.start as usize..range.end as usize))
    }
}

/// *Bounded*: a window asks for about as many bytes as it may, and all of them together for little more than there are.
#[tokio::test]
async fn a_window_reads_its_own_pages() {
    const BYTES_MAX: u64 = 64 << 10;
    let bytes = file(&schema());
    let size_bytes = bytes.len() as u64;
    let read = Arc::new(AtomicU64::new(0));
    let open = || {
        let (bytes, read) = (bytes.clone(), read.clone());
        PageReader::new(
            Box::new(Counted { bytes, read }),
            size_bytes,
            Some(BYTES_MAX),
        )
    };
    let builder = ParquetRecordBatchStreamBuilder::new(open()).await.unwrap();
    let metadata = builder.metadata().clone();
    let mask = ProjectionMask::all();
    let all = windows(&metadata, &mask, BYTES_MAX);
    assert_eq!(all.first().map(|window| window.rows.start), Some(0));
    assert_eq!(all.last().map(|window| window.rows.end), Some(ROWS));
    assert!(
        all.windows(2)
            .all(|pair| pair[0].rows.end == pair[1].rows.start)
    );
    let options = ArrowReaderOptions::new();
    let metadata = ArrowReaderMetadata::try_new(metadata, options).unwrap();
    let mut sum = 0;
    for window in all {
        read.store(0, Ordering::Relaxed);
        let live = selection(&RoaringTreemap::new(), &window.group_rows, &window.rows);
        let batches = ParquetRecordBatchStreamBuilder::new_with_metadata(open(), metadata.clone())
            .with_row_groups(vec![window.row_group])
            .with_row_selection(live);
        let batches: Vec<RecordBatch> = batches.build().unwrap().try_collect().await.unwrap();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows as u64, window.rows.end - window.rows.start);
        let bytes = read.load(Ordering::Relaxed);
        assert!(bytes <= BYTES_MAX * 3 / 2, "{bytes} bytes for {window:?}");
        sum += bytes;
    }
    assert!(sum <= size_bytes * 5 / 4, "{sum} bytes of {size_bytes}");
}
