//! Types, schemas and values that an input chooses, and how values are told apart.

use std::cmp::Ordering;

use super::input::Input;
use crate::schema::{ColumnType, NestedField, ShardKey, TableSchema, TableSchemaBuilder};
use crate::value::{Row, Value};

/// A type that a column of the key may have.
pub(super) fn key_type(input: &mut Input<'_>) -> ColumnType {
    match input.below(15) {
        0 => ColumnType::Boolean,
        1 => ColumnType::Int32,
        2 => ColumnType::Int64,
        3 => ColumnType::Float32,
        4 => ColumnType::Float64,
        5 => {
            let precision = 1 + input.below(38) as u8;
            let scale = input.u8() % (precision + 1);
            ColumnType::Decimal { precision, scale }
        }
        6 => ColumnType::Utf8,
        7 => ColumnType::Binary,
        8 => ColumnType::Uuid,
        9 => ColumnType::Date,
        10 => ColumnType::Time,
        11 => ColumnType::Timestamp,
        12 => ColumnType::TimestampTz,
        13 => ColumnType::TimestampNs,
        _ => ColumnType::TimestampTzNs,
    }
}

/// Any type. Types of lists and the like are kept for the life of the process, so their shapes are few.
pub(super) fn column_type(input: &mut Input<'_>) -> ColumnType {
    let plain = [ColumnType::Int32, ColumnType::Utf8, ColumnType::Boolean];
    let part = plain[input.below(3)];
    match input.below(10) {
        0 => ColumnType::list(part, true),
        1 => ColumnType::list(ColumnType::list(part, true), false),
        2 => ColumnType::map(ColumnType::Utf8, part, true),
        3 => ColumnType::structure([
            NestedField::new("a", part, true),
            NestedField::new("b", ColumnType::list(part, false), true),
        ]),
        _ => key_type(input),
    }
}

/// A table of up to four columns in its key, and up to nine besides.
pub(super) fn schema(input: &mut Input<'_>) -> TableSchema {
    let key_count = 1 + input.below(4);
    let mut builder = TableSchema::builder("t");
    let names: Vec<String> = (0..key_count).map(|i| format!("k{i}")).collect();
    // The key's columns lie before and behind the others, in either order.
    let (is_reversed, before) = (input.bool(), input.below(key_count + 1));
    for (i, name) in names.iter().enumerate() {
        if i == before {
            builder = with_values(builder, input.below(10), input);
        }
        builder = builder.column(name, key_type(input), false);
    }
    if before == key_count {
        builder = with_values(builder, input.below(10), input);
    }
    let mut key = names;
    if is_reversed {
        key.reverse();
    }
    let shard_key = match input.below(3) {
        0 => ShardKey::PrimaryKey,
        1 => ShardKey::Prefix(1),
        _ => ShardKey::Range,
    };
    let built = builder
        .clone()
        .primary_key(key.clone())
        .shard_key(shard_key)
        .build();
    built.unwrap_or_else(|_| builder.primary_key(key).build().unwrap())
}

/// A table whose rows take few bytes of an input: one or two columns in its key, and up to two besides.
pub(super) fn small_schema(input: &mut Input<'_>) -> TableSchema {
    let key: Vec<String> = (0..1 + input.below(2)).map(|i| format!("k{i}")).collect();
    let mut builder = TableSchema::builder("t");
    for name in &key {
        builder = builder.column(name, key_type(input), false);
    }
    with_values(builder, input.below(3), input)
        .primary_key(key)
        .build()
        .unwrap()
}

fn with_values(
    mut builder: TableSchemaBuilder,
    count: usize,
    input: &mut Input<'_>,
) -> TableSchemaBuilder {
    for i in 0..count {
        builder = builder.column(format!("v{i}"), column_type(input), input.bool());
    }
    builder
}

pub(super) fn row(schema: &TableSchema, input: &mut Input<'_>) -> Row {
    let columns = schema.columns().iter();
    columns
        .map(|column| match column.nullable && input.below(4) == 0 {
            true => Value::Null,
            false => value(column.column_type, input),
        })
        .collect()
}

/// A value of that type but null.
pub(super) fn value(column_type: ColumnType, input: &mut Input<'_>) -> Value {
    match column_type {
        ColumnType::Boolean => Value::Boolean(input.bool()),
        ColumnType::Int32 => Value::Int32(number(input) as i32),
        ColumnType::Int64 => Value::Int64(number(input) as i64),
        ColumnType::Float32 => Value::Float32(f32::from_bits(float(input) as u32)),
        ColumnType::Float64 => Value::Float64(f64::from_bits(float(input) as u64)),
        ColumnType::Decimal { precision, .. } => {
            Value::Decimal(number(input) % 10i128.pow(precision.into()))
        }
        ColumnType::Utf8 => Value::Utf8(String::from_utf8_lossy(input.bytes(12)).into_owned()),
        ColumnType::Binary => Value::Binary(input.bytes(12).to_vec()),
        ColumnType::Uuid => Value::Uuid(input.array()),
        ColumnType::Date => Value::Date(number(input) as i32),
        ColumnType::Time => Value::Time((number(input) as i64).rem_euclid(86_400_000_000)),
        ColumnType::Timestamp => Value::Timestamp(number(input) as i64),
        ColumnType::TimestampTz => Value::TimestampTz(number(input) as i64),
        ColumnType::TimestampNs => Value::TimestampNs(number(input) as i64),
        ColumnType::TimestampTzNs => Value::TimestampTzNs(number(input) as i64),
        ColumnType::List(nested) => {
            let element = &nested.fields()[0];
            let count = input.below(10);
            Value::List((0..count).map(|_| part(element, input)).collect())
        }
        ColumnType::Struct(nested) => {
            let fields = nested.fields().iter();
            Value::Struct(fields.map(|field| part(field, input)).collect())
        }
        ColumnType::Map(nested) => {
            let (key, value) = (&nested.fields()[0], &nested.fields()[1]);
            let count = input.below(4);
            let entries = (0..count).map(|_| (part(key, input), part(value, input)));
            Value::Map(entries.collect())
        }
    }
}

fn part(field: &NestedField, input: &mut Input<'_>) -> Value {
    match field.nullable && input.below(4) == 0 {
        true => Value::Null,
        false => value(field.column_type, input),
    }
}

/// Small numbers, those beside powers of two, and any.
fn number(input: &mut Input<'_>) -> i128 {
    let kind = input.u8();
    let sign = if kind & 1 == 0 { 1 } else { -1 };
    let near = i128::from(kind >> 3 & 3) - 1;
    match kind >> 5 {
        0..=2 => sign * i128::from(input.u8()),
        3..=5 => (sign << (input.u8() % 127)).wrapping_add(near),
        _ => i128::from_le_bytes(input.array()),
    }
}

/// The bits of floats: zeros, those beside powers of two, and any.
fn float(input: &mut Input<'_>) -> i128 {
    match input.below(4) {
        0 => number(input),
        1 => i128::from((number(input) as f64).to_bits()),
        2 => i128::from((number(input) as f32).to_bits()),
        _ => i128::from(input.u64()),
    }
}

/// How two values of one type of a key sort: what docs/format.md promises, said once more and differently.
pub(super) fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        (Value::Int32(a), Value::Int32(b)) | (Value::Date(a), Value::Date(b)) => a.cmp(b),
        (Value::Int64(a), Value::Int64(b))
        | (Value::Time(a), Value::Time(b))
        | (Value::Timestamp(a), Value::Timestamp(b))
        | (Value::TimestampTz(a), Value::TimestampTz(b))
        | (Value::TimestampNs(a), Value::TimestampNs(b))
        | (Value::TimestampTzNs(a), Value::TimestampTzNs(b)) => a.cmp(b),
        (Value::Float32(a), Value::Float32(b)) => a.total_cmp(b),
        (Value::Float64(a), Value::Float64(b)) => a.total_cmp(b),
        (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
        (Value::Utf8(a), Value::Utf8(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Binary(a), Value::Binary(b)) => a.cmp(b),
        (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
        _ => panic!("{a:?} and {b:?} are of no key column"),
    }
}

/// Whether two values are the same to the bit: a NaN is itself, and zeros have signs.
pub(super) fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float32(a), Value::Float32(b)) => a.to_bits() == b.to_bits(),
        (Value::Float64(a), Value::Float64(b)) => a.to_bits() == b.to_bits(),
        (Value::List(a), Value::List(b)) | (Value::Struct(a), Value::Struct(b)) => {
            is_same_row(a, b)
        }
        (Value::Map(a), Value::Map(b)) => {
            let is_same_entry = |(a, b): (&(Value, Value), &(Value, Value))| {
                is_same(&a.0, &b.0) && is_same(&a.1, &b.1)
            };
            a.len() == b.len() && a.iter().zip(b).all(is_same_entry)
        }
        (a, b) => a == b,
    }
}

pub(super) fn is_same_row(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
}
