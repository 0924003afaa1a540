//! Maintenance beside exports: invariants 5 "same" and 7 "bounded" of a table's metadata, and that what a kept snapshot
//! needs stays.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::spec::ManifestList;
use iceberg::{TableIdent, TableUpdate};
use moonshine_engine::{Database, Table};
use moonshine_export::catalog::{Change, CommitOutcome, Guard, TableCatalog};
use moonshine_export::environment::{Clock, Environment, RandomIdentities, SystemClock, TokioWork};
use moonshine_export::{
    Exporter, ForeignAppends, FormatVersion, IcebergConfig, MaintenanceSettings, MaintenanceTask,
    Pace, TableSettings,
};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::installed::python;
use crate::ownership::foreign_snapshot;
use crate::support::{Random, World, ident, notes, write_notes};
use moonshine_sim::lake::{Fault, SimulatedCatalog};

/// A clock that goes by hand, the first, and whose wall time is set by hand, the second. It begins near the system's, which
/// the builder of metadata asks.
#[derive(Debug, Default)]
struct SetClock(Mutex<i64>, Mutex<i64>);

#[async_trait]
impl Clock for SetClock {
    fn now_ms(&self) -> i64 {
        *self.0.lock() + *self.1.lock()
    }

    fn monotonic_ms(&self) -> i64 {
        *self.0.lock()
    }

    async fn pause(&self, _: u64) {
        tokio::task::yield_now().await;
    }
}

struct Kept {
    world: World,
    database: Database,
    table: Table,
    catalog: Arc<SimulatedCatalog>,
    clock: Arc<SetClock>,
    exporter: Exporter,
}

impl Kept {
    async fn new(version: FormatVersion, maintenance: MaintenanceSettings) -> Kept {
        let world = World::new(version);
        let database = world.database();
        let table = notes(&database);
        let catalog = SimulatedCatalog::new(Guard::Requirements, 7);
        catalog.calm();
        let clock = Arc::new(SetClock(Mutex::new(SystemClock.now_ms()), Mutex::default()));
        let environment = Environment {
            clock: clock.clone(),
            identities: Arc::new(RandomIdentities),
            work: Arc::new(TokioWork),
        };
        let settings = TableSettings {
            format_version: version,
            maintenance,
            ..TableSettings::default()
        };
        let exporter = Exporter::open_with(
            database.clone(),
            catalog.clone(),
            settings.into(),
            environment,
        )
        .await
        .unwrap();
        Kept {
            world,
            database,
            table,
            catalog,
            clock,
            exporter,
        }
    }

    /// Some rows become others, and are exported a little later.
    async fn tick(&mut self, random: &mut Random) {
        let rows: Vec<(i64, String)> = (0..3)
            .map(|_| (random.below(50) as i64, format!("{}", random.next())))
            .collect();
        write_notes(&self.database, &self.table, rows, &[]);
        *self.clock.0.lock() += 20;
        self.exporter.tick(&self.database.snapshot()).await.unwrap();
    }

    async fn metadata(&self) -> Arc<iceberg::spec::TableMetadata> {
        let name: TableIdent = ident("shop", "notes");
        self.catalog.load(&name).await.unwrap().unwrap().metadata
    }

    /// How many manifests each snapshot has.
    async fn manifest_counts(&self) -> Vec<usize> {
        let metadata = self.metadata().await;
        let mut counts = Vec::new();
        for snapshot in metadata.snapshots() {
            let list = self.catalog.file_io().new_input(snapshot.manifest_list());
            let bytes = list.unwrap().read().await.unwrap();
            let list = ManifestList::parse_with_version(&bytes, metadata.format_version()).unwrap();
            counts.push(list.entries().len());
        }
        counts
    }

    /// Every file that a snapshot of the table names; each is there.
    async fn named_files(&self) -> BTreeSet<String> {
        let metadata = self.metadata().await;
        let file_io = self.catalog.file_io();
        let mut named = BTreeSet::new();
        for snapshot in metadata.snapshots() {
            let list = file_io.new_input(snapshot.manifest_list()).unwrap();
            let bytes = list.read().await.unwrap();
            named.insert(snapshot.manifest_list().to_owned());
            let list = ManifestList::parse_with_version(&bytes, metadata.format_version()).unwrap();
            for manifest in list.entries() {
                named.insert(manifest.manifest_path.clone());
                let entries = manifest.load_manifest(file_io).await.unwrap();
                let live = entries.entries().iter().filter(|entry| entry.is_alive());
                named.extend(live.map(|entry| entry.file_path().to_owned()));
            }
        }
        for path in &named {
            assert!(file_io.exists(path).await.unwrap(), "{path} is gone");
        }
        named
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_ticks_leave_what_the_settings_keep() {
    let maintenance = MaintenanceSettings {
        snapshots_min: 5,
        snapshots_max: 10,
        file_grace_ms: 500,
        manifests_max: 6,
        ..MaintenanceSettings::default()
    };
    let mut kept = Kept::new(FormatVersion::V3, maintenance).await;
    let mut random = Random(11);
    let mut written = BTreeSet::new();
    for number in 0..120 {
        kept.tick(&mut random).await;
        kept.exporter.maintainer().run_due().await;
        if number % 20 == 19 {
            written.extend(kept.named_files().await);
            kept.world
                .check_same_in(&kept.database, kept.catalog.clone())
                .await;
        }
    }
    let metadata = kept.metadata().await;
    let count = metadata.snapshots().count();
    assert!((10..40).contains(&count), "{count} snapshots");
    let manifests = kept.manifest_counts().await;
    assert!(
        manifests.iter().all(|count| *count < 20),
        "{manifests:?} manifests"
    );
    let size_bytes = serde_json::to_vec(metadata.as_ref()).unwrap().len();
    assert!(size_bytes < 100_000, "{size_bytes} bytes of metadata");

    // What nobody names is removed once no reader can be at it.
    let named = kept.named_files().await;
    *kept.clock.0.lock() += 3_600_000;
    kept.exporter.maintainer().run_due().await;
    let file_io = kept.catalog.file_io();
    for path in written.difference(&named) {
        assert!(
            !file_io.exists(path).await.unwrap(),
            "{path} is still there"
        );
    }
    kept.named_files().await;
}

/// What fails is not tried again at each look, but after a pause.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_is_tried_again_after_a_pause() {
    let maintenance = MaintenanceSettings {
        snapshots_min: 1,
        snapshots_max: 1,
        ..MaintenanceSettings::default()
    };
    let mut kept = Kept::new(FormatVersion::V3, maintenance).await;
    let rows = (0..200).map(|id| (id, String::new()));
    write_notes(&kept.database, &kept.table, rows, &[]);
    // So few rows go that no file is to be rewritten.
    for id in 0..30 {
        *kept.clock.0.lock() += 20;
        write_notes(&kept.database, &kept.table, [], &[id]);
        let snapshot = kept.database.snapshot();
        kept.exporter.tick(&snapshot).await.unwrap();
    }
    let before = kept.metadata().await.snapshots().count();
    kept.catalog.plan(&[Fault::Refused; 2], &[]);
    let maintainer = kept.exporter.maintainer();
    maintainer.run_due().await;
    let text = kept.exporter.metrics().to_metrics(0);
    let failure = "moonshine_maintenance_failures_in_a_row{table=\"shop.notes\",task=\"expire-snapshots\"} 1\n";
    assert!(text.contains(failure), "{text}");
    maintainer.run_due().await;
    assert_eq!(kept.metadata().await.snapshots().count(), before);
    assert!(kept.exporter.metrics().to_metrics(0).contains(failure));
    for _ in 0..3 {
        *kept.clock.0.lock() += 60_000;
        maintainer.run_due().await;
    }
    assert!(kept.metadata().await.snapshots().count() < before);
    assert!(!kept.exporter.metrics().to_metrics(0).contains(failure));
}

/// A clock that is set forward makes nothing old at once, and one that is set back keeps nothing from being exported.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_does_no_harm() {
    const DAY_MS: i64 = 86_400_000;
    let maintenance = MaintenanceSettings {
        snapshots_min: 1,
        snapshot_age_ms: DAY_MS,
        file_grace_ms: 10_000,
        ..MaintenanceSettings::default()
    };
    let mut kept = Kept::new(FormatVersion::V3, maintenance).await;
    let maintainer = kept.exporter.maintainer();
    maintainer.run_due().await;
    let mut random = Random(11);
    for _ in 0..30 {
        kept.tick(&mut random).await;
        maintainer.run_due().await;
    }
    let named = kept.named_files().await;
    let before = kept.metadata().await.snapshots().count();
    assert!(before > 30);
    *kept.clock.1.lock() += 10 * DAY_MS;
    for _ in 0..10 {
        *kept.clock.0.lock() += 900;
        maintainer.run_due().await;
        assert!(kept.metadata().await.snapshots().count() >= before);
    }
    // So it is the time after all.
    *kept.clock.0.lock() += 2_000;
    kept.tick(&mut random).await;
    maintainer.run_due().await;
    assert!(kept.metadata().await.snapshots().count() < before);
    let file_io = kept.catalog.file_io();
    for path in &named {
        assert!(
            file_io.exists(path).await.unwrap(),
            "{path} went under a reader"
        );
    }
    // Metadata whose last change says the system's time, ten days before its snapshots, is read by nobody.
    let bytes = serde_json::to_vec(kept.metadata().await.as_ref()).unwrap();
    serde_json::from_slice::<iceberg::spec::TableMetadata>(&bytes).unwrap();

    let pace = Pace {
        freshness_ms: 10,
        is_full: false,
    };
    *kept.clock.1.lock() -= 20 * DAY_MS;
    for number in 0..3 {
        write_notes(&kept.database, &kept.table, [(number, String::new())], &[]);
        *kept.clock.0.lock() += 1_000;
        kept.exporter.begin_due(pace);
        assert_eq!(kept.exporter.finish().await.unwrap().len(), 1);
    }
    kept.world
        .check_same_in(&kept.database, kept.catalog.clone())
        .await;
}

/// Who looks after a table by hand, without its configuration, keeps what that keeps.
#[tokio::test(flavor = "multi_thread")]
async fn defaults_keep_what_was_configured() {
    const HOUR_MS: i64 = 3_600_000;
    let mut kept = Kept::new(FormatVersion::V3, MaintenanceSettings::default()).await;
    let mut random = Random(11);
    kept.tick(&mut random).await;
    // The table is there; an exporter with a configuration takes it over.
    let config = serde_json::json!({
        "warehouse_path": "memory",
        "tables": { "*": { "maintenance": { "snapshot_age_hours": 1000, "file_grace_minutes": 90 } } },
    });
    let config: IcebergConfig = serde_json::from_value(config).unwrap();
    let environment = Environment {
        clock: kept.clock.clone(),
        identities: Arc::new(RandomIdentities),
        work: Arc::new(TokioWork),
    };
    let exporter = |settings| {
        Exporter::with_catalog(
            kept.database.clone(),
            kept.catalog.clone(),
            settings,
            environment.clone(),
        )
    };
    let configured = exporter(config.settings_by_table().unwrap());
    let by_hand = exporter(TableSettings::default().into()).maintainer();
    kept.exporter = configured;
    for _ in 0..40 {
        kept.tick(&mut random).await;
    }
    let before = kept.metadata().await.snapshots().count();
    *kept.clock.0.lock() += 200 * HOUR_MS;
    by_hand.run(None, false).await.unwrap();
    assert!(kept.metadata().await.snapshots().count() >= before);
    *kept.clock.0.lock() += 800 * HOUR_MS;
    let actions = by_hand.run(None, false).await.unwrap();
    assert!(kept.metadata().await.snapshots().count() < before);
    // The newest snapshots were replaced long ago, and nobody waits by hand.
    let expiry = actions
        .iter()
        .find(|action| action.task == MaintenanceTask::ExpireSnapshots)
        .unwrap();
    assert!(expiry.files_removed > 0);
    assert_eq!(expiry.files_waiting, 0);
    kept.named_files().await;
}

/// Files go by hand once their own last snapshot was replaced for long enough, whatever else expires with it.
#[tokio::test(flavor = "multi_thread")]
async fn by_hand_each_file_waits_for_its_own_last_snapshot() {
    let maintenance = MaintenanceSettings {
        snapshots_min: 1,
        snapshots_max: 1,
        file_grace_ms: 60_000,
        ..MaintenanceSettings::default()
    };
    let mut kept = Kept::new(FormatVersion::V3, maintenance).await;
    let mut random = Random(11);
    for _ in 0..5 {
        kept.tick(&mut random).await;
    }
    *kept.clock.0.lock() += 60_000;
    for _ in 0..3 {
        kept.tick(&mut random).await;
    }
    let maintainer = kept.exporter.maintainer();
    let actions = maintainer.run(None, false).await.unwrap();
    let expiry = actions
        .iter()
        .find(|action| action.task == MaintenanceTask::ExpireSnapshots)
        .unwrap();
    assert!(expiry.files_removed > 0, "{expiry:?}");
    assert!(expiry.files_waiting > 0, "{expiry:?}");
    kept.named_files().await;
}

/// Makes a tag and a branch of the newest snapshot, or prints the rows of both.
const REFERENCES: &str = r"
import sys, json
from pyiceberg.catalog.sql import SqlCatalog
step, warehouse = sys.argv[1:]
catalog = SqlCatalog('moonshine', uri=f'sqlite:///{warehouse}/catalog.db', warehouse=f'file://{warehouse}')
table = catalog.load_table('shop.notes')
if step == 'make':
    newest = table.current_snapshot().snapshot_id
    with table.manage_snapshots() as snapshots:
        snapshots.create_tag(newest, 'month-end').create_branch(newest, 'audit')
else:
    for name in ('month-end', 'audit'):
        found = table.snapshot_by_name(name)
        rows = table.scan(snapshot_id=found.snapshot_id).to_arrow().sort_by('id').to_pylist()
        print(json.dumps([[row['id'], row['note']] for row in rows]))
";

fn references(python: &Path, step: &str, world: &World) -> Vec<String> {
    let output = std::process::Command::new(python)
        .args(["-c", REFERENCES, step])
        .arg(world.path("warehouse"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// What others name by a tag or a branch stays as it is, and readable.
#[tokio::test(flavor = "multi_thread")]
async fn a_tag_and_a_branch_of_others_survive_expiry() {
    let Some(python) = python() else { return };
    let world = World::new(FormatVersion::V2);
    let database = world.database();
    let table = notes(&database);
    let mut config = world.config();
    let maintenance = &mut config.tables.entry("*".to_owned()).or_default().maintenance;
    maintenance.snapshots_min = Some(1);
    maintenance.snapshots_max = Some(1);
    maintenance.file_grace_minutes = Some(0);
    let mut exporter = Exporter::open(database.clone(), &config).await.unwrap();
    let mut random = Random(5);
    for number in 0..30 {
        let rows: Vec<(i64, String)> = (0..5)
            .map(|_| (random.below(20) as i64, format!("{number}")))
            .collect();
        write_notes(&database, &table, rows, &[random.below(20) as i64]);
        exporter.tick(&database.snapshot()).await.unwrap();
        if number == 10 {
            references(&python, "make", &world);
        }
        exporter.maintainer().run(None, false).await.unwrap();
        if number == 10 {
            assert_eq!(references(&python, "read", &world).len(), 2);
        }
    }
    let metadata = world.metadata(&ident("shop", "notes")).await;
    let count = metadata.snapshots().count();
    assert!(
        count <= 3,
        "{count}: the newest export, merged manifests, and what others name"
    );
    let rows = references(&python, "read", &world);
    assert_eq!(rows[0], rows[1]);
    assert!(
        rows[0].contains("\"10\"") && !rows[0].contains("\"11\""),
        "{}",
        rows[0]
    );
    world.check_same(&database).await;
}

/// Invariant 7 "bounded": old metadata files go as the table's property says, without maintenance.
#[tokio::test(flavor = "multi_thread")]
async fn old_metadata_files_are_few() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let table = notes(&database);
    let mut exporter = world.exporter(&database).await.unwrap();
    write_notes(&database, &table, [(0, String::new())], &[]);
    exporter.tick(&database.snapshot()).await.unwrap();
    let catalog = world.catalog().await;
    let name = ident("shop", "notes");
    let found = catalog.load(&name).await.unwrap().unwrap();
    let key = "write.metadata.previous-versions-max".to_owned();
    let updates = vec![TableUpdate::SetProperties {
        updates: [(key, "5".to_owned())].into(),
    }];
    let change = Change::of(&found.metadata, updates);
    let outcome = catalog.commit(&found, &change, Uuid::from_u128(1)).await;
    assert!(matches!(outcome, CommitOutcome::Committed(_)));
    for id in 1..12 {
        write_notes(&database, &table, [(id, String::new())], &[]);
        exporter.tick(&database.snapshot()).await.unwrap();
    }
    let location = world.metadata(&name).await.location().to_owned();
    let folder = Path::new(location.strip_prefix("file://").unwrap()).join("metadata");
    let files = std::fs::read_dir(folder).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let count = names
        .filter(|name| name.ends_with(".metadata.json"))
        .count();
    assert_eq!(count, 6, "the newest, and five before it");
}

/// Where another writer expired the export's own snapshot, a newer one of ours has the same rows, and the statistics are of that.
#[tokio::test(flavor = "multi_thread")]
async fn columns_have_statistics_though_another_writer_expired_the_export() {
    let mut kept = Kept::new(FormatVersion::V3, MaintenanceSettings::default()).await;
    kept.tick(&mut Random(17)).await;
    let token = kept.database.exported(&kept.table).unwrap().token;
    let environment = Environment {
        clock: kept.clock.clone(),
        identities: Arc::new(RandomIdentities),
        work: Arc::new(TokioWork),
    };
    let (database, catalog) = (kept.database.clone(), kept.catalog.clone());
    let settings = TableSettings {
        foreign_appends: ForeignAppends::Keep,
        ..TableSettings::default()
    };
    // A newer exporter has nothing to export, but shows that the table is its own by a snapshot.
    let mut newer = Exporter::open_with(database, catalog, settings.into(), environment)
        .await
        .unwrap();
    newer.tick(&kept.database.snapshot()).await.unwrap();
    let newest = kept.metadata().await.current_snapshot_id().unwrap();
    assert_ne!(newest.to_string(), token);
    foreign_snapshot(&*kept.catalog).await;
    let name = ident("shop", "notes");
    let found = kept.catalog.load(&name).await.unwrap().unwrap();
    let snapshot_ids = vec![token.parse().unwrap()];
    let expire = TableUpdate::RemoveSnapshots { snapshot_ids };
    let change = Change::of(&found.metadata, vec![expire]);
    let outcome = kept.catalog.commit(&found, &change, Uuid::new_v4()).await;
    assert!(matches!(outcome, CommitOutcome::Committed(_)));

    newer.maintainer().run(None, false).await.unwrap();
    let metadata = kept.metadata().await;
    let statistics = metadata.statistics_for_snapshot(newest).unwrap();
    let rows = kept.database.snapshot().row_count(&kept.table).unwrap();
    let of_the_key = &statistics.blob_metadata[0].properties["ndv"];
    assert_eq!(*of_the_key, rows.to_string());
}
