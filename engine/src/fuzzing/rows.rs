//! Keys and rows: what is encoded comes back, keys sort as their values do, and any bytes decode or are refused.

use std::cmp::Ordering;
use std::ops::Bound;

use super::input::Input;
use super::noise;
use super::reference::{encoded_key, key_of};
use super::values::{compare, is_same_row, row, schema};
use crate::codec::key::{
    decode_key, encode_key, encode_key_prefix, fixed_key_size_bytes, prefix_of,
};
use crate::codec::nested::{decode_nested, encode_nested};
use crate::codec::row::{encode_row, join_row};
use crate::key_range::{KeyInterval, KeyRange};
use crate::schema::{TableSchema, check_row};
use crate::value::{Row, Value};

pub(super) fn seeds() -> Vec<Vec<u8>> {
    noise(24, 160)
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let schema = schema(&mut input);
    let rows = [
        row(&schema, &mut input),
        row(&schema, &mut input),
        row(&schema, &mut input),
    ];
    let keys: Vec<Vec<Value>> = rows.iter().map(|row| key_of(&schema, row)).collect();
    let encoded: Vec<Vec<u8>> = keys.iter().map(|key| encoded_key(&schema, key)).collect();
    for (row, key) in rows.iter().zip(&encoded) {
        round_trip(&schema, row, key);
    }
    for (a, key_a) in keys.iter().zip(&encoded) {
        for (b, key_b) in keys.iter().zip(&encoded) {
            let order = compare_keys(a, b);
            assert_eq!(key_a.cmp(key_b), order, "{a:?} and {b:?}");
            let by_prefix = prefix_of(key_a).cmp(&prefix_of(key_b));
            assert!(
                by_prefix == order || by_prefix == Ordering::Equal,
                "{a:?} and {b:?}"
            );
        }
    }
    ranges(&schema, &keys, &encoded, &mut input);
    foreign_bytes(&schema, input.rest());
}

fn compare_keys(a: &[Value], b: &[Value]) -> Ordering {
    let columns = a.iter().zip(b);
    columns.fold(Ordering::Equal, |order, (a, b)| {
        order.then_with(|| compare(a, b))
    })
}

fn round_trip(schema: &TableSchema, row: &Row, key: &[u8]) {
    check_row(schema, row).unwrap();
    let mut values = Vec::new();
    encode_row(schema, row, &mut values);
    let decoded = decode_key(schema, key).unwrap();
    let found = join_row(schema, decoded, &values).unwrap();
    assert!(is_same_row(&found, row), "{found:?} of {row:?}");
    let sizes = schema
        .key_columns()
        .map(|column| fixed_key_size_bytes(column.column_type));
    if let Some(size_bytes) = sizes.sum::<Option<usize>>() {
        assert_eq!(key.len(), size_bytes, "{row:?}");
    }
    for value in row.iter().filter(|value| !value.is_null()) {
        let of = schema
            .columns()
            .iter()
            .zip(row)
            .find(|(_, one)| std::ptr::eq(*one, value));
        let column_type = of.unwrap().0.column_type;
        if column_type.is_nested() {
            let mut bytes = Vec::new();
            encode_nested(value, &mut bytes);
            let found = decode_nested(column_type, &bytes).unwrap();
            assert!(
                is_same_row(&[found], std::slice::from_ref(value)),
                "{value:?}"
            );
        }
    }
}

/// A range between the first columns of two keys holds a third if its values say so.
fn ranges(schema: &TableSchema, keys: &[Vec<Value>], encoded: &[Vec<u8>], input: &mut Input<'_>) {
    let column_count = schema.primary_key().len();
    let mut bound = |key: &[Value]| {
        let count = 1 + input.below(column_count);
        let first = key[..count].to_vec();
        let mut bytes = Vec::new();
        encode_key_prefix(schema, first.iter(), &mut bytes).unwrap();
        match input.below(5) {
            0 => Bound::Unbounded,
            1 | 2 => Bound::Included(first),
            _ => Bound::Excluded(first),
        }
    };
    let bounds = (bound(&keys[0]), bound(&keys[1]));
    let range = KeyRange::new(schema, &bounds).unwrap();
    let interval = KeyInterval::from(&range);
    for (key, bytes) in keys.iter().zip(encoded) {
        let against = |bound: &Bound<Vec<Value>>| match bound {
            Bound::Unbounded => None,
            Bound::Included(first) => Some((compare_keys(key, first), true)),
            Bound::Excluded(first) => Some((compare_keys(key, first), false)),
        };
        // A key that starts with a bound's columns compares as equal here.
        let is_above = against(&bounds.0)
            .is_none_or(|(order, included)| order.is_gt() || (included && order.is_eq()));
        let is_below = against(&bounds.1)
            .is_none_or(|(order, included)| order.is_lt() || (included && order.is_eq()));
        assert_eq!(
            range.starts_before(bytes),
            is_above,
            "{key:?} from {bounds:?}"
        );
        assert_eq!(range.ends_after(bytes), is_below, "{key:?} to {bounds:?}");
        assert_eq!(
            interval.contains(bytes),
            is_above && is_below,
            "{key:?} in {bounds:?}"
        );
        if let Some(only) = range.only_key() {
            assert_eq!(
                only == bytes,
                is_above && is_below,
                "{key:?} alone in {bounds:?}"
            );
        }
    }
}

/// What decodes is encoded again to what decodes to the same.
fn foreign_bytes(schema: &TableSchema, bytes: &[u8]) {
    if let Ok(key) = decode_key(schema, bytes) {
        // Numbers beyond a decimal's digits are no error of the bytes.
        let mut out = Vec::new();
        if encode_key(schema, key.iter(), &mut out).is_ok() {
            let again = decode_key(schema, &out).unwrap();
            assert!(is_same_row(&again, &key), "{again:?} of {key:?}");
        }
    }
    let key: Vec<Value> = schema.key_columns().map(|_| Value::Null).collect();
    if let Ok(row) = join_row(schema, key.clone(), bytes) {
        let mut out = Vec::new();
        encode_row(schema, &row, &mut out);
        let again = join_row(schema, key, &out).unwrap();
        assert!(is_same_row(&again, &row), "{again:?} of {row:?}");
    }
}
