//! Dynamic values and rows: what connectors write and point reads return.

/// One value of a row. Which variant a column takes follows from its [`ColumnType`](crate::ColumnType).
///
/// ```
/// use moonshine_engine::Value;
/// let price = Value::Decimal(1999);
/// assert!(!price.is_null() && Value::Null.is_null());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// Of [`ColumnType::Boolean`](crate::ColumnType::Boolean).
    Boolean(bool),
    /// Of [`ColumnType::Int32`](crate::ColumnType::Int32).
    Int32(i32),
    /// Of [`ColumnType::Int64`](crate::ColumnType::Int64).
    Int64(i64),
    /// Of [`ColumnType::Float32`](crate::ColumnType::Float32).
    Float32(f32),
    /// Of [`ColumnType::Float64`](crate::ColumnType::Float64).
    Float64(f64),
    /// Of [`ColumnType::Decimal`](crate::ColumnType::Decimal): the number times 10^scale.
    Decimal(i128),
    /// Of [`ColumnType::Utf8`](crate::ColumnType::Utf8).
    Utf8(String),
    /// Of [`ColumnType::Binary`](crate::ColumnType::Binary).
    Binary(Vec<u8>),
    /// Of [`ColumnType::Uuid`](crate::ColumnType::Uuid), most significant byte first.
    Uuid([u8; 16]),
    /// Of [`ColumnType::Date`](crate::ColumnType::Date): days since 1970-01-01.
    Date(i32),
    /// Of [`ColumnType::Time`](crate::ColumnType::Time): microseconds since midnight.
    Time(i64),
    /// Of [`ColumnType::Timestamp`](crate::ColumnType::Timestamp): microseconds since 1970-01-01T00:00:00.
    Timestamp(i64),
    /// Of [`ColumnType::TimestampTz`](crate::ColumnType::TimestampTz): microseconds since 1970-01-01T00:00:00Z.
    TimestampTz(i64),
    /// Of [`ColumnType::TimestampNs`](crate::ColumnType::TimestampNs): nanoseconds since 1970-01-01T00:00:00.
    TimestampNs(i64),
    /// Of [`ColumnType::TimestampTzNs`](crate::ColumnType::TimestampTzNs): nanoseconds since 1970-01-01T00:00:00Z.
    TimestampTzNs(i64),
    /// Of [`ColumnType::List`](crate::ColumnType::List): its elements.
    List(Vec<Value>),
    /// Of [`ColumnType::Struct`](crate::ColumnType::Struct): a value for each field, in their order.
    Struct(Vec<Value>),
    /// Of [`ColumnType::Map`](crate::ColumnType::Map): keys and values. A key that is there twice stays there twice.
    Map(Vec<(Value, Value)>),
}

/// A row: one value a column, in the order of [`TableSchema::columns`](crate::TableSchema::columns).
///
/// ```
/// use moonshine_engine::{Row, Value};
/// let row: Row = vec![Value::Int64(1), Value::Utf8("ada".into()), Value::Null];
/// assert_eq!(row.len(), 3);
/// ```
pub type Row = Vec<Value>;

impl Value {
    /// Whether this is [`Value::Null`].
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schema::{ColumnType, NestedField};

    fn any_part(field: &NestedField) -> BoxedStrategy<Value> {
        match field.nullable {
            true => prop_oneof![1 => Just(Value::Null), 3 => any_value(field.column_type)].boxed(),
            false => any_value(field.column_type),
        }
    }

    /// Any type that a column outside the key may have.
    pub(crate) fn any_column_type() -> impl Strategy<Value = ColumnType> {
        prop_oneof![3 => any_key_type(), 1 => any_nested_type()]
    }

    /// Any list, struct or map, without field ids.
    pub(crate) fn any_nested_type() -> impl Strategy<Value = ColumnType> {
        let one = |inner: BoxedStrategy<ColumnType>| {
            let part = (inner, any::<bool>());
            prop_oneof![
                part.clone()
                    .prop_map(|(t, nullable)| ColumnType::list(t, nullable)),
                (any_key_type(), part.clone())
                    .prop_map(|(key, (t, nullable))| ColumnType::map(key, t, nullable)),
                prop::collection::vec(part, 1..10).prop_map(|parts| {
                    let fields = (0..)
                        .zip(parts)
                        .map(|(i, (t, nullable))| NestedField::new(format!("f{i}"), t, nullable));
                    ColumnType::structure(fields)
                }),
            ]
        };
        let flat = one(any_key_type().boxed()).boxed();
        let deeper = prop_oneof![any_key_type(), flat.clone()].boxed();
        let deep = one(prop_oneof![any_key_type(), one(deeper)].boxed());
        prop_oneof![flat, deep]
    }

    /// Any type that a column of the key may have.
    pub(crate) fn any_key_type() -> impl Strategy<Value = ColumnType> + Clone {
        prop_oneof![
            Just(ColumnType::Boolean),
            Just(ColumnType::Int32),
            Just(ColumnType::Int64),
            Just(ColumnType::Float32),
            Just(ColumnType::Float64),
            (1u8..=38)
                .prop_flat_map(|precision| (Just(precision), 0..=precision))
                .prop_map(|(precision, scale)| ColumnType::Decimal { precision, scale }),
            Just(ColumnType::Utf8),
            Just(ColumnType::Binary),
            Just(ColumnType::Uuid),
            Just(ColumnType::Date),
            Just(ColumnType::Time),
            Just(ColumnType::Timestamp),
            Just(ColumnType::TimestampTz),
            Just(ColumnType::TimestampNs),
            Just(ColumnType::TimestampTzNs),
        ]
    }

    /// Any value of that type but null; short alphabets, so that keys collide and share prefixes.
    pub(crate) fn any_value(column_type: ColumnType) -> BoxedStrategy<Value> {
        match column_type {
            ColumnType::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
            ColumnType::Int32 => any::<i32>().prop_map(Value::Int32).boxed(),
            ColumnType::Int64 => any::<i64>().prop_map(Value::Int64).boxed(),
            ColumnType::Float32 => any::<u32>()
                .prop_map(|bits| Value::Float32(f32::from_bits(bits)))
                .boxed(),
            ColumnType::Float64 => any::<u64>()
                .prop_map(|bits| Value::Float64(f64::from_bits(bits)))
                .boxed(),
            ColumnType::Decimal { precision, .. } => {
                let limit = 10i128.pow(u32::from(precision)) - 1;
                (-limit..=limit).prop_map(Value::Decimal).boxed()
            }
            ColumnType::Utf8 => "[a\u{0}ü]{0,3}".prop_map(Value::Utf8).boxed(),
            ColumnType::Binary => {
                prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff)], 0..4)
                    .prop_map(Value::Binary)
                    .boxed()
            }
            ColumnType::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
            ColumnType::Date => any::<i32>().prop_map(Value::Date).boxed(),
            ColumnType::Time => (0i64..86_400_000_000).prop_map(Value::Time).boxed(),
            ColumnType::Timestamp => any::<i64>().prop_map(Value::Timestamp).boxed(),
            ColumnType::TimestampTz => any::<i64>().prop_map(Value::TimestampTz).boxed(),
            ColumnType::TimestampNs => any::<i64>().prop_map(Value::TimestampNs).boxed(),
            ColumnType::TimestampTzNs => any::<i64>().prop_map(Value::TimestampTzNs).boxed(),
            ColumnType::List(nested) => {
                let element = any_part(&nested.fields()[0]);
                prop::collection::vec(element, 0..10)
                    .prop_map(Value::List)
                    .boxed()
            }
            ColumnType::Struct(nested) => {
                let fields: Vec<_> = nested.fields().iter().map(any_part).collect();
                fields.prop_map(Value::Struct).boxed()
            }
            ColumnType::Map(nested) => {
                let [key, value] = nested.fields() else {
                    panic!("{column_type}")
                };
                prop::collection::vec((any_part(key), any_part(value)), 0..4)
                    .prop_map(Value::Map)
                    .boxed()
            }
        }
    }
}
