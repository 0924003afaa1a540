//! Z-order: rows that are near each other in several columns at once lie near each other.
//!
//! The rows of a file are in the order of the numbers that come from interleaving the bits of the columns' values (G. M. Morton,
//! *A Computer Oriented Geodetic Data Base and a New Technique in File Sequencing*, IBM 1966). So the bounds of a page or a row
//! group are narrow in each of the columns, not only in the first one. The numbers need not be made: of two rows, the column
//! decides in which the highest bit differs (T. M. Chan, *Closest-point problems simplified on the RAM*, SODA 2002).
//!
//! A value counts by 64 bits that have its order: numbers and times as they are, text and bytes by the first eight. What all rows
//! that are sorted together have in common is taken away, so that a column of small numbers says as much as one of large ones.
//! A null comes before all values.

use std::cmp::Ordering;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType};

use crate::error::{ExportError, Result};

/// The rows of batches in z-order of these columns, as (batch, row). Rows that are equal in it stay in the order in which they come.
pub(super) fn sorted(batches: &[RecordBatch], columns: &[usize]) -> Result<Vec<(usize, usize)>> {
    let mut prefixes: Vec<Vec<u64>> = Vec::with_capacity(columns.len());
    for &column in columns {
        let mut values = Vec::new();
        for batch in batches {
            let array = batch
                .columns()
                .get(column)
                .ok_or_else(|| ExportError::corrupt("the order of rows", "a column is missing"))?;
            add_prefixes(array, &mut values)
                .map_err(|error| ExportError::corrupt("the order of rows", error))?;
        }
        prefixes.push(stretched(&values));
    }
    let places = (0..).zip(batches);
    let places = places.flat_map(|(batch, rows)| (0..rows.num_rows()).map(move |row| (batch, row)));
    let mut rows: Vec<(usize, (usize, usize))> = places.enumerate().collect();
    // A stable sort keeps equal rows in their order.
    rows.sort_by(|(left, _), (right, _)| compare(&prefixes, *left, *right));
    Ok(rows.into_iter().map(|(_, place)| place).collect())
}

/// Whether values of a type have 64 bits in their order.
pub(super) fn is_orderable(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal128(_, _)
            | DataType::Utf8
            | DataType::Binary
            | DataType::FixedSizeBinary(_)
            | DataType::Date32
            | DataType::Time64(_)
            | DataType::Timestamp(_, _)
    )
}

/// Compares two rows by the interleaved bits of their columns.
fn compare(prefixes: &[Vec<u64>], left: usize, right: usize) -> Ordering {
    let (mut most, mut ordering) = (0, Ordering::Equal);
    for column in prefixes {
        let (Some(left), Some(right)) = (column.get(left), column.get(right)) else {
            continue;
        };
        let differing = left ^ right;
        // Whether its highest bit is above the highest one so far.
        if most < differing && most < (most ^ differing) {
            (most, ordering) = (differing, left.cmp(right));
        }
    }
    ordering
}

/// What is left of values without what all have in common, in the same order; nulls first.
fn stretched(values: &[Option<u64>]) -> Vec<u64> {
    let least = values.iter().flatten().min().copied().unwrap_or(0);
    let most = values.iter().flatten().max().copied().unwrap_or(0);
    let shift = (most - least).leading_zeros();
    let has_nulls = values.iter().any(Option::is_none);
    let stretch = |value: &Option<u64>| match value {
        None => 0,
        Some(value) => {
            let value = (value - least).checked_shl(shift).unwrap_or(0);
            // Room below for the nulls.
            if has_nulls { (value >> 1) + 1 } else { value }
        }
    };
    values.iter().map(stretch).collect()
}

/// Adds 64 bits for each value, in the values' order.
fn add_prefixes(
    array: &ArrayRef,
    prefixes: &mut Vec<Option<u64>>,
) -> std::result::Result<(), ArrowError> {
    match array.data_type() {
        DataType::Float32 | DataType::Float64 => {
            let array = cast(array, &DataType::Float64)?;
            let values = array.as_primitive::<Float64Type>().iter();
            prefixes.extend(values.map(|value| value.map(of_float)));
        }
        DataType::Decimal128(_, _) => {
            let values = array.as_primitive::<Decimal128Type>().iter();
            // Beyond 64 bits, all are one.
            let narrow =
                |value: i128| value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
            prefixes.extend(values.map(|value| value.map(|value| of_integer(narrow(value)))));
        }
        DataType::Utf8 | DataType::Binary | DataType::FixedSizeBinary(_) => {
            let array = cast(array, &DataType::Binary)?;
            let values = array.as_binary::<i32>().iter();
            prefixes.extend(values.map(|value| value.map(of_bytes)));
        }
        DataType::Date32 => {
            let array = cast(&cast(array, &DataType::Int32)?, &DataType::Int64)?;
            add_integers(&array, prefixes);
        }
        _ => add_integers(&cast(array, &DataType::Int64)?, prefixes),
    }
    Ok(())
}

fn add_integers(array: &ArrayRef, prefixes: &mut Vec<Option<u64>>) {
    let values = array.as_primitive::<Int64Type>().iter();
    prefixes.extend(values.map(|value| value.map(of_integer)));
}

/// The sign bit is turned, so that negative numbers come first.
fn of_integer(value: i64) -> u64 {
    (value as u64) ^ (1 << 63)
}

/// The total order of IEEE 754: of negative numbers, all bits are turned.
fn of_float(value: f64) -> u64 {
    let bits = value.to_bits();
    match bits >> 63 {
        0 => bits ^ (1 << 63),
        _ => !bits,
    }
}

fn of_bytes(value: &[u8]) -> u64 {
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(value) {
        *to = *from;
    }
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        BooleanArray, Date32Array, Decimal128Array, Float32Array, Int32Array, Int64Array,
        StringArray,
    };

    use super::*;

    fn order(columns: Vec<ArrayRef>) -> Vec<usize> {
        let names = ["a", "b", "c"];
        let columns = names.into_iter().zip(columns);
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.map(|(name, column)| (name, column, true)),
        )
        .unwrap();
        let numbers: Vec<usize> = (0..batch.num_columns()).collect();
        let half = batch.num_rows() / 2;
        let parts = [
            batch.slice(0, half),
            batch.slice(half, batch.num_rows() - half),
        ];
        let rows = sorted(&parts, &numbers).unwrap();
        rows.into_iter()
            .map(|(batch, row)| batch * half + row)
            .collect()
    }

    /// By the definition: the numbers that interleaved bits make, the first column's first.
    #[test]
    fn rows_are_in_the_order_of_interleaved_bits() {
        let mut state = 7_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as i64 % 64
        };
        let points: Vec<[i64; 3]> = (0..200).map(|_| [next(), next(), next()]).collect();
        let column = |at: usize| -> ArrayRef {
            // What stands still between the rows says nothing.
            Arc::new(Int64Array::from_iter_values(
                points.iter().map(|point| point[at] + 1_000_000),
            ))
        };
        let interleaved = |point: &[i64; 3]| {
            let bits = (0..6)
                .rev()
                .flat_map(|bit| point.map(|value| value >> bit & 1));
            bits.fold(0, |number, bit| number << 1 | bit)
        };
        let mut expected: Vec<usize> = (0..points.len()).collect();
        expected.sort_by_key(|row| interleaved(&points[*row]));
        assert!((0..3).all(|at| points.iter().any(|point| point[at] == 0)));
        assert!((0..3).all(|at| points.iter().any(|point| point[at] >= 32)));
        assert_eq!(order(vec![column(0), column(1), column(2)]), expected);
    }

    #[test]
    fn each_type_keeps_its_order() {
        let columns: [ArrayRef; 7] = [
            Arc::new(Int32Array::from(vec![
                None,
                Some(i32::MIN),
                Some(-1),
                Some(0),
                Some(i32::MAX),
            ])),
            Arc::new(Float32Array::from(vec![
                None,
                Some(f32::NEG_INFINITY),
                Some(-0.5),
                Some(0.0),
                Some(f32::NAN),
            ])),
            Arc::new(Decimal128Array::from(vec![
                None,
                Some(i128::MIN),
                Some(-5),
                Some(5),
                Some(i128::MAX),
            ])),
            Arc::new(StringArray::from(vec![
                None,
                Some("a"),
                Some("ab"),
                Some("b"),
                Some("é"),
            ])),
            Arc::new(Date32Array::from(vec![
                None,
                Some(-40),
                Some(-1),
                Some(0),
                Some(9),
            ])),
            Arc::new(BooleanArray::from(vec![
                None,
                Some(false),
                Some(false),
                Some(true),
                Some(true),
            ])),
            Arc::new(Int64Array::from(vec![
                Some(i64::MIN),
                Some(i64::MIN),
                Some(-1),
                Some(0),
                Some(i64::MAX),
            ])),
        ];
        for column in columns {
            assert!(is_orderable(column.data_type()));
            assert_eq!(order(vec![column.clone()]), [0, 1, 2, 3, 4], "{column:?}");
            let reversed = arrow_array::UInt32Array::from_iter_values((0..5).rev());
            let reversed = arrow_select::take::take(&column, &reversed, None).unwrap();
            let found = order(vec![reversed.clone()]);
            let sorted: arrow_array::UInt32Array = found.iter().map(|row| *row as u32).collect();
            let sorted = arrow_select::take::take(&reversed, &sorted, None).unwrap();
            assert_eq!(&sorted, &column);
        }
    }
}
