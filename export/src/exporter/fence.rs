//! The fence: what makes commits that an older exporter, or an earlier tick, has on their way fail.
//!
//! It announces the exporter's epoch in the table's properties. Where a catalog compares all of the metadata before it
//! changes a table, that is enough. Where it compares the newest snapshot alone, the fence is a snapshot too, without any
//! file: it carries on the position of the one before.

use std::collections::HashMap;

use async_trait::async_trait;
use iceberg::TableUpdate;
use moonshine_engine::{PendingExport, Table};
use uuid::Uuid;

use super::Core;
use crate::catalog::{CatalogTable, Change, Guard};
use crate::commit::{Attempt, Failure, NewFiles, Plan, Proposal, remove_attempts, run};
use crate::error::Result;
use crate::manifest::live_manifests;
use crate::ownership::{Writer, check_epoch};
use crate::pending::find_commit;
use crate::summary::{EXPORTER_ID, FENCE_ID, Stamp, WRITER_EPOCH};

struct Fence<'a> {
    writer: Writer,
    exporter: &'a Core,
    table: &'a Table,
    pending: Option<&'a PendingExport>,
    id: Uuid,
    attempts: Vec<(i64, Vec<String>)>,
}

#[async_trait]
impl Proposal for Fence<'_> {
    fn is_in(&self, table: &CatalogTable) -> bool {
        match self.exporter.catalog.guard() {
            Guard::Metadata => {
                let stands = table.metadata.properties().get(FENCE_ID);
                stands.is_some_and(|id| *id == self.id.to_string())
            }
            Guard::Requirements => find_commit(&table.metadata, self.id).is_some(),
        }
    }

    async fn change(&mut self, table: &CatalogTable) -> Result<Change> {
        let exporter = self.exporter;
        exporter.check_ours(self.table, self.pending, table)?;
        let mut properties = HashMap::from([
            (WRITER_EPOCH.to_owned(), self.writer.epoch.to_string()),
            (EXPORTER_ID.to_owned(), self.writer.exporter_id.to_string()),
            (FENCE_ID.to_owned(), self.id.to_string()),
        ]);
        let maintenance = &exporter.settings(self.table).maintenance;
        properties.extend(maintenance.properties.clone());
        let mut updates = vec![TableUpdate::SetProperties {
            updates: properties,
        }];
        if exporter.catalog.guard() == Guard::Requirements {
            updates.extend(self.snapshot(table).await?);
        }
        Ok(Change::of(&table.metadata, updates))
    }
}

impl Fence<'_> {
    /// A snapshot of the same rows.
    async fn snapshot(&mut self, table: &CatalogTable) -> Result<Vec<TableUpdate>> {
        let Core { environment, .. } = self.exporter;
        let stamp = self.exporter.carried_stamp(table, &self.writer, self.id)?;
        let attempt = Attempt {
            table,
            snapshot_id: environment.snapshot_id(),
            attempt_id: environment.identities.uuid(),
            now_ms: environment.clock.now_ms(),
        };
        let listed = live_manifests(table).await?;
        let nothing = (&NewFiles::default(), &Plan::default());
        let mut started = Vec::new();
        let built = attempt.build(&listed, nothing, &stamp, &mut started).await;
        self.attempts.push((attempt.snapshot_id, started));
        built
    }
}

impl Core {
    /// The stamp of a snapshot that brings no rows: the position of the one before.
    pub(crate) fn carried_stamp(
        &self,
        table: &CatalogTable,
        writer: &Writer,
        commit_id: Uuid,
    ) -> Result<Stamp> {
        let before = self.owner.stamp(table)?;
        let export_snapshot_id = before
            .as_ref()
            .and_then(|(id, stamp)| stamp.export_snapshot_id.or(Some(*id)));
        let before = before.map(|(_, stamp)| stamp);
        // One that carries a snapshot id alone is of a version that did not say more.
        let export_commit_id = before.as_ref().and_then(|stamp| {
            let own = stamp
                .export_snapshot_id
                .is_none()
                .then_some(stamp.commit_id);
            stamp.export_commit_id.or(own)
        });
        Ok(Stamp {
            database_id: self.owner.database_id,
            commit_seq: before.as_ref().map_or(0, |stamp| stamp.commit_seq),
            commit_id,
            writer_epoch: writer.epoch,
            exporter_id: Some(writer.exporter_id),
            origins: before.map(|stamp| stamp.origins).unwrap_or_default(),
            export_snapshot_id,
            export_commit_id,
            rows_checksum: None,
        })
    }

    /// Fences a table.
    pub(super) async fn fence(
        &self,
        table: &Table,
        pending: Option<&PendingExport>,
        found: CatalogTable,
    ) -> Result<CatalogTable> {
        let mut fence = Fence {
            writer: self.own_writer(table)?,
            exporter: self,
            table,
            pending,
            id: self.environment.identities.uuid(),
            attempts: Vec::new(),
        };
        let file_io = found.file_io.clone();
        match run(self.catalog.as_ref(), &self.environment, found, &mut fence).await {
            Ok(current) => {
                let landed = find_commit(&current.metadata, fence.id);
                remove_attempts(&current.file_io, &fence.attempts, landed).await;
                check_epoch(&current, &fence.writer)?;
                self.set_taken(table);
                Ok(current)
            }
            Err(Failure::NotCommitted(error)) => {
                remove_attempts(&file_io, &fence.attempts, None).await;
                Err(error)
            }
            Err(Failure::Unknown(error)) => Err(error),
        }
    }
}
