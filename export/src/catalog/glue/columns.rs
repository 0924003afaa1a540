//! What Glue shows of a table's columns: their types as Hive writes them.
//!
//! Source: `IcebergToGlueConverter` of Iceberg's Java implementation. Engines that know Iceberg read the metadata file instead.

use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use serde_json::{Value, json};

/// How many characters Glue takes of a column's comment.
const COMMENT_CHARS_MAX: usize = 255;

/// The columns of a schema.
pub(super) fn columns(schema: &Schema) -> Vec<Value> {
    let fields = schema.as_struct().fields().iter();
    fields.map(|field| column(field)).collect()
}

fn column(field: &NestedField) -> Value {
    let comment = field.doc.as_deref().unwrap_or_default();
    let comment: String = comment.chars().take(COMMENT_CHARS_MAX).collect();
    json!({
        "Name": field.name,
        "Type": type_name(&field.field_type),
        "Comment": comment,
        "Parameters": {
            "iceberg.field.id": field.id.to_string(),
            "iceberg.field.optional": (!field.required).to_string(),
            "iceberg.field.current": "true",
        },
    })
}

fn type_name(field_type: &Type) -> String {
    match field_type {
        Type::Primitive(primitive) => primitive_name(primitive),
        Type::List(list) => format!("array<{}>", type_name(&list.element_field.field_type)),
        Type::Map(map) => format!(
            "map<{},{}>",
            type_name(&map.key_field.field_type),
            type_name(&map.value_field.field_type)
        ),
        Type::Struct(fields) => {
            let fields = fields.fields().iter();
            let fields: Vec<String> = fields
                .map(|field| format!("{}:{}", field.name, type_name(&field.field_type)))
                .collect();
            format!("struct<{}>", fields.join(","))
        }
    }
}

fn primitive_name(primitive: &PrimitiveType) -> String {
    let name = match primitive {
        PrimitiveType::Boolean => "boolean",
        PrimitiveType::Int => "int",
        PrimitiveType::Long => "bigint",
        PrimitiveType::Float => "float",
        PrimitiveType::Double => "double",
        PrimitiveType::Date => "date",
        PrimitiveType::Timestamp
        | PrimitiveType::Timestamptz
        | PrimitiveType::TimestampNs
        | PrimitiveType::TimestamptzNs => "timestamp",
        PrimitiveType::Time | PrimitiveType::String | PrimitiveType::Uuid => "string",
        PrimitiveType::Fixed(_) | PrimitiveType::Binary => "binary",
        PrimitiveType::Decimal { precision, scale } => {
            return format!("decimal({precision},{scale})");
        }
    };
    name.to_owned()
}
