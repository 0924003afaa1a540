//! The configured tables: which event belongs to which, and how its rows are read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use moonshine_engine::{Database, Table, TableSchema, Value};
use serde_json::value::RawValue;

use super::config::{FileConfig, FileTable, OtherTables};
use super::connect;
use super::event::{SourceBlock, unwrap_key};
use super::plan::Plan;
use crate::SourceError;

/// Event schemas whose plans a table keeps. A stream has one a table, and another one after each change of the table.
const PLAN_COUNT_MAX: usize = 8;

/// The tables of a source.
#[derive(Debug)]
pub(super) struct Tables {
    database: Database,
    entries: Vec<Entry>,
    /// Index in `entries` by the name that events carry.
    by_source_name: HashMap<String, usize>,
    other_tables: OtherTables,
    scratch: String,
}

#[derive(Debug)]
struct Entry {
    config: FileTable,
    name: Arc<str>,
    /// The columns that the configuration declares.
    declared: Option<TableSchema>,
    /// The engine's table, once it is known what columns it has.
    table: Option<Table>,
    natural: Option<Arc<Plan>>,
    /// Plans by event schema text, the latest first.
    plans: Vec<(Box<str>, Arc<Plan>)>,
}

/// A table and how to read rows of it.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) table: Table,
    pub(super) plan: Arc<Plan>,
}

impl Tables {
    /// Makes the tables whose columns are declared and finds those that the database has already.
    pub(super) fn open(database: &Database, config: &FileConfig) -> Result<Self, SourceError> {
        let mut entries = Vec::with_capacity(config.tables.len());
        let mut by_source_name = HashMap::new();
        for (index, table) in config.tables.iter().enumerate() {
            let declared = table.declared_schema().map_err(SourceError::Config)?;
            by_source_name.insert(table.matched_name().to_owned(), index);
            let existing = match &declared {
                Some(schema) => Some(
                    database
                        .create_table(schema.clone())
                        .map_err(|error| mismatch(&error))?,
                ),
                None => database.table(&table.name),
            };
            if let Some(existing) = &existing {
                check_key(table, existing.schema())?;
            }
            let natural = declared
                .as_ref()
                .map(|schema| Arc::new(Plan::natural(schema)));
            let name = table.name.as_str().into();
            entries.push(Entry {
                config: table.clone(),
                name,
                declared,
                table: existing,
                natural,
                plans: Vec::new(),
            });
        }
        let other_tables = config.other_tables;
        Ok(Tables {
            database: database.clone(),
            entries,
            by_source_name,
            other_tables,
            scratch: String::new(),
        })
    }

    /// The table of an event; `None` if the event is to be left out.
    pub(super) fn find(
        &mut self,
        source: Option<&SourceBlock<'_>>,
    ) -> Result<Option<usize>, String> {
        let Some((block, table_name)) = source.and_then(|block| Some((block, block.table()?)))
        else {
            return match self.entries.len() {
                1 => Ok(Some(0)),
                _ => Err("the event doesn't name its table ('source' with 'table'), and several are configured".into()),
            };
        };
        let (db, schema) = (block.db(), block.schema());
        let full = (db.as_deref(), schema.as_deref());
        for (outer, inner) in [(None, full.1), (None, full.0), full] {
            self.scratch.clear();
            if let Some(outer) = outer {
                let _ = write!(self.scratch, "{outer}.");
            }
            let Some(inner) = inner else { continue };
            let _ = write!(self.scratch, "{inner}.{table_name}");
            if let Some(&index) = self.by_source_name.get(self.scratch.as_str()) {
                return Ok(Some(index));
            }
        }
        if let Some(&index) = self.by_source_name.get(table_name.as_ref()) {
            return Ok(Some(index));
        }
        if self.other_tables == OtherTables::Skip {
            return Ok(None);
        }
        let namespace = schema.or(db).unwrap_or(Cow::Borrowed("?"));
        Err(format!(
            "an event of table '{namespace}.{table_name}', which is not configured; add it to tables, or set \
             other_tables: skip"
        ))
    }

    /// How to read an event of that table; the first event with a schema makes the table if it isn't there.
    pub(super) fn reading(
        &mut self,
        index: usize,
        raw_schema: Option<&str>,
    ) -> Result<Reading, String> {
        let database = &self.database;
        let entry = self.entries.get_mut(index).ok_or("no such table")?;
        let Some(raw_schema) = raw_schema else {
            return match (&entry.table, &entry.natural) {
                (Some(table), Some(plan)) => Ok(Reading {
                    table: table.clone(),
                    plan: Arc::clone(plan),
                }),
                _ => Err(format!(
                    "the event carries no schema, so the columns of table '{}' have to be declared in the \
                     configuration, as in columns: {{ id: int64, note: string }}",
                    entry.name
                )),
            };
        };
        let known = entry
            .plans
            .iter()
            .position(|(text, _)| text.as_ref() == raw_schema);
        if let Some(at) = known {
            entry.plans.swap(0, at);
        } else {
            entry.add_plan(database, raw_schema)?;
        }
        match (&entry.table, entry.plans.first()) {
            (Some(table), Some((_, plan))) => Ok(Reading {
                table: table.clone(),
                plan: Arc::clone(plan),
            }),
            _ => Err(format!("table '{}' could not be made", entry.name)),
        }
    }

    /// The schemas that the latest events of each table carried.
    pub(super) fn schemas(&self) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .filter_map(|entry| entry.plans.first().map(|(text, _)| text.as_ref()))
    }

    /// The table's name.
    pub(super) fn name(&self, index: usize) -> Option<Arc<str>> {
        self.entries.get(index).map(|entry| Arc::clone(&entry.name))
    }

    /// The table and key of a tombstone; `None` if the table has no rows yet or is to be left out.
    /// `deleted_from`: the table of the line before, if that was a delete.
    pub(super) fn tombstone(
        &self,
        raw_key: &RawValue,
        deleted_from: Option<&str>,
    ) -> Result<Option<(Table, Vec<Value>)>, String> {
        let (schema, key) = unwrap_key(raw_key);
        let named = schema.and_then(|schema| connect::key_table_name(schema.get()));
        let entry = match (named, self.entries.as_slice()) {
            (_, [only]) => only,
            (Some(name), _) => match self
                .by_source_name
                .get(&name)
                .and_then(|&index| self.entries.get(index))
            {
                Some(entry) => entry,
                None if self.other_tables == OtherTables::Skip => return Ok(None),
                None => {
                    return Err(format!(
                        "a tombstone of table '{name}', which is not configured"
                    ));
                }
            },
            (None, entries) => {
                let deleted = entries
                    .iter()
                    .find(|entry| Some(entry.name.as_ref()) == deleted_from);
                deleted.ok_or(
                    "a tombstone whose key has no schema, so it doesn't say which of the configured tables it is of",
                )?
            }
        };
        let Some(table) = &entry.table else {
            return Ok(None);
        };
        let plan = match schema {
            Some(schema) => {
                let fields =
                    connect::row_fields(schema.get()).map_err(|reason| format!("key {reason}"))?;
                Arc::new(Plan::of_fields(
                    &fields,
                    table.schema(),
                    entry.declared.is_some(),
                )?)
            }
            None => match (entry.plans.first(), &entry.natural) {
                (Some((_, plan)), _) | (None, Some(plan)) => Arc::clone(plan),
                (None, None) => Arc::new(Plan::natural(table.schema())),
            },
        };
        Ok(Some((table.clone(), plan.key(key, table.schema())?)))
    }
}

impl Entry {
    fn add_plan(&mut self, database: &Database, raw_schema: &str) -> Result<(), String> {
        let fields = connect::row_fields(raw_schema)?;
        let table = match &self.table {
            Some(table) => table.clone(),
            None => {
                let mut builder = TableSchema::builder(&self.config.name);
                for field in &fields {
                    let Some(decoder) = field.decoder else {
                        return Err(format!(
                            "field '{}' is of type {}, which no column can hold; declare the columns of table '{}' \
                             that are to be taken",
                            field.name, field.type_text, self.name
                        ));
                    };
                    builder = builder.column(&field.name, decoder.column_type, field.optional);
                }
                let schema = builder
                    .primary_key(&self.config.key)
                    .build()
                    .map_err(|error| error.to_string())?;
                database
                    .create_table(schema)
                    .map_err(|error| error.to_string())?
            }
        };
        let plan = Plan::of_fields(&fields, table.schema(), self.declared.is_some())
            .map_err(|reason| format!("table '{}': {reason}", self.name))?;
        self.table = Some(table);
        self.plans.insert(0, (raw_schema.into(), Arc::new(plan)));
        self.plans.truncate(PLAN_COUNT_MAX);
        Ok(())
    }
}

fn mismatch(error: &moonshine_engine::Error) -> SourceError {
    SourceError::Config(format!(
        "the declared columns don't agree with the database: {error}"
    ))
}

fn check_key(config: &FileTable, schema: &TableSchema) -> Result<(), SourceError> {
    let names: Vec<&str> = schema
        .key_columns()
        .map(|column| column.name.as_str())
        .collect();
    if names == config.key {
        return Ok(());
    }
    Err(SourceError::Config(format!(
        "table '{}': the configuration has key [{}], the database has it as [{}]",
        config.name,
        config.key.join(", "),
        names.join(", ")
    )))
}
