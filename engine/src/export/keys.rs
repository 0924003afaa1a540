//! Keys of an export on their way to the log, as many as one record takes at once.

use std::sync::Arc;

use uuid::Uuid;

use super::location::RowMark;
use crate::error::Result;
use crate::log::fact::ExportKeys;
use crate::log::format::RecordKind;
use crate::log::queue::{Durability, Ticket};
use crate::shared::Shared;

/// Most bytes of keys in one record of the log.
const KEYS_SIZE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct KeyRecords {
    shared: Arc<Shared>,
    commit_id: Uuid,
    cleared: bool,
    keys: Vec<Box<[u8]>>,
    /// As many as there are keys, or none if there is nothing to say of any.
    marks: Vec<RowMark>,
    size_bytes: usize,
    submitted: Vec<Ticket>,
    /// Whether the export that they belong to was prepared.
    are_used: bool,
}

impl Drop for KeyRecords {
    /// Keys of an export that could not be prepared are of no use, and would hold the log.
    fn drop(&mut self) {
        if !self.are_used {
            for ticket in &self.submitted {
                // One that is being written is noted before it is forgotten. Why writing failed is told to others.
                if !self.shared.queue.take_back(*ticket) {
                    let _failed = self.shared.wait(*ticket);
                }
            }
            self.shared.facts.forget_keys(self.commit_id);
        }
    }
}

impl KeyRecords {
    /// Keys of the rows in an export's files, in their order.
    pub(super) fn placed(shared: &Arc<Shared>, commit_id: Uuid) -> Self {
        Self::new(shared, commit_id, false)
    }

    /// Keys of rows that are gone and not replaced.
    pub(super) fn cleared(shared: &Arc<Shared>, commit_id: Uuid) -> Self {
        Self::new(shared, commit_id, true)
    }

    fn new(shared: &Arc<Shared>, commit_id: Uuid, cleared: bool) -> Self {
        KeyRecords {
            shared: shared.clone(),
            commit_id,
            cleared,
            keys: Vec::new(),
            marks: Vec::new(),
            size_bytes: 0,
            submitted: Vec::new(),
            are_used: false,
        }
    }

    pub(super) fn push(&mut self, key: &[u8], mark: RowMark) -> Result<()> {
        if mark != RowMark::PLAIN || !self.marks.is_empty() {
            self.marks.resize(self.keys.len(), RowMark::PLAIN);
            self.marks.push(mark);
        }
        self.keys.push(key.into());
        self.size_bytes += key.len() + 4;
        if self.size_bytes >= KEYS_SIZE_BYTES_MAX {
            self.submit()?;
        }
        Ok(())
    }

    pub(super) fn submit(&mut self) -> Result<()> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let record = ExportKeys {
            commit_id: self.commit_id,
            cleared: self.cleared,
            keys: self.keys.iter().map(|key| &**key).collect(),
            marks: std::mem::take(&mut self.marks),
        };
        let body = record.encode();
        let ticket = self
            .shared
            .submit(RecordKind::ExportKeys, body, Durability::Synced)?;
        self.submitted.push(ticket);
        self.keys.clear();
        self.size_bytes = 0;
        Ok(())
    }

    /// The export that they belong to is prepared.
    pub(super) fn are_used(&mut self) {
        self.are_used = true;
    }
}
