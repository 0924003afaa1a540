//! A table that is to be made.

use std::collections::HashMap;

use iceberg::TableUpdate;
use iceberg::spec::{
    FormatVersion, Schema, SortOrder, TableMetadata, TableMetadataBuilder, UnboundPartitionSpec,
};
use uuid::Uuid;

use crate::error::{At, Result};

/// What a table is made of.
#[derive(Clone, Debug)]
pub struct NewTable {
    /// Its columns; they keep these field ids.
    pub schema: Schema,
    /// How its files are divided.
    pub partition_spec: UnboundPartitionSpec,
    /// The order of rows within a file.
    pub sort_order: SortOrder,
    /// Its format version.
    pub format_version: FormatVersion,
    /// Its properties.
    pub properties: HashMap<String, String>,
    /// Its folder, without a slash at the end; `None` lets the catalog choose.
    pub location: Option<String>,
}

impl NewTable {
    /// The metadata of the table in this folder.
    pub(crate) fn metadata(self, place: &str, location: String) -> Result<TableMetadata> {
        let unsorted = SortOrder::unsorted_order();
        let unpartitioned = UnboundPartitionSpec::builder().build();
        let plain = TableMetadataBuilder::new(
            self.schema.clone(),
            self.partition_spec.clone(),
            self.sort_order.clone(),
            location.clone(),
            self.format_version,
            self.properties.clone(),
        );
        let metadata = plain.at(place)?.build().at(place)?.metadata;
        if metadata.current_schema().as_struct() == self.schema.as_struct() {
            return Ok(metadata);
        }
        // The builder numbers the columns anew; the wanted schema replaces its own, and then come spec and order, which name its columns.
        let builder = TableMetadataBuilder::new(
            self.schema.clone(),
            unpartitioned,
            unsorted,
            location,
            self.format_version,
            self.properties,
        );
        let metadata = builder.at(place)?.build().at(place)?.metadata;
        let renumbered = metadata.current_schema_id();
        let builder = metadata
            .into_builder(None)
            .add_current_schema(self.schema)
            .at(place)?
            .remove_schemas(&[renumbered])
            .at(place)?
            .add_default_partition_spec(self.partition_spec)
            .at(place)?
            .add_sort_order(self.sort_order)
            .at(place)?
            .set_default_sort_order(i64::from(TableMetadataBuilder::LAST_ADDED))
            .at(place)?;
        Ok(builder.build().at(place)?.metadata)
    }

    /// The updates that make the table out of nothing.
    pub(crate) fn updates(self, uuid: Uuid, location: String) -> Vec<TableUpdate> {
        const LAST_ADDED: i32 = TableMetadataBuilder::LAST_ADDED;
        vec![
            TableUpdate::AssignUuid { uuid },
            TableUpdate::UpgradeFormatVersion {
                format_version: self.format_version,
            },
            TableUpdate::AddSchema {
                schema: self.schema,
            },
            TableUpdate::SetCurrentSchema {
                schema_id: LAST_ADDED,
            },
            TableUpdate::AddSpec {
                spec: self.partition_spec,
            },
            TableUpdate::SetDefaultSpec {
                spec_id: LAST_ADDED,
            },
            TableUpdate::AddSortOrder {
                sort_order: self.sort_order,
            },
            TableUpdate::SetDefaultSortOrder {
                sort_order_id: i64::from(LAST_ADDED),
            },
            TableUpdate::SetLocation { location },
            TableUpdate::SetProperties {
                updates: self.properties,
            },
        ]
    }
}
