//! Tables, columns and their types, as the engine and everything above it names them.
//!
//! A `builder` makes a [`TableSchema`] and refuses what can't be one. Its columns have a [`ColumnType`] (`column_type`), which may
//! hold others (`nested`), and an identity, the field id, that names and positions don't change. `check` says whether values
//! fit. What rows hold that were written before the columns changed is in [`past`].

mod builder;
mod check;
mod column_type;
mod nested;
pub(crate) mod past;
mod shard_key;

use std::sync::Arc;

use arrow_schema::SchemaRef;

use self::past::{PastVersion, Translation};
use crate::error::Result;
use crate::value::Value;
pub use builder::TableSchemaBuilder;
pub(crate) use builder::some_text;
pub use check::{CELL_SIZE_BYTES_MAX, check_row};
pub use column_type::ColumnType;
pub use nested::{NESTING_DEPTH_MAX, NestedField, NestedType};
pub use shard_key::ShardKey;

/// Largest number of columns of a table, with the parts of nested ones.
pub const COLUMN_COUNT_MAX: usize = 4096;
/// Longest comment on a table or a column, in bytes.
pub const COMMENT_SIZE_BYTES_MAX: usize = 64 * 1024;

/// A column of a [`TableSchema`].
///
/// ```
/// use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// # let schema = TableSchema::builder("users")
/// #     .column("id", ColumnType::Int64, false)
/// #     .column("name", ColumnType::Utf8, true)
/// #     .primary_key(["id"]);
/// # let users = database.create_table(schema.build()?)?;
/// # let mut transaction = database.begin();
/// # transaction.upsert(&users, vec![Value::Int64(1), Value::Utf8("ada".into())])?;
/// # transaction.commit()?;
/// let names: Vec<_> = users.schema().columns().iter().map(|column| column.name.as_str()).collect();
/// assert_eq!(names, ["id", "name"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name, unique in the table.
    pub name: String,
    /// Its type.
    pub column_type: ColumnType,
    /// Whether a row may leave it null. A column of the primary key may not.
    pub nullable: bool,
    /// Its identity, stable from the table's first day; names and positions may change, this may not. From 1.
    pub field_id: i32,
    /// What it is in rows from before it was added by [`Database::alter_table`](crate::Database::alter_table), and in rows of
    /// batches that lack it; null without one.
    pub default: Option<Value>,
    /// What it means, for people; empty is none. It has no effect on rows.
    pub comment: Option<String>,
}

/// The name, columns and primary key of a table.
///
/// ```
/// use moonshine_engine::{ColumnType, TableSchema};
/// let schema = TableSchema::builder("shop.orders")
///     .column("order_id", ColumnType::Int64, false)
///     .column("note", ColumnType::Utf8, true)
///     .primary_key(["order_id"])
///     .build()?;
/// assert_eq!(schema.primary_key(), &[0]);
/// # Ok::<(), moonshine_engine::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TableSchema {
    name: String,
    comment: Option<String>,
    columns: Vec<Column>,
    primary_key: Vec<usize>,
    shard_key: ShardKey,
    arrow_schema: SchemaRef,
    /// Whether rows say with which version they were written.
    has_row_versions: bool,
    /// The greatest field id that a column has or had.
    last_field_id: i32,
    /// Versions before this one, the first first.
    past_versions: Arc<[PastVersion]>,
    /// How rows of each become rows of this one.
    translations: Arc<[Translation]>,
}

impl TableSchema {
    /// Starts a schema of that table name, by convention `namespace.table`.
    pub fn builder(name: impl Into<String>) -> TableSchemaBuilder {
        TableSchemaBuilder {
            name: name.into(),
            comment: None,
            columns: Vec::new(),
            primary_key: Vec::new(),
            shard_key: ShardKey::default(),
            has_row_versions: true,
            last_field_id: 0,
            past_versions: Vec::new(),
        }
    }

    /// The table's name, by convention `namespace.table`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the table is for, for people.
    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// The columns, in the order of a [`Row`](crate::Row)'s values.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Positions in [`columns`](Self::columns) of the primary key's columns, in key order.
    pub fn primary_key(&self) -> &[usize] {
        &self.primary_key
    }

    /// How the table is divided into fragments.
    pub fn shard_key(&self) -> ShardKey {
        self.shard_key
    }

    /// The columns of the primary key, in key order.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.primary_key
            .iter()
            .filter_map(|&position| self.columns.get(position))
    }

    /// Whether the column at this position belongs to the primary key.
    pub fn is_key(&self, position: usize) -> bool {
        self.primary_key.contains(&position)
    }

    /// The position of the column of that name.
    pub fn position(&self, column_name: &str) -> Option<usize> {
        self.columns
            .iter()
            .position(|column| column.name == column_name)
    }

    /// How often its columns were changed by [`Database::alter_table`](crate::Database::alter_table).
    pub fn version(&self) -> u32 {
        u32::try_from(self.past_versions.len()).unwrap_or(u32::MAX)
    }

    /// The greatest field id that a column has or had; none is given twice.
    pub fn last_field_id(&self) -> i32 {
        self.last_field_id
    }

    /// Whether rows say with which version they were written, so that the columns can change.
    pub(crate) fn has_row_versions(&self) -> bool {
        self.has_row_versions
    }

    /// The versions before this one, the first first.
    pub(crate) fn past_versions(&self) -> &[PastVersion] {
        &self.past_versions
    }

    /// How rows of each version before this one become rows of this one.
    pub(crate) fn translations(&self) -> &[Translation] {
        &self.translations
    }

    /// Whether another schema says the same of a table's rows, whatever its past and its comments.
    pub(crate) fn is_same_definition(&self, other: &TableSchema) -> bool {
        self.name == other.name
            && self.columns.len() == other.columns.len()
            && self.columns.iter().zip(&other.columns).all(|(a, b)| {
                (&a.name, a.column_type, a.nullable, a.field_id)
                    == (&b.name, b.column_type, b.nullable, b.field_id)
            })
            && self.primary_key == other.primary_key
            && self.shard_key == other.shard_key
    }

    /// The schema with other columns and another comment; the columns of the primary key keep their field ids.
    pub(crate) fn with_columns(
        &self,
        columns: Vec<Column>,
        comment: Option<String>,
        last_field_id: i32,
        past_versions: Vec<PastVersion>,
    ) -> Result<TableSchema> {
        let keys = self.key_columns().filter_map(|key| {
            let same = columns
                .iter()
                .find(|column| column.field_id == key.field_id);
            Some(same?.name.clone())
        });
        TableSchemaBuilder {
            name: self.name.clone(),
            comment,
            primary_key: keys.collect(),
            shard_key: self.shard_key,
            columns,
            has_row_versions: self.has_row_versions,
            last_field_id,
            past_versions,
        }
        .build()
    }

    /// The same, in which the rows of the last version before this one were all committed up to a sequence.
    pub(crate) fn since(&self, seq: u64) -> TableSchema {
        let mut past_versions = self.past_versions.to_vec();
        if let Some(past) = past_versions.last_mut() {
            past.until_seq = seq;
        }
        TableSchema {
            past_versions: past_versions.into(),
            ..self.clone()
        }
    }

    /// The Arrow schema of this table's batches; each field carries its field id under `PARQUET:field_id`.
    pub fn arrow_schema(&self) -> &SchemaRef {
        &self.arrow_schema
    }
}

impl Column {
    /// The greatest field id of its own and of its parts.
    pub(crate) fn last_field_id(&self) -> i32 {
        self.field_id.max(self.column_type.last_field_id())
    }

    fn arrow_field(&self) -> arrow_schema::Field {
        column_type::arrow_field(&self.name, self.column_type, self.nullable, self.field_id)
    }
}
