//! Orphan removal: what nothing names goes once it is old, and nothing else. Defends the invariants *same* and *bounded*.

use std::collections::BTreeSet;
use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use moonshine_engine::{Database, ExportFile, Table};
use moonshine_export::{Exporter, MaintenanceTask};
use uuid::Uuid;

use crate::support::{VERSIONS, World, ident, notes, write_notes};

struct Exported {
    world: World,
    database: Database,
    table: Table,
    exporter: Exporter,
    folder: PathBuf,
}

impl Exported {
    async fn new(version: moonshine_export::FormatVersion) -> Exported {
        let world = World::new(version);
        let database = world.database();
        let table = notes(&database);
        let mut exporter = world.exporter(&database).await.unwrap();
        for round in 0..4 {
            write(&database, &table, round);
            exporter.tick(&database.snapshot()).await.unwrap();
        }
        let metadata = world.metadata(&ident("shop", "notes")).await;
        let folder = metadata.location().strip_prefix("file://").unwrap().into();
        Exported {
            world,
            database,
            table,
            exporter,
            folder,
        }
    }

    fn orphan(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "left").unwrap();
        path
    }

    /// What is removed, or would be.
    async fn removed(&self, is_dry_run: bool) -> u64 {
        let actions = self
            .exporter
            .maintainer()
            .run(None, is_dry_run)
            .await
            .unwrap();
        let orphans = actions
            .iter()
            .filter(|action| action.task == MaintenanceTask::RemoveOrphans);
        orphans.map(|action| action.items).sum()
    }
}

fn write(database: &Database, table: &Table, round: i64) {
    let rows = (0..30).map(|id| (id * (round % 5 + 1), format!("{round}")));
    write_notes(database, table, rows, &[round]);
}

fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => {
                found.insert(entry.path());
            }
        }
    }
    found
}

/// Makes every file a year old.
fn age(folder: &Path) {
    let year_ago = SystemTime::now() - Duration::from_secs(365 * 24 * 3600);
    for path in files(folder) {
        let file = File::options().append(true).open(path).unwrap();
        file.set_times(FileTimes::new().set_modified(year_ago))
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_names_goes_once_it_is_old() {
    for version in VERSIONS {
        let exported = Exported::new(version).await;
        let before = files(&exported.folder);
        let old = [
            "data/left.parquet",
            "data/day=1/kind=%2F/left.parquet",
            "metadata/left.avro",
            "metadata/00099-left.metadata.json",
        ]
        .map(|name| exported.orphan(name));
        // Another table's folder may be there.
        let other = exported.orphan("data/data/left.parquet");
        age(&exported.folder);
        let young = exported.orphan("data/young.parquet");
        assert_eq!(exported.removed(true).await, 4);
        assert!(
            old.iter().all(|path| path.exists()),
            "a dry run removes nothing"
        );
        assert_eq!(exported.removed(false).await, 4);
        assert_eq!(exported.removed(false).await, 0);
        let mut kept = before;
        kept.extend([other, young]);
        // What else is done by hand writes files of its own.
        assert!(files(&exported.folder).is_superset(&kept));
        assert!(old.iter().all(|path| !path.exists()));
        exported.world.check_same(&exported.database).await;
    }
}

/// Invariant 7, "bounded": of more files than are held at once, each is held against what the table names.
#[tokio::test(flavor = "multi_thread")]
async fn many_orphans_go_though_few_are_held_at_once() {
    const ORPHANS: u64 = 6000;
    let exported = Exported::new(VERSIONS[1]).await;
    for number in 0..ORPHANS {
        let folder = ["data", "data/day=1", "metadata"][number as usize % 3];
        exported.orphan(&format!("{folder}/left-{number}.parquet"));
    }
    age(&exported.folder);
    assert_eq!(exported.removed(true).await, ORPHANS);
    assert_eq!(exported.removed(false).await, ORPHANS);
    assert_eq!(exported.removed(false).await, 0);
    exported.world.check_same(&exported.database).await;
}

/// The end of an export is not known: its files may be those of a snapshot soon.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_pending_export_stay() {
    let exported = Exported::new(VERSIONS[1]).await;
    let Exported {
        database, table, ..
    } = &exported;
    write_notes(database, table, [(1000, "new".to_owned())], &[]);
    let path = exported.orphan("data/pending.parquet");
    let left = exported.orphan("data/left.parquet");
    age(&exported.folder);
    let mut export = database.begin_export(table, &database.snapshot()).unwrap();
    let file = ExportFile {
        path: format!("file://{}", path.display()),
        row_count: export.row_count(),
    };
    // The rows are taken as an exporter takes them.
    export.batches(None, 100).unwrap().for_each(drop);
    export.prepare(Uuid::new_v4(), &[file]).unwrap();
    drop(export);
    assert_eq!(exported.removed(false).await, 0);
    assert!(path.exists() && left.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn removal_beside_exports_loses_nothing() {
    for version in VERSIONS {
        let mut exported = Exported::new(version).await;
        for round in 4..20 {
            write(&exported.database, &exported.table, round);
            age(&exported.folder);
            exported.orphan("data/left.parquet");
            let maintainer = exported.exporter.maintainer();
            let snapshot = exported.database.snapshot();
            let (ticked, looked) = tokio::join!(
                exported.exporter.tick(&snapshot),
                maintainer.run(None, false)
            );
            ticked.unwrap();
            looked.unwrap();
            exported.world.check_same(&exported.database).await;
        }
        exported
            .world
            .check_manifests(&ident("shop", "notes"))
            .await;
    }
}
