//! Work that writes rows.

use std::ops::Bound;

use moonshine_engine::{
    ColumnType, CommitHandle, Durability, Error, Isolation, Result, Row, SchemaChange, Table,
    Transaction, Value,
};

use super::work::Work;
use super::{Child, tell};
use crate::workload::{
    CHAIN_HEAD, COLUMNS_MAX, STEPS_PER_COLUMN, Write, cell, column_default, columns, load_rows,
    text, transfer, writes,
};

/// Most transactions that are submitted and not waited for.
const SUBMITTED_MAX: u64 = 4;

fn row(id: i64, number: i64) -> Row {
    let text = text(id, number);
    vec![Value::Int64(id), Value::Int64(number), Value::Binary(text)]
}

fn name_of(durability: Durability) -> &'static str {
    match durability {
        Durability::Buffered => "buffered",
        _ => "synced",
    }
}

/// Transactions on keys of its own, in two tables alike.
pub(super) struct Writer {
    writer: usize,
    /// Numbers that were acknowledged.
    done: u64,
    submitted: Vec<(CommitHandle, Durability)>,
}

impl Writer {
    pub(super) fn new(writer: usize, done: u64) -> Self {
        Writer {
            writer,
            done,
            submitted: Vec::new(),
        }
    }

    fn submit(&mut self, child: &Child) -> Result<()> {
        let number = self.done + self.submitted.len() as u64 + 1;
        let mut transaction = child.database.begin();
        for table in [&child.tables.left, &child.tables.right] {
            for write in writes(child.flags.seed, self.writer, number) {
                apply(&mut transaction, table, write, number as i64)?;
            }
        }
        let durability = match child.draw(&[5, self.writer as u64, number]) % 3 {
            0 => Durability::Buffered,
            _ => Durability::Synced,
        };
        transaction.set_durability(durability);
        let handle = transaction.submit()?;
        let kind = if child.flags.early { "A" } else { "S" };
        self.tell(kind, number, handle.seq(), durability);
        self.submitted.push((handle, durability));
        Ok(())
    }

    fn tell(&self, kind: &str, number: u64, seq: u64, durability: Durability) {
        let (writer, durability) = (self.writer, name_of(durability));
        tell(&format!("{kind} {writer} {number} {seq} {durability}"));
    }
}

fn apply(transaction: &mut Transaction, table: &Table, write: Write, number: i64) -> Result<()> {
    match write {
        Write::Upsert(key) => transaction.upsert(table, row(key, number)),
        Write::Delete(key) => transaction.delete(table, &[Value::Int64(key)]),
        Write::DeleteRange(range) => {
            let bound = |key: i64| Bound::Included(vec![Value::Int64(key)]);
            transaction.delete_range(table, &(bound(*range.start()), bound(*range.end())))
        }
    }
}

impl Work for Writer {
    fn name(&self) -> &'static str {
        "writer"
    }

    fn step(&mut self, child: &Child) -> Result<()> {
        let count = match child.flags.alone {
            false => 1 + child.draw(&[6, self.writer as u64, self.done]) % SUBMITTED_MAX,
            true => 1,
        };
        for _ in 0..count {
            self.submit(child)?;
        }
        for (handle, durability) in std::mem::take(&mut self.submitted) {
            let seq = handle.wait()?;
            self.done += 1;
            self.tell("A", self.done, seq, durability);
            child.acknowledged(seq);
        }
        Ok(())
    }
}

/// Optimistic transactions on rows that all of their kind share.
#[derive(Default)]
pub(super) struct Chain {
    attempts: u64,
}

impl Work for Chain {
    fn name(&self) -> &'static str {
        "chain"
    }

    fn step(&mut self, child: &Child) -> Result<()> {
        let table = &child.tables.chain;
        self.attempts += 1;
        let isolation = match self.attempts % 2 {
            0 => Isolation::Snapshot,
            _ => Isolation::Serializable,
        };
        let mut transaction = child.database.begin_optimistic(isolation);
        let number_at = |transaction: &mut Transaction, id: i64| {
            let row = transaction.get(table, &[Value::Int64(id)])?;
            Ok::<i64, Error>(match row.as_deref() {
                Some([_, Value::Int64(number), _]) => *number,
                _ => 0,
            })
        };
        let k = number_at(&mut transaction, CHAIN_HEAD)? as u64 + 1;
        let (from, to, amount) = transfer(child.flags.seed, k);
        let from_balance = number_at(&mut transaction, from)?;
        let to_balance = number_at(&mut transaction, to)?;
        transaction.upsert(table, row(from, from_balance - amount))?;
        transaction.upsert(table, row(to, to_balance + amount))?;
        transaction.insert(table, row(k as i64, amount))?;
        transaction.upsert(table, row(CHAIN_HEAD, k as i64))?;
        let durability = match child.draw(&[7, k]) % 2 {
            0 => Durability::Buffered,
            _ => Durability::Synced,
        };
        transaction.set_durability(durability);
        let seq = match transaction.commit() {
            // Under snapshot isolation another link may have come in between as well.
            Err(Error::Exists { .. }) => return Ok(()),
            result => result?,
        };
        tell(&format!("C {k} {seq} {}", name_of(durability)));
        child.acknowledged(seq);
        Ok(())
    }
}

/// Bulk loads, one after the other.
pub(super) struct Loader {
    done: u64,
}

impl Loader {
    pub(super) fn new(done: u64) -> Self {
        Loader { done }
    }
}

impl Work for Loader {
    fn name(&self) -> &'static str {
        "loader"
    }

    fn pause(&self) -> std::time::Duration {
        std::time::Duration::from_millis(20)
    }

    fn step(&mut self, child: &Child) -> Result<()> {
        let number = self.done + 1;
        let mut load = child.database.bulk_load(&child.tables.loads)?;
        for id in load_rows(child.flags.seed, number) {
            load.upsert(row(id, number as i64))?;
        }
        let seq = load.finish()?;
        self.done = number;
        tell(&format!("L {number} {seq}"));
        child.acknowledged(seq);
        Ok(())
    }
}

/// Changes of a table's columns, and rows between them.
pub(super) struct Evolver {
    done: u64,
}

impl Evolver {
    pub(super) fn new(done: u64) -> Self {
        Evolver { done }
    }
}

/// The name of the column that came at a step.
pub(crate) fn column_name(step: u64) -> String {
    format!("c{step}")
}

impl Work for Evolver {
    fn name(&self) -> &'static str {
        "evolver"
    }

    fn pause(&self) -> std::time::Duration {
        std::time::Duration::from_millis(3)
    }

    fn step(&mut self, child: &Child) -> Result<()> {
        let step = self.done + 1;
        let table = child
            .database
            .table("evolving")
            .ok_or(Error::Usage("the evolving table is gone".into()))?;
        let columns = columns(self.done);
        if step.is_multiple_of(STEPS_PER_COLUMN) {
            let mut changes = vec![SchemaChange::AddColumn {
                name: column_name(step),
                column_type: ColumnType::Int64,
                nullable: true,
                default: column_default(step).map(Value::Int64),
            }];
            if columns.len() == COLUMNS_MAX {
                let name = column_name(columns[0]);
                changes.push(SchemaChange::DropColumn { name });
            }
            child.database.alter_table(&table, &changes)?;
        } else {
            let mut transaction = child.database.begin();
            let cells = columns.iter().map(|column| cell(step, *column));
            let ids = std::iter::once(step as i64);
            transaction.upsert(&table, ids.chain(cells).map(Value::Int64).collect())?;
            child.acknowledged(transaction.commit()?);
        }
        self.done = step;
        tell(&format!("E {step}"));
        Ok(())
    }
}
