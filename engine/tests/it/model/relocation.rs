//! Relocations of exported rows, and the ids of rows, which neither an update nor a relocation changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use moonshine_engine::io::CrashStyle;
use moonshine_engine::{
    Database, Export, ExportFile, FileKeys, Placement, Relocation, Row, Table, Value,
};
use uuid::Uuid;

use super::{ExternalTable, Harness, Outcome};
use crate::reading::sort_key;

fn key_of(table: &Table, row: &Row) -> String {
    let key: Vec<Value> = table
        .schema()
        .primary_key()
        .iter()
        .map(|&position| row[position].clone())
        .collect();
    sort_key(&key)
}

/// The keys of rows, as a file of them would have these columns.
fn key_batch<'r>(rows: impl Iterator<Item = &'r Row> + Clone, table: &Table) -> RecordBatch {
    let column = |position: usize| -> ArrayRef {
        let values = rows.clone().map(|row| row[position].clone());
        match values.clone().next().unwrap() {
            Value::Utf8(_) => Arc::new(StringArray::from_iter_values(values.map(|v| match v {
                Value::Utf8(text) => text,
                other => panic!("{other:?}"),
            }))),
            Value::Binary(_) => Arc::new(BinaryArray::from_iter_values(values.map(|v| match v {
                Value::Binary(bytes) => bytes,
                other => panic!("{other:?}"),
            }))),
            Value::Int32(_) => Arc::new(Int32Array::from_iter_values(values.map(|v| match v {
                Value::Int32(number) => number,
                other => panic!("{other:?}"),
            }))),
            _ => Arc::new(Int64Array::from_iter_values(values.map(|v| match v {
                Value::Int64(number) => number,
                other => panic!("{other:?}"),
            }))),
        }
    };
    let schema = table.schema();
    let columns = schema.primary_key().iter().map(|&position| {
        let name = schema.columns()[position].name.clone();
        (name, column(position))
    });
    RecordBatch::try_from_iter(columns).unwrap()
}

impl ExternalTable {
    /// The rows of a new file have ids: those that they keep, and others that count on from the file's first.
    pub(super) fn place_ids(
        &mut self,
        path: &Arc<str>,
        row_count: usize,
        export_count: u128,
        first: u64,
        kept: &BTreeMap<u64, u64>,
    ) {
        let first_id = u64::try_from(export_count).unwrap() * 1000 + first;
        for position in 0..row_count as u64 {
            let placement = Placement {
                file: path.clone(),
                position,
            };
            let id = match kept.get(&(first + position)) {
                Some(id) => (*id, true),
                None => (first_id + position, false),
            };
            self.row_ids.insert(placement, id);
        }
    }
}

/// What a relocation moves.
struct Moves {
    files: Vec<String>,
    /// The rows of the new file, with whether each counts, its old placement and its id.
    rows: Vec<(Row, bool, Placement, u64)>,
}

impl Harness {
    /// Each row that replaces an exported one says where that lies, and which id it has; returns the ids to keep.
    pub(super) fn check_replaced(
        &self,
        t: usize,
        export: &Export,
        rows: &[Row],
    ) -> BTreeMap<u64, u64> {
        let external = &self.external[t];
        let mut expected = BTreeSet::new();
        let mut kept = BTreeMap::new();
        for replaced in export.replaced() {
            let replaced = replaced.unwrap();
            let Placement { file, position } = &replaced.placement;
            let old = &external.files[file][*position as usize];
            let new = &rows[replaced.row as usize];
            assert_eq!(key_of(&self.tables[t], old), key_of(&self.tables[t], new));
            let (id, is_outright) = external.row_ids[&replaced.placement];
            assert_eq!(replaced.row_id, is_outright.then_some(id));
            assert!(expected.insert(replaced.placement.clone()));
            kept.insert(replaced.row, id);
        }
        let removed: BTreeSet<_> = export.removed().iter().collect();
        assert!(expected.is_subset(&removed));
        // What is removed and not replaced is of keys that no new row has.
        let new_keys: BTreeSet<_> = rows
            .iter()
            .map(|row| key_of(&self.tables[t], row))
            .collect();
        for placement in removed.difference(&expected) {
            let old = &external.files[&placement.file][placement.position as usize];
            assert!(!new_keys.contains(&key_of(&self.tables[t], old)));
        }
        kept
    }

    /// Some of the files that have live rows, and their rows; dead ones too whose key does not count in these files.
    fn moves(&self, t: usize, seed: u64) -> Moves {
        let external = &self.external[t];
        let chosen = |i: usize| seed >> (i % 60) & 1 == 1;
        let lives = |placement: &Placement| !external.removed.contains(placement);
        let mut moves = Moves {
            files: Vec::new(),
            rows: Vec::new(),
        };
        for (i, (file, rows)) in external.files.iter().enumerate() {
            let placed: Vec<_> = (0..rows.len() as u64)
                .map(|position| Placement {
                    file: file.clone(),
                    position,
                })
                .collect();
            if !chosen(i) || !placed.iter().any(lives) {
                continue;
            }
            moves.files.push(file.to_string());
            for (row, placement) in rows.iter().zip(placed) {
                let id = external.row_ids[&placement].0;
                moves
                    .rows
                    .push((row.clone(), lives(&placement), placement, id));
            }
        }
        let live_keys: BTreeSet<_> = moves
            .rows
            .iter()
            .filter(|(_, lives, ..)| *lives)
            .map(|(row, ..)| key_of(&self.tables[t], row))
            .collect();
        let mut dead_keys = BTreeSet::new();
        moves.rows.retain(|(row, lives, ..)| {
            let key = key_of(&self.tables[t], row);
            *lives || (!live_keys.contains(&key) && dead_keys.insert(key))
        });
        moves
    }

    pub(super) fn relocate(&mut self, t: usize, outcome: Outcome, seed: u64) {
        let moves = self.moves(t, seed);
        if moves.files.is_empty() {
            return;
        }
        self.export_count += 1;
        let commit_id = Uuid::from_u128(self.export_count);
        let table = self.tables[t].clone();
        let database = self.database().clone();
        let begin =
            |database: &Database| database.begin_relocation(&table, commit_id, &moves.files);
        let mut relocation = begin(&database).unwrap();
        let snapshot = database.snapshot();
        drop(database.begin_export(&table, &snapshot).unwrap());
        for rows in moves.rows.chunks(3) {
            let keys = key_batch(rows.iter().map(|(row, ..)| row), &table);
            let ids: Vec<u64> = rows.iter().map(|(.., id)| *id).collect();
            relocation.add(&keys, Some(&ids)).unwrap();
        }
        let path: Arc<str> = format!("{:04}-moved", self.export_count).into();
        let file = ExportFile {
            path: path.to_string(),
            row_count: moves.rows.len() as u64,
        };
        let dead: Vec<u64> = (0..)
            .zip(&moves.rows)
            .filter(|(_, (_, lives, ..))| !lives)
            .map(|(position, _)| position)
            .collect();
        if !matches!(outcome, Outcome::DropUnprepared) {
            let found = relocation.prepare(&[file]).unwrap();
            let found: Vec<u64> = found.iter().map(|placement| placement.position).collect();
            assert_eq!(found, dead);
            assert!(database.begin_export(&table, &snapshot).is_err());
        }
        drop((snapshot, database));
        if self.end_relocation(t, relocation, commit_id, outcome) {
            let external = &mut self.external[t];
            for (position, (_, lives, old, id)) in (0..).zip(&moves.rows) {
                let placement = Placement {
                    file: path.clone(),
                    position,
                };
                external.row_ids.insert(placement.clone(), (*id, true));
                if !lives {
                    external.removed.insert(placement);
                }
                external.row_ids.remove(old);
            }
            external
                .files
                .retain(|file, _| !moves.files.contains(&file.to_string()));
            let rows = moves.rows.into_iter().map(|(row, ..)| row).collect();
            external.files.insert(path, rows);
            let exported = self.database().exported(&self.tables[t]).unwrap();
            assert_eq!(
                (exported.seq, exported.token),
                (self.exported[t], format!("token {commit_id}"))
            );
        }
    }

    /// Whether it counts.
    fn end_relocation(
        &mut self,
        t: usize,
        relocation: Relocation,
        commit_id: Uuid,
        outcome: Outcome,
    ) -> bool {
        match outcome {
            Outcome::Commit => {
                relocation.commit(format!("token {commit_id}")).unwrap();
                self.take_empty_delta();
                true
            }
            Outcome::Abort => {
                relocation.abort().unwrap();
                self.take_empty_delta();
                false
            }
            Outcome::DropUnprepared => false,
            Outcome::Crash(committed) => {
                self.io = self.io.crash(CrashStyle::LoseUnsynced);
                drop(relocation);
                // What was prepared is synced, and so is all before it.
                self.open(self.seq);
                self.settle(commit_id, committed);
                committed
            }
            Outcome::DropPrepared(committed) => {
                drop(relocation);
                let snapshot = self.database().snapshot();
                let table = &self.tables[t];
                assert!(self.database().begin_export(table, &snapshot).is_err());
                self.settle(commit_id, committed);
                committed
            }
        }
    }
}

/// The keys of files that hold an export's rows one after the other, or the other way round, so many each. Ids are by the
/// number of the row in the files.
pub(super) fn keys_of_files(
    export: &Export,
    batches: &[RecordBatch],
    is_reversed: bool,
    row_ids: &BTreeMap<u64, u64>,
    row_counts: &[usize],
) -> Vec<FileKeys> {
    let rows_of = |batch: &RecordBatch| {
        (0..batch.num_rows())
            .map(|row| batch.slice(row, 1))
            .collect::<Vec<_>>()
    };
    let mut rows: Vec<RecordBatch> = batches.iter().flat_map(rows_of).collect();
    if is_reversed {
        rows.reverse();
    }
    let mut numbered = (0..).zip(rows);
    let mut keys_of = |row_count: &usize| {
        let mut keys = export.file_keys();
        for (number, row) in numbered.by_ref().take(*row_count) {
            let id = row_ids.get(&number).map(|id| *id as i64);
            keys.add(&row, Some(&Int64Array::from(vec![id]))).unwrap();
        }
        keys
    };
    row_counts.iter().map(&mut keys_of).collect()
}
