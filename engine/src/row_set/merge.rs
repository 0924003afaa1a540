//! Several streams of sorted rows as one: each key once, its newest row.
//!
//! A tree of losers (Knuth, The Art of Computer Programming 3, 5.4.1) over the inputs, newest first. Its matches are
//! mostly decided by the first eight bytes of the keys, which it holds; and since a row meets every newer row of the same
//! key in a match before it comes up, a match that ends even is also what finds the rows that are replaced.
//!
//! Inputs belong to *bands*: pieces of the commit sequence between the snapshots that are pinned. A row only replaces rows
//! of its own band, so that every snapshot keeps what it sees.

use std::cmp::Ordering;

use crate::error::Result;

use super::cursor::Cursor;
use super::location::Location;
use super::rows_page::RowRef;
use super::writer::DeltaFileWriter;

/// Rows in key order, each key once.
pub trait SortedRows {
    /// Whether they come from the last key to the first.
    const DESCENDING: bool = false;

    /// The row it is at; `None` behind the last.
    fn row(&self) -> Option<RowRef<'_>>;

    /// Goes to the next row.
    ///
    /// # Errors
    /// What reading it may end in.
    fn advance(&mut self) -> Result<()>;

    /// Where the row it is at was exported to.
    ///
    /// # Errors
    /// What reading it may end in.
    fn location(&self) -> Result<Option<Location>> {
        Ok(None)
    }
}

impl SortedRows for Cursor {
    #[inline]
    fn row(&self) -> Option<RowRef<'_>> {
        Cursor::row(self)
    }

    #[inline]
    fn advance(&mut self) -> Result<()> {
        Cursor::advance(self)
    }

    fn location(&self) -> Result<Option<Location>> {
        match self.ordinal() {
            Some(ordinal) if self.row_set().meta().locations_page_count > 0 => {
                self.row_set().location(ordinal)
            }
            _ => Ok(None),
        }
    }
}

/// A cursor that goes from the last row to the first.
#[derive(Debug)]
pub struct Backward(pub Cursor);

impl SortedRows for Backward {
    const DESCENDING: bool = true;

    #[inline]
    fn row(&self) -> Option<RowRef<'_>> {
        self.0.row()
    }

    #[inline]
    fn advance(&mut self) -> Result<()> {
        self.0.retreat()
    }

    fn location(&self) -> Result<Option<Location>> {
        SortedRows::location(&self.0)
    }
}

/// What a [`Merge`] reads.
#[derive(Debug)]
pub struct MergeInput<S> {
    /// The rows, at the first one that is wanted.
    pub rows: S,
    /// The piece of the commit sequence that they stem from: inputs of one band stand together.
    pub band: u32,
}

/// What becomes of tombstones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tombstones {
    /// They stay: something that is not merged may hold the key.
    Keep,
    /// They go where no older band holds the key: nothing lies below.
    Drop,
}

/// A row that a [`Merge`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergedRow<'a> {
    /// The row.
    pub row: RowRef<'a>,
    /// The band it stems from.
    pub band: u32,
    /// Which input it stems from, counted from the newest.
    pub input: usize,
}

/// An input in a match.
#[derive(Clone, Copy, Debug)]
struct Contender {
    /// Of its key, by which most matches are decided; all ones at its end.
    prefix: u64,
    input: usize,
}

/// The newest rows of several inputs, in their order.
#[derive(Debug)]
pub struct Merge<S> {
    inputs: Vec<Input<S>>,
    /// The losers of the matches: that of node n is played by the winners of nodes 2n and 2n + 1; inputs are the leaves.
    losers: Vec<Contender>,
    winner: Contender,
    tombstones: Tombstones,
    /// What was given out last.
    at: Option<Next>,
    /// The band of the last row of the key at hand.
    band: Option<u32>,
    /// Tombstones of the key at hand, newest first, until it is known whether an older band holds the key.
    held: Held,
}

#[derive(Debug)]
struct Input<S> {
    rows: S,
    band: u32,
    /// Whether a newer input has a row of the same key.
    repeats: bool,
}

#[derive(Debug, Default)]
struct Held {
    key: Vec<u8>,
    /// Band and input of each.
    tombstones: Vec<(u32, usize)>,
    /// How many are given out, once they must be.
    given: Option<usize>,
}

/// What to give out next.
#[derive(Clone, Copy, Debug)]
enum Next {
    Winner,
    Held { band: u32, input: usize },
}

impl<S: SortedRows> Merge<S> {
    /// Merges inputs that are given newest first.
    pub fn new(inputs: Vec<MergeInput<S>>, tombstones: Tombstones) -> Self {
        let inputs: Vec<_> = inputs
            .into_iter()
            .map(|MergeInput { rows, band }| Input {
                rows,
                band,
                repeats: false,
            })
            .collect();
        let mut merge = Merge {
            losers: Vec::with_capacity(inputs.len()),
            inputs,
            winner: Contender {
                prefix: u64::MAX,
                input: usize::MAX,
            },
            tombstones,
            at: None,
            band: None,
            held: Held::default(),
        };
        merge.play_all();
        merge
    }

    /// The next row; what it borrows is good until the next call.
    ///
    /// # Errors
    /// What reading the inputs may end in. The merge is then of no more use.
    #[inline]
    pub fn next_row(&mut self) -> Result<Option<MergedRow<'_>>> {
        self.at = self.choose()?;
        Ok(self.row())
    }

    /// The row that [`next_row`](Self::next_row) came to last.
    #[inline]
    pub fn row(&self) -> Option<MergedRow<'_>> {
        match self.at? {
            Next::Held { band, input } => Some(MergedRow {
                row: RowRef {
                    key: &self.held.key,
                    value: None,
                },
                band,
                input,
            }),
            Next::Winner => {
                let input = self.winner.input;
                let from = self.inputs.get(input)?;
                Some(MergedRow {
                    row: from.rows.row()?,
                    band: from.band,
                    input,
                })
            }
        }
    }

    /// Where that row was exported to. A tombstone has no place.
    ///
    /// # Errors
    /// What reading it may end in.
    pub fn location(&self) -> Result<Option<Location>> {
        match self.at {
            Some(Next::Winner) => self
                .inputs
                .get(self.winner.input)
                .map_or(Ok(None), |from| from.rows.location()),
            _ => Ok(None),
        }
    }

    #[inline]
    fn choose(&mut self) -> Result<Option<Next>> {
        if let Some(Next::Winner) = self.at.take() {
            self.step()?;
        }
        loop {
            if let Some(given) = &mut self.held.given {
                if let Some(&(band, input)) = self.held.tombstones.get(*given) {
                    *given += 1;
                    return Ok(Some(Next::Held { band, input }));
                }
                self.held.given = None;
                self.held.tombstones.clear();
            }
            let Some(from) = self.inputs.get(self.winner.input) else {
                return Ok(None);
            };
            let Some(row) = from.rows.row() else {
                return Ok(None);
            };
            if !from.repeats {
                // Another key. What is held of the one before is at the bottom.
                self.held.tombstones.clear();
            } else if self.band == Some(from.band) {
                self.step()?;
                continue;
            }
            self.band = Some(from.band);
            if row.value.is_none() && self.tombstones == Tombstones::Drop {
                if self.held.tombstones.is_empty() {
                    self.held.key.clear();
                    self.held.key.extend_from_slice(row.key);
                }
                self.held.tombstones.push((from.band, self.winner.input));
                self.step()?;
            } else if self.held.tombstones.is_empty() {
                return Ok(Some(Next::Winner));
            } else {
                // An older band holds the key alive, so they count. They come first, then this row.
                self.held.given = Some(0);
                self.band = None;
            }
        }
    }

    /// Goes past the winner's row and finds the next winner.
    #[inline]
    fn step(&mut self) -> Result<()> {
        let Some(from) = self.inputs.get_mut(self.winner.input) else {
            return Ok(());
        };
        from.repeats = false;
        from.rows.advance()?;
        let mut winner = Contender::of(self.winner.input, from);
        let mut node = (self.winner.input + self.inputs.len()) / 2;
        while node > 0 {
            let Some(&loser) = self.losers.get(node) else {
                break;
            };
            if self.beats(loser, winner) {
                if let Some(place) = self.losers.get_mut(node) {
                    *place = winner;
                }
                winner = loser;
            }
            node /= 2;
        }
        self.winner = winner;
        Ok(())
    }

    /// Plays all matches. The first to come to a node waits there for the other.
    fn play_all(&mut self) {
        let count = self.inputs.len();
        let nobody = self.winner;
        self.losers.resize(count, nobody);
        for input in 0..count {
            let Some(from) = self.inputs.get(input) else {
                break;
            };
            let mut winner = Contender::of(input, from);
            let mut node = (input + count) / 2;
            while let Some(&other) = self.losers.get(node).filter(|_| node > 0) {
                let waits = other.input == nobody.input;
                if waits || self.beats(other, winner) {
                    if let Some(place) = self.losers.get_mut(node) {
                        *place = winner;
                    }
                    winner = other;
                }
                if waits {
                    break;
                }
                node /= 2;
            }
            if node == 0 {
                self.winner = winner;
            }
        }
    }

    /// Whether `a` comes before `b`.
    #[inline]
    fn beats(&mut self, a: Contender, b: Contender) -> bool {
        if a.prefix == b.prefix {
            return self.beats_by_key(a.input, b.input);
        }
        a.prefix < b.prefix
    }

    /// Whether `a` comes before `b`, by the whole keys; of two rows of one key, the newer does.
    fn beats_by_key(&mut self, a: usize, b: usize) -> bool {
        let key = |input: usize| Some(self.inputs.get(input)?.rows.row()?.key);
        let order = match (key(a), key(b)) {
            (Some(a), Some(b)) if S::DESCENDING => b.cmp(a),
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => return true,
            (None, _) => return false,
        };
        if order == Ordering::Equal
            && let Some(older) = self.inputs.get_mut(a.max(b))
        {
            older.repeats = true;
        }
        order.then(a.cmp(&b)) == Ordering::Less
    }
}

impl Contender {
    #[inline]
    fn of<S: SortedRows>(input: usize, from: &Input<S>) -> Self {
        let prefix = match from.rows.row() {
            Some(row) if S::DESCENDING => !first_bytes(row.key),
            Some(row) => first_bytes(row.key),
            None => u64::MAX,
        };
        Contender { prefix, input }
    }
}

/// The first eight bytes as a number that sorts as they do, with zeros behind a shorter key.
#[inline]
fn first_bytes(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(first) => u64::from_be_bytes(*first),
        None => key
            .iter()
            .zip([56, 48, 40, 32, 24, 16, 8])
            .fold(0, |prefix, (byte, shift)| {
                prefix | u64::from(*byte) << shift
            }),
    }
}

/// Writes all that a merge gives, in one pass: each row to the writer that `route` names for it and the hash of its key,
/// as when a fragment divides, or for each band one. Returns how many rows.
///
/// # Errors
/// What reading and writing may end in, and [`Error::Usage`](crate::Error::Usage) where no such writer is.
pub fn write_merged<S: SortedRows>(
    merge: &mut Merge<S>,
    writers: &mut [DeltaFileWriter],
    hash_of: impl Fn(&[u8]) -> u64,
    route: impl Fn(MergedRow<'_>, u64) -> usize,
) -> Result<u64> {
    let mut row_count = 0;
    while merge.next_row()?.is_some() {
        let location = merge.location()?;
        let Some(merged) = merge.row() else { break };
        let hash = hash_of(merged.row.key);
        let to = route(merged, hash);
        let writer = writers.get_mut(to).ok_or_else(|| {
            crate::error::Error::Usage(format!("a row goes to writer {to}, which is not there"))
        })?;
        writer.push(merged.row, hash, location)?;
        row_count += 1;
    }
    Ok(row_count)
}
