//! What a snapshot's summary says: where the table stands, and the counters that Iceberg's readers expect.

use std::collections::{BTreeMap, HashMap};

use iceberg::TableIdent;
use iceberg::spec::{DataContentType, DataFile, Operation, Snapshot, Summary};
use moonshine_engine::Origin;
use uuid::Uuid;

use crate::error::{ExportError, Result};

/// The database that writes the table; a table property too.
pub(crate) const DATABASE_ID: &str = "moonshine.database-id";
/// The engine's name of the table; a table property only.
pub(crate) const TABLE: &str = "moonshine.table";
/// The epoch of the exporter that made the snapshot; as a table property, of the newest that opened the table.
pub(crate) const WRITER_EPOCH: &str = "moonshine.writer-epoch";
/// The exporter of that epoch.
pub(crate) const EXPORTER_ID: &str = "moonshine.exporter-id";
const COMMIT_SEQ: &str = "moonshine.commit-seq";
const COMMIT_ID: &str = "moonshine.commit-id";
const ORIGINS: &str = "moonshine.origins";
/// The checksum of the rows that the snapshot added.
pub(crate) const ROWS_CHECKSUM: &str = "moonshine.rows-checksum";
/// The snapshot of the newest export, in a snapshot that is none itself.
const EXPORT_SNAPSHOT_ID: &str = "moonshine.export-snapshot-id";
/// The commit id of the newest export, in a snapshot that is none itself.
const EXPORT_COMMIT_ID: &str = "moonshine.export-commit-id";
/// What the newest fence is called; a table property only.
pub(crate) const FENCE_ID: &str = "moonshine.fence-id";
/// The branch that exports go to, where that is not the main one; a table property only.
pub(crate) const EXPORT_BRANCH: &str = "moonshine.branch";

/// The position of a table: what the exporter writes into each snapshot and finds there again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) database_id: Uuid,
    /// The engine's commit sequence that the snapshot holds.
    pub(crate) commit_seq: u64,
    pub(crate) commit_id: Uuid,
    pub(crate) writer_epoch: u64,
    /// The exporter that took the epoch.
    pub(crate) exporter_id: Option<Uuid>,
    /// Source to position.
    pub(crate) origins: BTreeMap<String, String>,
    /// The snapshot of the export that brought the table there, if that is an earlier one.
    pub(crate) export_snapshot_id: Option<i64>,
    /// The commit id of that export: its snapshot may expire before its end is known.
    pub(crate) export_commit_id: Option<Uuid>,
    /// The checksum of the rows that the snapshot added, where their types have one.
    pub(crate) rows_checksum: Option<String>,
}

/// The commit that made a snapshot, if it was one of ours.
pub(crate) fn commit_id(snapshot: &Snapshot) -> Option<Uuid> {
    let properties = &snapshot.summary().additional_properties;
    properties.get(COMMIT_ID)?.parse().ok()
}

impl Stamp {
    /// Reads the stamp of a snapshot; `None` if it is not one of ours.
    pub(crate) fn of(snapshot: &Snapshot) -> Option<Stamp> {
        let properties = &snapshot.summary().additional_properties;
        Some(Stamp {
            database_id: properties.get(DATABASE_ID)?.parse().ok()?,
            commit_seq: properties.get(COMMIT_SEQ)?.parse().ok()?,
            commit_id: commit_id(snapshot)?,
            writer_epoch: properties.get(WRITER_EPOCH)?.parse().ok()?,
            exporter_id: match properties.get(EXPORTER_ID) {
                Some(id) => Some(id.parse().ok()?),
                None => None,
            },
            origins: serde_json::from_str(properties.get(ORIGINS)?).ok()?,
            export_snapshot_id: match properties.get(EXPORT_SNAPSHOT_ID) {
                Some(id) => Some(id.parse().ok()?),
                None => None,
            },
            export_commit_id: match properties.get(EXPORT_COMMIT_ID) {
                Some(id) => Some(id.parse().ok()?),
                None => None,
            },
            rows_checksum: properties.get(ROWS_CHECKSUM).cloned(),
        })
    }

    fn properties(&self) -> Result<HashMap<String, String>> {
        let origins = serde_json::to_string(&self.origins)
            .map_err(|error| ExportError::corrupt("the origins of a commit", error))?;
        let export_snapshot_id = self
            .export_snapshot_id
            .map(|id| (EXPORT_SNAPSHOT_ID.to_owned(), id.to_string()));
        let export_commit_id = self
            .export_commit_id
            .map(|id| (EXPORT_COMMIT_ID.to_owned(), id.to_string()));
        let exporter_id = self
            .exporter_id
            .map(|id| (EXPORTER_ID.to_owned(), id.to_string()));
        let properties = [
            (DATABASE_ID.to_owned(), self.database_id.to_string()),
            (COMMIT_SEQ.to_owned(), self.commit_seq.to_string()),
            (COMMIT_ID.to_owned(), self.commit_id.to_string()),
            (WRITER_EPOCH.to_owned(), self.writer_epoch.to_string()),
            (ORIGINS.to_owned(), origins),
        ];
        let rows_checksum = self
            .rows_checksum
            .clone()
            .map(|checksum| (ROWS_CHECKSUM.to_owned(), checksum));
        let optional = export_snapshot_id.into_iter().chain(export_commit_id);
        let optional = optional.chain(exporter_id);
        let optional = optional.chain(rows_checksum);
        Ok(properties.into_iter().chain(optional).collect())
    }
}

/// The origins of a commit, by source.
pub(crate) fn origins_by_source(origins: &[Origin]) -> BTreeMap<String, String> {
    origins
        .iter()
        .map(|origin| (origin.source.clone(), origin.position.clone()))
        .collect()
}

/// What a snapshot adds to and takes from its table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    data_files: [u64; 2],
    records: [u64; 2],
    delete_files: [u64; 2],
    position_deletes: [u64; 2],
    bytes: [u64; 2],
    /// Whether the rows stay what they are.
    is_rewrite: bool,
}

const ADDED: usize = 0;
const REMOVED: usize = 1;

impl Counters {
    /// `is_rewrite`: whether the rows stay what they are.
    pub(crate) fn new(is_rewrite: bool) -> Self {
        Counters {
            is_rewrite,
            ..Counters::default()
        }
    }

    pub(crate) fn add(&mut self, file: &DataFile) {
        self.count::<ADDED>(file);
    }

    pub(crate) fn remove(&mut self, file: &DataFile) {
        self.count::<REMOVED>(file);
    }

    fn count<const SIDE: usize>(&mut self, file: &DataFile) {
        let (files, rows) = match file.content_type() {
            DataContentType::Data => (&mut self.data_files, &mut self.records),
            _ => (&mut self.delete_files, &mut self.position_deletes),
        };
        // Side is one of two constants, the arrays hold two.
        for (counter, amount) in [
            (files, 1),
            (rows, file.record_count()),
            (&mut self.bytes, content_size(file)),
        ] {
            if let Some(count) = counter.get_mut(SIDE) {
                *count += amount;
            }
        }
    }

    /// The summary of a snapshot that follows on `parent`.
    pub(crate) fn summary(
        &self,
        table: &TableIdent,
        stamp: &Stamp,
        parent: Option<&Snapshot>,
    ) -> Result<Summary> {
        let mut properties = stamp.properties()?;
        let counters: [(&[u64; 2], &str, &str, &str); 5] = [
            (
                &self.data_files,
                "added-data-files",
                "deleted-data-files",
                TOTAL_DATA_FILES,
            ),
            (
                &self.records,
                "added-records",
                "deleted-records",
                TOTAL_RECORDS,
            ),
            (
                &self.delete_files,
                "added-delete-files",
                "removed-delete-files",
                "total-delete-files",
            ),
            (
                &self.position_deletes,
                "added-position-deletes",
                "removed-position-deletes",
                TOTAL_POSITION_DELETES,
            ),
            (
                &self.bytes,
                "added-files-size",
                "removed-files-size",
                "total-files-size",
            ),
        ];
        for ([added, removed], added_key, removed_key, total_key) in counters {
            let before = parent.map_or(Ok(0), |parent| total(table, parent, total_key))?;
            let after = (before + added).checked_sub(*removed).ok_or_else(|| {
                ExportError::foreign(
                    table,
                    format!("its summary's {total_key} is {before}, too low"),
                )
            })?;
            properties.insert(total_key.to_owned(), after.to_string());
            for (key, amount) in [(added_key, added), (removed_key, removed)] {
                if *amount > 0 {
                    properties.insert(key.to_owned(), amount.to_string());
                }
            }
        }
        properties.insert("total-equality-deletes".to_owned(), "0".to_owned());
        Ok(Summary {
            operation: self.operation(),
            additional_properties: properties,
        })
    }

    fn operation(&self) -> Operation {
        if self.is_rewrite {
            return Operation::Replace;
        }
        let [added, _] = self.data_files;
        let removes = self.delete_files != [0, 0] || self.data_files != [added, 0];
        match (added > 0, removes) {
            (_, false) => Operation::Append,
            (true, true) => Operation::Overwrite,
            (false, true) => Operation::Delete,
        }
    }
}

const TOTAL_DATA_FILES: &str = "total-data-files";
const TOTAL_RECORDS: &str = "total-records";
const TOTAL_POSITION_DELETES: &str = "total-position-deletes";

/// A deletion vector counts for its own part of its Puffin file.
fn content_size(file: &DataFile) -> u64 {
    file.content_size_in_bytes()
        .and_then(|size| u64::try_from(size).ok())
        .unwrap_or(file.file_size_in_bytes())
}

fn total(table: &TableIdent, snapshot: &Snapshot, key: &str) -> Result<u64> {
    let text = snapshot.summary().additional_properties.get(key);
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        ExportError::foreign(
            table,
            format!(
                "the summary of its snapshot {} has no {key}",
                snapshot.snapshot_id()
            ),
        )
    })
}

/// How many rows and data files a snapshot holds. Every row has at most one delete entry.
pub(crate) fn live_counts(table: &TableIdent, snapshot: &Snapshot) -> Result<(u64, u64)> {
    let rows = total(table, snapshot, TOTAL_RECORDS)?;
    let deleted = total(table, snapshot, TOTAL_POSITION_DELETES)?;
    Ok((
        rows.saturating_sub(deleted),
        total(table, snapshot, TOTAL_DATA_FILES)?,
    ))
}

#[cfg(test)]
mod tests {
    use iceberg::spec::{DataFileBuilder, DataFileFormat};

    use super::*;

    fn stamp() -> Stamp {
        Stamp {
            database_id: Uuid::from_u128(1),
            commit_seq: 42,
            commit_id: Uuid::from_u128(2),
            writer_epoch: 3,
            exporter_id: Some(Uuid::from_u128(4)),
            origins: BTreeMap::from([("pg".to_owned(), "0/16B3748".to_owned())]),
            export_snapshot_id: None,
            export_commit_id: None,
            rows_checksum: Some("00ff".to_owned()),
        }
    }

    fn snapshot(summary: Summary) -> Snapshot {
        Snapshot::builder()
            .with_snapshot_id(1)
            .with_sequence_number(1)
            .with_timestamp_ms(0)
            .with_manifest_list("file:///l")
            .with_summary(summary)
            .build()
    }

    fn file(content: DataContentType, rows: u64) -> DataFile {
        DataFileBuilder::default()
            .content(content)
            .file_path("file:///f".to_owned())
            .file_format(DataFileFormat::Parquet)
            .record_count(rows)
            .file_size_in_bytes(100)
            .build()
            .unwrap()
    }

    #[test]
    fn totals_follow_on_the_parent() {
        let table = TableIdent::from_strs(["ns", "t"]).unwrap();
        let mut first = Counters::default();
        first.add(&file(DataContentType::Data, 10));
        let first = snapshot(first.summary(&table, &stamp(), None).unwrap());
        assert_eq!(first.summary().operation, Operation::Append);
        assert_eq!(Stamp::of(&first), Some(stamp()));
        assert_eq!(live_counts(&table, &first).unwrap(), (10, 1));

        let mut second = Counters::default();
        second.add(&file(DataContentType::Data, 5));
        second.add(&file(DataContentType::PositionDeletes, 4));
        let second = snapshot(second.summary(&table, &stamp(), Some(&first)).unwrap());
        assert_eq!(second.summary().operation, Operation::Overwrite);
        assert_eq!(live_counts(&table, &second).unwrap(), (11, 2));

        let mut third = Counters::default();
        third.remove(&file(DataContentType::Data, 10));
        third.remove(&file(DataContentType::PositionDeletes, 4));
        let third = snapshot(third.summary(&table, &stamp(), Some(&second)).unwrap());
        assert_eq!(third.summary().operation, Operation::Delete);
        assert_eq!(live_counts(&table, &third).unwrap(), (5, 1));
    }

    #[test]
    fn a_foreign_snapshot_has_no_stamp_and_no_totals() {
        let table = TableIdent::from_strs(["ns", "t"]).unwrap();
        let foreign = snapshot(Summary {
            operation: Operation::Append,
            additional_properties: HashMap::new(),
        });
        assert_eq!(Stamp::of(&foreign), None);
        let error = Counters::default()
            .summary(&table, &stamp(), Some(&foreign))
            .unwrap_err();
        assert!(matches!(error, ExportError::Foreign { .. }), "{error}");
    }
}
