//! Whose an Iceberg table is, and whether it stands where the database left it.
//!
//! A table names its database, the engine's table and the newest exporter's epoch in its properties; each of its
//! snapshots carries a [`Stamp`]. Whatever does not fit is left alone and reported.

use std::collections::HashMap;

use iceberg::spec::{SortOrder, UnboundPartitionSpec};
use moonshine_engine::{Exported, TableSchema};
use uuid::Uuid;

use crate::catalog::{CatalogTable, METADATA_DELETE_AFTER_COMMIT, NewTable};
use crate::commit::table_version;
use crate::config::SettingsByTable;
use crate::error::{ExportError, Result};
use crate::schema::{check_columns, iceberg_schema};
use crate::summary::{DATABASE_ID, Stamp, TABLE, WRITER_EPOCH};

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
                "it belongs to database {database_id}, this is database {}",
                self.database_id
            );
            return Err(ExportError::foreign(ident, reason));
        }
        if let Some(other) = properties
            .get(TABLE)
            .filter(|other| *other != schema.name())
        {
            let reason = format!(
                "it belongs to the table '{other}', not to '{}'",
                schema.name()
            );
            return Err(ExportError::foreign(ident, reason));
        }
        check_partitions(table)?;
        check_columns(table, schema)?;
        let version = table_version(table)?;
        let wanted = self.settings.of(schema.name()).format_version;
        if version != wanted {
            return Err(ExportError::Config(format!(
                "format_version: table '{ident}' is of version {}, the configuration says {}",
                version.number(),
                wanted.number()
            )));
        }
        Ok(())
    }

    /// The stamp of the table's current snapshot; `None` for a table without one.
    pub(crate) fn stamp(&self, table: &CatalogTable) -> Result<Option<(i64, Stamp)>> {
        let Some(snapshot) = table.metadata.current_snapshot() else {
            return Ok(None);
        };
        let id = snapshot.snapshot_id();
        let foreign = |reason: String| ExportError::foreign(&table.ident, reason);
        let stamp = Stamp::of(snapshot).ok_or_else(|| {
            let operation = snapshot.summary().operation.as_str();
            foreign(format!(
                "its current snapshot {id} ({operation}) was made by another writer"
            ))
        })?;
        if stamp.database_id != self.database_id {
            return Err(foreign(format!(
                "its current snapshot {id} was made by database {}",
                stamp.database_id
            )));
        }
        Ok(Some((id, stamp)))
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
                "it is empty, though the database exported up to {exported_seq} into it"
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
                    "its current snapshot {id} holds commits up to {}, the database exported up to {exported_seq} as \
                     snapshot {}: the table was rolled back or replaced",
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
        own_epoch: u64,
    ) -> Result<()> {
        self.check_position_unmoved(base, found, own_epoch)?;
        check_partitions(found)?;
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
        own_epoch: u64,
    ) -> Result<()> {
        check_epoch(found, own_epoch)?;
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
        epoch: u64,
    ) -> Result<NewTable> {
        let format_version = self.settings.of(schema.name()).format_version.iceberg();
        let properties = HashMap::from([
            (DATABASE_ID.to_owned(), self.database_id.to_string()),
            (TABLE.to_owned(), schema.name().to_owned()),
            (WRITER_EPOCH.to_owned(), epoch.to_string()),
            (METADATA_DELETE_AFTER_COMMIT.to_owned(), "true".to_owned()),
            ("write.delete.mode".to_owned(), "merge-on-read".to_owned()),
            ("write.update.mode".to_owned(), "merge-on-read".to_owned()),
            ("write.merge.mode".to_owned(), "merge-on-read".to_owned()),
        ]);
        Ok(NewTable {
            schema: iceberg_schema(schema, format_version)?,
            partition_spec: UnboundPartitionSpec::builder().build(),
            sort_order: SortOrder::unsorted_order(),
            format_version,
            properties,
            location,
        })
    }
}

/// Checks that our files, which have no partition, fit into the table. A void field is one more value of each file, too.
fn check_partitions(table: &CatalogTable) -> Result<()> {
    match table.metadata.default_partition_spec().fields() {
        [] => Ok(()),
        _ => Err(ExportError::foreign(
            &table.ident,
            "it was partitioned by another writer",
        )),
    }
}

/// The epoch of the newest exporter that wrote to the table or announced that it would.
pub(crate) fn newest_epoch(table: &CatalogTable) -> u64 {
    let announced = table
        .metadata
        .properties()
        .get(WRITER_EPOCH)
        .and_then(|epoch| epoch.parse().ok());
    let written = table
        .metadata
        .current_snapshot()
        .and_then(|snapshot| Stamp::of(snapshot));
    announced
        .unwrap_or(0)
        .max(written.map_or(0, |stamp| stamp.writer_epoch))
}

/// Checks that no newer exporter took over.
pub(crate) fn check_epoch(table: &CatalogTable, own: u64) -> Result<()> {
    match newest_epoch(table) {
        current if current > own => Err(ExportError::Fenced {
            table: table.ident.to_string(),
            own,
            current,
        }),
        _ => Ok(()),
    }
}
