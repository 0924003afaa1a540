//! Tags that exports are given by themselves: each once, with the export that it names, and gone when its time is over. Defends
//! *once* of them across lost answers, and that expiry follows Iceberg's rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::spec::{SnapshotReference, SnapshotRetention};
use moonshine_engine::{Database, Origin, Table};
use moonshine_export::catalog::{Guard, TableCatalog};
use moonshine_export::environment::{Clock, Environment, RandomIdentities, SystemClock, TokioWork};
use moonshine_export::{
    AsOf, Exporter, FormatVersion, MaintenanceSettings, TableHistory, TableSettings, TagPattern,
    TagPeriod, TagSettings,
};
use parking_lot::Mutex;

use crate::support::{World, ident, note, notes};
use moonshine_sim::lake::{Fault, SimulatedCatalog};

const HOUR_MS: i64 = 3_600_000;

/// A clock that is set by hand. It begins at the system's, which the builder of metadata asks.
#[derive(Debug)]
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

fn settings() -> TableSettings {
    let by_time = TagPattern {
        period: TagPeriod::Hour,
        name: "h-{date}-{hour}".to_owned(),
        kept: 2,
    };
    let points = [("moved", "0/25"), ("never", "0/FFFF"), ("by-commit", "7")];
    let at = points.map(|(name, point)| (name.to_owned(), point.parse::<AsOf>().unwrap()));
    TableSettings {
        tags: TagSettings {
            by_time: Some(by_time),
            at: at.into(),
        },
        maintenance: MaintenanceSettings {
            snapshots_min: 1,
            snapshots_max: 1,
            ..MaintenanceSettings::default()
        },
        ..TableSettings::default()
    }
}

/// Writes a row at a position of the source.
fn write(database: &Database, table: &Table, lsn: i64) {
    let mut transaction = database.begin();
    transaction
        .upsert(table, note(lsn % 5, &format!("{lsn}")))
        .unwrap();
    transaction.set_origin(Origin {
        source: "shop".into(),
        position: format!("0/{lsn:X}"),
    });
    transaction.commit().unwrap();
}

async fn tags(catalog: &SimulatedCatalog) -> BTreeMap<String, SnapshotReference> {
    let found = catalog.load(&ident("shop", "notes")).await.unwrap();
    let json = serde_json::to_value(found.unwrap().metadata.as_ref()).unwrap();
    let mut references: BTreeMap<String, SnapshotReference> =
        serde_json::from_value(json["refs"].clone()).unwrap();
    references.remove("main");
    references
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_get_the_tags_that_are_due() {
    for guard in [Guard::Metadata, Guard::Requirements] {
        let world = World::new(FormatVersion::V3);
        let database = world.database();
        let table = notes(&database);
        let catalog = SimulatedCatalog::new(guard, 7);
        catalog.calm();
        let clock = Arc::new(SetClock(Mutex::new(SystemClock.now_ms())));
        let open = async || {
            let environment = Environment {
                clock: clock.clone(),
                identities: Arc::new(RandomIdentities),
                work: Arc::new(TokioWork),
            };
            let settings = settings().into();
            Exporter::open_with(database.clone(), catalog.clone(), settings, environment)
                .await
                .unwrap()
        };
        let mut exporter = open().await;
        let (mut hourly, mut at_points) = (None, BTreeMap::new());
        for number in 0..12 {
            *clock.0.lock() += 20;
            if number % 3 == 2 {
                // A fence in between is no export.
                exporter = open().await;
            }
            write(&database, &table, number * 16);
            match number % 4 {
                1 => catalog.plan(&[Fault::LostAnswer], &[]),
                2 => catalog.plan(&[Fault::SentTwice], &[]),
                3 => catalog.plan(&[Fault::Disturbed], &[]),
                _ => {}
            }
            let exports = exporter.tick(&database.snapshot()).await.unwrap();
            let snapshot_id = exports[0].snapshot_id;
            hourly.get_or_insert(snapshot_id);
            // The first that holds 0/25 is the one of 0/30; the seventh commit is the one of number 6.
            match number {
                3 => drop(at_points.insert("moved", snapshot_id)),
                6 => drop(at_points.insert("by-commit", snapshot_id)),
                _ => {}
            }
            exporter.maintainer().run(None, false).await.unwrap();
            world.check_same_in(&database, catalog.clone()).await;
        }
        let found = tags(&catalog).await;
        for (name, snapshot_id) in at_points {
            let retention = SnapshotRetention::Tag {
                max_ref_age_ms: None,
            };
            assert_eq!(
                found[name],
                SnapshotReference::new(snapshot_id, retention),
                "{guard:?}"
            );
        }
        // The hour may have ended meanwhile; the first tag is of the first export.
        let mut by_hour = found.iter().filter(|(name, _)| name.starts_with("h-20"));
        let (name, first) = by_hour.next().unwrap();
        let max_ref_age_ms = Some(2 * HOUR_MS);
        let retention = SnapshotRetention::Tag { max_ref_age_ms };
        assert_eq!(
            *first,
            SnapshotReference::new(hourly.unwrap(), retention),
            "{name}"
        );
        assert!(by_hour.count() <= 1 && !found.contains_key("never"));

        for (hours, are_there) in [(2, true), (1, false)] {
            *clock.0.lock() += hours * HOUR_MS - 60_000;
            exporter.maintainer().run(None, false).await.unwrap();
            let found = tags(&catalog).await;
            let mut names = found.keys();
            assert_eq!(
                names.any(|name| name.starts_with("h-")),
                are_there,
                "{guard:?}"
            );
            assert!(found.contains_key("moved") && found.contains_key("by-commit"));
        }
        world.check_same_in(&database, catalog.clone()).await;
        // What a tag names stays, and is found as of what it stands for.
        let history = TableHistory::with_catalog(catalog.clone(), &database, &table).unwrap();
        assert_eq!(history.versions().await.unwrap()[0].commit_seq, 12);
    }
}
