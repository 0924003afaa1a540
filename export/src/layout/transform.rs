//! Partition transforms of whole columns, by the specification's section "Partition Transforms".
//!
//! Dates and times are divided downwards, so that the second before 1970 belongs to 1969. The whole numbers of `truncate` wrap
//! around at the lower end of their type, as in the reference implementation. Buckets are the iceberg crate's.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampNanosecondType,
};
use arrow_array::{ArrayRef, Date32Array, Int32Array, new_null_array};
use arrow_schema::{DataType, TimeUnit};
use iceberg::spec::{Literal, PrimitiveLiteral, Transform};
use iceberg::transform::create_transform_function;

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
const EPOCH_YEAR: i64 = 1970;

/// The transform of each value; nulls stay null.
///
/// # Errors
/// The transform does not take values of this type.
pub(crate) fn apply(transform: Transform, values: &ArrayRef) -> iceberg::Result<ArrayRef> {
    let whole =
        |number: i64| i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX });
    match transform {
        Transform::Identity => Ok(values.clone()),
        Transform::Void => Ok(new_null_array(values.data_type(), values.len())),
        Transform::Year => dates(transform, values, |day| {
            whole(year_and_month(day).0 - EPOCH_YEAR)
        }),
        Transform::Month => dates(transform, values, |day| {
            let (year, month) = year_and_month(day);
            whole((year - EPOCH_YEAR) * 12 + month - 1)
        }),
        Transform::Day => {
            let days: Int32Array = dates(transform, values, whole)?.as_primitive().clone();
            Ok(Arc::new(days.reinterpret_cast::<Date32Type>()))
        }
        Transform::Hour => {
            let hours = timestamps(values, HOUR_US, whole);
            hours.ok_or_else(|| unsupported(transform, values))
        }
        Transform::Truncate(width) => truncated(width, values),
        Transform::Bucket(_) | Transform::Unknown => {
            create_transform_function(&transform)?.transform(values.clone())
        }
    }
}

fn unsupported(transform: Transform, values: &ArrayRef) -> iceberg::Error {
    let reason = format!("{transform} of {}", values.data_type());
    iceberg::Error::new(iceberg::ErrorKind::FeatureUnsupported, reason)
}

/// A function of the day, counted from 1970-01-01, of dates or timestamps.
fn dates(
    transform: Transform,
    values: &ArrayRef,
    of_day: impl Fn(i64) -> i32,
) -> iceberg::Result<ArrayRef> {
    if let Some(dates) = values.as_primitive_opt::<Date32Type>() {
        let array: Int32Array = dates.unary(|day| of_day(i64::from(day)));
        return Ok(Arc::new(array));
    }
    timestamps(values, DAY_US, of_day).ok_or_else(|| unsupported(transform, values))
}

/// A function of how many whole units of so many microseconds passed from 1970 to each of these timestamps.
fn timestamps(values: &ArrayRef, unit_us: i64, of_unit: impl Fn(i64) -> i32) -> Option<ArrayRef> {
    if let Some(values) = values.as_primitive_opt::<TimestampMicrosecondType>() {
        let array = values.unary::<_, Int32Type>(|value| of_unit(value.div_euclid(unit_us)));
        return Some(Arc::new(array));
    }
    let values = values.as_primitive_opt::<TimestampNanosecondType>()?;
    let array = values.unary::<_, Int32Type>(|value| of_unit(value.div_euclid(unit_us * 1000)));
    Some(Arc::new(array))
}

/// Year and month, 1 to 12, of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn year_and_month(day: i64) -> (i64, i64) {
    const ERA_DAYS: i64 = 146_097;
    // From 0000-03-01, so that the leap day ends a year.
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(ERA_DAYS), shifted.rem_euclid(ERA_DAYS));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month)
}

fn truncated(width: u32, values: &ArrayRef) -> iceberg::Result<ArrayRef> {
    let wide = i64::from(width);
    match values.data_type() {
        DataType::Int32 => {
            let below = |value: i32| {
                let rest = i64::from(value).rem_euclid(wide);
                // Below the width, which is at most that of the type.
                value.wrapping_sub(rest as i32)
            };
            let array = values
                .as_primitive::<Int32Type>()
                .unary::<_, Int32Type>(below);
            Ok(Arc::new(array))
        }
        DataType::Int64 => {
            let below = |value: i64| value.wrapping_sub(value.rem_euclid(wide));
            let array = values
                .as_primitive::<Int64Type>()
                .unary::<_, Int64Type>(below);
            Ok(Arc::new(array))
        }
        DataType::Decimal128(..) => {
            let below = |value: i128| value.wrapping_sub(value.rem_euclid(i128::from(width)));
            let array = values
                .as_primitive::<Decimal128Type>()
                .unary::<_, Decimal128Type>(below);
            Ok(Arc::new(array.with_data_type(values.data_type().clone())))
        }
        _ => create_transform_function(&Transform::Truncate(width))?.transform(values.clone()),
    }
}

/// One value of a column as Iceberg's.
pub(crate) fn literal(values: &ArrayRef, row: usize) -> Option<Literal> {
    if values.is_null(row) {
        return None;
    }
    use DataType as D;
    let value = match values.data_type() {
        D::Boolean => PrimitiveLiteral::Boolean(values.as_boolean().value(row)),
        D::Int32 => PrimitiveLiteral::Int(values.as_primitive::<Int32Type>().value(row)),
        D::Date32 => {
            PrimitiveLiteral::Int(values.as_any().downcast_ref::<Date32Array>()?.value(row))
        }
        D::Int64 => PrimitiveLiteral::Long(values.as_primitive::<Int64Type>().value(row)),
        D::Time64(_) => PrimitiveLiteral::Long(
            values
                .as_primitive::<arrow_array::types::Time64MicrosecondType>()
                .value(row),
        ),
        D::Timestamp(TimeUnit::Microsecond, _) => {
            PrimitiveLiteral::Long(values.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        D::Decimal128(..) => {
            PrimitiveLiteral::Int128(values.as_primitive::<Decimal128Type>().value(row))
        }
        D::Utf8 => PrimitiveLiteral::String(values.as_string::<i32>().value(row).to_owned()),
        D::Binary => PrimitiveLiteral::Binary(values.as_binary::<i32>().value(row).to_vec()),
        D::FixedSizeBinary(16) => {
            let bytes: [u8; 16] = values.as_fixed_size_binary().value(row).try_into().ok()?;
            PrimitiveLiteral::UInt128(u128::from_be_bytes(bytes))
        }
        _ => return None,
    };
    Some(Literal::Primitive(value))
}

#[cfg(test)]
mod tests {
    use arrow_array::{TimestampMicrosecondArray, TimestampNanosecondArray};

    use super::*;

    /// The nanosecond before 1970 belongs to 1969, as the microsecond before does.
    #[test]
    fn nanoseconds_are_divided_as_microseconds_are() {
        let microseconds = [-1, 0, 1, i64::MIN / 1000, i64::MAX / 1000, -DAY_US];
        let nanoseconds = microseconds.map(|at| at * 1000);
        let coarse: ArrayRef = Arc::new(TimestampMicrosecondArray::from(microseconds.to_vec()));
        let fine: ArrayRef = Arc::new(TimestampNanosecondArray::from(nanoseconds.to_vec()));
        let before: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![-1]));
        for transform in [
            Transform::Year,
            Transform::Month,
            Transform::Day,
            Transform::Hour,
            Transform::Bucket(16),
        ] {
            let expected = apply(transform, &coarse).unwrap();
            assert_eq!(&apply(transform, &fine).unwrap(), &expected, "{transform}");
            let of_before = apply(transform, &before).unwrap();
            assert_eq!(of_before.data_type(), expected.data_type());
            if transform != Transform::Bucket(16) {
                assert_eq!(literal(&of_before, 0), literal(&expected, 0), "{transform}");
            }
        }
    }
}
