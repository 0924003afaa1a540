//! Exports go to the branch that the configuration names.
//!
//! Another branch than the main one is for an audit: readers of the main branch see what was exported once it is published.
//! Which branch it is stands in the table, and is changed by a commit of metadata alone: the new branch goes on where the old one
//! is.

use std::collections::HashMap;

use async_trait::async_trait;
use iceberg::spec::{MAIN_BRANCH, SnapshotReference, SnapshotRetention};
use iceberg::{TableRequirement, TableUpdate};
use moonshine_engine::Table;

use super::Core;
use super::core::TableState;
use crate::catalog::{CatalogTable, Change};
use crate::commit::{Failure, Proposal, run};
use crate::error::{ExportError, Result};
use crate::ownership::Writer;
use crate::references::{export_branch, goes_back_to, head, references};
use crate::summary::EXPORT_BRANCH;

/// Another branch on its way into the Iceberg table.
struct BranchChange<'a> {
    core: &'a Core,
    base: CatalogTable,
    writer: Writer,
    wanted: &'a str,
}

#[async_trait]
impl Proposal for BranchChange<'_> {
    fn is_in(&self, table: &CatalogTable) -> bool {
        export_branch(&table.metadata) == self.wanted
    }

    async fn change(&mut self, table: &CatalogTable) -> Result<Change> {
        let owner = &self.core.owner;
        owner.check_position_unmoved(&self.base, table, &self.writer)?;
        let found = references(&table.metadata)?.remove(self.wanted);
        let mut updates = vec![TableUpdate::SetProperties {
            updates: HashMap::from([(EXPORT_BRANCH.to_owned(), self.wanted.to_owned())]),
        }];
        updates.extend(self.moved(table, found.as_ref())?);
        let stands = TableRequirement::RefSnapshotIdMatch {
            r#ref: self.wanted.to_owned(),
            snapshot_id: found.map(|found| found.snapshot_id),
        };
        Ok(Change::of(&table.metadata, updates).demanding(stands))
    }
}

impl BranchChange<'_> {
    /// What brings the branch, which may be there, to where the exports are.
    fn moved(
        &self,
        table: &CatalogTable,
        found: Option<&SnapshotReference>,
    ) -> Result<Option<TableUpdate>> {
        let (metadata, wanted) = (&table.metadata, self.wanted);
        let refused = |reason: String| {
            let text = format!("table '{}', branch: {reason}", table.ident);
            Err(ExportError::Config(text))
        };
        let at = found.and_then(|found| metadata.snapshot_by_id(found.snapshot_id));
        let head = head(metadata);
        if head.map(|head| head.snapshot_id()) == at.map(|at| at.snapshot_id()) {
            return match found {
                Some(found) if !found.is_branch() => refused(format!("'{wanted}' is a tag")),
                _ => Ok(None),
            };
        }
        if wanted == MAIN_BRANCH {
            return refused(format!(
                "what was exported to '{}' is not published yet; run `moonshine publish` first",
                export_branch(metadata)
            ));
        }
        let retention = match (found, at, head) {
            (None, _, _) => SnapshotRetention::branch(None, None, None),
            (Some(found), Some(at), Some(head))
                if found.is_branch() && goes_back_to(metadata, head, at) =>
            {
                found.retention.clone()
            }
            _ => {
                return refused(format!(
                    "'{wanted}' is there, and is not where the exports are; drop it or choose another name"
                ));
            }
        };
        Ok(head.map(|head| TableUpdate::SetSnapshotRef {
            ref_name: wanted.to_owned(),
            reference: SnapshotReference::new(head.snapshot_id(), retention),
        }))
    }
}

impl Core {
    /// Has the Iceberg table's exports go to the branch that is configured.
    pub(super) async fn follow_branch(&self, table: &Table, state: &mut TableState) -> Result<()> {
        let Some(wanted) = &self.settings(table).branch else {
            return Ok(());
        };
        if export_branch(&state.current.metadata) == wanted {
            return Ok(());
        }
        // What stood in the way may be gone since.
        if let Some(found) = self.look_up(table, None).await? {
            state.current = found;
        }
        let base = state.current.clone();
        let mut change = BranchChange {
            core: self,
            base: base.clone(),
            writer: state.writer,
            wanted,
        };
        state.current = run(self.catalog.as_ref(), &self.environment, base, &mut change)
            .await
            .map_err(Failure::into_error)?;
        Ok(())
    }
}
