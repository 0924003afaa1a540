//! Partition values, bounds and pruning by other implementations: `tests/python/partitions.py` recomputes every partition value by
//! PyIceberg's transforms, looks for every value in its plans, and asks DuckDB for it. Defends *same*.

use std::path::Path;
use std::process::Command;

use moonshine_engine::{ColumnType, TableSchema, Value};
use moonshine_export::Exporter;

use crate::installed::python;
use crate::support::{VERSIONS, World, ident};

const DAY_US: i64 = 86_400_000_000;
const YEAR_1_DAY: i32 = -719_162;
const YEAR_9999_DAY: i32 = 2_932_896;

const COLUMNS: [(&str, ColumnType); 11] = [
    ("int32", ColumnType::Int32),
    ("int64", ColumnType::Int64),
    (
        "decimal9",
        ColumnType::Decimal {
            precision: 9,
            scale: 2,
        },
    ),
    (
        "decimal38",
        ColumnType::Decimal {
            precision: 38,
            scale: 0,
        },
    ),
    ("string", ColumnType::Utf8),
    ("binary", ColumnType::Binary),
    ("uuid", ColumnType::Uuid),
    ("date", ColumnType::Date),
    ("time", ColumnType::Time),
    ("timestamp", ColumnType::Timestamp),
    ("timestamptz", ColumnType::TimestampTz),
];

const TRANSFORMS: [&str; 24] = [
    "bucket(7, int32)",
    "bucket(1000, int64)",
    "bucket(7, decimal9)",
    "bucket(2147483647, decimal38)",
    "bucket(7, string)",
    "bucket(7, binary)",
    "bucket(7, uuid)",
    "bucket(7, date)",
    "bucket(7, time)",
    "bucket(7, timestamp)",
    "bucket(7, timestamptz)",
    "truncate(10, int32)",
    "truncate(2147483647, int64)",
    "truncate(50, decimal9)",
    "truncate(3, decimal38)",
    "truncate(2, string)",
    "truncate(2, binary)",
    "year(date)",
    "month(timestamp)",
    "day(timestamptz)",
    "int64",
    "string",
    "time",
    "void(binary)",
];

/// Rows at the extremes, around zero, and null. The lowest integers are those whose truncation is one.
fn rows() -> Vec<Vec<Value>> {
    const MAX_38: i128 = 10_i128.pow(38) - 1;
    let numbers = [
        (i32::MAX, i64::MAX, 999_999_999, MAX_38),
        (
            i32::MIN + 8,
            i64::MIN + 2_147_483_646,
            -999_999_999,
            -MAX_38 + 2,
        ),
        (0, 0, 0, 0),
        (-1, -1, -1, -1),
        (1, 1, 1, 128),
        (-10, -2_147_483_647, -50, -129),
        (-11, -2_147_483_648, -51, 255),
        (34, 34, 1420, -256),
    ];
    let texts = [
        "",
        "a",
        "iceberg",
        "\u{1f980}\u{1f980}\u{1f980}",
        "naïve",
        "\u{10ffff}",
        "ab",
        "abc",
    ];
    let times = [
        0,
        DAY_US - 1,
        81_068_000_000,
        1,
        3_599_999_999,
        3_600_000_000,
        43_200_000_000,
        7,
    ];
    // Just before, at and after the ends of days, months and years, on both sides of 1970, and leap days.
    let timestamps = [
        0,
        -1,
        i64::from(YEAR_1_DAY) * DAY_US,
        (i64::from(YEAR_9999_DAY) + 1) * DAY_US - 1,
        -DAY_US,
        -DAY_US - 1,
        951_782_400_000_000,
        -3_599_999_999,
    ];
    let dates = [0, -1, YEAR_1_DAY, YEAR_9999_DAY, -365, -366, 11_016, 17_486];
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for index in 0..numbers.len() {
        let (int32, int64, decimal9, decimal38) = numbers[index];
        let uuid = [0, 1, 0x7f, 0x80, 0xf7, 0xff, 0x10, 0x8f][index];
        rows.push(vec![
            Value::Int64(index as i64),
            Value::Int32(int32),
            Value::Int64(int64),
            Value::Decimal(decimal9),
            Value::Decimal(decimal38),
            Value::Utf8(texts[index].to_owned()),
            Value::Binary(texts[index].as_bytes().to_vec()),
            Value::Uuid([uuid; 16]),
            Value::Date(dates[index]),
            Value::Time(times[index]),
            Value::Timestamp(timestamps[index]),
            Value::TimestampTz(-timestamps[index] % (50 * 365 * DAY_US)),
        ]);
    }
    let nulls = std::iter::repeat_n(Value::Null, COLUMNS.len());
    rows.push(std::iter::once(Value::Int64(100)).chain(nulls).collect());
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_what_another_implementation_reckons() {
    let Some(python) = python() else { return };
    // A partition for each row; one for some of them; none, so that bounds alone prune.
    let layouts = [
        TRANSFORMS.as_slice(),
        &["hour(timestamp)", "day(date)", "year(timestamptz)"],
        &["decimal38"],
        &[],
    ];
    for (version, partition_by) in VERSIONS
        .into_iter()
        .flat_map(|version| layouts.map(|layout| (version, layout)))
    {
        let world = World::new(version);
        let database = world.database();
        let mut schema = TableSchema::builder("types.all").column("id", ColumnType::Int64, false);
        for (name, column_type) in COLUMNS {
            schema = schema.column(name, column_type, true);
        }
        let table = database
            .create_table(schema.primary_key(["id"]).build().unwrap())
            .unwrap();
        let config = serde_json::json!({
            "warehouse_path": world.path("warehouse"),
            "format_version": version.number(),
            "tables": {"types.all": {"partition_by": partition_by}},
        });
        let config = serde_json::from_value(config).unwrap();
        let mut exporter = Exporter::open(database.clone(), &config).await.unwrap();
        // Several ticks, so that there are several files without partitions, too.
        for rows in rows().chunks(3) {
            let mut transaction = database.begin();
            for row in rows {
                transaction.upsert(&table, row.clone()).unwrap();
            }
            transaction.commit().unwrap();
            exporter.tick(&database.snapshot()).await.unwrap();
        }
        world.check_same(&database).await;
        let catalog = world.catalog().await;
        let location = catalog
            .load(&ident("types", "all"))
            .await
            .unwrap()
            .unwrap()
            .metadata_location;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/partitions.py");
        let output = Command::new(&python)
            .arg(script)
            .arg(&location)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{version:?}, {partition_by:?}: {error}"
        );
        let checked: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let count = |name: &str| checked[name].as_u64().unwrap();
        assert_eq!(count("values"), 9 * partition_by.len() as u64);
        assert_eq!(count("planned"), 9 * 12);
        assert!(count("duckdb") > 0);
        let pruned = checked["pruned"].as_object().unwrap();
        assert!(
            pruned.values().all(|count| count.as_u64() > Some(0)),
            "{checked}"
        );
    }
}
