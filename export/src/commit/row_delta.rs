//! The commit of an export: its rows, its deletes and its stamp in one snapshot.

use async_trait::async_trait;
use iceberg::io::FileIO;
use iceberg::spec::DataFile;
use iceberg::{TableRequirement, TableUpdate};

use super::attempt::{Attempt, table_version};
use super::plan::{Plan, RowDelta, plan};
use super::run::Proposal;
use crate::catalog::{CatalogTable, Change};
use crate::config::TagSettings;
use crate::delete::write_positions;
use crate::environment::Environment;
use crate::error::Result;
use crate::manifest::{Listing, ManifestCache};
use crate::ownership::{Owner, Writer};
use crate::pending::{delete_file_path, find_commit, remove_files};
use crate::references::{head, references};
use crate::refs::version;
use crate::summary::Stamp;

/// A row delta on its way into its table.
pub(crate) struct ExportCommit<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) owner: &'a Owner,
    /// The table that the delta was made for.
    pub(crate) base: CatalogTable,
    pub(crate) writer: Writer,
    pub(crate) delta: &'a RowDelta,
    pub(crate) stamp: &'a Stamp,
    pub(crate) manifests: &'a mut ManifestCache,
    /// What the last attempt changes, with the snapshot that it is made on; its delete files are written.
    pub(crate) planned: Option<(Option<i64>, Plan)>,
    /// Every delete file that was begun.
    pub(crate) delete_paths: Vec<String>,
    /// The snapshot that each attempt would make, with the files that it wrote for it.
    pub(crate) attempts: Vec<(i64, Vec<String>)>,
}

#[async_trait]
impl Proposal for ExportCommit<'_> {
    fn is_in(&self, table: &CatalogTable) -> bool {
        find_commit(&table.metadata, self.stamp.commit_id).is_some()
    }

    async fn change(&mut self, table: &CatalogTable) -> Result<Change> {
        self.owner.check_unmoved(&self.base, table, &self.writer)?;
        let parent = head(&table.metadata).map(AsRef::as_ref);
        let listing = self
            .manifests
            .list(&table.file_io, &table.metadata, parent)
            .await?;
        self.plan(table, &listing).await?;
        let attempt = Attempt {
            table,
            snapshot_id: self.environment.snapshot_id(),
            attempt_id: self.environment.identities.uuid(),
            now_ms: self.environment.clock.now_ms(),
        };
        let nothing = Plan::default();
        let plan = self.planned.as_ref().map_or(&nothing, |(_, plan)| plan);
        let new = (&self.delta.added_data, plan);
        let mut started = Vec::new();
        let built = attempt.build(&listing.manifests, new, self.stamp, &mut started);
        let built = built.await;
        self.attempts.push((attempt.snapshot_id, started));
        let updates = built?;
        self.tagged(table, updates)
    }
}

impl ExportCommit<'_> {
    /// Finds what is to be changed of the table's snapshot, and writes its delete files.
    async fn plan(&mut self, table: &CatalogTable, listing: &Listing) -> Result<()> {
        let parent = head(&table.metadata).map(|head| head.snapshot_id());
        if matches!(&self.planned, Some((planned, _)) if *planned == parent) {
            return Ok(());
        }
        let mut plan = plan(table, (listing, &mut *self.manifests), self.delta).await?;
        let (location, stamp) = (table.metadata.location(), self.stamp);
        let first = self.delete_paths.len();
        let path = |number: usize, extension: &str| {
            delete_file_path(
                location,
                stamp.commit_seq,
                stamp.commit_id,
                first + number,
                extension,
            )
        };
        let files = write_positions(
            &table.file_io,
            table_version(table)?,
            &plan.positions,
            path,
            &mut self.delete_paths,
        )
        .await?;
        plan.take_files(files)?;
        self.planned = Some((parent, plan));
        Ok(())
    }

    /// The change, with the tags that are due.
    fn tagged(&self, table: &CatalogTable, mut updates: Vec<TableUpdate>) -> Result<Change> {
        let wanted = &self.owner.settings_of(table).tags;
        let added = updates.iter().find_map(|update| match update {
            TableUpdate::AddSnapshot { snapshot } => Some(snapshot.clone()),
            _ => None,
        });
        let is_rewrite = !self.delta.rewritten.is_empty();
        let added = added.filter(|_| !is_rewrite && *wanted != TagSettings::default());
        let Some(added) = added else {
            return Ok(Change::of(&table.metadata, updates));
        };
        let before = self.owner.stamp(table)?;
        let before = before.and_then(|(id, stamp)| {
            let snapshot = table.metadata.snapshot_by_id(id)?;
            Some(version(snapshot, stamp))
        });
        let found = references(&table.metadata)?;
        let now = version(&added, self.stamp.clone());
        let due = wanted.due(&found, before.as_ref(), &now);
        updates.extend(
            due.iter()
                .map(|(name, reference)| TableUpdate::SetSnapshotRef {
                    ref_name: name.clone(),
                    reference: reference.clone(),
                }),
        );
        // A name that somebody else gives meanwhile stays his.
        let change = Change::of(&table.metadata, updates);
        Ok(due.into_iter().fold(change, |change, (name, _)| {
            change.demanding(TableRequirement::RefSnapshotIdMatch {
                r#ref: name,
                snapshot_id: None,
            })
        }))
    }

    /// The delete files of the last attempt.
    pub(crate) fn delete_files(&self) -> impl Iterator<Item = &DataFile> {
        let planned = self.planned.iter();
        planned.flat_map(|(_, plan)| plan.added.values().flatten())
    }
}

/// Removes what attempts wrote, but for the one whose snapshot is in the table.
pub(crate) async fn remove_attempts(
    file_io: &FileIO,
    attempts: &[(i64, Vec<String>)],
    landed: Option<i64>,
) {
    for (snapshot_id, paths) in attempts {
        if Some(*snapshot_id) != landed {
            remove_files(file_io, paths).await;
        }
    }
}
