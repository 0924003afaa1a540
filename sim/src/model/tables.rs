//! The tables of a simulated database, and what their rows are made of.

use moonshine_engine::{ColumnType, Row, ShardKey, TableSchema, Value};

use crate::random::Stream;

/// How many tables there are.
pub const TABLE_COUNT: usize = 4;
/// The table that is a keyspace.
pub const PAIRS: usize = 1;
/// The table whose columns change.
pub const PEOPLE: usize = 3;

/// The tables as they are created. Each has another kind of key: composite with text in front, bytes, numbers; and another
/// of the shard keys that fit it with each of three numbers.
pub fn schemas(shard_keys: usize) -> Vec<TableSchema> {
    let decimal = ColumnType::Decimal {
        precision: 20,
        scale: 2,
    };
    let lines = TableSchema::builder("shop.lines")
        .column("amount", decimal, true)
        .column("shop", ColumnType::Utf8, false)
        .column("line", ColumnType::Int32, false)
        .column("at", ColumnType::TimestampTz, true)
        .column("parts", ColumnType::list(ColumnType::Int64, true), true)
        .primary_key(["shop", "line"])
        .shard_key([ShardKey::PrimaryKey, ShardKey::Prefix(1), ShardKey::Range][shard_keys]);
    let pairs = TableSchema::builder("pairs")
        .column("key", ColumnType::Binary, false)
        .column("value", ColumnType::Binary, false)
        .primary_key(["key"])
        .shard_key(
            [
                ShardKey::PrefixBytes(1),
                ShardKey::Range,
                ShardKey::PrimaryKey,
            ][shard_keys],
        );
    let flags = TableSchema::builder("flags")
        .column("id", ColumnType::Int64, false)
        .primary_key(["id"])
        .shard_key(
            [
                ShardKey::Range,
                ShardKey::PrimaryKey,
                ShardKey::PrefixBytes(7),
            ][shard_keys],
        );
    let people = TableSchema::builder("people")
        .column("id", ColumnType::Int64, false)
        .column("name", ColumnType::Utf8, true)
        .column("age", ColumnType::Int32, true)
        .primary_key(["id"])
        .shard_key(
            [
                ShardKey::PrimaryKey,
                ShardKey::PrefixBytes(8),
                ShardKey::Range,
            ][shard_keys],
        );
    let tables = [lines, pairs, flags, people];
    tables.map(|table| table.build().unwrap()).into()
}

/// The key of a number.
pub fn key(table: usize, number: u64) -> Vec<Value> {
    let signed = number as i64 - 10;
    match table {
        0 => vec![
            Value::Utf8(["", "a", "a\0", "b"][(number % 4) as usize].into()),
            Value::Int32(signed as i32),
        ],
        PAIRS if number == 0 => vec![Value::Binary(Vec::new())],
        PAIRS => vec![Value::Binary(vec![number as u8; 1 + (number % 3) as usize])],
        _ => vec![Value::Int64(signed)],
    }
}

/// The row with the key of a number, and what follows from another in its other columns, whichever these are.
pub fn row(schema: &TableSchema, table: usize, number: u64, content: u64) -> Row {
    let mut key = key(table, number).into_iter();
    let mut row = Row::new();
    for (position, column) in schema.columns().iter().enumerate() {
        if schema.is_key(position) {
            row.extend(key.next());
            continue;
        }
        let mut stream = Stream::new(content, "column", column.field_id as u64);
        row.push(if column.nullable && stream.chance(150) {
            Value::Null
        } else {
            value(column.column_type, &mut stream)
        });
    }
    row
}

/// Any value of a type that the tables have.
///
/// # Panics
/// For another type.
pub fn value(column_type: ColumnType, stream: &mut Stream) -> Value {
    match column_type {
        ColumnType::Int32 => Value::Int32(stream.next() as i32),
        ColumnType::Int64 => Value::Int64(stream.next() as i64),
        ColumnType::Float32 => Value::Float32(stream.next() as i32 as f32),
        ColumnType::Float64 => Value::Float64(stream.next() as i32 as f64),
        ColumnType::Boolean => Value::Boolean(stream.chance(500)),
        ColumnType::Decimal { .. } => Value::Decimal(i128::from(stream.next() as i32)),
        ColumnType::TimestampTz => Value::TimestampTz(stream.next() as i64),
        ColumnType::Utf8 => {
            let text = format!("{:x}", stream.next());
            Value::Utf8(text.repeat(stream.below(8) as usize))
        }
        ColumnType::Binary => {
            let byte = stream.next() as u8;
            let size_bytes = stream.below(700) as usize;
            Value::Binary([&stream.next().to_le_bytes()[..], &vec![byte; size_bytes]].concat())
        }
        ColumnType::List(_) => {
            let count = stream.below(4);
            Value::List(
                (0..count)
                    .map(|_| Value::Int64(stream.next() as i64))
                    .collect(),
            )
        }
        other => panic!("no table has a column of {other}"),
    }
}
