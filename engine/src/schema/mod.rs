//! Tables, columns and their types, as the engine and everything above it names them.

mod check;
mod column_type;
pub(crate) mod past;
mod shard_key;

use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};

use self::past::{PastVersion, Translation};
use crate::error::{Error, Result};
use crate::value::Value;
pub use check::check_row;
pub use column_type::ColumnType;
pub use shard_key::ShardKey;

/// Largest number of columns of a table.
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

/// Builds a [`TableSchema`]; made by [`TableSchema::builder`].
///
/// ```
/// use moonshine_engine::{ColumnType, Error, ShardKey, TableSchema};
/// let builder = TableSchema::builder("lines")
///     .column("order", ColumnType::Int64, false)
///     .column("line", ColumnType::Int32, false)
///     .primary_key(["order", "line"]);
/// let schema = builder.clone().shard_key(ShardKey::Prefix(1)).build()?;
/// assert_eq!(schema.primary_key(), &[0, 1]);
/// let refused = builder.primary_key(["colour"]).build();
/// assert!(matches!(refused, Err(Error::Schema(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TableSchemaBuilder {
    name: String,
    comment: Option<String>,
    columns: Vec<Column>,
    primary_key: Vec<String>,
    shard_key: ShardKey,
    has_row_versions: bool,
    last_field_id: i32,
    past_versions: Vec<PastVersion>,
}

impl TableSchemaBuilder {
    /// Adds a column with the next free field id.
    #[must_use]
    pub fn column(self, name: impl Into<String>, column_type: ColumnType, nullable: bool) -> Self {
        let field_id = self
            .columns
            .iter()
            .map(|column| column.field_id)
            .max()
            .unwrap_or(0)
            + 1;
        self.column_with_id(name, column_type, nullable, field_id)
    }

    /// Adds a column with a field id of the caller's.
    #[must_use]
    pub fn column_with_id(
        mut self,
        name: impl Into<String>,
        column_type: ColumnType,
        nullable: bool,
        field_id: i32,
    ) -> Self {
        self.columns.push(Column {
            name: name.into(),
            column_type,
            nullable,
            field_id,
            default: None,
            comment: None,
        });
        self
    }

    /// Says what the table is for.
    ///
    /// ```
    /// use moonshine_engine::{ColumnType, TableSchema};
    /// let schema = TableSchema::builder("shop.orders")
    ///     .comment("What customers ordered")
    ///     .column("id", ColumnType::Int64, false)
    ///     .column("price", ColumnType::Int32, false)
    ///     .column_comment("In cents, with tax")
    ///     .primary_key(["id"])
    ///     .build()?;
    /// assert_eq!(schema.comment(), Some("What customers ordered"));
    /// assert_eq!(schema.columns()[1].comment.as_deref(), Some("In cents, with tax"));
    /// # Ok::<(), moonshine_engine::Error>(())
    /// ```
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = some_text(comment.into());
        self
    }

    /// Says what the column that was added last means.
    #[must_use]
    pub fn column_comment(mut self, comment: impl Into<String>) -> Self {
        if let Some(column) = self.columns.last_mut() {
            column.comment = some_text(comment.into());
        }
        self
    }

    /// Gives the column that was added last a default.
    #[must_use]
    pub(crate) fn with_default(mut self, default: Value) -> Self {
        if let Some(column) = self.columns.last_mut() {
            column.default = Some(default);
        }
        self
    }

    /// Says what each of the columns means.
    #[must_use]
    pub(crate) fn with_column_comments(mut self, comments: &[&str]) -> Self {
        for (column, comment) in self.columns.iter_mut().zip(comments) {
            column.comment = some_text((*comment).to_owned());
        }
        self
    }

    /// Has rows not say with which version they were written: then the columns can never change.
    #[must_use]
    pub(crate) fn without_row_versions(mut self) -> Self {
        self.has_row_versions = false;
        self
    }

    /// Says what came before.
    #[must_use]
    pub(crate) fn with_past(mut self, last_field_id: i32, past_versions: Vec<PastVersion>) -> Self {
        self.last_field_id = last_field_id;
        self.past_versions = past_versions;
        self
    }

    /// Names the columns of the primary key, in key order. They become not null.
    #[must_use]
    pub fn primary_key<I, S>(mut self, names: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.primary_key = names.into_iter().map(Into::into).collect();
        self
    }

    /// Says how the table is divided into fragments; by the hash of the whole primary key unless this is called.
    #[must_use]
    pub fn shard_key(mut self, shard_key: ShardKey) -> Self {
        self.shard_key = shard_key;
        self
    }

    /// Checks the whole and makes the schema.
    ///
    /// # Errors
    /// [`Error::Schema`]: no name, no columns or too many, a name or field id twice, no primary key, a primary key
    /// column that is missing or named twice, a decimal beyond 38 digits, a default that does not fit its column, a shard
    /// key of columns that are not there, a comment beyond [`COMMENT_SIZE_BYTES_MAX`].
    pub fn build(mut self) -> Result<TableSchema> {
        self.check_columns()?;
        let fail = |reason: String| Err(Error::Schema(format!("table '{}': {reason}", self.name)));
        let mut primary_key = Vec::with_capacity(self.primary_key.len());
        for name in &self.primary_key {
            match self.columns.iter().position(|column| &column.name == name) {
                Some(position) if !primary_key.contains(&position) => primary_key.push(position),
                Some(_) => return fail(format!("primary key names '{name}' twice")),
                None => return fail(format!("primary key column '{name}' does not exist")),
            }
        }
        self.shard_key.check(&self.name, primary_key.len())?;
        for &position in &primary_key {
            if let Some(column) = self.columns.get_mut(position) {
                column.nullable = false;
            }
        }
        let arrow_schema = Arc::new(Schema::new(
            self.columns.iter().map(arrow_field).collect::<Vec<_>>(),
        ));
        // A table that is a keyspace from the start stays one.
        let is_keyspace = self.past_versions.is_empty() && is_keyspace(&self.columns, &primary_key);
        let has_row_versions = self.has_row_versions && !is_keyspace;
        let field_ids = self.columns.iter().map(|column| column.field_id);
        let last_field_id = field_ids.fold(self.last_field_id, i32::max);
        let mut schema = TableSchema {
            name: self.name,
            comment: self.comment,
            columns: self.columns,
            primary_key,
            shard_key: self.shard_key,
            arrow_schema,
            has_row_versions,
            last_field_id,
            past_versions: self.past_versions.into(),
            translations: Arc::new([]),
        };
        let past = schema.past_versions.iter();
        schema.translations = past
            .map(|past| Translation::new(&schema, &past.columns))
            .collect();
        Ok(schema)
    }

    fn check_columns(&self) -> Result<()> {
        let fail = |reason: String| Err(Error::Schema(format!("table '{}': {reason}", self.name)));
        if self.name.is_empty() {
            return Err(Error::Schema("a table needs a name".into()));
        }
        if self.columns.len() > COLUMN_COUNT_MAX {
            return fail(format!(
                "{} columns, at most {COLUMN_COUNT_MAX} are supported",
                self.columns.len()
            ));
        }
        if self.primary_key.is_empty() {
            return fail("a table needs a primary key of one or more columns".into());
        }
        let comments = self.columns.iter().map(|column| &column.comment);
        let mut comments = comments.chain([&self.comment]).flatten();
        if comments.any(|comment| comment.len() > COMMENT_SIZE_BYTES_MAX) {
            return fail(format!(
                "a comment of more than {COMMENT_SIZE_BYTES_MAX} bytes"
            ));
        }
        let mut names = std::collections::HashSet::new();
        let mut field_ids = std::collections::HashSet::new();
        for column in &self.columns {
            if column.name.is_empty() || !names.insert(column.name.as_str()) {
                return fail(format!(
                    "column name '{}' is empty or used twice",
                    column.name
                ));
            }
            if column.field_id < 1 || !field_ids.insert(column.field_id) {
                return fail(format!(
                    "column '{}': field id {} is below 1 or used twice",
                    column.name, column.field_id
                ));
            }
            if let ColumnType::Decimal { precision, scale } = column.column_type
                && (precision == 0 || precision > 38 || scale > precision)
            {
                return fail(format!(
                    "column '{}': {} is not supported (1 to 38 digits, scale up to the precision)",
                    column.name, column.column_type
                ));
            }
        }
        for column in &self.columns {
            if let Some(default) = &column.default
                && default.check(&self.name, column).is_err()
            {
                return fail(format!(
                    "column '{}': the default does not fit",
                    column.name
                ));
            }
        }
        Ok(())
    }
}

/// Text, unless there is none.
pub(crate) fn some_text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Whether columns are those of a keyspace: a binary key, and a binary value.
fn is_keyspace(columns: &[Column], primary_key: &[usize]) -> bool {
    let is = |column: &Column, name: &str| {
        let is_bytes = column.column_type == ColumnType::Binary && !column.nullable;
        is_bytes && column.name == name
    };
    matches!(columns, [key, value] if is(key, "key") && is(value, "value")) && *primary_key == [0]
}

fn arrow_field(column: &Column) -> Field {
    Field::new(
        &column.name,
        column.column_type.arrow_type(),
        column.nullable,
    )
    .with_metadata([("PARQUET:field_id".to_owned(), column.field_id.to_string())].into())
}
