//! A checksum of rows: the same whatever their order, and however they are divided into batches and files.
//!
//! Each value that is not null is hashed with its column's field id, the hashes of a row are added up and mixed, and the
//! rows' added up again, modulo 2^64. So a commit's checksum is that of its data files together. The mixer is the finalizer of
//! MurmurHash3 (<https://github.com/aappleby/smhasher/wiki/MurmurHash3>); texts and bytes are hashed by xxh3, lists, structs and maps
//! by the hashes of what is in them.

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_buffer::NullBuffer;
use arrow_schema::DataType;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The checksum of the rows so far; `None` once there was a column of a type that has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowsChecksum(Option<u64>);

impl Default for RowsChecksum {
    fn default() -> Self {
        RowsChecksum(Some(0))
    }
}

impl RowsChecksum {
    /// Adds the rows of a batch, whose columns have these field ids.
    pub(crate) fn add(&mut self, batch: &RecordBatch, field_ids: &[i32]) {
        let Some(sum) = self.0 else {
            return;
        };
        let mut rows = vec![0u64; batch.num_rows()];
        let mut columns = field_ids.iter().zip(batch.columns());
        let is_known = columns
            .all(|(field_id, column)| add_values(seed(*field_id), column, &mut rows).is_some());
        self.0 = is_known.then(|| {
            rows.into_iter()
                .fold(sum, |sum, row| sum.wrapping_add(mixed(row)))
        });
    }

    /// The checksum as text.
    pub(crate) fn text(self) -> Option<String> {
        self.0.map(|sum| format!("{sum:016x}"))
    }
}

/// As [`add_column`], of columns of lists, structs and maps too.
fn add_values(seed: u64, column: &dyn Array, rows: &mut [u64]) -> Option<()> {
    if !column.data_type().is_nested() {
        return add_column(seed, column, rows);
    }
    for (row, hash) in rows.iter_mut().zip(hashes_of(seed, column)?) {
        *row = row.wrapping_add(hash);
    }
    Some(())
}

/// The hash of each value, 0 where it is null. That of a nested one is made of those in it, in their order.
fn hashes_of(seed: u64, values: &dyn Array) -> Option<Vec<u64>> {
    let all = |hashes: &[u64]| {
        let with = |all: u64, hash: &u64| mixed(all.rotate_left(7).wrapping_add(*hash));
        hashes.iter().fold(mixed(!seed), with)
    };
    let lists = |hashes: &[u64], offsets: &[i32]| -> Option<Vec<u64>> {
        let ends = offsets.iter().zip(offsets.get(1..)?);
        let list = |(start, end): (&i32, &i32)| {
            let span = usize::try_from(*start).ok()?..usize::try_from(*end).ok()?;
            hashes.get(span).map(all)
        };
        ends.map(list).collect()
    };
    let mut hashes = match values.data_type() {
        DataType::List(_) => {
            let values = values.as_list_opt::<i32>()?;
            lists(&hashes_of(seed, values.values())?, values.value_offsets())?
        }
        DataType::Map(..) => {
            let values = values.as_map_opt()?;
            lists(&hashes_of(seed, values.entries())?, values.value_offsets())?
        }
        DataType::Struct(_) => {
            let mut hashes = vec![mixed(!seed); values.len()];
            for column in values.as_struct_opt()?.columns() {
                for (hash, of_field) in hashes.iter_mut().zip(hashes_of(seed, column)?) {
                    *hash = mixed(hash.rotate_left(7).wrapping_add(of_field));
                }
            }
            hashes
        }
        _ => {
            let mut hashes = vec![0; values.len()];
            add_column(seed, values, &mut hashes)?;
            hashes
        }
    };
    if let Some(nulls) = values.nulls() {
        let nulls = hashes.iter_mut().zip(nulls);
        nulls
            .filter(|(_, is_valid)| !is_valid)
            .for_each(|(hash, _)| *hash = 0);
    }
    Some(hashes)
}

fn seed(field_id: i32) -> u64 {
    mixed(u64::from(field_id.cast_unsigned()) + 1)
}

/// Spreads a number's bits over all of it.
fn mixed(mut number: u64) -> u64 {
    number ^= number >> 33;
    number = number.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    number ^= number >> 33;
    number = number.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    number ^ (number >> 33)
}

/// Adds the hashes of a column's values to those of the rows; `None` if its type is not known.
fn add_column(seed: u64, column: &dyn Array, rows: &mut [u64]) -> Option<()> {
    let nulls = column.nulls();
    let hash = |bytes: &[u8]| xxh3_64_with_seed(bytes, seed);
    // Offsets of an array ascend and are not negative.
    let span = |offsets: &[i32; 2]| offsets[0] as usize..offsets[1] as usize;
    match column.data_type() {
        DataType::Boolean => {
            let [no, yes] = [0, 1].map(|value| mixed(seed ^ value));
            let hash = |value| if value { yes } else { no };
            add_hashes(
                nulls,
                column.as_boolean_opt()?.values().iter().map(hash),
                rows,
            );
        }
        DataType::Utf8 | DataType::Binary => {
            let (offsets, data) = match column.as_string_opt::<i32>() {
                Some(texts) => (texts.value_offsets(), texts.value_data()),
                None => {
                    let bytes = column.as_binary_opt::<i32>()?;
                    (bytes.value_offsets(), bytes.value_data())
                }
            };
            let spans = offsets.array_windows::<2>().map(span);
            let hashes = spans.map(|span| hash(data.get(span).unwrap_or_default()));
            add_hashes(nulls, hashes, rows);
        }
        DataType::FixedSizeBinary(_) => {
            let values = column.as_fixed_size_binary_opt()?;
            add_hashes(
                nulls,
                values.iter().map(|value| hash(value.unwrap_or_default())),
                rows,
            );
        }
        other => {
            let data = column.to_data();
            let bytes = data.buffers().first()?.as_slice();
            let add = match other.primitive_width()? {
                4 => add_numbers::<4>,
                8 => add_numbers::<8>,
                16 => add_numbers::<16>,
                _ => return None,
            };
            add(seed, bytes, data.offset(), nulls, rows);
        }
    }
    Some(())
}

/// Adds the hashes of numbers of `N` bytes each.
fn add_numbers<const N: usize>(
    seed: u64,
    bytes: &[u8],
    offset: usize,
    nulls: Option<&NullBuffer>,
    rows: &mut [u64],
) {
    let (values, _) = bytes.as_chunks::<N>();
    let hash = |value: &[u8; N]| {
        let mut word = [0; 16];
        word.iter_mut()
            .zip(value)
            .for_each(|(to, byte)| *to = *byte);
        let word = u128::from_le_bytes(word);
        let (high, low) = ((word >> 64) as u64, word as u64);
        mixed(mixed(seed ^ low) ^ high)
    };
    add_hashes(nulls, values.iter().skip(offset).map(hash), rows);
}

/// Adds the hash of each row's value to the row's, unless it is null.
fn add_hashes(nulls: Option<&NullBuffer>, mut hashes: impl Iterator<Item = u64>, rows: &mut [u64]) {
    let Some(nulls) = nulls else {
        for (row, hash) in rows.iter_mut().zip(hashes) {
            *row = row.wrapping_add(hash);
        }
        return;
    };
    let words = nulls.inner().bit_chunks();
    for (word, rows) in words.iter_padded().zip(rows.chunks_mut(64)) {
        for (place, (row, hash)) in rows.iter_mut().zip(hashes.by_ref()).enumerate() {
            // Without a branch, since nulls come as they like.
            let is_valid = word >> place & 1;
            *row = row.wrapping_add(hash & is_valid.wrapping_neg());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Float32Array, Int64Array, StringArray};

    use super::*;

    fn batch(ids: &[i64], notes: &[Option<&str>]) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
        let notes: ArrayRef = Arc::new(StringArray::from(notes.to_vec()));
        RecordBatch::try_from_iter_with_nullable([("id", ids, false), ("note", notes, true)])
            .unwrap()
    }

    fn checksum(batches: &[RecordBatch], field_ids: &[i32]) -> String {
        let mut checksum = RowsChecksum::default();
        for batch in batches {
            checksum.add(batch, field_ids);
        }
        checksum.text().unwrap()
    }

    #[test]
    fn it_is_of_the_rows_and_not_of_their_order() {
        let whole = batch(&[1, 2, 3], &[Some("a"), None, Some("c")]);
        let expected = checksum(std::slice::from_ref(&whole), &[1, 2]);
        assert_eq!(
            checksum(&[whole.slice(2, 1), whole.slice(0, 2)], &[1, 2]),
            expected
        );
        let turned = batch(&[3, 1, 2], &[Some("c"), Some("a"), None]);
        assert_eq!(checksum(&[turned], &[1, 2]), expected);
        for other in [
            batch(&[1, 2, 3], &[Some("c"), None, Some("a")]),
            batch(&[1, 2, 3], &[Some("a"), Some(""), Some("c")]),
            batch(&[1, 2], &[Some("a"), None]),
            batch(&[1, 2, 3, 3], &[Some("a"), None, Some("c"), Some("c")]),
        ] {
            assert_ne!(checksum(&[other], &[1, 2]), expected);
        }
        assert_ne!(checksum(&[whole], &[1, 3]), expected, "of another column");
    }

    #[test]
    fn floats_are_told_apart_by_their_bits() {
        let of = |value: f32| {
            let column: ArrayRef = Arc::new(Float32Array::from(vec![value]));
            checksum(
                &[RecordBatch::try_from_iter([("x", column)]).unwrap()],
                &[1],
            )
        };
        assert_ne!(of(0.0), of(-0.0));
        assert_eq!(of(f32::NAN), of(f32::NAN));
    }
}
