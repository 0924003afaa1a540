//! What an export has to remember of each row, on disk while its files are written: of a large export it would take more memory
//! than there is.

use std::ops::Deref;
use std::sync::Arc;

use super::keys::KEYS_SIZE_BYTES_MAX;
use crate::row_set::spill::Spill;
use crate::shared::Shared;
use crate::table::Table;

/// The part of the memory budget that the keys of one file may take until they go to disk; many files may be open. The least is
/// for budgets that only tests have.
const PIECE_SHARE: u64 = 1024;
const PIECE_SIZE_BYTES_MIN: usize = 64;

/// Takes what one export remembers.
#[derive(Debug)]
pub(super) struct ExportSpill {
    spill: Spill,
    /// How many bytes are worth to be written.
    pub(super) piece_size_bytes: usize,
}

impl ExportSpill {
    pub(super) fn new(shared: &Shared, table: &Table) -> Arc<Self> {
        let budget = shared.store.cache.budget();
        let piece_size_bytes = budget.share(PIECE_SHARE, PIECE_SIZE_BYTES_MIN, KEYS_SIZE_BYTES_MAX);
        let name = format!("export-{}", table.id());
        let spill = Spill::new(shared.io.clone(), shared.store.folder.join(name));
        Arc::new(Self::of_pieces(spill, piece_size_bytes))
    }

    pub(super) fn of_pieces(spill: Spill, piece_size_bytes: usize) -> Self {
        ExportSpill {
            spill,
            piece_size_bytes,
        }
    }
}

impl Deref for ExportSpill {
    type Target = Spill;

    fn deref(&self) -> &Spill {
        &self.spill
    }
}
