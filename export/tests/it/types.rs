//! Every type of the engine at its extremes: what comes back from the Iceberg table is what went in.

use futures::TryStreamExt;
use moonshine_engine::{ColumnType, Database, SchemaChange, Table, TableSchema, Value};
use moonshine_export::{ExportError, FormatVersion, IcebergReader};

use crate::support::{VERSIONS, World, ident};

const MAX_38: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;

/// One column of each type, and of decimals one for each way that Parquet holds them.
fn all_types(database: &Database, version: FormatVersion) -> Table {
    let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
    let columns = [
        ("boolean", ColumnType::Boolean),
        ("int32", ColumnType::Int32),
        ("int64", ColumnType::Int64),
        ("float32", ColumnType::Float32),
        ("float64", ColumnType::Float64),
        ("decimal9", decimal(9, 2)),
        ("decimal18", decimal(18, 18)),
        ("decimal38", decimal(38, 10)),
        ("string", ColumnType::Utf8),
        ("binary", ColumnType::Binary),
        ("uuid", ColumnType::Uuid),
        ("date", ColumnType::Date),
        ("time", ColumnType::Time),
        ("timestamp", ColumnType::Timestamp),
        ("timestamptz", ColumnType::TimestampTz),
        ("timestamp_ns", ColumnType::TimestampNs),
        ("timestamptz_ns", ColumnType::TimestampTzNs),
    ];
    // Format 2 knows no nanoseconds.
    let count = match version {
        FormatVersion::V2 => columns.len() - 2,
        FormatVersion::V3 => columns.len(),
    };
    let mut builder = TableSchema::builder("types.all").column("id", ColumnType::Uuid, false);
    for (name, column_type) in columns.into_iter().take(count) {
        builder = builder.column(name, column_type, true);
    }
    database
        .create_table(builder.primary_key(["id"]).build().unwrap())
        .unwrap()
}

fn rows() -> Vec<Vec<Value>> {
    use Value::{
        Binary, Boolean, Date, Decimal, Float32, Float64, Int32, Int64, Null, Time, Timestamp,
        TimestampNs, TimestampTz, TimestampTzNs, Utf8, Uuid,
    };
    const DAY_US: i64 = 86_400_000_000;
    let id = |byte: u8| Uuid([byte; 16]);
    let mut rows = vec![
        vec![
            id(0),
            Boolean(false),
            Int32(i32::MIN),
            Int64(i64::MIN),
            Float32(f32::MIN),
            Float64(f64::MIN),
            Decimal(-999_999_999),
            Decimal(-999_999_999_999_999_999),
            Decimal(-MAX_38),
            Utf8(String::new()),
            Binary(Vec::new()),
            Uuid([0; 16]),
            Date(-719_162),
            Time(0),
            Timestamp(-62_135_596_800_000_000),
            TimestampTz(-62_135_596_800_000_000),
            TimestampNs(i64::MIN),
            TimestampTzNs(i64::MIN),
        ],
        vec![
            id(0xff),
            Boolean(true),
            Int32(i32::MAX),
            Int64(i64::MAX),
            Float32(f32::MAX),
            Float64(f64::MAX),
            Decimal(999_999_999),
            Decimal(999_999_999_999_999_999),
            Decimal(MAX_38),
            Utf8("\u{10ffff}".repeat(70)),
            Binary(vec![0xff; 70]),
            Uuid([0xff; 16]),
            Date(2_932_896),
            Time(DAY_US - 1),
            Timestamp(253_402_300_799_999_999),
            TimestampTz(253_402_300_799_999_999),
            TimestampNs(i64::MAX),
            TimestampTzNs(i64::MAX),
        ],
        vec![
            id(1),
            Null,
            Int32(0),
            Int64(-1),
            Float32(f32::NAN),
            Float64(f64::NAN),
            Decimal(0),
            Decimal(-1),
            Decimal(1),
            Utf8("naïve Ω 🦀\0 tail".into()),
            Binary(vec![0, 1, 2]),
            Uuid([0x7f; 16]),
            Date(0),
            Time(1),
            Timestamp(-1),
            TimestampTz(1),
            TimestampNs(-1),
            TimestampTzNs(1),
        ],
        vec![
            id(2),
            Boolean(true),
            Int32(-1),
            Int64(0),
            Float32(-0.0),
            Float64(-0.0),
            Decimal(-1),
            Decimal(0),
            Decimal(-1),
            Utf8("0123456789abcdefghijklmnop".into()),
            Binary((0..=255).collect()),
            Uuid([0x80; 16]),
            Date(11_016),
            Time(43_200_000_000),
            Timestamp(0),
            TimestampTz(-1),
            TimestampNs(0),
            TimestampTzNs(-1),
        ],
        vec![
            id(3),
            Boolean(false),
            Int32(1),
            Int64(1),
            Float32(f32::INFINITY),
            Float64(f64::NEG_INFINITY),
            Decimal(1),
            Decimal(1),
            Decimal(10),
            Utf8("∅".into()),
            Binary(vec![0]),
            Uuid([3; 16]),
            Date(-1),
            Time(5),
            Timestamp(951_782_400_000_000),
            TimestampTz(951_782_400_000_000),
            TimestampNs(951_782_400_000_000_001),
            TimestampTzNs(951_782_400_000_000_001),
        ],
    ];
    rows.push(
        std::iter::once(id(4))
            .chain(std::iter::repeat_n(Null, 17))
            .collect(),
    );
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_comes_back() {
    for version in VERSIONS {
        let world = World::new(version);
        let database = world.database();
        let table = all_types(&database, version);
        let columns = table.schema().columns().len();
        let rows = || {
            let rows = rows().into_iter();
            rows.map(|row| row.into_iter().take(columns).collect::<Vec<_>>())
        };
        let mut exporter = world.exporter(&database).await.unwrap();
        let mut transaction = database.begin();
        for row in rows() {
            transaction.upsert(&table, row).unwrap();
        }
        transaction.commit().unwrap();
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;
        // Written again, each row is a deleted one too.
        let mut transaction = database.begin();
        for row in rows().take(3) {
            transaction.upsert(&table, row).unwrap();
        }
        transaction.commit().unwrap();
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;
        assert_eq!(
            world.exported_rows(&database, &table).await.len(),
            rows().count()
        );
        check_metrics(&world).await;
    }
}

/// *Honest*: what format 2 has no type for is refused by name, and goes into a table of format 3, also one that was of format 2.
#[tokio::test(flavor = "multi_thread")]
async fn nanoseconds_need_format_3() {
    let mut world = World::new(FormatVersion::V2);
    let database = world.database();
    let schema = TableSchema::builder("shop.events")
        .column("id", ColumnType::Int64, false)
        .primary_key(["id"]);
    let table = database.create_table(schema.build().unwrap()).unwrap();
    let upsert = |table: &Table, row: Vec<Value>| {
        let mut transaction = database.begin();
        transaction.upsert(table, row).unwrap();
        transaction.commit().unwrap();
    };
    upsert(&table, vec![Value::Int64(1)]);
    let mut exporter = world.exporter(&database).await.unwrap();
    exporter.tick(&database.snapshot()).await.unwrap();
    let change = SchemaChange::AddColumn {
        name: "at".into(),
        column_type: ColumnType::TimestampNs,
        nullable: true,
        default: None,
    };
    let table = database.alter_table(&table, &[change]).unwrap();
    upsert(&table, vec![Value::Int64(2), Value::TimestampNs(-1)]);
    match exporter.tick(&database.snapshot()).await {
        Err(ExportError::Config(reason)) => {
            for part in ["shop.events", "'at'", "timestamp_ns", "format 3"] {
                assert!(reason.contains(part), "{reason}");
            }
        }
        other => panic!("{other:?}"),
    }
    drop(exporter);

    world.version = FormatVersion::V3;
    let mut exporter = world.exporter(&database).await.unwrap();
    exporter.tick(&database.snapshot()).await.unwrap();
    world.check_same(&database).await;
}

/// Bounds enclose the values, leave NaN out, and are not given where they might mislead.
async fn check_metrics(world: &World) {
    use iceberg::spec::{Datum, ManifestList};
    let catalog = world.catalog().await;
    let table = catalog.load(&ident("types", "all")).await;
    let (file_io, metadata) = table
        .unwrap()
        .map(|table| (table.file_io, table.metadata))
        .unwrap();
    let mut snapshots: Vec<_> = metadata.snapshots().collect();
    snapshots.sort_by_key(|snapshot| snapshot.sequence_number());
    let bytes = file_io
        .new_input(snapshots[0].manifest_list())
        .unwrap()
        .read()
        .await
        .unwrap();
    let list = ManifestList::parse_with_version(&bytes, metadata.format_version()).unwrap();
    let manifest = list.entries()[0].load_manifest(&file_io).await.unwrap();
    let file = manifest.entries()[0].data_file();
    let id = |name: &str| metadata.current_schema().field_id_by_name(name).unwrap();
    let bounds = |name: &str| {
        (
            file.lower_bounds().get(&id(name)).cloned(),
            file.upper_bounds().get(&id(name)).cloned(),
        )
    };
    assert_eq!(file.record_count(), 6);
    assert_eq!(file.value_counts()[&id("int32")], 6);
    assert_eq!(
        (
            file.null_value_counts()[&id("id")],
            file.null_value_counts()[&id("boolean")]
        ),
        (0, 2)
    );
    assert_eq!(file.nan_value_counts()[&id("float64")], 1);
    assert!(file.split_offsets().is_some_and(|offsets| offsets == [4]));
    assert_eq!(
        bounds("int64"),
        (Some(Datum::long(i64::MIN)), Some(Datum::long(i64::MAX)))
    );
    assert_eq!(
        bounds("float64"),
        (
            Some(Datum::double(f64::NEG_INFINITY)),
            Some(Datum::double(f64::MAX))
        )
    );
    assert_eq!(
        bounds("string"),
        (Some(Datum::string("")), None),
        "nothing is above U+10FFFF"
    );
    assert_eq!(bounds("uuid"), (None, None));
    let (lower, upper) = bounds("decimal38");
    assert_eq!(
        lower.unwrap().to_bytes().unwrap().into_vec(),
        (-MAX_38).to_be_bytes()
    );
    assert_eq!(
        upper.unwrap().to_bytes().unwrap().into_vec(),
        MAX_38.to_be_bytes()
    );
}

/// A scan may leave out columns and rows.
#[tokio::test(flavor = "multi_thread")]
async fn scans_project_and_exclude() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let table = crate::support::notes(&database);
    let mut exporter = world.exporter(&database).await.unwrap();
    crate::support::write_notes(
        &database,
        &table,
        (0..20_000).map(|id| (id, format!("n{id}"))),
        &[],
    );
    exporter.tick(&database.snapshot()).await.unwrap();
    crate::support::write_notes(&database, &table, [], &[0, 10_000, 19_999]);
    exporter.tick(&database.snapshot()).await.unwrap();
    let reader = IcebergReader::open(&world.config()).await.unwrap();
    let token = database.exported(&table).unwrap().token;
    let snapshot = reader.load(&table, &token).await.unwrap();
    assert_eq!(
        (
            snapshot.files()[0].row_count(),
            snapshot.files()[0].live_row_count()
        ),
        (20_000, 19_997)
    );
    let excluded: Vec<u64> = (1..10_000).collect();
    for (projection, columns) in [
        (vec![1, 0], vec!["note", "id"]),
        (vec![1], vec!["note"]),
        (vec![], vec![]),
    ] {
        let batches: Vec<arrow_array::RecordBatch> = snapshot
            .scan_file(0, Some(&projection), &excluded)
            .try_collect()
            .await
            .unwrap();
        assert_eq!(
            batches.iter().map(|batch| batch.num_rows()).sum::<usize>(),
            9_998
        );
        for batch in &batches {
            let schema = batch.schema();
            assert_eq!(
                schema
                    .fields()
                    .iter()
                    .map(|field| field.name().as_str())
                    .collect::<Vec<_>>(),
                columns
            );
        }
    }
    let none: Vec<u64> = (0..20_000).collect();
    let nothing: Vec<_> = snapshot
        .scan_file(0, None, &none)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    assert!(nothing.is_empty());
    assert!(
        snapshot
            .scan_file(7, None, &[])
            .try_collect::<Vec<_>>()
            .await
            .is_err()
    );
}
