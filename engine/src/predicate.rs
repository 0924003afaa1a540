//! Conditions on the primary key of the rows that a scan returns, and what becomes of them: intervals of encoded keys.
//!
//! As long as a key's columns, from the first on, are each one of some values, these are combined, and the condition on the
//! next column bounds what follows. Conditions on columns behind are checked key by key ([`KeyFilter`]).

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::codec::key::{encode_key_value, fixed_key_size_bytes};
use crate::error::{Error, Result};
use crate::key_range::{KeyBounds, KeyInterval, KeyRange, after_prefix, intersected, united};
use crate::read::key_filter::{ColumnFilter, KeyFilter};
use crate::schema::Column;
use crate::sharding::KeyPart;
use crate::table::Table;
use crate::value::Value;

/// A scan is divided into at most so many intervals of keys; conditions that would make more are checked key by key.
const INTERVAL_COUNT_MAX: usize = 4096;

/// A condition on the primary key of the rows that a scan returns, see [`Scan::predicates`](crate::Scan::predicates).
///
/// Values compare as keys do: floats in IEEE 754 total order.
///
/// ```
/// use std::ops::Bound;
///
/// use moonshine_engine::{ColumnType, Database, KeyPredicate, Options, Scan, TableSchema, Value};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let schema = TableSchema::builder("lines")
///     .column("shop", ColumnType::Utf8, false)
///     .column("line", ColumnType::Int64, false)
///     .primary_key(["shop", "line"])
///     .build()?;
/// let lines = database.create_table(schema)?;
/// let mut transaction = database.begin();
/// for shop in ["a", "b", "c"] {
///     for line in 0..10 {
///         transaction.upsert(&lines, vec![Value::Utf8(shop.into()), Value::Int64(line)])?;
///     }
/// }
/// transaction.commit()?;
///
/// let scan = Scan {
///     predicates: vec![
///         KeyPredicate::In { column: 0, values: vec![Value::Utf8("a".into()), Value::Utf8("c".into())] },
///         KeyPredicate::Between {
///             column: 1,
///             range: (Bound::Included(Value::Int64(3)), Bound::Excluded(Value::Int64(5))),
///         },
///     ],
///     ..Scan::default()
/// };
/// let mut rows = 0;
/// for batch in database.snapshot().scan(&lines, scan)? {
///     rows += batch?.num_rows();
/// }
/// assert_eq!(rows, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum KeyPredicate {
    /// A column of the key is one of some values.
    In {
        /// The column's position in the table.
        column: usize,
        /// The values.
        values: Vec<Value>,
    },
    /// A column of the key lies between bounds. Of floats, no upper bound takes in the NaNs above infinity too, no lower one
    /// those below it.
    Between {
        /// The column's position in the table.
        column: usize,
        /// The bounds.
        range: (Bound<Value>, Bound<Value>),
    },
    /// The key lies in one of some ranges, whose bounds are as those of [`Scan::range`](crate::Scan::range).
    Ranges(Vec<KeyBounds>),
}

/// What is asked of one column of a key.
#[derive(Debug, Default)]
struct Asked {
    /// The values that it may have, encoded.
    values: Option<BTreeSet<Vec<u8>>>,
    /// Intervals that it must lie in.
    intervals: Option<Vec<KeyInterval>>,
}

/// A column of the key.
#[derive(Clone, Copy, Debug)]
struct KeyColumn<'t> {
    table: &'t Table,
    column: &'t Column,
    is_last: bool,
}

impl KeyColumn<'_> {
    fn encode(self, value: &Value) -> Result<Vec<u8>> {
        value.check(self.table.name(), self.column)?;
        let mut bytes = Vec::new();
        encode_key_value(value.into(), self.is_last, &mut bytes);
        Ok(bytes)
    }

    /// The first bytes behind a value: of a key's rest that begins with it none reaches them.
    fn behind(self, mut encoded: Vec<u8>) -> Option<Vec<u8>> {
        if self.is_last {
            encoded.push(0);
            return Some(encoded);
        }
        after_prefix(encoded)
    }

    fn interval_of(self, encoded: Vec<u8>) -> KeyInterval {
        KeyInterval {
            end: self.behind(encoded.clone()),
            start: encoded,
        }
    }

    fn intervals_between(self, range: &(Bound<Value>, Bound<Value>)) -> Result<Vec<KeyInterval>> {
        let start = match &range.0 {
            Bound::Unbounded => Vec::new(),
            Bound::Included(value) => self.encode(value)?,
            Bound::Excluded(value) => match self.behind(self.encode(value)?) {
                Some(start) => start,
                None => return Ok(Vec::new()),
            },
        };
        let end = match &range.1 {
            Bound::Unbounded => None,
            Bound::Excluded(value) => Some(self.encode(value)?),
            Bound::Included(value) => self.behind(self.encode(value)?),
        };
        Ok(united(vec![KeyInterval { start, end }]))
    }
}

impl Asked {
    fn add_values(&mut self, values: BTreeSet<Vec<u8>>) {
        self.values = Some(match self.values.take() {
            Some(before) => before.intersection(&values).cloned().collect(),
            None => values,
        });
    }

    fn add_intervals(&mut self, intervals: Vec<KeyInterval>) {
        self.intervals = Some(match self.intervals.take() {
            Some(before) => intersected(&before, &intervals),
            None => intervals,
        });
    }

    /// Leaves of the values those that lie in the intervals.
    fn settle(&mut self, column: KeyColumn<'_>) {
        let Some(values) = &mut self.values else {
            return;
        };
        if let Some(intervals) = &self.intervals {
            values.retain(|value| crate::key_range::is_in(intervals, value));
        }
        let intervals = values.iter().map(|value| column.interval_of(value.clone()));
        self.intervals = Some(united(intervals.collect()));
    }
}

/// The intervals of keys that begin with one of some prefixes and go on in one of some intervals.
fn behind_prefixes(prefixes: &[Vec<u8>], intervals: &[KeyInterval]) -> Vec<KeyInterval> {
    let joined = prefixes.iter().flat_map(|prefix| {
        intervals.iter().map(move |interval| KeyInterval {
            start: [prefix.as_slice(), &interval.start].concat(),
            end: match &interval.end {
                Some(end) => Some([prefix.as_slice(), end].concat()),
                None => after_prefix(prefix.clone()),
            },
        })
    });
    united(joined.collect())
}

impl KeyFilter {
    /// The keys of a range that fulfil all predicates.
    pub(crate) fn of_keys(
        table: &Table,
        range: &KeyBounds,
        predicates: &[KeyPredicate],
    ) -> Result<Self> {
        let range = KeyInterval::from(&KeyRange::new(table.schema(), range)?);
        let mut intervals = united(vec![range]);
        let count = table.schema().primary_key().len();
        let mut asked: Vec<Asked> = (0..count).map(|_| Asked::default()).collect();
        for predicate in predicates {
            match predicate {
                KeyPredicate::Ranges(ranges) => {
                    let ranges = ranges.iter().map(|range| {
                        let range = KeyRange::new(table.schema(), range)?;
                        Ok(KeyInterval::from(&range))
                    });
                    let ranges = united(ranges.collect::<Result<_>>()?);
                    intervals = intersected(&intervals, &ranges);
                }
                KeyPredicate::In { column, values } => {
                    let (place, column) = key_column(table, *column)?;
                    let values = values.iter().map(|value| column.encode(value));
                    let values: BTreeSet<_> = values.collect::<Result<_>>()?;
                    if let Some(asked) = asked.get_mut(place) {
                        asked.add_values(values);
                    }
                }
                KeyPredicate::Between { column, range } => {
                    let (place, column) = key_column(table, *column)?;
                    let between = column.intervals_between(range)?;
                    if let Some(asked) = asked.get_mut(place) {
                        asked.add_intervals(between);
                    }
                }
            }
        }
        for (asked, &position) in asked.iter_mut().zip(table.schema().primary_key()) {
            asked.settle(key_column(table, position)?.1);
        }
        let (leading, told) = leading_intervals(&asked);
        let intervals = intersected(&intervals, &leading);
        let parts: Vec<KeyPart> = table
            .schema()
            .key_columns()
            .map(|column| fixed_key_size_bytes(column.column_type).into())
            .collect();
        let columns = asked.into_iter().enumerate().skip(told);
        let columns = columns.filter_map(|(place, asked)| {
            Some(ColumnFilter {
                before: parts.get(..place)?.to_vec(),
                intervals: asked.intervals?,
            })
        });
        Ok(KeyFilter::new(intervals, columns.collect()))
    }
}

/// The intervals that the conditions on a key's first columns make, and on how many columns they are.
fn leading_intervals(asked: &[Asked]) -> (Vec<KeyInterval>, usize) {
    let mut prefixes = vec![Vec::new()];
    for (place, asked) in asked.iter().enumerate() {
        let fits = |count: usize| prefixes.len().saturating_mul(count) <= INTERVAL_COUNT_MAX;
        match asked {
            Asked {
                values: Some(values),
                ..
            } if fits(values.len()) => {
                let longer = prefixes.iter().flat_map(|prefix| {
                    values
                        .iter()
                        .map(move |value| [prefix.as_slice(), value].concat())
                });
                prefixes = longer.collect();
            }
            Asked {
                intervals: Some(intervals),
                ..
            } if fits(intervals.len()) => {
                return (behind_prefixes(&prefixes, intervals), place + 1);
            }
            _ => return (behind_prefixes(&prefixes, &[KeyInterval::ALL]), place),
        }
    }
    let keys = prefixes.into_iter().map(|key| KeyInterval {
        end: Some([key.as_slice(), &[0]].concat()),
        start: key,
    });
    (united(keys.collect()), asked.len())
}

/// The column of the key at a position of the table, and its place in the key.
fn key_column(table: &Table, position: usize) -> Result<(usize, KeyColumn<'_>)> {
    let schema = table.schema();
    let mut key = schema.primary_key().iter();
    let place = key.position(|key| *key == position);
    match (place, schema.columns().get(position)) {
        (Some(place), Some(column)) => Ok((
            place,
            KeyColumn {
                table,
                column,
                is_last: place + 1 == schema.primary_key().len(),
            },
        )),
        _ => Err(Error::Usage(format!(
            "table '{}': a predicate names column {position}, which is not of the primary key",
            table.name()
        ))),
    }
}
