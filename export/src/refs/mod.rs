//! Branches and tags: names for points in a table's history.
//!
//! Every snapshot says which commit of the database it holds, and where each source was then. [`TableHistory`] finds the one
//! that a reader means, and gives it a name that outlives expiry; `publish` has the main branch show what was exported to another
//! one. Both are commits of metadata alone: they need no exporter, fence none, and a running one goes on. `tags` are given by
//! exports themselves.

mod as_of;
mod publish;
mod tags;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::spec::{MAIN_BRANCH, Snapshot, SnapshotReference, SnapshotRetention, TableMetadata};
use iceberg::{TableIdent, TableRequirement, TableUpdate};
use moonshine_engine::{Database, Table};
use uuid::Uuid;

pub use self::as_of::AsOf;
pub use self::publish::{Publish, Published};
use crate::catalog::{self, CatalogTable, Change, TableCatalog};
use crate::commit::{Failure, Proposal, run};
use crate::config::IcebergConfig;
use crate::environment::Environment;
use crate::error::{ExportError, Result};
use crate::references::{head, history, references};
use crate::schema::table_ident;
use crate::summary::{DATABASE_ID, Stamp};

/// The history of one exported table.
///
/// ```
/// use moonshine_export::{AsOf, ReferenceKind, TableHistory};
/// # use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
/// # use moonshine_export::{Exporter, IcebergConfig};
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let database = Database::open(folder.path().join("data"), Options::unmeasured())?;
/// # let schema = TableSchema::builder("orders").column("id", ColumnType::Int64, false).primary_key(["id"]).build()?;
/// # let orders = database.create_table(schema)?;
/// # let warehouse = folder.path().join("warehouse");
/// # let config: IcebergConfig = serde_json::from_value(serde_json::json!({ "warehouse_path": warehouse }))?;
/// # let mut exporter = Exporter::open(database.clone(), &config).await?;
/// # for id in 1..=2 {
/// #     let mut transaction = database.begin();
/// #     transaction.upsert(&orders, vec![Value::Int64(id)])?;
/// #     transaction.commit()?;
/// #     exporter.export(&orders, &database.snapshot()).await?;
/// # }
/// let history = TableHistory::open(&config, &database, &orders).await?;
/// let first = history.version_as_of(AsOf::Commit(1)).await?;
/// history.name(&first, "first-day", ReferenceKind::Tag).await?;
/// assert_eq!(history.versions().await?.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TableHistory {
    catalog: Arc<dyn TableCatalog>,
    environment: Environment,
    database_id: Uuid,
    ident: TableIdent,
}

/// One state of a table in its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableVersion {
    /// Iceberg's name of it.
    pub snapshot_id: i64,
    /// The database's commit that it holds.
    pub commit_seq: u64,
    /// Where each source was as of that commit.
    pub origins: BTreeMap<String, String>,
    /// When it was exported, in milliseconds since 1970-01-01T00:00:00Z.
    pub exported_at_ms: i64,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceKind {
    /// A line of snapshots that others may write on.
    Branch,
    /// One snapshot for good.
    Tag,
}

impl TableHistory {
    /// The history of a table of the database; one that was opened to read is enough.
    ///
    /// # Errors
    /// [`ExportError::Config`]; [`ExportError::Unavailable`], also if nothing was exported there yet.
    pub async fn open(
        config: &IcebergConfig,
        database: &Database,
        table: &Table,
    ) -> Result<TableHistory> {
        config.check()?;
        let catalog = catalog::open(config, false).await?;
        Self::with_catalog(catalog, database, table)
    }

    /// The same, in a catalog of the caller's.
    ///
    /// # Errors
    /// [`ExportError::Config`] for a name that no Iceberg table can have.
    pub fn with_catalog(
        catalog: Arc<dyn TableCatalog>,
        database: &Database,
        table: &Table,
    ) -> Result<TableHistory> {
        Ok(TableHistory {
            catalog,
            environment: Environment::default(),
            database_id: database.id(),
            ident: table_ident(table.name())?,
        })
    }

    /// Every state of the branch that it is exported to that is still there, the newest first.
    ///
    /// # Errors
    /// [`ExportError::Unavailable`]; [`ExportError::Config`] if there is no such table; [`ExportError::Foreign`] if it is another
    /// database's.
    pub async fn versions(&self) -> Result<Vec<TableVersion>> {
        let table = self.load().await?;
        Ok(versions(&table.metadata))
    }

    /// The newest state up to a point.
    ///
    /// # Errors
    /// [`ExportError::Config`] if the history does not reach back that far; as [`versions`](Self::versions).
    pub async fn version_as_of(&self, as_of: AsOf) -> Result<TableVersion> {
        let table = self.load().await?;
        find(&table, as_of)
    }

    /// Names a state that is in the history. The name must be new, or name this state already.
    ///
    /// # Errors
    /// [`ExportError::Config`] for a name that is taken, or a state that expired meanwhile; as [`versions`](Self::versions).
    pub async fn name(
        &self,
        version: &TableVersion,
        name: &str,
        kind: ReferenceKind,
    ) -> Result<()> {
        check_name(name)?;
        let retention = match kind {
            ReferenceKind::Branch => SnapshotRetention::branch(None, None, None),
            ReferenceKind::Tag => SnapshotRetention::Tag {
                max_ref_age_ms: None,
            },
        };
        let mut naming = Naming {
            name,
            reference: SnapshotReference::new(version.snapshot_id, retention),
        };
        let base = self.load().await?;
        run(self.catalog.as_ref(), &self.environment, base, &mut naming)
            .await
            .map_err(Failure::into_error)?;
        Ok(())
    }

    async fn load(&self) -> Result<CatalogTable> {
        let found = self.catalog.load(&self.ident).await?;
        let table = found.ok_or_else(|| {
            ExportError::Config(format!("there is no table '{}' in the catalog", self.ident))
        })?;
        let properties = table.metadata.properties();
        if properties.get(DATABASE_ID) != Some(&self.database_id.to_string()) {
            return Err(ExportError::foreign(
                &self.ident,
                "another database writes it",
            ));
        }
        Ok(table)
    }
}

/// A reference on its way into the table.
struct Naming<'a> {
    name: &'a str,
    reference: SnapshotReference,
}

#[async_trait]
impl Proposal for Naming<'_> {
    fn is_in(&self, table: &CatalogTable) -> bool {
        let named = references(&table.metadata);
        let named = named.ok().and_then(|mut named| named.remove(self.name));
        named.is_some_and(|named| {
            named.snapshot_id == self.reference.snapshot_id
                && named.is_branch() == self.reference.is_branch()
        })
    }

    async fn change(&mut self, table: &CatalogTable) -> Result<Change> {
        let fail = |reason: &str| {
            let text = format!("table '{}': {reason}", table.ident);
            Err(ExportError::Config(text))
        };
        let metadata = &table.metadata;
        if metadata.snapshot_for_ref(self.name).is_some() {
            return fail(&format!(
                "'{}' names another snapshot already, or is of the other kind",
                self.name
            ));
        }
        if metadata
            .snapshot_by_id(self.reference.snapshot_id)
            .is_none()
        {
            return fail("the snapshot expired meanwhile");
        }
        Ok(Change {
            requirements: vec![
                TableRequirement::UuidMatch {
                    uuid: metadata.uuid(),
                },
                TableRequirement::RefSnapshotIdMatch {
                    r#ref: self.name.to_owned(),
                    snapshot_id: None,
                },
            ],
            updates: vec![TableUpdate::SetSnapshotRef {
                ref_name: self.name.to_owned(),
                reference: self.reference.clone(),
            }],
        })
    }
}

fn find(table: &CatalogTable, as_of: AsOf) -> Result<TableVersion> {
    let versions = versions(&table.metadata);
    if let Some(newest) = versions.first() {
        as_of.check(newest)?;
    }
    if let Some(found) = versions.iter().find(|version| as_of.reaches(version)) {
        return Ok(found.clone());
    }
    let reason = match versions.last() {
        Some(oldest) => format!(
            "its history begins with commit {}, after {as_of}",
            oldest.commit_seq
        ),
        None => "nothing was exported into it yet".to_owned(),
    };
    Err(ExportError::Config(format!(
        "table '{}': {reason}",
        table.ident
    )))
}

/// The states of the exports' branch that hold rows of the database, the newest first.
fn versions(metadata: &TableMetadata) -> Vec<TableVersion> {
    let mut versions: Vec<TableVersion> = Vec::new();
    for snapshot in history(metadata, head(metadata)) {
        let Some(stamp) = Stamp::of(snapshot).filter(|stamp| stamp.commit_seq > 0) else {
            continue;
        };
        // Of a commit's snapshots the oldest is the export; those on top of it hold the same rows.
        versions.pop_if(|newer| newer.commit_seq == stamp.commit_seq);
        versions.push(version(snapshot, stamp));
    }
    versions
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name == MAIN_BRANCH {
        return Err(ExportError::Config(format!(
            "'{name}' can't be the name of a branch or tag"
        )));
    }
    Ok(())
}

pub(crate) fn version(snapshot: &Snapshot, stamp: Stamp) -> TableVersion {
    TableVersion {
        snapshot_id: snapshot.snapshot_id(),
        commit_seq: stamp.commit_seq,
        origins: stamp.origins,
        exported_at_ms: snapshot.timestamp_ms(),
    }
}
