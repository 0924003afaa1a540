//! Values of a fixed size.

use std::ops::Range;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_buffer::ArrowNativeType;
use arrow_schema::DataType;
use parquet::basic::{BoundaryOrder, Encoding};
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::errors::{ParquetError, Result};
use parquet::file::statistics::{Statistics, ValueStatistics};

use super::bloom::BloomFilter;
use super::dictionary::{DICTIONARY_SIZE_BYTES_MAX, Slots, spread};
use super::levels::put_numbers;
use super::page::PageEnd;
use super::{ChunkEnd, EncodeValues};

/// A value of a fixed size.
pub(super) trait Number: Copy + Send + 'static {
    /// As it stands in a page.
    type Bytes: AsRef<[u8]>;

    fn to_bytes(self) -> Self::Bytes;
    /// A number that tells values apart that differ in any bit.
    fn bits(self) -> u128;
    /// The least and the greatest of some; `None` if none has an order.
    fn bounds(values: &[Self]) -> Option<(Self, Self)>;
    fn is_less(self, than: Self) -> bool;
    fn statistics(bounds: Option<(Self, Self)>, null_count: u64) -> Statistics;
    /// Appends the values of rows that have one; `None` if the column is of another type.
    fn gather(column: &dyn Array, rows: Range<usize>, out: &mut Vec<Self>) -> Option<()>;
}

/// Appends the values of rows that have one, which lie in a column's first buffer.
fn gather<T: ArrowNativeType, V>(
    column: &dyn Array,
    rows: Range<usize>,
    out: &mut Vec<V>,
    convert: impl Fn(T) -> V,
) -> Option<()> {
    let data = column.to_data();
    let start = data.offset() + rows.start;
    let values = data.buffers().first()?.typed_data::<T>();
    let values = values.get(start..start + rows.len())?;
    match column.nulls() {
        None => out.extend(values.iter().map(|value| convert(*value))),
        Some(nulls) => {
            let nulls = nulls.slice(rows.start, rows.len());
            let both = values.iter().zip(nulls.iter());
            out.extend(
                both.filter(|(_, is_valid)| *is_valid)
                    .map(|(value, _)| convert(*value)),
            );
        }
    }
    Some(())
}

macro_rules! integer {
    ($native:ty) => {
        impl Number for $native {
            type Bytes = [u8; size_of::<$native>()];

            #[inline]
            fn to_bytes(self) -> Self::Bytes {
                self.to_le_bytes()
            }

            #[inline]
            fn bits(self) -> u128 {
                // Whatever the sign, values that differ have other bits.
                self as u128
            }

            fn bounds(values: &[Self]) -> Option<(Self, Self)> {
                let first = values.first()?;
                let join = |(least, greatest): (Self, Self), value: &Self| {
                    (least.min(*value), greatest.max(*value))
                };
                Some(values.iter().fold((*first, *first), join))
            }

            fn is_less(self, than: Self) -> bool {
                self < than
            }

            fn statistics(bounds: Option<(Self, Self)>, null_count: u64) -> Statistics {
                statistics(bounds.unzip(), null_count, true).into()
            }

            fn gather(column: &dyn Array, rows: Range<usize>, out: &mut Vec<Self>) -> Option<()> {
                match column.data_type() {
                    // Of so few digits that it fits.
                    DataType::Decimal128(..) => {
                        gather(column, rows, out, |value: i128| value as $native)
                    }
                    _ => gather(column, rows, out, |value: $native| value),
                }
            }
        }
    };
}

macro_rules! float {
    ($native:ty) => {
        impl Number for $native {
            type Bytes = [u8; size_of::<$native>()];

            #[inline]
            fn to_bytes(self) -> Self::Bytes {
                self.to_le_bytes()
            }

            #[inline]
            fn bits(self) -> u128 {
                self.to_bits().into()
            }

            /// NaNs have no order. A zero stands for either, as the format says.
            fn bounds(values: &[Self]) -> Option<(Self, Self)> {
                let wide = (<$native>::INFINITY, <$native>::NEG_INFINITY);
                let join = |(least, greatest): (Self, Self), value: &Self| {
                    (
                        if *value < least { *value } else { least },
                        if *value > greatest { *value } else { greatest },
                    )
                };
                let (least, greatest) = values.iter().fold(wide, join);
                let is_known = least <= greatest || values.iter().any(|value| !value.is_nan());
                let zero = |value: Self, zero: Self| if value == 0.0 { zero } else { value };
                is_known.then(|| (zero(least, -0.0), zero(greatest, 0.0)))
            }

            fn is_less(self, than: Self) -> bool {
                self < than
            }

            fn statistics(bounds: Option<(Self, Self)>, null_count: u64) -> Statistics {
                statistics(bounds.unzip(), null_count, true).into()
            }

            fn gather(column: &dyn Array, rows: Range<usize>, out: &mut Vec<Self>) -> Option<()> {
                gather(column, rows, out, |value: $native| value)
            }
        }
    };
}

integer!(i32);
integer!(i64);
float!(f32);
float!(f64);

impl Number for [u8; 16] {
    type Bytes = Self;

    #[inline]
    fn to_bytes(self) -> Self {
        self
    }

    #[inline]
    fn bits(self) -> u128 {
        u128::from_be_bytes(self)
    }

    fn bounds(values: &[Self]) -> Option<(Self, Self)> {
        let numbers = values.iter().map(|value| value.bits());
        let join =
            |(least, greatest): (u128, u128), value: u128| (least.min(value), greatest.max(value));
        let (least, greatest) = numbers.fold((u128::MAX, 0), join);
        (!values.is_empty()).then(|| (least.to_be_bytes(), greatest.to_be_bytes()))
    }

    fn is_less(self, than: Self) -> bool {
        self < than
    }

    fn statistics(bounds: Option<(Self, Self)>, null_count: u64) -> Statistics {
        let value = |value: Self| FixedLenByteArray::from(ByteArray::from(value.to_vec()));
        let (least, greatest) = bounds.unzip();
        statistics((least.map(value), greatest.map(value)), null_count, false).into()
    }

    fn gather(column: &dyn Array, rows: Range<usize>, out: &mut Vec<Self>) -> Option<()> {
        let column = column.as_fixed_size_binary_opt()?;
        let (values, _) = column.value_data().as_chunks::<16>();
        let values = values.get(rows.clone())?;
        match column.nulls() {
            None => out.extend_from_slice(values),
            Some(nulls) => {
                let nulls = nulls.slice(rows.start, rows.len());
                let both = values.iter().zip(nulls.iter());
                out.extend(
                    both.filter(|(_, is_valid)| *is_valid)
                        .map(|(value, _)| *value),
                );
            }
        }
        Some(())
    }
}

/// Statistics of a chunk, exact. `is_signed` if older readers take them for what they are.
pub(super) fn statistics<T>(
    (least, greatest): (Option<T>, Option<T>),
    null_count: u64,
    is_signed: bool,
) -> ValueStatistics<T> {
    ValueStatistics::new(least, greatest, None, Some(null_count), false)
        .with_backwards_compatible_min_max(is_signed)
}

/// The order of the bounds of a chunk's pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageOrder {
    ascends: bool,
    descends: bool,
}

impl Default for PageOrder {
    fn default() -> Self {
        PageOrder {
            ascends: true,
            descends: true,
        }
    }
}

impl PageOrder {
    /// Takes the next page with bounds: whether one of them is below, or above, that of the page before.
    pub(super) fn add(&mut self, is_below: bool, is_above: bool) {
        self.ascends &= !is_below;
        self.descends &= !is_above;
    }

    pub(super) fn boundary_order(self) -> BoundaryOrder {
        match (self.ascends, self.descends) {
            (true, _) => BoundaryOrder::ASCENDING,
            (false, true) => BoundaryOrder::DESCENDING,
            (false, false) => BoundaryOrder::UNORDERED,
        }
    }
}

pub(super) fn other_type(column: &dyn Array) -> ParquetError {
    ParquetError::General(format!("a column has become one of {}", column.data_type()))
}

/// The numbers of values in a dictionary.
struct NumberDictionary<V> {
    slots: Slots,
    values: Vec<V>,
    /// The value that came last, which often comes again.
    last: Option<(u128, u32)>,
}

impl<V: Number> NumberDictionary<V> {
    fn new() -> Self {
        NumberDictionary {
            slots: Slots::default(),
            values: Vec::new(),
            last: None,
        }
    }

    #[inline]
    fn number(&mut self, value: V) -> u32 {
        let bits = value.bits();
        if let Some((last, number)) = self.last
            && last == bits
        {
            return number;
        }
        let values = &self.values;
        let is_it = |number: u32| {
            values
                .get(number as usize)
                .is_some_and(|value| value.bits() == bits)
        };
        // Both halves.
        let hash = spread(bits as u64 ^ ((bits >> 64) as u64).rotate_left(32));
        let (number, is_new) = self.slots.number(hash, is_it);
        if is_new {
            self.values.push(value);
        }
        self.last = Some((bits, number));
        number
    }
}

/// Values of a fixed size on their way into pages.
pub(super) struct Numbers<V> {
    has_dictionary: bool,
    dictionary: Option<NumberDictionary<V>>,
    /// Whether it takes more values.
    is_open: bool,
    /// The page's values, by their numbers.
    indices: Vec<u32>,
    /// Those that are at hand.
    present: Vec<V>,
    page_bounds: Option<(V, V)>,
    last_bounds: Option<(V, V)>,
    chunk_bounds: Option<(V, V)>,
    order: PageOrder,
}

impl<V: Number> Numbers<V> {
    pub(super) fn new(has_dictionary: bool) -> Self {
        Numbers {
            has_dictionary,
            dictionary: has_dictionary.then(NumberDictionary::new),
            is_open: has_dictionary,
            indices: Vec::new(),
            present: Vec::new(),
            page_bounds: None,
            last_bounds: None,
            chunk_bounds: None,
            order: PageOrder::default(),
        }
    }
}

fn join<V: Number>(one: Option<(V, V)>, other: Option<(V, V)>) -> Option<(V, V)> {
    let (Some(one), Some(other)) = (one, other) else {
        return one.or(other);
    };
    Some((
        if other.0.is_less(one.0) {
            other.0
        } else {
            one.0
        },
        if one.1.is_less(other.1) {
            other.1
        } else {
            one.1
        },
    ))
}

/// Appends values as they are.
fn put_plain<V: Number>(out: &mut Vec<u8>, values: &[V]) {
    let start = out.len();
    out.resize(start + size_of_val(values), 0);
    let places = out.get_mut(start..).unwrap_or_default();
    for (place, value) in places.chunks_exact_mut(size_of::<V>()).zip(values) {
        place.copy_from_slice(value.to_bytes().as_ref());
    }
}

impl<V: Number> EncodeValues for Numbers<V> {
    fn take(
        &mut self,
        column: &dyn Array,
        rows: Range<usize>,
        page: &mut Vec<u8>,
        bloom_filter: Option<&mut BloomFilter>,
    ) -> Result<usize> {
        let count = rows.len();
        self.present.clear();
        V::gather(column, rows, &mut self.present).ok_or_else(|| other_type(column))?;
        self.page_bounds = join(self.page_bounds, V::bounds(&self.present));
        if let Some(filter) = bloom_filter {
            for value in &self.present {
                filter.insert(value.to_bytes().as_ref());
            }
        }
        match &mut self.dictionary {
            Some(dictionary) if self.is_open => {
                let numbers = self.present.iter().map(|value| dictionary.number(*value));
                self.indices.extend(numbers);
            }
            _ => put_plain(page, &self.present),
        }
        Ok(count)
    }

    fn is_full(&self, _page: &[u8]) -> bool {
        let dictionary = self.dictionary.as_ref().filter(|_| self.is_open);
        dictionary.is_some_and(|one| size_of_val(one.values.as_slice()) > DICTIONARY_SIZE_BYTES_MAX)
    }

    fn end_page(&mut self, page: &mut Vec<u8>) -> PageEnd {
        let mut encoding = Encoding::PLAIN;
        if let Some(dictionary) = self.dictionary.as_ref().filter(|_| self.is_open) {
            encoding = Encoding::RLE_DICTIONARY;
            put_numbers(page, &self.indices, dictionary.slots.number_bits());
            self.indices.clear();
            self.is_open = !self.is_full(page);
        }
        let bounds = self.page_bounds.take();
        if let (Some(last), Some(next)) = (self.last_bounds, bounds) {
            let is_below = next.0.is_less(last.0) || next.1.is_less(last.1);
            let is_above = last.0.is_less(next.0) || last.1.is_less(next.1);
            self.order.add(is_below, is_above);
        }
        self.last_bounds = bounds.or(self.last_bounds);
        self.chunk_bounds = join(self.chunk_bounds, bounds);
        let bytes = |value: V| value.to_bytes().as_ref().to_vec();
        PageEnd {
            encoding,
            bounds: bounds.map(|(least, greatest)| (bytes(least), bytes(greatest))),
            text_bytes: None,
        }
    }

    fn end_chunk(&mut self, null_count: u64) -> ChunkEnd {
        let next = Numbers {
            indices: std::mem::take(&mut self.indices),
            present: std::mem::take(&mut self.present),
            ..Numbers::new(self.has_dictionary)
        };
        let ended = std::mem::replace(self, next);
        let dictionary = ended.dictionary.map(|dictionary| {
            let mut bytes = Vec::new();
            put_plain(&mut bytes, &dictionary.values);
            (bytes, dictionary.slots.count())
        });
        ChunkEnd {
            dictionary,
            statistics: V::statistics(ended.chunk_bounds, null_count),
            boundary_order: ended.order.boundary_order(),
        }
    }
}
