//! Work beside the writers: transfers that meet each other, bulk loads, and a table whose columns change.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use moonshine_engine::{
    ColumnType, Isolation, Scan, SchemaChange, Table, TableSchema, Transaction, Value,
};
use moonshine_sim_runtime::Random;

use crate::content::text;
use crate::run::{Done, Run, Trouble, Work};
use crate::tables::ACCOUNTS;

/// Rows of a bulk load.
const LOAD_ROWS: i64 = 5000;
const LOAD_PAUSE: Duration = Duration::from_secs(3);
/// Rows of the table whose columns change.
const EVOLVING_KEYS: usize = 400;
/// Columns that such a table has at most.
const COLUMNS_MAX: usize = 4;
const CHANGE_PAUSE: Duration = Duration::from_millis(1500);

/// Transactions that read two balances and write both.
#[derive(Debug)]
pub(crate) struct Transfers(Random);

impl Transfers {
    /// Of one thread.
    pub(crate) fn new(run: &Run, number: usize) -> Self {
        Transfers(Random::of(run.seed, &format!("transfers {number}")))
    }
}

fn balance(transaction: &mut Transaction, table: &Table, id: i64) -> Result<i64, Trouble> {
    let row = transaction.get(table, &[Value::Int64(id)])?;
    Ok(match row.as_deref() {
        Some([_, Value::Int64(balance)]) => *balance,
        _ => 0,
    })
}

impl Work for Transfers {
    fn name(&self) -> &'static str {
        "transfers"
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn step(&mut self, run: &Run) -> Done {
        let table = &run.tables.accounts;
        let from = self.0.below(ACCOUNTS as usize) as i64;
        let to = (from + 1 + self.0.below(ACCOUNTS as usize - 1) as i64) % ACCOUNTS;
        let amount = self.0.below(1000) as i64;
        let isolation = match self.0.below(2) {
            0 => Isolation::Snapshot,
            _ => Isolation::Serializable,
        };
        let mut transaction = run.database.begin_optimistic(isolation);
        for (id, change) in [(from, -amount), (to, amount)] {
            let balance = balance(&mut transaction, table, id)?;
            let row = vec![Value::Int64(id), Value::Int64(balance + change)];
            transaction.upsert(table, row)?;
        }
        transaction.commit()?;
        run.count("transfers", 1);
        Ok(())
    }
}

/// Bulk loads; what the last one brought goes by one range delete.
#[derive(Debug, Default)]
pub(crate) struct Loader {
    number: i64,
}

impl Work for Loader {
    fn name(&self) -> &'static str {
        "loader"
    }

    fn pause(&self) -> Duration {
        LOAD_PAUSE
    }

    fn step(&mut self, run: &Run) -> Done {
        let table = &run.tables.loads;
        let mut transaction = run.database.begin();
        transaction.truncate(table)?;
        transaction.commit()?;
        let snapshot = run.database.snapshot();
        let count = snapshot.row_count(table)?;
        if count != 0 {
            return Err(format!("a table that was emptied has {count} rows").into());
        }
        drop(snapshot);
        let number = self.number + 1;
        let mut load = run.database.bulk_load(table)?;
        for at in 0..LOAD_ROWS {
            let id = number * LOAD_ROWS + at;
            let text = Value::Binary(text(id, number));
            load.upsert(vec![Value::Int64(id), Value::Int64(number), text])?;
        }
        load.finish()?;
        self.number = number;
        let count = run.database.snapshot().row_count(table)?;
        if count != LOAD_ROWS as u64 {
            return Err(format!("of {LOAD_ROWS} loaded rows there are {count}").into());
        }
        run.count("bulk loads", 1);
        Ok(())
    }
}

/// A column of the table whose columns change.
#[derive(Clone, Debug)]
struct Column {
    number: i64,
    name: String,
    is_wide: bool,
}

/// Changes of columns, rows between them, and what they must be.
#[derive(Debug)]
pub(crate) struct Evolver {
    random: Random,
    steps: i64,
    columns: Vec<Column>,
    /// By key and number of the column.
    cells: BTreeMap<(i64, i64), i64>,
}

impl Evolver {
    /// With a table that has no columns but its key.
    ///
    /// # Errors
    /// As the engine answers.
    pub(crate) fn new(run: &Run) -> moonshine_engine::Result<Self> {
        let schema = TableSchema::builder("soak.evolving")
            .column("id", ColumnType::Int64, false)
            .primary_key(["id"]);
        run.database.create_table(schema.build()?)?;
        Ok(Evolver {
            random: Random::of(run.seed, "evolver"),
            steps: 0,
            columns: Vec::new(),
            cells: BTreeMap::new(),
        })
    }

    /// The next change, and the columns behind it.
    fn change(&self) -> (Vec<SchemaChange>, Vec<Column>) {
        let mut columns = self.columns.clone();
        let mut changes = Vec::new();
        match (self.steps % 3, columns.last_mut()) {
            (1, Some(newest)) => {
                changes.push(SchemaChange::WidenColumn {
                    name: newest.name.clone(),
                    column_type: ColumnType::Int64,
                });
                newest.is_wide = true;
            }
            (2, Some(newest)) => {
                let new_name = format!("renamed_{}", newest.number);
                let name = std::mem::replace(&mut newest.name, new_name.clone());
                changes.push(SchemaChange::RenameColumn { name, new_name });
            }
            _ => {
                if columns.len() == COLUMNS_MAX {
                    let name = columns.remove(0).name;
                    changes.push(SchemaChange::DropColumn { name });
                }
                let name = format!("column_{}", self.steps);
                changes.push(SchemaChange::AddColumn {
                    name: name.clone(),
                    column_type: ColumnType::Int32,
                    nullable: true,
                    default: None,
                });
                columns.push(Column {
                    number: self.steps,
                    name,
                    is_wide: false,
                });
            }
        }
        (changes, columns)
    }

    fn write(&mut self, run: &Run, table: &Table) -> Done {
        let keys: Vec<i64> = (0..EVOLVING_KEYS / 4)
            .map(|_| self.random.below(EVOLVING_KEYS) as i64)
            .collect();
        let mut transaction = run.database.begin();
        for key in &keys {
            let cell = |column: &Column| match column.is_wide {
                true => Value::Int64(self.steps + key),
                false => Value::Int32((self.steps + key) as i32),
            };
            let cells = self.columns.iter().map(cell);
            transaction.upsert(
                table,
                [Value::Int64(*key)].into_iter().chain(cells).collect(),
            )?;
        }
        transaction.commit()?;
        for key in keys {
            for column in &self.columns {
                self.cells.insert((key, column.number), self.steps + key);
            }
        }
        Ok(())
    }

    fn check(&self, run: &Run, table: &Table) -> Done {
        let mut found = BTreeMap::new();
        for batch in run.database.snapshot().scan(table, Scan::default())? {
            let batch = batch?;
            let ids = batch.column(0).as_primitive::<Int64Type>();
            for (at, column) in self.columns.iter().enumerate() {
                let cells = batch.column(at + 1);
                for row in (0..batch.num_rows()).filter(|row| cells.is_valid(*row)) {
                    let cell = match column.is_wide {
                        true => cells.as_primitive::<Int64Type>().value(row),
                        false => cells.as_primitive::<Int32Type>().value(row).into(),
                    };
                    found.insert((ids.value(row), column.number), cell);
                }
            }
        }
        let mut places = found.keys().chain(self.cells.keys());
        match places.find(|place| found.get(place) != self.cells.get(place)) {
            None => Ok(()),
            Some(place) => Err(Trouble::Failed(format!(
                "key and column {place:?}: found {:?}, expected {:?}",
                found.get(place),
                self.cells.get(place)
            ))),
        }
    }
}

impl Work for Evolver {
    fn name(&self) -> &'static str {
        "evolver"
    }

    fn pause(&self) -> Duration {
        CHANGE_PAUSE
    }

    fn step(&mut self, run: &Run) -> Done {
        let missing = || Trouble::Failed("the evolving table is gone".into());
        let table = run.database.table("soak.evolving").ok_or_else(missing)?;
        let (changes, columns) = self.change();
        let table = run.database.alter_table(&table, &changes)?;
        self.columns = columns;
        let columns = &self.columns;
        self.cells
            .retain(|(_, number), _| columns.iter().any(|column| column.number == *number));
        self.steps += 1;
        run.count("changes of columns", 1);
        self.write(run, &table)?;
        self.check(run, &table)
    }
}
