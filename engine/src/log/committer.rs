//! The one writer of the log, on a thread of its own.
//!
//! It takes the records that wait, writes them as one block, applies the deltas to the DeltaCache in order, and makes
//! them visible. A write that fails ends it: whoever waits gets the reason.

use std::sync::Arc;

use super::format::{RECORD_HEADER_SIZE_BYTES, RecordKind};
use super::queue::Queued;
use super::segment::SegmentWriter;
use crate::cache::record_store::RecordEntry;
use crate::codec::len_u32;
use crate::error::{Error, Result};
use crate::shared::Shared;

/// The one writer of the log.
#[derive(Debug)]
pub(crate) struct Committer {
    shared: Arc<Shared>,
    writer: SegmentWriter,
}

/// Tells whoever waits that nothing more is written, even where the thread ends in a panic.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "the thread that writes the log ended in a panic";
            self.0.queue.fail(reason);
            self.0.pins.stop(reason);
        }
    }
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, writer: SegmentWriter) -> Self {
        Committer { shared, writer }
    }

    /// Commits until the queue is closed or a write fails.
    pub(crate) fn run(mut self) {
        let _ending = Ending(self.shared.clone());
        while let Some(records) = self.shared.queue.take() {
            if let Err(error) = self.commit(&records) {
                let reason = error.to_string();
                tracing::error!(%reason, "the database stops taking writes");
                self.shared.queue.fail(&reason);
                self.shared.pins.stop(&reason);
                return;
            }
        }
        if let Err(error) = self.writer.seal(&self.shared.records) {
            tracing::warn!(%error, "the log could not be sealed");
        }
        self.shared.pins.stop("the database was closed");
    }

    fn commit(&mut self, records: &[Queued]) -> Result<()> {
        let size_bytes = records
            .iter()
            .map(|record| RECORD_HEADER_SIZE_BYTES + record.body.len())
            .sum();
        let mut body = Vec::with_capacity(size_bytes);
        for record in records {
            record.header.encode(&mut body);
            body.extend_from_slice(&record.body);
        }
        let place = self
            .writer
            .append(&body, len_u32(records.len()), &self.shared.records)?;
        let mut offset = place.body_offset;
        for record in records {
            if record.header.kind == RecordKind::Delta {
                let entry = RecordEntry {
                    segment: place.segment,
                    offset,
                    body_size_bytes: record.header.body_size_bytes,
                };
                let applied =
                    self.shared
                        .apply_delta(record.ticket.seq, entry, record.body.clone());
                applied.map_err(|malformed| {
                    Error::Usage(format!("a delta of our own is malformed: {}", malformed.0))
                })?;
                self.shared.pins.publish(record.ticket.seq);
            }
            offset += (RECORD_HEADER_SIZE_BYTES + record.body.len()) as u64;
        }
        if let Some(last) = records.last() {
            self.shared.queue.finish(last.ticket.number);
        }
        Ok(())
    }
}
