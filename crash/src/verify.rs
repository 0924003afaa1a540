//! Reads a database whole, and says what it holds, if that can be.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use moonshine_engine::{Database, Result, Scan, Snapshot, Table, Value};

use crate::child::{Tables, column_name, ids_and_numbers, options};
use crate::fuse::Fuse;
use crate::lake::Lake;
use crate::told::State;
use crate::workload::{
    CHAIN_HEAD, Rows, WRITERS, chain_rows, columns, evolving_rows, load_of_row, loaded_rows,
    progress_key, rows_of_writer, text,
};

/// What the numbers in a database say that it holds.
///
/// # Errors
/// As the engine answers.
pub fn state_of(database: &Database, tables: &Tables) -> Result<State> {
    let snapshot = database.snapshot();
    let number_at = |table: &Table, id: i64| {
        let row = snapshot.get(table, &[Value::Int64(id)])?;
        Ok(match row.as_deref() {
            Some([_, Value::Int64(number), _]) => *number as u64,
            _ => 0,
        })
    };
    let mut progress = [0; WRITERS];
    for (writer, count) in progress.iter_mut().enumerate() {
        *count = number_at(&tables.left, progress_key(writer))?;
    }
    let mut last = [0; 2];
    for (table, last) in [&tables.loads, &tables.evolving].iter().zip(&mut last) {
        for batch in snapshot.scan(table, Scan::default())? {
            let ids = batch?.column(0).as_primitive::<Int64Type>().clone();
            let newest = ids.values().iter().max().map_or(0, |id| *id as u64);
            *last = newest.max(*last);
        }
    }
    let columns = tables.evolving.schema().columns().iter();
    let newest_column = columns.filter_map(|column| column.name.strip_prefix('c')?.parse().ok());
    Ok(State {
        seq: snapshot.seq(),
        progress,
        chain: number_at(&tables.chain, CHAIN_HEAD)?,
        loads: load_of_row(last[0] as i64),
        steps: newest_column.fold(last[1], u64::max),
    })
}

fn said<T>(result: Result<T>, what: &str) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

/// Opens a database, and says what it holds; everything in it must follow from that. With a lake, exports that were left
/// open are ended as it has them, and then it holds the same with what changed since.
///
/// # Errors
/// In words, what is wrong.
pub fn verify(folder: &Path, seed: u64, lake: Option<&Lake>) -> Result<State, String> {
    let database = said(
        Database::open(folder, options(seed, Fuse::default())),
        "it can't be opened",
    )?;
    let tables = said(Tables::create(&database), "its tables")?;
    let state = said(state_of(&database, &tables), "what it holds")?;
    check_rows(&database.snapshot(), &tables, seed, &state)?;
    if let Some(lake) = lake {
        for table in [&tables.left, &tables.chain] {
            check_lake(&database, table, lake)?;
        }
    }
    drop(database);
    check_files(folder, seed)?;
    Ok(state)
}

/// Whether every file is whole.
///
/// # Errors
/// In words, which is not.
pub fn check_files(folder: &Path, seed: u64) -> Result<(), String> {
    let check = said(
        Database::check(folder, &options(seed, Fuse::default())),
        "the check",
    )?;
    match check.problems.first() {
        Some(problem) => Err(format!("the check found: {problem}")),
        None => Ok(()),
    }
}

fn check_rows(
    snapshot: &Snapshot,
    tables: &Tables,
    seed: u64,
    state: &State,
) -> Result<(), String> {
    let mut written = Rows::new();
    for writer in 0..WRITERS {
        written.extend(rows_of_writer(seed, writer, state.progress[writer]));
    }
    let chain = chain_rows(seed, state.chain);
    let loaded = loaded_rows(seed, state.loads);
    for (table, expected) in [
        (&tables.left, &written),
        (&tables.right, &written),
        (&tables.chain, &chain),
        (&tables.loads, &loaded),
    ] {
        let found = rows_of(snapshot, table)?;
        differ(table.name(), &found, expected).map_err(|why| format!("{why}; {state:?}"))?;
        let count = said(snapshot.row_count(table), table.name())?;
        if count != expected.len() as u64 {
            return Err(format!("table {} counts {count} rows", table.name()));
        }
    }
    check_evolving(snapshot, &tables.evolving, state.steps)
}

fn differ<V: PartialEq + std::fmt::Debug>(
    name: &str,
    found: &BTreeMap<i64, V>,
    expected: &BTreeMap<i64, V>,
) -> Result<(), String> {
    let mut keys = found.keys().chain(expected.keys());
    match keys.find(|key| found.get(key) != expected.get(key)) {
        Some(key) => Err(format!(
            "table {name}, key {key}: found {:?}, expected {:?}",
            found.get(key),
            expected.get(key)
        )),
        None => Ok(()),
    }
}

/// Key and number of all rows, whose texts must be what follows from them.
fn rows_of(snapshot: &Snapshot, table: &Table) -> Result<Rows, String> {
    let mut rows = Rows::new();
    for batch in said(snapshot.scan(table, Scan::default()), table.name())? {
        let batch: RecordBatch = said(batch, table.name())?;
        let (ids, numbers) = (batch.column(0), batch.column(1));
        let ids = ids.as_primitive::<Int64Type>().values();
        let numbers = numbers.as_primitive::<Int64Type>().values();
        let texts = batch.column(2).as_binary::<i32>();
        for ((id, number), found) in ids.iter().zip(numbers).zip(texts) {
            if found != Some(&text(*id, *number)[..]) {
                return Err(format!("table {}, key {id}: another text", table.name()));
            }
            if rows.insert(*id, *number).is_some() {
                return Err(format!("table {}: key {id} twice", table.name()));
            }
        }
    }
    Ok(rows)
}

fn check_evolving(snapshot: &Snapshot, table: &Table, steps: u64) -> Result<(), String> {
    let names = table.schema().columns().iter().skip(1);
    let names: Vec<&str> = names.map(|column| column.name.as_str()).collect();
    let expected: Vec<String> = columns(steps).into_iter().map(column_name).collect();
    if names != expected {
        return Err(format!("after step {steps} the columns are {names:?}"));
    }
    let mut rows = BTreeMap::new();
    for batch in said(snapshot.scan(table, Scan::default()), "evolving")? {
        let batch = said(batch, "evolving")?;
        let cells = batch
            .columns()
            .iter()
            .map(|c| c.as_primitive::<Int64Type>());
        let cells: Vec<_> = cells.collect();
        for row in 0..batch.num_rows() {
            let cell = |at: usize| cells[at].is_valid(row).then(|| cells[at].value(row));
            let id = cell(0).unwrap_or_default();
            rows.insert(id, (1..cells.len()).map(cell).collect::<Vec<_>>());
        }
    }
    differ("evolving", &rows, &evolving_rows(steps))
}

fn check_lake(database: &Database, table: &Table, lake: &Lake) -> Result<(), String> {
    let name = table.name();
    for pending in database.pending_exports() {
        if pending.table().id() == table.id() {
            let id = pending.commit_id();
            let settled = match lake.landed().contains(&id) {
                true => pending.commit(id.to_string()),
                false => pending.abort(),
            };
            said(settled, "an export that was left open")?;
        }
    }
    let held = lake.table(name);
    let noted = database.exported(table).map_or(0, |exported| exported.seq);
    if noted != held.seq {
        let seq = held.seq;
        return Err(format!(
            "table {name} is exported up to {seq}, the database says {noted}"
        ));
    }
    let snapshot = database.snapshot();
    let changes = said(database.changes(table, &snapshot), name)?;
    let new = said(changes.batches(None, 100), name)?;
    let found = held.with(&changes, said(ids_and_numbers(new), name)?)?;
    let expected = rows_of(&snapshot, table)?;
    differ(name, &found, &expected).map_err(|why| format!("in the lake, {why}"))
}
