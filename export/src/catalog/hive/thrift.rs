//! Apache Thrift's binary protocol, as a Hive metastore speaks it: values that need not be known beforehand.
//!
//! A table goes back to the metastore with all that it came with, whatever its version of Hive puts there.
//!
//! Source: "Thrift Binary protocol encoding" (<https://github.com/apache/thrift/blob/master/doc/specs/thrift-binary-protocol.md>),
//! with its strict form of messages.

/// What a strict message begins with, above its kind.
const VERSION: u32 = 0x8001_0000;
const CALL: u32 = 1;
const REPLY: u32 = 2;
/// Structs within structs, at most.
const DEPTH_MAX: usize = 64;

/// A value, by its type on the wire.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    I8(i8),
    /// Its bits.
    Double(u64),
    I16(i16),
    I32(i32),
    I64(i64),
    /// A text, or bytes.
    Bytes(Vec<u8>),
    Struct(Struct),
    /// The types of keys and values, which an empty one has too.
    Map(u8, u8, Vec<(Value, Value)>),
    /// A set or a list: its own type, and that of its elements.
    Sequence(u8, u8, Vec<Value>),
}

/// Fields by their numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Struct(pub(super) Vec<(i16, Value)>);

const STOP: u8 = 0;
const BOOL: u8 = 2;
const BYTE: u8 = 3;
const DOUBLE: u8 = 4;
const I16: u8 = 6;
const I32: u8 = 8;
const I64: u8 = 10;
const STRING: u8 = 11;
const STRUCT: u8 = 12;
const MAP: u8 = 13;
const SET: u8 = 14;
const LIST: u8 = 15;

/// Why bytes are no value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Undecoded {
    /// There are more to come.
    Early,
    Malformed,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Bytes(text.as_bytes().to_vec())
    }
}

impl From<Struct> for Value {
    fn from(fields: Struct) -> Self {
        Value::Struct(fields)
    }
}

impl Value {
    pub(super) fn texts<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        Value::Sequence(LIST, STRING, texts.into_iter().map(Value::from).collect())
    }

    pub(super) fn structs(structs: impl IntoIterator<Item = Struct>) -> Self {
        let structs = structs.into_iter().map(Value::Struct);
        Value::Sequence(LIST, STRUCT, structs.collect())
    }

    pub(super) fn text_map<'t>(entries: impl IntoIterator<Item = (&'t str, &'t str)>) -> Self {
        let entries = entries.into_iter();
        Value::Map(
            STRING,
            STRING,
            entries.map(|(k, v)| (k.into(), v.into())).collect(),
        )
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    pub(super) fn fields(&self) -> Option<&Struct> {
        match self {
            Value::Struct(fields) => Some(fields),
            _ => None,
        }
    }

    /// The elements of a list; none of anything else.
    pub(super) fn elements(&self) -> &[Value] {
        match self {
            Value::Sequence(_, _, elements) => elements,
            _ => &[],
        }
    }

    /// The texts of a map; none of anything else.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        let entries: &[(Value, Value)] = match self {
            Value::Map(_, _, entries) => entries,
            _ => &[],
        };
        entries
            .iter()
            .filter_map(|(key, value)| Some((key.text()?, value.text()?)))
    }

    fn kind(&self) -> u8 {
        match self {
            Value::Bool(_) => BOOL,
            Value::I8(_) => BYTE,
            Value::Double(_) => DOUBLE,
            Value::I16(_) => I16,
            Value::I32(_) => I32,
            Value::I64(_) => I64,
            Value::Bytes(_) => STRING,
            Value::Struct(_) => STRUCT,
            Value::Map(..) => MAP,
            Value::Sequence(kind, ..) => *kind,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::Bool(value) => out.push(u8::from(*value)),
            Value::I8(value) => out.extend(value.to_be_bytes()),
            Value::Double(value) => out.extend(value.to_be_bytes()),
            Value::I16(value) => out.extend(value.to_be_bytes()),
            Value::I32(value) => out.extend(value.to_be_bytes()),
            Value::I64(value) => out.extend(value.to_be_bytes()),
            Value::Bytes(bytes) => {
                put_len(bytes.len(), out);
                out.extend_from_slice(bytes);
            }
            Value::Struct(fields) => fields.encode(out),
            Value::Map(key_kind, value_kind, entries) => {
                out.extend([*key_kind, *value_kind]);
                put_len(entries.len(), out);
                for (key, value) in entries {
                    key.encode(out);
                    value.encode(out);
                }
            }
            Value::Sequence(_, kind, elements) => {
                out.push(*kind);
                put_len(elements.len(), out);
                elements.iter().for_each(|element| element.encode(out));
            }
        }
    }
}

impl Struct {
    pub(super) fn get(&self, number: i16) -> Option<&Value> {
        self.0
            .iter()
            .find(|(field, _)| *field == number)
            .map(|(_, value)| value)
    }

    /// Puts a value in a field's place.
    pub(super) fn set(&mut self, number: i16, value: impl Into<Value>) {
        self.0.retain(|(field, _)| *field != number);
        self.0.push((number, value.into()));
    }

    /// The same with a field.
    pub(super) fn with(mut self, number: i16, value: impl Into<Value>) -> Self {
        self.set(number, value);
        self
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for (number, value) in &self.0 {
            out.push(value.kind());
            out.extend(number.to_be_bytes());
            value.encode(out);
        }
        out.push(STOP);
    }
}

fn put_len(len: usize, out: &mut Vec<u8>) {
    out.extend(u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
}

/// The message of a call.
pub(super) fn call(method: &str, arguments: &Struct) -> Vec<u8> {
    let mut out = (VERSION | CALL).to_be_bytes().to_vec();
    Value::from(method).encode(&mut out);
    out.extend(0_u32.to_be_bytes());
    arguments.encode(&mut out);
    out
}

/// What a call was answered.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    /// The result, in field 0, or what was thrown, in another one.
    Result(Struct),
    /// The server could not make anything of the call: `TApplicationException`.
    Failed(Struct),
}

/// Reads an answer; [`Undecoded::Early`] as long as it is not there as a whole.
pub(super) fn reply(bytes: &[u8]) -> Result<Reply, Undecoded> {
    let mut reader = Reader { rest: bytes };
    let header = reader.u32()?;
    if header & 0xFFFF_0000 != VERSION {
        return Err(Undecoded::Malformed);
    }
    reader.value(STRING, 0)?;
    reader.u32()?;
    let fields = reader.fields(0)?;
    Ok(match header & 0xFF {
        REPLY => Reply::Result(fields),
        _ => Reply::Failed(fields),
    })
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn array<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], Undecoded> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(Undecoded::Early)?;
        self.rest = rest;
        Ok(*array)
    }

    fn u8(&mut self) -> Result<u8, Undecoded> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, Undecoded> {
        self.array().map(u32::from_be_bytes)
    }

    /// A count of what takes a byte or more each.
    fn count(&mut self) -> Result<usize, Undecoded> {
        let count = i32::from_be_bytes(self.array()?);
        let count = usize::try_from(count).map_err(|_| Undecoded::Malformed)?;
        match count <= self.rest.len() {
            true => Ok(count),
            false => Err(Undecoded::Early),
        }
    }

    fn fields(&mut self, depth: usize) -> Result<Struct, Undecoded> {
        let mut fields = Vec::new();
        loop {
            let kind = self.u8()?;
            if kind == STOP {
                return Ok(Struct(fields));
            }
            let number = i16::from_be_bytes(self.array()?);
            fields.push((number, self.value(kind, depth)?));
        }
    }

    fn value(&mut self, kind: u8, depth: usize) -> Result<Value, Undecoded> {
        if depth > DEPTH_MAX {
            return Err(Undecoded::Malformed);
        }
        Ok(match kind {
            BOOL => Value::Bool(self.u8()? != 0),
            BYTE => Value::I8(i8::from_be_bytes(self.array()?)),
            DOUBLE => Value::Double(u64::from_be_bytes(self.array()?)),
            I16 => Value::I16(i16::from_be_bytes(self.array()?)),
            I32 => Value::I32(i32::from_be_bytes(self.array()?)),
            I64 => Value::I64(i64::from_be_bytes(self.array()?)),
            STRING => {
                let (bytes, rest) = {
                    let len = self.count()?;
                    self.rest.split_at_checked(len).ok_or(Undecoded::Early)?
                };
                let value = Value::Bytes(bytes.to_vec());
                self.rest = rest;
                value
            }
            STRUCT => Value::Struct(self.fields(depth + 1)?),
            MAP => {
                let (key_kind, value_kind) = (self.u8()?, self.u8()?);
                let entries = (0..self.count()?).map(|_| {
                    let key = self.value(key_kind, depth + 1)?;
                    Ok((key, self.value(value_kind, depth + 1)?))
                });
                Value::Map(key_kind, value_kind, entries.collect::<Result<_, _>>()?)
            }
            SET | LIST => {
                let element = self.u8()?;
                let elements = (0..self.count()?).map(|_| self.value(element, depth + 1));
                Value::Sequence(kind, element, elements.collect::<Result<_, _>>()?)
            }
            _ => return Err(Undecoded::Malformed),
        })
    }
}

/// What a server receives: the method, and its arguments.
#[cfg(test)]
pub(super) fn received(bytes: &[u8]) -> Result<(String, Struct), Undecoded> {
    let mut reader = Reader { rest: bytes };
    reader.u32()?;
    let method = reader.value(STRING, 0)?;
    reader.u32()?;
    let method = method.text().ok_or(Undecoded::Malformed)?.to_owned();
    Ok((method, reader.fields(0)?))
}

/// What a server answers.
#[cfg(test)]
pub(super) fn answer(method: &str, result: &Struct) -> Vec<u8> {
    let mut bytes = call(method, result);
    bytes[..4].copy_from_slice(&(VERSION | REPLY).to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u32, fields: &Struct) -> Vec<u8> {
        let mut bytes = answer("get_table", fields);
        bytes[..4].copy_from_slice(&(VERSION | kind).to_be_bytes());
        bytes
    }

    #[test]
    fn values_round_trip_and_an_answer_is_whole_or_early() {
        let inner = Struct::default()
            .with(7, "x")
            .with(-1, Value::I64(i64::MIN));
        let fields = Struct::default()
            .with(0, inner.clone())
            .with(1, Value::Bool(true))
            .with(2, Value::I8(-3))
            .with(3, Value::Double(1.5_f64.to_bits()))
            .with(4, Value::I16(4))
            .with(5, Value::I32(-5))
            .with(6, Value::texts(["a", ""]))
            .with(7, Value::text_map([("k", "v")]))
            .with(8, Value::Sequence(SET, I32, vec![Value::I32(1)]))
            .with(9, Value::structs([inner.clone(), Struct::default()]))
            .with(10, Value::text_map([]));
        let bytes = message(REPLY, &fields);
        assert_eq!(reply(&bytes), Ok(Reply::Result(fields.clone())));
        for size in 0..bytes.len() {
            assert_eq!(reply(&bytes[..size]), Err(Undecoded::Early), "{size}");
        }
        assert_eq!(reply(&message(3, &inner)), Ok(Reply::Failed(inner)));
        let entries: Vec<_> = fields.get(7).unwrap().entries().collect();
        assert_eq!(entries, [("k", "v")]);
    }

    #[test]
    fn what_is_no_answer_is_malformed() {
        assert_eq!(reply(b"HTTP/1.1 400"), Err(Undecoded::Malformed));
        let mut unknown = message(REPLY, &Struct::default());
        *unknown.last_mut().unwrap() = 99;
        unknown.extend([0, 1]);
        assert_eq!(reply(&unknown), Err(Undecoded::Malformed));
        let nested = (0..100).fold(Struct::default(), |inner, _| {
            Struct::default().with(1, inner)
        });
        assert_eq!(reply(&message(REPLY, &nested)), Err(Undecoded::Malformed));
        let negative = message(REPLY, &Struct::default().with(1, "abc"));
        let at = negative.len() - 8;
        let mut negative = negative;
        negative[at..at + 4].copy_from_slice(&(-1_i32).to_be_bytes());
        assert_eq!(reply(&negative), Err(Undecoded::Malformed));
    }
}
