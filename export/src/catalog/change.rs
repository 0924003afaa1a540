//! A change of a table as a value: what it demands, and what it does.

use iceberg::spec::{MAIN_BRANCH, TableMetadata, TableMetadataBuildResult};
use iceberg::{TableRequirement, TableUpdate};

use super::CatalogTable;
use crate::error::{At, ExportError, Result};
use crate::references::{export_branch, head};

/// What is to become of a table, and what the table must be for it: the body of a commit request of Iceberg's REST
/// protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What the table must be. A catalog refuses the change if one of them does not hold.
    pub requirements: Vec<TableRequirement>,
    /// What is done, in this order.
    pub updates: Vec<TableUpdate>,
}

impl Change {
    /// These updates, of the table and the newest snapshot that `base` shows of the branch that it is exported to, and of the
    /// main one: what others commit there takes the sequence number and the row ids that a new snapshot would have.
    pub fn of(base: &TableMetadata, updates: Vec<TableUpdate>) -> Change {
        let stands = |name: &str, snapshot_id| TableRequirement::RefSnapshotIdMatch {
            r#ref: name.to_owned(),
            snapshot_id,
        };
        let branch = export_branch(base);
        let head_id = head(base).map(|head| head.snapshot_id());
        let uuid = TableRequirement::UuidMatch { uuid: base.uuid() };
        let mut requirements = vec![uuid, stands(branch, head_id)];
        if branch != MAIN_BRANCH {
            requirements.push(stands(MAIN_BRANCH, base.current_snapshot_id()));
        }
        Change {
            requirements,
            updates,
        }
    }

    /// The same, if one more thing holds.
    #[must_use]
    pub fn demanding(mut self, requirement: TableRequirement) -> Change {
        self.requirements.push(requirement);
        self
    }

    /// Whether the table is what the change demands.
    pub fn may_follow(&self, table: &TableMetadata) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.check(Some(table)).is_ok())
    }

    /// The metadata that follows on `base`.
    ///
    /// # Errors
    /// [`ExportError::Corrupt`](crate::ExportError::Corrupt) if the updates don't fit the table.
    pub fn apply(&self, base: &CatalogTable) -> Result<TableMetadataBuildResult> {
        let place = || format!("table '{}'", base.ident);
        let metadata = base.metadata.as_ref().clone();
        let mut builder = metadata.into_builder(Some(base.metadata_location.clone()));
        for update in &self.updates {
            builder = update.clone().apply(builder).at(place())?;
        }
        let mut built = builder.build().at(place())?;
        let least_ms = base.metadata.last_updated_ms();
        if built.metadata.last_updated_ms() < least_ms {
            let damage = |error| ExportError::corrupt(place(), error);
            built.metadata = updated_at(&built.metadata, least_ms).map_err(damage)?;
        }
        Ok(built)
    }
}

/// The same metadata, updated at another time. That of a change without a snapshot is the system's, which may have been set back;
/// readers refuse metadata that is older than what it followed on.
fn updated_at(metadata: &TableMetadata, updated_ms: i64) -> serde_json::Result<TableMetadata> {
    let mut json = serde_json::to_value(metadata)?;
    if let Some(json) = json.as_object_mut() {
        json.insert("last-updated-ms".to_owned(), updated_ms.into());
    }
    serde_json::from_value(json)
}
