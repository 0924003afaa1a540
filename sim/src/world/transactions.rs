//! Transactions of typed tables, blind and optimistic.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use moonshine_engine::{Durability, Isolation, Origin, Scan, Snapshot, Transaction};

use super::client::Client;
use super::outcome::Step;
use super::reads::{Wanted, collect};
use super::writes::{Write, bytes_of};
use crate::model::attempt::{Attempt, Conditions};
use crate::model::observation::{Observation, Order, Seen};
use crate::model::rows::key_of;
use crate::model::state::Effect;
use crate::model::tables::{TABLE_COUNT, key};
use crate::random::Stream;

/// Most transactions that a client has open.
const OPEN_MAX: usize = 3;

/// An optimistic transaction that is open.
#[derive(Debug)]
pub(super) struct Open {
    transaction: Transaction,
    attempt: Attempt,
    /// It wrote something that can't be any more, so that it is given up.
    is_broken: bool,
}

impl Client {
    /// A new attempt; its commit sequence comes after all that is visible.
    pub(super) fn attempt(&self, number: usize, effects: Vec<Effect>) -> Attempt {
        let visible_seq = &self.process.acknowledged.visible_seq;
        Attempt::new(number, effects, visible_seq.load(Ordering::SeqCst))
    }

    /// A transaction that reads nothing.
    fn blind(&mut self, number: usize, stream: &mut Stream) -> Step<(Transaction, Attempt)> {
        let mut transaction = self.process.database.begin();
        let mut effects = Vec::new();
        for write in Write::draw(stream, &self.process.config) {
            let made = write.make(&mut transaction, &self.tables);
            effects.push(self.expect_current(number, "a write", made)?);
        }
        let mut attempt = self.attempt(number, effects);
        self.set_origin(&mut transaction, &mut attempt, stream);
        Ok((transaction, attempt))
    }

    /// Half of the transactions are of a source.
    fn set_origin(
        &self,
        transaction: &mut Transaction,
        attempt: &mut Attempt,
        stream: &mut Stream,
    ) {
        if stream.chance(500) {
            let source = format!("source {}", stream.below(2));
            let position = format!("{} {}", attempt.operation, stream.next());
            attempt.origin = Some((source.clone(), position.clone()));
            transaction.set_origin(Origin { source, position });
        }
    }

    /// Whether a transaction is to be synced.
    fn draw_durability(&self, transaction: &mut Transaction, stream: &mut Stream) -> bool {
        let is_synced = !stream.chance(self.process.config.buffered_permille);
        if !is_synced {
            transaction.set_durability(Durability::Buffered);
        }
        is_synced
    }

    pub(super) fn write(&mut self, number: usize, stream: &mut Stream) -> Step {
        let (transaction, attempt) = self.blind(number, stream)?;
        self.commit(transaction, attempt, stream)
    }

    /// Commits it in one of the ways that there are.
    fn commit(
        &mut self,
        mut transaction: Transaction,
        attempt: Attempt,
        stream: &mut Stream,
    ) -> Step {
        let is_synced = self.draw_durability(&mut transaction, stream);
        if stream.chance(400) {
            return self.note_end(attempt, is_synced, transaction.commit());
        }
        match transaction.submit() {
            Err(error) => self.note_end(attempt, is_synced, Err(error)),
            Ok(handle) => {
                let mut attempt = attempt;
                attempt.seq = Some(handle.seq());
                if stream.chance(300) {
                    self.submitted.push((attempt, is_synced, handle));
                    return Ok(());
                }
                self.wait(attempt, is_synced, handle)
            }
        }
    }

    pub(super) fn pipeline(&mut self, number: usize, stream: &mut Stream) -> Step {
        for _ in 0..stream.between(2, 6) {
            let (mut transaction, attempt) = self.blind(number, stream)?;
            let is_synced = self.draw_durability(&mut transaction, stream);
            match transaction.submit() {
                Ok(handle) => self.submitted.push((attempt, is_synced, handle)),
                Err(error) => self.note_end(attempt, is_synced, Err(error))?,
            }
        }
        self.wait_for_all()
    }

    pub(super) fn begin(&mut self, number: usize, stream: &mut Stream) -> Step {
        let isolation = stream.pick(&[Isolation::Snapshot, Isolation::Serializable]);
        let is_serializable = isolation == Isolation::Serializable;
        let transaction = self.process.database.begin_optimistic(isolation);
        let snapshot = transaction.snapshot().cloned();
        let since_seq = snapshot.as_ref().map_or(0, Snapshot::seq);
        if let Some(snapshot) = snapshot {
            self.pin_down(number, &snapshot)?;
        }
        let conditions = Conditions {
            since_seq,
            keys: BTreeSet::new(),
            unsure_keys: BTreeSet::new(),
            tables_of_ranges: BTreeSet::new(),
        };
        let mut attempt = self.attempt(number, Vec::new());
        attempt.conditions = Some(conditions);
        let mut open = Open {
            transaction,
            attempt,
            is_broken: true,
        };
        for _ in 0..stream.below(3) {
            let table = stream.below(TABLE_COUNT as u64) as usize;
            let k = stream.below(self.process.config.key_count);
            let found = open.transaction.get(&self.tables[table], &key(table, k));
            let row = self.expect_current(number, "a get", found)?;
            self.observe(
                number,
                since_seq,
                table,
                &[],
                Seen::Row(bytes_of(table, k), row),
            );
            if is_serializable {
                open.watch(table, bytes_of(table, k));
            }
        }
        let writes = Write::draw(stream, &self.process.config);
        for write in writes.into_iter().take(stream.below(5) as usize) {
            let effect = write.make(&mut open.transaction, &self.tables);
            let effect = self.expect_current(number, "a write", effect)?;
            self.watch_write(&mut open, &effect);
            open.attempt.effects.push(effect);
        }
        if stream.chance(500) && !open.attempt.has_inserts() {
            self.scan_within(number, &mut open, is_serializable, stream)?;
        }
        open.is_broken = false;
        self.open.push(open);
        if self.open.len() > OPEN_MAX {
            self.open.remove(0);
        }
        Ok(())
    }

    fn watch_write(&self, open: &mut Open, effect: &Effect) {
        for table in 0..TABLE_COUNT {
            for k in 0..self.process.config.key_count {
                let key = bytes_of(table, k);
                if effect.touches(table, &key) {
                    open.watch(table, key);
                }
            }
        }
        if let Some(table) = effect.table_of_range() {
            open.watch_ranges(table);
        }
    }

    /// Scans what the transaction sees, its own writes among it.
    fn scan_within(
        &mut self,
        number: usize,
        open: &mut Open,
        is_serializable: bool,
        stream: &mut Stream,
    ) -> Step {
        let wanted = Wanted::draw(stream, &self.process.config);
        let batches_max = stream.between(1, 3) as usize;
        let table = wanted.table;
        let scan = Scan {
            batch_rows: stream.between(1, 10) as usize,
            ..wanted.scan()
        };
        let scanned = open.transaction.scan(&self.tables[table], scan);
        let mut batches = self.expect_current(number, "a scan", scanned)?;
        let schema = self.tables[table].schema().clone();
        let collected = collect(&mut batches, &schema, batches_max);
        let (rows, is_whole) = self.expect_current(number, "a scan", collected)?;
        if is_serializable {
            let reached = rows.last().map(|row| key_of(&schema, row));
            for k in 0..self.process.config.key_count {
                let key = bytes_of(table, k);
                let is_reached = is_whole
                    || match (wanted.order, &reached) {
                        (Order::Any, _) | (_, None) => true,
                        (Order::Ascending, Some(reached)) => key <= *reached,
                        (Order::Descending, Some(reached)) => key >= *reached,
                    };
                match (wanted.range.contains(&key), &mut open.attempt.conditions) {
                    (true, _) if is_reached => open.watch(table, key),
                    (true, Some(conditions)) => {
                        conditions.unsure_keys.insert((table, key));
                    }
                    _ => {}
                }
            }
            open.watch_ranges(table);
        }
        let seq = open.since_seq();
        let seen = Seen::Scan {
            range: wanted.range,
            order: wanted.order,
            is_whole,
            rows,
        };
        self.observe(number, seq, table, &open.attempt.effects, seen);
        Ok(())
    }

    pub(super) fn finish(&mut self, number: usize, stream: &mut Stream) -> Step {
        if self.open.is_empty() {
            return Ok(());
        }
        let at = stream.below(self.open.len() as u64) as usize;
        let mut open = self.open.swap_remove(at);
        if open.is_broken || stream.chance(100) {
            return Ok(());
        }
        open.attempt.operation = number;
        open.attempt.after_seq = self.attempt(number, Vec::new()).after_seq;
        if open.attempt.effects.is_empty() {
            // Who wrote nothing is never refused, and takes no commit sequence.
            let committed = open.transaction.commit();
            return self.process.expect(number, "a commit", committed).map(drop);
        }
        self.commit(open.transaction, open.attempt, stream)
    }

    /// Notes what was read.
    pub(super) fn observe(
        &mut self,
        operation: usize,
        seq: u64,
        table: usize,
        own: &[Effect],
        seen: Seen,
    ) {
        self.observations.push(Observation {
            operation,
            seq,
            table,
            schema: self.tables[table].schema().clone(),
            own: own.to_vec(),
            seen,
        });
    }
}

impl Open {
    fn since_seq(&self) -> u64 {
        let conditions = self.attempt.conditions.as_ref();
        conditions.map_or(0, |conditions| conditions.since_seq)
    }

    fn watch(&mut self, table: usize, key: Vec<u8>) {
        if let Some(conditions) = &mut self.attempt.conditions {
            conditions.keys.insert((table, key));
        }
    }

    fn watch_ranges(&mut self, table: usize) {
        if let Some(conditions) = &mut self.attempt.conditions {
            conditions.tables_of_ranges.insert(table);
        }
    }
}
