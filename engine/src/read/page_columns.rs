//! Columns of many rows at once: each row is a slice, and a column is cut off the front of all of them before the next one.
//!
//! So the type of a column is looked at once for many rows, and its values go into the batch in a loop of a few
//! instructions. A column that is not asked for is stepped over.

use super::column_builder::{ColumnBuilder, ColumnValues, FixedColumn};
use crate::codec::key::{decode_f32, decode_f64, fixed_key_size_bytes, unescape};
use crate::codec::{Malformed, Reader};
use crate::schema::ColumnType;

const ENDS_EARLY: Malformed = Malformed("ends early");

/// What is left of each row.
#[derive(Debug)]
pub(super) struct RowRests<'p>(Vec<&'p [u8]>);

/// Which rows are null in a column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nulls<'n, 'p> {
    bitmaps: &'n [&'p [u8]],
    byte: usize,
    bit: u32,
}

impl Nulls<'_, '_> {
    #[inline]
    fn is_null(&self, row: usize) -> bool {
        let bitmap = self.bitmaps.get(row).copied().unwrap_or_default();
        bitmap
            .get(self.byte)
            .is_some_and(|byte| byte >> self.bit & 1 == 1)
    }
}

/// The bitmaps of nulls that rows begin with.
#[derive(Debug)]
pub(super) struct NullBitmaps<'p> {
    bitmaps: Vec<&'p [u8]>,
    /// Whether any row is null in a column.
    any: Vec<u8>,
}

impl<'p> NullBitmaps<'p> {
    /// Takes bitmaps of so many bytes off the front of rows.
    pub(super) fn take(rows: &mut RowRests<'p>, size_bytes: usize) -> Result<Self, Malformed> {
        let mut bitmaps = Vec::with_capacity(rows.0.len());
        let mut any = vec![0; size_bytes];
        for row in &mut rows.0 {
            let (bitmap, rest) = row.split_at_checked(size_bytes).ok_or(ENDS_EARLY)?;
            any.iter_mut()
                .zip(bitmap)
                .for_each(|(any, byte)| *any |= byte);
            bitmaps.push(bitmap);
            *row = rest;
        }
        Ok(NullBitmaps { bitmaps, any })
    }

    /// The nulls of a column, if there are any.
    pub(super) fn of_column(&self, number: usize) -> Option<Nulls<'_, 'p>> {
        let (byte, bit) = (number / 8, (number % 8) as u32);
        let has_any = self.any.get(byte).is_some_and(|any| any >> bit & 1 == 1);
        has_any.then_some(Nulls {
            bitmaps: &self.bitmaps,
            byte,
            bit,
        })
    }
}

impl<'p> RowRests<'p> {
    pub(super) fn new(rows: Vec<&'p [u8]>) -> Self {
        RowRests(rows)
    }

    /// Checks that nothing is left.
    pub(super) fn finish(&self) -> Result<(), Malformed> {
        match self.0.iter().all(|row| row.is_empty()) {
            true => Ok(()),
            false => Err(Malformed("bytes left over")),
        }
    }

    /// Takes the next column outside the key, and appends it to the builder, if there is one.
    pub(super) fn take_values(
        &mut self,
        column_type: ColumnType,
        nulls: Option<Nulls<'_, '_>>,
        builder: Option<&mut ColumnBuilder>,
    ) -> Result<(), Malformed> {
        let Some(builder) = builder else {
            return match fixed_key_size_bytes(column_type) {
                Some(size_bytes) => self.step_over(size_bytes, nulls),
                None => self.take_texts(nulls, |_| {}),
            };
        };
        let is_text = builder.is_text();
        match &mut builder.values {
            ColumnValues::Boolean(column) => {
                self.take_fixed(nulls, column, |[byte]: [u8; 1]| byte != 0)
            }
            ColumnValues::Int32(column) => self.take_fixed(nulls, column, i32::from_le_bytes),
            ColumnValues::Int64(column) => self.take_fixed(nulls, column, i64::from_le_bytes),
            ColumnValues::Float32(column) => self.take_fixed(nulls, column, f32::from_le_bytes),
            ColumnValues::Float64(column) => self.take_fixed(nulls, column, f64::from_le_bytes),
            ColumnValues::Decimal(column) => self.take_fixed(nulls, column, i128::from_le_bytes),
            ColumnValues::Uuid(column) => self.take_fixed(nulls, column, |bytes: [u8; 16]| bytes),
            ColumnValues::Bytes(column) => {
                let from = column.len();
                self.take_texts(nulls, |text| match text {
                    Some((size_bytes, bytes)) => column.push_first(bytes, size_bytes),
                    None => column.push_null(),
                })?;
                match is_text {
                    true => column.check_text(from),
                    false => Ok(()),
                }
            }
            ColumnValues::Nested(column) => {
                let mut pushed = Ok(());
                self.take_texts(nulls, |value| match value {
                    Some((size_bytes, bytes)) if pushed.is_ok() => {
                        pushed = column.push(bytes.get(..size_bytes).unwrap_or_default());
                    }
                    Some(_) => {}
                    None => column.push_null(),
                })?;
                pushed
            }
        }
    }

    /// Takes the next column of a key, `is_last` if none follows, and appends it to the builder, if there is one.
    pub(super) fn take_keys(
        &mut self,
        column_type: ColumnType,
        is_last: bool,
        builder: Option<&mut ColumnBuilder>,
    ) -> Result<(), Malformed> {
        let Some(builder) = builder else {
            return match fixed_key_size_bytes(column_type) {
                Some(size_bytes) => self.step_over(size_bytes, None),
                None => {
                    let mut scratch = Vec::new();
                    self.take_key_texts(is_last, |_| {}, &mut scratch)
                }
            };
        };
        let is_text = builder.is_text();
        match &mut builder.values {
            ColumnValues::Boolean(column) => {
                self.take_fixed(None, column, |[byte]: [u8; 1]| byte != 0)
            }
            ColumnValues::Int32(column) => {
                self.take_fixed(None, column, |bytes| i32::from_be_bytes(bytes) ^ i32::MIN)
            }
            ColumnValues::Int64(column) => {
                self.take_fixed(None, column, |bytes| i64::from_be_bytes(bytes) ^ i64::MIN)
            }
            ColumnValues::Float32(column) => self.take_fixed(None, column, decode_f32),
            ColumnValues::Float64(column) => self.take_fixed(None, column, decode_f64),
            ColumnValues::Decimal(column) => {
                self.take_fixed(None, column, |bytes| i128::from_be_bytes(bytes) ^ i128::MIN)
            }
            ColumnValues::Uuid(column) => self.take_fixed(None, column, |bytes: [u8; 16]| bytes),
            ColumnValues::Bytes(column) => {
                let from = column.len();
                let mut scratch = Vec::new();
                self.take_key_texts(is_last, |bytes| column.push(bytes), &mut scratch)?;
                match is_text {
                    true => column.check_text(from),
                    false => Ok(()),
                }
            }
            ColumnValues::Nested(_) => Err(Malformed("a nested value in a key")),
        }
    }

    fn step_over(
        &mut self,
        size_bytes: usize,
        nulls: Option<Nulls<'_, '_>>,
    ) -> Result<(), Malformed> {
        for (i, row) in self.0.iter_mut().enumerate() {
            if nulls.is_none_or(|nulls| !nulls.is_null(i)) {
                *row = row.get(size_bytes..).ok_or(ENDS_EARLY)?;
            }
        }
        Ok(())
    }

    /// Values of one size.
    fn take_fixed<const N: usize, T: Copy + Default>(
        &mut self,
        nulls: Option<Nulls<'_, '_>>,
        column: &mut FixedColumn<T>,
        decode: impl Fn([u8; N]) -> T,
    ) -> Result<(), Malformed> {
        let mut ends_early = false;
        let mut value_of = |row: &mut &[u8]| {
            let Some((bytes, rest)) = row.split_first_chunk::<N>() else {
                ends_early = true;
                return T::default();
            };
            *row = rest;
            decode(*bytes)
        };
        match nulls {
            None => column.push_all(self.0.iter_mut().map(value_of)),
            Some(nulls) => column.push_some(
                self.0
                    .iter_mut()
                    .enumerate()
                    .map(|(i, row)| (!nulls.is_null(i)).then(|| value_of(row))),
            ),
        }
        if ends_early { Err(ENDS_EARLY) } else { Ok(()) }
    }

    /// Values behind their length: calls `each` with how long one is and the bytes that begin with it, with nothing for a null.
    #[inline]
    fn take_texts(
        &mut self,
        nulls: Option<Nulls<'_, '_>>,
        mut each: impl FnMut(Option<(usize, &[u8])>),
    ) -> Result<(), Malformed> {
        for (i, row) in self.0.iter_mut().enumerate() {
            if nulls.is_some_and(|nulls| nulls.is_null(i)) {
                each(None);
                continue;
            }
            let (size_bytes, bytes) = match row.split_first() {
                // Mostly the length is one byte.
                Some((&len, bytes)) if len < 0x80 => (usize::from(len), bytes),
                _ => {
                    let mut reader = Reader::new(row);
                    let len = usize::try_from(reader.varint()?);
                    let len = len.map_err(|_| Malformed("value too long"))?;
                    (len, reader.remaining())
                }
            };
            let rest = bytes.get(size_bytes..).ok_or(ENDS_EARLY)?;
            each(Some((size_bytes, bytes)));
            *row = rest;
        }
        Ok(())
    }

    /// Values as they stand in keys.
    fn take_key_texts(
        &mut self,
        is_last: bool,
        mut each: impl FnMut(&[u8]),
        scratch: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        for row in &mut self.0 {
            if is_last {
                each(row);
                *row = &[];
                continue;
            }
            // Mostly there is no zero in it.
            let end = row.iter().position(|byte| *byte == 0).ok_or(ENDS_EARLY)?;
            match row.get(end + 1) {
                Some(0) => {
                    each(row.get(..end).unwrap_or_default());
                    *row = row.get(end + 2..).unwrap_or_default();
                }
                _ => {
                    scratch.clear();
                    let mut reader = Reader::new(row);
                    unescape(&mut reader, scratch)?;
                    each(scratch);
                    *row = reader.remaining();
                }
            }
        }
        Ok(())
    }
}
