//! Maintenance beside exports: invariants 5 "same" and 7 "bounded" of a table's metadata, and that what a kept snapshot
//! needs stays.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::TableIdent;
use iceberg::spec::ManifestList;
use moonshine_engine::{Database, Table};
use moonshine_export::catalog::{Guard, TableCatalog};
use moonshine_export::environment::{Clock, Environment, RandomIdentities, SystemClock};
use moonshine_export::{Exporter, FormatVersion, MaintenanceSettings, TableSettings};
use parking_lot::Mutex;

use crate::simulation::catalog::SimulatedCatalog;
use crate::support::{Random, World, ident, notes, write_notes};

/// A clock that is set by hand. It begins near the system's, which the builder of metadata asks.
#[derive(Debug, Default)]
struct SetClock(Mutex<i64>);

#[async_trait]
impl Clock for SetClock {
    fn now_ms(&self) -> i64 {
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
        let clock = Arc::new(SetClock(Mutex::new(SystemClock.now_ms())));
        let environment = Environment {
            clock: clock.clone(),
            identities: Arc::new(RandomIdentities),
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
