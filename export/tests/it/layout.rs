//! Partitions, sort orders, and what files are made of. Defends *same* and *once*: whatever the layout, and however rows move
//! between partitions, the Iceberg table holds the database's rows.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use futures::TryStreamExt;
use iceberg::spec::{
    DataFile, Literal, ManifestContentType, ManifestList, ManifestStatus, PrimitiveLiteral,
};
use moonshine_engine::{ColumnType, Database, SchemaChange, Table, TableSchema, Value};
use moonshine_export::environment::Environment;
use moonshine_export::{
    ExportError, Exporter, FormatVersion, IcebergConfig, IcebergReader, LayoutLimits,
    LayoutSettings, MaintenanceAction, MaintenanceTask, SettingsByTable, TableSettings,
};

use crate::support::{Random, VERSIONS, World, ident};

/// A configuration that lays the table `shop.sales` out like this.
fn config(world: &World, layout: &str) -> IcebergConfig {
    let warehouse = world.path("warehouse");
    let version = world.version.number();
    let json = format!(
        r#"{{"warehouse_path": {warehouse:?}, "format_version": {version}, "target_file_size_mb": 1,
            "tables": {{"shop.sales": {layout}}}}}"#
    );
    serde_json::from_str(&json).unwrap()
}

async fn exporter(
    world: &World,
    database: &Database,
    layout: &str,
) -> Result<Exporter, ExportError> {
    Exporter::open(database.clone(), &config(world, layout)).await
}

fn sales(database: &Database) -> Table {
    let schema = TableSchema::builder("shop.sales")
        .column("id", ColumnType::Int64, false)
        .column("region", ColumnType::Utf8, true)
        .column("amount", ColumnType::Int64, true)
        .primary_key(["id"])
        .build()
        .unwrap();
    database.create_table(schema).unwrap()
}

/// Writes and deletes rows at random; regions and amounts change, and may be null.
fn change(database: &Database, table: &Table, random: &mut Random, rows: u64, ids: u64) {
    let mut transaction = database.begin();
    for _ in 0..rows {
        let id = random.below(ids) as i64 - ids as i64 / 2;
        if random.below(4) == 0 {
            transaction.delete(table, &[Value::Int64(id)]).unwrap();
            continue;
        }
        let region = match random.below(5) {
            0 => Value::Null,
            region => Value::Utf8(format!("region {region}")),
        };
        let amount = match random.below(6) {
            0 => Value::Null,
            _ => Value::Int64(random.below(1000) as i64 - 500),
        };
        transaction
            .upsert(table, vec![Value::Int64(id), region, amount])
            .unwrap();
    }
    transaction.commit().unwrap();
}

/// The live data files of the newest snapshot, with the id of their spec.
async fn files(world: &World) -> Vec<(i32, DataFile)> {
    let metadata = world.metadata(&ident("shop", "sales")).await;
    let file_io = iceberg::io::FileIO::new_with_fs();
    let list = metadata.current_snapshot().unwrap().manifest_list();
    let bytes = file_io.new_input(list).unwrap().read().await.unwrap();
    let list = ManifestList::parse_with_version(&bytes, metadata.format_version()).unwrap();
    let mut files = Vec::new();
    let mut partitions = BTreeMap::new();
    let mut deletes = Vec::new();
    for manifest in list.entries() {
        for entry in manifest.load_manifest(&file_io).await.unwrap().entries() {
            let file = entry.data_file().clone();
            if entry.status() == ManifestStatus::Deleted {
                continue;
            }
            let partition = (manifest.partition_spec_id, file.partition().clone());
            if manifest.content == ManifestContentType::Deletes {
                deletes.push((file.referenced_data_file().unwrap(), partition));
                continue;
            }
            partitions.insert(file.file_path().to_owned(), partition);
            files.push((manifest.partition_spec_id, file));
        }
    }
    for (data_file, partition) in deletes {
        assert_eq!(
            partitions[&data_file], partition,
            "a delete is of its data file's partition"
        );
    }
    files
}

/// (id, region, amount) of a file's live rows, in their order.
type Sale = (i64, Option<String>, Option<i64>);

async fn rows_by_file(
    world: &World,
    database: &Database,
    table: &Table,
) -> BTreeMap<String, Vec<Sale>> {
    let reader = IcebergReader::open(&world.config()).await.unwrap();
    let token = database.exported(table).unwrap().token;
    let snapshot = reader.load(table, &token).await.unwrap();
    let mut by_file = BTreeMap::new();
    for index in 0..snapshot.files().len() {
        let scan = snapshot.scan_file(index, None, &[]);
        let batches: Vec<_> = scan.try_collect().await.unwrap();
        let rows = batches.iter().flat_map(|batch| {
            let [id, region, amount] = [0, 1, 2].map(|column| batch.column(column));
            let (id, amount) = (
                id.as_primitive::<Int64Type>(),
                amount.as_primitive::<Int64Type>(),
            );
            let values = id.iter().zip(region.as_string::<i32>()).zip(amount);
            values
                .map(|((id, region), amount)| (id.unwrap(), region.map(str::to_owned), amount))
                .collect::<Vec<_>>()
        });
        by_file.insert(snapshot.files()[index].path().to_owned(), rows.collect());
    }
    by_file
}

fn long(value: Option<i64>) -> Option<Literal> {
    value.map(|value| Literal::Primitive(PrimitiveLiteral::Long(value)))
}

fn string(value: Option<&str>) -> Option<Literal> {
    value.map(|value| Literal::Primitive(PrimitiveLiteral::String(value.to_owned())))
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_move_between_partitions() {
    const LAYOUT: &str = r#"{"partition_by": ["region", "truncate(100, amount)"]}"#;
    for version in VERSIONS {
        let world = World::new(version);
        let database = world.database();
        let table = sales(&database);
        let mut exporter = exporter(&world, &database, LAYOUT).await.unwrap();
        let mut random = Random(7);
        for tick in 0..8 {
            change(&database, &table, &mut random, 150, 300);
            exporter.tick(&database.snapshot()).await.unwrap();
            world.check_same(&database).await;
            if tick == 4 {
                let mut transaction = database.begin();
                transaction.truncate(&table).unwrap();
                transaction.commit().unwrap();
            }
        }
        world.check_manifests(&ident("shop", "sales")).await;
        let rows = rows_by_file(&world, &database, &table).await;
        let mut found = 0;
        for (_, file) in files(&world).await {
            for (_, region, amount) in &rows[file.file_path()] {
                let below = amount.map(|amount| amount - amount.rem_euclid(100));
                let expected = [string(region.as_deref()), long(below)];
                assert_eq!(file.partition().fields(), expected);
                found += 1;
            }
        }
        assert!(found > 50, "{found} rows");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_sorted_as_asked() {
    const LAYOUT: &str = r#"{"sort_by": ["region desc nulls first", "amount nulls last"], "partition_by": ["bucket(3, id)"]}"#;
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let table = sales(&database);
    let mut exporter = exporter(&world, &database, LAYOUT).await.unwrap();
    let mut random = Random(11);
    for _ in 0..4 {
        change(&database, &table, &mut random, 400, 500);
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;
    }
    let order_id = world
        .metadata(&ident("shop", "sales"))
        .await
        .default_sort_order()
        .order_id;
    assert!(order_id > 0);
    for (_, file) in files(&world).await {
        assert_eq!(file.sort_order_id().map(i64::from), Some(order_id));
    }
    for (path, rows) in rows_by_file(&world, &database, &table).await {
        let mut sorted = rows.clone();
        sorted.sort_by_key(|(_, region, amount)| {
            let region = region.clone().map(std::cmp::Reverse);
            (region.is_some(), region, amount.is_none(), *amount)
        });
        let keys = |rows: &[Sale]| {
            rows.iter()
                .map(|(_, region, amount)| (region.clone(), *amount))
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(&rows), keys(&sorted), "{path}");
    }
}

/// More partitions than files may be open take several passes over the rows, and each has one file.
#[tokio::test(flavor = "multi_thread")]
async fn many_partitions_have_one_file_each() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let table = sales(&database);
    let mut exporter = exporter(&world, &database, r#"{"partition_by": ["amount"]}"#)
        .await
        .unwrap();
    let mut transaction = database.begin();
    for id in 0..20_000_i64 {
        let row = vec![Value::Int64(id), Value::Null, Value::Int64(id * 7919 % 300)];
        transaction.upsert(&table, row).unwrap();
    }
    transaction.commit().unwrap();
    let exports = exporter.tick(&database.snapshot()).await.unwrap();
    assert_eq!(
        (exports[0].data_files, exports[0].rows_written),
        (300, 20_000)
    );
    world.check_same(&database).await;
    change(&database, &table, &mut Random(3), 2000, 20_000);
    exporter.tick(&database.snapshot()).await.unwrap();
    world.check_same(&database).await;
}

/// Limits so low that an export flushes many times, takes several passes, and splits the files of a partition.
fn low_limits(
    version: FormatVersion,
    partition_by: &[&str],
    sort_by: Option<&[&str]>,
) -> SettingsByTable {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let limits = LayoutLimits {
        row_group_bytes: 1 << 10,
        gathered_bytes: 20 << 10,
        open_files: 2,
        partitions: 100,
    };
    let settings = TableSettings {
        format_version: version,
        target_file_size_bytes: 3 << 10,
        layout: LayoutSettings {
            partition_by: Some(texts(partition_by)),
            sort_by: sort_by.map(texts),
            limits,
        },
        ..TableSettings::default()
    };
    settings.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_exports_keep_rows_where_they_belong() {
    let orders: [Option<&[&str]>; 2] = [None, Some(&["amount desc nulls last", "region"])];
    let specs: [&[&str]; 3] = [&[], &["region"], &["bucket(7, id)", "region"]];
    for (version, order, spec) in VERSIONS
        .into_iter()
        .flat_map(|version| orders.map(|order| (version, order)))
        .flat_map(|(version, order)| specs.map(|spec| (version, order, spec)))
    {
        let world = World::new(version);
        let database = world.database();
        let table = sales(&database);
        let mut exporter = Exporter::open_with(
            database.clone(),
            world.catalog().await,
            low_limits(version, spec, order),
            Environment::default(),
        )
        .await
        .unwrap();
        let mut random = Random(13);
        for rows in [3000, 200, 1500] {
            change(&database, &table, &mut random, rows, 2000);
            exporter.tick(&database.snapshot()).await.unwrap();
            world.check_same(&database).await;
        }
        world.check_manifests(&ident("shop", "sales")).await;
        let files: BTreeMap<String, DataFile> = files(&world)
            .await
            .into_iter()
            .map(|(_, file)| (file.file_path().to_owned(), file))
            .collect();
        let rows = rows_by_file(&world, &database, &table).await;
        let mut by_partition: BTreeMap<String, usize> = BTreeMap::new();
        for (path, rows) in &rows {
            let partition = files[path].partition();
            *by_partition.entry(format!("{partition:?}")).or_default() += 1;
            let region = rows.iter().map(|(_, region, _)| string(region.as_deref()));
            if let Some(last) = partition.fields().last() {
                assert!(region.into_iter().all(|region| region == *last), "{path}");
            }
            let amounts: Vec<Option<i64>> = rows.iter().map(|(.., amount)| *amount).collect();
            let ids: Vec<i64> = rows.iter().map(|(id, ..)| *id).collect();
            match order {
                Some(_) => assert!(amounts.is_sorted_by_key(|amount| std::cmp::Reverse(*amount))),
                None => assert!(ids.is_sorted()),
            }
        }
        assert!(
            by_partition.values().any(|files| *files > 2),
            "{by_partition:?}"
        );
        assert!(
            files
                .values()
                .any(|file| file.split_offsets().is_some_and(|groups| groups.len() > 1))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_partitions_are_refused() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let table = sales(&database);
    let settings = low_limits(FormatVersion::V3, &["id"], None);
    let catalog = world.catalog().await;
    let environment = Environment::default();
    let exporter = Exporter::open_with(database.clone(), catalog, settings, environment).await;
    change(&database, &table, &mut Random(1), 500, 500);
    let error = exporter
        .unwrap()
        .tick(&database.snapshot())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ExportError::Config(reason) if reason.contains("100 partitions")),
        "{error}"
    );
}

/// Names of columns that no field of an Avro file can have, and one that a partition field has.
#[tokio::test(flavor = "multi_thread")]
async fn names_of_partitions_can_be_read_again() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let schema = TableSchema::builder("shop.sales")
        .column("2nd größe", ColumnType::Int64, false)
        .column("order-date", ColumnType::Date, true)
        .primary_key(["2nd größe"])
        .build()
        .unwrap();
    let table = database.create_table(schema).unwrap();
    let layout = r#"{"partition_by": ["bucket(3, 2nd größe)", "order-date", "year(order-date)"]}"#;
    let mut exporter = exporter(&world, &database, layout).await.unwrap();
    for tick in 0..3 {
        let mut transaction = database.begin();
        for id in tick..tick + 5 {
            let date = Value::Date(id as i32 * 100 - 200);
            transaction
                .upsert(&table, vec![Value::Int64(id), date])
                .unwrap();
        }
        transaction.commit().unwrap();
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;
    }
    let add = SchemaChange::AddColumn {
        name: "order_x2Ddate_year".into(),
        column_type: ColumnType::Int32,
        nullable: true,
        default: None,
    };
    let table = database.alter_table(&table, &[add]).unwrap();
    let mut transaction = database.begin();
    transaction
        .upsert(&table, vec![Value::Int64(1), Value::Null, Value::Null])
        .unwrap();
    transaction.commit().unwrap();
    let error = exporter.tick(&database.snapshot()).await.unwrap_err();
    assert!(
        matches!(&error, ExportError::Config(reason) if reason.contains("order_x2Ddate_year")),
        "{error}"
    );
}

/// A table takes another spec and another order while it is in use; its older files keep theirs.
#[tokio::test(flavor = "multi_thread")]
async fn a_layout_changes() {
    for version in VERSIONS {
        let world = World::new(version);
        let database = world.database();
        let table = sales(&database);
        let mut random = Random(5);
        let layouts = [
            "{}",
            r#"{"partition_by": ["region"], "sort_by": ["amount"]}"#,
            r#"{"partition_by": ["bucket(4, id)"]}"#,
            "{}",
            r#"{"partition_by": [], "sort_by": []}"#,
        ];
        for layout in layouts {
            let mut exporter = exporter(&world, &database, layout).await.unwrap();
            for _ in 0..2 {
                change(&database, &table, &mut random, 100, 200);
                exporter.tick(&database.snapshot()).await.unwrap();
                world.check_same(&database).await;
            }
            let metadata = world.metadata(&ident("shop", "sales")).await;
            let newest = files(&world).await.into_iter().map(|(spec, _)| spec).max();
            assert!(
                newest.unwrap() >= metadata.default_partition_spec_id(),
                "{layout}"
            );
        }
        let metadata = world.metadata(&ident("shop", "sales")).await;
        assert_eq!(metadata.default_partition_spec().fields().len(), 0);
        assert_eq!(metadata.default_sort_order().fields.len(), 1);
        world.check_manifests(&ident("shop", "sales")).await;
    }
}

/// Checks that the rows of each file are in the order that its entry names; how many files name one.
async fn check_orders(world: &World, database: &Database, table: &Table) -> usize {
    let metadata = world.metadata(&ident("shop", "sales")).await;
    let by_file = rows_by_file(world, database, table).await;
    let mut named = 0;
    for (_, file) in files(world).await {
        let id = i64::from(file.sort_order_id().unwrap_or(0));
        let order = metadata.sort_order_by_id(id);
        let fields = order.map_or(&[][..], |order| &order.fields);
        // Ascending, nulls first.
        let key = |(id, region, amount): &Sale| -> Vec<Option<String>> {
            let number = |number: i64| format!("{:020}", i128::from(number) + (1 << 64));
            let value = |source_id: i32| match source_id {
                1 => Some(number(*id)),
                2 => region.clone(),
                _ => amount.map(number),
            };
            fields.iter().map(|field| value(field.source_id)).collect()
        };
        let rows = &by_file[file.file_path()];
        assert!(
            rows.is_sorted_by_key(key),
            "{} says order {id}",
            file.file_path()
        );
        named += usize::from(!fields.is_empty());
    }
    named
}

/// A rewrite of files from before takes them to the present layout, and says of no file that it has an order which it has not.
#[tokio::test(flavor = "multi_thread")]
async fn rewrites_follow_the_layout() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let table = sales(&database);
    let mut random = Random(6);
    let mut named = 0;
    for layout in [
        "{}",
        r#"{"sort_by": ["amount"]}"#,
        r#"{"sort_by": []}"#,
        r#"{"partition_by": ["region"], "sort_by": ["region", "amount"]}"#,
        r#"{"partition_by": [], "sort_by": []}"#,
    ] {
        let mut exporter = exporter(&world, &database, layout).await.unwrap();
        for _ in 0..3 {
            change(&database, &table, &mut random, 100, 400);
            exporter.tick(&database.snapshot()).await.unwrap();
        }
        named += check_orders(&world, &database, &table).await;
        let files_before = files(&world).await.len();
        exporter.maintainer().run(None, false).await.unwrap();
        assert!(files(&world).await.len() < files_before, "{layout}");
        world.check_same(&database).await;
        named += check_orders(&world, &database, &table).await;
    }
    assert!(named > 0);
    world.check_manifests(&ident("shop", "sales")).await;
}

/// The columns of a table whose field ids have gaps are those that its partitions name.
#[tokio::test(flavor = "multi_thread")]
async fn field_ids_may_have_gaps() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let schema = TableSchema::builder("shop.sales")
        .column_with_id("id", ColumnType::Int64, false, 4)
        .column_with_id("amount", ColumnType::Int64, true, 2)
        .column_with_id("region", ColumnType::Utf8, true, 7)
        .primary_key(["id"])
        .build()
        .unwrap();
    let table = database.create_table(schema).unwrap();
    let layout = r#"{"partition_by": ["region"], "sort_by": ["region"]}"#;
    let mut exporter = exporter(&world, &database, layout).await.unwrap();
    let mut transaction = database.begin();
    for id in 0..10 {
        let row = vec![
            Value::Int64(id),
            Value::Int64(id),
            Value::Utf8(format!("r{}", id % 3)),
        ];
        transaction.upsert(&table, row).unwrap();
    }
    transaction.commit().unwrap();
    exporter.tick(&database.snapshot()).await.unwrap();
    world.check_same(&database).await;
    let metadata = world.metadata(&ident("shop", "sales")).await;
    let source = metadata.default_partition_spec().fields()[0].source_id;
    assert_eq!(
        metadata.current_schema().field_by_id(source).unwrap().name,
        "region"
    );
    assert_eq!(files(&world).await.len(), 3);
}

/// Column statistics are made by hand, of the live rows, once a snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn columns_have_statistics() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let table = sales(&database);
    let mut exporter = exporter(&world, &database, "{}").await.unwrap();
    let mut random = Random(9);
    change(&database, &table, &mut random, 500, 300);
    exporter.tick(&database.snapshot()).await.unwrap();
    change(&database, &table, &mut random, 200, 300);
    exporter.tick(&database.snapshot()).await.unwrap();
    let maintainer = exporter.maintainer();
    let of_statistics =
        |action: &MaintenanceAction| action.task == MaintenanceTask::ColumnStatistics;
    assert!(!maintainer.run_due().await.iter().any(of_statistics));
    let planned = maintainer.run(None, true).await.unwrap();
    assert_eq!(
        planned
            .iter()
            .filter(|action| of_statistics(action))
            .count(),
        1
    );
    maintainer.run(None, false).await.unwrap();
    assert!(
        !maintainer
            .run(None, false)
            .await
            .unwrap()
            .iter()
            .any(of_statistics)
    );

    let rows = rows_by_file(&world, &database, &table).await;
    let rows: Vec<&Sale> = rows.values().flatten().collect();
    let expected = [
        rows.iter()
            .map(|(id, ..)| id)
            .collect::<BTreeSet<_>>()
            .len(),
        rows.iter()
            .filter_map(|(_, region, _)| region.as_ref())
            .collect::<BTreeSet<_>>()
            .len(),
        rows.iter()
            .filter_map(|(.., amount)| amount.as_ref())
            .collect::<BTreeSet<_>>()
            .len(),
    ];
    let metadata = world.metadata(&ident("shop", "sales")).await;
    let newest = metadata.current_snapshot_id().unwrap();
    let statistics = metadata.statistics_for_snapshot(newest).unwrap();
    let blobs = &statistics.blob_metadata;
    let found: Vec<usize> = blobs
        .iter()
        .map(|blob| blob.properties["ndv"].parse().unwrap())
        .collect();
    assert_eq!(found, expected);
    let fields: Vec<i32> = blobs.iter().flat_map(|blob| blob.fields.clone()).collect();
    assert_eq!(fields, [1, 2, 3]);
    let file = iceberg::io::FileIO::new_with_fs()
        .new_input(&statistics.statistics_path)
        .unwrap();
    let bytes = file.read().await.unwrap();
    assert_eq!(bytes.len() as i64, statistics.file_size_in_bytes);
    let footer = &bytes[bytes.len() - statistics.file_footer_size_in_bytes as usize..];
    assert!(
        footer.starts_with(b"PFA1"),
        "the footer begins where the table says"
    );
    world.check_same(&database).await;
}

/// A column that divides a table is widened, and dropped; the files from before keep their partitions.
#[tokio::test(flavor = "multi_thread")]
async fn the_columns_of_partitions_change() {
    for version in VERSIONS {
        let world = World::new(version);
        let database = world.database();
        let schema = TableSchema::builder("shop.sales")
            .column("id", ColumnType::Int64, false)
            .column("kind", ColumnType::Int32, true)
            .primary_key(["id"])
            .build()
            .unwrap();
        let table = database.create_table(schema).unwrap();
        let write = |table: &Table, ids: std::ops::Range<i64>, kind: fn(i64) -> Vec<Value>| {
            let mut transaction = database.begin();
            for id in ids {
                let row = std::iter::once(Value::Int64(id)).chain(kind(id)).collect();
                transaction.upsert(table, row).unwrap();
            }
            transaction.commit().unwrap();
        };
        let layout = r#"{"partition_by": ["kind", "bucket(2, id)"]}"#;
        let mut exporter = exporter(&world, &database, layout).await.unwrap();
        write(&table, 0..20, |id| vec![Value::Int32(id as i32 % 3)]);
        exporter.tick(&database.snapshot()).await.unwrap();

        let widen = SchemaChange::WidenColumn {
            name: "kind".into(),
            column_type: ColumnType::Int64,
        };
        let table = database.alter_table(&table, &[widen]).unwrap();
        write(&table, 5..10, |id| vec![Value::Int64(id % 3 + (1 << 40))]);
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;

        let drop_column = SchemaChange::DropColumn {
            name: "kind".into(),
        };
        let table = database.alter_table(&table, &[drop_column]).unwrap();
        write(&table, 8..12, |_| Vec::new());
        let error = exporter.tick(&database.snapshot()).await.unwrap_err();
        assert!(
            matches!(&error, ExportError::Config(reason) if reason.contains("kind")),
            "{error}"
        );
        drop(exporter);
        let layout = r#"{"partition_by": ["bucket(2, id)"]}"#;
        let mut exporter = self::exporter(&world, &database, layout).await.unwrap();
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;
        write(&table, 0..3, |_| Vec::new());
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;
        world.check_manifests(&ident("shop", "sales")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_that_the_columns_do_not_allow_is_refused() {
    for (layout, word) in [
        (r#"{"partition_by": ["country"]}"#, "country"),
        (r#"{"partition_by": ["day(amount)"]}"#, "day"),
        (r#"{"partition_by": ["region", "region"]}"#, "region"),
        (r#"{"sort_by": ["country desc"]}"#, "country"),
    ] {
        let world = World::new(FormatVersion::V3);
        let database = world.database();
        let table = sales(&database);
        change(&database, &table, &mut Random(1), 10, 10);
        let mut exporter = exporter(&world, &database, layout).await.unwrap();
        let error = exporter.tick(&database.snapshot()).await.unwrap_err();
        let is_named = matches!(&error, ExportError::Config(reason) if reason.contains(word));
        assert!(is_named, "{layout}: {error}");
    }
    // A manifest can't name one type of Avro's twice.
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let amount = ColumnType::Decimal {
        precision: 9,
        scale: 2,
    };
    let schema = TableSchema::builder("shop.sales")
        .column("id", ColumnType::Int64, false)
        .column("net", amount, true)
        .column("gross", amount, true)
        .primary_key(["id"]);
    database.create_table(schema.build().unwrap()).unwrap();
    for (fields, is_refused) in [
        (r#"["truncate(5, net)", "net"]"#, true),
        (r#"["net", "void(gross)"]"#, true),
        (r#"["net", "bucket(4, gross)"]"#, false),
    ] {
        let layout = format!(r#"{{"partition_by": {fields}}}"#);
        let mut exporter = exporter(&world, &database, &layout).await.unwrap();
        let refused = exporter.tick(&database.snapshot()).await.err();
        assert_eq!(refused.is_some(), is_refused, "{fields}: {refused:?}");
        if let Some(error) = refused {
            let is_named =
                matches!(&error, ExportError::Config(reason) if reason.contains("decimal(9, 2)"));
            assert!(is_named, "{fields}: {error}");
        }
    }
    let world = World::new(FormatVersion::V3);
    let text = r#"{"partition_by": ["week(at)"]}"#;
    assert!(matches!(
        config(&world, text).check(),
        Err(ExportError::Config(_))
    ));
}
