//! Rows as structs of the user's: the columns of a table are the fields of those names.
//!
//! `serde_arrow` makes Arrow arrays of them and back, so a slice of structs is written as one batch, and a batch that a scan
//! gives becomes a vector of them.

use arrow_array::RecordBatch;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::key::encode_key;
use crate::codec::row::encode_row;
use crate::error::{Error, Result};
use crate::multi_get::FoundRows;
use crate::read::batch::BatchBuilder;
use crate::shared::Table;
use crate::snapshot::Snapshot;
use crate::transaction::Transaction;
use crate::value::Value;

impl Transaction {
    /// Writes a row, as [`upsert`](Self::upsert). Fields go by name; an [`Option`] is a column that may be null. Binary columns
    /// and UUIDs take and give *bytes* in serde's sense (as the crate `serde_bytes` makes of a `Vec<u8>`), decimals text or
    /// floats, dates and times their numbers.
    ///
    /// ```
    /// use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Debug, Deserialize, PartialEq, Serialize)]
    /// struct Order {
    ///     id: i64,
    ///     note: Option<String>,
    /// }
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let database = Database::open(folder.path(), Options::unmeasured())?;
    /// let schema = TableSchema::builder("shop.orders")
    ///     .column("id", ColumnType::Int64, false)
    ///     .column("note", ColumnType::Utf8, true)
    ///     .primary_key(["id"])
    ///     .build()?;
    /// let orders = database.create_table(schema)?;
    /// let order = Order { id: 1, note: Some("gift".into()) };
    /// let mut transaction = database.begin();
    /// transaction.upsert_as(&orders, &order)?;
    /// assert_eq!(transaction.get_as(&orders, &[Value::Int64(1)])?, Some(order));
    /// transaction.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Row`] if it does not fit the table, naming table and field.
    pub fn upsert_as<T: Serialize>(&mut self, table: &Table, row: &T) -> Result<()> {
        self.upsert_all_as(table, std::slice::from_ref(row))
    }

    /// Writes rows, all as one batch: much faster than one by one.
    ///
    /// # Errors
    /// As [`upsert_as`](Self::upsert_as); nothing of it is written then.
    pub fn upsert_all_as<T: Serialize>(&mut self, table: &Table, rows: &[T]) -> Result<()> {
        self.upsert_batch(table, &batch_of(table, rows)?)
    }

    /// Writes rows whose keys must not exist, as [`insert`](Self::insert).
    ///
    /// # Errors
    /// As [`upsert_all_as`](Self::upsert_all_as).
    pub fn insert_all_as<T: Serialize>(&mut self, table: &Table, rows: &[T]) -> Result<()> {
        self.insert_batch(table, &batch_of(table, rows)?)
    }

    /// The row with that key, as [`get`](Self::get).
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`Error::Row`] if it does not fit the type, naming table and field.
    pub fn get_as<T: DeserializeOwned>(
        &mut self,
        table: &Table,
        key: &[Value],
    ) -> Result<Option<T>> {
        let row = self.get(table, key)?;
        row.map(|row| row_as(table, &row)).transpose()
    }
}

impl Snapshot {
    /// The row with that key, as [`get`](Self::get).
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`Error::Row`] if it does not fit the type, naming table and field.
    pub fn get_as<T: DeserializeOwned>(&self, table: &Table, key: &[Value]) -> Result<Option<T>> {
        let row = self.get(table, key)?;
        row.map(|row| row_as(table, &row)).transpose()
    }
}

impl Snapshot {
    /// The rows with several keys, as [`multi_get`](Self::multi_get).
    ///
    /// ```
    /// use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Debug, Deserialize, PartialEq, Serialize)]
    /// struct User {
    ///     id: i64,
    ///     name: String,
    /// }
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let database = Database::open(folder.path(), Options::unmeasured())?;
    /// let schema = TableSchema::builder("users")
    ///     .column("id", ColumnType::Int64, false)
    ///     .column("name", ColumnType::Utf8, false)
    ///     .primary_key(["id"])
    ///     .build()?;
    /// let users = database.create_table(schema)?;
    /// let ada = User { id: 1, name: "ada".into() };
    /// let mut transaction = database.begin();
    /// transaction.upsert_as(&users, &ada)?;
    /// transaction.commit()?;
    /// let keys = [vec![Value::Int64(2)], vec![Value::Int64(1)]];
    /// assert_eq!(database.snapshot().multi_get_as(&users, &keys)?, [None, Some(ada)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`multi_get`](Self::multi_get), and [`Error::Row`] if a row does not fit the type, naming table and field.
    pub fn multi_get_as<T: DeserializeOwned>(
        &self,
        table: &Table,
        keys: &[Vec<Value>],
    ) -> Result<Vec<Option<T>>> {
        spread(table, self.multi_get_found(table, keys)?, keys.len())
    }
}

impl Transaction {
    /// The rows with several keys, as [`multi_get`](Self::multi_get).
    ///
    /// # Errors
    /// As [`Snapshot::multi_get_as`].
    pub fn multi_get_as<T: DeserializeOwned>(
        &mut self,
        table: &Table,
        keys: &[Vec<Value>],
    ) -> Result<Vec<Option<T>>> {
        spread(table, self.multi_get_found(table, keys)?, keys.len())
    }
}

/// The rows that were found, each in its key's place.
fn spread<T: DeserializeOwned>(
    table: &Table,
    found: FoundRows,
    count: usize,
) -> Result<Vec<Option<T>>> {
    let rows = table.rows_as(&found.rows)?;
    let mut spread: Vec<Option<T>> = (0..count).map(|_| None).collect();
    for (row, place) in rows.into_iter().zip(found.places) {
        if let Some(place) = spread.get_mut(place) {
            *place = Some(row);
        }
    }
    Ok(spread)
}

impl Table {
    /// The rows of a batch that a scan of the table gave.
    ///
    /// # Errors
    /// [`Error::Row`] if they don't fit the type, naming table and field.
    pub fn rows_as<T: DeserializeOwned>(&self, batch: &RecordBatch) -> Result<Vec<T>> {
        serde_arrow::from_record_batch(batch).map_err(|error| not_fitting(self, &error))
    }
}

fn batch_of<T: Serialize>(table: &Table, rows: &[T]) -> Result<RecordBatch> {
    let fields = table.schema().arrow_schema().fields();
    serde_arrow::to_record_batch(fields, &rows).map_err(|error| not_fitting(table, &error))
}

fn row_as<T: DeserializeOwned>(table: &Table, row: &[Value]) -> Result<T> {
    let schema = table.schema();
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let keys: Vec<&Value> = schema
        .primary_key()
        .iter()
        .filter_map(|&position| row.get(position))
        .collect();
    encode_key(schema, keys.into_iter(), &mut key)?;
    encode_row(schema, row, &mut value);
    let mut builder = BatchBuilder::new(schema.clone(), None)?;
    let pushed = builder.push(&key, &value);
    pushed.map_err(crate::read::merge::not_stored)?;
    let rows = table.rows_as(&builder.finish()?)?;
    let first = rows.into_iter().next();
    first.ok_or_else(|| Error::Row(format!("table '{}': no row", table.name())))
}

fn not_fitting(table: &Table, error: &serde_arrow::Error) -> Error {
    Error::Row(format!("table '{}': {error}", table.name()))
}
