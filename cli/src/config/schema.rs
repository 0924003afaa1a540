//! The JSON Schema of the configuration, for editors; kept in `docs/config.schema.json`.

use super::Config;

/// The schema as JSON text with a final newline.
pub(crate) fn text() -> Result<String, serde_json::Error> {
    let mut schema = schemars::schema_for!(Config);
    schema.insert("title".into(), "Moonshine configuration".into());
    serde_json::to_string_pretty(&schema).map(|mut text| {
        text.push('\n');
        text
    })
}

#[cfg(test)]
mod tests {
    const KEPT: &str = include_str!("../../../docs/config.schema.json");

    #[test]
    fn the_kept_schema_is_what_the_code_generates() {
        assert!(
            super::text().unwrap() == KEPT,
            "docs/config.schema.json is out of date; run: cargo run -- config-schema > docs/config.schema.json"
        );
    }

    #[test]
    fn every_key_is_described() {
        let schema: serde_json::Value = serde_json::from_str(KEPT).unwrap();
        let mut undescribed = Vec::new();
        collect(&schema, "", &mut undescribed);
        assert!(undescribed.is_empty(), "{undescribed:?}");
    }

    fn collect(value: &serde_json::Value, path: &str, undescribed: &mut Vec<String>) {
        let serde_json::Value::Object(object) = value else {
            if let serde_json::Value::Array(items) = value {
                items
                    .iter()
                    .for_each(|item| collect(item, path, undescribed));
            }
            return;
        };
        for (key, inner) in object {
            if key == "properties" {
                for (name, property) in inner.as_object().into_iter().flatten() {
                    if property.get("description").is_none() && property.get("$ref").is_none() {
                        undescribed.push(format!("{path}.{name}"));
                    }
                }
            }
            collect(inner, &format!("{path}.{key}"), undescribed);
        }
    }
}
