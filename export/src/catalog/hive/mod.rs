//! A Hive metastore: where tables' newest metadata files are, as parameters of its tables.
//!
//! A commit reads the metastore's table, and alters it under the condition that it still has the location that was built on:
//! Hive 4 compares a parameter before it changes a table (HIVE-26882), so older ones, which ignore the condition, are refused.
//! `client` makes calls, `thrift` is the protocol. A table goes back with all that the metastore said of it.
//!
//! Sources: `hive_metastore.thrift` of Hive 4; what stands in a table is what Iceberg's Java `HiveCatalog` and PyIceberg's put there.
//! The crate `iceberg-catalog-hms` can't be used for that: it changes no table.

mod client;
#[cfg(test)]
mod tests;
mod thrift;

use async_trait::async_trait;
use iceberg::TableIdent;
use iceberg::spec::Schema;
use reqwest::Url;
use tokio::sync::OnceCell;

use self::client::{Failure, HiveClient};
use self::thrift::{Struct, Value};
use super::hive_like::{
    FlatName, ICEBERG, METADATA_LOCATION, PREVIOUS_METADATA_LOCATION, TABLE_TYPE, gone, type_name,
};
use super::located::{Located, Locations, NotTaken, Reason};
use crate::error::{At, ExportError, Result};

/// The oldest Hive that compares before it changes a table.
const MAJOR_VERSION_MIN: u32 = 4;
/// How many tables are asked for at once.
const TABLES_TOGETHER: usize = 100;
/// What Hive says where a table has another location than was expected.
const MODIFIED: &str = "The table has been modified";

/// Fields of the metastore's structs, by their numbers.
mod field {
    pub(super) const TABLE_NAME: i16 = 1;
    pub(super) const TABLE_DATABASE: i16 = 2;
    pub(super) const TABLE_OWNER: i16 = 3;
    pub(super) const TABLE_STORAGE: i16 = 7;
    pub(super) const TABLE_PARTITION_KEYS: i16 = 8;
    pub(super) const TABLE_PARAMETERS: i16 = 9;
    pub(super) const TABLE_KIND: i16 = 12;
    pub(super) const STORAGE_COLUMNS: i16 = 1;
    pub(super) const STORAGE_LOCATION: i16 = 2;
    pub(super) const STORAGE_INPUT: i16 = 3;
    pub(super) const STORAGE_OUTPUT: i16 = 4;
    pub(super) const STORAGE_SERDE: i16 = 7;
    pub(super) const SERDE_LIBRARY: i16 = 2;
    pub(super) const COLUMN_NAME: i16 = 1;
    pub(super) const COLUMN_TYPE: i16 = 2;
    pub(super) const COLUMN_COMMENT: i16 = 3;
}

/// What is thrown for a database or a table that is not there or is there already, by the numbers of the methods' results.
mod thrown {
    pub(super) const EXISTS: i16 = 1;
    pub(super) const NO_DATABASE: i16 = 1;
    pub(super) const NO_TABLE_TO_DROP: i16 = 1;
    pub(super) const NO_TABLE_TO_GET: i16 = 2;
    pub(super) const NO_DATABASE_OF_TABLES: i16 = 3;
    /// Of `create_table_req`: the table or its database can't be so.
    pub(super) const NOT_CREATED: [i16; 2] = [2, 4];
    /// Of `alter_table_with_environment_context`: the change can't be made.
    pub(super) const NOT_ALTERED: i16 = 1;
}

/// Tables of a metastore.
#[derive(Debug)]
pub(super) struct HiveTables {
    client: HiveClient,
    /// Set once its version was found to do.
    is_checked: OnceCell<()>,
}

fn name_of(ident: &TableIdent) -> Result<FlatName<'_>> {
    FlatName::of(ident, "Hive")
}

impl HiveTables {
    pub(super) fn open(address: &Url) -> Result<Self> {
        Ok(HiveTables {
            client: HiveClient::new(address)?,
            is_checked: OnceCell::new(),
        })
    }

    /// Checks that the metastore compares before it changes a table.
    async fn check_version(&self) -> Result<()> {
        let check = || async {
            let version = self.client.call("getVersion", &Struct::default()).await?;
            let version = version.as_ref().and_then(Value::text).unwrap_or_default();
            let major = version
                .split('.')
                .next()
                .and_then(|major| major.parse().ok());
            match major {
                Some(major) if (MAJOR_VERSION_MIN..).contains(&major) => Ok(()),
                _ => Err(ExportError::Config(format!(
                    "catalog_uri: the Hive metastore is of version '{version}'; it has to be {MAJOR_VERSION_MIN} or newer, \
                     as older ones don't keep two writers of a table apart"
                ))),
            }
        };
        self.is_checked.get_or_try_init(check).await.copied()
    }

    /// The metastore's table, if there is one.
    async fn table(&self, name: FlatName<'_>) -> Result<Option<Struct>, Failure> {
        let request = Struct::default().with(1, name.database).with(2, name.table);
        let arguments = Struct::default().with(1, request);
        match self.client.call("get_table_req", &arguments).await {
            Ok(result) => {
                let table = result.as_ref().and_then(Value::fields);
                let table = table.and_then(|result| result.get(1));
                Ok(table.and_then(Value::fields).cloned())
            }
            Err(failure) if failure.is(thrown::NO_TABLE_TO_GET) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The Iceberg tables among those of a database.
    async fn iceberg_tables(&self, database: &str) -> Result<Vec<String>> {
        let arguments = Struct::default().with(1, database);
        let all = self.client.call("get_all_tables", &arguments).await?;
        let all: Vec<&str> = texts(all.as_ref());
        let mut found = Vec::new();
        for names in all.chunks(TABLES_TOGETHER) {
            let request = Struct::default()
                .with(1, database)
                .with(2, Value::texts(names.iter().copied()));
            let arguments = Struct::default().with(1, request);
            let tables = self
                .client
                .call("get_table_objects_by_name_req", &arguments)
                .await;
            let tables = match tables {
                // It was dropped meanwhile.
                Err(failure) if failure.is(thrown::NO_DATABASE_OF_TABLES) => return Ok(found),
                tables => tables?,
            };
            let tables = tables.as_ref().and_then(Value::fields);
            let tables = tables.and_then(|result| result.get(1));
            let tables = tables.map(Value::elements).unwrap_or_default().iter();
            let tables = tables.filter_map(Value::fields);
            let tables = tables.filter(|table| metadata_location(table).is_some());
            let names = tables.filter_map(|table| table.get(field::TABLE_NAME)?.text());
            found.extend(names.map(str::to_owned));
        }
        Ok(found)
    }
}

fn texts(value: Option<&Value>) -> Vec<&str> {
    let elements = value.map(Value::elements).unwrap_or_default();
    elements.iter().filter_map(Value::text).collect()
}

fn parameters(table: &Struct) -> impl Iterator<Item = (&str, &str)> {
    let parameters = table.get(field::TABLE_PARAMETERS);
    parameters.into_iter().flat_map(Value::entries)
}

/// Where the metadata of a table is; `None` if it is no Iceberg table.
fn metadata_location(table: &Struct) -> Option<&str> {
    let value = |name: &str| {
        parameters(table)
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    let is_iceberg = value(TABLE_TYPE)?.eq_ignore_ascii_case(ICEBERG);
    value(METADATA_LOCATION).filter(|_| is_iceberg)
}

/// A new table, as far as it does not change with each commit.
fn new_table(name: FlatName<'_>) -> Struct {
    let serde = Struct::default().with(
        field::SERDE_LIBRARY,
        "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe",
    );
    let storage = Struct::default()
        .with(
            field::STORAGE_INPUT,
            "org.apache.hadoop.mapred.FileInputFormat",
        )
        .with(
            field::STORAGE_OUTPUT,
            "org.apache.hadoop.mapred.FileOutputFormat",
        )
        .with(field::STORAGE_SERDE, serde);
    Struct::default()
        .with(field::TABLE_NAME, name.table)
        .with(field::TABLE_DATABASE, name.database)
        .with(field::TABLE_OWNER, "moonshine")
        .with(field::TABLE_STORAGE, storage)
        .with(field::TABLE_PARTITION_KEYS, Value::structs([]))
        .with(
            field::TABLE_PARAMETERS,
            Value::text_map([("EXTERNAL", "TRUE")]),
        )
        .with(field::TABLE_KIND, "EXTERNAL_TABLE")
}

/// Says of a table where its metadata is, and what that says.
fn locate(table: &mut Struct, located: Located<'_>) {
    let (metadata, previous) = (
        located.metadata,
        metadata_location(table).map(str::to_owned),
    );
    let uuid = metadata.uuid().to_string();
    let mut said = vec![
        (TABLE_TYPE, ICEBERG),
        (METADATA_LOCATION, located.location),
        ("uuid", uuid.as_str()),
    ];
    said.extend(
        previous
            .as_deref()
            .map(|previous| (PREVIOUS_METADATA_LOCATION, previous)),
    );
    let kept = parameters(table).filter(|(key, _)| !said.iter().any(|(name, _)| name == key));
    let all = Value::text_map(kept.chain(said.iter().copied()));
    table.set(field::TABLE_PARAMETERS, all);
    let storage = table.get(field::TABLE_STORAGE).and_then(Value::fields);
    let mut storage = storage.cloned().unwrap_or_default();
    storage.set(field::STORAGE_COLUMNS, columns(metadata.current_schema()));
    storage.set(field::STORAGE_LOCATION, metadata.location());
    table.set(field::TABLE_STORAGE, storage);
}

fn columns(schema: &Schema) -> Value {
    let fields = schema.as_struct().fields().iter();
    Value::structs(fields.map(|column| {
        Struct::default()
            .with(field::COLUMN_NAME, column.name.as_str())
            .with(field::COLUMN_TYPE, type_name(&column.field_type).as_str())
            .with(
                field::COLUMN_COMMENT,
                column.doc.as_deref().unwrap_or_default(),
            )
    }))
}

#[async_trait]
impl Locations for HiveTables {
    async fn list(&self) -> Result<Vec<TableIdent>> {
        let databases = self
            .client
            .call("get_all_databases", &Struct::default())
            .await?;
        let mut tables = Vec::new();
        for database in texts(databases.as_ref()) {
            for name in self.iceberg_tables(database).await? {
                tables.push(TableIdent::from_strs([database, &name]).at("catalog")?);
            }
        }
        tables.sort_by_key(ToString::to_string);
        Ok(tables)
    }

    async fn find(&self, ident: &TableIdent) -> Result<Option<String>> {
        let Some(table) = self.table(name_of(ident)?).await? else {
            return Ok(None);
        };
        match metadata_location(&table) {
            Some(location) => Ok(Some(location.to_owned())),
            None => Err(ExportError::foreign(
                ident,
                "Hive has something of that name that is no Iceberg table",
            )),
        }
    }

    async fn make_room(&self, ident: &TableIdent) -> Result<()> {
        let name = name_of(ident)?;
        self.check_version().await?;
        let arguments = Struct::default().with(1, name.database);
        match self.client.call("get_database", &arguments).await {
            Ok(_) => return Ok(()),
            Err(failure) if failure.is(thrown::NO_DATABASE) => {}
            Err(failure) => return Err(failure.into()),
        }
        let database = Struct::default().with(1, name.database);
        let arguments = Struct::default().with(1, database);
        match self.client.call("create_database", &arguments).await {
            // Somebody else may have been faster.
            Err(failure) if !failure.is(thrown::EXISTS) => Err(failure.into()),
            _ => Ok(()),
        }
    }

    async fn add(&self, ident: &TableIdent, first: Located<'_>) -> Result<(), NotTaken> {
        let name = name_of(ident).map_err(refused_unsent)?;
        let mut table = new_table(name);
        locate(&mut table, first);
        let arguments = Struct::default().with(1, Struct::default().with(1, table));
        match self.client.call("create_table_req", &arguments).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is(thrown::EXISTS) => Err(NotTaken::likely(Reason::Conflict)),
            Err(failure) => {
                let is_refused = thrown::NOT_CREATED.iter().any(|&field| failure.is(field));
                Err(not_taken(failure, is_refused))
            }
        }
    }

    async fn swap(&self, ident: &TableIdent, from: &str, to: Located<'_>) -> Result<(), NotTaken> {
        let name = name_of(ident).map_err(refused_unsent)?;
        let not_asked = |error| NotTaken::certain(Reason::Busy(error));
        self.check_version().await.map_err(|error| match error {
            ExportError::Config(_) => refused_unsent(error),
            error => not_asked(error),
        })?;
        let table = self
            .table(name)
            .await
            .map_err(|failure| not_asked(failure.into()))?;
        let mut table = table.ok_or_else(|| refused_unsent(gone(ident)))?;
        if metadata_location(&table) != Some(from) {
            return Err(NotTaken::certain(Reason::Conflict));
        }
        locate(&mut table, to);
        let condition = Value::text_map([
            ("expected_parameter_key", METADATA_LOCATION),
            ("expected_parameter_value", from),
            // Else it would look for the table's files.
            ("DO_NOT_UPDATE_STATS", "true"),
        ]);
        let arguments = Struct::default()
            .with(1, name.database)
            .with(2, name.table)
            .with(3, table)
            .with(4, Struct::default().with(1, condition));
        let altered = self
            .client
            .call("alter_table_with_environment_context", &arguments);
        match altered.await {
            Ok(_) => Ok(()),
            Err(Failure::Thrown(_, message, _)) if message.contains(MODIFIED) => {
                Err(NotTaken::likely(Reason::Conflict))
            }
            Err(failure) => {
                let is_refused = failure.is(thrown::NOT_ALTERED);
                Err(not_taken(failure, is_refused))
            }
        }
    }

    async fn remove(&self, ident: &TableIdent) -> Result<bool> {
        let name = name_of(ident)?;
        let arguments = Struct::default()
            .with(1, name.database)
            .with(2, name.table)
            .with(3, Value::Bool(false))
            .with(4, Struct::default());
        let dropped = self
            .client
            .call("drop_table_with_environment_context", &arguments);
        match dropped.await {
            Ok(_) => Ok(true),
            Err(failure) if failure.is(thrown::NO_TABLE_TO_DROP) => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// For what is of no use to send.
fn refused_unsent(error: ExportError) -> NotTaken {
    NotTaken::certain(Reason::Refused(error))
}

/// Of a call that did not succeed. What else is thrown may be so after the change was made.
fn not_taken(failure: Failure, is_refused: bool) -> NotTaken {
    match failure {
        Failure::NotSent(error) => NotTaken::certain(Reason::Busy(error)),
        Failure::Thrown(_, _, error) if is_refused => NotTaken::likely(Reason::Refused(error)),
        Failure::Lost(error) | Failure::Thrown(_, _, error) => {
            NotTaken::likely(Reason::Unknown(error))
        }
    }
}
