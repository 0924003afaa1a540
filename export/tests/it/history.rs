//! Invariant 5, "same": after every tick the Iceberg tables hold what the database holds, row for row.

use futures::TryStreamExt;
use iceberg::table::StaticTable;
use moonshine_engine::{Column, ColumnType, Origin, Table, TableSchema, Value};
use moonshine_export::{ExportError, FormatVersion, IcebergReader};

use crate::support::{Random, VERSIONS, World, ident, note, notes, rows_of, write_notes};

#[tokio::test(flavor = "multi_thread")]
async fn random_histories() {
    for version in VERSIONS {
        for seed in [1, 2, 3] {
            random_history(version, seed).await;
        }
    }
}

async fn random_history(version: FormatVersion, seed: u64) {
    let world = World::new(version);
    let database = world.database();
    let notes = notes(&database);
    let schema = TableSchema::builder("pairs")
        .column_with_id("right", ColumnType::Utf8, false, 7)
        .column_with_id("left", ColumnType::Int32, false, 3)
        .column_with_id("value", ColumnType::Float64, true, 12)
        .primary_key(["left", "right"])
        .build()
        .unwrap();
    let pairs = database.create_table(schema).unwrap();
    let mut exporter = world.exporter(&database).await.unwrap();
    let mut random = Random(seed);
    for tick in 0..12 {
        for _ in 0..random.below(4) {
            random_transaction(&database, &notes, &pairs, &mut random);
        }
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;
        if tick % 5 == 4 {
            drop(exporter);
            exporter = world.exporter(&database).await.unwrap();
        }
    }
    for table in [ident("shop", "notes"), ident("default", "pairs")] {
        world.check_manifests(&table).await;
    }
    let summaries = IcebergReader::open(&world.config())
        .await
        .unwrap()
        .summary()
        .await
        .unwrap();
    let rows: Vec<(&str, u64)> = summaries
        .iter()
        .map(|table| (table.table.as_str(), table.row_count))
        .collect();
    let snapshot = database.snapshot();
    let expected = [
        ("default.pairs", snapshot.row_count(&pairs).unwrap()),
        ("shop.notes", snapshot.row_count(&notes).unwrap()),
    ];
    assert_eq!(rows, expected);
}

fn random_transaction(
    database: &moonshine_engine::Database,
    notes: &Table,
    pairs: &Table,
    random: &mut Random,
) {
    let mut transaction = database.begin();
    if random.below(12) == 0 {
        transaction
            .truncate(if random.below(2) == 0 { notes } else { pairs })
            .unwrap();
    }
    for _ in 0..random.below(60) {
        let id = random.below(150) as i64;
        match random.below(4) {
            0 => transaction.delete(notes, &[Value::Int64(id)]).unwrap(),
            1 => transaction.upsert(pairs, pair(id, random)).unwrap(),
            2 => {
                let pair = pair(id, random);
                transaction
                    .delete(pairs, &[pair[1].clone(), pair[0].clone()])
                    .unwrap();
            }
            _ => transaction
                .upsert(notes, note(id, &format!("note {}", random.below(9))))
                .unwrap(),
        }
    }
    transaction.set_origin(Origin {
        source: "test".into(),
        position: random.next().to_string(),
    });
    transaction.commit().unwrap();
}

fn pair(id: i64, random: &mut Random) -> Vec<Value> {
    let value = if random.below(3) == 0 {
        Value::Null
    } else {
        Value::Float64(random.below(100) as f64 / 8.0)
    };
    vec![
        Value::Utf8(format!("r{}", id % 7)),
        Value::Int32((id / 7) as i32),
        value,
    ]
}

/// Field ids are the database's own, in any order; the catalog does not number them anew.
#[tokio::test(flavor = "multi_thread")]
async fn field_ids_and_identifiers_are_the_engines() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let schema = TableSchema::builder("t")
        .column_with_id("b", ColumnType::Utf8, false, 9)
        .column_with_id("a", ColumnType::Int32, true, 4)
        .primary_key(["b"])
        .build()
        .unwrap();
    let table = database.create_table(schema).unwrap();
    world
        .exporter(&database)
        .await
        .unwrap()
        .tick(&database.snapshot())
        .await
        .unwrap();
    let metadata = world.metadata(&ident("default", "t")).await;
    let schema = metadata.current_schema();
    let fields: Vec<(i32, &str)> = schema
        .as_struct()
        .fields()
        .iter()
        .map(|f| (f.id, f.name.as_str()))
        .collect();
    let expected: Vec<(i32, &str)> = table
        .schema()
        .columns()
        .iter()
        .map(|c: &Column| (c.field_id, c.name.as_str()))
        .collect();
    assert_eq!(fields, expected);
    assert_eq!(schema.identifier_field_ids().collect::<Vec<_>>(), [9]);
    assert_eq!(metadata.schemas_iter().count(), 1);
    assert_eq!(metadata.last_column_id(), 9);
    assert!(
        metadata.current_snapshot().is_none(),
        "an empty table has no snapshot"
    );
}

/// The crate's own reader, which knows position deletes but no deletion vectors, agrees.
#[tokio::test(flavor = "multi_thread")]
async fn another_reader_agrees_on_position_deletes() {
    let world = World::new(FormatVersion::V2);
    let database = world.database();
    let table = notes(&database);
    let mut exporter = world.exporter(&database).await.unwrap();
    write_notes(
        &database,
        &table,
        (0..1000).map(|id| (id, format!("first {id}"))),
        &[],
    );
    exporter.tick(&database.snapshot()).await.unwrap();
    write_notes(
        &database,
        &table,
        (100..200).map(|id| (id, format!("second {id}"))),
        &[5, 6, 7, 999],
    );
    exporter.tick(&database.snapshot()).await.unwrap();
    write_notes(&database, &table, [], &[8, 150]);
    exporter.tick(&database.snapshot()).await.unwrap();

    let catalog = world.catalog().await;
    let found = catalog
        .load(&ident("shop", "notes"))
        .await
        .unwrap()
        .unwrap();
    let table_ident = ident("shop", "notes");
    let file_io = found.file_io.clone();
    let read = StaticTable::from_metadata_file(&found.metadata_location, table_ident, file_io)
        .await
        .unwrap();
    let batches: Vec<_> = read
        .scan()
        .build()
        .unwrap()
        .to_arrow()
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let batches = batches
        .into_iter()
        .map(|batch: arrow_array::RecordBatch| {
            arrow_array::RecordBatch::try_new(
                table.schema().arrow_schema().clone(),
                batch.columns().to_vec(),
            )
            .unwrap()
        })
        .collect();
    let rows = rows_of(table.schema(), batches);
    assert_eq!(rows.len(), 994);
    assert_eq!(rows, world.exported_rows(&database, &table).await);
}

/// Large exports are split at the target file size, in key order, and later deletes find their rows in every file.
#[tokio::test(flavor = "multi_thread")]
async fn large_exports_are_split() {
    for version in VERSIONS {
        let world = World::new(version);
        let database = world.database();
        let table = notes(&database);
        let mut random = Random(5);
        let noise = |random: &mut Random| {
            (0..40)
                .map(|_| format!("{:x}", random.next()))
                .collect::<String>()
        };
        write_notes(
            &database,
            &table,
            (0..9000).map(|id| (id, noise(&mut random))),
            &[],
        );
        let mut exporter = world.exporter(&database).await.unwrap();
        let exports = exporter.tick(&database.snapshot()).await.unwrap();
        assert!(exports[0].data_files > 1, "{exports:?}");
        let deleted: Vec<i64> = (0..9000).step_by(3).collect();
        write_notes(&database, &table, [], &deleted);
        let exports = exporter.tick(&database.snapshot()).await.unwrap();
        assert_eq!(
            (
                exports[0].rows_removed,
                exports[0].rows_written,
                exports[0].data_files
            ),
            (3000, 0, 0)
        );
        world.check_same(&database).await;
        // Whole files go; their neighbours in the manifest keep their row ids.
        let deleted: Vec<i64> = (0..6000).collect();
        write_notes(&database, &table, [], &deleted);
        exporter.tick(&database.snapshot()).await.unwrap();
        let metadata = world.metadata(&ident("shop", "notes")).await;
        let properties = &metadata
            .current_snapshot()
            .unwrap()
            .summary()
            .additional_properties;
        assert!(
            properties.contains_key("deleted-data-files") && properties["total-data-files"] != "0"
        );
        world.check_same(&database).await;
        world.check_manifests(&ident("shop", "notes")).await;
    }
}

/// A data file that has lost its last row leaves the table, with its deletes.
#[tokio::test(flavor = "multi_thread")]
async fn files_without_rows_leave() {
    for version in VERSIONS {
        let world = World::new(version);
        let database = world.database();
        let table = notes(&database);
        let mut exporter = world.exporter(&database).await.unwrap();
        write_notes(
            &database,
            &table,
            (0..10).map(|id| (id, "old".to_owned())),
            &[],
        );
        exporter.tick(&database.snapshot()).await.unwrap();
        write_notes(
            &database,
            &table,
            (0..4).map(|id| (id, "new".to_owned())),
            &[],
        );
        exporter.tick(&database.snapshot()).await.unwrap();
        write_notes(&database, &table, [], &[4, 5, 6, 7, 8, 9]);
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;
        let summary = IcebergReader::open(&world.config())
            .await
            .unwrap()
            .summary()
            .await
            .unwrap();
        assert_eq!((summary[0].data_files, summary[0].row_count), (1, 4));
        let metadata = world.metadata(&ident("shop", "notes")).await;
        let properties = &metadata
            .current_snapshot()
            .unwrap()
            .summary()
            .additional_properties;
        assert_eq!(properties["total-delete-files"], "0");
        assert_eq!(properties["deleted-data-files"], "1");
        world.check_manifests(&ident("shop", "notes")).await;
    }
}

/// What the summary says of the position, in the same commit as the rows.
#[tokio::test(flavor = "multi_thread")]
async fn the_summary_tells_the_position() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let table = notes(&database);
    let mut exporter = world.exporter(&database).await.unwrap();
    let mut transaction = database.begin();
    transaction.upsert(&table, note(1, "one")).unwrap();
    transaction.set_origin(Origin {
        source: "pg".into(),
        position: "0/16B3748".into(),
    });
    let seq = transaction.commit().unwrap();
    let exports = exporter.tick(&database.snapshot()).await.unwrap();
    assert_eq!(exports[0].commit_seq, seq);
    assert!(
        exporter
            .tick(&database.snapshot())
            .await
            .unwrap()
            .is_empty(),
        "nothing new, no commit"
    );
    let metadata = world.metadata(&ident("shop", "notes")).await;
    let summary = metadata.current_snapshot().unwrap().summary();
    assert_eq!(summary.operation.as_str(), "append");
    let properties = &summary.additional_properties;
    assert_eq!(properties["moonshine.commit-seq"], seq.to_string());
    assert_eq!(properties["moonshine.origins"], r#"{"pg":"0/16B3748"}"#);
    let epoch: u64 = properties["moonshine.writer-epoch"].parse().unwrap();
    assert!(epoch > 0);
    assert_eq!(
        properties["moonshine.database-id"],
        database.id().to_string()
    );
    assert_eq!(properties["added-records"], "1");
}

/// Old metadata files go; what is left is what the metadata's log names, and the current one.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_files_are_bounded() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let table = notes(&database);
    let mut exporter = world.exporter(&database).await.unwrap();
    for round in 0..110 {
        write_notes(
            &database,
            &table,
            [(round % 3, format!("round {round}"))],
            &[],
        );
        exporter.tick(&database.snapshot()).await.unwrap();
    }
    let files = std::fs::read_dir(world.path("warehouse/shop/notes/metadata")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(
        names
            .filter(|name| name.ends_with(".metadata.json"))
            .count(),
        101
    );
    world.check_same(&database).await;
}

/// A file that is missing stops the table's export with its name, and the export goes on once it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_delete_file_is_named() {
    for version in VERSIONS {
        let world = World::new(version);
        let database = world.database();
        let table = notes(&database);
        let mut exporter = world.exporter(&database).await.unwrap();
        write_notes(
            &database,
            &table,
            (0..10).map(|id| (id, "old".to_owned())),
            &[],
        );
        exporter.tick(&database.snapshot()).await.unwrap();
        write_notes(&database, &table, [], &[1]);
        exporter.tick(&database.snapshot()).await.unwrap();
        let folder = world.path("warehouse/shop/notes/data");
        let files = std::fs::read_dir(&folder)
            .unwrap()
            .map(|file| file.unwrap().path());
        let deletes = files
            .filter(|path| path.to_string_lossy().contains("-deletes-"))
            .collect::<Vec<_>>();
        assert_eq!(deletes.len(), 1);
        std::fs::rename(&deletes[0], folder.join("away")).unwrap();
        write_notes(&database, &table, [(20, "new".to_owned())], &[2]);
        let error = exporter.tick(&database.snapshot()).await.unwrap_err();
        let name = deletes[0].file_name().unwrap().to_string_lossy();
        assert!(
            matches!(&error, ExportError::Corrupt { place, .. } if place.contains(&*name)),
            "{error}"
        );
        assert_eq!(
            std::fs::read_dir(&folder).unwrap().count(),
            2,
            "the failed export left nothing behind"
        );
        std::fs::rename(folder.join("away"), &deletes[0]).unwrap();
        // Also from a task of its own, as a service runs it.
        let snapshot = database.snapshot();
        tokio::spawn(async move { exporter.tick(&snapshot).await })
            .await
            .unwrap()
            .unwrap();
        world.check_same(&database).await;
    }
}
