//! Tables that somebody rolls back: what their snapshots name stays.

use std::sync::Arc;

use iceberg::TableIdent;
use moonshine_engine::Database;
use moonshine_engine::io::SimulatedIo;
use moonshine_export::catalog::Guard;
use moonshine_export::{Exporter, FormatVersion, LayoutSettings};
use moonshine_sim::lake::{Deed, Fault, Lake, SimulatedCatalog, SimulatedClock, environment};
use moonshine_sim::replay::snapshots;

use crate::database::{open_database, settings, table_of, write};

/// A database with a table, and its exporter.
struct Way {
    lake: Lake,
    clock: Arc<SimulatedClock>,
    catalog: Arc<SimulatedCatalog>,
    database: Database,
    exporter: Exporter,
    ident: TableIdent,
}

impl Way {
    async fn new() -> Way {
        let clock = Arc::new(SimulatedClock::default());
        let lake = Lake::new(1, clock.clone());
        let catalog = SimulatedCatalog::of(&lake, Guard::Requirements, 0);
        let database = open_database(&SimulatedIo::new(1));
        table_of(&database, "shop.a");
        let settings = settings(FormatVersion::V3, &LayoutSettings::default(), 1 << 20);
        let environment = environment(clock.clone(), 1);
        let opened =
            Exporter::open_with(database.clone(), catalog.clone(), settings, environment).await;
        Way {
            lake,
            clock,
            catalog,
            exporter: opened.unwrap(),
            database,
            ident: TableIdent::from_strs(["shop", "a"]).unwrap(),
        }
    }

    async fn export(&mut self, keys: std::ops::Range<i64>, note: &str) {
        write(&self.database, keys, note);
        let snapshot = self.database.snapshot();
        self.exporter.tick(&snapshot).await.unwrap();
    }

    /// Reads every snapshot of the table with all its files; how many there are.
    fn read_all(&self) -> usize {
        let (_, metadata_key) = self.lake.tables().remove(0);
        snapshots(&self.lake, &metadata_key).unwrap().len()
    }
}

/// *Same*: the snapshot of an export that nobody heard of, rolled back before anybody did, keeps its files: its table still shows it.
#[test]
fn an_export_that_was_rolled_back_unheard_keeps_its_files() {
    moonshine_sim_runtime::block_on(async {
        let mut way = Way::new().await;
        way.export(0..20, "first").await;
        // It takes place, and neither the answer nor a look at the table comes through.
        way.catalog.plan(&[Fault::LostAnswer], &[true; 100]);
        write(&way.database, 5..8, "second");
        let snapshot = way.database.snapshot();
        way.exporter.tick(&snapshot).await.unwrap_err();
        way.catalog.forget_plans();
        let before = way.read_all();
        assert!(way.lake.disturb(&way.ident, Deed::RollBack));
        let exported = way.exporter.tick(&snapshot).await.unwrap();
        assert_eq!(exported.len(), 1);
        assert!(way.read_all() > before);
    });
}

/// *Same*: of a line of snapshots that was rolled back some expire, and the others keep what they share with those on the other line.
#[test]
fn snapshots_that_were_rolled_back_keep_their_files_when_others_expire() {
    moonshine_sim_runtime::block_on(async {
        let mut way = Way::new().await;
        for round in 0..4 {
            let updated = if round == 0 { 0..20 } else { round..round + 1 };
            way.export(updated, "before").await;
        }
        way.catalog.plan(&[Fault::LostAnswer], &[true; 100]);
        write(&way.database, 100..101, "beside");
        let snapshot = way.database.snapshot();
        way.exporter.tick(&snapshot).await.unwrap_err();
        way.catalog.forget_plans();
        assert!(way.lake.disturb(&way.ident, Deed::RollBack));
        way.exporter.tick(&snapshot).await.unwrap();
        // Each round the oldest one goes, and with it what only it needs.
        for round in 4..14 {
            way.export(round..round + 1, "behind").await;
            way.clock.advance(2 * 3_600_000);
            way.exporter.maintainer().run(None, false).await.unwrap();
            way.read_all();
        }
    });
}
