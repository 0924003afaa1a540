//! Making a table's schema, and what can't be one.

use std::sync::Arc;

use arrow_schema::Schema;

use super::past::{PastVersion, Translation};
use super::{COLUMN_COUNT_MAX, COMMENT_SIZE_BYTES_MAX, Column, ColumnType, ShardKey, TableSchema};
use crate::error::{Error, Result};
use crate::value::Value;

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
    pub(super) name: String,
    pub(super) comment: Option<String>,
    pub(super) columns: Vec<Column>,
    pub(super) primary_key: Vec<String>,
    pub(super) shard_key: ShardKey,
    pub(super) has_row_versions: bool,
    pub(super) last_field_id: i32,
    pub(super) past_versions: Vec<PastVersion>,
}

impl TableSchemaBuilder {
    /// Adds a column with the next free field id; parts of a nested type that have none get those after it.
    #[must_use]
    pub fn column(self, name: impl Into<String>, column_type: ColumnType, nullable: bool) -> Self {
        let ids = self.columns.iter().map(Column::last_field_id);
        let mut field_id = ids.max().unwrap_or(0) + 1;
        let own_id = field_id;
        let column_type = column_type.with_field_ids(&mut field_id, false);
        self.column_with_id(name, column_type, nullable, own_id)
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
    /// column that is missing, nested or named twice, a decimal beyond 38 digits, more than [`NESTING_DEPTH_MAX`](crate::NESTING_DEPTH_MAX) types within
    /// each other, a default that does not fit its column, a shard key of columns that are not there, a comment beyond [`COMMENT_SIZE_BYTES_MAX`].
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
                if column.column_type.is_nested() {
                    return Err(Error::Schema(format!(
                        "table '{}': primary key column '{}' is of type {}, which keys can't have",
                        self.name, column.name, column.column_type
                    )));
                }
                column.nullable = false;
            }
        }
        let arrow_schema = Arc::new(Schema::new(
            self.columns
                .iter()
                .map(Column::arrow_field)
                .collect::<Vec<_>>(),
        ));
        // A table that is a keyspace from the start stays one.
        let is_keyspace = self.past_versions.is_empty() && is_keyspace(&self.columns, &primary_key);
        let has_row_versions = self.has_row_versions && !is_keyspace;
        let field_ids = self.columns.iter().map(Column::last_field_id);
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
            if let Err(reason) = column.column_type.check(0, &mut field_ids) {
                return fail(format!("column '{}': {reason}", column.name));
            }
        }
        if field_ids.len() > COLUMN_COUNT_MAX {
            return fail(format!(
                "{} columns and parts of columns, at most {COLUMN_COUNT_MAX} are supported",
                field_ids.len()
            ));
        }
        for column in &self.columns {
            if let Some(default) = &column.default
                && (column.column_type.is_nested() || default.check(&self.name, column).is_err())
            {
                return fail(format!(
                    "column '{}': the default does not fit, as none does for lists, structs and maps",
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
