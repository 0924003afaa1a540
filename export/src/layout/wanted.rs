//! What the configuration asks of a table's layout, and what has to change in the table for it.

use iceberg::TableUpdate;
use iceberg::spec::{
    NullOrder, PartitionSpec, PartitionSpecBuilder, Schema, SortDirection, SortField, SortOrder,
    TableMetadata, TableMetadataBuilder, Transform, UnboundPartitionField, UnboundPartitionSpec,
};
use moonshine_engine::TableSchema;

use super::partition::{is_writable, named_twice};
use super::text::{self, SortText};
use super::z_order::is_orderable;
use crate::error::{ExportError, Result};

/// The layout that a configuration names. What it does not name stays as it is in a table that exists; a new table then has
/// one partition and is sorted by its primary key.
///
/// ```
/// let layout = moonshine_export::LayoutSettings {
///     partition_by: Some(vec!["day(created_at)".into(), "bucket(16, customer)".into()]),
///     sort_by: Some(vec!["customer".into(), "created_at desc".into()]),
///     ..Default::default()
/// };
/// layout.check("tables.orders: ")?;
/// # Ok::<(), moonshine_export::ExportError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayoutSettings {
    /// Partition fields, each a column or a transform of one.
    pub partition_by: Option<Vec<String>>,
    /// Columns that rows are sorted by within a file, or `zorder(…)` of some.
    pub sort_by: Option<Vec<String>>,
    /// How much may be gathered and open meanwhile.
    pub limits: LayoutLimits,
}

/// What the writing of one table's files may hold at once.
///
/// ```
/// assert_eq!(moonshine_export::LayoutLimits::default().open_files, 64);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutLimits {
    /// Most memory of rows that become one row group, in bytes.
    pub row_group_bytes: usize,
    /// Most memory for rows that have to be sorted or told apart, in bytes.
    pub gathered_bytes: usize,
    /// Most files that are open at once; each takes up to 1 MiB of bytes on their way to the store.
    pub open_files: usize,
    /// Most partitions that one export may write to.
    pub partitions: usize,
}

impl Default for LayoutLimits {
    fn default() -> Self {
        LayoutLimits {
            row_group_bytes: 64 << 20,
            gathered_bytes: 256 << 20,
            open_files: 64,
            partitions: 10_000,
        }
    }
}

impl LayoutSettings {
    /// Checks what can be checked without the columns. `place` comes before the key in an error.
    ///
    /// # Errors
    /// [`ExportError::Config`], naming the key.
    pub fn check(&self, place: &str) -> Result<()> {
        for field in self.partition_by.iter().flatten() {
            text::partition(&format!("{place}partition_by"), field)?;
        }
        let key = format!("{place}sort_by");
        for field in self.sort_by.iter().flatten() {
            if text::z_order(&key, field)?.is_none() {
                text::sort(&key, field)?;
            }
        }
        self.z_order_columns(&key).map(drop)
    }

    /// The columns of the z-order that is asked for, if one is.
    fn z_order_columns(&self, key: &str) -> Result<Option<Vec<String>>> {
        let fields = self.sort_by.as_deref().unwrap_or_default();
        for field in fields {
            if let Some(columns) = text::z_order(key, field)? {
                return match fields.len() {
                    1 => Ok(Some(columns)),
                    _ => Err(ExportError::Config(format!(
                        "{key}: '{field}' has to stand by itself"
                    ))),
                };
            }
        }
        Ok(None)
    }

    /// The positions of the columns of the z-order that is asked for, if one is.
    pub(super) fn z_order(&self, schema: &TableSchema) -> Result<Option<Vec<usize>>> {
        let key = format!("sort_by of table '{}'", schema.name());
        let position = |name: &String| {
            let position = schema.position(name);
            let column = position.and_then(|position| schema.columns().get(position));
            match (position, column) {
                (Some(position), Some(column))
                    if is_orderable(&column.column_type.arrow_type()) =>
                {
                    Ok(position)
                }
                (_, Some(_)) => Err(ExportError::Config(format!(
                    "{key}: column '{name}' is of a type without a z-order"
                ))),
                _ => Err(ExportError::Config(format!(
                    "{key}: there is no column '{name}'"
                ))),
            }
        };
        let columns = self.z_order_columns(&key)?;
        columns
            .map(|columns| columns.iter().map(position).collect())
            .transpose()
    }

    /// The partition spec that is asked for; `None` if none is.
    pub(crate) fn spec(
        &self,
        schema: &TableSchema,
        columns: &Schema,
    ) -> Result<Option<UnboundPartitionSpec>> {
        let Some(fields) = &self.partition_by else {
            return Ok(None);
        };
        let wrong = |reason: String| {
            ExportError::Config(format!(
                "partition_by of table '{}': {reason}",
                schema.name()
            ))
        };
        let mut bound = PartitionSpecBuilder::new(columns.clone());
        let mut spec = UnboundPartitionSpec::builder();
        let mut spec_names: Vec<String> = Vec::new();
        let mut values = Vec::with_capacity(fields.len());
        for text in fields {
            let wanted = text::partition("partition_by", text)?;
            let position = schema.position(&wanted.column);
            let column = position.and_then(|position| schema.columns().get(position));
            let column = column.ok_or_else(|| {
                wrong(format!("'{text}': there is no column '{}'", wanted.column))
            })?;
            if !is_writable(wanted.transform, column) {
                return Err(wrong(format!(
                    "'{text}': floating-point numbers can't divide a table, nor can UUIDs but by their buckets"
                )));
            }
            values.push((wanted.transform, column));
            let field = UnboundPartitionField {
                source_id: column.field_id,
                field_id: None,
                name: free_name(schema, &spec_names, &wanted.column, wanted.transform),
                transform: wanted.transform,
            };
            spec_names.push(field.name.clone());
            bound = bound
                .add_unbound_field(field.clone())
                .map_err(|error| wrong(format!("'{text}': {}", error.message())))?;
            spec = spec
                .add_partition_field(field.source_id, field.name, field.transform)
                .map_err(|error| wrong(format!("'{text}': {}", error.message())))?;
        }
        if let Some(repeated) = named_twice(values.into_iter()) {
            return Err(wrong(format!(
                "two fields are of type {repeated}, which manifests can't name twice; leave one out, or take its buckets"
            )));
        }
        Ok(Some(spec.build()))
    }

    /// The sort order that is asked for; `None` if none is.
    pub(crate) fn order(&self, schema: &TableSchema) -> Result<Option<SortOrder>> {
        let Some(fields) = &self.sort_by else {
            return Ok(None);
        };
        if self.z_order(schema)?.is_some() {
            // Iceberg has no name for it.
            return Ok(Some(sort_order(Vec::new())));
        }
        let field = |field: &String| {
            let SortText {
                column,
                direction,
                null_order,
            } = text::sort("sort_by", field)?;
            let position = schema.position(&column);
            let found = position.and_then(|position| schema.columns().get(position));
            let found = found.ok_or_else(|| {
                let table = schema.name();
                ExportError::Config(format!(
                    "sort_by of table '{table}': there is no column '{column}'"
                ))
            })?;
            Ok(sort_field(found.field_id, direction, null_order))
        };
        let fields = fields.iter().map(field).collect::<Result<Vec<_>>>()?;
        Ok(Some(if fields.is_empty() {
            key_order(schema)
        } else {
            sort_order(fields)
        }))
    }

    /// The updates that give a table this layout; none if it has it.
    ///
    /// # Errors
    /// [`ExportError::Config`] for a layout that the table's columns don't allow.
    pub(crate) fn updates(
        &self,
        metadata: &TableMetadata,
        schema: &TableSchema,
    ) -> Result<Vec<TableUpdate>> {
        let mut updates = Vec::new();
        let spec = self.spec(schema, metadata.current_schema())?;
        if let Some(spec) =
            spec.filter(|spec| !is_same_spec(spec, metadata.default_partition_spec()))
        {
            updates.push(TableUpdate::AddSpec { spec });
            updates.push(TableUpdate::SetDefaultSpec {
                spec_id: TableMetadataBuilder::LAST_ADDED,
            });
        }
        let order = self.order(schema)?;
        if let Some(sort_order) =
            order.filter(|order| order.fields != metadata.default_sort_order().fields)
        {
            updates.push(TableUpdate::AddSortOrder { sort_order });
            updates.push(TableUpdate::SetDefaultSortOrder {
                sort_order_id: i64::from(TableMetadataBuilder::LAST_ADDED),
            });
        }
        Ok(updates)
    }
}

/// The primary key as a sort order.
pub(crate) fn key_order(schema: &TableSchema) -> SortOrder {
    let field = |id| sort_field(id, SortDirection::Ascending, NullOrder::First);
    sort_order(
        schema
            .key_columns()
            .map(|column| field(column.field_id))
            .collect(),
    )
}

fn sort_order(fields: Vec<SortField>) -> SortOrder {
    // The id of the first order; a table that has one gives its own. No order at all is always 0.
    SortOrder {
        order_id: i64::from(!fields.is_empty()),
        fields,
    }
}

fn sort_field(source_id: i32, direction: SortDirection, null_order: NullOrder) -> SortField {
    SortField {
        source_id,
        transform: Transform::Identity,
        direction,
        null_order,
    }
}

/// A name for a partition field that neither a column nor another field has: by the column, as other writers give them.
fn free_name(
    schema: &TableSchema,
    others: &[String],
    column: &str,
    transform: Transform,
) -> String {
    let is_free = |name: &str| {
        let is_own = transform == Transform::Identity && name == column;
        (is_own || schema.position(name).is_none()) && others.iter().all(|other| other != name)
    };
    let name = avro_name(&field_name(column, transform));
    let numbered = (2..).map(|number| format!("{name}_{number}"));
    let mut names = std::iter::once(name.clone()).chain(numbered);
    names.find(|name| is_free(name)).unwrap_or(name)
}

fn field_name(column: &str, transform: Transform) -> String {
    let ending = match transform {
        Transform::Identity | Transform::Unknown => return column.to_owned(),
        Transform::Bucket(_) => "bucket",
        Transform::Truncate(_) => "trunc",
        Transform::Year => "year",
        Transform::Month => "month",
        Transform::Day => "day",
        Transform::Hour => "hour",
        Transform::Void => "null",
    };
    format!("{column}_{ending}")
}

/// Manifests are Avro, whose names are letters, digits and underscores. The rest is written as the reference
/// implementation writes it: `_x` and the character's number.
fn avro_name(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '0'..='9' if plain.is_empty() => plain.extend(['_', character]),
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => plain.push(character),
            _ => plain.push_str(&format!("_x{:X}", u32::from(character))),
        }
    }
    plain
}

/// Whether manifests can be read again whose partitions have a field of this name.
pub(super) fn is_avro_name(name: &str) -> bool {
    !name.is_empty() && avro_name(name) == name
}

fn is_same_spec(wanted: &UnboundPartitionSpec, found: &PartitionSpec) -> bool {
    let wanted = wanted
        .fields()
        .iter()
        .map(|field| (field.source_id, field.transform));
    wanted.eq(found
        .fields()
        .iter()
        .map(|field| (field.source_id, field.transform)))
}

#[cfg(test)]
mod tests {
    use moonshine_engine::ColumnType;

    use super::*;

    #[test]
    fn names_are_avros() {
        for (name, plain) in [
            ("created_at", "created_at"),
            ("order-date", "order_x2Ddate"),
            ("2nd", "_2nd"),
            ("größe", "gr_xF6_xDFe"),
        ] {
            assert_eq!(avro_name(name), plain);
            assert_eq!(is_avro_name(name), name == plain);
        }
    }

    #[test]
    fn names_are_free() {
        let schema = TableSchema::builder("t")
            .column("at", ColumnType::Date, false)
            .column("at_day", ColumnType::Int32, true)
            .primary_key(["at"])
            .build()
            .unwrap();
        let name =
            |others: &[String], column, transform| free_name(&schema, others, column, transform);
        assert_eq!(name(&[], "at", Transform::Identity), "at");
        assert_eq!(name(&[], "at", Transform::Day), "at_day_2");
        assert_eq!(
            name(&["at_year".to_owned()], "at", Transform::Year),
            "at_year_2"
        );
    }
}
