//! What a user says about a `file` source, and what is wrong with it.

use std::path::PathBuf;

use indexmap::IndexMap;
use moonshine_engine::{ColumnType, TableSchema};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::SourceError;

/// Debezium change events as JSON lines: one event a line, with or without the `schema`/`payload` wrapper.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// A file; a folder, whose files `*.jsonl`, `*.ndjson` and `*.json` are read in name order; or `-` for standard
    /// input. Relative to the working directory.
    pub path: String,
    /// The tables that the events belong to.
    pub tables: Vec<FileTable>,
    /// What to do with an event of a table that is not in `tables`.
    #[serde(default)]
    pub other_tables: OtherTables,
    /// When following (without `--once`): a transaction counts as ended when its next event has not come for this long.
    #[serde(default = "default_transaction_idle_ms")]
    pub transaction_idle_ms: u64,
}

/// One table that events of a [`FileConfig`] go to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileTable {
    /// The table's name here, by convention `namespace.table`.
    pub name: String,
    /// The columns of the primary key, in key order.
    pub key: Vec<String>,
    /// The columns in order, name to type: boolean, int32, int64, float32, float64, decimal(p,s), string, binary, uuid,
    /// date, time, timestamp or timestamptz, with `not null` after it where the column is always set. Fields that are
    /// not named here are left out. Not needed where the events carry a `schema`: then every field is a column.
    #[serde(default)]
    pub columns: Option<IndexMap<String, String>>,
    /// Which events are this table's: `schema.table`, `db.table` or `db.schema.table` of their `source` block. The
    /// default is `name`. An event without a `source` block belongs to the only table, if there is one only.
    #[serde(default)]
    pub source_table: Option<String>,
}

/// What to do with an event of a table that is not configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OtherTables {
    /// Stop with an error that names the line and the table.
    #[default]
    Error,
    /// Leave it out.
    Skip,
}

fn default_transaction_idle_ms() -> u64 {
    1000
}

impl FileConfig {
    /// A configuration with the defaults.
    ///
    /// ```
    /// use moonshine_connectors::file::{FileConfig, FileTable};
    /// let config = FileConfig::new("orders.jsonl", vec![FileTable::new("shop.orders", ["order_id"])]);
    /// assert_eq!(config.tables[0].key, ["order_id"]);
    /// ```
    pub fn new(path: impl Into<String>, tables: Vec<FileTable>) -> Self {
        FileConfig {
            path: path.into(),
            tables,
            other_tables: OtherTables::default(),
            transaction_idle_ms: default_transaction_idle_ms(),
        }
    }

    pub(crate) fn input(&self) -> InputPath {
        match self.path.as_str() {
            "-" => InputPath::Stdin,
            path => InputPath::Path(PathBuf::from(path)),
        }
    }

    /// Checks all that can be checked without the events.
    pub(crate) fn validate(&self, source_name: &str) -> Result<(), SourceError> {
        if self.path.is_empty() {
            return Err(SourceError::Config(format!(
                "source '{source_name}': path is empty"
            )));
        }
        if self.tables.is_empty() {
            return Err(SourceError::Config(format!(
                "source '{source_name}': tables is empty; name at least one table"
            )));
        }
        for (index, table) in self.tables.iter().enumerate() {
            let place = format!("source '{source_name}': tables[{index}] ('{}')", table.name);
            table
                .validate()
                .map_err(|reason| SourceError::Config(format!("{place}: {reason}")))?;
            for other in self.tables.iter().take(index) {
                if other.name == table.name || other.matched_name() == table.matched_name() {
                    return Err(SourceError::Config(format!(
                        "{place}: takes the same name or the same events as table '{}'",
                        other.name
                    )));
                }
            }
        }
        Ok(())
    }
}

impl FileTable {
    /// A table of that name and key, whose columns come from the events' own `schema`.
    pub fn new<I, S>(name: impl Into<String>, key: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        FileTable {
            name: name.into(),
            key: key.into_iter().map(Into::into).collect(),
            columns: None,
            source_table: None,
        }
    }

    /// The table name that events of this table carry.
    pub(crate) fn matched_name(&self) -> &str {
        self.source_table.as_deref().unwrap_or(&self.name)
    }

    /// The schema, where the columns are declared.
    pub(crate) fn declared_schema(&self) -> Result<Option<TableSchema>, String> {
        let Some(columns) = &self.columns else {
            return Ok(None);
        };
        let mut builder = TableSchema::builder(&self.name);
        for (column_name, text) in columns {
            let (column_type, nullable) = parse_column_type(text)
                .map_err(|reason| format!("columns.{column_name}: {reason}"))?;
            builder = builder.column(column_name, column_type, nullable);
        }
        builder
            .primary_key(&self.key)
            .build()
            .map(Some)
            .map_err(|error| error.to_string())
    }

    fn validate(&self) -> Result<(), String> {
        if self.name.is_empty() {
            return Err("name is empty".into());
        }
        if self.key.is_empty() {
            return Err("key is empty; name the columns of the primary key".into());
        }
        self.declared_schema().map(|_| ())
    }
}

/// Reads `decimal(10,2)` (nullable) or `decimal(10,2) not null`.
fn parse_column_type(text: &str) -> Result<(ColumnType, bool), String> {
    let text = text.trim();
    let (type_text, nullable) = match text.strip_suffix("not null") {
        Some(rest) => (rest, false),
        None => (text, true),
    };
    Ok((
        type_text
            .parse()
            .map_err(|error: moonshine_engine::Error| error.to_string())?,
        nullable,
    ))
}

/// Where the lines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InputPath {
    Stdin,
    Path(PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_types_carry_their_nullability() {
        assert_eq!(parse_column_type("int64"), Ok((ColumnType::Int64, true)));
        assert_eq!(
            parse_column_type("decimal(10, 2)  not null"),
            Ok((
                ColumnType::Decimal {
                    precision: 10,
                    scale: 2
                },
                false
            ))
        );
        assert!(
            parse_column_type("number")
                .unwrap_err()
                .contains("unknown column type 'number'")
        );
    }

    #[test]
    fn a_wrong_table_is_named_by_its_place_in_the_configuration() {
        let error_of = |config: &FileConfig| config.validate("sample").unwrap_err().to_string();
        let mut config = FileConfig::new(
            "x.jsonl",
            vec![FileTable::new("a.b", ["id"]), FileTable::new("a.c", ["id"])],
        );
        assert!(config.validate("sample").is_ok());
        config.tables[1].columns = Some(
            [("id".to_owned(), "int63".to_owned())]
                .into_iter()
                .collect(),
        );
        let message = error_of(&config);
        assert!(
            message.contains("tables[1]")
                && message.contains("columns.id")
                && message.contains("int63"),
            "{message}"
        );
        config.tables[1] = FileTable::new("a.c", [""; 0]);
        assert!(error_of(&config).contains("key is empty"));
        config.tables[1] = FileTable {
            source_table: Some("a.b".into()),
            ..FileTable::new("a.c", ["id"])
        };
        assert!(error_of(&config).contains("same events as table 'a.b'"));
        config.tables.clear();
        assert!(error_of(&config).contains("tables is empty"));
    }

    #[test]
    fn unknown_settings_are_errors() {
        let text = r#"{"path": "-", "tables": [{"name": "a.b", "key": ["id"], "colums": {}}]}"#;
        assert!(
            serde_json::from_str::<FileConfig>(text)
                .unwrap_err()
                .to_string()
                .contains("colums")
        );
    }
}
