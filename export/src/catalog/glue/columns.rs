//! What Glue shows of a table's columns: their types as Hive writes them.
//!
//! Source: `IcebergToGlueConverter` of Iceberg's Java implementation. Engines that know Iceberg read the metadata file instead.

use iceberg::spec::{NestedField, Schema};
use serde_json::{Value, json};

use super::text;
use crate::catalog::hive_like::type_name;

/// How long Glue takes a column's comment to be.
const COMMENT_BYTES_MAX: usize = 255;

/// The columns of a schema, in the place of those that Glue's table has. A column that says nothing of itself keeps the comment that
/// people gave it there.
pub(super) fn columns(schema: &Schema, before: &[Value]) -> Vec<Value> {
    let comment_of = |field: &NestedField| {
        let doc = field.doc.as_deref().filter(|doc| !doc.is_empty());
        doc.map(comment).or_else(|| {
            let mut before = before.iter();
            let same = before.find(|column| text(column, "Name") == Some(field.name.as_str()));
            text(same?, "Comment").map(str::to_owned)
        })
    };
    let fields = schema.as_struct().fields().iter();
    fields
        .map(|field| column(field, comment_of(field)))
        .collect()
}

fn column(field: &NestedField, comment: Option<String>) -> Value {
    let mut column = json!({
        "Name": field.name,
        "Type": type_name(&field.field_type),
        "Parameters": {
            "iceberg.field.id": field.id.to_string(),
            "iceberg.field.optional": (!field.required).to_string(),
            "iceberg.field.current": "true",
        },
    });
    if let (Some(comment), Some(parts)) = (comment, column.as_object_mut()) {
        parts.insert("Comment".to_owned(), comment.into());
    }
    column
}

/// As much of a text as Glue takes, in one line. Source: `CommentString` of its reference.
fn comment(doc: &str) -> String {
    let is_taken = |character: char| match character {
        '\t' => true,
        '\u{FFFE}' | '\u{FFFF}' => false,
        other => !other.is_control(),
    };
    let mut comment = doc.replace(|character: char| !is_taken(character), " ");
    comment.truncate(comment.floor_char_boundary(COMMENT_BYTES_MAX));
    comment
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use iceberg::spec::{PrimitiveType, Type};

    use super::*;

    fn schema(fields: Vec<NestedField>) -> Schema {
        let fields = fields.into_iter().map(Arc::new);
        Schema::builder().with_fields(fields).build().unwrap()
    }

    fn plain(id: i32, name: &str, primitive: PrimitiveType) -> NestedField {
        NestedField::optional(id, name, Type::Primitive(primitive))
    }

    #[test]
    fn columns_say_which_fields_they_are() {
        let required = NestedField::required(7, "id", Type::Primitive(PrimitiveType::Long));
        let schema = schema(vec![required, plain(9, "note", PrimitiveType::String)]);
        let column = |name: &str, type_name: &str, id: &str, optional: &str| {
            json!({
                "Name": name, "Type": type_name, "Parameters": {
                    "iceberg.field.id": id, "iceberg.field.optional": optional,
                    "iceberg.field.current": "true",
                },
            })
        };
        let expected = [
            column("id", "bigint", "7", "false"),
            column("note", "string", "9", "true"),
        ];
        assert_eq!(columns(&schema, &[]), expected);
    }

    #[test]
    fn comments_fit_and_those_of_people_stay() {
        assert_eq!(comment("a\tb\r\nc\u{7}\u{FFFF}d"), "a\tb  c  d");
        assert_eq!(comment(&"x".repeat(255)).len(), 255);
        assert_eq!(comment(&"€".repeat(86)), "€".repeat(85));
        assert_eq!(comment(&format!("x{}", "€".repeat(85))).len(), 253);
        let field = |id, name: &str| plain(id, name, PrimitiveType::Int);
        let schema = schema(vec![
            field(1, "documented").with_doc("ours"),
            field(2, "theirs"),
            field(3, "new"),
            field(4, "silent").with_doc(""),
        ]);
        let before = [
            json!({ "Name": "documented", "Comment": "old" }),
            json!({ "Name": "silent" }),
            json!({ "Name": "theirs", "Comment": "kept" }),
        ];
        let shown = columns(&schema, &before);
        let comments: Vec<Option<&str>> = shown.iter().map(|c| text(c, "Comment")).collect();
        assert_eq!(comments, [Some("ours"), Some("kept"), None, None]);
        assert!(shown.iter().all(|c| c["Comment"] != ""));
    }
}
