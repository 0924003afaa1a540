//! The two steps of an export, and what a crash between them leaves.

use std::ops::Deref;
use std::sync::Arc;

use uuid::Uuid;

use super::{Changes, ExportFile};
use crate::cache::table::ExportEffect;
use crate::error::{Error, Result};
use crate::log::committer;
use crate::log::fact::{ExportKeys, ExportPrepared, ExportResolved};
use crate::log::format::RecordKind;
use crate::log::queue::Durability;
use crate::shared::{Shared, Table};
use crate::snapshot::Snapshot;

/// Most bytes of keys in one record of the log.
const KEYS_SIZE_BYTES_MAX: usize = 1024 * 1024;

/// An export of one table that is under way: its [`Changes`], to be written, prepared and committed.
///
/// Dropped before [`commit`](Self::commit), it leaves the table as it was; if it was prepared it stays a
/// [`PendingExport`], since the catalog may hold it.
#[derive(Debug)]
pub struct Export {
    changes: Changes,
    shared: Arc<Shared>,
    prepared: Option<(Uuid, Vec<ExportFile>)>,
}

impl Deref for Export {
    type Target = Changes;

    fn deref(&self) -> &Changes {
        &self.changes
    }
}

impl Export {
    pub(crate) fn begin(shared: &Arc<Shared>, table: &Table, snapshot: &Snapshot) -> Result<Self> {
        shared.check_writable()?;
        let mut exporting = table.state.exporting.lock();
        if *exporting {
            return Err(Error::Usage(format!(
                "table '{}' has an export under way",
                table.name()
            )));
        }
        if shared.has_pending(table) {
            return Err(Error::Usage(format!(
                "table '{}' has a pending export; commit or abort that first",
                table.name()
            )));
        }
        if snapshot.seq() > shared.pins.durable_seq() {
            // The catalog must not get ahead of what a crash leaves here.
            committer::sync(shared)?;
        }
        let changes = Changes::gather(table, snapshot)?;
        *exporting = true;
        drop(exporting);
        Ok(Export {
            changes,
            shared: shared.clone(),
            prepared: None,
        })
    }

    /// Notes durably which files hold the rows of [`Changes::batches`]: in order, file after file. To be called once
    /// the files are written and before the catalog is told of them.
    ///
    /// # Errors
    /// [`Error::Usage`] if the files' row counts don't add up to the rows, or it was prepared before; or what writing
    /// to the log answers.
    pub fn prepare(&mut self, commit_id: Uuid, files: &[ExportFile]) -> Result<()> {
        let file_rows: u64 = files.iter().map(|file| file.row_count).sum();
        if file_rows != self.changes.row_count()
            || files
                .iter()
                .any(|file| file.row_count > u64::from(u32::MAX))
        {
            return Err(Error::Usage(format!(
                "table '{}': files of {file_rows} rows (each below 2^32) for an export of {} rows",
                self.changes.table.name(),
                self.changes.row_count()
            )));
        }
        if self.prepared.is_some() {
            return Err(Error::Usage(format!(
                "table '{}': prepared twice",
                self.changes.table.name()
            )));
        }
        self.log_keys(
            commit_id,
            false,
            self.changes.rows.iter().map(|(key, _)| &**key),
        )?;
        self.log_keys(
            commit_id,
            true,
            self.changes.cleared.iter().map(|key| &**key),
        )?;
        let prepared = ExportPrepared {
            table_id: self.changes.table.id(),
            commit_id,
            from_seq: self.changes.from_seq(),
            to_seq: self.changes.to_seq(),
            files: files.to_vec(),
        };
        self.shared
            .log(RecordKind::ExportPrepared, prepared.encode())?;
        self.prepared = Some((commit_id, files.to_vec()));
        Ok(())
    }

    fn log_keys<'k>(
        &self,
        commit_id: Uuid,
        cleared: bool,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Result<()> {
        let mut record = ExportKeys {
            commit_id,
            cleared,
            keys: Vec::new(),
        };
        let mut size_bytes = 0;
        for key in keys {
            record.keys.push(key);
            size_bytes += key.len() + 4;
            if size_bytes >= KEYS_SIZE_BYTES_MAX {
                self.shared
                    .submit(RecordKind::ExportKeys, record.encode(), Durability::Synced)?;
                record.keys.clear();
                size_bytes = 0;
            }
        }
        if !record.keys.is_empty() {
            self.shared
                .submit(RecordKind::ExportKeys, record.encode(), Durability::Synced)?;
        }
        Ok(())
    }

    /// Notes durably that the catalog holds the export, under that token; the rows have their placements from now on.
    ///
    /// # Errors
    /// [`Error::Usage`] if it was not prepared; or what writing to the log answers: the export is then pending.
    pub fn commit(mut self, token: String) -> Result<()> {
        let Some((commit_id, files)) = self.prepared.take() else {
            return Err(Error::Usage(format!(
                "table '{}': committed without prepare",
                self.changes.table.name()
            )));
        };
        let effect = self.effect(files);
        resolve_committed(&self.shared, &self.changes.table, commit_id, &effect, token)
    }

    fn effect(&mut self, files: Vec<ExportFile>) -> ExportEffect {
        ExportEffect {
            to_seq: self.changes.to_seq(),
            files,
            placed: self
                .changes
                .rows
                .iter()
                .map(|(key, _)| key.clone())
                .collect(),
            cleared: std::mem::take(&mut self.changes.cleared),
        }
    }

    /// Gives the export up: the catalog does not hold it and never will.
    ///
    /// # Errors
    /// What writing to the log answers: the export is then pending, if it was prepared.
    pub fn abort(mut self) -> Result<()> {
        match self.prepared.take() {
            None => Ok(()),
            Some((commit_id, _)) => resolve_aborted(&self.shared, commit_id),
        }
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if let Some((commit_id, files)) = self.prepared.take() {
            let effect = self.effect(files);
            let from_seq = self.changes.from_seq();
            self.shared.add_pending(PendingRecord {
                table: self.changes.table.clone(),
                commit_id,
                from_seq,
                effect,
                settling: false,
            });
        }
        // Only now: what is pending has to be settled before the next export starts.
        *self.changes.table.state.exporting.lock() = false;
    }
}

fn resolve_committed(
    shared: &Shared,
    table: &Table,
    commit_id: Uuid,
    effect: &ExportEffect,
    token: String,
) -> Result<()> {
    let resolved = ExportResolved {
        commit_id,
        token: Some(token.clone()),
    };
    shared.log(RecordKind::ExportResolved, resolved.encode())?;
    table
        .state
        .apply_export(effect, token, shared.pins.horizon_seq());
    shared.remove_pending(commit_id);
    Ok(())
}

fn resolve_aborted(shared: &Shared, commit_id: Uuid) -> Result<()> {
    shared.log(
        RecordKind::ExportResolved,
        ExportResolved {
            commit_id,
            token: None,
        }
        .encode(),
    )?;
    shared.remove_pending(commit_id);
    Ok(())
}

/// What the database keeps of a prepared export whose outcome is not known.
#[derive(Clone, Debug)]
pub(crate) struct PendingRecord {
    pub(crate) table: Table,
    pub(crate) commit_id: Uuid,
    pub(crate) from_seq: u64,
    pub(crate) effect: ExportEffect,
    /// Whether its outcome is being written.
    pub(crate) settling: bool,
}

/// A prepared export whose outcome the log does not hold: the process ended, or gave up, between the two steps.
///
/// Ask the catalog whether it has a commit with this [`commit_id`](Self::commit_id), then commit or abort.
#[derive(Debug)]
pub struct PendingExport {
    shared: Arc<Shared>,
    record: PendingRecord,
}

impl PendingExport {
    pub(crate) fn new(shared: Arc<Shared>, record: PendingRecord) -> Self {
        PendingExport { shared, record }
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.record.table
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
        self.record.effect.to_seq
    }

    /// The files that were given to [`Export::prepare`].
    pub fn files(&self) -> &[ExportFile] {
        &self.record.effect.files
    }

    /// Notes durably that the catalog holds it, under that token.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is settled already, as by another [`PendingExport`] of the same; or what writing to the
    /// log answers.
    pub fn commit(self, token: String) -> Result<()> {
        self.shared.check_writable()?;
        self.shared.take_pending(&self.record)?;
        resolve_committed(
            &self.shared,
            &self.record.table,
            self.record.commit_id,
            &self.record.effect,
            token,
        )
    }

    /// Notes durably that the catalog does not hold it and never will.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is settled already, as by another [`PendingExport`] of the same; or what writing to the
    /// log answers.
    pub fn abort(self) -> Result<()> {
        self.shared.check_writable()?;
        self.shared.take_pending(&self.record)?;
        resolve_aborted(&self.shared, self.record.commit_id)
    }
}
