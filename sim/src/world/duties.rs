//! What a client does beside transactions and reading: bulk loads, changes of columns, backups, looking at figures.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moonshine_engine::io::Io;
use moonshine_engine::{ColumnType, Database, Error, SchemaChange, TableSchema};

use super::acknowledged::note;
use super::client::Client;
use super::outcome::{Step, Stop};
use super::process::{contents, options, tables};
use super::writes::bytes_of;
use crate::model::attempt::End;
use crate::model::observation::{Observation, Order, Seen};
use crate::model::rows::StoredRow;
use crate::model::state::{Effect, KeyRange};
use crate::model::tables::{PEOPLE, TABLE_COUNT, row, value};
use crate::random::Stream;

impl Client {
    pub(super) fn load(&mut self, number: usize, stream: &mut Stream) -> Step {
        let table = stream.below(TABLE_COUNT as u64) as usize;
        let begun = self.process.database.bulk_load(&self.tables[table]);
        let mut load = self.expect_current(number, "a bulk load", begun)?;
        let schema = self.tables[table].schema().clone();
        let mut effects = Vec::new();
        for _ in 0..stream.between(1, self.process.config.load_row_count_max) {
            let k = stream.below(self.process.config.key_count);
            let row = row(&schema, table, k, stream.next());
            effects.push(Effect::Put {
                table,
                key: bytes_of(table, k),
                row: StoredRow::new(&schema, &row),
                must_be_new: false,
            });
            self.expect_current(number, "a row of a bulk load", load.upsert(row))?;
        }
        let mut attempt = self.attempt(number, effects);
        // A place that the tree did not take leaves an empty delta behind.
        attempt.spare_seqs = 2;
        match load.finish() {
            Err(error @ Error::SchemaChanged { .. }) => {
                attempt.end = End::Nothing;
                self.attempts.push(attempt);
                self.expect_current(number, "a bulk load", Err(error))
            }
            answer => self.note_end(attempt, true, answer),
        }
    }

    pub(super) fn alter(&mut self, number: usize, stream: &mut Stream) -> Step {
        let schema = self.tables[PEOPLE].schema().clone();
        let lake = self.process.config.lake.as_ref();
        let has_defaults = lake.is_none_or(|lake| !lake.is_format_2);
        let change = draw_change(number, &schema, has_defaults, stream);
        let altered = self
            .process
            .database
            .alter_table(&self.tables[PEOPLE], &[change]);
        self.process.say(format!(
            "operation {number}: {:?}",
            altered.as_ref().map(|table| table.schema().version())
        ));
        self.tables[PEOPLE] = self.expect_current(number, "a change of columns", altered)?;
        let schema = self.tables[PEOPLE].schema().clone();
        let version = schema.version();
        self.process.altered.lock().push((PEOPLE, schema));
        note(&self.process.acknowledged.schema_version, version.into());
        Ok(())
    }

    pub(super) fn backup(&mut self, number: usize) -> Step {
        // A crash may have left a part of another one.
        let files = self.process.disk.disk().files();
        let is_free = |folder: &PathBuf| !files.iter().any(|(path, _)| path.starts_with(folder));
        let mut folders = (0..).map(|at| PathBuf::from(format!("/backup-{number}-{at}")));
        let Some(folder) = folders.find(is_free) else {
            return Ok(());
        };
        let made = self.process.database.backup(&folder);
        let backup = self.process.expect(number, "a backup", made)?;
        let copied = self.read_copy(number, &folder, backup.commit_seq);
        let disk = self.process.disk.disk();
        for (path, _) in disk.files() {
            if path.starts_with(&folder) && !self.process.disk.is_dead() {
                // A file that a faulty disk does not remove does no harm.
                let removed = self.process.disk.remove(&path);
                if removed.is_err() && self.process.disk.is_dead() {
                    return Err(Stop::Dead);
                }
            }
        }
        copied
    }

    fn read_copy(&mut self, number: usize, folder: &Path, commit_seq: u64) -> Step {
        let process = self.process.clone();
        let options = options(&process.config, Arc::new(process.disk.clone()));
        let opened = Database::open_read_only(folder, options);
        let copy = process.expect(number, "a start of a backup", opened)?;
        let snapshot = copy.snapshot();
        if snapshot.seq() != commit_seq {
            let seq = snapshot.seq();
            return Err(Stop::violation(
                "same",
                number,
                format!("a backup of commit sequence {commit_seq} is at {seq}"),
            ));
        }
        let read = contents(&snapshot, &tables(&copy, &process.config));
        let read = process.expect(number, "reading a backup", read)?;
        for (table, (schema, rows)) in read.into_iter().enumerate() {
            self.observations.push(Observation {
                operation: number,
                seq: commit_seq,
                table,
                schema,
                own: Vec::new(),
                seen: Seen::Scan {
                    range: KeyRange::ALL,
                    order: Order::Ascending,
                    is_whole: true,
                    rows,
                },
            });
        }
        Ok(())
    }

    /// *Bounded*: what counts as used lies within the budget, but for one generation and what is being built.
    pub(super) fn figures(&mut self, number: usize) -> Step {
        let statistics = self.process.database.statistics();
        let config = &self.process.config;
        let (used_bytes, _) = self.process.database.memory_used_bytes();
        let slack_bytes = 4 * config.generation_size_bytes_max + (64 << 10);
        if used_bytes > config.memory_budget_bytes + slack_bytes {
            let budget_bytes = statistics.memory.budget_bytes;
            return Err(Stop::violation(
                "bounded",
                number,
                format!("{used_bytes} bytes of deltas in memory, of {budget_bytes}"),
            ));
        }
        Ok(())
    }
}

fn draw_change(
    number: usize,
    schema: &TableSchema,
    has_defaults: bool,
    stream: &mut Stream,
) -> SchemaChange {
    let others = schema.columns().iter().enumerate();
    let others: Vec<_> = others
        .filter(|(position, _)| !schema.is_key(*position))
        .map(|(_, column)| column)
        .collect();
    let narrow = others
        .iter()
        .find(|column| matches!(column.column_type, ColumnType::Int32 | ColumnType::Float32));
    match (stream.below(5), narrow) {
        (0, Some(narrow)) => SchemaChange::WidenColumn {
            name: narrow.name.clone(),
            column_type: match narrow.column_type {
                ColumnType::Int32 => ColumnType::Int64,
                _ => ColumnType::Float64,
            },
        },
        (1, _) if others.len() > 1 => SchemaChange::DropColumn {
            name: stream.pick(&others).name.clone(),
        },
        (2, _) if !others.is_empty() => SchemaChange::RenameColumn {
            name: stream.pick(&others).name.clone(),
            new_name: format!("renamed {number}"),
        },
        (3, _) => SchemaChange::CommentTable {
            comment: Some(format!("as of {number}")),
        },
        _ => {
            let column_type = stream.pick(&[
                ColumnType::Int32,
                ColumnType::Float32,
                ColumnType::Utf8,
                ColumnType::Binary,
                ColumnType::Boolean,
            ]);
            let default = stream.chance(500).then(|| value(column_type, stream));
            let default = default.filter(|_| has_defaults);
            SchemaChange::AddColumn {
                name: format!("added {number}"),
                column_type,
                nullable: default.is_none() || stream.chance(500),
                default,
            }
        }
    }
}
