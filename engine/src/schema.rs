//! Tables, columns and their types, as the engine and everything above it names them.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::error::{Error, Result};
use crate::shard_key::ShardKey;

/// Largest number of columns of a table.
pub const COLUMN_COUNT_MAX: usize = 4096;

/// The type of a column.
///
/// Each maps to one Arrow type ([`ColumnType::arrow_type`]) and has one encoding on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// `true` or `false`.
    Boolean,
    /// 32-bit signed integer.
    Int32,
    /// 64-bit signed integer.
    Int64,
    /// IEEE 754 binary32.
    Float32,
    /// IEEE 754 binary64.
    Float64,
    /// Fixed-point number of `precision` (1 to 38) digits, `scale` (0 to `precision`) of them after the point.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// UTF-8 text.
    Utf8,
    /// Bytes.
    Binary,
    /// A 128-bit UUID.
    Uuid,
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds since 1970-01-01T00:00:00, of no time zone.
    Timestamp,
    /// Microseconds since 1970-01-01T00:00:00Z.
    TimestampTz,
}

impl ColumnType {
    /// The Arrow type that batches carry this column in.
    ///
    /// ```
    /// use arrow_schema::DataType;
    /// use moonshine_engine::ColumnType;
    /// assert_eq!(ColumnType::Uuid.arrow_type(), DataType::FixedSizeBinary(16));
    /// ```
    pub fn arrow_type(self) -> DataType {
        match self {
            ColumnType::Boolean => DataType::Boolean,
            ColumnType::Int32 => DataType::Int32,
            ColumnType::Int64 => DataType::Int64,
            ColumnType::Float32 => DataType::Float32,
            ColumnType::Float64 => DataType::Float64,
            ColumnType::Decimal { precision, scale } => {
                DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(i8::MAX))
            }
            ColumnType::Utf8 => DataType::Utf8,
            ColumnType::Binary => DataType::Binary,
            ColumnType::Uuid => DataType::FixedSizeBinary(16),
            ColumnType::Date => DataType::Date32,
            ColumnType::Time => DataType::Time64(TimeUnit::Microsecond),
            ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            ColumnType::TimestampTz => {
                DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))
            }
        }
    }
}

impl std::fmt::Display for ColumnType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ColumnType::Boolean => f.write_str("boolean"),
            ColumnType::Int32 => f.write_str("int32"),
            ColumnType::Int64 => f.write_str("int64"),
            ColumnType::Float32 => f.write_str("float32"),
            ColumnType::Float64 => f.write_str("float64"),
            ColumnType::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            ColumnType::Utf8 => f.write_str("string"),
            ColumnType::Binary => f.write_str("binary"),
            ColumnType::Uuid => f.write_str("uuid"),
            ColumnType::Date => f.write_str("date"),
            ColumnType::Time => f.write_str("time"),
            ColumnType::Timestamp => f.write_str("timestamp"),
            ColumnType::TimestampTz => f.write_str("timestamptz"),
        }
    }
}

impl std::str::FromStr for ColumnType {
    type Err = Error;

    /// Reads what [`Display`](std::fmt::Display) writes.
    ///
    /// ```
    /// use moonshine_engine::ColumnType;
    /// assert_eq!("decimal(10, 2)".parse::<ColumnType>()?, ColumnType::Decimal { precision: 10, scale: 2 });
    /// # Ok::<(), moonshine_engine::Error>(())
    /// ```
    fn from_str(text: &str) -> Result<Self> {
        let unknown = || {
            Error::Schema(format!(
                "unknown column type '{text}'; the types are boolean, int32, int64, float32, float64, \
                 decimal(p,s), string, binary, uuid, date, time, timestamp, timestamptz"
            ))
        };
        let text = text.trim();
        if let Some(arguments) = text
            .strip_prefix("decimal(")
            .and_then(|t| t.strip_suffix(')'))
        {
            let (precision, scale) = arguments.split_once(',').ok_or_else(unknown)?;
            return Ok(ColumnType::Decimal {
                precision: precision.trim().parse().map_err(|_| unknown())?,
                scale: scale.trim().parse().map_err(|_| unknown())?,
            });
        }
        Ok(match text {
            "boolean" | "bool" => ColumnType::Boolean,
            "int32" | "int" => ColumnType::Int32,
            "int64" | "long" => ColumnType::Int64,
            "float32" | "float" => ColumnType::Float32,
            "float64" | "double" => ColumnType::Float64,
            "string" => ColumnType::Utf8,
            "binary" => ColumnType::Binary,
            "uuid" => ColumnType::Uuid,
            "date" => ColumnType::Date,
            "time" => ColumnType::Time,
            "timestamp" => ColumnType::Timestamp,
            "timestamptz" => ColumnType::TimestampTz,
            _ => return Err(unknown()),
        })
    }
}

/// A column of a [`TableSchema`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, unique in the table.
    pub name: String,
    /// Its type.
    pub column_type: ColumnType,
    /// Whether a row may leave it null. A column of the primary key may not.
    pub nullable: bool,
    /// Its identity, stable from the table's first day; names and positions may change, this may not. From 1.
    pub field_id: i32,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    name: String,
    columns: Vec<Column>,
    primary_key: Vec<usize>,
    shard_key: ShardKey,
    arrow_schema: SchemaRef,
}

impl TableSchema {
    /// Starts a schema of that table name, by convention `namespace.table`.
    pub fn builder(name: impl Into<String>) -> TableSchemaBuilder {
        TableSchemaBuilder {
            name: name.into(),
            columns: Vec::new(),
            primary_key: Vec::new(),
            shard_key: ShardKey::default(),
        }
    }

    /// The table's name, by convention `namespace.table`.
    pub fn name(&self) -> &str {
        &self.name
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

    /// The Arrow schema of this table's batches; each field carries its field id under `PARQUET:field_id`.
    pub fn arrow_schema(&self) -> &SchemaRef {
        &self.arrow_schema
    }
}

/// Builds a [`TableSchema`]; made by [`TableSchema::builder`].
#[derive(Clone, Debug)]
pub struct TableSchemaBuilder {
    name: String,
    columns: Vec<Column>,
    primary_key: Vec<String>,
    shard_key: ShardKey,
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
        });
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
    /// column that is missing or named twice, a decimal beyond 38 digits, a shard key of columns that are not there.
    pub fn build(mut self) -> Result<TableSchema> {
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
        Ok(TableSchema {
            name: self.name,
            columns: self.columns,
            primary_key,
            shard_key: self.shard_key,
            arrow_schema,
        })
    }
}

fn arrow_field(column: &Column) -> Field {
    Field::new(
        &column.name,
        column.column_type.arrow_type(),
        column.nullable,
    )
    .with_metadata([("PARQUET:field_id".to_owned(), column.field_id.to_string())].into())
}
