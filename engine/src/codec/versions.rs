//! Rows that were written with a past version of their table's schema, as the current version has them.
//!
//! In front of a row's value bytes stands, in a table whose schema may change, the version that they were written with, as
//! a LEB128 number.

use std::borrow::Cow;

use super::nested::{decode_nested, decode_slots, translated};
use super::row::{ValueRef, encode_values};
use super::{Malformed, Reader, put_varint};
use crate::schema::past::Translation;
use crate::schema::{ColumnType, TableSchema};

impl Translation {
    fn translate(
        &self,
        schema: &TableSchema,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        // What a past row lacks is the column's default.
        let default = |&position: &usize| {
            let column = schema.columns().get(position);
            let default = column.and_then(|column| column.default.as_ref());
            default.map_or(ValueRef::Null, ValueRef::from)
        };
        let mut values: Vec<ValueRef<'_>> = self.positions().iter().map(default).collect();
        let mut reader = Reader::new(bytes);
        // Those of nested columns that changed within, and their places.
        let mut changed = Vec::new();
        let steps = self.steps();
        let type_of = |i: usize| steps.get(i).map(|(column_type, _)| *column_type);
        decode_slots(&mut reader, steps.len(), type_of, |i, value| {
            let Some((from, Some((place, to)))) = steps.get(i) else {
                return Ok(());
            };
            match (value, values.get_mut(*place)) {
                (ValueRef::Bytes(bytes), _) if to.is_nested() && !from.is_encoded_as(*to) => {
                    let value = decode_nested(*from, bytes)?;
                    changed.push((*place, translated(value, *from, *to)));
                }
                (value, Some(slot)) => *slot = widened(value, *to),
                (_, None) => {}
            }
            Ok(())
        })?;
        reader.finish()?;
        for (place, value) in &changed {
            if let Some(slot) = values.get_mut(*place) {
                *slot = value.into();
            }
        }
        encode_values(values.iter().copied(), out);
        Ok(())
    }
}

fn widened(value: ValueRef<'_>, to: ColumnType) -> ValueRef<'_> {
    match (value, to) {
        (ValueRef::Int32(v), ColumnType::Int64) => ValueRef::Int64(i64::from(v)),
        (ValueRef::Float32(v), ColumnType::Float64) => ValueRef::Float64(f64::from(v)),
        (value, _) => value,
    }
}

/// Begins a row of the current version.
pub(crate) fn put_row_version(schema: &TableSchema, out: &mut Vec<u8>) {
    if schema.has_row_versions() {
        put_varint(out, u64::from(schema.version()));
    }
}

/// The values of a row outside its key as the schema has them, without the version.
pub(crate) fn current_values<'b>(
    schema: &TableSchema,
    bytes: &'b [u8],
) -> Result<Cow<'b, [u8]>, Malformed> {
    if !schema.has_row_versions() {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut reader = Reader::new(bytes);
    let version = reader.varint()?;
    if version == u64::from(schema.version()) {
        return Ok(Cow::Borrowed(reader.remaining()));
    }
    let translation = usize::try_from(version)
        .ok()
        .and_then(|version| schema.translations().get(version))
        .ok_or(Malformed("a row of a later version of the schema"))?;
    if translation.is_identity() {
        return Ok(Cow::Borrowed(reader.remaining()));
    }
    let mut values = Vec::with_capacity(bytes.len() + 16);
    translation.translate(schema, reader.remaining(), &mut values)?;
    Ok(Cow::Owned(values))
}
