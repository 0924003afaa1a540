//! Whose an Iceberg table is, and whether it stands where the database left it.
//!
//! A table names its database, the engine's table and the newest exporter's epoch in its properties; each of its
//! snapshots carries a [`Stamp`]. Whatever does not fit is left alone and reported.

use std::collections::HashMap;

use iceberg::spec::{MAIN_BRANCH, SnapshotRef, UnboundPartitionSpec};
use moonshine_engine::{Exported, TableSchema};
use uuid::Uuid;

use crate::catalog::{CatalogTable, METADATA_DELETE_AFTER_COMMIT, NewTable};
use crate::commit::{check_foreign, table_version};
use crate::config::{SettingsByTable, TableSettings};
use crate::error::{ExportError, Result};
use crate::layout::wanted::key_order;
use crate::references::{head, history};
use crate::schema::{COMMENT, check_columns, check_format, iceberg_schema};
use crate::summary::{DATABASE_ID, EXPORT_BRANCH, EXPORTER_ID, Stamp, TABLE, WRITER_EPOCH};

/// What a table must fit to be exported into.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) database_id: Uuid,
    pub(crate) settings: SettingsByTable,
}

impl Owner {
    /// Checks that the Iceberg table was made for this table of this database, and is of the expected form.
    pub(crate) fn check(&self, table: &CatalogTable, schema: &TableSchema) -> Result<()> {
        let ident = &table.ident;
        let properties = table.metadata.properties();
        let database_id = properties.get(DATABASE_ID).ok_or_else(|| {
            ExportError::foreign(
                ident,
                "it exists and no Moonshine database made it; drop it or choose another name",
            )
        })?;
        if *database_id != self.database_id.to_string() {
            let reason = format!(
                "it belongs to database {database_id}, this is database {}; give the table another name, or another warehouse",
                self.database_id
            );
            return Err(ExportError::foreign(ident, reason));
        }
        if let Some(other) = properties
            .get(TABLE)
            .filter(|other| *other != schema.name())
        {
            let reason = format!(
                "it belongs to the table '{other}', not to '{}'; rename one of them",
                schema.name()
            );
            return Err(ExportError::foreign(ident, reason));
        }
        check_columns(table, schema)?;
        let version = table_version(table)?;
        let wanted = self.settings.of(schema.name()).format_version;
        if version > wanted {
            return Err(ExportError::Config(format!(
                "format_version: table '{ident}' is of version {}, which is never lowered, and the configuration says {}",
                version.number(),
                wanted.number()
            )));
        }
        Ok(())
    }

    /// What a table is exported with.
    pub(crate) fn settings_of(&self, table: &CatalogTable) -> &TableSettings {
        let name = table.metadata.properties().get(TABLE);
        self.settings
            .of(name.map(String::as_str).unwrap_or_default())
    }

    /// The newest snapshot of ours in the table's history, with its stamp; `None` for a table without one.
    ///
    /// # Errors
    /// [`ExportError::Foreign`] if what another writer made on top of it does not let an export go on.
    pub(crate) fn stamp(&self, table: &CatalogTable) -> Result<Option<(i64, Stamp)>> {
        let mut foreign: Vec<&SnapshotRef> = Vec::new();
        let mut ours = None;
        for snapshot in history(&table.metadata, head(&table.metadata)) {
            if let Some(stamp) = Stamp::of(snapshot) {
                ours = Some((snapshot.snapshot_id(), stamp));
                break;
            }
            foreign.push(snapshot);
        }
        let appends = self.settings_of(table).foreign_appends;
        let below = ours.as_ref().map(|(id, _)| *id);
        for snapshot in foreign {
            let parent = snapshot.parent_snapshot_id();
            let parent = parent.and_then(|id| table.metadata.snapshot_by_id(id));
            let parent = parent.map(AsRef::as_ref);
            check_foreign(&table.ident, snapshot, parent, below, appends)?;
        }
        match &ours {
            Some((id, stamp)) if stamp.database_id != self.database_id => {
                Err(ExportError::foreign(
                    &table.ident,
                    format!(
                        "its snapshot {id} was made by database {}",
                        stamp.database_id
                    ),
                ))
            }
            _ => Ok(ours),
        }
    }

    /// Checks that the table stands where this export left it: not before, not after, and nobody else was there.
    pub(crate) fn check_position(
        &self,
        table: &CatalogTable,
        exported: Option<&Exported>,
    ) -> Result<()> {
        let foreign = |reason: String| Err(ExportError::foreign(&table.ident, reason));
        let exported_seq = exported.map_or(0, |exported| exported.seq);
        match (self.stamp(table)?, exported) {
            (None, None) => Ok(()),
            (None, Some(_)) => foreign(format!(
                "it has no snapshot of this database, though that exported up to {exported_seq} into it; put the table back that \
                 had"
            )),
            (Some((_, stamp)), _) if stamp.commit_seq > exported_seq => Err(ExportError::Stale {
                table: table.ident.to_string(),
                table_seq: stamp.commit_seq,
                exported_seq,
            }),
            (Some((id, stamp)), Some(exported))
                if stamp.commit_seq < exported_seq
                    || stamp.export_snapshot_id.unwrap_or(id).to_string() != exported.token =>
            {
                foreign(format!(
                    "its snapshot {id} holds commits up to {}, the database exported up to {exported_seq} as \
                     snapshot {}: the table was rolled back or replaced; make that its newest snapshot again",
                    stamp.commit_seq, exported.token
                ))
            }
            _ => Ok(()),
        }
    }

    /// Where the rows of a table stand: the commit sequence that it holds, and the snapshot of the export that brought
    /// it there. A table without an export may have a snapshot all the same: a fence.
    fn position(&self, table: &CatalogTable) -> Result<Option<(u64, i64)>> {
        let position = |(id, stamp): (i64, Stamp)| {
            let export_snapshot_id = stamp.export_snapshot_id.unwrap_or(id);
            (stamp.commit_seq, export_snapshot_id)
        };
        let exported = self.stamp(table)?.filter(|(_, stamp)| stamp.commit_seq > 0);
        Ok(exported.map(position))
    }

    /// Checks that of a table as it was and as it is now only what does not bear on its rows became different, and that no
    /// newer exporter took over: what was to be committed on the one may be committed on the other.
    pub(crate) fn check_unmoved(
        &self,
        base: &CatalogTable,
        found: &CatalogTable,
        own: &Writer,
    ) -> Result<()> {
        self.check_position_unmoved(base, found, own)?;
        if base.metadata.format_version() != found.metadata.format_version() {
            return Err(ExportError::foreign(
                &base.ident,
                "its format version was changed by another writer",
            ));
        }
        let columns = |table: &CatalogTable| table.metadata.current_schema().as_struct().clone();
        if columns(base) != columns(found) {
            return Err(ExportError::foreign(
                &base.ident,
                "its columns were changed by another writer",
            ));
        }
        Ok(())
    }

    /// As [`check_unmoved`](Self::check_unmoved), whatever became of the columns.
    pub(crate) fn check_position_unmoved(
        &self,
        base: &CatalogTable,
        found: &CatalogTable,
        own: &Writer,
    ) -> Result<()> {
        check_epoch(found, own)?;
        let foreign = |reason: &str| Err(ExportError::foreign(&base.ident, reason));
        if base.metadata.uuid() != found.metadata.uuid() {
            return foreign("it was dropped, and another one was made in its place");
        }
        if self.position(found)? != self.position(base)? {
            return foreign("its rows were changed or rolled back by another writer");
        }
        Ok(())
    }

    /// A new table.
    pub(crate) fn new_table(
        &self,
        schema: &TableSchema,
        location: Option<String>,
        writer: &Writer,
    ) -> Result<NewTable> {
        let settings = self.settings.of(schema.name());
        let branch = settings.branch.iter();
        let branch = branch.filter(|branch| *branch != MAIN_BRANCH);
        let branch = branch.map(|branch| (EXPORT_BRANCH.to_owned(), branch.clone()));
        let mut properties = HashMap::from([
            (DATABASE_ID.to_owned(), self.database_id.to_string()),
            (TABLE.to_owned(), schema.name().to_owned()),
            (WRITER_EPOCH.to_owned(), writer.epoch.to_string()),
            (EXPORTER_ID.to_owned(), writer.exporter_id.to_string()),
            (METADATA_DELETE_AFTER_COMMIT.to_owned(), "true".to_owned()),
            ("write.delete.mode".to_owned(), "merge-on-read".to_owned()),
            ("write.update.mode".to_owned(), "merge-on-read".to_owned()),
            ("write.merge.mode".to_owned(), "merge-on-read".to_owned()),
        ]);
        properties.extend(branch);
        if let Some(comment) = schema.comment() {
            properties.insert(COMMENT.to_owned(), comment.to_owned());
        }
        properties.extend(settings.maintenance.properties.clone());
        let layout = &settings.layout;
        let format_version = settings.format_version.iceberg();
        check_format(schema, format_version)?;
        let columns = iceberg_schema(schema, format_version)?;
        let spec = layout.spec(schema, &columns)?;
        let order = layout.order(schema)?;
        Ok(NewTable {
            partition_spec: spec.unwrap_or_else(|| UnboundPartitionSpec::builder().build()),
            sort_order: order.unwrap_or_else(|| key_order(schema)),
            schema: columns,
            format_version,
            properties,
            location,
        })
    }
}

/// As whom an exporter writes to tables: of two, the greater is the newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Writer {
    /// When it opened, in milliseconds since 1970, and higher than that of whoever wrote before.
    pub(crate) epoch: u64,
    /// Decides between two that opened at the same instant.
    pub(crate) exporter_id: Uuid,
}

/// Who newest wrote to the table or announced that it would. Earlier versions named no exporter.
fn newest_writer(table: &CatalogTable) -> Writer {
    let properties = table.metadata.properties();
    let epoch = properties.get(WRITER_EPOCH);
    let exporter_id = properties.get(EXPORTER_ID).and_then(|id| id.parse().ok());
    let announced = Writer {
        epoch: epoch.and_then(|epoch| epoch.parse().ok()).unwrap_or(0),
        exporter_id: exporter_id.unwrap_or_default(),
    };
    let written = head(&table.metadata).and_then(|snapshot| Stamp::of(snapshot));
    let written = written.map(|stamp| Writer {
        epoch: stamp.writer_epoch,
        exporter_id: stamp.exporter_id.unwrap_or_default(),
    });
    written.map_or(announced, |written| announced.max(written))
}

/// The epoch of the newest exporter that wrote to the table or announced that it would.
pub(crate) fn newest_epoch(table: &CatalogTable) -> u64 {
    newest_writer(table).epoch
}

/// Checks that no newer exporter took over.
pub(crate) fn check_epoch(table: &CatalogTable, own: &Writer) -> Result<()> {
    match newest_writer(table) {
        newest if newest > *own => Err(ExportError::Fenced {
            table: table.ident.to_string(),
            own: own.epoch,
            current: newest.epoch,
        }),
        _ => Ok(()),
    }
}
