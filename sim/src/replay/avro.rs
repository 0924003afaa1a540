//! Records of Avro files.

use std::collections::HashMap;

use apache_avro::Reader;
use apache_avro::types::Value as Avro;
use bytes::Bytes;

use super::{Finding, Result};

/// A record.
pub(super) struct Record(Vec<(String, Avro)>);

/// What the header of a file says.
pub(super) type Header = HashMap<String, Vec<u8>>;

/// The records of a file, and what its header says.
pub(super) fn records(place: &str, bytes: &Bytes) -> Result<(Vec<Record>, Header)> {
    let failed = |error: apache_avro::Error| Finding::new(place, error);
    let reader = Reader::new(bytes.as_ref()).map_err(failed)?;
    let header = reader.user_metadata().clone();
    let records = reader.map(|value| Record::of(place, value.map_err(failed)?));
    Ok((records.collect::<Result<_>>()?, header))
}

fn plain(value: &Avro) -> Option<&Avro> {
    match value {
        Avro::Union(_, inner) => plain(inner),
        Avro::Null => None,
        value => Some(value),
    }
}

impl Record {
    fn of(place: &str, value: Avro) -> Result<Record> {
        match value {
            Avro::Record(fields) => Ok(Record(fields)),
            other => Err(Finding::new(place, format!("{other:?} where a record is"))),
        }
    }

    /// The field of that name, if it is not null.
    pub(super) fn get(&self, name: &str) -> Option<&Avro> {
        let field = self.0.iter().find(|(field, _)| field == name);
        field.and_then(|(_, value)| plain(value))
    }

    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(number)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Avro::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn record(&self, name: &str) -> Option<Record> {
        match self.get(name)? {
            Avro::Record(fields) => Some(Record(fields.clone())),
            _ => None,
        }
    }

    /// All fields in their order; null is `None`.
    pub(super) fn values(&self) -> impl Iterator<Item = (&str, Option<&Avro>)> {
        let fields = self.0.iter();
        fields.map(|(name, value)| (name.as_str(), plain(value)))
    }

    /// A map from ids to something, which Avro has as a list of pairs.
    pub(super) fn by_id<T>(&self, name: &str, value: impl Fn(&Avro) -> Option<T>) -> Vec<(i32, T)> {
        let Some(Avro::Array(pairs)) = self.get(name) else {
            return Vec::new();
        };
        let pair = |pair: &Avro| {
            let Avro::Record(fields) = plain(pair)? else {
                return None;
            };
            let of = |name: &str| fields.iter().find(|(field, _)| field == name);
            let key = number(plain(&of("key")?.1)?)?;
            Some((i32::try_from(key).ok()?, value(plain(&of("value")?.1)?)?))
        };
        pairs.iter().filter_map(pair).collect()
    }
}

pub(super) fn number(value: &Avro) -> Option<i64> {
    match value {
        Avro::Int(number) | Avro::Date(number) | Avro::TimeMillis(number) => Some((*number).into()),
        Avro::Long(number)
        | Avro::TimeMicros(number)
        | Avro::TimestampMillis(number)
        | Avro::TimestampMicros(number)
        | Avro::TimestampNanos(number)
        | Avro::LocalTimestampMillis(number)
        | Avro::LocalTimestampMicros(number)
        | Avro::LocalTimestampNanos(number) => Some(*number),
        _ => None,
    }
}

pub(super) fn bytes(value: &Avro) -> Option<Vec<u8>> {
    match value {
        Avro::Bytes(bytes) | Avro::Fixed(_, bytes) => Some(bytes.clone()),
        Avro::Decimal(decimal) => Vec::<u8>::try_from(decimal).ok(),
        Avro::Uuid(uuid) => Some(uuid.as_bytes().to_vec()),
        _ => None,
    }
}
