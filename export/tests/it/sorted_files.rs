//! What files say of the order of their rows, and the z-order. Defends *same* whatever the order, and *honest*: no file claims an
//! order that its rows don't have.

use std::fs::File;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use futures::TryStreamExt;
use moonshine_engine::{ColumnType, Database, Table, TableSchema, Value};
use moonshine_export::{ExportError, Exporter, FormatVersion, IcebergReader};
use parquet::file::metadata::SortingColumn;
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::support::{Random, VERSIONS, World, ident};

/// A table of points.
fn points(database: &Database, key: &[&str]) -> Table {
    let schema = TableSchema::builder("shop.points")
        .column("id", ColumnType::Int64, false)
        .column("x", ColumnType::Int64, key.contains(&"x"))
        .column("y", ColumnType::Int64, true)
        .column("ratio", ColumnType::Float64, false)
        .primary_key(key.iter().copied())
        .build()
        .unwrap();
    database.create_table(schema).unwrap()
}

async fn exporter(world: &World, database: &Database, layout: &str) -> Exporter {
    let mut config = world.config();
    let layout = serde_json::from_str(layout).unwrap();
    config.tables.insert("shop.points".to_owned(), layout);
    Exporter::open(database.clone(), &config).await.unwrap()
}

/// Writes points of a grid of 64 by 64: a share of them, in no order.
fn write(database: &Database, table: &Table, random: &mut Random, share: u64) {
    let mut transaction = database.begin();
    for id in 0..4096_i64 {
        let is_corner = [0, 4095].contains(&id);
        if is_corner || random.below(share) == 0 {
            let place = id * 1_663 % 4096;
            let row = [place / 64, place % 64].map(Value::Int64);
            let [x, y] = row;
            let ratio = Value::Float64(random.below(100) as f64);
            transaction
                .upsert(table, vec![Value::Int64(id), x, y, ratio])
                .unwrap();
        }
    }
    transaction.commit().unwrap();
}

/// What each row group of the live files says that its rows are sorted by, and their points in order.
async fn files(
    world: &World,
    database: &Database,
    table: &Table,
) -> Vec<(Vec<SortingColumn>, Vec<[i64; 2]>)> {
    let reader = IcebergReader::open(&world.config()).await.unwrap();
    let token = database.exported(table).unwrap().token;
    let snapshot = reader.load(table, &token).await.unwrap();
    let mut files = Vec::new();
    for (index, file) in snapshot.files().iter().enumerate() {
        let path = file.path().strip_prefix("file://").unwrap();
        let parquet = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        let groups = parquet.metadata().row_groups();
        let sorting = groups[0].sorting_columns().cloned().unwrap_or_default();
        for group in groups {
            assert_eq!(
                group.sorting_columns().cloned().unwrap_or_default(),
                sorting
            );
        }
        let batches: Vec<_> = snapshot
            .scan_file(index, None, &[])
            .try_collect()
            .await
            .unwrap();
        let rows = batches.iter().flat_map(|batch| {
            let [x, y] = [1, 2].map(|column| batch.column(column).as_primitive::<Int64Type>());
            let rows = x.iter().zip(y).map(|(x, y)| [x.unwrap(), y.unwrap()]);
            rows.collect::<Vec<_>>()
        });
        files.push((sorting, rows.collect()));
    }
    files
}

/// The number that the bits of both make, the first one's first.
fn interleaved([x, y]: [i64; 2]) -> i64 {
    (0..6).rev().fold(0, |number, bit| {
        number << 2 | (x >> bit & 1) << 1 | y >> bit & 1
    })
}

fn column(column_idx: i32, descending: bool, nulls_first: bool) -> SortingColumn {
    SortingColumn {
        column_idx,
        descending,
        nulls_first,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_say_what_their_rows_are_sorted_by() {
    let by_key = vec![column(0, false, true)];
    for (key, layout, expected) in [
        (&["id"][..], "{}", by_key.clone()),
        (
            &["id"],
            r#"{"partition_by": ["bucket(3, id)"]}"#,
            by_key.clone(),
        ),
        (
            &["id"],
            r#"{"sort_by": ["y desc nulls first", "x nulls last"]}"#,
            vec![column(2, true, true), column(1, false, false)],
        ),
        // Parquet has no order of floats that is ours.
        (
            &["id"],
            r#"{"sort_by": ["x", "ratio", "y"]}"#,
            vec![column(1, false, true)],
        ),
        (&["ratio", "id"], "{}", vec![]),
        (&["id", "ratio"], "{}", by_key),
        (&["id"], r#"{"sort_by": ["zorder(x, y)"]}"#, vec![]),
    ] {
        let world = World::new(FormatVersion::V3);
        let database = world.database();
        let table = points(&database, key);
        let mut exporter = exporter(&world, &database, layout).await;
        let mut random = Random(3);
        for share in [1, 50] {
            write(&database, &table, &mut random, share);
            exporter.tick(&database.snapshot()).await.unwrap();
            for (sorting, _) in files(&world, &database, &table).await {
                assert_eq!(sorting, expected, "{layout}");
            }
        }
        exporter.maintainer().run(None, false).await.unwrap();
        for (sorting, _) in files(&world, &database, &table).await {
            assert!(sorting.is_empty() || sorting == expected, "{layout}");
        }
        world.check_same(&database).await;
    }
}

/// Rows lie in z-order through exports and rewrites, and the table, which has no word for it, is unsorted.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_in_z_order() {
    for version in VERSIONS {
        let world = World::new(version);
        let database = world.database();
        let table = points(&database, &["id"]);
        let mut random = Random(5);
        let mut by_key = exporter(&world, &database, "{}").await;
        write(&database, &table, &mut random, 30);
        by_key.tick(&database.snapshot()).await.unwrap();
        drop(by_key);
        let mut exporter = exporter(&world, &database, r#"{"sort_by": ["zorder(x, y)"]}"#).await;
        for share in [1, 20, 20] {
            write(&database, &table, &mut random, share);
            exporter.tick(&database.snapshot()).await.unwrap();
        }
        let metadata = world.metadata(&ident("shop", "points")).await;
        assert!(metadata.default_sort_order().fields.is_empty());
        let mut counts = Vec::new();
        for run in ["exported", "rewritten"] {
            let files = files(&world, &database, &table).await;
            counts.push(files.len());
            let mut rows = 0;
            for (sorting, points) in files {
                assert!(sorting.is_empty());
                assert!(
                    points.is_sorted_by_key(|point| interleaved(*point)),
                    "{run}, {version:?}"
                );
                rows += points.len();
            }
            assert_eq!(rows, 4096);
            world.check_same(&database).await;
            world.check_manifests(&ident("shop", "points")).await;
            exporter.maintainer().run(None, false).await.unwrap();
        }
        assert!(counts[1] < counts[0], "some became one: {counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_z_order_that_does_not_do_is_refused() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let table = points(&database, &["id"]);
    for (sort_by, words) in [
        (&["zorder(x)"][..], "two columns"),
        (&["zorder(x, y)", "id"], "by itself"),
    ] {
        let mut config = world.config();
        let all = config.tables.entry("*".to_owned()).or_default();
        all.sort_by = Some(sort_by.iter().map(|text| (*text).to_owned()).collect());
        let refused = config.check().unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    write(&database, &table, &mut Random(1), 50);
    let mut exporter = exporter(&world, &database, r#"{"sort_by": ["zorder(x, other)"]}"#).await;
    let refused = exporter.tick(&database.snapshot()).await;
    assert!(
        matches!(&refused, Err(ExportError::Config(text)) if text.contains("no column 'other'")),
        "{refused:?}"
    );
}
