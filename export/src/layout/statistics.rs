//! How many different values a column has: theta sketches, as Iceberg keeps them in Puffin files.
//!
//! The value that a sketch takes is Iceberg's single-value serialization of it (specification, appendix D), and the sketch is
//! the one that Apache DataSketches writes, so that engines can join it with their own.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow_array::{Array, ArrowPrimitiveType};
use arrow_schema::{DataType, TimeUnit};
use datasketches::hash::value::raw_bytes;
use datasketches::theta::{ThetaSketch, ThetaSketchBuilder};

use crate::error::{ExportError, Result};

/// The sketch of one column.
pub(crate) struct DistinctValues(ThetaSketch);

impl DistinctValues {
    pub(crate) fn new() -> Result<Self> {
        let sketch = ThetaSketchBuilder::default().build();
        let sketch = sketch.map_err(|error| ExportError::corrupt("a sketch", error))?;
        Ok(DistinctValues(sketch))
    }

    /// About how many different values there were.
    pub(crate) fn estimate(&self) -> u64 {
        // Not negative, and below 2^63.
        self.0.estimate().round() as u64
    }

    /// The sketch as DataSketches writes one that takes no more values.
    pub(crate) fn serialized(&self) -> Vec<u8> {
        self.0.compact(true).serialize()
    }

    /// Takes the values of a column that are not null.
    pub(crate) fn observe(&mut self, values: &dyn Array) {
        use DataType as D;
        match values.data_type() {
            D::Boolean => self.take(
                values
                    .as_boolean()
                    .iter()
                    .map(|value| value.map(|value| [u8::from(value)])),
            ),
            D::Int32 => self.numbers::<Int32Type, 4>(values, i32::to_le_bytes),
            D::Date32 => self.numbers::<Date32Type, 4>(values, i32::to_le_bytes),
            D::Int64 => self.numbers::<Int64Type, 8>(values, i64::to_le_bytes),
            D::Time64(_) => self.numbers::<Time64MicrosecondType, 8>(values, i64::to_le_bytes),
            D::Timestamp(TimeUnit::Nanosecond, _) => {
                self.numbers::<TimestampNanosecondType, 8>(values, i64::to_le_bytes)
            }
            D::Timestamp(..) => {
                self.numbers::<TimestampMicrosecondType, 8>(values, i64::to_le_bytes)
            }
            D::Float32 => self.numbers::<Float32Type, 4>(values, f32::to_le_bytes),
            D::Float64 => self.numbers::<Float64Type, 8>(values, f64::to_le_bytes),
            D::Decimal128(..) => {
                let values = values.as_primitive::<Decimal128Type>().iter();
                self.take(values.map(|value| value.map(shortest_big_endian)));
            }
            D::Utf8 => self.take(values.as_string::<i32>().iter()),
            D::Binary => self.take(values.as_binary::<i32>().iter()),
            D::FixedSizeBinary(_) => self.take(values.as_fixed_size_binary().iter()),
            // No other type is a column's.
            _ => {}
        }
    }

    fn numbers<T: ArrowPrimitiveType, const N: usize>(
        &mut self,
        values: &dyn Array,
        bytes: impl Fn(T::Native) -> [u8; N],
    ) {
        let values = values.as_primitive::<T>().iter();
        self.take(values.map(|value| value.map(&bytes)));
    }

    fn take<B: AsRef<[u8]>>(&mut self, values: impl Iterator<Item = Option<B>>) {
        for value in values.flatten() {
            // DataSketches leaves empty values out, in every language.
            if !value.as_ref().is_empty() {
                self.0.update(raw_bytes::from_slice(value.as_ref()));
            }
        }
    }
}

/// The fewest bytes that hold the number, the highest first.
fn shortest_big_endian(value: i128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let filler = if value < 0 { 0xff } else { 0 };
    // A byte may go if the one after it has the same sign.
    let needed = bytes.windows(2).position(|pair| {
        !matches!(pair, [first, second] if *first == filler && (*second ^ filler) & 0x80 == 0)
    });
    bytes
        .iter()
        .skip(needed.unwrap_or(bytes.len() - 1))
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BooleanArray, Decimal128Array, Int64Array, StringArray};

    use super::*;

    fn estimate(values: ArrayRef) -> u64 {
        let mut sketch = DistinctValues::new().unwrap();
        sketch.observe(&values);
        sketch.observe(&values);
        sketch.estimate()
    }

    #[test]
    fn values_count_once() {
        assert_eq!(
            estimate(Arc::new(Int64Array::from_iter([
                Some(1),
                None,
                Some(2),
                Some(1)
            ]))),
            2
        );
        assert_eq!(
            estimate(Arc::new(BooleanArray::from(vec![true, false, true]))),
            2
        );
        assert_eq!(
            estimate(Arc::new(StringArray::from(vec!["a", "", "b", "a"]))),
            2
        );
        let decimals = Decimal128Array::from_iter_values((0..500).map(|value| value % 250 - 125));
        assert_eq!(estimate(Arc::new(decimals)), 250);
        let many = estimate(Arc::new(Int64Array::from_iter_values(0..100_000)));
        assert!((95_000..105_000).contains(&many), "{many}");
    }

    #[test]
    fn decimals_are_as_short_as_they_can_be() {
        for (value, bytes) in [
            (0, vec![0]),
            (127, vec![0x7f]),
            (128, vec![0, 0x80]),
            (-1, vec![0xff]),
            (-128, vec![0x80]),
            (-129, vec![0xff, 0x7f]),
            (300, vec![1, 0x2c]),
        ] {
            assert_eq!(shortest_big_endian(value), bytes, "{value}");
        }
        assert_eq!(shortest_big_endian(i128::MIN).len(), 16);
    }
}
