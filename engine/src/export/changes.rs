//! The net change of a table since its last committed export.

use std::sync::Arc;

use super::{Exported, Placement};
use crate::Origin;
use crate::cache::shard::RowPointer;
use crate::cache::table::resolve_placement;
use crate::error::{Error, Result};
use crate::shared::Table;
use crate::snapshot::{Batches, Snapshot};

/// The net change of one table from its last committed export to a snapshot.
///
/// Of a key that was written several times only the last state counts; a key that came and went does not appear.
#[derive(Debug)]
pub struct Changes {
    pub(crate) table: Table,
    pub(crate) snapshot: Snapshot,
    base: Option<Exported>,
    origins: Vec<Origin>,
    removed: Vec<Placement>,
    /// Sorted by key.
    pub(crate) rows: Arc<Vec<(Box<[u8]>, RowPointer)>>,
    /// Keys that have an exported row and live no more.
    pub(crate) cleared: Vec<Box<[u8]>>,
}

impl Changes {
    pub(crate) fn gather(table: &Table, snapshot: &Snapshot) -> Result<Self> {
        let (base, changes, files) = table.state.changes(snapshot.seq());
        if let Some(base) = &base
            && base.seq > snapshot.seq()
        {
            return Err(Error::Usage(format!(
                "table '{}' is exported up to commit sequence {}, the snapshot is older: {}",
                table.name(),
                base.seq,
                snapshot.seq()
            )));
        }
        let (mut removed, mut rows, mut cleared) = (Vec::new(), Vec::new(), Vec::new());
        for change in changes {
            if let Some(placement) = change.placement {
                let placement = resolve_placement(&files, placement);
                removed.push(
                    placement.ok_or_else(|| Error::Usage("a placement names no file".into()))?,
                );
            }
            match change.row {
                Some(row) => rows.push((change.key, row)),
                None => cleared.push(change.key),
            }
        }
        removed.sort();
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Changes {
            table: table.clone(),
            snapshot: snapshot.clone(),
            base,
            origins: snapshot.origins(),
            removed,
            rows: Arc::new(rows),
            cleared,
        })
    }

    /// The last committed export, which these are the changes since; `None` before the first.
    pub fn base(&self) -> Option<&Exported> {
        self.base.as_ref()
    }

    /// The commit sequence of the last committed export; 0 before the first.
    pub fn from_seq(&self) -> u64 {
        self.base.as_ref().map_or(0, |base| base.seq)
    }

    /// The commit sequence of the snapshot.
    pub fn to_seq(&self) -> u64 {
        self.snapshot.seq()
    }

    /// How far each source is at [`to_seq`](Self::to_seq), sorted by source.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.rows.is_empty()
    }

    /// The exported rows that are replaced or deleted now, sorted by file and position.
    pub fn removed(&self) -> &[Placement] {
        &self.removed
    }

    /// How many rows [`batches`](Self::batches) returns.
    pub fn row_count(&self) -> u64 {
        self.rows.len() as u64
    }

    /// The rows that were written since and live at the snapshot, in primary-key order.
    ///
    /// # Errors
    /// [`Error::Usage`] if the projection names a column that the table does not have.
    pub fn batches(&self, projection: Option<&[usize]>, batch_rows: usize) -> Result<Batches> {
        Batches::of_rows(
            &self.table,
            &self.snapshot,
            self.rows.clone(),
            false,
            projection,
            batch_rows,
        )
    }
}
