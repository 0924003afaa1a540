//! What a database is laid out from: chosen at its creation, kept for its life, and told.

#![allow(
    clippy::disallowed_methods,
    reason = "what lies in a real folder is looked at and changed behind the engine's back"
)]

use std::io::Result as IoResult;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use moonshine_engine::io::{FileLock, Io, IoFile, OpenMode, SimulatedIo};
use moonshine_engine::{
    ColumnType, Database, Options, ProfileChoice, Provenance, StoredProfile, Table, TableSchema,
    Value,
};
use moonshine_sysprobe::Profile;
use moonshine_sysprobe::disk::Medium;
use xxhash_rust::xxh3::xxh3_64;

fn table(database: &Database) -> Table {
    let schema = TableSchema::builder("counts")
        .column("id", ColumnType::Int64, false)
        .primary_key(["id"])
        .build()
        .unwrap();
    database.create_table(schema).unwrap()
}

fn write(database: &Database, ids: std::ops::Range<i64>) {
    let counts = table(database);
    let mut transaction = database.begin();
    for id in ids {
        transaction.upsert(&counts, vec![Value::Int64(id)]).unwrap();
    }
    transaction.commit().unwrap();
}

fn row_count(database: &Database) -> u64 {
    let counts = database.table("counts").unwrap();
    database.snapshot().row_count(&counts).unwrap()
}

/// A simulated disk that can be measured, and counts how often it is.
#[derive(Clone, Debug)]
struct MeasurableIo {
    disk: SimulatedIo,
    measured: Arc<AtomicUsize>,
}

impl Io for MeasurableIo {
    fn open(&self, path: &Path, mode: OpenMode) -> IoResult<Arc<dyn IoFile>> {
        self.disk.open(path, mode)
    }
    fn create_folder(&self, path: &Path) -> IoResult<()> {
        self.disk.create_folder(path)
    }
    fn list(&self, folder: &Path) -> IoResult<Vec<PathBuf>> {
        self.disk.list(folder)
    }
    fn rename(&self, from: &Path, to: &Path) -> IoResult<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> IoResult<()> {
        self.disk.remove(path)
    }
    fn sync_folder(&self, folder: &Path) -> IoResult<()> {
        self.disk.sync_folder(folder)
    }
    fn try_lock(&self, path: &Path) -> IoResult<Option<Box<dyn FileLock>>> {
        self.disk.try_lock(path)
    }
    fn measure_profile(&self, _folder: &Path) -> IoResult<StoredProfile> {
        let times = self.measured.fetch_add(1, Ordering::Relaxed);
        let s_paral = 16 << times;
        let profile = StoredProfile::from(Profile::measured(1 << 20, s_paral, 1));
        Ok(profile.with_commit_batch_bytes(256 << 10))
    }
    fn random_u128(&self) -> u128 {
        self.disk.random_u128()
    }
    fn now(&self) -> Duration {
        self.disk.now()
    }
    fn sleep(&self, duration: Duration) {
        self.disk.sleep(duration);
    }
}

#[test]
fn a_database_is_measured_once_in_its_life() {
    let io = MeasurableIo {
        disk: SimulatedIo::new(1),
        measured: Arc::default(),
    };
    let options = || Options {
        io: Arc::new(io.clone()),
        ..Options::default()
    };
    let folder = Path::new("/db");
    assert!(!Database::exists(folder, &options()).unwrap());
    let database = Database::open(folder, options()).unwrap();
    let (profile, layout) = (database.profile().clone(), *database.layout());
    assert_eq!(profile.provenance(), Provenance::Measured);
    assert_eq!((profile.s_size_bytes(), profile.s_paral()), (1 << 20, 16));
    assert_eq!(layout.shard_count.value, 16);
    assert_eq!(layout.log_segment_size_bytes.value, 128 << 20);
    assert_eq!(layout.commit_block_size_bytes.value, 5 << 20);
    write(&database, 0..100);
    drop(database);

    assert!(Database::exists(folder, &options()).unwrap());
    for database in [
        Database::open(folder, options()).unwrap(),
        Database::open_read_only(folder, options()).unwrap(),
    ] {
        assert_eq!(*database.profile(), profile);
        assert_eq!(*database.layout(), layout);
        assert_eq!(row_count(&database), 100);
    }
    assert_eq!(io.measured.load(Ordering::Relaxed), 1);
}

#[test]
fn a_profile_given_to_a_database_that_exists_changes_nothing() {
    let io = SimulatedIo::new(1);
    let options = |profile| Options {
        io: Arc::new(io.clone()),
        profile,
        ..Options::default()
    };
    let given = |s_paral| ProfileChoice::from(Profile::given(65_536, s_paral));
    let database = Database::open("/db", options(given(8))).unwrap();
    write(&database, 0..100);
    drop(database);
    let database = Database::open("/db", options(given(64))).unwrap();
    assert_eq!(database.layout().shard_count.value, 8);
    assert_eq!(row_count(&database), 100);
}

#[test]
fn a_database_of_format_1_opens_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        profile: Profile::given(65_536, 8).into(),
        ..Options::default()
    };
    let database = Database::open(folder.path(), options).unwrap();
    let id = database.id();
    write(&database, 0..100);
    drop(database);
    let mut manifest = b"MOONDB\r\n".to_vec();
    manifest.extend_from_slice(&1u32.to_le_bytes());
    manifest.extend_from_slice(&3u32.to_le_bytes());
    manifest.extend_from_slice(id.as_bytes());
    manifest.extend_from_slice(&xxh3_64(&manifest).to_le_bytes());
    std::fs::write(folder.path().join("MANIFEST"), manifest).unwrap();

    for rows in [100, 200] {
        let database = Database::open(folder.path(), Options::default()).unwrap();
        assert_eq!(database.id(), id);
        assert_eq!(database.profile().provenance(), Provenance::Unrecorded);
        assert_eq!(database.layout().shard_count.value, 8);
        assert_eq!(row_count(&database), rows);
        write(&database, 100..200);
    }
}

#[test]
fn a_new_database_measures_its_own_folder_and_leaves_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), Options::default()).unwrap();
    let profile = database.profile();
    match profile.provenance() {
        Provenance::Measured => {
            assert!(profile.measured_at().is_some() && profile.machine().is_some());
            assert!(profile.commit_batch_bytes().is_some());
        }
        // In memory, or so slow that ten seconds are not enough: then the reason is kept.
        Provenance::SafeDefault => assert!(profile.method().contains(": "), "{profile:?}"),
        other => panic!("{other}"),
    }
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["LOCK", "MANIFEST", "log", "tree"]);
}

#[test]
fn a_database_in_memory_takes_safe_defaults_at_once() {
    let memory = Path::new("/dev/shm");
    if !matches!(Medium::of(memory), Ok(Medium::Memory)) {
        eprintln!("SKIPPED: there is no file system in memory at /dev/shm");
        return;
    }
    let folder = tempfile::tempdir_in(memory).unwrap();
    let database = Database::open(folder.path(), Options::default()).unwrap();
    let profile = database.profile();
    assert_eq!(profile.provenance(), Provenance::SafeDefault);
    assert!(profile.method().contains("in memory"), "{profile:?}");
}
