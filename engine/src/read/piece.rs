//! A piece of a scan without order: pages of one RowSet, and which of their rows count.
//!
//! A row counts unless it is a tombstone, or a newer row of its key is seen. Of the newer RowSets, those with a patch for
//! this one say so by ordinals, marked once for the whole piece; the others, and the generations, are asked by hash.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::key_filter::KeyFilter;
use crate::codec::key::hash_key;
use crate::deletes::Hidden;
use crate::error::Result;
use crate::generation::{Found, Generation, TableGeneration};
use crate::row_set::page_scan::PageScan;
use crate::row_set::patch::Replaced;
use crate::row_set::rows_page::RowsView;
use crate::tree::files::HeldRowSet;

/// What a piece reads at once.
const READ_SIZE_BYTES: usize = 256 << 10;

/// Pages of a RowSet that a scan is to read.
#[derive(Clone, Debug)]
pub(crate) struct PieceOfRowSet {
    pub(crate) held: Arc<HeldRowSet>,
    /// The newer RowSets that may have its keys.
    pub(crate) newer: Arc<[Arc<HeldRowSet>]>,
    /// What these say of its rows, once one of its pieces needs it.
    pub(crate) known: Arc<OnceLock<Known>>,
    pub(crate) pages: Range<u32>,
}

/// What newer RowSets say of the rows of one.
#[derive(Debug)]
pub(crate) struct Known {
    /// By ordinal.
    replaced: Option<Replaced>,
    /// Those without a patch for it.
    overlays: Vec<Arc<HeldRowSet>>,
}

/// What a scan asks of every row.
#[derive(Debug)]
pub(crate) struct RowFilter {
    /// The generations that know the table.
    pub(crate) generations: Vec<AskedGeneration>,
    /// The ranges that were deleted.
    pub(crate) hidden: Hidden,
    pub(crate) keys: KeyFilter,
}

/// A generation that knows the table, at a commit sequence.
#[derive(Clone, Debug)]
pub(crate) struct AskedGeneration {
    pub(crate) generation: Arc<Generation>,
    pub(crate) table: Arc<TableGeneration>,
    pub(crate) seq: u64,
}

/// The rows of a page that count.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slots<'a> {
    /// All from one slot to before another.
    Range(usize, usize),
    /// These.
    List(&'a [u16]),
}

/// A piece that is being read.
#[derive(Debug)]
pub(crate) struct Piece {
    held: Arc<HeldRowSet>,
    pages: PageScan,
    known: Arc<OnceLock<Known>>,
    /// The rows of the page at hand that count: all between two slots, or of those only the listed.
    start: usize,
    end: usize,
    is_listed: bool,
    listed: Vec<u16>,
}

impl Default for RowFilter {
    /// For rows that all count.
    fn default() -> Self {
        RowFilter {
            generations: Vec::new(),
            hidden: Hidden::default(),
            keys: KeyFilter::all(),
        }
    }
}

impl RowFilter {
    /// Whether a generation says what became of a key.
    fn generations_know(&self, hash: u64, key: &[u8]) -> bool {
        self.generations.iter().any(|asked| {
            let bodies = asked.generation.bodies();
            asked.table.get(bodies, hash, key, asked.seq) != Found::Nothing
        })
    }
}

impl<'a> Slots<'a> {
    /// How many.
    pub(crate) fn len(self) -> usize {
        match self {
            Slots::Range(start, end) => end.saturating_sub(start),
            Slots::List(slots) => slots.len(),
        }
    }

    /// Up to so many of them, from a place on.
    pub(crate) fn part(self, from: usize, most: usize) -> Self {
        match self {
            Slots::Range(start, end) => {
                let start = end.min(start.saturating_add(from));
                Slots::Range(start, end.min(start.saturating_add(most)))
            }
            Slots::List(slots) => {
                let rest = slots.get(from..).unwrap_or_default();
                Slots::List(rest.get(..most.min(rest.len())).unwrap_or_default())
            }
        }
    }

    /// Calls `each` with every slot.
    #[inline]
    pub(crate) fn try_each<E>(self, mut each: impl FnMut(usize) -> Result<(), E>) -> Result<(), E> {
        match self {
            Slots::Range(start, end) => (start..end).try_for_each(each),
            Slots::List(slots) => slots.iter().try_for_each(|slot| each((*slot).into())),
        }
    }
}

impl PieceOfRowSet {
    /// Begins to read: the patches, but no row yet.
    pub(crate) fn open(self) -> Result<Piece> {
        if self.known.get().is_none() {
            // Another thread may do the same meanwhile; then one of the two counts.
            let known = self.ask_newer()?;
            self.known.get_or_init(|| known);
        }
        Ok(Piece {
            pages: PageScan::new(self.held.row_set.clone(), self.pages, READ_SIZE_BYTES),
            held: self.held,
            known: self.known,
            start: 0,
            end: 0,
            is_listed: false,
            listed: Vec::new(),
        })
    }

    fn ask_newer(&self) -> Result<Known> {
        let meta = self.held.row_set.meta();
        let mut replaced: Option<Replaced> = None;
        let mut overlays = Vec::new();
        for newer in self.newer.iter() {
            match newer.row_set.meta().target(meta) {
                None => overlays.push(newer.clone()),
                Some(target) if target.ordinal_count == 0 => {}
                Some(_) => {
                    let marks = replaced.get_or_insert_with(|| Replaced::none_of(meta));
                    newer.mark_replaced(meta, marks)?;
                }
            }
        }
        Ok(Known { replaced, overlays })
    }
}

impl Piece {
    /// The RowSet.
    pub(crate) fn held(&self) -> &HeldRowSet {
        &self.held
    }

    /// Goes to the next page, if there is one.
    pub(crate) fn advance(&mut self, filter: &RowFilter) -> Result<bool> {
        (self.start, self.end, self.is_listed) = (0, 0, false);
        if !self.pages.advance()? {
            return Ok(false);
        }
        let Some(rows) = self.pages.rows() else {
            return Ok(false);
        };
        let (start, end, are_wanted) = filter.keys.slots_of(&rows);
        (self.start, self.end) = (start, end);
        let first_ordinal = self.pages.first_ordinal();
        let count = crate::codec::len_u32(rows.row_count());
        let known = self.known.get();
        let replaced = known.and_then(|known| known.replaced.as_ref());
        let replaced = replaced.filter(|replaced| replaced.contains_any(first_ordinal, count));
        let overlays = known.map_or(&[][..], |known| &known.overlays);
        let is_asked = !overlays.is_empty() || !filter.generations.is_empty();
        let seq_to = self.held.row_set.meta().head.seq_to;
        let hides = !filter.hidden.is_empty();
        self.is_listed =
            rows.has_tombstones() || replaced.is_some() || is_asked || hides || !are_wanted;
        if self.is_listed {
            self.listed.clear();
            for slot in self.start..self.end {
                let ordinal = first_ordinal + slot as u32;
                if rows.is_tombstone(slot)
                    || replaced.is_some_and(|replaced| replaced.contains(ordinal))
                    || (!are_wanted && !filter.keys.wants(rows.key(slot)))
                    || (hides && filter.hidden.hides(rows.key(slot), seq_to))
                    || (is_asked && is_overlaid(overlays, filter, rows.key(slot))?)
                {
                    continue;
                }
                self.listed.push(slot as u16);
            }
        }
        Ok(true)
    }

    /// The rows of the page at hand, and which of them count.
    #[inline]
    pub(crate) fn page(&self) -> Option<(RowsView<'_>, Slots<'_>)> {
        let slots = if self.is_listed {
            Slots::List(&self.listed)
        } else {
            Slots::Range(self.start, self.end)
        };
        Some((self.pages.rows()?, slots))
    }
}

/// Whether something newer without a patch has a key.
fn is_overlaid(overlays: &[Arc<HeldRowSet>], filter: &RowFilter, key: &[u8]) -> Result<bool> {
    let hash = hash_key(key);
    if filter.generations_know(hash, key) {
        return Ok(true);
    }
    for newer in overlays {
        if newer.row_set.get(hash, key)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
