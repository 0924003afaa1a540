//! Reads config structs from the tree, so that each error gets the path and the line of the value it is about.

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::error::NodeError;
use super::tree::{Content, Entry, Node};

/// Reads a number of any width from the text of a scalar.
macro_rules! deserialize_number {
    ($($method:ident => $type:ty, $visit:ident, $expected:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
            let result = match &self.content {
                Content::Plain(text) | Content::Filled(text) => match text.parse::<$type>() {
                    Ok(number) => visitor.$visit(number),
                    Err(_) if matches!(self.content, Content::Plain(_)) => {
                        Err(NodeError::text(format!(concat!("expected ", $expected, ", found {}"), text)))
                    }
                    Err(_) => Err(NodeError::text(concat!(
                        "expected ", $expected, ", found a text (filled in from the environment)"
                    ))),
                },
                _ => Err(NodeError::text(format!(concat!("expected ", $expected, ", found {}"), self.kind()))),
            };
            result.map_err(|error| error.at_line(self.line))
        }
    )*};
}

impl Node {
    fn kind(&self) -> String {
        match &self.content {
            Content::Null => "nothing".into(),
            Content::Plain(text) => text.clone(),
            Content::Text(text) => format!("'{text}'"),
            Content::Filled(_) => "a text".into(),
            Content::List(_) => "a list".into(),
            Content::Map(_) => "a section of keys".into(),
        }
    }

    fn visit<'de, V: Visitor<'de>>(&'de self, visitor: V) -> Result<V::Value, NodeError> {
        match &self.content {
            Content::Null => visitor.visit_unit(),
            Content::Plain(text) => match (
                text.parse::<bool>(),
                text.parse::<i64>(),
                text.parse::<f64>(),
            ) {
                (Ok(value), _, _) => visitor.visit_bool(value),
                (_, Ok(value), _) => visitor.visit_i64(value),
                (_, _, Ok(value)) => visitor.visit_f64(value),
                _ => visitor.visit_borrowed_str(text),
            },
            Content::Text(text) | Content::Filled(text) => visitor.visit_borrowed_str(text),
            Content::List(items) => visitor.visit_seq(List {
                items: items.iter().enumerate(),
            }),
            Content::Map(entries) => visitor
                .visit_map(Map {
                    entries: entries.iter(),
                    current: None,
                })
                .map_err(|error| {
                    match error
                        .unknown_key()
                        .and_then(|key| entries.iter().find(|entry| entry.key == key))
                    {
                        Some(entry) => error.at_line(entry.key_line).below(&entry.key),
                        None => error,
                    }
                }),
        }
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = NodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        self.visit(visitor)
            .map_err(|error| error.at_line(self.line))
    }

    deserialize_number! {
        deserialize_i8 => i8, visit_i8, "a whole number";
        deserialize_i16 => i16, visit_i16, "a whole number";
        deserialize_i32 => i32, visit_i32, "a whole number";
        deserialize_i64 => i64, visit_i64, "a whole number";
        deserialize_u8 => u8, visit_u8, "a whole number from 0 to 255";
        deserialize_u16 => u16, visit_u16, "a whole number from 0 to 65535";
        deserialize_u32 => u32, visit_u32, "a whole number from 0 to 4294967295";
        deserialize_u64 => u64, visit_u64, "a whole number, 0 or more";
        deserialize_f32 => f32, visit_f32, "a number";
        deserialize_f64 => f64, visit_f64, "a number";
        deserialize_bool => bool, visit_bool, "true or false";
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        let result = match &self.content {
            Content::Plain(text) | Content::Text(text) | Content::Filled(text) => {
                visitor.visit_borrowed_str(text)
            }
            _ => Err(NodeError::text(format!(
                "expected a text, found {}",
                self.kind()
            ))),
        };
        result.map_err(|error| error.at_line(self.line))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        match &self.content {
            Content::List(_) => self.deserialize_any(visitor),
            _ => Err(
                NodeError::text(format!("expected a list, found {}", self.kind()))
                    .at_line(self.line),
            ),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        self.deserialize_map(visitor)
    }

    /// An empty section (`buffer:`) is one with no keys.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        let result = match &self.content {
            Content::Map(_) => self.visit(visitor),
            Content::Null => visitor.visit_map(Map {
                entries: [].iter(),
                current: None,
            }),
            _ => Err(NodeError::text(format!(
                "expected a section of keys, found {}",
                self.kind()
            ))),
        };
        result.map_err(|error| error.at_line(self.line))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        match &self.content {
            Content::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        let result = match &self.content {
            Content::Plain(text) | Content::Text(text) | Content::Filled(text) => {
                visitor.visit_enum(Choice { text })
            }
            Content::Map(entries) => {
                let map = MapAccessDeserializer::new(Map {
                    entries: entries.iter(),
                    current: None,
                });
                map.deserialize_enum(name, variants, visitor)
            }
            _ => Err(NodeError::text(format!(
                "expected one of {}, found {}",
                variants.join(", "),
                self.kind()
            ))),
        };
        result.map_err(|error| error.at_line(self.line))
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct ignored_any
    }
}

struct List<'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for List<'de> {
    type Error = NodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, NodeError> {
        let Some((index, item)) = self.items.next() else {
            return Ok(None);
        };
        seed.deserialize(item)
            .map(Some)
            .map_err(|error| error.at_line(item.line).below(format!("[{index}]")))
    }
}

struct Map<'de> {
    entries: std::slice::Iter<'de, Entry>,
    current: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Map<'de> {
    type Error = NodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, NodeError> {
        self.current = self.entries.next();
        match self.current {
            Some(entry) => seed
                .deserialize(entry.key.as_str().into_deserializer())
                .map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, NodeError> {
        let Some(entry) = self.current.take() else {
            return Err(NodeError::custom("a value was asked for before its key"));
        };
        seed.deserialize(&entry.value)
            .map_err(|error| error.at_line(entry.key_line).below(&entry.key))
    }
}

/// A scalar as the name of an enum's variant.
struct Choice<'de> {
    text: &'de str,
}

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = NodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), NodeError> {
        let name: StrDeserializer<'de, NodeError> = self.text.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de> {
    type Error = NodeError;

    fn unit_variant(self) -> Result<(), NodeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        _seed: T,
    ) -> Result<T::Value, NodeError> {
        Err(NodeError::text(format!(
            "'{}' needs settings of its own; write it as a section",
            self.text
        )))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        _visitor: V,
    ) -> Result<V::Value, NodeError> {
        Err(NodeError::text(format!(
            "'{}' needs settings of its own; write it as a section",
            self.text
        )))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, NodeError> {
        Err(NodeError::text(format!(
            "'{}' needs settings of its own; write it as a section",
            self.text
        )))
    }
}
