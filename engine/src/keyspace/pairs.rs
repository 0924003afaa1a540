//! Pairs in key order.

use super::{Slice, value_start};
use crate::error::Result;
use crate::read::merge::Merge;
use crate::read::range::KeyRange;
use crate::read::view::View;
use crate::snapshot::Snapshot;

/// Pairs of a keyspace in key order, from either end.
#[derive(Debug)]
pub struct Pairs {
    view: View,
    range: KeyRange,
    /// Held, so that its rows stay.
    _snapshot: Snapshot,
    front: Option<End>,
    back: Option<End>,
    failed: bool,
}

/// One end of pairs.
#[derive(Debug)]
struct End {
    rows: Merge,
    /// The key that was given last.
    last_key: Option<Vec<u8>>,
}

impl Pairs {
    /// The pairs of a range, in a view at the snapshot.
    pub(super) fn new(snapshot: &Snapshot, view: View, range: KeyRange) -> Self {
        Pairs {
            view,
            range,
            _snapshot: snapshot.clone(),
            front: None,
            back: None,
            failed: false,
        }
    }

    fn take(&mut self, descending: bool) -> Option<Result<(Slice, Slice)>> {
        if self.failed {
            return None;
        }
        let taken = self.try_take(descending);
        self.failed = taken.is_err();
        taken.transpose()
    }

    fn try_take(&mut self, descending: bool) -> Result<Option<(Slice, Slice)>> {
        let (end, other) = if descending {
            (&mut self.back, &self.front)
        } else {
            (&mut self.front, &self.back)
        };
        let (view, range) = (&self.view, &self.range);
        let end = end.get_or_insert_with(|| End {
            rows: view.scan(range.clone(), descending, false),
            last_key: None,
        });
        if !end.rows.advance()? {
            return Ok(None);
        }
        let Some(row) = end.rows.row() else {
            return Ok(None);
        };
        // The ends have met.
        let met = other.as_ref().and_then(|other| other.last_key.as_deref());
        if met.is_some_and(|met| {
            if descending {
                row.key <= met
            } else {
                row.key >= met
            }
        }) {
            return Ok(None);
        }
        let bytes = row.value.unwrap_or_default();
        let start = value_start(bytes).map_err(|malformed| end.rows.corrupt(malformed))?;
        let value = bytes.get(start..).unwrap_or_default();
        let pair = (Slice::whole(row.key.into()), Slice::whole(value.into()));
        let last_key = end.last_key.get_or_insert_default();
        last_key.clear();
        last_key.extend_from_slice(&pair.0);
        Ok(Some(pair))
    }
}

impl Iterator for Pairs {
    /// Key and value.
    type Item = Result<(Slice, Slice)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take(false)
    }
}

impl DoubleEndedIterator for Pairs {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take(true)
    }
}
