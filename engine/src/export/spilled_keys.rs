//! Keys as they go into the log, in memory while they are few, and on disk.

use std::sync::Arc;

use super::export_spill::ExportSpill;
use crate::error::Result;
use crate::exported::location::RowMark;
use crate::log::export_keys::ExportKeysBody;
use crate::row_set::spill::Spilled;

/// What keys may take in memory to which none are added.
const ENDED_SIZE_BYTES_MAX: usize = 1 << 10;

/// Keys of one export, in their order; each takes what it does not share with the one before it, two bytes more if it is short, and up to
/// nine for a row's id.
#[derive(Debug)]
pub(super) struct SpilledKeys {
    spill: Arc<ExportSpill>,
    /// As they go into the log, but for the commit id.
    full: Vec<Full>,
    last: ExportKeysBody,
    key_count: u64,
}

/// Keys of one record.
#[derive(Debug)]
enum Full {
    /// Fewer than are worth to be written: those before the first row whose file says its id.
    Kept(ExportKeysBody),
    /// With how many keys there are.
    OnDisk(Spilled, u32),
}

impl SpilledKeys {
    /// Without a key; with `cleared`, for keys of rows that the export takes away without replacing.
    pub(super) fn new(spill: Arc<ExportSpill>, cleared: bool) -> Self {
        SpilledKeys {
            spill,
            full: Vec::new(),
            last: ExportKeysBody::new(cleared),
            key_count: 0,
        }
    }

    /// Adds a key that `put` appends.
    ///
    /// # Errors
    /// Of `put`, or what writing to the disk answers. After the latter the keys are of no use any more.
    pub(super) fn push_with(
        &mut self,
        mark: RowMark,
        put: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        self.body_for(mark)?.push_with(mark, put)?;
        self.key_count += 1;
        Ok(())
    }

    fn spill_last(&mut self) -> Result<()> {
        let spilled = self.spill.write(self.last.bytes())?;
        self.full.push(Full::OnDisk(spilled, self.last.key_count()));
        self.last.clear();
        Ok(())
    }

    /// The body that takes the next key.
    fn body_for(&mut self, mark: RowMark) -> Result<&mut ExportKeysBody> {
        if self.last.size_bytes() >= self.spill.piece_size_bytes {
            self.spill_last()?;
        } else if !self.last.takes(mark) {
            let plain = std::mem::replace(&mut self.last, ExportKeysBody::new(false));
            self.full.push(Full::Kept(plain));
        }
        Ok(&mut self.last)
    }

    /// No more keys are to come for now: hardly anything stays in memory, however many such there are.
    ///
    /// # Errors
    /// What writing to the disk answers. Then the keys are of no use any more.
    pub(super) fn end(&mut self) -> Result<()> {
        if self.last.size_bytes() > ENDED_SIZE_BYTES_MAX {
            self.spill_last()?;
        }
        self.last.shrink();
        Ok(())
    }

    pub(super) fn key_count(&self) -> u64 {
        self.key_count
    }

    /// Hands out what goes into the log, one body after the other.
    pub(super) fn each_body(
        self,
        mut take: impl FnMut(ExportKeysBody) -> Result<()>,
    ) -> Result<()> {
        for full in self.full {
            take(match full {
                Full::Kept(body) => body,
                Full::OnDisk(spilled, key_count) => {
                    ExportKeysBody::from_bytes(self.spill.read(spilled)?, key_count)
                }
            })?;
        }
        take(self.last)
    }
}
