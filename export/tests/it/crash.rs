//! Invariant 4, "once": a crash or a lost answer at any step of a commit loses nothing and brings nothing twice.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use iceberg::{TableIdent, TableUpdate};
use moonshine_export::ExportError;
use moonshine_export::catalog::{
    CatalogTable, Change, CommitOutcome, Guard, NewTable, TableCatalog,
};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::support::{VERSIONS, World, copy_folder, ident, notes, write_notes};

/// What goes wrong at the next commit.
#[derive(Clone, Debug, PartialEq)]
enum Fault {
    /// The process dies before the swap: the database folder is what it is then.
    CrashBefore(PathBuf, PathBuf),
    /// The process dies after the swap, before the engine hears of it.
    CrashAfter(PathBuf, PathBuf),
    /// The swap does not take place, and the catalog cannot be reached afterwards.
    RefusedAndUnreachable,
    /// The swap takes place, its answer is lost, and the catalog cannot be reached afterwards.
    LostAndUnreachable,
    /// The swap takes place, its answer is lost.
    LostAnswer,
    /// Somebody sets a table property just before.
    PropertyChanged,
    /// The swap waits for ever.
    HangBefore,
    /// The swap takes place, its answer waits for ever.
    HangAfter,
    /// The swap is on its way for so long that it arrives just after the next look at the table.
    Late,
}

#[derive(Debug)]
struct FaultyCatalog {
    inner: Arc<dyn TableCatalog>,
    fault: Mutex<Option<Fault>>,
    unreachable: AtomicBool,
    /// Told when a swap starts to wait.
    hanging: tokio::sync::Notify,
    /// A swap that is still on its way.
    late: Mutex<Option<(CatalogTable, Change, Uuid)>>,
}

fn unreachable_error() -> ExportError {
    ExportError::Unavailable {
        place: "catalog".into(),
        reason: "injected".into(),
    }
}

#[async_trait]
impl TableCatalog for FaultyCatalog {
    fn warehouse(&self) -> Option<&str> {
        self.inner.warehouse()
    }

    fn guard(&self) -> Guard {
        self.inner.guard()
    }

    async fn list(&self) -> Result<Vec<TableIdent>, ExportError> {
        self.inner.list().await
    }

    async fn load(&self, ident: &TableIdent) -> Result<Option<CatalogTable>, ExportError> {
        if self.unreachable.load(Ordering::SeqCst) {
            return Err(unreachable_error());
        }
        let found = self.inner.load(ident).await;
        let late = self.late.lock().take();
        if let Some((base, change, id)) = late {
            self.inner.commit(&base, &change, id).await;
        }
        found
    }

    async fn create(
        &self,
        ident: &TableIdent,
        table: NewTable,
        id: Uuid,
    ) -> Result<CatalogTable, ExportError> {
        self.inner.create(ident, table, id).await
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<bool, ExportError> {
        self.inner.drop_table(ident).await
    }

    async fn commit(&self, base: &CatalogTable, change: &Change, id: Uuid) -> CommitOutcome {
        let fault = self.fault.lock().take();
        match fault {
            None => self.inner.commit(base, change, id).await,
            Some(Fault::CrashBefore(from, to)) => {
                copy_folder(&from, &to);
                self.unreachable.store(true, Ordering::SeqCst);
                CommitOutcome::Unknown(unreachable_error())
            }
            Some(Fault::CrashAfter(from, to)) => {
                let outcome = self.inner.commit(base, change, id).await;
                copy_folder(&from, &to);
                outcome
            }
            Some(Fault::RefusedAndUnreachable) => {
                self.unreachable.store(true, Ordering::SeqCst);
                CommitOutcome::Unknown(unreachable_error())
            }
            Some(Fault::LostAndUnreachable) => {
                self.inner.commit(base, change, id).await;
                self.unreachable.store(true, Ordering::SeqCst);
                CommitOutcome::Unknown(unreachable_error())
            }
            Some(Fault::LostAnswer) => {
                self.inner.commit(base, change, id).await;
                CommitOutcome::Unknown(unreachable_error())
            }
            Some(Fault::HangBefore) => {
                self.hanging.notify_one();
                std::future::pending().await
            }
            Some(Fault::HangAfter) => {
                self.inner.commit(base, change, id).await;
                self.hanging.notify_one();
                std::future::pending().await
            }
            Some(Fault::Late) => {
                *self.late.lock() = Some((base.clone(), change.clone(), id));
                self.hanging.notify_one();
                std::future::pending().await
            }
            Some(Fault::PropertyChanged) => {
                change_property(self.inner.as_ref(), base).await;
                self.inner.commit(base, change, id).await
            }
        }
    }
}

async fn change_property(catalog: &dyn TableCatalog, table: &CatalogTable) {
    let updates = [("owner".to_owned(), "ann".to_owned())].into();
    let change = Change::of(
        &table.metadata,
        vec![TableUpdate::SetProperties { updates }],
    );
    let outcome = catalog.commit(table, &change, Uuid::from_u128(77)).await;
    assert!(matches!(outcome, CommitOutcome::Committed(_)));
}

async fn faulty(world: &World) -> Arc<FaultyCatalog> {
    let inner = world.catalog().await;
    Arc::new(FaultyCatalog {
        inner,
        fault: Mutex::new(None),
        unreachable: AtomicBool::new(false),
        hanging: tokio::sync::Notify::new(),
        late: Mutex::new(None),
    })
}

/// The process dies around the second commit of a table; a database of what its folder held then goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_around_the_swap() {
    for version in VERSIONS {
        for after in [false, true] {
            let world = World::new(version);
            let database = world.database();
            let table = notes(&database);
            let catalog = faulty(&world).await;
            let mut exporter = world
                .exporter_with(&database, catalog.clone())
                .await
                .unwrap();
            write_notes(
                &database,
                &table,
                (0..100).map(|id| (id, "old".to_owned())),
                &[],
            );
            exporter.tick(&database.snapshot()).await.unwrap();
            write_notes(
                &database,
                &table,
                (50..120).map(|id| (id, "new".to_owned())),
                &[1, 2],
            );
            let folders = (world.path("database"), world.path("crashed"));
            *catalog.fault.lock() = Some(match after {
                false => Fault::CrashBefore(folders.0, folders.1),
                true => Fault::CrashAfter(folders.0, folders.1),
            });
            let ticked = exporter.tick(&database.snapshot()).await;
            assert_eq!(ticked.is_ok(), after);
            drop((exporter, table, database));

            let database = world.database_in("crashed");
            assert_eq!(
                database.pending_exports().len(),
                1,
                "prepared and not settled"
            );
            let mut exporter = world.exporter(&database).await.unwrap();
            assert!(database.pending_exports().is_empty());
            let exports = exporter.tick(&database.snapshot()).await.unwrap();
            assert_eq!(exports.is_empty(), after, "committed once: {exports:?}");
            world.check_same(&database).await;
            world.check_manifests(&ident("shop", "notes")).await;
            let metadata = world.metadata(&ident("shop", "notes")).await;
            assert_eq!(metadata.snapshots().count(), 2);
            assert_eq!(
                data_files_on_disk(&world),
                if version.number() == 2 { 3 } else { 2 }
            );
        }
    }
}

/// Parquet files below the table's folder: data files, and in v2 position deletes.
fn data_files_on_disk(world: &World) -> usize {
    let files = std::fs::read_dir(world.path("warehouse/shop/notes/data")).unwrap();
    files
        .filter(|file| {
            file.as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|ext| ext == "parquet")
        })
        .count()
}

/// The answer to a commit is lost, and the catalog with it for a while; the same process goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_found_out() {
    for version in VERSIONS {
        for fault in [
            Fault::RefusedAndUnreachable,
            Fault::LostAndUnreachable,
            Fault::LostAnswer,
        ] {
            let world = World::new(version);
            let database = world.database();
            let table = notes(&database);
            let catalog = faulty(&world).await;
            let mut exporter = world
                .exporter_with(&database, catalog.clone())
                .await
                .unwrap();
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
                (5..15).map(|id| (id, "new".to_owned())),
                &[1],
            );
            *catalog.fault.lock() = Some(fault.clone());
            let ticked = exporter.tick(&database.snapshot()).await;
            assert_eq!(
                ticked.is_ok(),
                fault == Fault::LostAnswer,
                "{fault:?}: {ticked:?}"
            );
            if ticked.is_err() {
                let error = exporter.tick(&database.snapshot()).await.unwrap_err();
                assert!(
                    matches!(error, ExportError::Unavailable { .. }),
                    "still unreachable: {error}"
                );
            }
            catalog.unreachable.store(false, Ordering::SeqCst);
            write_notes(&database, &table, [(3, "last".to_owned())], &[]);
            exporter.tick(&database.snapshot()).await.unwrap();
            world.check_same(&database).await;
            let snapshots = world
                .metadata(&ident("shop", "notes"))
                .await
                .snapshots()
                .count();
            assert_eq!(
                snapshots,
                if fault == Fault::RefusedAndUnreachable {
                    2
                } else {
                    3
                },
                "{fault:?}"
            );
        }
    }
}

/// A change of the table's metadata by another does not stop the export, and is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_without_rows_is_tried_again() {
    for version in VERSIONS {
        let world = World::new(version);
        let database = world.database();
        let table = notes(&database);
        let catalog = faulty(&world).await;
        let mut exporter = world
            .exporter_with(&database, catalog.clone())
            .await
            .unwrap();
        write_notes(
            &database,
            &table,
            (0..10).map(|id| (id, "old".to_owned())),
            &[],
        );
        exporter.tick(&database.snapshot()).await.unwrap();
        write_notes(&database, &table, [(1, "new".to_owned())], &[]);
        *catalog.fault.lock() = Some(Fault::PropertyChanged);
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;
        let metadata = world.metadata(&ident("shop", "notes")).await;
        assert_eq!(metadata.properties()["owner"], "ann");
        assert_eq!(metadata.snapshots().count(), 2);
    }
}

/// A tick that is dropped half way leaves nothing that the next one could not settle.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_tick_is_settled() {
    for version in VERSIONS {
        for fault in [Fault::HangBefore, Fault::HangAfter, Fault::Late] {
            let world = World::new(version);
            let database = world.database();
            let table = notes(&database);
            let catalog = faulty(&world).await;
            let mut exporter = world
                .exporter_with(&database, catalog.clone())
                .await
                .unwrap();
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
                (5..15).map(|id| (id, "new".to_owned())),
                &[1],
            );
            *catalog.fault.lock() = Some(fault.clone());
            let snapshot = database.snapshot();
            tokio::select! {
                ticked = exporter.tick(&snapshot) => panic!("{ticked:?}"),
                () = catalog.hanging.notified() => {}
            }
            let exports = exporter.tick(&database.snapshot()).await.unwrap();
            assert_eq!(
                exports.is_empty(),
                fault != Fault::HangBefore,
                "{exports:?}"
            );
            world.check_same(&database).await;
            world.check_manifests(&ident("shop", "notes")).await;
            let snapshots = world
                .metadata(&ident("shop", "notes"))
                .await
                .snapshots()
                .count();
            assert_eq!(snapshots, 2, "{fault:?}");
        }
    }
}
