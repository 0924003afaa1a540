//! What was written: the state of each table as of each commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use moonshine_engine::{ColumnType, SchemaChange, Table, Value};
use moonshine_sim::lake::Random;
use moonshine_sim::replay::{Rows, SnapshotRows, Value as Replayed};

/// A row by field ids; a column that is missing has its default.
type Row = BTreeMap<i32, Replayed>;
type State = Arc<BTreeMap<i64, Row>>;

const KEYS: u64 = 40;
/// The column of the key.
pub(crate) const KEY: i32 = 1;

/// One table.
#[derive(Clone, Debug)]
pub(crate) struct TableModel {
    pub(crate) name: String,
    pub(crate) states: BTreeMap<u64, State>,
    /// What rows have that were written before the column came.
    defaults: BTreeMap<i32, Replayed>,
}

/// What one transaction does to a table.
pub(crate) enum Write {
    Upsert(Vec<Value>),
    Delete(i64),
}

fn replayed(value: &Value) -> Replayed {
    match value {
        Value::Null => Replayed::Null,
        Value::Int64(number) => Replayed::Long(*number),
        Value::Utf8(text) => Replayed::String(text.clone()),
        other => panic!("{other:?}"),
    }
}

impl TableModel {
    pub(crate) fn new(name: &str) -> Self {
        TableModel {
            name: name.to_owned(),
            states: BTreeMap::new(),
            defaults: BTreeMap::new(),
        }
    }

    pub(crate) fn at(&self, seq: u64) -> State {
        let mut states = self.states.range(..=seq);
        states
            .next_back()
            .map(|(_, state)| state.clone())
            .unwrap_or_default()
    }

    pub(crate) fn newest(&self) -> State {
        self.at(u64::MAX)
    }

    /// The keys and rows of one transaction.
    pub(crate) fn draw(&self, table: &Table, random: &mut Random) -> Vec<Write> {
        let mut keys: Vec<i64> = (0..random.below(14))
            .map(|_| random.below(KEYS) as i64)
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let write = |key: i64| {
            if random.below(4) == 0 {
                return Write::Delete(key);
            }
            let value =
                |column: &moonshine_engine::Column| match (column.field_id, &column.column_type) {
                    (KEY, _) => Value::Int64(key),
                    _ if random.below(6) == 0 => Value::Null,
                    (_, ColumnType::Int64) => Value::Int64(random.below(60) as i64 - 30),
                    _ => Value::Utf8(format!("{:x}", random.next() >> (random.below(50)))),
                };
            Write::Upsert(table.schema().columns().iter().map(value).collect())
        };
        keys.into_iter().map(write).collect()
    }

    pub(crate) fn commit(&mut self, table: &Table, seq: u64, writes: &[Write]) {
        let mut state = (*self.newest()).clone();
        for write in writes {
            match write {
                Write::Delete(key) => drop(state.remove(key)),
                Write::Upsert(row) => {
                    let Value::Int64(key) = row[0] else {
                        panic!("{row:?}")
                    };
                    let columns = table.schema().columns().iter();
                    let row = columns
                        .zip(row)
                        .map(|(column, value)| (column.field_id, replayed(value)));
                    state.insert(key, row.collect());
                }
            }
        }
        self.states.insert(seq, Arc::new(state));
    }

    /// A change of columns that the table can take.
    pub(crate) fn draw_change(
        &self,
        table: &Table,
        random: &mut Random,
        has_defaults: bool,
    ) -> SchemaChange {
        let columns = table.schema().columns();
        let number = random.next() % 1_000_000;
        match random.below(3) {
            0 if columns.len() > 3 => SchemaChange::DropColumn {
                name: columns[columns.len() - 1].name.clone(),
            },
            1 if columns.len() > 3 => SchemaChange::RenameColumn {
                name: columns[columns.len() - 1].name.clone(),
                new_name: format!("renamed_{number}"),
            },
            _ => SchemaChange::AddColumn {
                name: format!("added_{number}"),
                column_type: ColumnType::Int64,
                nullable: true,
                default: (has_defaults && random.below(2) == 0)
                    .then_some(Value::Int64(number as i64)),
            },
        }
    }

    /// Takes note of the columns after a change.
    pub(crate) fn change(&mut self, table: &Table, change: &SchemaChange) {
        if let SchemaChange::AddColumn { name, default, .. } = change {
            let mut columns = table.schema().columns().iter();
            let column = columns.find(|column| column.name == *name).unwrap();
            let default = default.as_ref().map_or(Replayed::Null, replayed);
            self.defaults.insert(column.field_id, default);
        }
    }

    /// The rows that a snapshot holds that says it is of this commit.
    pub(crate) fn expected(&self, seq: u64, snapshot: &SnapshotRows) -> Rows {
        let state = self.at(seq);
        let row = |row: &Row| {
            let value = |field: &moonshine_sim::replay::Field| {
                let value = row.get(&field.id).or_else(|| self.defaults.get(&field.id));
                value.cloned().unwrap_or(Replayed::Null)
            };
            snapshot.schema.fields.iter().map(value).collect()
        };
        state
            .iter()
            .map(|(key, values)| (vec![Replayed::Long(*key)], row(values)))
            .collect()
    }
}
