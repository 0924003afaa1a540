//! Rows of a table by many keys at once: at a snapshot or within a transaction; as values, structs or Arrow.
//!
//! The keys are encoded one behind the other and looked up in groups, so that the waits for memory overlap
//! ([`crate::read`]). Values are found in no order, so they are copied, and decoded in the order of the keys.

use std::ops::Range;

use arrow_array::RecordBatch;

use crate::codec::Malformed;
use crate::codec::columns::BatchColumns;
use crate::codec::key::hash_key;
use crate::codec::key::{decode_key, encode_key};
use crate::codec::row::join_row;
use crate::error::{Error, Result};
use crate::read::batch::BatchBuilder;
use crate::read::lookup::Lookup;
use crate::row_set::multi_get::HashedKey;
use crate::shared::Table;
use crate::snapshot::Snapshot;
use crate::transaction::{OwnValue, Transaction};
use crate::value::{Row, Value};

/// Keys and values that one call may find, in bytes: an Arrow column counts in 31 bits.
const FOUND_SIZE_BYTES_MAX: usize = i32::MAX as usize;

/// Rows that were found by their keys, see [`Snapshot::multi_get_batch`].
///
/// ```
/// use moonshine_engine::FoundRows;
/// /// Whether each of so many keys has a row.
/// fn is_found(found: &FoundRows, key_count: usize) -> Vec<bool> {
///     let mut is_found = vec![false; key_count];
///     found.places.iter().for_each(|place| is_found[*place] = true);
///     is_found
/// }
/// # let rows = arrow_array::RecordBatch::new_empty(std::sync::Arc::new(arrow_schema::Schema::empty()));
/// # assert_eq!(is_found(&FoundRows { rows, places: vec![1] }, 3), [false, true, false]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct FoundRows {
    /// The rows, in the order of their keys among those asked for.
    pub rows: RecordBatch,
    /// For each row, which key it has: the places in what was asked for, ascending. A key that is not among them has no
    /// row.
    pub places: Vec<usize>,
}

/// Keys that are asked for, and what was found of them.
#[derive(Debug, Default)]
struct Asked {
    /// The keys, encoded, one behind the other, and where each ends.
    keys: Vec<u8>,
    key_ends: Vec<usize>,
    /// Values, and where in them that of each key is; `None` where there is no row.
    values: Vec<u8>,
    found: Vec<Option<Range<usize>>>,
}

impl Asked {
    /// Takes as many keys as `encode` appends, one a call.
    fn new(
        count: usize,
        mut encode: impl FnMut(usize, &mut Vec<u8>) -> Result<()>,
    ) -> Result<Self> {
        let mut asked = Asked {
            key_ends: Vec::with_capacity(count),
            found: vec![None; count],
            ..Asked::default()
        };
        for place in 0..count {
            encode(place, &mut asked.keys)?;
            asked.key_ends.push(asked.keys.len());
        }
        Ok(asked)
    }

    fn of_values(table: &Table, keys: &[Vec<Value>]) -> Result<Self> {
        let schema = table.schema();
        let mut values = keys.iter();
        Asked::new(keys.len(), |_, out| {
            encode_key(
                schema,
                values.next().map_or(&[][..], Vec::as_slice).iter(),
                out,
            )
        })
    }

    fn of_batch(table: &Table, keys: &RecordBatch) -> Result<Self> {
        let columns = BatchColumns::of_keys(table.schema(), keys)?;
        Asked::new(keys.num_rows(), |row, out| {
            columns.encode_key(table.schema(), row, out)
        })
    }

    fn key(&self, place: usize) -> &[u8] {
        let start = place.checked_sub(1).and_then(|i| self.key_ends.get(i));
        let end = self.key_ends.get(place).copied().unwrap_or_default();
        let start = start.copied().unwrap_or_default();
        self.keys.get(start..end).unwrap_or_default()
    }

    /// Keeps the value of a key.
    fn keep(values: &mut Vec<u8>, found: Option<&mut Option<Range<usize>>>, value: &[u8]) {
        let start = values.len();
        values.extend_from_slice(value);
        if let Some(found) = found {
            *found = Some(start..values.len());
        }
    }

    /// Looks up the keys in some places.
    fn look_up(&mut self, lookup: Lookup<'_>, places: &[usize]) -> Result<()> {
        let mut values = std::mem::take(&mut self.values);
        let mut found = std::mem::take(&mut self.found);
        let hashed = places.iter().map(|&place| {
            let key = self.key(place);
            HashedKey {
                hash: hash_key(key),
                key,
            }
        });
        let hashed: Vec<_> = hashed.collect();
        lookup.multi_get(&hashed, |i, value| {
            let place = places.get(i).and_then(|&place| found.get_mut(place));
            Asked::keep(&mut values, place, value);
        })?;
        (self.values, self.found) = (values, found);
        Ok(())
    }

    /// Calls `each` with the place, the key and the value of all that were found, in the order of the keys.
    fn try_each(
        &self,
        table: &Table,
        lookup: Lookup<'_>,
        mut each: impl FnMut(usize, &[u8], &[u8]) -> Result<(), Malformed>,
    ) -> Result<()> {
        for (place, found) in self.found.iter().enumerate() {
            let Some(span) = found else { continue };
            let key = self.key(place);
            let value = self.values.get(span.clone()).unwrap_or_default();
            each(place, key, value).map_err(|malformed| match table.is_outdated() {
                true => table.changed(),
                false => lookup.corrupt(hash_key(key), key, malformed),
            })?;
        }
        Ok(())
    }

    fn rows(&self, table: &Table, lookup: Lookup<'_>) -> Result<Vec<Option<Row>>> {
        let schema = table.schema();
        let mut rows = vec![None; self.found.len()];
        self.try_each(table, lookup, |place, key, value| {
            let row = join_row(schema, decode_key(schema, key)?, value)?;
            if let Some(place) = rows.get_mut(place) {
                *place = Some(row);
            }
            Ok(())
        })?;
        Ok(rows)
    }

    fn batch(
        &self,
        table: &Table,
        lookup: Lookup<'_>,
        projection: Option<&[usize]>,
    ) -> Result<FoundRows> {
        if self.keys.len() + self.values.len() > FOUND_SIZE_BYTES_MAX {
            return Err(Error::Usage(format!(
                "table '{}': the rows of {} keys have more than {FOUND_SIZE_BYTES_MAX} bytes; ask for fewer at once",
                table.name(),
                self.found.len()
            )));
        }
        let mut builder = BatchBuilder::new(table.schema().clone(), projection)?;
        let mut places = Vec::new();
        self.try_each(table, lookup, |place, key, value| {
            places.push(place);
            builder.push(key, value)
        })?;
        Ok(FoundRows {
            rows: builder.finish()?,
            places,
        })
    }
}

impl Snapshot {
    /// The rows with several keys, each given in primary-key order; in the order of the keys. Faster than one after the
    /// other, as the processor waits for the memory of several at once.
    ///
    /// ```
    /// use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
    /// # let folder = tempfile::tempdir()?;
    /// let database = Database::open(folder.path(), Options::unmeasured())?;
    /// let schema = TableSchema::builder("users")
    ///     .column("id", ColumnType::Int64, false)
    ///     .column("name", ColumnType::Utf8, false)
    ///     .primary_key(["id"])
    ///     .build()?;
    /// let users = database.create_table(schema)?;
    /// let ada = vec![Value::Int64(1), Value::Utf8("ada".into())];
    /// let mut transaction = database.begin();
    /// transaction.upsert(&users, ada.clone())?;
    /// transaction.commit()?;
    ///
    /// let keys = [vec![Value::Int64(2)], vec![Value::Int64(1)]];
    /// assert_eq!(database.snapshot().multi_get(&users, &keys)?, [None, Some(ada)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn multi_get(&self, table: &Table, keys: &[Vec<Value>]) -> Result<Vec<Option<Row>>> {
        self.ask(table, Asked::of_values(table, keys)?, |asked, lookup| {
            asked.rows(table, lookup)
        })
    }

    /// The rows with the keys of a batch, as one batch of some columns: their positions in the order wanted, `None` for
    /// all. The columns of `keys` are those of the primary key, by name.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use arrow_array::{Int64Array, RecordBatch};
    /// use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
    /// # let folder = tempfile::tempdir()?;
    /// let database = Database::open(folder.path(), Options::unmeasured())?;
    /// let schema = TableSchema::builder("users")
    ///     .column("id", ColumnType::Int64, false)
    ///     .column("age", ColumnType::Int64, true)
    ///     .primary_key(["id"])
    ///     .build()?;
    /// let users = database.create_table(schema)?;
    /// let mut transaction = database.begin();
    /// transaction.upsert(&users, vec![Value::Int64(1), Value::Int64(36)])?;
    /// transaction.upsert(&users, vec![Value::Int64(3), Value::Int64(41)])?;
    /// transaction.commit()?;
    ///
    /// let ids = Arc::new(Int64Array::from(vec![3, 2, 1]));
    /// let keys = RecordBatch::try_from_iter([("id", ids as _)])?;
    /// let found = database.snapshot().multi_get_batch(&users, &keys, Some(&[1]))?;
    /// assert_eq!(found.places, [0, 2]);
    /// assert_eq!(found.rows.column(0).as_ref(), &Int64Array::from(vec![41, 36]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get); [`Error::Row`] if the batch is not one of keys, [`Error::Usage`] for a column that does not
    /// exist, and where the rows have more than 2 GiB.
    pub fn multi_get_batch(
        &self,
        table: &Table,
        keys: &RecordBatch,
        projection: Option<&[usize]>,
    ) -> Result<FoundRows> {
        self.ask(table, Asked::of_batch(table, keys)?, |asked, lookup| {
            asked.batch(table, lookup, projection)
        })
    }

    /// The same of keys that are given as values, with all columns.
    #[cfg(feature = "serde")]
    pub(crate) fn multi_get_found(&self, table: &Table, keys: &[Vec<Value>]) -> Result<FoundRows> {
        self.ask(table, Asked::of_values(table, keys)?, |asked, lookup| {
            asked.batch(table, lookup, None)
        })
    }

    fn ask<T>(
        &self,
        table: &Table,
        mut asked: Asked,
        answer: impl FnOnce(&Asked, Lookup<'_>) -> Result<T>,
    ) -> Result<T> {
        self.check_table(table)?;
        let places: Vec<usize> = (0..asked.found.len()).collect();
        Lookup::at(self.shared(), &table.state, Some(self.seq()), |lookup| {
            // One of them is counted with the lookup.
            let more = places.len().saturating_sub(1);
            self.shared()
                .counters
                .count_gets(more, lookup.generation_count());
            asked.look_up(lookup, &places)?;
            answer(&asked, lookup)
        })
    }
}

impl Transaction {
    /// The rows with several keys, in their order; see [`get`](Self::get).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn multi_get(&mut self, table: &Table, keys: &[Vec<Value>]) -> Result<Vec<Option<Row>>> {
        self.ask(table, Asked::of_values(table, keys)?, |asked, lookup| {
            asked.rows(table, lookup)
        })
    }

    /// The rows with the keys of a batch, as one batch: as [`Snapshot::multi_get_batch`] gives them, with what this
    /// transaction wrote laid over them. Its keys count as read, found or not.
    ///
    /// # Errors
    /// As [`Snapshot::multi_get_batch`].
    pub fn multi_get_batch(
        &mut self,
        table: &Table,
        keys: &RecordBatch,
        projection: Option<&[usize]>,
    ) -> Result<FoundRows> {
        self.ask(table, Asked::of_batch(table, keys)?, |asked, lookup| {
            asked.batch(table, lookup, projection)
        })
    }

    /// The same of keys that are given as values, with all columns.
    #[cfg(feature = "serde")]
    pub(crate) fn multi_get_found(
        &mut self,
        table: &Table,
        keys: &[Vec<Value>],
    ) -> Result<FoundRows> {
        self.ask(table, Asked::of_values(table, keys)?, |asked, lookup| {
            asked.batch(table, lookup, None)
        })
    }

    fn ask<T>(
        &mut self,
        table: &Table,
        mut asked: Asked,
        answer: impl FnOnce(&Asked, Lookup<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut unknown = Vec::new();
        for place in 0..asked.found.len() {
            match self.own_value(table, asked.key(place))? {
                OwnValue::Row(value) => {
                    let value = value.to_vec();
                    Asked::keep(&mut asked.values, asked.found.get_mut(place), &value);
                }
                OwnValue::Gone => {}
                OwnValue::Unknown => unknown.push(place),
            }
        }
        self.look_up(table, |lookup| {
            asked.look_up(lookup, &unknown)?;
            answer(&asked, lookup)
        })
    }
}
