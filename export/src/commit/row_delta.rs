//! The commit of an export: its rows, its deletes and its stamp in one snapshot.

use async_trait::async_trait;
use iceberg::io::FileIO;
use iceberg::spec::DataFile;

use super::attempt::{Attempt, Deletes, RowDelta, plan_deletes, table_version};
use super::run::Proposal;
use crate::catalog::{CatalogTable, Change};
use crate::delete::write_positions;
use crate::environment::Environment;
use crate::error::Result;
use crate::manifest::{ManifestCache, Manifests};
use crate::ownership::{Owner, Writer};
use crate::pending::{delete_file_path, find_commit, remove_files};
use crate::references::head;
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
    /// The delete files of the last attempt, with the snapshot that they are joined with.
    pub(crate) deletes: Option<(Option<i64>, Deletes)>,
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
        let manifests = self
            .manifests
            .load(&table.file_io, &table.metadata, parent)
            .await?;
        self.join_deletes(table, &manifests).await?;
        let attempt = Attempt {
            table,
            snapshot_id: self.environment.snapshot_id(),
            attempt_id: self.environment.identities.uuid(),
            now_ms: self.environment.clock.now_ms(),
        };
        self.attempts.push((attempt.snapshot_id, attempt.paths()));
        let nothing = Deletes::default();
        let deletes = self.deletes.as_ref().map_or(&nothing, |(_, joined)| joined);
        let updates = attempt
            .build(&manifests, &self.delta.added_data, deletes, self.stamp)
            .await?;
        Ok(Change::of(&table.metadata, updates))
    }
}

impl ExportCommit<'_> {
    /// Joins the removed rows with those that the table's snapshot has deleted, and writes them.
    async fn join_deletes(&mut self, table: &CatalogTable, manifests: &Manifests) -> Result<()> {
        let parent = head(&table.metadata).map(|head| head.snapshot_id());
        if matches!(&self.deletes, Some((joined, _)) if *joined == parent) {
            return Ok(());
        }
        let mut deletes = plan_deletes(table, manifests, self.delta).await?;
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
            &deletes.positions,
            path,
            &mut self.delete_paths,
        )
        .await?;
        deletes.take_files(files)?;
        self.deletes = Some((parent, deletes));
        Ok(())
    }

    /// The delete files of the last attempt.
    pub(crate) fn delete_files(&self) -> impl Iterator<Item = &DataFile> {
        let deletes = self.deletes.iter();
        deletes.flat_map(|(_, deletes)| deletes.added.values().flatten())
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
