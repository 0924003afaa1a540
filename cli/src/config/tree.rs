//! A configuration file as a tree of nodes that know their line, with `${NAME}` filled in.
//!
//! The tree stands between the YAML parser and the config structs, because a value that comes from the environment gets
//! its type from the key it is for: `${PORT}` may fill a number and `${PASSWORD}` a text of digits.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::env;
use super::error::{ConfigError, NodeError};

/// A value and the line it begins on.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Nothing: an empty value, `~` or `null`.
    Null,
    /// `true` or `false`, a number: anything YAML takes for more than a text. Holds it as it is written.
    Plain(String),
    /// A text.
    Text(String),
    /// A text that `${NAME}` was filled in to; it may be read as a number too.
    Filled(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_line: u64,
    pub(super) value: Node,
}

/// Parses a YAML text. `file` is what errors call it.
pub(super) fn parse(
    text: &str,
    file: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Node, ConfigError> {
    let options = serde_saphyr::options! { strict_booleans: true };
    let raw: Spanned<Raw> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let error = error.without_snippet();
            let location = error.location();
            ConfigError::Syntax {
                file: file.to_owned(),
                line: location.map_or(1, |at| at.line()),
                column: location.map_or(1, |at| at.column()),
                reason: one_line(&error.to_string()),
            }
        })?;
    Builder { text, lookup }
        .node(raw)
        .map_err(|error| error.into_config_error(file))
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the YAML parser hands over.
enum Raw {
    Null,
    Bool(bool),
    Plain(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

struct Builder<'a> {
    text: &'a str,
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl Builder<'_> {
    fn node(&self, raw: Spanned<Raw>) -> Result<Node, NodeError> {
        let line = raw.referenced.line();
        let content = match raw.value {
            Raw::Null => Content::Null,
            Raw::Bool(value) => Content::Plain(value.to_string()),
            Raw::Plain(resolved) => {
                Content::Plain(self.as_written(raw.defined).unwrap_or(resolved))
            }
            Raw::Text(text) => match env::fill(&text, self.lookup) {
                Ok(std::borrow::Cow::Borrowed(_)) => Content::Text(text),
                Ok(std::borrow::Cow::Owned(filled)) => Content::Filled(filled),
                Err(reason) => return Err(NodeError::text(reason).at_line(line)),
            },
            Raw::List(items) => Content::List(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(index, item)| {
                        self.node(item)
                            .map_err(|error| error.below(format!("[{index}]")))
                    })
                    .collect::<Result<_, _>>()?,
            ),
            Raw::Map(entries) => Content::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        let key_line = key.referenced.line();
                        let value = self.node(value).map_err(|error| error.below(&key.value))?;
                        Ok(Entry {
                            key: key.value,
                            key_line,
                            value,
                        })
                    })
                    .collect::<Result<_, NodeError>>()?,
            ),
        };
        Ok(Node { line, content })
    }

    /// A plain scalar's characters in the file: `1.10` stays so where a text is wanted.
    fn as_written(&self, location: serde_saphyr::Location) -> Option<String> {
        let start = usize::try_from(location.span().byte_offset()?).ok()?;
        let end = start.checked_add(usize::try_from(location.span().byte_len()?).ok()?)?;
        let written = self.text.get(start..end)?.trim();
        (!written.is_empty()).then(|| written.to_owned())
    }
}
