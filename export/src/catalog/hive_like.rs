//! What a Hive metastore and AWS Glue, which began as one, have in common: names, parameters of tables, types of columns.

use iceberg::TableIdent;
use iceberg::spec::{PrimitiveType, Type};

use crate::error::{ExportError, Result};

/// Parameters of a table.
pub(super) const METADATA_LOCATION: &str = "metadata_location";
pub(super) const PREVIOUS_METADATA_LOCATION: &str = "previous_metadata_location";
pub(super) const TABLE_TYPE: &str = "table_type";
pub(super) const ICEBERG: &str = "ICEBERG";

/// A name of two parts.
#[derive(Clone, Copy)]
pub(super) struct FlatName<'a> {
    pub(super) database: &'a str,
    pub(super) table: &'a str,
}

impl<'a> FlatName<'a> {
    /// Databases don't lie in others, and every name is written in small letters. `whose` says it to people.
    pub(super) fn of(ident: &'a TableIdent, whose: &str) -> Result<Self> {
        let table = ident.name();
        let wrong =
            |reason: &str| ExportError::Config(format!("table '{ident}': {whose}'s {reason}"));
        match ident.namespace().as_ref().as_slice() {
            [database] if [database, table].iter().any(|name| has_capitals(name)) => {
                Err(wrong("names have no capital letters"))
            }
            [database] => Ok(FlatName { database, table }),
            _ => Err(wrong(
                "databases don't lie in others, so a name has two parts",
            )),
        }
    }
}

fn has_capitals(name: &str) -> bool {
    name.chars().any(char::is_uppercase)
}

/// What is said of a table that was dropped.
pub(super) fn gone(ident: &TableIdent) -> ExportError {
    let reason = "it is gone from the catalog; put it back, by its newest metadata file";
    ExportError::foreign(ident, reason)
}

/// A type as Hive writes it.
pub(super) fn type_name(field_type: &Type) -> String {
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

#[cfg(test)]
mod tests {
    use iceberg::spec::{ListType, MapType, NestedField, StructType};

    use super::*;

    #[test]
    fn types_as_hive_writes_them() {
        let decimal = PrimitiveType::Decimal {
            precision: 38,
            scale: 9,
        };
        let primitives = [
            (PrimitiveType::Boolean, "boolean"),
            (PrimitiveType::Int, "int"),
            (PrimitiveType::Long, "bigint"),
            (PrimitiveType::Float, "float"),
            (PrimitiveType::Double, "double"),
            (decimal, "decimal(38,9)"),
            (PrimitiveType::Date, "date"),
            (PrimitiveType::Time, "string"),
            (PrimitiveType::Timestamp, "timestamp"),
            (PrimitiveType::Timestamptz, "timestamp"),
            (PrimitiveType::TimestampNs, "timestamp"),
            (PrimitiveType::TimestamptzNs, "timestamp"),
            (PrimitiveType::String, "string"),
            (PrimitiveType::Uuid, "string"),
            (PrimitiveType::Fixed(16), "binary"),
            (PrimitiveType::Binary, "binary"),
        ];
        let mut types: Vec<(Type, &str)> = primitives
            .map(|(primitive, name)| (Type::Primitive(primitive), name))
            .to_vec();
        let long = Type::Primitive(PrimitiveType::Long);
        let list = Type::List(ListType::new(
            NestedField::list_element(101, long, false).into(),
        ));
        let string = Type::Primitive(PrimitiveType::String);
        let map = Type::Map(MapType::new(
            NestedField::map_key_element(102, string).into(),
            NestedField::map_value_element(103, list.clone(), false).into(),
        ));
        let uuid = Type::Primitive(PrimitiveType::Uuid);
        let inner = NestedField::optional(104, "a", uuid);
        let fields = vec![
            inner.into(),
            NestedField::optional(105, "b", list.clone()).into(),
        ];
        types.push((list, "array<bigint>"));
        types.push((map, "map<string,array<bigint>>"));
        types.push((
            Type::Struct(StructType::new(fields)),
            "struct<a:string,b:array<bigint>>",
        ));
        for (field_type, name) in types {
            assert_eq!(type_name(&field_type), name, "{field_type}");
        }
    }
}
