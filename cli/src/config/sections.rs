//! A kind of source in the configuration: one section, or a list of sections that each have a name.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, StringDeserializer};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};

/// The key that a section may have besides those of its kind.
const NAME_KEY: &str = "name";

/// The sections of one kind of source.
#[derive(Clone, Debug)]
pub(crate) struct Sections<T>(pub(crate) Vec<Section<T>>);

/// One source of a kind.
#[derive(Clone, Debug)]
pub(crate) struct Section<T> {
    /// What the source is called; the positions it reached are kept under this name.
    pub(crate) name: Option<String>,
    pub(crate) settings: T,
}

impl<T> Default for Sections<T> {
    fn default() -> Self {
        Sections(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Sections<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SectionsVisitor(PhantomData))
    }
}

struct SectionsVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for SectionsVisitor<T> {
    type Value = Sections<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section of keys or a list of sections")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Sections<T>, A::Error> {
        SectionVisitor(PhantomData)
            .visit_map(map)
            .map(|section| Sections(vec![section]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Sections<T>, A::Error> {
        let mut sections = Vec::new();
        while let Some(section) = items.next_element()? {
            sections.push(section);
        }
        Ok(Sections(sections))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Section<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SectionVisitor(PhantomData))
    }
}

struct SectionVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for SectionVisitor<T> {
    type Value = Section<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section of keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Section<T>, A::Error> {
        let mut name = None;
        let settings = T::deserialize(MapAccessDeserializer::new(NameTaken {
            map,
            name: &mut name,
        }))?;
        Ok(Section { name, settings })
    }
}

/// Passes a section's keys on to its kind's struct and keeps the name for itself.
struct NameTaken<'a, A> {
    map: A,
    name: &'a mut Option<String>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for NameTaken<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if key == NAME_KEY {
                let name: String = self.map.next_value()?;
                if name.is_empty() {
                    return Err(A::Error::custom("name is empty"));
                }
                *self.name = Some(name);
                continue;
            }
            let key: StringDeserializer<A::Error> = key.into_deserializer();
            return seed.deserialize(key).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

impl<T: JsonSchema> JsonSchema for Sections<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Sections", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut section = T::json_schema(generator);
        let name = json_schema!({
            "type": "string",
            "minLength": 1,
            "description": "What the source is called; the positions it reached are kept under this name. Default: the \
                            kind. Needed where there are several sources of the kind.",
        });
        if let Some(properties) = section
            .ensure_object()
            .get_mut("properties")
            .and_then(|p| p.as_object_mut())
        {
            properties.insert(NAME_KEY.into(), name.to_value());
        }
        json_schema!({ "anyOf": [section, { "type": "array", "items": section }] })
    }
}
