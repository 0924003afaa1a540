//! Whether the data files of an export hold the rows that were exported, by the checksum in its snapshot.

use futures::TryStreamExt;
use moonshine_engine::Table;
use roaring::RoaringTreemap;

use crate::checksum::RowsChecksum;
use crate::error::{ExportError, Result};
use crate::manifest::ManifestCache;
use crate::reader::IcebergReader;
use crate::scan::{BATCH_ROWS, FileScan, scan_file};
use crate::schema::{has_columns, iceberg_schema, table_ident};
use crate::summary::Stamp;

impl IcebergReader {
    /// Reads all rows that one export added, `token` of the engine's record of it, and compares their checksum with the one that
    /// its snapshot has. `false` if that can't be told: the snapshot expired, the table's columns became others, or it has none.
    ///
    /// # Errors
    /// [`ExportError::Corrupt`] if the files hold other rows, or can't be read; [`ExportError::Unavailable`].
    pub async fn check_rows(&self, table: &Table, token: &str) -> Result<bool> {
        let ident = table_ident(table.name())?;
        let Some(found) = self.catalog().load(&ident).await? else {
            return Ok(false);
        };
        let metadata = &found.metadata;
        let snapshot_id: Option<i64> = token.parse().ok();
        let Some(snapshot) = snapshot_id.and_then(|id| metadata.snapshot_by_id(id)) else {
            return Ok(false);
        };
        let Some(expected) = Stamp::of(snapshot).and_then(|stamp| stamp.rows_checksum) else {
            return Ok(false);
        };
        let schema = table.schema();
        let wanted = iceberg_schema(schema, metadata.format_version())?;
        let written = snapshot
            .schema_id()
            .and_then(|id| metadata.schema_by_id(id));
        if written.is_none_or(|written| !has_columns(written, &wanted)) {
            return Ok(false);
        }
        let field_ids: Vec<i32> = schema
            .columns()
            .iter()
            .map(|column| column.field_id)
            .collect();
        let manifests = ManifestCache::default()
            .load(&found.file_io, metadata, Some(snapshot))
            .await?;
        let mut checksum = RowsChecksum::default();
        for entry in manifests.data_files() {
            if entry.snapshot_id != snapshot.snapshot_id() {
                continue;
            }
            let mut batches = scan_file(FileScan {
                file_io: found.file_io.clone(),
                schema: schema.clone(),
                file: entry.file.clone(),
                deletes: Vec::new(),
                projection: None,
                excluded: RoaringTreemap::new(),
                lineage: None,
                batch_rows: BATCH_ROWS,
                window_bytes_max: None,
            });
            while let Some(batch) = batches.try_next().await? {
                checksum.add(&batch, &field_ids);
            }
        }
        let sum = checksum.text();
        if sum.as_ref() != Some(&expected) {
            let place = format!("table '{ident}', snapshot {}", snapshot.snapshot_id());
            let sum = sum.unwrap_or_default();
            return Err(ExportError::corrupt(
                place,
                format!("the rows of its data files have checksum {sum}, {expected} were exported"),
            ));
        }
        Ok(true)
    }
}
