//! Keys of an export's files on disk while the files are written: those of a large export would take more memory than there is.

use std::ops::Deref;
use std::sync::Arc;

use super::keys::KEYS_SIZE_BYTES_MAX;
use crate::row_set::spill::Spill;
use crate::shared::Shared;
use crate::table::Table;

/// The part of the memory budget that the keys of one file may take until they go to disk; many files may be open. The least is
/// for budgets that only tests have.
const FILE_KEYS_SHARE: u64 = 1024;
const FILE_KEYS_SIZE_BYTES_MIN: usize = 64;

/// Takes keys of one export.
#[derive(Debug)]
pub(super) struct KeySpill {
    spill: Spill,
    /// How many bytes of keys are worth to be written.
    pub(super) piece_size_bytes: usize,
}

impl KeySpill {
    pub(super) fn new(shared: &Shared, table: &Table) -> Arc<Self> {
        let budget = shared.store.cache.budget();
        let piece_size_bytes = budget.share(
            FILE_KEYS_SHARE,
            FILE_KEYS_SIZE_BYTES_MIN,
            KEYS_SIZE_BYTES_MAX,
        );
        let name = format!("export-keys-{}", table.id());
        Arc::new(KeySpill {
            spill: Spill::new(shared.io.clone(), shared.store.folder.join(name)),
            piece_size_bytes,
        })
    }
}

impl Deref for KeySpill {
    type Target = Spill;

    fn deref(&self) -> &Spill {
        &self.spill
    }
}
