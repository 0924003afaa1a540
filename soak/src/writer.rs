//! Writers with keys of their own, and what their rows must be.

use std::ops::Bound;
use std::sync::atomic::Ordering;
use std::time::Instant;

use moonshine_engine::{Database, Durability, Scan, Transaction, Value};
use moonshine_sim_runtime::Random;

use crate::content::{Digest, hash, text};
use crate::run::{Done, Run, Trouble, Work};
use crate::tables::{KEY_SPAN, Tables, each_row};

/// Rows of a transaction of the load.
const LOAD_ROWS: i64 = 500;
/// Most writes of a transaction.
const WRITES_MAX: usize = 60;
/// Most keys of a range that is deleted.
const RANGE_KEYS: usize = 80;
/// One of so many writes goes to the first hundredth of the keys.
const HOT_EVERY: usize = 4;

#[derive(Clone, Debug)]
enum Write {
    Upsert(i64),
    Delete(i64),
    DeleteRange(i64, i64),
}

/// One writer, and the hashes of its rows by key.
#[derive(Debug)]
pub(crate) struct Writer {
    writer: usize,
    random: Random,
    hashes: Vec<u64>,
    digest: Digest,
    /// Of the last transaction that was drawn.
    number: i64,
    /// That one, until it is acknowledged.
    waiting: Option<Vec<Write>>,
    /// A fault for the soak to find: one of so many transactions is not committed.
    loses_every: Option<i64>,
}

fn row(id: i64, number: i64) -> Vec<Value> {
    vec![
        Value::Int64(id),
        Value::Int64(number),
        Value::Binary(text(id, number)),
    ]
}

impl Writer {
    /// Before its first transaction. All memory that it takes for its model is taken here.
    pub(crate) fn new(writer: usize, run: &Run, loses_every: Option<i64>) -> Self {
        // Zeros alone would be pages that the system gives only when they are written to.
        let mut hashes = vec![1; run.keys as usize];
        hashes.fill(0);
        Writer {
            writer,
            random: Random::of(run.seed, &format!("writer {writer}")),
            hashes,
            digest: Digest::default(),
            number: 0,
            waiting: None,
            loses_every,
        }
    }

    fn first_key(&self) -> i64 {
        self.writer as i64 * KEY_SPAN
    }

    /// Whether its rows were all written once.
    pub(crate) fn has_loaded(&self, run: &Run) -> bool {
        self.number * LOAD_ROWS >= run.keys && self.waiting.is_none()
    }

    /// Has the last transaction take effect, which may be waiting for space.
    ///
    /// # Errors
    /// What must not be.
    pub(crate) fn finish(&mut self, run: &Run) -> Done {
        match self.waiting {
            Some(_) => self.step(run),
            None => Ok(()),
        }
    }

    fn draw(&mut self, run: &Run) -> Vec<Write> {
        let first = self.first_key();
        let loaded = (self.number - 1) * LOAD_ROWS;
        if loaded < run.keys {
            let end = (loaded + LOAD_ROWS).min(run.keys);
            return (loaded..end)
                .map(|key| Write::Upsert(first + key))
                .collect();
        }
        let count = 1 + self.random.below(WRITES_MAX);
        let writes = (0..count).map(|_| {
            let keys = match self.random.below(HOT_EVERY) {
                0 => run.keys / 100 + 1,
                _ => run.keys,
            };
            let key = first + self.random.below(keys as usize) as i64;
            match self.random.below(1000) {
                0..=1 => {
                    let last = key + self.random.below(RANGE_KEYS) as i64;
                    Write::DeleteRange(key, last.min(first + run.keys - 1))
                }
                2..=80 => Write::Delete(key),
                _ => Write::Upsert(key),
            }
        });
        writes.collect()
    }

    fn set(&mut self, key: i64, hash: u64) {
        let at = (key - self.first_key()) as usize;
        let before = std::mem::replace(&mut self.hashes[at], hash);
        if before != 0 {
            self.digest.remove(before);
        }
        if hash != 0 {
            self.digest.add(hash);
        }
    }

    fn apply(&mut self, writes: &[Write]) {
        for write in writes {
            match *write {
                Write::Upsert(key) => {
                    self.set(key, hash(key, self.number, &text(key, self.number)))
                }
                Write::Delete(key) => self.set(key, 0),
                Write::DeleteRange(first, last) => (first..=last).for_each(|key| self.set(key, 0)),
            }
        }
    }

    fn write(&self, run: &Run, transaction: &mut Transaction, writes: &[Write]) -> Done {
        let table = run.tables.of_writer(self.writer);
        for write in writes {
            match *write {
                Write::Upsert(key) => transaction.upsert(table, row(key, self.number))?,
                Write::Delete(key) => transaction.delete(table, &[Value::Int64(key)])?,
                Write::DeleteRange(first, last) => {
                    let bound = |key: i64| Bound::Included(vec![Value::Int64(key)]);
                    transaction.delete_range(table, &(bound(first), bound(last)))?;
                }
            }
        }
        let progress = [
            self.writer as i64,
            self.number,
            self.digest.count,
            self.digest.sum as i64,
        ];
        let progress = progress.into_iter().map(Value::Int64).collect();
        transaction.upsert(&run.tables.progress, progress)?;
        Ok(())
    }

    /// Holds what the database has against what must be there, key by key.
    ///
    /// # Errors
    /// What differs.
    pub(crate) fn check(&self, database: &Database, tables: &Tables) -> Done {
        let table = tables.of_writer(self.writer);
        let (name, first) = (table.name(), self.first_key());
        let mut found = vec![0; self.hashes.len()];
        let mut wrong = None;
        for batch in database.snapshot().scan(table, Scan::default())? {
            each_row(&batch?, |id, hash| {
                if (first..first + KEY_SPAN).contains(&id) {
                    match found.get_mut((id - first) as usize) {
                        Some(place @ 0) => *place = hash,
                        _ => wrong = Some(id),
                    }
                }
            });
        }
        if let Some(id) = wrong {
            return Err(format!("{name}: key {id} twice, or not of this world").into());
        }
        match (0..found.len()).find(|at| found[*at] != self.hashes[*at]) {
            None => Ok(()),
            Some(at) => Err(Trouble::Failed(format!(
                "{name}, key {}: the row's hash is {:x}, and should be {:x} (0 is no row)",
                first + at as i64,
                found[at],
                self.hashes[at]
            ))),
        }
    }
}

impl Work for Writer {
    fn name(&self) -> &'static str {
        "writer"
    }

    fn step(&mut self, run: &Run) -> Done {
        let writes = match self.waiting.take() {
            Some(writes) => writes,
            None => {
                self.number += 1;
                let writes = self.draw(run);
                self.apply(&writes);
                writes
            }
        };
        let count = writes.len() as u64;
        self.waiting = Some(writes.clone());
        let mut transaction = run.database.begin();
        self.write(run, &mut transaction, &writes)?;
        let durability = match self.number % 4 {
            0 => Durability::Synced,
            _ => Durability::Buffered,
        };
        transaction.set_durability(durability);
        let start = Instant::now();
        let is_lost = |every: i64| self.number % every == 0;
        if !self.loses_every.is_some_and(is_lost) {
            transaction.commit()?;
        }
        let took = start.elapsed().as_nanos() as u64;
        run.commit_ns.fetch_add(took, Ordering::Relaxed);
        self.waiting = None;
        run.count("transactions of writers", 1);
        run.count("rows written", count);
        Ok(())
    }
}
