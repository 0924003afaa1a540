//! Sources: endless lists of transactions, and a connector for each that does what the real ones do.
//!
//! Transaction `n` of a source follows from the seed, so there is nothing to store. The connector goes on behind the position
//! that the engine holds, submits without waiting, and acknowledges what is durable. After a crash the source delivers again
//! all that was not acknowledged; what the engine holds of it already is skipped. *Once*: the model takes a source's
//! transactions in their order only, each one once.

use std::sync::atomic::Ordering;

use moonshine_engine::{Durability, Origin};

use super::acknowledged::note;
use super::client::Client;
use super::outcome::{Step, Stop};
use super::writes::Write;
use crate::random::Stream;

/// Transactions that are submitted at once at most.
const STAGED_MAX: u64 = 8;

/// The source of a client.
pub(super) fn name_of(client: usize) -> String {
    format!("{}{client}", crate::model::course::STREAM)
}

impl Client {
    /// The position that the engine holds, which must not lie behind what was acknowledged.
    fn held_position(&self, number: usize) -> Step<u64> {
        let acknowledged = self.acknowledged_position().load(Ordering::SeqCst);
        let origin = self.process.database.origin(&name_of(self.number));
        let held = origin.map_or(0, |origin| origin.position.parse().unwrap_or(0));
        if held < acknowledged {
            let detail = format!("a source is at {held}, acknowledged was {acknowledged}");
            return Err(Stop::violation("once", number, detail));
        }
        Ok(held)
    }

    fn acknowledged_position(&self) -> &std::sync::atomic::AtomicU64 {
        &self.process.acknowledged.positions[self.number]
    }

    pub(super) fn ingest(&mut self, number: usize, stream: &mut Stream) -> Step {
        let mut position = match self.position {
            Some(position) => position,
            // What is still queued counts, too: it is written once there is space.
            None => {
                self.wait_for_submitted(number)?;
                self.held_position(number)?
            }
        };
        for _ in 0..stream.between(1, STAGED_MAX) {
            self.deliver(number, position + 1)?;
            position += 1;
            self.position = Some(position);
        }
        if stream.chance(500) {
            self.wait_for_submitted(number)?;
            let held = self.held_position(number)?;
            if held < position {
                let detail = format!("{position} is durable, and the source is at {held}");
                return Err(Stop::violation("once", number, detail));
            }
        }
        // What is durable is acknowledged, whoever synced it.
        let held = self.held_position(number)?;
        if !self.process.disk.is_dead() {
            note(self.acknowledged_position(), held);
        }
        Ok(())
    }

    /// Submits a transaction of the source.
    fn deliver(&mut self, number: usize, position: u64) -> Step {
        let source = name_of(self.number);
        let mut drawn = Stream::new(self.process.seed, &source, position);
        let mut transaction = self.process.database.begin();
        let mut effects = Vec::new();
        for write in Write::draw(&mut drawn, &self.process.config) {
            // A source knows which rows exist.
            let write = match write {
                Write::Insert(table, k, content) => Write::Upsert(table, k, content),
                other => other,
            };
            let made = write.make(&mut transaction, &self.tables);
            effects.push(self.expect_current(number, "a write of a source", made)?);
        }
        transaction.set_durability(Durability::Buffered);
        let mut attempt = self.attempt(number, effects);
        attempt.origin = Some((source.clone(), position.to_string()));
        transaction.set_origin(Origin {
            source,
            position: position.to_string(),
        });
        let handle = match transaction.submit() {
            Ok(handle) => handle,
            Err(error) => {
                // Whether it is in the log is to be seen after a start.
                self.position = None;
                return self.note_end(attempt, false, Err(error));
            }
        };
        attempt.seq = Some(handle.seq());
        self.process.say(format!(
            "operation {number}: {position} submitted as {}",
            handle.seq()
        ));
        note(&self.process.acknowledged.submitted_seq, handle.seq());
        self.attempts.push(attempt);
        Ok(())
    }

    /// Waits until all that it submitted is durable.
    pub(super) fn wait_for_submitted(&mut self, number: usize) -> Step {
        let submitted_seq = &self.process.acknowledged.submitted_seq;
        let seq = submitted_seq.load(Ordering::SeqCst);
        self.process
            .say(format!("operation {number}: waits for {seq}"));
        let waited = self.process.database.wait_durable(seq);
        self.process.expect(number, "a wait", waited)?;
        self.process.note_durable(seq);
        Ok(())
    }
}
