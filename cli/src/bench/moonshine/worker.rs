//! One thread's operations.

use std::collections::VecDeque;
use std::ops::{Bound, Range};
use std::sync::Arc;

use arrow_array::Array;
use moonshine_engine::{Scan, ScanOrder, Transaction, Value};
use moonshine_sysprobe::bench::ycsb::{Operation, Random, RecordChooser};
use moonshine_sysprobe::bench::{Direction, OperationDone, Workload};

use super::dataset::{binary, text};
use super::job_state::{JobState, OperationCounts};
use super::record::ValueHead;

/// Numbers from here on are of keys that are not there.
const MISSING_NUMBER_MIN: u64 = 1 << 63;

/// One thread's operations on the job's database.
pub(super) struct Worker {
    job: Arc<JobState>,
    thread: u64,
    random: Random,
    chooser: RecordChooser,
    counts: OperationCounts,
    /// Puts and read-modify-writes so far.
    puts: u64,
    /// The last commit sequence of this thread.
    submitted_seq: u64,
    /// Records that were inserted by commits which nobody waited for, in order of their sequence.
    unpublished: VecDeque<(u64, Range<u64>)>,
}

impl Worker {
    pub(super) fn new(job: Arc<JobState>, thread: u64, mut random: Random) -> Self {
        let records = job.dataset.inserted.visible();
        let chooser = job.plan.chooser(records, &mut random);
        Worker {
            job,
            thread,
            random,
            chooser,
            counts: OperationCounts::default(),
            puts: 0,
            submitted_seq: 0,
            unpublished: VecDeque::new(),
        }
    }

    /// A record that is there.
    fn choose(&mut self) -> u64 {
        let records = self.job.dataset.inserted.visible();
        let Worker {
            chooser, random, ..
        } = self;
        chooser.choose(records, random)
    }

    fn read(&mut self) -> Result<u64, String> {
        let dataset = &self.job.dataset;
        if self.job.plan.miss > 0.0 && self.random.draw_share() < self.job.plan.miss {
            let number = self.random.draw() | MISSING_NUMBER_MIN;
            self.counts.missed += 1;
            return match dataset.get(number)? {
                None => Ok(dataset.format.key_size_bytes()),
                Some(_) => Err(format!("record {number} is there and nobody wrote it")),
            };
        }
        let number = self.choose();
        self.job.dataset.read(number)?;
        Ok(self.job.dataset.format.size_bytes())
    }

    fn update(&mut self) -> Result<u64, String> {
        let mut transaction = self.job.dataset.database.begin();
        for _ in 0..self.job.plan.batch {
            let number = self.choose();
            self.puts += 1;
            let stamp = self.puts << 16 | (self.thread & 0xffff);
            self.put(&mut transaction, ValueHead { number, stamp })?;
        }
        self.commit(transaction)?;
        Ok(self.job.plan.batch * self.job.dataset.format.size_bytes())
    }

    fn insert(&mut self) -> Result<u64, String> {
        let numbers = self.job.dataset.inserted.take(self.job.plan.batch);
        let mut transaction = self.job.dataset.database.begin();
        for number in numbers.clone() {
            self.put(&mut transaction, ValueHead { number, stamp: 0 })?;
        }
        self.commit(transaction)?;
        if self.job.plan.waits {
            self.job.dataset.inserted.publish(numbers);
        } else {
            self.unpublished.push_back((self.submitted_seq, numbers));
        }
        Ok(self.job.plan.batch * self.job.dataset.format.size_bytes())
    }

    fn read_modify_write(&mut self) -> Result<u64, String> {
        let number = self.choose();
        let head = self.job.dataset.read(number)?;
        let stamp = head.stamp + 1;
        let mut transaction = self.job.dataset.database.begin();
        self.put(&mut transaction, ValueHead { number, stamp })?;
        self.commit(transaction)?;
        Ok(self.job.dataset.format.size_bytes())
    }

    fn scan(&mut self) -> Result<u64, String> {
        let dataset = &self.job.dataset;
        let length = self.job.plan.scan_length.draw(&mut self.random);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let number = {
            let records = dataset.inserted.visible();
            self.chooser.choose(records, &mut self.random)
        };
        let key = dataset.format.key(number);
        let scan = Scan {
            order: ScanOrder::Ascending,
            range: (
                Bound::Included(vec![Value::Binary(key.clone())]),
                Bound::Unbounded,
            ),
            batch_rows: length,
            ..Scan::default()
        };
        let (mut rows, mut bytes) = (0, 0);
        let snapshot = dataset.database.snapshot();
        for batch in snapshot.scan(&dataset.table, scan).map_err(text)? {
            let batch = batch.map_err(text)?;
            let (keys, values) = (binary(&batch, 0)?, binary(&batch, 1)?);
            if rows == 0 && keys.iter().flatten().next() != Some(key.as_slice()) {
                return Err(format!(
                    "a scan from record {number} does not begin with it"
                ));
            }
            for i in 0..keys.len().min(length - rows) {
                if values.is_null(i) {
                    return Err(format!("a scan from record {number} has a row of no value"));
                }
                bytes += (keys.value(i).len() + values.value(i).len()) as u64;
                rows += 1;
            }
            if rows == length {
                break;
            }
        }
        if rows == 0 {
            return Err(format!("a scan from record {number} found nothing"));
        }
        self.counts.scanned_rows += rows as u64;
        Ok(bytes)
    }

    fn put(&self, transaction: &mut Transaction, head: ValueHead) -> Result<(), String> {
        let dataset = &self.job.dataset;
        transaction
            .upsert(&dataset.table, dataset.row(head))
            .map_err(text)
    }

    fn commit(&mut self, transaction: Transaction) -> Result<(), String> {
        let handle = transaction.submit().map_err(text)?;
        self.submitted_seq = handle.seq();
        if self.job.plan.waits {
            handle.wait().map_err(text)?;
        }
        Ok(())
    }

    /// Lets others ask for the inserted records that have become visible.
    fn publish(&mut self) {
        if self.unpublished.is_empty() {
            return;
        }
        let durable_seq = self.job.dataset.database.durable_seq();
        while let Some((seq, _)) = self.unpublished.front()
            && *seq <= durable_seq
            && let Some((_, numbers)) = self.unpublished.pop_front()
        {
            self.job.dataset.inserted.publish(numbers);
        }
    }
}

impl Workload for Worker {
    fn step(&mut self) -> Result<OperationDone, String> {
        self.publish();
        let operation = self.job.plan.mix.draw(&mut self.random);
        let bytes = match operation {
            Operation::Read => self.read()?,
            Operation::Update => self.update()?,
            Operation::Insert => self.insert()?,
            Operation::Scan => self.scan()?,
            Operation::ReadModifyWrite => self.read_modify_write()?,
        };
        let direction = match operation {
            Operation::Read | Operation::Scan => Direction::Read,
            Operation::Update | Operation::Insert | Operation::ReadModifyWrite => Direction::Write,
        };
        self.counts.count(operation);
        if direction == Direction::Write {
            self.counts.written_bytes += bytes;
        }
        Ok(OperationDone { direction, bytes })
    }

    fn sync(&mut self) -> Result<(), String> {
        self.job
            .dataset
            .database
            .wait_durable(self.submitted_seq)
            .map_err(text)?;
        self.publish();
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.job.dataset.note_submitted(self.submitted_seq);
        self.job.dataset.note_written(self.counts.written_bytes);
        self.job.add(&self.counts);
    }
}
