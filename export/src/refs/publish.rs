//! Publishing: the main branch goes on to what was exported to another one.
//!
//! That is a commit of metadata alone, which demands both branches as they were seen. It is made beside a running exporter, and
//! may be asked for again after a crash or a lost answer: whether it took place is in the table.

use async_trait::async_trait;
use iceberg::spec::{
    MAIN_BRANCH, SnapshotRef, SnapshotReference, SnapshotRetention, TableMetadata,
};
use iceberg::{TableRequirement, TableUpdate};

use super::{TableHistory, check_name};
use crate::catalog::{CatalogTable, Change};
use crate::commit::{Failure, Proposal, run};
use crate::error::{ExportError, Result};
use crate::references::{export_branch, goes_back_to, history, references};
use crate::summary::Stamp;

/// What is to be published.
///
/// ```
/// let newest = moonshine_export::Publish::default();
/// assert_eq!((newest.branch, newest.snapshot_id, newest.tag), (None, None, None));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// The branch to publish; by default the one that the table is exported to.
    pub branch: Option<String>,
    /// The snapshot of it to publish; by default its newest.
    pub snapshot_id: Option<i64>,
    /// A tag to give the snapshot in the same commit.
    pub tag: Option<String>,
}

/// What the main branch shows now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The branch that was published.
    pub branch: String,
    /// The snapshot that was.
    pub snapshot_id: i64,
    /// The database's commit that it holds, if the database made it.
    pub commit_seq: Option<u64>,
    /// The main branch's snapshot before; the same, or a later one, if this was published already.
    pub main_before: Option<i64>,
}

impl TableHistory {
    /// Has the main branch show what was exported to another one. What is published already stays so, and is no error.
    ///
    /// ```
    /// use moonshine_export::{Publish, TableHistory};
    /// # use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
    /// # use moonshine_export::{Exporter, IcebergConfig};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let database = Database::open(folder.path().join("data"), Options::unmeasured())?;
    /// # let schema = TableSchema::builder("orders").column("id", ColumnType::Int64, false).primary_key(["id"]).build()?;
    /// # let orders = database.create_table(schema)?;
    /// # let warehouse = folder.path().join("warehouse");
    /// # let config = serde_json::json!({ "warehouse_path": warehouse, "tables": { "orders": { "branch": "audit" } } });
    /// # let config: IcebergConfig = serde_json::from_value(config)?;
    /// # let mut exporter = Exporter::open(database.clone(), &config).await?;
    /// # let mut transaction = database.begin();
    /// # transaction.upsert(&orders, vec![Value::Int64(1)])?;
    /// # transaction.commit()?;
    /// # exporter.export(&orders, &database.snapshot()).await?;
    /// let history = TableHistory::open(&config, &database, &orders).await?;
    /// let published = history.publish(Publish::default()).await?;
    /// assert_eq!((published.branch.as_str(), published.commit_seq, published.main_before), ("audit", Some(1), None));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ExportError::Config`] for a branch or snapshot that is not there, for exports that go to the main branch, and for a tag
    /// that names another snapshot; [`ExportError::Foreign`] if the main branch has what the other one has not: the text
    /// says which snapshot to roll it back to; [`ExportError::Conflict`] and [`ExportError::Unavailable`]: ask again.
    pub async fn publish(&self, publish: Publish) -> Result<Published> {
        if let Some(tag) = &publish.tag {
            check_name(tag)?;
        }
        let base = self.load().await?;
        let metadata = &base.metadata;
        let exported_to = export_branch(metadata);
        let branch = publish.branch.as_deref().unwrap_or(exported_to).to_owned();
        if exported_to == MAIN_BRANCH || branch == MAIN_BRANCH {
            return Err(refused(
                &base,
                "its exports go to the main branch, so there is nothing to publish; `branch` in its settings names another",
            ));
        }
        let target = target(&base, &branch, publish.snapshot_id)?;
        let snapshot_id = target.snapshot_id();
        let published = Published {
            commit_seq: Stamp::of(target).map(|stamp| stamp.commit_seq),
            main_before: metadata.current_snapshot_id(),
            branch,
            snapshot_id,
        };
        let mut publishing = Publishing {
            branch: &published.branch,
            snapshot_id,
            tag: publish.tag.as_deref(),
        };
        run(
            self.catalog.as_ref(),
            &self.environment,
            base,
            &mut publishing,
        )
        .await
        .map_err(Failure::into_error)?;
        Ok(published)
    }
}

/// The snapshot of a branch that is meant.
fn target<'a>(
    table: &'a CatalogTable,
    branch: &str,
    snapshot_id: Option<i64>,
) -> Result<&'a SnapshotRef> {
    let metadata = &table.metadata;
    let Some(head) = metadata.snapshot_for_ref(branch) else {
        let reason = format!("it has no branch '{branch}', or nothing was exported to it yet");
        return Err(refused(table, &reason));
    };
    let Some(snapshot_id) = snapshot_id else {
        return Ok(head);
    };
    let found = metadata.snapshot_by_id(snapshot_id);
    let on_branch = found.filter(|found| goes_back_to(metadata, head, found));
    on_branch.ok_or_else(|| {
        let reason = format!("snapshot {snapshot_id} is not on branch '{branch}', or expired");
        refused(table, &reason)
    })
}

fn refused(table: &CatalogTable, reason: &str) -> ExportError {
    ExportError::Config(format!("table '{}': {reason}", table.ident))
}

/// A snapshot on its way to the main branch.
struct Publishing<'a> {
    branch: &'a str,
    snapshot_id: i64,
    tag: Option<&'a str>,
}

impl Publishing<'_> {
    fn is_on_main(&self, metadata: &TableMetadata) -> bool {
        let found = metadata.snapshot_by_id(self.snapshot_id);
        let main = metadata.current_snapshot();
        main.zip(found)
            .is_some_and(|(main, found)| goes_back_to(metadata, main, found))
    }

    /// The tag, where it is yet to be given, and whether it is.
    fn missing_tag(&self, table: &CatalogTable) -> Result<Option<TableUpdate>> {
        let Some(tag) = self.tag else {
            return Ok(None);
        };
        match references(&table.metadata)?.remove(tag) {
            None => {
                let retention = SnapshotRetention::Tag {
                    max_ref_age_ms: None,
                };
                Ok(Some(TableUpdate::SetSnapshotRef {
                    ref_name: tag.to_owned(),
                    reference: SnapshotReference::new(self.snapshot_id, retention),
                }))
            }
            Some(found) if !found.is_branch() && found.snapshot_id == self.snapshot_id => Ok(None),
            Some(_) => Err(refused(
                table,
                &format!("'{tag}' names another snapshot already"),
            )),
        }
    }

    /// Checks that the main branch loses nothing.
    fn check_main(&self, table: &CatalogTable, target: &SnapshotRef) -> Result<()> {
        let metadata = &table.metadata;
        let Some(main) = metadata.current_snapshot() else {
            return Ok(());
        };
        if goes_back_to(metadata, target, main) {
            return Ok(());
        }
        let mut before = history(metadata, Some(main));
        let common = before.find(|snapshot| goes_back_to(metadata, target, snapshot));
        let back = match common {
            Some(common) => format!(
                "roll it back to snapshot {}, which both have",
                common.snapshot_id()
            ),
            None => "drop the branch 'main' if nobody needs it".to_owned(),
        };
        Err(ExportError::foreign(
            &table.ident,
            format!(
                "its main branch is at snapshot {}, which is not in the history of snapshot {} of branch '{}', so that publishing it \
                 would lose what is there: {back}, and publish again",
                main.snapshot_id(),
                self.snapshot_id,
                self.branch
            ),
        ))
    }
}

#[async_trait]
impl Proposal for Publishing<'_> {
    fn is_in(&self, table: &CatalogTable) -> bool {
        let is_tagged = self
            .missing_tag(table)
            .is_ok_and(|missing| missing.is_none());
        self.is_on_main(&table.metadata) && is_tagged
    }

    async fn change(&mut self, table: &CatalogTable) -> Result<Change> {
        let metadata = &table.metadata;
        let target = target(table, self.branch, Some(self.snapshot_id))?;
        let found = references(metadata)?;
        let mut updates = Vec::new();
        if !self.is_on_main(metadata) {
            self.check_main(table, target)?;
            let main = found.get(MAIN_BRANCH);
            let retention = main.map_or(SnapshotRetention::branch(None, None, None), |main| {
                main.retention.clone()
            });
            updates.push(TableUpdate::SetSnapshotRef {
                ref_name: MAIN_BRANCH.to_owned(),
                reference: SnapshotReference::new(self.snapshot_id, retention),
            });
        }
        updates.extend(self.missing_tag(table)?);
        let stands = |name: &str| TableRequirement::RefSnapshotIdMatch {
            r#ref: name.to_owned(),
            snapshot_id: found.get(name).map(|found| found.snapshot_id),
        };
        let names = [MAIN_BRANCH, self.branch].into_iter().chain(self.tag);
        let uuid = TableRequirement::UuidMatch {
            uuid: metadata.uuid(),
        };
        Ok(Change {
            requirements: std::iter::once(uuid).chain(names.map(stands)).collect(),
            updates,
        })
    }
}
