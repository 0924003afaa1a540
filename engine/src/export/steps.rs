//! The two steps of an export, and what a crash between them leaves.

use std::ops::Deref;
use std::sync::Arc;

use uuid::Uuid;

use super::export_spill::ExportSpill;
use super::keys::KeyRecords;
use super::locations::load_locations;
use super::noted::Noted;
use super::spilled_keys::SpilledKeys;
use super::{Changes, FileKeys, ReplacedReader};
use crate::commit::committer;
use crate::error::{Error, Result};
use crate::exported::ExportFile;
use crate::exported::location::RowMark;
use crate::facts::PendingRecord;
use crate::log::delta::encode_delta;
use crate::log::fact::{ExportPrepared, ExportResolved, OlderFiles};
use crate::log::format::RecordKind;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::table::Table;

/// An export of one table that is under way: its [`Changes`], to be written, prepared and committed.
///
/// Dropped before [`commit`](Self::commit), it leaves the table as it was; if it was prepared it stays a
/// [`PendingExport`], since the catalog may hold it.
///
/// ```
/// use moonshine_engine::{ColumnType, Database, ExportFile, Options, TableSchema, Value};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// # let schema = TableSchema::builder("users")
/// #     .column("id", ColumnType::Int64, false)
/// #     .column("name", ColumnType::Utf8, true)
/// #     .primary_key(["id"]);
/// # let users = database.create_table(schema.build()?)?;
/// # let mut transaction = database.begin();
/// # transaction.upsert(&users, vec![Value::Int64(1), Value::Utf8("ada".into())])?;
/// # transaction.commit()?;
/// let mut export = database.begin_export(&users, &database.snapshot())?;
/// // The rows of `export.batches()` are written to a file, and the rows of `export.removed()` are deleted.
/// let files = [ExportFile { path: "data/1.parquet".into(), row_count: export.row_count() }];
/// export.prepare(uuid::Uuid::from_u128(1), &files)?;
/// // The catalog takes the file, under an id of its own.
/// export.commit("snapshot 1".into())?;
/// assert!(database.changes(&users, &database.snapshot())?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Export {
    changes: Changes,
    noted: Noted,
    shared: Arc<Shared>,
    spill: Arc<ExportSpill>,
    prepared: Option<Uuid>,
    /// Whether keys may be in the log.
    is_tried: bool,
    _turn: Turn,
}

/// The right to change where rows of a table lie: one export or relocation at a time.
///
/// What was prepared is pending once it is dropped, and has to be settled before the next one starts.
#[derive(Debug)]
pub(super) struct Turn(Table);

impl Turn {
    pub(super) fn take(shared: &Shared, table: &Table) -> Result<Self> {
        shared.check_writable()?;
        let mut exporting = table.state.exporting.lock();
        if *exporting {
            return Err(Error::Usage(format!(
                "table '{}' has an export or a relocation under way",
                table.name()
            )));
        }
        if shared.has_pending(table) {
            return Err(Error::Usage(format!(
                "table '{}' has a pending export; commit or abort that first",
                table.name()
            )));
        }
        *exporting = true;
        Ok(Turn(table.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.state.exporting.lock() = false;
    }
}

impl Deref for Export {
    type Target = Changes;

    fn deref(&self) -> &Changes {
        &self.changes
    }
}

impl Export {
    pub(crate) fn begin(shared: &Arc<Shared>, table: &Table, snapshot: &Snapshot) -> Result<Self> {
        let turn = Turn::take(shared, table)?;
        if snapshot.seq() > shared.pins.durable_seq() {
            // The catalog must not get ahead of what a crash leaves here.
            committer::sync(shared)?;
        }
        let spill = ExportSpill::new(shared, table);
        let (changes, noted) = Changes::noted(table, snapshot, &spill)?;
        Ok(Export {
            changes,
            noted,
            shared: shared.clone(),
            spill,
            prepared: None,
            is_tried: false,
            _turn: turn,
        })
    }

    /// Takes down the keys of one of the export's files, for [`prepare_files`](Self::prepare_files).
    pub fn file_keys(&self) -> FileKeys {
        FileKeys::new(self.changes.table.schema().clone(), self.spill.clone())
    }

    /// The rows of [`Changes::batches`] that replace an exported one, in their order.
    pub fn replaced(&self) -> ReplacedReader {
        self.noted.replaced.reader(&self.noted.exports)
    }

    /// How many rows of [`Changes::batches`] replace an exported one.
    pub fn replaced_count(&self) -> u64 {
        self.noted.replaced.row_count()
    }

    /// Whether any of [`replaced`](Self::replaced) has a [`row_id`](crate::Replaced::row_id).
    pub fn replaced_has_row_ids(&self) -> bool {
        self.noted.replaced.has_row_ids()
    }

    /// Notes durably which files hold the rows of [`Changes::batches`]: in order, file after file, no row with an id that its
    /// file says. To be called once the files are written and before the catalog is told of them.
    ///
    /// It reads the rows once more, for their keys; [`prepare_files`](Self::prepare_files) does not.
    ///
    /// # Errors
    /// [`Error::Usage`] if the files' row counts don't add up to the rows, or it or its commit id was tried before; or what
    /// writing to the log answers: then begin another export, with another commit id.
    pub fn prepare(&mut self, commit_id: Uuid, files: &[ExportFile]) -> Result<()> {
        self.check_files(commit_id, files)?;
        let mut keys = KeyRecords::placed(&self.shared, commit_id);
        let mut rows = self.changes.rows();
        while rows.advance()? {
            if let Some(row) = rows.row() {
                keys.push(row.key, RowMark::PLAIN)?;
            }
        }
        self.log_prepared(commit_id, files, keys)
    }

    /// As [`prepare`](Self::prepare), of files whose keys were taken down, each in its own order.
    ///
    /// ```
    /// use moonshine_engine::{ColumnType, Database, ExportFile, Options, TableSchema, Value};
    /// # let folder = tempfile::tempdir()?;
    /// let database = Database::open(folder.path(), Options::unmeasured())?;
    /// # let schema = TableSchema::builder("users")
    /// #     .column("id", ColumnType::Int64, false)
    /// #     .column("name", ColumnType::Utf8, true)
    /// #     .primary_key(["id"]);
    /// # let users = database.create_table(schema.build()?)?;
    /// # let mut transaction = database.begin();
    /// # transaction.upsert(&users, vec![Value::Int64(1), Value::Utf8("eve".into())])?;
    /// # transaction.upsert(&users, vec![Value::Int64(2), Value::Utf8("ada".into())])?;
    /// # transaction.commit()?;
    /// let mut export = database.begin_export(&users, &database.snapshot())?;
    /// let batch = export.batches(None, 8192)?.next().ok_or("no rows")??;
    /// // The rows come by id; the file holds them the other way round.
    /// let mut keys = export.file_keys();
    /// keys.add(&batch.slice(1, 1), None)?;
    /// keys.add(&batch.slice(0, 1), None)?;
    /// let file = ExportFile { path: "data/1.parquet".into(), row_count: 2 };
    /// export.prepare_files(uuid::Uuid::from_u128(1), vec![(file, keys)])?;
    /// export.commit("snapshot 1".into())?;
    /// # let mut transaction = database.begin();
    /// # transaction.delete(&users, &[Value::Int64(1)])?;
    /// # transaction.commit()?;
    /// // User 1 is deleted, which is the second row of the file.
    /// let changes = database.changes(&users, &database.snapshot())?;
    /// assert_eq!(changes.removed().iter().map(|placement| placement.position).collect::<Vec<_>>(), [1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare), and [`Error::Usage`] if a file has not as many keys as rows.
    pub fn prepare_files(
        &mut self,
        commit_id: Uuid,
        files: Vec<(ExportFile, FileKeys)>,
    ) -> Result<()> {
        let (files, keys_of_files): (Vec<_>, Vec<_>) = files.into_iter().unzip();
        let mut both = files.iter().zip(&keys_of_files);
        if both.any(|(file, keys)| file.row_count != keys.row_count()) {
            let table = self.changes.table.name();
            let reason = "a file has another number of rows than of keys";
            return Err(Error::Usage(format!("table '{table}': {reason}")));
        }
        self.check_files(commit_id, &files)?;
        let mut keys = KeyRecords::placed(&self.shared, commit_id);
        for of_file in keys_of_files {
            of_file
                .into_keys()
                .each_body(|body| keys.submit_body(body))?;
        }
        self.log_prepared(commit_id, &files, keys)
    }

    /// Checks that it is the first time, also of the commit id, and that the files have as many rows as there are.
    fn check_files(&mut self, commit_id: Uuid, files: &[ExportFile]) -> Result<()> {
        let file_rows: u64 = files.iter().map(|file| file.row_count).sum();
        let is_too_large = |file: &ExportFile| file.row_count > u64::from(u32::MAX);
        if file_rows != self.changes.row_count() || files.iter().any(is_too_large) {
            return Err(Error::Usage(format!(
                "table '{}': files of {file_rows} rows (each below 2^32) for an export of {} rows",
                self.changes.table.name(),
                self.changes.row_count()
            )));
        }
        if std::mem::replace(&mut self.is_tried, true) {
            return Err(Error::Usage(format!(
                "table '{}': prepared twice",
                self.changes.table.name()
            )));
        }
        claim(&self.shared, &self.changes.table, commit_id)
    }

    /// Logs the keys that are left, those that are gone, and then that the export is prepared.
    fn log_prepared(
        &mut self,
        commit_id: Uuid,
        files: &[ExportFile],
        mut keys: KeyRecords,
    ) -> Result<()> {
        keys.submit()?;
        let mut cleared = KeyRecords::cleared(&self.shared, commit_id);
        // It is prepared once, so they are needed once.
        let none = SpilledKeys::new(self.spill.clone(), true);
        let gone = std::mem::replace(&mut self.noted.cleared, none);
        gone.each_body(|body| cleared.submit_body(body))?;
        let prepared = ExportPrepared {
            table_id: self.changes.table.id(),
            commit_id,
            from_seq: self.changes.from_seq(),
            to_seq: self.changes.to_seq(),
            files: files.to_vec(),
            older: Some(OlderFiles {
                taken: self.noted.taken.clone(),
                replaced: Vec::new(),
            }),
        };
        self.shared
            .log(RecordKind::ExportPrepared, prepared.encode())?;
        keys.are_used();
        cleared.are_used();
        self.prepared = Some(commit_id);
        Ok(())
    }

    /// Notes durably that the catalog holds the export, under that token; the rows have their placements from now on.
    ///
    /// # Errors
    /// [`Error::Usage`] if it was not prepared; or what writing to the log, or the placements of many rows, answers: the export is
    /// then pending.
    pub fn commit(mut self, token: String) -> Result<()> {
        let Some(commit_id) = self.prepared.take() else {
            return Err(Error::Usage(format!(
                "table '{}': committed without prepare",
                self.changes.table.name()
            )));
        };
        resolve(&self.shared, commit_id, Some(token))
    }

    /// Gives the export up: the catalog does not hold it and never will.
    ///
    /// # Errors
    /// What writing to the log answers: the export is then pending, if it was prepared.
    pub fn abort(mut self) -> Result<()> {
        match self.prepared.take() {
            None => Ok(()),
            Some(commit_id) => resolve(&self.shared, commit_id, None),
        }
    }
}

/// Takes a commit id for an export or a relocation that is to be prepared.
pub(super) fn claim(shared: &Shared, table: &Table, commit_id: Uuid) -> Result<()> {
    if shared.facts.claim(commit_id) {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "table '{}': the commit id {commit_id} was tried before; take another one",
        table.name()
    )))
}

/// Writes the outcome of a prepared export; the committer applies it. Any error but [`Error::Poisoned`] leaves it without one.
pub(super) fn resolve(shared: &Shared, commit_id: Uuid, token: Option<String>) -> Result<()> {
    let record = shared.facts.pending_of(commit_id);
    let token = match (token, record) {
        (Some(token), Some(record)) => {
            if record.outgrows(shared.generations.size_bytes_max()) && !record.is_placed() {
                load_locations(shared, &record, &token)?;
            }
            Some(token)
        }
        // The catalog held it once, so it took effect. Whoever exports next finds that the catalog has gone back.
        (None, Some(record)) if record.is_placed() => {
            record.table.exported().map(|exported| exported.token)
        }
        (token, _) => token,
    };
    let resolved = ExportResolved { commit_id, token };
    shared.log(RecordKind::ExportResolved, resolved.encode())?;
    // Locations fill a generation too, and one without a delta could not be flushed.
    let is_without_delta = shared.pins.visible_seq() <= shared.generations.active().seq_from();
    if shared.generations.is_full()
        && is_without_delta
        && let Err(error) = shared.log(RecordKind::Delta, encode_delta(None, &[], 0))
    {
        tracing::warn!(%error, "locations of exported rows can't be flushed yet");
    }
    Ok(())
}

/// A prepared export whose outcome the log does not hold: the process ended, or gave up, between the two steps.
///
/// Ask the catalog whether it has a commit with this [`commit_id`](Self::commit_id), then commit or abort.
///
/// ```
/// use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// # let schema = TableSchema::builder("users")
/// #     .column("id", ColumnType::Int64, false)
/// #     .column("name", ColumnType::Utf8, true)
/// #     .primary_key(["id"]);
/// # let users = database.create_table(schema.build()?)?;
/// # let mut transaction = database.begin();
/// # transaction.upsert(&users, vec![Value::Int64(1), Value::Utf8("ada".into())])?;
/// # transaction.commit()?;
/// # let mut export = database.begin_export(&users, &database.snapshot())?;
/// # let files = [moonshine_engine::ExportFile { path: "data/1.parquet".into(), row_count: 1 }];
/// # export.prepare(uuid::Uuid::from_u128(1), &files)?;
/// # drop(export);
/// # let catalog_has = |_: uuid::Uuid| false;
/// for pending in database.pending_exports() {
///     if catalog_has(pending.commit_id()) {
///         pending.commit("snapshot 1".into())?;
///     } else {
///         pending.abort()?;
///     }
/// }
/// assert!(database.pending_exports().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PendingExport {
    shared: Arc<Shared>,
    record: Arc<PendingRecord>,
    table: Table,
}

impl PendingExport {
    pub(crate) fn new(shared: Arc<Shared>, record: Arc<PendingRecord>) -> Self {
        let table = Table::new(record.table.clone());
        PendingExport {
            shared,
            record,
            table,
        }
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The id that was given to [`Export::prepare`].
    pub fn commit_id(&self) -> Uuid {
        self.record.commit_id
    }

    /// The commit sequence of the export before; 0 for the first.
    pub fn from_seq(&self) -> u64 {
        self.record.from_seq
    }

    /// The commit sequence that it holds the table at.
    pub fn to_seq(&self) -> u64 {
        self.record.to_seq
    }

    /// Whether it puts rows that were exported into other files: a [`Relocation`](super::Relocation).
    pub fn is_relocation(&self) -> bool {
        self.record.is_relocation()
    }

    /// The files that were given to [`Export::prepare`].
    pub fn files(&self) -> &[ExportFile] {
        &self.record.files
    }

    /// Notes durably that the catalog holds it, under that token.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is settled already, as by another [`PendingExport`] of the same; or what writing to the
    /// log answers.
    pub fn commit(self, token: String) -> Result<()> {
        self.settle(Some(token))
    }

    /// Notes durably that the catalog does not hold it and never will.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is settled already, as by another [`PendingExport`] of the same; or what writing to the
    /// log answers.
    pub fn abort(self) -> Result<()> {
        self.settle(None)
    }

    /// Who comes second gets an error: a log with two outcomes could not be read.
    fn settle(&self, token: Option<String>) -> Result<()> {
        self.shared.check_writable()?;
        if !self.shared.facts.take(self.record.commit_id) {
            return Err(Error::Usage(format!(
                "table '{}': the export {} is settled already",
                self.table.name(),
                self.record.commit_id
            )));
        }
        let resolved = resolve(&self.shared, self.record.commit_id, token);
        if resolved.is_err() {
            self.shared.facts.give_back(self.record.commit_id);
        }
        resolved
    }
}
