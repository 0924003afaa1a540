//! A change of a table as a value: what it demands, and what it does.

use iceberg::spec::{MAIN_BRANCH, TableMetadata, TableMetadataBuildResult};
use iceberg::{TableRequirement, TableUpdate};
use serde_json::Value;

use super::CatalogTable;
use crate::environment::{Clock, SystemClock};
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
        let metadata = base.metadata.as_ref();
        let behind_ms = metadata.last_updated_ms() - SystemClock.now_ms();
        let is_snapshot = |update: &TableUpdate| matches!(update, TableUpdate::AddSnapshot { .. });
        if behind_ms <= 0 || self.updates.iter().any(is_snapshot) {
            return self.build(base, metadata.clone());
        }
        // What adds no snapshot takes place at the system's time, which was set back: readers would refuse such metadata.
        let damage = |error| ExportError::corrupt(format!("table '{}'", base.ident), error);
        let earlier = shifted(metadata, -behind_ms).map_err(damage)?;
        let mut built = self.build(base, earlier)?;
        built.metadata = shifted(&built.metadata, behind_ms).map_err(damage)?;
        Ok(built)
    }

    fn build(
        &self,
        base: &CatalogTable,
        metadata: TableMetadata,
    ) -> Result<TableMetadataBuildResult> {
        let place = || format!("table '{}'", base.ident);
        let mut builder = metadata.into_builder(Some(base.metadata_location.clone()));
        for update in &self.updates {
            builder = update.clone().apply(builder).at(place())?;
        }
        builder.build().at(place())
    }
}

/// The same metadata, with all that happened to it so much later.
fn shifted(metadata: &TableMetadata, by_ms: i64) -> serde_json::Result<TableMetadata> {
    let mut json = serde_json::to_value(metadata)?;
    let shift = |time: Option<&mut Value>| {
        if let Some(time) = time
            && let Some(time_ms) = time.as_i64()
        {
            *time = time_ms.saturating_add(by_ms).into();
        }
    };
    shift(json.get_mut("last-updated-ms"));
    for log in ["snapshot-log", "metadata-log"] {
        let entries = json.get_mut(log).and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten() {
            shift(entry.get_mut("timestamp-ms"));
        }
    }
    serde_json::from_value(json)
}
