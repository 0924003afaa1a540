//! Writing what is queued, by whoever leads the commit queue.
//!
//! The leader takes the records that wait, refuses those whose conditions don't hold, writes them as one block, syncs it
//! if any of them asks for that, applies them to the DeltaCache in order, and makes them visible. A write that finds no
//! space leaves the log as it was: the records are queued again, and who waits for one takes it back. Any other failure
//! ends writing: whoever waits gets the reason.

use std::sync::Arc;

use super::validate;
use crate::error::{Error, Result};
use crate::facts::Untaken;
use crate::log::format::{RECORD_HEADER_SIZE_BYTES, RecordKind};
use crate::log::segment::SegmentWriter;
use crate::queue::commit_queue::{Durability, Queued, Ticket, Turn, Woken};
use crate::shared::Shared;
use crate::space::RetryPause;
use crate::sync::{self, MutexGuard, Point, thread};
use crate::tree::loaded::LoadedRows;

/// So many blocks more than it has to a thread writes that leads, as long as they are small and none is synced: handing over
/// costs as much as a block, and what is written to is in the caches of who wrote before.
const BLOCKS_FOR_OTHERS_MAX: u32 = 8;

/// Ends leading, however it ends; tells whoever waits that nothing more is written if it ends in a panic.
struct Leading<'a>(&'a Shared);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let reason = "a thread that wrote the log ended in a panic";
            self.0.queue.fail(reason);
            self.0.pins.stop(reason);
        }
        self.0.queue.resign();
    }
}

impl Shared {
    /// Queues a record that nobody waits for.
    pub(crate) fn submit(
        &self,
        kind: RecordKind,
        body: impl Into<Arc<[u8]>>,
        durability: Durability,
    ) -> Result<Ticket> {
        let ticket = self.enqueue(kind, body.into(), durability)?;
        self.queue.leave();
        Ok(ticket)
    }

    /// Writes a record as durably as asked for.
    pub(crate) fn write(
        &self,
        kind: RecordKind,
        body: impl Into<Arc<[u8]>>,
        durability: Durability,
    ) -> Result<Ticket> {
        let ticket = self.enqueue(kind, body.into(), durability)?;
        self.wait(ticket)?;
        Ok(ticket)
    }

    fn enqueue(&self, kind: RecordKind, body: Arc<[u8]>, durability: Durability) -> Result<Ticket> {
        let counters = &self.counters;
        self.queue.submit(kind, body, durability, None, counters)
    }

    /// Writes a record durably.
    pub(crate) fn log(&self, kind: RecordKind, body: impl Into<Arc<[u8]>>) -> Result<()> {
        self.write(kind, body, Durability::Synced).map(|_| ())
    }

    /// Waits until a submitted record is written, and writes it if nobody else does.
    pub(crate) fn wait(&self, ticket: Ticket) -> Result<()> {
        let failures_before = self.queue.failure_count();
        while self.queue.turn(ticket, failures_before)? == Turn::Lead {
            match lead(self, ticket.number) {
                // Whatever became of the records of others.
                _ if self.queue.is_written(ticket) => return Ok(()),
                // The queue says whether this record was concerned.
                Ok(()) | Err(Error::NoSpace { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Makes everything durable that is visible. Writing goes on meanwhile. Of many that ask at once one syncs; the others find
/// what they asked for done.
pub(crate) fn sync(shared: &Shared) -> Result<()> {
    // Until a failure has stopped the database: a file opened behind it hears nothing of it, and its sync would succeed.
    let _sync = shared.log_sync.lock();
    let (unsynced, visible_seq) = {
        let writer = shared.log_writer.lock();
        // Who had the log before may have failed to sync it, and then the next sync makes nothing durable.
        shared.check_writable()?;
        let Some(writer) = writer.as_ref() else {
            return Err(closed(shared));
        };
        // Nobody writes while this is held, so nothing becomes visible.
        (writer.unsynced()?, shared.pins.visible_seq())
    };
    if let Some(unsynced) = unsynced {
        if let Err(error) = unsynced.sync() {
            stop(shared, &error);
            return Err(Error::Poisoned(error.to_string()));
        }
        if let Some(writer) = shared.log_writer.lock().as_mut() {
            writer.note_synced(unsynced.block_number);
        }
    }
    shared.pins.note_durable(visible_seq);
    Ok(())
}

/// What `take` makes of the log's writer while nothing is written. Who needs the state of the tree too takes it inside,
/// never the other way round.
pub(crate) fn between_blocks<T>(
    shared: &Shared,
    take: impl FnOnce(&SegmentWriter) -> Result<T>,
) -> Result<T> {
    let writer = shared.log_writer.lock();
    match writer.as_ref() {
        Some(writer) => take(writer),
        None => Err(closed(shared)),
    }
}

/// Why the log has no writer any more: a write failed since its caller looked, or the database was closed.
fn closed(shared: &Shared) -> Error {
    let failure = shared.check_writable().err();
    failure.unwrap_or_else(|| Error::Usage("the database is closed".into()))
}

/// Has the active generation flushed, if it holds a delta.
pub(crate) fn freeze(shared: &Shared) -> Result<()> {
    let mut writer = shared.log_writer.lock();
    // As for a sync.
    shared.check_writable()?;
    let Some(writer) = writer.as_mut() else {
        return Err(closed(shared));
    };
    freeze_active(shared, writer).map_err(|error| {
        stop(shared, &error);
        Error::Poisoned(error.to_string())
    })
}

/// Writes what nobody waits for, until the queue is closed or a write fails; then seals the log.
pub(crate) fn attend(shared: &Arc<Shared>) {
    let mut pause = RetryPause::default();
    while shared.queue.attend(&mut pause) {
        // Whoever waits hears of a failure; here nobody does.
        let _reported = lead(shared, u64::MAX);
    }
    if let Some(mut writer) = shared.log_writer.lock().take()
        && shared.queue.failure().is_none()
    {
        match writer.seal(&shared.segments) {
            Ok(()) => shared.pins.publish(shared.pins.visible_seq(), true),
            Err(error) => tracing::warn!(%error, "the log could not be sealed"),
        }
    }
    shared.pins.stop("the database was closed");
}

/// Leads until a record is written, and a little longer for others; or until nothing is queued.
fn lead(shared: &Shared, until_number: u64) -> Result<()> {
    // Those of the last block are woken when the next one leads already: its block needs no processor while it is synced.
    write_blocks(shared, until_number).map(drop)
}

/// Writes blocks, and resigns.
fn write_blocks(shared: &Shared, until_number: u64) -> Result<Woken> {
    let _leading = Leading(shared);
    let mut guard = shared.log_writer.lock();
    let mut blocks_left = BLOCKS_FOR_OTHERS_MAX;
    loop {
        let Some(writer) = guard.as_mut() else {
            return Err(closed(shared));
        };
        let mut records = shared.queue.take();
        validate::refuse_conflicting(shared, &mut records);
        let Some(last) = records.last() else {
            return Ok(Woken::default());
        };
        let written = match &last.load {
            None => commit(shared, writer, &records),
            Some(load) => commit_load(shared, writer, last, load)
                .and_then(|()| MutexGuard::unlocked(&mut guard, || show_load(shared, last, load))),
        };
        match written {
            Ok(()) => {}
            Err(error @ Error::NoSpace { .. }) => {
                shared.queue.put_back(records, &error);
                shared.pins.note_no_space(&error);
                return Err(error);
            }
            Err(error) => {
                stop(shared, &error);
                return Err(Error::Poisoned(error.to_string()));
            }
        }
        records.iter().for_each(Queued::release);
        let is_done = last.ticket.number >= until_number;
        let may_go_on = is_done && blocks_left > 0 && !is_synced(&records);
        let (woken, is_quick) = shared.queue.finish(last.ticket.number, may_go_on);
        if is_done {
            if !is_quick {
                return Ok(woken);
            }
            blocks_left -= 1;
        }
    }
}

/// Whether one of the records asks for a sync of its block.
fn is_synced(records: &[Queued]) -> bool {
    let mut durabilities = records.iter().map(|record| record.durability);
    durabilities.any(|durability| durability == Durability::Synced)
}

/// Makes a bulk load visible once its rows are in the tree. The lock of the committer is free meanwhile, for the flush; no
/// record is written before this returns, since its caller leads. Where the flush finds no space the load is given up.
fn show_load(shared: &Shared, record: &Queued, load: &LoadedRows) -> Result<()> {
    while let Err(error) = shared.generations.wait_flushed() {
        if load.give_up(&error) {
            break;
        }
    }
    shared.check_writable()?;
    shared.generations.note_load();
    shared.pins.publish(record.ticket.seq, true);
    Ok(())
}

/// Takes no more writes, since something failed.
pub(crate) fn stop(shared: &Shared, error: &Error) {
    let reason = error.to_string();
    tracing::error!(%reason, "the database stops taking writes");
    shared.queue.fail(&reason);
    shared.pins.stop(&reason);
    shared.generations.fail();
    shared.scheduler.stop();
}

/// Writes the record of a bulk load, a delta without rows, and gives the rows to the flush of all deltas before it.
fn commit_load(
    shared: &Shared,
    writer: &mut SegmentWriter,
    record: &Queued,
    load: &Arc<LoadedRows>,
) -> Result<()> {
    let parts = std::iter::once((record.header, &*record.body));
    let block_number = writer.append(parts, true, &shared.segments)?;
    writer.sync()?;
    roll(shared, writer)?;
    shared.pins.publish(shared.pins.visible_seq(), true);
    shared.freeze_at(record.ticket.seq, block_number, Some(load.clone()));
    Ok(())
}

/// Writes, applies and shows records. [`Error::NoSpace`] says that nothing happened.
fn commit(shared: &Shared, writer: &mut SegmentWriter, records: &[Queued]) -> Result<()> {
    let size_bytes: usize = records
        .iter()
        .map(|record| RECORD_HEADER_SIZE_BYTES + record.body.len())
        .sum();
    shared.counters.block_records.record(records.len() as u64);
    let parts = records.iter().map(|record| (record.header, &*record.body));
    let is_synced = is_synced(records);
    let writing = shared.scheduler.pace.block();
    let block_number = writer.append(parts, is_synced, &shared.segments)?;
    if is_synced {
        writer.sync()?;
    }
    drop(writing);
    for record in records {
        let applied = shared.apply(block_number, record.header, &record.body);
        applied.map_err(Untaken::of_our_own)?;
        if record.header.kind == RecordKind::Delta {
            sync::point(Point::Publish);
            shared.pins.publish(record.ticket.seq, is_synced);
        }
    }
    if is_synced {
        // Also where there was no delta among the records: those before are synced now.
        shared.pins.publish(shared.pins.visible_seq(), true);
    }
    shared.keep_to_budget();
    shared.generations.note_logged(size_bytes as u64);
    if shared.generations.is_full() {
        freeze_active(shared, writer)?;
    }
    Ok(())
}

/// Ends the active generation, if it holds a delta, and with it the segment: once it is flushed nothing of the log is
/// needed but what comes now.
fn freeze_active(shared: &Shared, writer: &mut SegmentWriter) -> Result<()> {
    if shared.pins.visible_seq() > shared.generations.active().seq_from() {
        roll(shared, writer)?;
        shared.freeze(writer.last_block_number());
    }
    Ok(())
}

fn roll(shared: &Shared, writer: &mut SegmentWriter) -> Result<()> {
    match writer.roll(&shared.segments) {
        // The segment goes on, and goes with a later generation.
        Err(Error::NoSpace { .. }) => Ok(()),
        rolled => rolled,
    }
}
