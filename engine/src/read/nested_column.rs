//! Building a column of lists, structs or maps of a batch.

use std::sync::Arc;

use arrow_array::{ArrayRef, ListArray, MapArray, StructArray};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType};

use super::column_builder::{ColumnBuilder, offset};
use crate::codec::nested::{decode_count, decode_slots};
use crate::codec::{Malformed, Reader};
use crate::schema::ColumnType;

/// A nested column that is being built, from values as they are encoded.
#[derive(Debug)]
pub(super) struct NestedColumn {
    column_type: ColumnType,
    /// How many values it has.
    len: usize,
    nulls: NullBufferBuilder,
    /// 0, and the end of each list or map among the values of its parts.
    offsets: Vec<i32>,
    /// A builder for each part of the type.
    parts: Vec<ColumnBuilder>,
}

impl NestedColumn {
    pub(super) fn new(column_type: ColumnType) -> Self {
        let fields = column_type.nested_fields().iter();
        NestedColumn {
            column_type,
            len: 0,
            nulls: NullBufferBuilder::new(0),
            offsets: vec![0],
            parts: fields
                .map(|field| ColumnBuilder::new(field.column_type))
                .collect(),
        }
    }

    fn is_struct(&self) -> bool {
        matches!(self.column_type, ColumnType::Struct(_))
    }

    /// Ends a value, which is null or not.
    fn end(&mut self, is_null: bool) {
        self.len += 1;
        match is_null {
            true => self.nulls.append_null(),
            false => self.nulls.append_non_null(),
        }
        if !self.is_struct() {
            let end = self.parts.first().map_or(0, ColumnBuilder::len);
            self.offsets.push(offset(end));
        }
    }

    pub(super) fn push_null(&mut self) {
        // The fields of a struct have a slot where it is null.
        if self.is_struct() {
            self.parts.iter_mut().for_each(ColumnBuilder::push_null);
        }
        self.end(true);
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(bytes);
        let fields = self.column_type.nested_fields();
        if self.is_struct() {
            let type_of = |i: usize| fields.get(i).map(|field| field.column_type);
            let parts = &mut self.parts;
            decode_slots(&mut reader, fields.len(), type_of, |i, value| {
                parts.get_mut(i).map_or(Ok(()), |part| part.push(value))
            })?;
        } else {
            let count = decode_count(&mut reader)?;
            for (field, part) in fields.iter().zip(&mut self.parts) {
                let type_of = |_| Some(field.column_type);
                decode_slots(&mut reader, count, type_of, |_, value| part.push(value))?;
            }
        }
        reader.finish()?;
        self.end(false);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let mut done = std::mem::replace(self, NestedColumn::new(self.column_type));
        let nulls = done.nulls.finish();
        let mut parts = done.parts.iter_mut().map(ColumnBuilder::finish);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(done.offsets));
        Ok(match self.column_type.arrow_type() {
            DataType::List(item) => {
                let elements = parts.next().ok_or_else(no_part)??;
                Arc::new(ListArray::try_new(item, offsets, elements, nulls)?)
            }
            DataType::Struct(fields) => {
                let parts = parts.collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new_with_length(
                    fields, parts, nulls, done.len,
                )?)
            }
            DataType::Map(entries, is_sorted) => {
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(no_part());
                };
                let parts = parts.collect::<Result<Vec<_>, _>>()?;
                let pairs = StructArray::try_new(fields.clone(), parts, None)?;
                Arc::new(MapArray::try_new(
                    entries, offsets, pairs, nulls, is_sorted,
                )?)
            }
            _ => return Err(no_part()),
        })
    }
}

fn no_part() -> ArrowError {
    ArrowError::InvalidArgumentError("a nested type without its parts".to_owned())
}
