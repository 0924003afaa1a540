//! How many different values a column has, estimated from a sample: whether a dictionary of them is worth its while.

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_row::{RowConverter, SortField};
use xxhash_rust::xxh3::xxh3_64;

/// Rows that are looked at.
const SAMPLE_ROWS: usize = 4096;
/// Batches that they are taken from.
const SAMPLE_BATCHES: usize = 8;
/// A dictionary above this size is given up by the encoder half way, in bytes.
const DICTIONARY_BYTES_MAX: f64 = (1 << 20) as f64;

/// Whether a dictionary makes the column of a row group of so many rows, which begins with these, smaller: its values are few
/// beside its rows, and fit into one.
pub(super) fn is_worth_a_dictionary(
    batches: &[RecordBatch],
    row_count: usize,
    column: usize,
) -> bool {
    let arrays: Vec<&ArrayRef> = batches
        .iter()
        .filter_map(|batch| batch.columns().get(column))
        .collect();
    let Some((distinct, value_bytes)) = distinct(&arrays) else {
        return false;
    };
    distinct <= row_count as f64 / 4.0 && distinct * value_bytes <= DICTIONARY_BYTES_MAX
}

/// The estimated number of different values, and the mean size of one; `None` where values can't be compared.
///
/// Chao (1984), "Nonparametric Estimation of the Number of Classes in a Population": from how many values the sample holds once
/// and how many twice.
fn distinct(arrays: &[&ArrayRef]) -> Option<(f64, f64)> {
    let data_type = arrays.first()?.data_type().clone();
    let converter = RowConverter::new(vec![SortField::new(data_type)]).ok()?;
    let mut hashes = Vec::with_capacity(SAMPLE_ROWS);
    let mut sampled_bytes = 0;
    let stride = arrays.len().div_ceil(SAMPLE_BATCHES);
    for array in arrays.iter().step_by(stride) {
        let rows = array
            .len()
            .min(SAMPLE_ROWS / SAMPLE_BATCHES.min(arrays.len()));
        let slice = array.slice((array.len() - rows) / 2, rows);
        for row in converter.convert_columns(&[slice]).ok()?.iter() {
            sampled_bytes += row.data().len();
            hashes.push(xxh3_64(row.data()));
        }
    }
    // Two values with one hash would be taken for one; so few of them don't change an estimate.
    hashes.sort_unstable();
    let (mut seen, mut once, mut twice) = (0.0, 0.0, 0.0);
    for equal in hashes.chunk_by(|a, b| a == b) {
        seen += 1.0;
        match equal.len() {
            1 => once += 1.0,
            2 => twice += 1.0,
            _ => {}
        }
    }
    let unseen = once * (once - 1.0_f64).max(0.0) / (2.0 * (twice + 1.0));
    let value_bytes = sampled_bytes as f64 / hashes.len().max(1) as f64;
    Some((seen + unseen, value_bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;

    fn is_worth(values: impl Fn(u64) -> u64) -> [bool; 2] {
        let schema = Arc::new(Schema::new(vec![
            Field::new("number", DataType::Int64, false),
            Field::new("text", DataType::Utf8, false),
        ]));
        let batch = |batch: u64| {
            let values: Vec<u64> = (0..8192).map(|row| values(batch * 8192 + row)).collect();
            let numbers = Int64Array::from_iter_values(values.iter().map(|value| *value as i64));
            let texts =
                StringArray::from_iter_values(values.iter().map(|value| format!("value {value}")));
            RecordBatch::try_new(schema.clone(), vec![Arc::new(numbers), Arc::new(texts)]).unwrap()
        };
        let batches: Vec<RecordBatch> = (0..32).map(batch).collect();
        [0, 1].map(|column| is_worth_a_dictionary(&batches, 32 * 8192, column))
    }

    /// Numbers that look random, the same in each run.
    fn scattered(row: u64) -> u64 {
        row.wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(23)
            .wrapping_mul(0x2545_f491_4f6c_dd1d)
            >> 16
    }

    #[test]
    fn few_values_are_worth_a_dictionary() {
        assert_eq!(is_worth(|_| 7), [true; 2]);
        assert_eq!(is_worth(|row| scattered(row) % 1000), [true; 2]);
        assert_eq!(is_worth(|row| scattered(row) % 20_000), [true; 2]);
        assert_eq!(is_worth(|row| row), [false; 2]);
        assert_eq!(is_worth(scattered), [false; 2]);
        assert_eq!(is_worth(|row| scattered(row) % 200_000), [false; 2]);
    }
}
