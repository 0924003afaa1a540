//! What is wrong with a configuration: one line that names the file, the line and the config path.

use std::fmt;
use std::path::PathBuf;

use super::tree::{Content, Node};

/// Keys that configurations of this family use and that this version does not act on, by config path.
const UNSUPPORTED_KEYS: &[&str] = &[
    "kafka",
    "mysql",
    "mongodb",
    "performance",
    "iceberg.default_partition_spec",
    "buffer.hot_ttl_secs",
    "monitoring.metrics_port",
];

/// Why a configuration is refused. Its text is one line: file, line, config path, reason.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file can't be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The text is not YAML.
    #[error("{file}:{line}:{column}: {reason}")]
    Syntax {
        /// The file.
        file: String,
        /// From 1.
        line: u64,
        /// From 1.
        column: u64,
        /// What the YAML parser found.
        reason: String,
    },
    /// A key or value can't be used.
    #[error("{file}:{line}: {}", placed(path, reason))]
    Value {
        /// The file.
        file: String,
        /// From 1.
        line: u64,
        /// Where in the configuration, such as `file.tables[0].key`; empty for the whole.
        path: String,
        /// What is wrong there.
        reason: String,
    },
}

fn placed(path: &str, reason: &str) -> String {
    if path.is_empty() {
        reason.to_owned()
    } else {
        format!("{path}: {reason}")
    }
}

/// A [`ConfigError::Value`] on its way up the tree: each level adds its part of the path.
#[derive(Debug)]
pub(super) struct NodeError {
    /// Parts of the path, innermost first.
    path: Vec<String>,
    /// Line of the offending key or value, from 1; 0 until a level that knows it was passed.
    pub(super) line: u64,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Text(String),
    UnknownKey {
        key: String,
        valid: &'static [&'static str],
    },
    UnknownValue {
        value: String,
        valid: &'static [&'static str],
    },
}

impl NodeError {
    pub(super) fn text(reason: impl Into<String>) -> Self {
        NodeError {
            path: Vec::new(),
            line: 0,
            reason: Reason::Text(reason.into()),
        }
    }

    /// Sets the line unless a level below knew it already.
    pub(super) fn at_line(mut self, line: u64) -> Self {
        if self.line == 0 {
            self.line = line;
        }
        self
    }

    /// Adds the part of the path that leads to the value which the error is about.
    pub(super) fn below(mut self, part: impl Into<String>) -> Self {
        self.path.push(part.into());
        self
    }

    /// The key, if the error is about one that its level does not have and no level claimed it yet.
    pub(super) fn unknown_key(&self) -> Option<&str> {
        match &self.reason {
            Reason::UnknownKey { key, .. } if self.line == 0 => Some(key),
            _ => None,
        }
    }

    /// Takes the line from the deepest node that the path leads to.
    pub(super) fn locate(self, root: &Node) -> Self {
        let mut node = root;
        let mut line = root.line;
        for part in self.path.iter().rev() {
            let (next_line, next) = match &node.content {
                Content::Map(entries) => match entries.iter().find(|entry| &entry.key == part) {
                    Some(entry) => (entry.key_line, &entry.value),
                    None => break,
                },
                Content::List(items) => {
                    let index = part.trim_matches(['[', ']']).parse::<usize>().ok();
                    match index.and_then(|index| items.get(index)) {
                        Some(item) => (item.line, item),
                        None => break,
                    }
                }
                _ => break,
            };
            line = next_line;
            node = next;
        }
        self.at_line(line)
    }

    pub(super) fn into_config_error(self, file: &str) -> ConfigError {
        let mut path = String::new();
        for part in self.path.iter().rev() {
            if !path.is_empty() && !part.starts_with('[') {
                path.push('.');
            }
            path.push_str(part);
        }
        let reason = match self.reason {
            Reason::Text(text) => text,
            Reason::UnknownKey { valid, .. } if UNSUPPORTED_KEYS.contains(&path.as_str()) => {
                format!(
                    "this version does not support this key{}",
                    valid_list("; the keys here are", valid)
                )
            }
            Reason::UnknownKey { key, valid } => {
                format!(
                    "unknown key{}{}",
                    nearest(&key, valid),
                    valid_list("; the keys here are", valid)
                )
            }
            Reason::UnknownValue { value, valid } => {
                format!(
                    "unknown value '{value}'{}{}",
                    nearest(&value, valid),
                    valid_list("; the values are", valid)
                )
            }
        };
        ConfigError::Value {
            file: file.to_owned(),
            line: self.line.max(1),
            path,
            reason,
        }
    }
}

fn nearest(word: &str, valid: &[&str]) -> String {
    let word = word.to_lowercase();
    let nearest = valid
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&word, candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, candidate)) if likeness > 0.7 => format!("; did you mean '{candidate}'?"),
        _ => String::new(),
    }
}

fn valid_list(intro: &str, valid: &[&str]) -> String {
    if valid.is_empty() {
        String::new()
    } else {
        format!("{intro} {}", valid.join(", "))
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::Text(text) => f.write_str(text),
            Reason::UnknownKey { key, .. } => write!(f, "unknown key '{key}'"),
            Reason::UnknownValue { value, .. } => write!(f, "unknown value '{value}'"),
        }
    }
}

impl std::error::Error for NodeError {}

impl serde::de::Error for NodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        NodeError::text(message.to_string())
    }

    fn invalid_type(
        unexpected: serde::de::Unexpected<'_>,
        expected: &dyn serde::de::Expected,
    ) -> Self {
        NodeError::text(format!(
            "expected {expected}, found {}",
            kind_of(unexpected)
        ))
    }

    fn invalid_value(
        unexpected: serde::de::Unexpected<'_>,
        expected: &dyn serde::de::Expected,
    ) -> Self {
        NodeError::text(format!(
            "expected {expected}, found {}",
            kind_of(unexpected)
        ))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        NodeError {
            path: Vec::new(),
            line: 0,
            reason: Reason::UnknownKey {
                key: field.to_owned(),
                valid: expected,
            },
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        NodeError {
            path: Vec::new(),
            line: 0,
            reason: Reason::UnknownValue {
                value: variant.to_owned(),
                valid: expected,
            },
        }
    }

    fn missing_field(field: &'static str) -> Self {
        NodeError::text(format!("key '{field}' is missing"))
    }
}

/// What was found, without a text's content: it may come from an environment variable that holds a secret.
fn kind_of(unexpected: serde::de::Unexpected<'_>) -> String {
    use serde::de::Unexpected;
    match unexpected {
        Unexpected::Str(_) => "a text".into(),
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Float(value) => value.to_string(),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a section of keys".into(),
        other => other.to_string(),
    }
}
