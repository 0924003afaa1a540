//! The database: opening it, and everything that is asked of it.
//!
//! A [`Database`] is what its owner holds. [`evolution`] changes the columns of a table; [`gather`] puts the database's
//! statistics together.

pub(crate) mod evolution;
mod gather;

use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use crate::background::threads;
use crate::codec::len_u32;
use crate::commit::committer;
use crate::error::{Error, Result};
use crate::export::{Changes, Export, PendingExport, Relocation};
use crate::exported::Exported;
use crate::layout::Layout;
use crate::log::fact::encode_table;
use crate::log::format::RecordKind;
use crate::log::segments::LogSegment;
use crate::manifest::{FORMAT_VERSION, Manifest};
use crate::open::{OpenDatabase, lock_folder};
use crate::options::Options;
use crate::origins::Origin;
use crate::profile::StoredProfile;
use crate::recovery::{create, recover, recover_read_only, sync_folders, upgrade};
use crate::schedule::Depth;
use crate::schema::TableSchema;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::sync::thread::Builder;
use crate::sync::{Mutex, MutexGuard};
use crate::table::Table;

/// A database: tables with a primary key, in a folder.
///
/// A clone is the same database. When the last one is dropped, what was submitted is written and the folder unlocked.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// database.keyspace("settings")?.insert("color", "green")?;
/// drop(database);
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// assert_eq!(database.tables().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Database {
    pub(crate) open: Arc<OpenDatabase>,
}

impl Database {
    /// Opens the database in a folder, creating it if there is none, and locks it.
    ///
    /// With the default options a database that is created measures its device first, for up to ten seconds; see
    /// [`ProfileChoice`](crate::ProfileChoice).
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it, [`Error::Corrupt`] naming file and byte if stored bytes are damaged,
    /// [`Error::NewerFormat`] if a newer build wrote it, [`Error::Io`] if the system refuses a file.
    pub fn open(folder: impl AsRef<Path>, options: Options) -> Result<Self> {
        let folder = folder.as_ref();
        let io = options.io.clone();
        let lock = lock_folder(&*io, folder)?;
        let manifest = match Manifest::read(&*io, folder)? {
            Some(manifest) if manifest.version == FORMAT_VERSION => manifest,
            Some(manifest) => upgrade(&io, folder, manifest)?,
            None => create(&options, folder)?,
        };
        // Also where a manifest was found: the process that made it may have died before it synced the folders.
        sync_folders(&*io, folder)?;
        let (shared, writer) = recover(&options, manifest, folder)?;
        *shared.log_writer.lock() = Some(writer);
        let attended = shared.clone();
        let mut open = OpenDatabase {
            shared,
            committer: None,
            background: Vec::new(),
            creating: Mutex::new(()),
            _lock: Some(lock),
        };
        let no_thread = |source| Error::io("start a thread for", folder, source);
        open.background = threads::start(&open.shared).map_err(no_thread)?;
        let committer = Builder::new()
            .name("moonshine-commit".into())
            .spawn(move || committer::attend(&attended))
            .map_err(no_thread)?;
        open.committer = Some(committer);
        Ok(Database {
            open: Arc::new(open),
        })
    }

    /// Opens the database in a folder to read, as it is now, beside a process that writes to it or without one.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no database; [`Error::Corrupt`], [`Error::NewerFormat`] and [`Error::Io`] as for
    /// [`open`](Self::open).
    pub fn open_read_only(folder: impl AsRef<Path>, options: Options) -> Result<Self> {
        let folder = folder.as_ref();
        let manifest = Manifest::read(&*options.io, folder)?
            .ok_or_else(|| Error::Usage(format!("there is no database in {}", folder.display())))?;
        let shared = recover_read_only(&options, &manifest, folder)?;
        let open = OpenDatabase {
            shared,
            committer: None,
            background: Vec::new(),
            creating: Mutex::new(()),
            _lock: None,
        };
        Ok(Database {
            open: Arc::new(open),
        })
    }

    /// Whether there is a database in a folder.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if its manifest is damaged, [`Error::NewerFormat`] if a newer build wrote it, [`Error::Io`] if the
    /// system refuses it.
    pub fn exists(folder: impl AsRef<Path>, options: &Options) -> Result<bool> {
        Manifest::read(&*options.io, folder.as_ref()).map(|manifest| manifest.is_some())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.open.shared
    }

    /// Held by whoever makes or changes a table, so that one does it at a time.
    pub(crate) fn creating(&self) -> MutexGuard<'_, ()> {
        self.open.creating.lock()
    }

    pub(crate) fn open_database(&self) -> &Arc<OpenDatabase> {
        &self.open
    }

    pub(crate) fn check_table(&self, table: &Table) -> Result<()> {
        self.shared().check_table(table)
    }

    /// The database's identity, given at its creation.
    pub fn id(&self) -> Uuid {
        self.shared().database_id
    }

    /// What the database was laid out from, when it was created.
    pub fn profile(&self) -> &StoredProfile {
        &self.shared().profile
    }

    /// The numbers that follow from its profile.
    pub fn layout(&self) -> &Layout {
        &self.shared().layout
    }

    /// The segments of the log, oldest first.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses one.
    pub fn log_segments(&self) -> Result<Vec<LogSegment>> {
        self.shared().segments.list()
    }

    /// Creates a table, durably. One that exists with the same schema is returned as it is.
    ///
    /// # Errors
    /// [`Error::Schema`] if one exists with another schema; [`Error::Usage`] if the database is read-only.
    pub fn create_table(&self, schema: TableSchema) -> Result<Table> {
        let shared = self.shared();
        let _creating = self.creating();
        if let Some(table) = self.table(schema.name()) {
            if table.schema().is_same_definition(&schema) {
                return Ok(table);
            }
            return Err(Error::Schema(format!(
                "table '{}' exists with another schema",
                schema.name()
            )));
        }
        shared.check_writable()?;
        let id = len_u32(shared.tables.read().len());
        shared.log(RecordKind::Table, encode_table(id, &schema))?;
        self.table(schema.name())
            .ok_or_else(|| Error::Usage(format!("table '{}' was not created", schema.name())))
    }

    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<Table> {
        let tables = self.shared().tables.read();
        tables
            .iter()
            .find(|state| state.schema().name() == name)
            .map(|state| Table::new(state.clone()))
    }

    /// All tables, in order of creation.
    pub fn tables(&self) -> Vec<Table> {
        self.shared()
            .tables
            .read()
            .iter()
            .map(|state| Table::new(state.clone()))
            .collect()
    }

    /// The newest visible state.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.shared().clone())
    }

    /// The newest durable position of a source.
    pub fn origin(&self, source: &str) -> Option<Origin> {
        self.shared().origins.of(source, || self.durable_seq())
    }

    /// The newest commit sequence that is durable and visible; all before it are.
    pub fn durable_seq(&self) -> u64 {
        self.shared().pins.durable_seq()
    }

    /// Waits until a submitted commit sequence is durable and visible. What was committed as
    /// [`Durability::Buffered`](crate::Durability::Buffered) is synced.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the log can't be written; [`Error::NoSpace`] while the disk is full: what was submitted is
    /// still queued, and written once there is space.
    pub fn wait_durable(&self, seq: u64) -> Result<()> {
        let shared = self.shared();
        shared.pins.wait_visible(seq)?;
        if shared.pins.durable_seq() < seq {
            committer::sync(shared)?;
        }
        Ok(())
    }

    /// Makes every commit durable that is visible.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the log can't be written, [`Error::Usage`] if the database is read-only.
    pub fn sync(&self) -> Result<()> {
        committer::sync(self.shared())
    }

    /// The net change of a table from its last committed export to a snapshot.
    ///
    /// # Errors
    /// [`Error::Usage`] if the snapshot is older than the export.
    pub fn changes(&self, table: &Table, snapshot: &Snapshot) -> Result<Changes> {
        self.check_table(table)?;
        Changes::new(table, snapshot)
    }

    /// Starts an export of a table at a snapshot; one at a time a table.
    ///
    /// # Errors
    /// [`Error::Usage`] if one is under way or pending, if the snapshot is older than the last one, or if the database
    /// is read-only.
    pub fn begin_export(&self, table: &Table, snapshot: &Snapshot) -> Result<Export> {
        self.check_table(table)?;
        Export::begin(self.shared(), table, snapshot)
    }

    /// Starts moving exported rows of a table from some files to others, which hold them already.
    ///
    /// # Errors
    /// [`Error::Usage`] if no exported row lies in one of the files, or if the database is read-only.
    pub fn begin_relocation(
        &self,
        table: &Table,
        commit_id: Uuid,
        replaced_files: &[String],
    ) -> Result<Relocation> {
        self.check_table(table)?;
        Relocation::begin(self.shared(), table, commit_id, replaced_files)
    }

    /// The files that hold exported rows of a table which count, as the exporter named them.
    pub fn export_files(&self, table: &Table) -> Vec<Arc<str>> {
        table.state.exports.load().paths().cloned().collect()
    }

    /// The last committed export of a table.
    pub fn exported(&self, table: &Table) -> Option<Exported> {
        table.state.exported()
    }

    /// The exports that were prepared and neither committed nor aborted.
    pub fn pending_exports(&self) -> Vec<PendingExport> {
        let pending = self.shared().facts.pending().into_iter();
        pending
            // Else whoever exports may still settle it.
            .filter(|record| !*record.table.exporting.lock())
            .map(|record| PendingExport::new(self.shared().clone(), record))
            .collect()
    }

    /// Writes what is in memory below level 0, and waits for it. It happens by itself when there is enough of it; this
    /// is for who is about to copy the files, or to pause: what is compacted only while nobody writes begins at once.
    ///
    /// # Errors
    /// [`Error::Usage`] if the database is read-only, [`Error::Poisoned`] if a write fails, [`Error::NoSpace`] if the disk
    /// is full; it is then tried again by itself.
    pub fn flush(&self) -> Result<()> {
        let shared = self.shared();
        let seq = shared.pins.visible_seq();
        committer::freeze(shared)?;
        shared.generations.wait_flushed()?;
        shared.rest(seq);
        shared.check_writable()
    }

    /// Writes what is in memory below level 0, and compacts everything as far as it goes: each leaf of each table becomes
    /// one run of rows, less what was replaced and deleted, but for what snapshots and exports still need apart. Waits
    /// for it. What reads and space need happens by itself in the background; this takes as much writing as the database
    /// is large.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn compact(&self) -> Result<()> {
        let shared = self.shared();
        committer::freeze(shared)?;
        shared.generations.wait_flushed()?;
        shared.look_at_all(Depth::Full);
        shared.scheduler.wait_settled()?;
        shared.check_writable()
    }

    /// Bytes of memory of the newest deltas, and of pages of what lies below them.
    pub fn memory_used_bytes(&self) -> (u64, u64) {
        let shared = self.shared();
        let pages = shared.store.cache.stats();
        let page_bytes = shared.store.cache.page_bytes() + pages.slot_bytes;
        (shared.generations.size_bytes(), page_bytes)
    }
}
