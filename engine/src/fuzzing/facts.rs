//! The log's records that hold no rows, and rows of past versions of a schema that such a record tells of.

use std::sync::Arc;

use uuid::Uuid;

use super::input::Input;
use super::values::{is_same_row, schema, value};
use super::{noise, put_part};
use crate::codec::Malformed;
use crate::codec::put_varint;
use crate::codec::row::{ValueRef, encode_row, encode_values, join_row};
use crate::exported::ExportFile;
use crate::exported::location::{RowLocation, RowMark};
use crate::log::export_keys::{ExportKeys, ExportKeysBody};
use crate::log::fact::{ExportPrepared, ExportResolved, OlderFiles, decode_table, encode_table};
use crate::schema::past::PastVersion;
use crate::schema::{ColumnType, TableSchema};
use crate::value::Value;

/// Most bytes of the keys of a record that are compared.
const KEYS_SIZE_BYTES_MAX: u64 = 1 << 20;

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let prepared = ExportPrepared {
        table_id: 1,
        commit_id: Uuid::from_u128(11),
        from_seq: 2,
        to_seq: 9,
        files: vec![ExportFile {
            path: "data/1.parquet".into(),
            row_count: 3,
        }],
        older: Some(OlderFiles {
            taken: vec![(3, 1), (4, 1 << 40)],
            replaced: vec![4],
        }),
    };
    let resolved = ExportResolved {
        commit_id: Uuid::from_u128(11),
        token: Some("77".into()),
    };
    let mut keys = ExportKeysBody::new(false);
    for (key, mark) in [(&b"a"[..], RowMark::SUPERSEDED), (b"bc", RowMark(300))] {
        let put = |out: &mut Vec<u8>| {
            out.extend_from_slice(key);
            Ok::<(), ()>(())
        };
        keys.push_with(mark, put).unwrap();
    }
    let mut seeds = vec![
        [&[1], &prepared.encode()[..]].concat(),
        [&[2], &resolved.encode()[..]].concat(),
        [&[3], &keys.finish(Uuid::from_u128(11))[..]].concat(),
        vec![4, 1, 0, 0, 0, 9, 0, 0, 0, 128, 1],
    ];
    for noise in noise(5, 200) {
        let plain = schema(&mut Input::new(&noise));
        seeds.push(with_rows(&plain, &noise));
    }
    for noise in noise(4, 60) {
        seeds.push(with_rows(&altered(), &noise));
    }
    seeds
}

/// A table's record, and rows of each of its versions.
fn with_rows(schema: &TableSchema, values: &[u8]) -> Vec<u8> {
    let mut seed = vec![0];
    put_part(&mut seed, &encode_table(3, schema));
    seed.extend_from_slice(values);
    seed
}

/// A table with a past: a column went, one came with a default, one was widened, and a struct got another part.
fn altered() -> TableSchema {
    let past = PastVersion {
        until_seq: 5,
        columns: vec![
            (2, ColumnType::Int32),
            (3, ColumnType::Utf8),
            (5, ColumnType::Float32),
        ],
    };
    TableSchema::builder("t")
        .column_with_id("id", ColumnType::Int64, false, 1)
        .column_with_id("count", ColumnType::Int64, true, 2)
        .column_with_id("note", ColumnType::Utf8, true, 4)
        .with_default(Value::Utf8("none".into()))
        .column_with_id("ratio", ColumnType::Float64, true, 5)
        .primary_key(["id"])
        .with_past(5, vec![past])
        .build()
        .unwrap()
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.below(5) {
        0 => table(&mut input),
        1 => same(input.rest(), ExportPrepared::decode, ExportPrepared::encode),
        2 => same(input.rest(), ExportResolved::decode, ExportResolved::encode),
        3 => export_keys(input.rest()),
        _ => same(input.rest(), RowLocation::decode, |location| {
            let mut out = Vec::new();
            location.encode(&mut out);
            out
        }),
    }
}

/// What decodes is encoded to what decodes to the same.
fn same<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, Malformed>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    if let Ok(found) = decode(bytes) {
        assert_eq!(decode(&encode(&found)), Ok(found));
    }
}

fn table(input: &mut Input<'_>) {
    let Ok((table_id, schema)) = decode_table(input.part()) else {
        return;
    };
    let again = decode_table(&encode_table(table_id, &schema));
    // As text, in which a default that is NaN is equal to itself.
    assert_eq!(
        format!("{again:?}"),
        format!("{:?}", Ok::<_, Malformed>((table_id, schema.clone())))
    );
    // Whatever version a row says it is of, it has the columns of today, or is refused.
    let rest = input.rest();
    past_rows(&schema, &mut input.clone());
    let key: Vec<Value> = schema
        .key_columns()
        .map(|column| value(column.column_type, input))
        .collect();
    if let Ok(row) = join_row(&schema, key, rest) {
        assert_eq!(row.len(), schema.columns().len());
        let mut again = Vec::new();
        encode_row(&schema, &row, &mut again);
        let key = schema.primary_key().iter();
        let key = key.map(|&position| row[position].clone()).collect();
        let again = join_row(&schema, key, &again).unwrap();
        assert!(is_same_row(&again, &row), "{again:?} of {row:?}");
    }
}

/// A row that was written with a past version's columns has today's: by their ids, widened, or by default.
fn past_rows(schema: &TableSchema, input: &mut Input<'_>) {
    for (version, past) in schema.past_versions().iter().enumerate() {
        let written: Vec<Value> = past
            .columns
            .iter()
            .map(|(_, column_type)| match input.below(4) {
                0 => Value::Null,
                _ => value(*column_type, input),
            })
            .collect();
        let mut bytes = Vec::new();
        put_varint(&mut bytes, version as u64);
        encode_values(written.iter().map(ValueRef::from), &mut bytes);
        let key = schema.key_columns().map(|_| Value::Null).collect();
        let columns = || {
            schema
                .columns()
                .iter()
                .enumerate()
                .filter(|(at, _)| !schema.is_key(*at))
        };
        let then = |id: i32| past.columns.iter().position(|(past_id, _)| *past_id == id);
        // Other changes of types, and ids that stand there twice, are refused where they are made.
        let is_once = |(at, (id, _)): (usize, &(i32, ColumnType))| then(*id) == Some(at);
        let is_known = past.columns.iter().enumerate().all(is_once)
            && columns().all(|(_, column)| {
                then(column.field_id)
                    .is_none_or(|at| is_widened(past.columns[at].1, column.column_type))
            });
        if !is_known || !schema.has_row_versions() {
            continue;
        }
        let row = join_row(schema, key, &bytes);
        let row = row.unwrap_or_else(|error| panic!("{error:?}: {written:?} of {schema:?}"));
        for (at, column) in columns() {
            let expected = match then(column.field_id) {
                Some(at) => widened(&written[at], column.column_type),
                None => column.default.clone().unwrap_or(Value::Null),
            };
            assert!(
                is_same_row(&row[at..=at], &[expected]),
                "{row:?} of {written:?}"
            );
        }
    }
}

fn is_widened(from: ColumnType, to: ColumnType) -> bool {
    let wider = [
        (ColumnType::Int32, ColumnType::Int64),
        (ColumnType::Float32, ColumnType::Float64),
    ];
    from == to || wider.contains(&(from, to))
}

fn widened(value: &Value, to: ColumnType) -> Value {
    match (value, to) {
        (Value::Int32(v), ColumnType::Int64) => Value::Int64(i64::from(*v)),
        (Value::Float32(v), ColumnType::Float64) => Value::Float64(f64::from(*v)),
        _ => value.clone(),
    }
}

fn export_keys(body: &[u8]) {
    let Some((record, keys)) = keys_of(Arc::from(body)) else {
        return;
    };
    assert_eq!(keys.len(), record.key_count as usize);
    let mut again = ExportKeysBody::new(record.cleared);
    for (key, mark) in &keys {
        if !again.takes(*mark) {
            // It was for marked rows from the start, whether its first key was marked or not.
            return;
        }
        let put = |out: &mut Vec<u8>| {
            out.extend_from_slice(key);
            Ok::<(), ()>(())
        };
        again.push_with(*mark, put).unwrap();
    }
    let (_, again) = keys_of(again.finish(record.commit_id).into()).unwrap();
    assert_eq!(again, keys);
}

/// The keys of a record that can be read, and whose keys are not as long all together as a few bytes may say.
fn keys_of(body: Arc<[u8]>) -> Option<(ExportKeys, Vec<(Vec<u8>, RowMark)>)> {
    let record = ExportKeys::decode(body).ok()?;
    let seen = record.seen().ok()?;
    if seen.size_bytes > KEYS_SIZE_BYTES_MAX {
        return None;
    }
    let mut keys = Vec::new();
    let all = record.each_key(|key, mark| {
        keys.push((key.to_vec(), mark));
        Ok::<(), Malformed>(())
    });
    all.ok().map(|()| (record, keys))
}
