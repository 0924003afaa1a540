//! A table as its users hold it.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::schema::TableSchema;
use crate::tree::table::TableState;

/// A table of a database.
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
/// let users = database.table("users").ok_or("no such table")?;
/// assert_eq!((users.name(), users.schema().columns().len()), ("users", 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    pub(crate) state: Arc<TableState>,
    /// As it was when the table was taken.
    pub(crate) schema: Arc<TableSchema>,
}

impl Table {
    /// Its number in the database, from 0, in order of creation.
    pub fn id(&self) -> u32 {
        self.state.id
    }

    /// Its name, by convention `namespace.table`.
    pub fn name(&self) -> &str {
        self.schema.name()
    }

    /// Its columns and primary key.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }
}

impl Table {
    /// The table as it is now.
    pub(crate) fn new(state: Arc<TableState>) -> Self {
        Table {
            schema: state.schema(),
            state,
        }
    }

    /// Whether it was changed since it was taken.
    pub(crate) fn is_outdated(&self) -> bool {
        self.schema().has_row_versions() && self.state.schema().version() != self.schema().version()
    }

    /// Checks that what is committed up to a sequence can be read with its schema.
    pub(crate) fn check_reads(&self, seq: u64) -> Result<()> {
        if !self.schema().has_row_versions() {
            return Ok(());
        }
        let newest = self.state.schema();
        let version = self.schema().version() as usize;
        match newest.past_versions().get(version) {
            Some(past) if past.until_seq < seq => Err(self.changed()),
            _ => Ok(()),
        }
    }

    /// The error for who goes on with a schema that was changed.
    pub(crate) fn changed(&self) -> Error {
        Error::SchemaChanged {
            table: self.name().to_owned(),
        }
    }
}
