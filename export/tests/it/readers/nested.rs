//! Lists, structs and maps of a history, and what changes within them.

use moonshine_engine::{ColumnType, NestedField, SchemaChange, TableSchemaBuilder, Value};

use super::histories::value;
use crate::support::Random;

/// The columns; a list of structs is never null, as PyIceberg takes such a one for an empty one.
pub(super) fn add_columns(builder: TableSchemaBuilder) -> TableSchemaBuilder {
    let structure = |text, number| {
        ColumnType::structure([
            NestedField::new(text, ColumnType::Utf8, true),
            NestedField::new(number, ColumnType::Int32, true),
        ])
    };
    let lines = ColumnType::list(structure("item", "count"), false);
    let counts = ColumnType::map(ColumnType::Utf8, ColumnType::Int32, true);
    builder
        .column("lines", lines, false)
        .column("tags", ColumnType::list(ColumnType::Utf8, true), true)
        .column("address", structure("street", "zip"), true)
        .column("counts", counts, true)
}

/// The first time fields are renamed, added and widened, then others are widened, and a name comes back with another meaning.
pub(super) fn changes(time: u32) -> Vec<SchemaChange> {
    let within = |path: &[&str], change| SchemaChange::Within {
        path: path.iter().map(|&name| name.to_owned()).collect(),
        change: Box::new(change),
    };
    let add = |name: &str, column_type| SchemaChange::AddColumn {
        name: name.into(),
        column_type,
        nullable: true,
        default: None,
    };
    let widen = |name: &str| SchemaChange::WidenColumn {
        name: name.into(),
        column_type: ColumnType::Int64,
    };
    let rename = SchemaChange::RenameColumn {
        name: "zip".into(),
        new_name: "code".into(),
    };
    let drop = SchemaChange::DropColumn {
        name: "street".into(),
    };
    let note = ColumnType::list(ColumnType::Boolean, true);
    match time {
        1 => vec![
            within(&["address"], rename),
            within(&["address"], add("city", ColumnType::Utf8)),
            within(&["lines", "element"], widen("count")),
            within(&["lines", "element"], add("flags", note)),
        ],
        2 => vec![
            within(&["address"], drop),
            within(&["address"], add("street", ColumnType::Date)),
            within(&["counts"], widen("value")),
        ],
        _ => Vec::new(),
    }
}

/// A value of a nested type: of up to three parts, of which some are null where they may be.
pub(super) fn nested_value(column_type: ColumnType, random: &mut Random) -> Value {
    let parts = column_type.nested_fields();
    let part = |part: &NestedField, random: &mut Random| match random.below(4) {
        0 if part.nullable => Value::Null,
        _ => value(part.column_type, random),
    };
    let count = random.below(4);
    match column_type {
        ColumnType::List(_) => Value::List((0..count).map(|_| part(&parts[0], random)).collect()),
        ColumnType::Map(_) => {
            let key = |number| Value::Utf8(format!("key {number}"));
            let entries = (0..count).map(|number| (key(number), part(&parts[1], random)));
            Value::Map(entries.collect())
        }
        _ => Value::Struct(parts.iter().map(|field| part(field, random)).collect()),
    }
}
