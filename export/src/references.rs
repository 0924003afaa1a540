//! A table's branches and tags.

use std::collections::HashMap;

use iceberg::spec::{SnapshotReference, TableMetadata};

use crate::error::{ExportError, Result};

/// Every branch and tag, by name.
///
/// The `iceberg` crate (0.10) keeps them to itself, but for looking one up by its name; its JSON form has them all.
pub(crate) fn references(metadata: &TableMetadata) -> Result<HashMap<String, SnapshotReference>> {
    let unreadable = |error| ExportError::corrupt(metadata.location(), error);
    let mut json = serde_json::to_value(metadata).map_err(unreadable)?;
    match json.get_mut("refs").map(serde_json::Value::take) {
        Some(references) => serde_json::from_value(references).map_err(unreadable),
        None => Ok(HashMap::new()),
    }
}
