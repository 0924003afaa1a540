//! Invariant 7 "bounded": what a tick reads and writes follows what it changes, however many data files the table has and
//! however many of them have deleted rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use moonshine_engine::{ColumnType, Database, Table, TableSchema, Value};
use moonshine_export::catalog::Guard;
use moonshine_export::environment::Environment;
use moonshine_export::{Exporter, FormatVersion, IcebergConfig};
use serde_json::json;

use crate::counting_store::{Access, CountingStore, Counts, Kind};
use crate::support::{Random, VERSIONS, World};
use moonshine_sim::lake::SimulatedCatalog;

/// Rows of each data file at first.
const ROWS_PER_FILE: i64 = 20;
/// Data files of a large table: more than a manifest of deletes has entries.
const MANY: i64 = 500;

/// A table with one data file a partition.
struct Partitioned {
    world: World,
    database: Database,
    table: Table,
    store: CountingStore,
    catalog: Arc<SimulatedCatalog>,
    exporter: Exporter,
    writes: i64,
}

impl Partitioned {
    /// A table of so many data files, each with a deleted row.
    async fn new(version: FormatVersion, file_count: i64) -> Partitioned {
        let world = World::new(version);
        let database = world.database();
        let schema = TableSchema::builder("shop.notes")
            .column("id", ColumnType::Int64, false)
            .column("part", ColumnType::Int64, false)
            .column("note", ColumnType::Int64, true)
            .primary_key(["id"]);
        let table = database.create_table(schema.build().unwrap()).unwrap();
        let store = CountingStore::default();
        let catalog = SimulatedCatalog::with_files(Guard::Metadata, 7, store.file_io());
        catalog.calm();
        let config: IcebergConfig = serde_json::from_value(json!({
            "warehouse_path": world.path("warehouse"), "format_version": version.number(),
            "tables": { "shop.notes": { "partition_by": ["part"] } },
        }))
        .unwrap();
        let exporter = Exporter::open_with(
            database.clone(),
            catalog.clone(),
            config.settings_by_table().unwrap(),
            Environment::default(),
        )
        .await
        .unwrap();
        let mut made = Partitioned {
            world,
            database,
            table,
            store,
            catalog,
            exporter,
            writes: 0,
        };
        made.tick(0..file_count * ROWS_PER_FILE).await;
        made.delete_one_of_each(file_count, 0).await;
        made
    }

    /// Deletes one row of each of the first data files.
    async fn delete_one_of_each(&mut self, file_count: i64, row: i64) -> Counts {
        let mut transaction = self.database.begin();
        for file in 0..file_count {
            let key = [Value::Int64(file * ROWS_PER_FILE + row)];
            transaction.delete(&self.table, &key).unwrap();
        }
        transaction.commit().unwrap();
        self.export().await
    }

    /// Changes rows, and exports that; what was read and written.
    async fn tick(&mut self, ids: impl IntoIterator<Item = i64>) -> Counts {
        let mut transaction = self.database.begin();
        for id in ids {
            self.writes += 1;
            let row = [id, id / ROWS_PER_FILE, self.writes].map(Value::Int64);
            transaction.upsert(&self.table, row.to_vec()).unwrap();
        }
        transaction.commit().unwrap();
        self.export().await
    }

    /// What was read and written.
    async fn export(&mut self) -> Counts {
        self.store.take();
        self.exporter.tick(&self.database.snapshot()).await.unwrap();
        self.store.take()
    }

    async fn check(&self) {
        let catalog = self.catalog.clone();
        self.world.check_same_in(&self.database, catalog).await;
    }
}

/// Bytes of a kind of file that two ticks of the same changes may differ by: of ten entries that lie with the touched one.
const DIFFERENCE_BYTES_MAX: u64 = 8_192;

/// The same number of files, and about as many bytes; but a manifest list names every manifest.
fn assert_same(left: &Counts, right: &Counts) {
    assert!(left.keys().eq(right.keys()), "{left:?} {right:?}");
    for (which, (files, bytes)) in left {
        let (other_files, other_bytes) = right[which];
        assert_eq!(*files, other_files, "{which:?}: {left:?} {right:?}");
        let is_list = which.1 == Kind::ManifestList;
        assert!(
            is_list || bytes.abs_diff(other_bytes) < DIFFERENCE_BYTES_MAX,
            "{which:?}: {left:?} {right:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_that_touches_one_file_costs_the_same_in_a_table_of_many() {
    for version in VERSIONS {
        let mut costs = Vec::new();
        for file_count in [10, MANY] {
            let mut table = Partitioned::new(version, file_count).await;
            // The first time the file's delete entry comes out of the manifest that it shares with others.
            for row in 1..4 {
                table.tick([5 * ROWS_PER_FILE + row]).await;
            }
            let cost = table.tick([5 * ROWS_PER_FILE + 4]).await;
            costs.push(cost);
            table.check().await;
        }
        assert_same(&costs[0], &costs[1]);
    }
}

/// Whichever file it is: the manifests that its entries lie in are bounded.
#[tokio::test(flavor = "multi_thread")]
async fn a_tick_that_touches_any_file_writes_few_bounded_manifests() {
    let mut random = Random(3);
    let mut table = Partitioned::new(FormatVersion::V3, MANY).await;
    let mut sizes = BTreeSet::new();
    for _ in 0..20 {
        let file = random.below(MANY as u64) as i64;
        let row = random.below(ROWS_PER_FILE as u64 - 1) as i64;
        let cost = table.tick([file * ROWS_PER_FILE + row]).await;
        let (files, bytes) = cost[&(Access::Write, Kind::Manifest)];
        assert!(files <= 3, "new data, new deletes, the deletes beside them");
        sizes.insert(bytes);
        let lists = cost[&(Access::Write, Kind::ManifestList)];
        assert!(lists.1 < 8_192, "few manifests: {lists:?}");
    }
    let all = table.delete_one_of_each(MANY, ROWS_PER_FILE - 1).await;
    let (_, all_bytes) = all[&(Access::Write, Kind::Manifest)];
    let most = *sizes.last().unwrap();
    assert!(most * 2 < all_bytes, "{most} of {all_bytes} bytes");
    table.check().await;
}
