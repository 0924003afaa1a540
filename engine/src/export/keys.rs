//! Keys of an export on their way to the log, as many as one record takes at once.

use std::sync::Arc;

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::exported::location::RowMark;
use crate::log::export_keys::ExportKeysBody;
use crate::log::format::RecordKind;
use crate::queue::commit_queue::{Durability, Ticket};
use crate::shared::Shared;

/// Most bytes of keys in one record of the log.
pub(super) const KEYS_SIZE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct KeyRecords {
    shared: Arc<Shared>,
    commit_id: Uuid,
    cleared: bool,
    /// What was not submitted yet.
    body: ExportKeysBody,
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
            body: ExportKeysBody::new(cleared),
            submitted: Vec::new(),
            are_used: false,
        }
    }

    pub(super) fn push(&mut self, key: &[u8], mark: RowMark) -> Result<()> {
        if !self.body.takes(mark) {
            self.submit()?;
        }
        self.body.push_with(mark, |out| {
            out.extend_from_slice(key);
            Ok::<(), Error>(())
        })?;
        if self.body.size_bytes() >= KEYS_SIZE_BYTES_MAX {
            self.submit()?;
        }
        Ok(())
    }

    /// Submits what was pushed.
    pub(super) fn submit(&mut self) -> Result<()> {
        let next = ExportKeysBody::new(self.cleared);
        let body = std::mem::replace(&mut self.body, next);
        self.submit_body(body)
    }

    /// Submits keys that were put together elsewhere.
    pub(super) fn submit_body(&mut self, body: ExportKeysBody) -> Result<()> {
        if body.key_count() == 0 {
            return Ok(());
        }
        let body = body.finish(self.commit_id);
        let ticket = self
            .shared
            .submit(RecordKind::ExportKeys, body, Durability::Synced)?;
        self.submitted.push(ticket);
        Ok(())
    }

    /// The export that they belong to is prepared.
    pub(super) fn are_used(&mut self) {
        self.are_used = true;
    }
}
