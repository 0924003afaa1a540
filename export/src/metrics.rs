//! Column statistics of a data file as Iceberg keeps them in manifests, from those that Parquet wrote.
//!
//! A bound is left out wherever it could be wrong: readers skip files by it.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float32Type, Float64Type};
use arrow_array::{Array, PrimitiveArray};
use iceberg::spec::{DataFileBuilder, Datum};
use moonshine_engine::{Column, ColumnType};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use crate::schema::primitive_type;

/// Longest bound of a string, in characters, and of a binary, in bytes.
const BOUND_LENGTH_MAX: usize = 16;

/// What is counted of a column while its values are written, since Parquet's statistics don't have it.
#[derive(Clone, Debug)]
pub(crate) enum ColumnTracker {
    /// Nothing.
    None,
    /// NaNs of a column of floating-point numbers.
    Nans(u64),
    /// The least and the greatest UUID.
    Uuids(Option<UuidBounds>),
}

/// UUIDs are ordered by their bytes, but older readers took them for two signed numbers. Bounds are told only where both orders
/// have the same: then no reader skips a file that it should read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UuidBounds {
    min: u128,
    max: u128,
    signed_min: (i64, i64),
    signed_max: (i64, i64),
}

impl UuidBounds {
    fn of(value: u128) -> Self {
        let signed = signed(value);
        UuidBounds {
            min: value,
            max: value,
            signed_min: signed,
            signed_max: signed,
        }
    }

    fn join(self, other: UuidBounds) -> Self {
        UuidBounds {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            signed_min: self.signed_min.min(other.signed_min),
            signed_max: self.signed_max.max(other.signed_max),
        }
    }

    /// The bounds in either order, if they are the same.
    fn agreed(self) -> Option<(Datum, Datum)> {
        let datum = |value: u128| Datum::uuid(uuid::Uuid::from_u128(value));
        let is_agreed = signed(self.min) == self.signed_min && signed(self.max) == self.signed_max;
        is_agreed.then(|| (datum(self.min), datum(self.max)))
    }
}

fn signed(value: u128) -> (i64, i64) {
    // The halves of 128 bits.
    ((value >> 64) as i64, value as i64)
}

impl ColumnTracker {
    pub(crate) fn new(column: &Column) -> Self {
        match column.column_type {
            ColumnType::Float32 | ColumnType::Float64 => ColumnTracker::Nans(0),
            ColumnType::Uuid => ColumnTracker::Uuids(None),
            _ => ColumnTracker::None,
        }
    }

    /// Takes values that are written.
    pub(crate) fn observe(&mut self, values: &dyn Array) {
        match self {
            ColumnTracker::None => {}
            ColumnTracker::Nans(count) => {
                let more = match (
                    values.as_primitive_opt::<Float32Type>(),
                    values.as_primitive_opt::<Float64Type>(),
                ) {
                    (Some(values), _) => nan_count(values, f32::is_nan),
                    (_, Some(values)) => nan_count(values, f64::is_nan),
                    _ => 0,
                };
                *count += more as u64;
            }
            ColumnTracker::Uuids(bounds) => {
                let values = values.as_fixed_size_binary_opt();
                let uuids = values
                    .into_iter()
                    .flat_map(|values| values.iter().flatten());
                let uuids =
                    uuids.filter_map(|bytes| Some(u128::from_be_bytes(bytes.try_into().ok()?)));
                let more = uuids.map(UuidBounds::of).reduce(UuidBounds::join);
                *bounds = match (*bounds, more) {
                    (Some(bounds), Some(more)) => Some(bounds.join(more)),
                    (bounds, more) => bounds.or(more),
                };
            }
        }
    }
}

fn nan_count<T: ArrowPrimitiveType>(
    values: &PrimitiveArray<T>,
    is_nan: impl Fn(T::Native) -> bool,
) -> usize {
    let count = |slots: &[T::Native]| slots.iter().filter(|value| is_nan(**value)).count();
    match count(values.values()) {
        // What a null's slot holds does not count.
        found if found > 0 && values.null_count() > 0 => {
            let values = values.iter().flatten();
            values.filter(|value| is_nan(*value)).count()
        }
        found => found,
    }
}

/// Puts the statistics of a file with those columns into its manifest entry. `trackers` is by column.
pub(crate) fn set_column_metrics(
    builder: &mut DataFileBuilder,
    columns: &[Column],
    metadata: &ParquetMetaData,
    trackers: &[ColumnTracker],
) {
    let mut sizes = HashMap::new();
    let mut value_counts = HashMap::new();
    let mut null_counts = HashMap::new();
    let mut nan_by_id = HashMap::new();
    let mut lower = HashMap::new();
    let mut upper = HashMap::new();
    let mut next_leaf = 0;
    for (position, column) in columns.iter().enumerate() {
        let id = column.field_id;
        let leaf = next_leaf;
        next_leaf += leaf_count(column.column_type);
        // Of what lies in lists, structs and maps nothing is told.
        if column.column_type.is_nested() {
            continue;
        }
        let chunks: Vec<&ColumnChunkMetaData> = metadata
            .row_groups()
            .iter()
            .filter_map(|group| group.columns().get(leaf))
            .collect();
        sizes.insert(
            id,
            chunks
                .iter()
                .map(|chunk| unsigned(chunk.compressed_size()))
                .sum(),
        );
        value_counts.insert(
            id,
            chunks
                .iter()
                .map(|chunk| unsigned(chunk.num_values()))
                .sum(),
        );
        let nulls = chunks
            .iter()
            .map(|chunk| chunk.statistics()?.null_count_opt());
        if let Some(nulls) = nulls.sum::<Option<u64>>() {
            null_counts.insert(id, nulls);
        }
        let (min, max) = match trackers.get(position) {
            Some(ColumnTracker::Uuids(bounds)) => bounds.and_then(UuidBounds::agreed).unzip(),
            Some(ColumnTracker::Nans(count)) => {
                nan_by_id.insert(id, *count);
                bounds(column.column_type, &chunks)
            }
            _ => bounds(column.column_type, &chunks),
        };
        lower.extend(min.map(|bound| (id, bound)));
        upper.extend(max.map(|bound| (id, bound)));
    }
    builder
        .column_sizes(sizes)
        .value_counts(value_counts)
        .null_value_counts(null_counts)
        .nan_value_counts(nan_by_id)
        .lower_bounds(lower)
        .upper_bounds(upper);
}

/// How many columns Parquet makes of one.
fn leaf_count(column_type: ColumnType) -> usize {
    match column_type.nested_fields() {
        [] => 1,
        parts => parts.iter().map(|part| leaf_count(part.column_type)).sum(),
    }
}

pub(crate) fn is_float(column_type: ColumnType) -> bool {
    matches!(column_type, ColumnType::Float32 | ColumnType::Float64)
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// The least and the greatest value over all row groups, each if it is known.
fn bounds(
    column_type: ColumnType,
    chunks: &[&ColumnChunkMetaData],
) -> (Option<Datum>, Option<Datum>) {
    let mut min: Option<Datum> = None;
    let mut max: Option<Datum> = None;
    for chunk in chunks {
        let Some(statistics) = chunk.statistics() else {
            return (None, None);
        };
        let (Some(low), Some(high)) = (statistics.min_bytes_opt(), statistics.max_bytes_opt())
        else {
            // All null has no bounds, nor has all NaN; any other group without them leaves the file's unknown.
            let all_null = statistics.null_count_opt() == Some(unsigned(chunk.num_values()));
            if all_null || is_float(column_type) {
                continue;
            }
            return (None, None);
        };
        let (Some(low), Some(high)) = (datum(column_type, low), datum(column_type, high)) else {
            return (None, None);
        };
        min = Some(min.filter(|min| *min <= low).unwrap_or(low));
        max = Some(max.filter(|max| *max >= high).unwrap_or(high));
    }
    (
        min.and_then(|min| shortened(min, Side::Lower)),
        max.and_then(|max| shortened(max, Side::Upper)),
    )
}

/// A value from the bytes that Parquet's statistics hold it in.
fn datum(column_type: ColumnType, bytes: &[u8]) -> Option<Datum> {
    let iceberg_type = primitive_type(column_type)?;
    let expected_length = match column_type {
        ColumnType::Boolean => Some(1),
        ColumnType::Int32 | ColumnType::Float32 | ColumnType::Date => Some(4),
        ColumnType::Int64
        | ColumnType::Float64
        | ColumnType::Time
        | ColumnType::Timestamp
        | ColumnType::TimestampTz
        | ColumnType::TimestampNs
        | ColumnType::TimestampTzNs => Some(8),
        _ => None,
    };
    if expected_length.is_some_and(|length| length != bytes.len()) {
        return None;
    }
    match column_type {
        // Held in little-endian integers up to 18 digits, in big-endian bytes beyond; Iceberg's are big-endian.
        ColumnType::Decimal { precision, .. } if precision <= 18 => {
            let big_endian: Vec<u8> = bytes.iter().rev().copied().collect();
            Datum::try_from_bytes(&big_endian, iceberg_type).ok()
        }
        _ => Datum::try_from_bytes(bytes, iceberg_type).ok(),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Lower,
    Upper,
}

/// A bound of at most [`BOUND_LENGTH_MAX`]: cut off, and on the upper side raised, if that can be.
fn shortened(bound: Datum, side: Side) -> Option<Datum> {
    use iceberg::spec::PrimitiveLiteral::{Binary, String};
    match bound.literal() {
        String(text) if text.chars().count() > BOUND_LENGTH_MAX => {
            let head: Vec<char> = text.chars().take(BOUND_LENGTH_MAX).collect();
            match side {
                Side::Lower => Some(Datum::string(head.iter().collect::<std::string::String>())),
                Side::Upper => raised_text(head).map(Datum::string),
            }
        }
        Binary(bytes) if bytes.len() > BOUND_LENGTH_MAX => {
            let head: Vec<u8> = bytes.iter().take(BOUND_LENGTH_MAX).copied().collect();
            match side {
                Side::Lower => Some(Datum::binary(head)),
                Side::Upper => raised_bytes(head).map(Datum::binary),
            }
        }
        _ => Some(bound),
    }
}

/// The shortest text above every text that starts with these characters.
pub(crate) fn raised_text(mut head: Vec<char>) -> Option<String> {
    while let Some(last) = head.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            head.push(next);
            return Some(head.into_iter().collect());
        }
    }
    None
}

/// The shortest bytes above all bytes that start with these.
pub(crate) fn raised_bytes(mut head: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = head.pop() {
        if let Some(next) = last.checked_add(1) {
            head.push(next);
            return Some(head);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_bounds_stay_bounds() {
        let text = "0123456789abcdefghi";
        assert_eq!(
            shortened(Datum::string(text), Side::Lower),
            Some(Datum::string("0123456789abcdef"))
        );
        assert_eq!(
            shortened(Datum::string(text), Side::Upper),
            Some(Datum::string("0123456789abcdeg"))
        );
        let highest: String = std::iter::repeat_n(char::MAX, 20).collect();
        assert_eq!(shortened(Datum::string(&highest), Side::Upper), None);
        let mixed: String = "a"
            .chars()
            .chain(std::iter::repeat_n(char::MAX, 20))
            .collect();
        assert_eq!(
            shortened(Datum::string(&mixed), Side::Upper),
            Some(Datum::string("b"))
        );
        // The character after U+D7FF skips the surrogates.
        let surrogates: String = std::iter::repeat_n('\u{d7ff}', 17).collect();
        let raised = shortened(Datum::string(&surrogates), Side::Upper).unwrap();
        assert!(raised > Datum::string(&surrogates));
        assert_eq!(shortened(Datum::binary(vec![0xff; 17]), Side::Upper), None);
        assert_eq!(
            shortened(Datum::string("short"), Side::Upper),
            Some(Datum::string("short"))
        );
    }

    #[test]
    fn decimals_are_read_in_either_form() {
        let small = ColumnType::Decimal {
            precision: 9,
            scale: 2,
        };
        let large = ColumnType::Decimal {
            precision: 38,
            scale: 2,
        };
        let unscaled = |datum: Datum| datum.to_bytes().unwrap().into_vec();
        assert_eq!(
            unscaled(datum(small, &(-300i32).to_le_bytes()).unwrap()),
            [0xfe, 0xd4]
        );
        assert_eq!(
            unscaled(datum(large, &(-300i128).to_be_bytes()).unwrap()),
            [0xfe, 0xd4]
        );
    }
}
