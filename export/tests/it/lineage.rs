//! Row lineage as a reader sees it that nobody here wrote: a row keeps its id as long as its key lives, and says which commit
//! last changed it; also through rewrites of files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use moonshine_engine::{ColumnType, Database, Table, TableSchema, Value};
use moonshine_export::{Exporter, FormatVersion, MaintenanceTask};

use crate::installed::python;
use crate::support::{Random, World, ident};

const KEYS: u64 = 40;

fn table(database: &Database) -> Table {
    let schema = TableSchema::builder("shop.lines")
        .column("id", ColumnType::Int64, false)
        .column("amount", ColumnType::Int64, true)
        .primary_key(["id"]);
    database.create_table(schema.build().unwrap()).unwrap()
}

/// By key: the sequence number of the commit that last changed the row.
type Expected = BTreeMap<i64, i64>;

/// Changes some keys; which of them live then.
fn change(
    database: &Database,
    table: &Table,
    random: &mut Random,
    live: &mut Expected,
) -> BTreeSet<i64> {
    let mut changed = BTreeSet::new();
    let mut transaction = database.begin();
    for _ in 0..random.below(11) + 1 {
        let key = random.below(KEYS) as i64;
        changed.insert(key);
        if random.below(10) < 3 {
            transaction.delete(table, &[Value::Int64(key)]).unwrap();
            live.remove(&key);
        } else {
            let row = vec![Value::Int64(key), Value::Int64(random.below(1000) as i64)];
            transaction.upsert(table, row).unwrap();
            live.insert(key, 0);
        }
    }
    transaction.commit().unwrap();
    changed
}

async fn read(world: &World, snapshots: &[i64], python: &Path) -> Vec<Vec<(i64, i64, i64)>> {
    let found = world.catalog().await.load(&ident("shop", "lines")).await;
    let location = found.unwrap().unwrap().metadata_location;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/lineage.py");
    let output = Command::new(python)
        .arg(script)
        .arg(&location)
        .arg("id")
        .args(snapshots.iter().map(i64::to_string))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// *Same* and *once*: a row is the same row in all snapshots that have it, and what did not change does not look changed.
#[tokio::test(flavor = "multi_thread")]
async fn rows_keep_their_ids() {
    let Some(python) = python() else { return };
    for (seed, layout) in [
        (1, "{}"),
        (
            2,
            r#"{"partition_by": ["bucket(3, id)"], "sort_by": ["amount"]}"#,
        ),
    ] {
        let mut history = History::new(seed);
        let layout: serde_json::Value = serde_json::from_str(layout).unwrap();
        history.tick_times(20, 3, &layout).await;
        history.check(&python).await;
    }
}

/// *Same*: rows that were exported in format v2 are there after the upgrade, and have ids from then on.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_becomes_version_3_in_place() {
    let mut history = History::new(3);
    let plain = serde_json::json!({});
    history.tick_times(8, 2, &plain).await;
    history.world.check_same(&history.database).await;
    history.snapshots.clear();
    history.expected.clear();
    history.tick_times(12, 3, &plain).await;
    history.world.check_same(&history.database).await;
    let metadata = history.world.metadata(&ident("shop", "lines")).await;
    assert_eq!(metadata.format_version(), iceberg::spec::FormatVersion::V3);
    let Some(python) = python() else { return };
    history.check(&python).await;
}

/// *Same*: a table that became version 3, and has had no export since, has no row ids that a rewrite could keep.
#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_waits_for_row_ids() {
    let mut history = History::new(4);
    let plain = serde_json::json!({});
    history.tick_times(8, 2, &plain).await;
    let mut exporter = history.exporter(3, &plain).await;
    let exports = exporter.tick(&history.database.snapshot()).await.unwrap();
    assert!(exports.is_empty(), "nothing changed");
    let metadata = history.world.metadata(&ident("shop", "lines")).await;
    assert_eq!(metadata.format_version(), iceberg::spec::FormatVersion::V3);
    let actions = exporter.maintainer().run(None, false).await.unwrap();
    let mut tasks = actions.iter().map(|action| action.task);
    assert!(tasks.all(|task| task != MaintenanceTask::RewriteFiles));
    history.world.check_same(&history.database).await;
    history.tick_times(6, 3, &plain).await;
    assert!(history.rewrites > 0);
    history.world.check_same(&history.database).await;
}

struct History {
    world: World,
    database: Database,
    table: Table,
    random: Random,
    live: Expected,
    snapshots: Vec<i64>,
    expected: Vec<Expected>,
    rewrites: u64,
}

impl History {
    fn new(seed: u64) -> History {
        let world = World::new(FormatVersion::V3);
        let database = world.database();
        let table = table(&database);
        History {
            world,
            database,
            table,
            random: Random(seed),
            live: Expected::new(),
            snapshots: Vec::new(),
            expected: Vec::new(),
            rewrites: 0,
        }
    }

    async fn exporter(&self, version: u8, layout: &serde_json::Value) -> Exporter {
        let config = serde_json::json!({
            "warehouse_path": self.world.path("warehouse"),
            "format_version": version,
            "tables": {"shop.lines": layout},
        });
        let config = serde_json::from_value(config).unwrap();
        Exporter::open(self.database.clone(), &config)
            .await
            .unwrap()
    }

    async fn tick_times(&mut self, count: usize, version: u8, layout: &serde_json::Value) {
        let mut exporter = self.exporter(version, layout).await;
        for _ in 0..count {
            let changed = change(
                &self.database,
                &self.table,
                &mut self.random,
                &mut self.live,
            );
            let exports = exporter.tick(&self.database.snapshot()).await.unwrap();
            let Some(export) = exports.first() else {
                continue;
            };
            let metadata = self.world.metadata(&ident("shop", "lines")).await;
            let snapshot = metadata.snapshot_by_id(export.snapshot_id).unwrap();
            for key in changed {
                if let Some(seq) = self.live.get_mut(&key) {
                    *seq = snapshot.sequence_number();
                }
            }
            self.snapshots.push(export.snapshot_id);
            self.expected.push(self.live.clone());
            // Row lineage begins with format v3.
            if version == 3 && self.random.below(2) == 0 {
                self.rewrite(&exporter).await;
            }
        }
    }

    /// Files are rewritten, in which nothing becomes another.
    async fn rewrite(&mut self, exporter: &Exporter) {
        exporter.maintainer().run(None, false).await.unwrap();
        let metadata = self.world.metadata(&ident("shop", "lines")).await;
        let current = metadata.current_snapshot_id().unwrap();
        if self.snapshots.last() != Some(&current) {
            self.snapshots.push(current);
            self.expected.push(self.live.clone());
            self.rewrites += 1;
        }
    }

    async fn check(&self, python: &Path) {
        assert!(self.rewrites > 1, "{}", self.rewrites);
        let found = read(&self.world, &self.snapshots, python).await;
        check(&found, &self.expected);
    }
}

fn check(found: &[Vec<(i64, i64, i64)>], expected: &[Expected]) {
    let (mut ids, mut used) = (BTreeMap::new(), BTreeSet::new());
    let mut kept = 0;
    assert_eq!(found.len(), expected.len());
    for (rows, expected) in found.iter().zip(expected) {
        let last_updated: Expected = rows.iter().map(|(key, _, seq)| (*key, *seq)).collect();
        assert_eq!(&last_updated, expected);
        let now: BTreeMap<i64, i64> = rows.iter().map(|(key, id, _)| (*key, *id)).collect();
        for (key, id) in &now {
            match ids.get(key) {
                Some(before) => {
                    assert_eq!(before, id, "key {key}");
                    kept += 1;
                }
                None => assert!(used.insert(*id), "key {key} has the id of another row"),
            }
        }
        ids = now;
    }
    assert!(kept > 100, "{kept}");
}
