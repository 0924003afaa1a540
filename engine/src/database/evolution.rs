//! Changing the columns of a table that has rows: what changes is what is known of them, no row is touched.
//!
//! Each row of a table says with which version of its schema it was written. A table's schema keeps, for each past version,
//! the columns that stand in such rows and their stable field ids; whoever decodes an older row goes by these
//! ([`crate::codec::versions`]). Flushes and compactions move rows as they are.

use std::collections::HashSet;

use crate::database::Database;
use crate::error::{Error, Result};
use crate::log::fact::encode_table;
use crate::log::format::RecordKind;
use crate::schema::past::PastVersion;
use crate::schema::{Column, ColumnType, NestedField, TableSchema, some_text};
use crate::table::Table;
use crate::value::Value;

/// A change of a table's columns, see [`Database::alter_table`].
///
/// ```
/// use moonshine_engine::{ColumnType, Database, Options, SchemaChange, TableSchema, Value};
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
/// let change = SchemaChange::RenameColumn { name: "name".into(), new_name: "full_name".into() };
/// let users = database.alter_table(&users, &[change])?;
/// assert_eq!(users.schema().position("full_name"), Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SchemaChange {
    /// A column is added behind the others, with a field id that the table never had. In the rows that are there it is
    /// `default`, or null without one.
    AddColumn {
        /// Its name.
        name: String,
        /// Its type.
        column_type: ColumnType,
        /// Whether a row may leave it null. One that may not needs a default.
        nullable: bool,
        /// What rows have that were written without it.
        default: Option<Value>,
    },
    /// A column outside the primary key goes, with what rows hold in it.
    DropColumn {
        /// Its name.
        name: String,
    },
    /// A column gets another name.
    RenameColumn {
        /// Its name up to now.
        name: String,
        /// Its name from now on.
        new_name: String,
    },
    /// A column gets a type that holds all values of the one it has: `int32` becomes `int64`, `float32` becomes `float64`, a
    /// decimal gets more digits before the point. In the primary key only decimals, whose keys stay the same bytes.
    WidenColumn {
        /// Its name.
        name: String,
        /// The wider type.
        column_type: ColumnType,
    },
    /// A column gets a comment, another one, or none.
    CommentColumn {
        /// Its name.
        name: String,
        /// What it means, for people.
        comment: Option<String>,
    },
    /// A nested column, or a nested part of one, is changed within: the change is of the parts of what the path leads to, as
    /// if they were columns. Fields of structs can be added (they may be null and have no default), dropped, renamed, widened and
    /// commented; the `element` of a list and the `value` of a map are widened and commented.
    Within {
        /// The name of the column, and of the parts on the way from there.
        path: Vec<String>,
        /// The change.
        change: Box<SchemaChange>,
    },
    /// The table gets a comment, another one, or none.
    CommentTable {
        /// What it is for, for people.
        comment: Option<String>,
    },
}

impl Database {
    /// Changes the columns of a table, durably, in the order given, all of them or none. No row is read or written, so it
    /// takes the time of one small commit. Returns the table with its new schema.
    ///
    /// A [`Table`] keeps the schema that it was handed out with. One from before reads snapshots up to the change, as it
    /// did; writing to it, and reading rows that were committed after the change, ends in [`Error::SchemaChanged`]: take it
    /// anew with [`table`](Self::table). The new one reads older snapshots too, with the new columns. What a transaction
    /// wrote before the change is committed as usual: columns that it does not have get their default.
    ///
    /// ```
    /// use moonshine_engine::{ColumnType, Database, Options, SchemaChange, TableSchema, Value};
    /// # let folder = tempfile::tempdir()?;
    /// let database = Database::open(folder.path(), Options::unmeasured())?;
    /// let schema = TableSchema::builder("users")
    ///     .column("id", ColumnType::Int64, false)
    ///     .column("age", ColumnType::Int32, true)
    ///     .primary_key(["id"])
    ///     .build()?;
    /// let users = database.create_table(schema)?;
    /// let mut transaction = database.begin();
    /// transaction.upsert(&users, vec![Value::Int64(1), Value::Int32(36)])?;
    /// transaction.commit()?;
    ///
    /// let changes = [
    ///     SchemaChange::WidenColumn { name: "age".into(), column_type: ColumnType::Int64 },
    ///     SchemaChange::AddColumn {
    ///         name: "country".into(),
    ///         column_type: ColumnType::Utf8,
    ///         nullable: false,
    ///         default: Some(Value::Utf8("unknown".into())),
    ///     },
    /// ];
    /// let users = database.alter_table(&users, &changes)?;
    /// let row = database.snapshot().get(&users, &[Value::Int64(1)])?;
    /// assert_eq!(row, Some(vec![Value::Int64(1), Value::Int64(36), Value::Utf8("unknown".into())]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Schema`] for a change that can't be, also of a keyspace, and of a table that was created in a database of
    /// format 3 or older, whose rows don't say their version; [`Error::SchemaChanged`] if the table was changed since it was
    /// taken; [`Error::Usage`] if the database is read-only, and else as [`create_table`](Self::create_table).
    pub fn alter_table(&self, table: &Table, changes: &[SchemaChange]) -> Result<Table> {
        let shared = self.shared();
        let _creating = self.creating();
        shared.check_current(table)?;
        if changes.is_empty() {
            return Ok(table.clone());
        }
        shared.check_writable()?;
        let schema = table.schema().altered(changes)?;
        shared.log(RecordKind::TableAltered, encode_table(table.id(), &schema))?;
        Ok(Table::new(table.state.clone()))
    }
}

impl TableSchema {
    /// The next version of a schema.
    fn altered(&self, changes: &[SchemaChange]) -> Result<TableSchema> {
        let fail = |reason: &str| Err(Error::Schema(format!("table '{}': {reason}", self.name())));
        if !self.has_row_versions() {
            return fail(
                "its rows don't say which version of the schema they have, so it can't change",
            );
        }
        let mut columns = self.columns().to_vec();
        let mut comment = self.comment().map(str::to_owned);
        let mut last_field_id = self.last_field_id();
        for change in changes {
            if let SchemaChange::CommentTable { comment: new } = change {
                comment = new.clone().and_then(some_text);
            }
            self.change(&mut columns, &mut last_field_id, change)?;
        }
        let keys: HashSet<i32> = self.key_columns().map(|column| column.field_id).collect();
        let past = PastVersion {
            columns: self
                .columns()
                .iter()
                .filter(|column| !keys.contains(&column.field_id))
                .map(|column| (column.field_id, column.column_type))
                .collect(),
            until_seq: 0,
        };
        let past_versions = self.past_versions().iter().cloned().chain([past]);
        self.with_columns(columns, comment, last_field_id, past_versions.collect())
    }

    fn change(
        &self,
        columns: &mut Vec<Column>,
        last_field_id: &mut i32,
        change: &SchemaChange,
    ) -> Result<()> {
        let fail =
            |reason: String| Err(Error::Schema(format!("table '{}': {reason}", self.name())));
        let position = |columns: &[Column], name: &str| position_of(self, columns, name);
        let is_key = |column: &Column| {
            self.key_columns()
                .any(|key| key.field_id == column.field_id)
        };
        match change {
            SchemaChange::AddColumn {
                name,
                column_type,
                nullable,
                default,
            } => {
                if !nullable && default.is_none() {
                    return fail(format!(
                        "column '{name}' may not be null and has no default for the rows that are there"
                    ));
                }
                let field_id = self.next_field_id(last_field_id)?;
                columns.push(Column {
                    name: name.clone(),
                    column_type: column_type.with_field_ids(last_field_id, true),
                    nullable: *nullable,
                    field_id,
                    default: default.clone(),
                    comment: None,
                });
            }
            SchemaChange::DropColumn { name } => {
                let at = position(columns, name)?;
                if columns.get(at).is_some_and(is_key) {
                    return fail(format!("column '{name}' belongs to the primary key"));
                }
                columns.remove(at);
            }
            SchemaChange::RenameColumn { name, new_name } => {
                let at = position(columns, name)?;
                if columns.iter().any(|column| column.name == *new_name) {
                    return fail(format!("there is a column '{new_name}' already"));
                }
                if let Some(column) = columns.get_mut(at) {
                    column.name.clone_from(new_name);
                }
            }
            SchemaChange::WidenColumn { name, column_type } => {
                let at = position(columns, name)?;
                if let Some(column) = columns.get_mut(at) {
                    let wide = widened(column, *column_type, is_key(column));
                    *column = wide.map_err(|reason| {
                        Error::Schema(format!(
                            "table '{}', column '{name}': {reason}",
                            self.name()
                        ))
                    })?;
                }
            }
            SchemaChange::CommentColumn { name, comment } => {
                let at = position(columns, name)?;
                if let Some(column) = columns.get_mut(at) {
                    column.comment = comment.clone().and_then(some_text);
                }
            }
            SchemaChange::Within { path, change } => {
                self.change_within(columns, last_field_id, path, change)?;
            }
            // It is of no column.
            SchemaChange::CommentTable { .. } => {}
        }
        Ok(())
    }

    fn change_within(
        &self,
        columns: &mut [Column],
        last_field_id: &mut i32,
        path: &[String],
        change: &SchemaChange,
    ) -> Result<()> {
        let name = path.first().map(String::as_str).unwrap_or_default();
        let at = position_of(self, columns, name)?;
        let rest = path.get(1..).unwrap_or_default();
        if let Some(column) = columns.get_mut(at) {
            let changed = changed_within(column.column_type, rest, change, last_field_id);
            column.column_type = changed.map_err(|reason| {
                let path = path.join(".");
                Error::Schema(format!("table '{}', '{path}': {reason}", self.name()))
            })?;
        }
        Ok(())
    }

    /// A field id that the table never had.
    fn next_field_id(&self, last_field_id: &mut i32) -> Result<i32> {
        let next = last_field_id.checked_add(1).ok_or_else(|| {
            Error::Schema(format!(
                "table '{}': it had as many columns as can be",
                self.name()
            ))
        })?;
        *last_field_id = next;
        Ok(next)
    }
}

fn position_of(schema: &TableSchema, columns: &[Column], name: &str) -> Result<usize> {
    let found = columns.iter().position(|column| column.name == name);
    found.ok_or_else(|| {
        Error::Schema(format!(
            "table '{}': there is no column '{name}'",
            schema.name()
        ))
    })
}

/// A column with a wider type; or why it can't have that.
fn widened(column: &Column, to: ColumnType, is_key: bool) -> Result<Column, String> {
    let from = column.column_type;
    let keeps_keys = keeps_bytes(from, to)?;
    if is_key && !keeps_keys {
        return Err(format!(
            "{from} can't become {to} in the primary key, whose bytes would change"
        ));
    }
    let default = match (&column.default, to) {
        (Some(Value::Int32(v)), ColumnType::Int64) => Some(Value::Int64(i64::from(*v))),
        (Some(Value::Float32(v)), ColumnType::Float64) => Some(Value::Float64(f64::from(*v))),
        (default, _) => default.clone(),
    };
    Ok(Column {
        column_type: to,
        default,
        ..column.clone()
    })
}

/// Whether values stay the same bytes when their type becomes a wider one; or that it is no wider one.
fn keeps_bytes(from: ColumnType, to: ColumnType) -> Result<bool, String> {
    match (from, to) {
        (
            ColumnType::Decimal { precision, scale },
            ColumnType::Decimal {
                precision: more,
                scale: same,
            },
        ) if precision <= more && scale == same => Ok(true),
        (ColumnType::Int32, ColumnType::Int64) | (ColumnType::Float32, ColumnType::Float64) => {
            Ok(false)
        }
        _ => Err(format!("{from} can't become {to}")),
    }
}

/// A nested type in which what the path leads to has other parts; or why it can't.
fn changed_within(
    column_type: ColumnType,
    path: &[String],
    change: &SchemaChange,
    last_field_id: &mut i32,
) -> Result<ColumnType, String> {
    let mut fields = column_type.nested_fields().to_vec();
    match path.split_first() {
        Some((name, rest)) => {
            let field = part_of(&mut fields, name)?;
            field.column_type = changed_within(field.column_type, rest, change, last_field_id)?;
        }
        None => change_parts(column_type, &mut fields, change, last_field_id)?,
    }
    Ok(column_type.with_fields(fields))
}

fn part_of<'f>(fields: &'f mut [NestedField], name: &str) -> Result<&'f mut NestedField, String> {
    let found = fields.iter_mut().find(|field| field.name == name);
    found.ok_or_else(|| format!("there is no '{name}' in it"))
}

fn change_parts(
    column_type: ColumnType,
    fields: &mut Vec<NestedField>,
    change: &SchemaChange,
    last_field_id: &mut i32,
) -> Result<(), String> {
    let is_struct = matches!(column_type, ColumnType::Struct(_));
    match change {
        SchemaChange::AddColumn {
            name,
            column_type,
            nullable: true,
            default: None,
        } if is_struct => {
            *last_field_id = last_field_id.saturating_add(1);
            let field_id = *last_field_id;
            let added = column_type.with_field_ids(last_field_id, true);
            fields.push(NestedField {
                field_id,
                ..NestedField::new(name, added, true)
            });
        }
        SchemaChange::DropColumn { name } if is_struct => {
            part_of(fields, name)?;
            fields.retain(|field| field.name != *name);
        }
        SchemaChange::RenameColumn { name, new_name } if is_struct => {
            part_of(fields, name)?.name.clone_from(new_name);
        }
        SchemaChange::WidenColumn {
            name,
            column_type: to,
        } => {
            let field = part_of(fields, name)?;
            let is_map_key = matches!(column_type, ColumnType::Map(_)) && name == "key";
            keeps_bytes(field.column_type, *to)?;
            if is_map_key {
                return Err("the key of a map keeps its type".to_owned());
            }
            field.column_type = *to;
        }
        SchemaChange::CommentColumn { name, comment } => {
            part_of(fields, name)?.comment = comment.clone().and_then(some_text);
        }
        _ => return Err(format!("{column_type} can't be changed so within")),
    }
    Ok(())
}
