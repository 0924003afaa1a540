//! A transaction's own writes as a generation, so that a scan merges them with what lies below.

use std::sync::Arc;

use super::writes::TableWrites;
use crate::codec::Malformed;
use crate::error::Result;
use crate::generation::Generation;
use crate::log::delta::{decode_delta, encode_delta};
use crate::read::merge::not_stored;

/// The sequence of writes that are not committed: behind all that are.
const OWN_SEQ: u64 = u64::MAX - 1;

impl TableWrites {
    /// The writes so far, all of them newer than whatever is committed. Made once and kept until the next write.
    pub(super) fn overlay(&mut self) -> Result<Arc<Generation>> {
        if let Some(overlay) = &self.overlay {
            return Ok(overlay.clone());
        }
        let (table, _) = self.sorted(0)?;
        let body = encode_delta(None, &[table], 0);
        let generation = Generation::new(0);
        let written = decode_delta(&body).and_then(|delta| {
            let number = generation.add_body(body.clone());
            let number = number.ok_or(Malformed("a generation holds at most 2^32 records"))?;
            let mut parts = delta.tables.iter();
            parts.try_for_each(|part| generation.write(OWN_SEQ, number, part))
        });
        written.map_err(not_stored)?;
        Ok(self.overlay.insert(Arc::new(generation)).clone())
    }
}
