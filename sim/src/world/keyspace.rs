//! Writes to the table of pairs as the keyspace that it is. None of them tells its commit sequence.

use moonshine_engine::{Durability, Error, Keyspace, Value};

use super::client::Client;
use super::outcome::{Step, Stop};
use super::writes::{bytes_of, range};
use crate::model::attempt::{Attempt, End};
use crate::model::rows::StoredRow;
use crate::model::state::Effect;
use crate::model::tables::{PAIRS, key};
use crate::random::Stream;

impl Client {
    pub(super) fn keyspace(&mut self, number: usize) -> Step<Keyspace> {
        let keyspace = self.process.database.keyspace("pairs");
        self.process.expect(number, "a keyspace", keyspace)
    }

    fn pair(&self, k: u64, value: &[u8]) -> StoredRow {
        let mut row = key(PAIRS, k);
        row.push(Value::Binary(value.to_vec()));
        StoredRow::new(self.tables[PAIRS].schema(), &row)
    }

    fn put(&self, k: u64, value: &[u8], must_be_new: bool) -> Effect {
        Effect::Put {
            table: PAIRS,
            key: bytes_of(PAIRS, k),
            row: self.pair(k, value),
            must_be_new,
        }
    }

    pub(super) fn pairs(&mut self, number: usize, stream: &mut Stream) -> Step {
        let is_synced = !stream.chance(self.process.config.buffered_permille);
        let durability = match is_synced {
            true => Durability::Synced,
            false => Durability::Buffered,
        };
        let keyspace = self.keyspace(number)?.with_durability(durability);
        let (k, other) = (
            stream.below(self.process.config.key_count),
            stream.below(self.process.config.key_count),
        );
        let value = stream.next().to_be_bytes();
        let bytes = binary(k);
        let mut attempt = self.attempt(number, Vec::new());
        let (effect, answer) = match stream.below(6) {
            0 => (self.put(k, &value, false), keyspace.insert(&bytes, value)),
            1 => (
                self.put(k, &value, true),
                keyspace.insert_new(&bytes, value),
            ),
            2 => {
                let (table, key) = (PAIRS, bytes_of(PAIRS, k));
                (Effect::Remove { table, key }, keyspace.remove(&bytes))
            }
            3 => {
                let (bounds, range) = range(PAIRS, k, other, stream.pick(&[0, 1, 2, 4, 5]));
                let bounds = (bounds.0.map(only), bounds.1.map(only));
                let table = PAIRS;
                let effect = Effect::RemoveRange { table, range };
                (effect, keyspace.remove_range(bounds))
            }
            _ => return self.swap(number, &keyspace, is_synced, k, &value),
        };
        attempt.effects.push(effect);
        self.note_pair(attempt, is_synced, answer)
    }

    /// Replaces the value that it has just read, if that is still so.
    fn swap(
        &mut self,
        number: usize,
        keyspace: &Keyspace,
        is_synced: bool,
        k: u64,
        value: &[u8],
    ) -> Step {
        let mut attempt = self.attempt(number, vec![self.put(k, value, false)]);
        let mut seen = None;
        let mut calls = 0;
        let answer = keyspace.fetch_update(binary(k), |current| {
            calls += 1;
            seen = current.map(<[u8]>::to_vec);
            Some(value.to_vec())
        });
        // Each time that somebody else came first a commit sequence may have been taken.
        attempt.spare_seqs = calls;
        let expected = seen.map(|seen| self.pair(k, &seen));
        attempt.expects.push((PAIRS, bytes_of(PAIRS, k), expected));
        self.note_pair(attempt, is_synced, answer.map(drop))
    }

    /// Notes what became of a write whose commit sequence nobody learnt.
    fn note_pair(
        &mut self,
        mut attempt: Attempt,
        is_synced: bool,
        answer: Result<(), Error>,
    ) -> Step {
        let number = attempt.operation;
        if answer.is_ok() && attempt.effects.iter().all(Effect::is_empty) {
            attempt.end = End::Nothing;
            self.attempts.push(attempt);
            return Ok(());
        }
        if answer.is_ok() {
            attempt.end = End::Committed;
            let seq_max = match is_synced {
                true => self.process.durable_seq(number)?,
                false => self.process.snapshot(number)?.seq(),
            };
            attempt.seq_max = Some(seq_max);
            self.attempts.push(attempt);
            return Ok(());
        }
        match self.note_end(attempt, is_synced, answer.map(|()| 0)) {
            Err(Stop::Violation(violation)) => Err(Stop::Violation(violation)),
            ended => ended,
        }
    }
}

fn binary(k: u64) -> Vec<u8> {
    only(key(PAIRS, k))
}

/// The bytes of a key.
fn only(mut key: Vec<Value>) -> Vec<u8> {
    match key.pop() {
        Some(Value::Binary(bytes)) => bytes,
        other => panic!("{other:?} is no key of a keyspace"),
    }
}
