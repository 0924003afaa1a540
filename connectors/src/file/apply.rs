//! Lines as transactions of the engine.

use std::sync::Arc;

use moonshine_engine::{Database, Origin, Row, Table, Transaction, Value};

use super::config::FileConfig;
use super::event::{self, Change, Line, Op, unwrap_key};
use super::plan::{DecodedRow, key_of};
use super::position::Position;
use super::tables::{Reading, Tables};
use crate::{Progress, SourceError};

/// Most events of no source transaction that form one engine transaction.
const BATCH_ROWS_MAX: u64 = 4096;
/// Most bytes of lines of them.
const BATCH_BYTES_MAX: u64 = 4 << 20;

/// Why a line could not be applied.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It can't be read, so it isn't known which transaction it belongs to.
    Unreadable(String),
    /// It doesn't fit.
    Misfit(String),
    /// The engine takes no more.
    Engine(moonshine_engine::Error),
}

impl From<moonshine_engine::Error> for Refusal {
    fn from(error: moonshine_engine::Error) -> Self {
        match error {
            moonshine_engine::Error::Row(reason) | moonshine_engine::Error::Schema(reason) => {
                Refusal::Misfit(reason)
            }
            error => Refusal::Engine(error),
        }
    }
}

/// Collects the changes of consecutive lines into transactions and submits these.
#[derive(Debug)]
pub(super) struct Applier {
    database: Database,
    source_name: String,
    tables: Tables,
    open: Option<Open>,
    /// The newest commit sequence that was submitted.
    submitted_seq: Option<u64>,
    /// The table of the line before, if that was a delete.
    deleted_from: Option<Arc<str>>,
    progress: Arc<Progress>,
}

/// The transaction that lines are being added to.
#[derive(Debug)]
struct Open {
    /// The source transaction it is; `None`: a batch of events of none.
    id: Option<String>,
    transaction: Transaction,
    /// After the last line in it.
    end: Position,
    row_count: u64,
    line_bytes: u64,
}

/// What a change event does to its table.
enum Write {
    Upsert {
        decoded: DecodedRow,
        old_key: Option<Vec<Value>>,
    },
    Delete(Vec<Value>),
    Truncate,
}

impl Applier {
    /// `position`: where the lines go on.
    pub(super) fn open(
        database: &Database,
        source_name: &str,
        config: &FileConfig,
        position: &Position,
        progress: Arc<Progress>,
    ) -> Result<Self, SourceError> {
        Ok(Applier {
            database: database.clone(),
            source_name: source_name.to_owned(),
            tables: Tables::open(database, config)?,
            open: None,
            submitted_seq: None,
            deleted_from: position.deleted_from.clone(),
            progress,
        })
    }

    /// Adds a line; `end` is the position after it. A line takes effect whole or, on an error, not at all.
    pub(super) fn apply(&mut self, line: &[u8], end: &Position) -> Result<(), Refusal> {
        let line_bytes = line.len() as u64;
        match event::parse(line, self.tables.schemas()).map_err(Refusal::Unreadable)? {
            Line::Nothing => {
                self.extend(end, 0, line_bytes, None);
                Ok(())
            }
            Line::Tombstone(raw_key) => {
                let deleted_from = self.deleted_from.as_deref();
                let target = self
                    .tables
                    .tombstone(raw_key, deleted_from)
                    .map_err(Refusal::Misfit)?;
                if let Some((table, key)) = target {
                    // A tombstone names no transaction: it belongs to the one of the delete before it.
                    let id = self.open.as_ref().and_then(|open| open.id.clone());
                    self.enter(id.as_deref(), end)?
                        .transaction
                        .delete(&table, &key)?;
                }
                self.extend(end, 1, line_bytes, None);
                self.close_full_batch()
            }
            Line::Change(change) => {
                let id = if change.op == Op::Read {
                    None
                } else {
                    change.transaction.as_deref()
                };
                self.enter(id, end)?;
                let deleted_from = self.change(&change)?;
                self.extend(end, 1, line_bytes, deleted_from);
                self.close_full_batch()
            }
        }
    }

    /// Whether the line is an event of the source transaction that is open.
    pub(super) fn goes_on_with(&self, line: &[u8]) -> bool {
        let Some(id) = self.open.as_ref().and_then(|open| open.id.as_deref()) else {
            return false;
        };
        matches!(event::parse(line, std::iter::empty()), Ok(Line::Change(change)) if change.transaction.as_deref() == Some(id))
    }

    /// Whether events of a source transaction are open, so that its end is not known yet.
    pub(super) fn is_in_source_transaction(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.id.is_some())
    }

    /// Submits what is open.
    pub(super) fn close(&mut self) -> Result<(), moonshine_engine::Error> {
        let Some(mut open) = self.open.take().filter(|open| !open.transaction.is_empty()) else {
            return Ok(());
        };
        let position = open.end.to_text().map_err(moonshine_engine::Error::Usage)?;
        open.transaction.set_origin(Origin {
            source: self.source_name.clone(),
            position,
        });
        self.submitted_seq = Some(open.transaction.submit()?.seq());
        self.progress
            .count_transaction(open.row_count, open.line_bytes);
        Ok(())
    }

    /// Forgets what is open.
    pub(super) fn drop_open(&mut self) {
        self.open = None;
    }

    /// Waits until all that was submitted is durable.
    pub(super) fn wait_durable(&self) -> Result<(), moonshine_engine::Error> {
        self.submitted_seq
            .map_or(Ok(()), |seq| self.database.wait_durable(seq))
    }

    /// The open transaction, if it is the one of that id; otherwise closes it and begins another.
    fn enter(&mut self, id: Option<&str>, end: &Position) -> Result<&mut Open, Refusal> {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.id.as_deref() != id)
        {
            self.close().map_err(Refusal::Engine)?;
        }
        Ok(self.open.get_or_insert_with(|| Open {
            id: id.map(str::to_owned),
            transaction: self.database.begin(),
            end: end.clone(),
            row_count: 0,
            line_bytes: 0,
        }))
    }

    /// Counts a line into the open transaction.
    fn extend(
        &mut self,
        end: &Position,
        row_count: u64,
        line_bytes: u64,
        deleted_from: Option<Arc<str>>,
    ) {
        if let Some(open) = &mut self.open {
            open.end = Position {
                deleted_from: deleted_from.clone(),
                ..end.clone()
            };
            open.row_count += row_count;
            open.line_bytes += line_bytes;
        }
        self.deleted_from = deleted_from;
    }

    fn close_full_batch(&mut self) -> Result<(), Refusal> {
        let is_full =
            |open: &Open| open.row_count >= BATCH_ROWS_MAX || open.line_bytes >= BATCH_BYTES_MAX;
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.id.is_none() && is_full(open))
        {
            self.close().map_err(Refusal::Engine)?;
        }
        Ok(())
    }

    /// Writes a change into the open transaction. Returns the table's name if it was a delete.
    fn change(&mut self, change: &Change<'_>) -> Result<Option<Arc<str>>, Refusal> {
        let Some(index) = self
            .tables
            .find(change.source.as_ref())
            .map_err(Refusal::Misfit)?
        else {
            return Ok(None);
        };
        let reading = self
            .tables
            .reading(index, change.schema)
            .map_err(Refusal::Misfit)?;
        let name = self.tables.name(index);
        let in_table =
            |reason| Refusal::Misfit(format!("table '{}': {reason}", reading.table.name()));
        let mut write = decode(change, &reading).map_err(in_table)?;
        if let Write::Upsert { decoded, old_key } = &mut write
            && !decoded.unchanged.is_empty()
        {
            self.fill_unchanged(&reading.table, decoded, old_key.as_deref())?;
        }
        let Some(Open { transaction, .. }) = &mut self.open else {
            return Ok(None);
        };
        match write {
            Write::Upsert { decoded, old_key } => {
                transaction.upsert(&reading.table, decoded.row)?;
                if let Some(old_key) = old_key {
                    transaction.delete(&reading.table, &old_key)?;
                }
                Ok(None)
            }
            Write::Delete(key) => {
                transaction.delete(&reading.table, &key)?;
                Ok(name)
            }
            Write::Truncate => {
                transaction.truncate(&reading.table)?;
                Ok(None)
            }
        }
    }

    /// Takes the columns that the event leaves out as unchanged from the row that is there.
    fn fill_unchanged(
        &mut self,
        table: &Table,
        decoded: &mut DecodedRow,
        old_key: Option<&[Value]>,
    ) -> Result<(), Refusal> {
        let schema = table.schema();
        let key = match old_key {
            Some(key) => key.to_vec(),
            None => key_of(&decoded.row, schema).map_err(Refusal::Misfit)?,
        };
        self.wait_durable().map_err(Refusal::Engine)?;
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let stored: Option<Row> = open.transaction.get(table, &key)?;
        let Some(mut stored) = stored else {
            let columns = decoded
                .unchanged
                .iter()
                .filter_map(|&position| schema.columns().get(position));
            let names: Vec<&str> = columns.map(|column| column.name.as_str()).collect();
            return Err(Refusal::Misfit(format!(
                "table '{}': the event leaves out [{}] as unchanged, but there is no row of its key to take it from",
                table.name(),
                names.join(", ")
            )));
        };
        for &position in &decoded.unchanged {
            if let (Some(target), Some(value)) =
                (decoded.row.get_mut(position), stored.get_mut(position))
            {
                *target = std::mem::replace(value, Value::Null);
            }
        }
        Ok(())
    }
}

fn decode(change: &Change<'_>, reading: &Reading) -> Result<Write, String> {
    let Reading { table, plan } = reading;
    let schema = table.schema();
    match change.op {
        Op::Create | Op::Read | Op::Update => {
            let after = change.after.ok_or("the event has no 'after'")?;
            let decoded = plan.row(after, schema)?;
            let mut old_key = None;
            if let (Op::Update, Some(before)) = (change.op, change.before) {
                let key = plan
                    .key(before, schema)
                    .map_err(|reason| format!("before: {reason}"))?;
                let is_same = schema
                    .primary_key()
                    .iter()
                    .zip(&key)
                    .all(|(&at, value)| decoded.row.get(at) == Some(value));
                old_key = (!is_same).then_some(key);
            }
            Ok(Write::Upsert { decoded, old_key })
        }
        Op::Delete => match (change.before, change.key) {
            (Some(before), _) => Ok(Write::Delete(plan.key(before, schema)?)),
            (None, Some(key)) => Ok(Write::Delete(plan.key(unwrap_key(key).1, schema)?)),
            (None, None) => Err("the event is a delete and has neither 'before' nor a key".into()),
        },
        Op::Truncate => Ok(Write::Truncate),
    }
}
