//! The tables, and what a snapshot of them has to hold.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use moonshine_engine::{
    ColumnType, Database, Result, Scan, ScanOrder, ShardKey, Snapshot, Table, TableSchema,
};

use crate::content::{Digest, hash};

/// From a writer's first key to the next one's.
pub(crate) const KEY_SPAN: i64 = 10_000_000;
/// Accounts that transfers are made between; their balances add up to 0.
pub(crate) const ACCOUNTS: i64 = 64;

/// All tables whose columns stay.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    /// Rows of the writers: one table divided by hash, one by range. Writers take them in turn.
    pub(crate) rows: [Table; 2],
    /// What each writer's rows are after its last transaction.
    pub(crate) progress: Table,
    /// Balances.
    pub(crate) accounts: Table,
    /// What is bulk loaded, and goes.
    pub(crate) loads: Table,
}

impl Tables {
    /// Finds them, or creates those that are missing.
    ///
    /// # Errors
    /// As the engine answers.
    pub(crate) fn create(database: &Database) -> Result<Self> {
        let rows = |name: &str, shard_key| {
            let schema = TableSchema::builder(name)
                .column("id", ColumnType::Int64, false)
                .column("number", ColumnType::Int64, false)
                .column("text", ColumnType::Binary, false)
                .primary_key(["id"])
                .shard_key(shard_key);
            database.create_table(schema.build()?)
        };
        let progress = TableSchema::builder("soak.progress")
            .column("writer", ColumnType::Int64, false)
            .column("number", ColumnType::Int64, false)
            .column("count", ColumnType::Int64, false)
            .column("sum", ColumnType::Int64, false)
            .primary_key(["writer"]);
        let accounts = TableSchema::builder("soak.accounts")
            .column("id", ColumnType::Int64, false)
            .column("balance", ColumnType::Int64, false)
            .primary_key(["id"]);
        Ok(Tables {
            rows: [
                rows("soak.by_hash", ShardKey::PrimaryKey)?,
                rows("soak.by_range", ShardKey::Range)?,
            ],
            progress: database.create_table(progress.build()?)?,
            accounts: database.create_table(accounts.build()?)?,
            loads: rows("soak.loads", ShardKey::PrimaryKey)?,
        })
    }

    /// The table of a writer's rows.
    pub(crate) fn of_writer(&self, writer: usize) -> &Table {
        &self.rows[writer % 2]
    }
}

/// The numbers of a column.
pub(crate) fn numbers(batch: &RecordBatch, column: usize) -> &[i64] {
    batch.column(column).as_primitive::<Int64Type>().values()
}

/// Calls that for each row of the writers in a batch: its key and its hash.
pub(crate) fn each_row(batch: &RecordBatch, mut act: impl FnMut(i64, u64)) {
    let (ids, texts) = (numbers(batch, 0), batch.column(2).as_binary::<i32>());
    for (row, (id, number)) in ids.iter().zip(numbers(batch, 1)).enumerate() {
        assert!(texts.is_valid(row), "key {id}: no text");
        act(*id, hash(*id, *number, texts.value(row)));
    }
}

fn scan(order: ScanOrder) -> Scan {
    Scan {
        order,
        ..Scan::default()
    }
}

/// The digest of each writer's rows in a snapshot.
///
/// # Errors
/// As the engine answers.
pub(crate) fn digests(
    snapshot: &Snapshot,
    tables: &Tables,
    writers: usize,
    order: ScanOrder,
) -> Result<Vec<Digest>> {
    let mut digests = vec![Digest::default(); writers];
    for table in &tables.rows {
        for batch in snapshot.scan(table, scan(order))? {
            each_row(&batch?, |id, hash| {
                digests[(id / KEY_SPAN) as usize].add(hash)
            });
        }
    }
    Ok(digests)
}

/// What the writers say that their rows are, as of a batch of that table.
pub(crate) fn add_progress(batch: &RecordBatch, said: &mut [Digest]) {
    for row in 0..batch.num_rows() {
        let digest = &mut said[numbers(batch, 0)[row] as usize];
        digest.count = numbers(batch, 2)[row];
        digest.sum = numbers(batch, 3)[row] as u64;
    }
}

/// Checks a snapshot: each writer's rows are what it says that they are, and the balances add up. `Ok(Err)` says in words what is
/// wrong.
///
/// # Errors
/// As the engine answers.
pub(crate) fn check(
    snapshot: &Snapshot,
    tables: &Tables,
    writers: usize,
    order: ScanOrder,
) -> Result<std::result::Result<i64, String>> {
    let found = digests(snapshot, tables, writers, order)?;
    let mut said = vec![Digest::default(); writers];
    for batch in snapshot.scan(&tables.progress, scan(order))? {
        add_progress(&batch?, &mut said);
    }
    let mut balance = 0;
    for batch in snapshot.scan(&tables.accounts, scan(order))? {
        balance += numbers(&batch?, 1).iter().sum::<i64>();
    }
    let seq = snapshot.seq();
    Ok(if found != said {
        Err(format!(
            "at commit sequence {seq} the writers' rows are {found:?}, and should be {said:?}"
        ))
    } else if balance != 0 {
        Err(format!(
            "at commit sequence {seq} the balances add up to {balance}"
        ))
    } else {
        Ok(found.iter().map(|digest| digest.count).sum())
    })
}
