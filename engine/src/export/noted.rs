//! What an export remembers of its changes, each row by itself. Who only looks at changes remembers nothing.

use std::sync::Arc;

use super::export_spill::ExportSpill;
use super::replaced::ReplacedRows;
use super::spilled_keys::SpilledKeys;
use crate::error::Result;
use crate::exported::files::Exports;
use crate::exported::location::{RowLocation, RowMark};

/// Is told of rows that have an exported one, in the order of their keys.
pub(super) trait Note {
    /// The row of that number replaces one that lies there.
    fn replaced(&mut self, row: u64, location: RowLocation) -> Result<()>;

    /// A key's exported row is gone, and it has no other one.
    fn cleared(&mut self, key: &[u8]) -> Result<()>;
}

/// Remembers nothing.
impl Note for () {
    fn replaced(&mut self, _: u64, _: RowLocation) -> Result<()> {
        Ok(())
    }

    fn cleared(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// What is taken down for an export.
#[derive(Debug)]
pub(super) struct Notes {
    pub(super) replaced: ReplacedRows,
    /// Keys that have an exported row and live no more.
    pub(super) cleared: SpilledKeys,
}

impl Notes {
    pub(super) fn new(spill: &Arc<ExportSpill>) -> Self {
        Notes {
            replaced: ReplacedRows::new(spill.clone()),
            cleared: SpilledKeys::new(spill.clone(), true),
        }
    }
}

impl Note for Notes {
    fn replaced(&mut self, row: u64, location: RowLocation) -> Result<()> {
        self.replaced.push(row, location)
    }

    fn cleared(&mut self, key: &[u8]) -> Result<()> {
        self.cleared.push_with(RowMark::PLAIN, |out| {
            out.extend_from_slice(key);
            Ok(())
        })
    }
}

/// What an export remembers.
#[derive(Debug)]
pub(super) struct Noted {
    /// The files that locations name.
    pub(super) exports: Arc<Exports>,
    /// How many rows are removed from each file, by its number.
    pub(super) taken: Vec<(u32, u64)>,
    pub(super) replaced: Arc<ReplacedRows>,
    pub(super) cleared: SpilledKeys,
}
