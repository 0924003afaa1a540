//! AWS Glue by its own interface: where tables' newest metadata files are, as parameters of Glue's tables.
//!
//! A commit reads Glue's table, sees that it still has the location that was built on, and updates that *version* of it:
//! Glue refuses if there is a newer one. `client` sends requests, `columns` are what Glue shows of a table's columns.
//!
//! Sources: "AWS Glue Web API Reference"; what stands in a table is what Iceberg's Java `GlueCatalog` and PyIceberg's put there.
//! The crate `iceberg-catalog-glue` can't be used for that: it commits what its own transactions made alone, and brings
//! the whole SDK along.

mod client;
mod columns;

use async_trait::async_trait;
use iceberg::TableIdent;
use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::client::{Failure, GlueClient};
use super::hive_like::{
    FlatName, ICEBERG, METADATA_LOCATION, PREVIOUS_METADATA_LOCATION, TABLE_TYPE, gone,
};
use super::located::{Located, Locations, NotTaken, Reason};
use crate::error::{At, ExportError, Result};
use crate::store::StoreProperties;

/// Glue's names of what is not there, is there already, and has changed meanwhile.
const NOT_FOUND: &str = "EntityNotFoundException";
const EXISTS: &str = "AlreadyExistsException";
const CHANGED: &str = "ConcurrentModificationException";
/// What Glue answers where it took nothing, and may in a moment.
const BUSY: [&str; 5] = [
    CHANGED,
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "ResourceNotReadyException",
];
/// What it answers where something of it may have been done.
const LATE: &str = "OperationTimeoutException";

/// What of a table an update would take away if it did not say it again.
const KEPT: [&str; 3] = ["Description", "Owner", "Retention"];

/// AWS Glue. The key that requests are signed with is that of `store`, or is looked for where the store looks.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GlueConfig {
    /// As `eu-west-1`.
    pub region: String,
    /// The number of the account whose catalog it is. Default: that of the key.
    pub catalog_id: Option<String>,
}

/// Where Glue and its tables are.
pub(crate) struct GluePlaces {
    pub(crate) endpoint: Url,
    /// Without a slash at its end.
    pub(crate) warehouse: String,
    pub(crate) config: GlueConfig,
}

/// Tables of Glue.
#[derive(Debug)]
pub(super) struct GlueTables {
    client: GlueClient,
}

/// A name in Glue.
fn name_of(ident: &TableIdent) -> Result<FlatName<'_>> {
    FlatName::of(ident, "Glue")
}

impl GlueTables {
    pub(super) fn open(places: &GluePlaces, store: &StoreProperties) -> Result<Self> {
        let client = GlueClient::new(places, store)?;
        Ok(GlueTables { client })
    }

    /// Glue's table, if there is one.
    async fn table(&self, name: FlatName<'_>) -> Result<Option<Value>> {
        let message = json!({ "DatabaseName": name.database, "Name": name.table });
        match self.client.ask("GetTable", message).await {
            Ok(answer) => Ok(Some(part(answer, "Table"))),
            Err(failure) if failure.is(NOT_FOUND) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// The names of what stands at `key`, in all pages of an answer.
    async fn names(
        &self,
        operation: &str,
        mut message: Map<String, Value>,
        key: &str,
        is_wanted: fn(&Value) -> bool,
    ) -> Result<Vec<String>, Failure> {
        let mut found = Vec::new();
        loop {
            let answer = self.client.ask(operation, message.clone().into()).await?;
            let next = text(&answer, "NextToken").unwrap_or_default().to_owned();
            let values = answer.get(key).and_then(Value::as_array);
            let wanted = values
                .into_iter()
                .flatten()
                .filter(|value| is_wanted(value));
            found.extend(wanted.filter_map(|value| text(value, "Name").map(str::to_owned)));
            if next.is_empty() {
                return Ok(found);
            }
            message.insert("NextToken".into(), next.into());
        }
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

fn part(mut answer: Value, key: &str) -> Value {
    answer.get_mut(key).map(Value::take).unwrap_or_default()
}

/// Where the metadata of a Glue table is; `None` if it is no Iceberg table.
fn metadata_location(table: &Value) -> Option<&str> {
    let parameters = table.get("Parameters")?;
    let is_iceberg = text(parameters, TABLE_TYPE)?.eq_ignore_ascii_case(ICEBERG);
    text(parameters, METADATA_LOCATION).filter(|_| is_iceberg)
}

/// A table as Glue wants it said, with what `before` has besides.
fn table_input(name: FlatName<'_>, located: Located<'_>, before: &Value) -> Value {
    let parameters = before.get("Parameters").and_then(Value::as_object);
    let mut parameters = parameters.cloned().unwrap_or_default();
    if let Some(previous) = parameters.insert(METADATA_LOCATION.into(), located.location.into()) {
        parameters.insert(PREVIOUS_METADATA_LOCATION.into(), previous);
    }
    parameters.insert(TABLE_TYPE.into(), ICEBERG.into());
    let columns = before.pointer("/StorageDescriptor/Columns");
    let columns = columns.and_then(Value::as_array).map(Vec::as_slice);
    let schema = located.metadata.current_schema();
    let columns = columns::columns(schema, columns.unwrap_or_default());
    let storage = json!({ "Columns": columns, "Location": located.metadata.location() });
    let said = [
        ("Name", Value::from(name.table)),
        ("TableType", "EXTERNAL_TABLE".into()),
        ("Parameters", parameters.into()),
        ("StorageDescriptor", storage),
    ];
    let kept = KEPT
        .iter()
        .filter_map(|key| Some((*key, before.get(*key)?.clone())));
    said.into_iter()
        .chain(kept)
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

#[async_trait]
impl Locations for GlueTables {
    async fn list(&self) -> Result<Vec<TableIdent>> {
        let databases = self.names("GetDatabases", Map::new(), "DatabaseList", |_| true);
        let is_iceberg: fn(&Value) -> bool = |table| metadata_location(table).is_some();
        let mut tables = Vec::new();
        for database in databases.await? {
            let message = [("DatabaseName".to_owned(), database.as_str().into())];
            let message = message.into_iter().collect();
            let names = self.names("GetTables", message, "TableList", is_iceberg);
            let names = match names.await {
                // The database was dropped meanwhile.
                Err(failure) if failure.is(NOT_FOUND) => continue,
                names => names?,
            };
            for name in names {
                tables.push(TableIdent::from_strs([&database, &name]).at("catalog")?);
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
                "Glue has something of that name that is no Iceberg table",
            )),
        }
    }

    async fn make_room(&self, ident: &TableIdent) -> Result<()> {
        let database = name_of(ident)?.database;
        let found = self.client.ask("GetDatabase", json!({ "Name": database }));
        match found.await {
            Ok(_) => return Ok(()),
            Err(failure) if failure.is(NOT_FOUND) => {}
            Err(failure) => return Err(failure.into()),
        }
        let message = json!({ "DatabaseInput": { "Name": database } });
        match self.client.ask("CreateDatabase", message).await {
            // Somebody else may have been faster.
            Err(failure) if !failure.is(EXISTS) => Err(failure.into()),
            _ => Ok(()),
        }
    }

    async fn add(&self, ident: &TableIdent, first: Located<'_>) -> Result<(), NotTaken> {
        let name = name_of(ident).map_err(refused_unsent)?;
        let input = table_input(name, first, &Value::Null);
        let message = json!({ "DatabaseName": name.database, "TableInput": input });
        match self.client.send("CreateTable", &message).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is(EXISTS) => Err(NotTaken::likely(Reason::Conflict)),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn swap(&self, ident: &TableIdent, from: &str, to: Located<'_>) -> Result<(), NotTaken> {
        let name = name_of(ident).map_err(refused_unsent)?;
        let not_asked = |error| NotTaken::certain(Reason::Busy(error));
        let before = self.table(name).await.map_err(not_asked)?;
        let before = before.ok_or_else(|| refused_unsent(gone(ident)))?;
        if metadata_location(&before) != Some(from) {
            return Err(NotTaken::certain(Reason::Conflict));
        }
        let Some(version) = text(&before, "VersionId") else {
            let reason = "Glue does not say which version of the table it has";
            return Err(refused_unsent(ExportError::unavailable(ident, reason)));
        };
        let message = json!({
            "DatabaseName": name.database,
            "TableInput": table_input(name, to, &before),
            "VersionId": version,
            // The versions that are not newest would count, and Iceberg has snapshots.
            "SkipArchive": true,
        });
        match self.client.send("UpdateTable", &message).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is(NOT_FOUND) => {
                Err(NotTaken::likely(Reason::Refused(gone(ident))))
            }
            Err(failure) if failure.is(CHANGED) => Err(NotTaken::likely(Reason::Conflict)),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn remove(&self, ident: &TableIdent) -> Result<bool> {
        let name = name_of(ident)?;
        let message = json!({ "DatabaseName": name.database, "Name": name.table });
        match self.client.send("DeleteTable", &message).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.is(NOT_FOUND) => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// For what is of no use to send.
fn refused_unsent(error: ExportError) -> NotTaken {
    NotTaken::certain(Reason::Refused(error))
}

impl From<Failure> for NotTaken {
    fn from(failure: Failure) -> Self {
        NotTaken::likely(match failure {
            Failure::NotSent(error) => return NotTaken::certain(Reason::Busy(error)),
            Failure::Lost(error) => Reason::Unknown(error),
            Failure::Answered {
                name,
                status,
                error,
            } => match name.as_str() {
                name if BUSY.contains(&name) || status == 429 => Reason::Busy(error),
                LATE => Reason::Unknown(error),
                _ if status == 408 || !(400..500).contains(&status) => Reason::Unknown(error),
                _ => Reason::Refused(error),
            },
        })
    }
}
