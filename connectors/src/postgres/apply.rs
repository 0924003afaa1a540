//! Row changes into engine transactions: one of the source is one of the engine, with the LSN behind it as its origin.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use moonshine_engine::{Database, Origin, Row, Transaction, Value};
use tokio_postgres::types::PgLsn;

use super::MirroredTable;
use super::catalog::SourceColumn;
use super::pgoutput::{Cell, Change, OldTuple, Relation, Tuple};
use crate::SourceError;

/// Most complete transactions that wait for being submitted together, and most bytes of them.
const STAGED_COUNT_MAX: usize = 256;
const STAGED_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Builds transactions of the stream's changes, and keeps account of which of them are durable.
pub(super) struct Applier {
    source_name: String,
    database: Database,
    tables: HashMap<(String, String), Arc<MirroredTable>>,
    /// By the server's id; `None` for a table that the publication holds and the configuration does not.
    relations: HashMap<u32, Option<Arc<MirroredTable>>>,
    /// The engine holds everything before this already.
    start: PgLsn,
    open: Option<Open>,
    /// Complete, not yet submitted.
    staged: Vec<Staged>,
    staged_bytes: u64,
    /// Submitted, not known to be durable: commit sequence and end.
    pending: VecDeque<(u64, PgLsn)>,
    submitted_seq: u64,
    durable: PgLsn,
    /// Everything before this has been read.
    position: PgLsn,
}

/// The transaction that is being read.
struct Open {
    final_lsn: PgLsn,
    /// `None` if the engine holds it already.
    transaction: Option<Transaction>,
    row_count: u64,
    size_bytes: u64,
}

/// A complete transaction.
pub(super) struct Staged {
    pub(super) transaction: Transaction,
    pub(super) end: PgLsn,
    pub(super) row_count: u64,
    pub(super) size_bytes: u64,
}

impl Applier {
    pub(super) fn new(
        source_name: String,
        database: Database,
        tables: Vec<Arc<MirroredTable>>,
        start: PgLsn,
    ) -> Self {
        let name = |table: &MirroredTable| (table.source.schema.clone(), table.source.name.clone());
        Self {
            source_name,
            submitted_seq: 0,
            tables: tables
                .into_iter()
                .map(|table| (name(&table), table))
                .collect(),
            database,
            relations: HashMap::new(),
            start,
            open: None,
            staged: Vec::new(),
            staged_bytes: 0,
            pending: VecDeque::new(),
            durable: start,
            position: start,
        }
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// Whether a transaction has begun and not ended yet.
    pub(super) fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// Everything before this has been read.
    pub(super) fn position(&self) -> PgLsn {
        self.position
    }

    /// Everything before this is durable in the engine; asks the engine first.
    pub(super) fn durable(&mut self) -> PgLsn {
        let durable_seq = self.database.durable_seq();
        while let Some(&(seq, end)) = self.pending.front() {
            if seq > durable_seq {
                break;
            }
            self.durable = self.durable.max(end);
            self.pending.pop_front();
        }
        self.durable
    }

    /// The newest commit sequence that was submitted; 0 if none was.
    pub(super) fn submitted_seq(&self) -> u64 {
        self.submitted_seq
    }

    /// Whether everything that was read whole is durable.
    pub(super) fn is_settled(&mut self) -> bool {
        self.durable();
        self.staged.is_empty() && self.pending.is_empty()
    }

    /// Whether this change needs a row of the engine, so that all transactions before it have to be visible.
    pub(super) fn needs_engine_row(&self, change: &Change) -> bool {
        match change {
            Change::Update { new, old, .. } => {
                new.contains(&Cell::Unchanged) && !matches!(old, Some(OldTuple::Full(_)))
            }
            _ => false,
        }
    }

    /// Whether so much is staged that it has to be submitted before more is read.
    pub(super) fn is_full(&self) -> bool {
        self.staged.len() >= STAGED_COUNT_MAX || self.staged_bytes >= STAGED_BYTES_MAX
    }

    pub(super) fn take_staged(&mut self) -> Vec<Staged> {
        self.staged_bytes = 0;
        std::mem::take(&mut self.staged)
    }

    /// Notes that the transaction that ends there was submitted.
    pub(super) fn submitted(&mut self, seq: u64, end: PgLsn) {
        self.submitted_seq = seq;
        self.pending.push_back((seq, end));
    }

    /// Notes that the server has sent everything before this. Within a transaction that says nothing.
    pub(super) fn advance(&mut self, wal_end: PgLsn) {
        if self.open.is_none() {
            self.position = self.position.max(wal_end);
        }
    }

    /// Stages a transaction that holds nothing but the position that was reached, so that the server can forget what
    /// it logged for others.
    pub(super) fn stage_position(&mut self) {
        let staged_end = self.staged.last().map(|staged| staged.end);
        let pending_end = self.pending.back().map(|&(_, end)| end);
        let held = staged_end.or(pending_end).unwrap_or(self.durable);
        if self.open.is_none() && self.position > held {
            self.stage(self.database.begin(), self.position, 0, 0);
        }
    }

    fn stage(&mut self, mut transaction: Transaction, end: PgLsn, row_count: u64, size_bytes: u64) {
        transaction.set_origin(Origin {
            source: self.source_name.clone(),
            position: end.to_string(),
        });
        self.staged_bytes += size_bytes;
        self.staged.push(Staged {
            transaction,
            end,
            row_count,
            size_bytes,
        });
    }

    /// Takes in one change, which took that many bytes.
    pub(super) fn apply(&mut self, change: Change, size_bytes: u64) -> Result<(), SourceError> {
        match change {
            Change::Begin { final_lsn } => {
                // Before a restart the server may repeat what the engine holds already.
                let transaction = (final_lsn >= self.start).then(|| self.database.begin());
                self.open = Some(Open {
                    final_lsn,
                    transaction,
                    row_count: 0,
                    size_bytes: 0,
                });
                Ok(())
            }
            Change::Commit { end_lsn } => self.commit(end_lsn),
            Change::Relation(relation) => self.relation(relation),
            Change::Other => Ok(()),
            change => self.apply_rows(change, size_bytes),
        }
    }

    fn apply_rows(&mut self, change: Change, size_bytes: u64) -> Result<(), SourceError> {
        let Some(open) = &mut self.open else {
            return Err(record(
                "replication stream",
                "a change outside of a transaction",
            ));
        };
        let lsn = open.final_lsn;
        open.size_bytes += size_bytes;
        let Some(transaction) = &mut open.transaction else {
            return Ok(());
        };
        let find = |relation_id: u32| match self.relations.get(&relation_id) {
            Some(table) => Ok(table.as_deref()),
            None => Err(record(
                &format!("LSN {lsn}"),
                "a change of a table that was not described",
            )),
        };
        let relation_id = match &change {
            Change::Insert { relation_id, .. }
            | Change::Update { relation_id, .. }
            | Change::Delete { relation_id, .. } => *relation_id,
            Change::Truncate { relation_ids } => {
                for &relation_id in relation_ids {
                    if let Some(table) = find(relation_id)? {
                        transaction.truncate(&table.engine)?;
                        open.row_count += 1;
                    }
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        let Some(table) = find(relation_id)? else {
            return Ok(());
        };
        open.row_count += 1;
        let mut target = Target {
            table,
            lsn,
            transaction,
        };
        match change {
            Change::Insert { new, .. } => target.insert(&new),
            Change::Update { old, new, .. } => target.update(old.as_ref(), &new),
            Change::Delete { old, .. } => target.delete(&old),
            _ => Ok(()),
        }
    }

    fn commit(&mut self, end_lsn: PgLsn) -> Result<(), SourceError> {
        let Some(open) = self.open.take() else {
            return Err(record(
                &format!("LSN {end_lsn}"),
                "the end of a transaction that did not begin",
            ));
        };
        self.position = self.position.max(end_lsn);
        if let Some(transaction) = open.transaction
            && open.row_count > 0
        {
            self.stage(transaction, end_lsn, open.row_count, open.size_bytes);
        }
        Ok(())
    }

    fn relation(&mut self, relation: Relation) -> Result<(), SourceError> {
        let name = (relation.schema.clone(), relation.table.clone());
        let table = self.tables.get(&name).cloned();
        if let Some(table) = &table
            && let Err(reason) = table.source.check_relation(&relation)
        {
            let lsn = self
                .open
                .as_ref()
                .map_or(self.position, |open| open.final_lsn);
            let place = format!("table '{}', LSN {lsn}", table.source.full_name());
            return Err(record(
                &place,
                &format!("{reason}; a table that changes its shape can't be followed"),
            ));
        }
        self.relations.insert(relation.id, table);
        Ok(())
    }
}

fn record(place: &str, reason: &str) -> SourceError {
    SourceError::Record {
        place: place.to_owned(),
        reason: reason.to_owned(),
    }
}

/// The table and the engine transaction that a row change goes to.
struct Target<'a> {
    table: &'a MirroredTable,
    lsn: PgLsn,
    transaction: &'a mut Transaction,
}

impl Target<'_> {
    fn insert(&mut self, new: &Tuple) -> Result<(), SourceError> {
        let row = self
            .decode(new)?
            .into_iter()
            .map(|value| self.present(value))
            .collect::<Result<Row, _>>()?;
        self.upsert(row)
    }

    fn update(&mut self, old: Option<&OldTuple>, new: &Tuple) -> Result<(), SourceError> {
        let mut new = self.decode(new)?;
        let old_values = match old {
            Some(old) => Some(self.decode(old.tuple())?),
            None => None,
        };
        if let Some(old_values) = &old_values {
            let is_full = matches!(old, Some(OldTuple::Full(_)));
            for (position, (value, old_value)) in new.iter_mut().zip(old_values).enumerate() {
                if value.is_none() && (is_full || self.table.source.key.contains(&position)) {
                    value.clone_from(old_value);
                }
            }
        }
        let new_key = self.key(&new)?;
        let old_key = match &old_values {
            Some(old_values) => self.key(old_values)?,
            None => new_key.clone(),
        };
        if new.contains(&None) {
            self.fill_from_engine(&mut new, &old_key)?;
        }
        if old_key != new_key {
            self.transaction.delete(&self.table.engine, &old_key)?;
        }
        let row = new
            .into_iter()
            .map(|value| self.present(value))
            .collect::<Result<Row, _>>()?;
        self.upsert(row)
    }

    fn delete(&mut self, old: &OldTuple) -> Result<(), SourceError> {
        let values = self.decode(old.tuple())?;
        let key = self.key(&values)?;
        self.transaction.delete(&self.table.engine, &key)?;
        Ok(())
    }

    /// Fills in the values that the server left out as unchanged.
    fn fill_from_engine(
        &mut self,
        new: &mut [Option<Value>],
        old_key: &[Value],
    ) -> Result<(), SourceError> {
        let Some(held) = self.transaction.get(&self.table.engine, old_key)? else {
            return Err(self.record(format!(
                "an update of the row of key {old_key:?}, which is not in the mirror"
            )));
        };
        for (value, held) in new.iter_mut().zip(held) {
            value.get_or_insert(held);
        }
        Ok(())
    }

    fn upsert(&mut self, row: Row) -> Result<(), SourceError> {
        match moonshine_engine::check_row(self.table.engine.schema(), &row) {
            Ok(()) => Ok(self.transaction.upsert(&self.table.engine, row)?),
            Err(error) => Err(self.record(error.to_string())),
        }
    }

    /// One value a column; `None` where the server left it out as unchanged.
    fn decode(&self, tuple: &Tuple) -> Result<Vec<Option<Value>>, SourceError> {
        let columns = &self.table.source.columns;
        if tuple.len() != columns.len() {
            return Err(self.record(format!(
                "a row of {} values for {} columns",
                tuple.len(),
                columns.len()
            )));
        }
        columns
            .iter()
            .zip(tuple)
            .map(|(column, cell)| self.decode_cell(column, cell))
            .collect()
    }

    fn decode_cell(
        &self,
        column: &SourceColumn,
        cell: &Cell,
    ) -> Result<Option<Value>, SourceError> {
        let decoded = match cell {
            Cell::Null => Ok(Value::Null),
            Cell::Unchanged => return Ok(None),
            Cell::Text(bytes) => column.pg_type.decode_text(bytes),
            Cell::Binary(bytes) => column.pg_type.decode_binary(bytes),
        };
        decoded
            .map(Some)
            .map_err(|reason| self.record(format!("column '{}': {reason}", column.name)))
    }

    fn key(&self, values: &[Option<Value>]) -> Result<Vec<Value>, SourceError> {
        let value = |&position: &usize| self.present(values.get(position).cloned().flatten());
        self.table.source.key.iter().map(value).collect()
    }

    fn present(&self, value: Option<Value>) -> Result<Value, SourceError> {
        value.ok_or_else(|| {
            self.record("the server left out a value that is not known from before".to_owned())
        })
    }

    fn record(&self, reason: String) -> SourceError {
        SourceError::Record {
            place: format!(
                "table '{}', LSN {}",
                self.table.source.full_name(),
                self.lsn
            ),
            reason,
        }
    }
}
