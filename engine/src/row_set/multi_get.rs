//! Many keys at once.
//!
//! A single get waits for memory four times: for the slot, the line of the index, the page, the row. Here a group of keys
//! takes each step together, and the loads of a step don't depend on each other, so that the processor has them under way
//! at the same time. No step both loads and locks: a locked instruction (a guard takes one) waits for earlier loads.

use std::hint::black_box;

use crate::error::Result;

use super::cached_page::PageGuard;
use super::index::{LINES_PER_PAGE, Probe};
use super::reader::{ReadParts, RowSet};
use super::rows_page::RowRef;

/// Keys that take each step together: as many as a thread can hold guards without counting references.
pub(crate) const GROUP_SIZE: usize = 8;

/// A key to look up, with its hash.
#[derive(Clone, Copy, Debug, Default)]
pub struct HashedKey<'a> {
    /// The hash of the key.
    pub hash: u64,
    /// The encoded primary key.
    pub key: &'a [u8],
}

/// What a group of keys knows after a step.
#[derive(Default)]
struct Step {
    probe: Probe,
    index_page: Option<PageGuard>,
    ordinal: Option<u32>,
    rows_page: Option<(PageGuard, u32)>,
    /// Whether the first candidate does not settle it.
    undecided: bool,
}

impl RowSet {
    /// Looks up many keys and calls `found` for each that is here, with its place in `keys` and its row, in no order.
    ///
    /// # Errors
    /// As [`get`](Self::get). Some keys may have been found before.
    pub fn multi_get(
        &self,
        keys: &[HashedKey<'_>],
        mut found: impl FnMut(usize, RowRef<'_>),
    ) -> Result<()> {
        let mut start = 0;
        for group in keys.chunks(GROUP_SIZE) {
            let mut questions = [None; GROUP_SIZE];
            for (question, key) in questions.iter_mut().zip(group) {
                *question = Some((self, *key));
            }
            get_group(&questions, |i, row| found(start + i, row))?;
            start += group.len();
        }
        Ok(())
    }

    /// Calls `each` with the place of a hash and an ordinal that it may have here, for all of them, in no order. Reads
    /// pages of the index only. What it does not name is not here; what it names is, but for one in 8,000 or so.
    ///
    /// # Errors
    /// As [`get`](Self::get). Some may have been named before.
    pub fn candidates(&self, hashes: &[u64], mut each: impl FnMut(usize, u32)) -> Result<()> {
        let parts = self.parts();
        let mut start = 0;
        for group in hashes.chunks(GROUP_SIZE) {
            let mut steps: [Step; GROUP_SIZE] = Default::default();
            for (step, hash) in steps.iter_mut().zip(group) {
                step.probe = parts.probe(*hash);
                step.index_page = Some(parts.index_page(step.probe)?);
            }
            touch(steps.iter().map(Step::touch_line));
            for (i, (step, hash)) in (start..).zip(steps.iter_mut().zip(group)) {
                step.look_up();
                if step.undecided {
                    parts.candidates(*hash, |ordinal| each(i, ordinal))?;
                } else if let Some(ordinal) = step.ordinal {
                    each(i, ordinal);
                }
            }
            parts.count_lookups(group.len() as u64, 0);
            start += group.len();
        }
        Ok(())
    }
}

/// A key and the RowSet that is asked for it.
pub(crate) type Question<'a> = (&'a RowSet, HashedKey<'a>);

/// Looks up a group of keys, each in a RowSet; calls `found` with the place in `questions` and the row of each that is
/// there, in no order.
pub(crate) fn get_group(
    questions: &[Option<Question<'_>>; GROUP_SIZE],
    mut found: impl FnMut(usize, RowRef<'_>),
) -> Result<()> {
    let mut steps: [Step; GROUP_SIZE] = Default::default();
    for (step, question) in steps.iter_mut().zip(questions) {
        if let Some((row_set, key)) = question {
            step.probe = row_set.parts().probe(key.hash);
            step.index_page = Some(row_set.parts().index_page(step.probe)?);
        }
    }
    touch(steps.iter().map(Step::touch_line));
    for step in &mut steps {
        step.look_up();
    }
    for (step, question) in steps.iter_mut().zip(questions) {
        if let (Some(ordinal), Some((row_set, _))) = (step.ordinal, question) {
            step.rows_page = Some(row_set.parts().rows_page_unchecked(ordinal)?);
        }
    }
    let asked = steps.iter().zip(questions.iter().flatten());
    touch(asked.map(|(step, (row_set, _))| step.touch_row(row_set.parts())));
    for (i, (step, question)) in steps.iter().zip(questions).enumerate() {
        let Some((row_set, key)) = question else {
            continue;
        };
        let parts = row_set.parts();
        parts.count_lookups(1, step.rows_page.is_some().into());
        if let Some((page, _)) = &step.rows_page {
            page.mark_used();
        }
        let row = step
            .rows_page
            .as_ref()
            .and_then(|(page, slot)| parts.rows_of(page).get(*slot as usize));
        match row {
            Some(row) if row.key == key.key => found(i, row),
            _ if step.undecided => {
                if let Some(row) = row_set.get(key.hash, key.key)? {
                    found(i, row.row());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

impl Step {
    #[inline]
    fn line(&self) -> Option<&super::index::Line> {
        self.index_page
            .as_ref()?
            .line(self.probe.line as usize % LINES_PER_PAGE)
    }

    #[inline]
    fn touch_line(&self) -> u8 {
        self.line().map_or(0, |line| line[0])
    }

    /// Takes the first candidate, and lets the page of the index go.
    fn look_up(&mut self) {
        if let Some(page) = &self.index_page {
            page.mark_used();
        }
        if let Some(line) = self.line() {
            let mut matches = self.probe.matches(line);
            let ordinal = matches.next_ordinal(line);
            self.undecided = !matches.is_empty() || matches.go_on;
            self.ordinal = ordinal;
        }
        self.index_page = None;
    }

    #[inline]
    fn touch_row(&self, parts: ReadParts<'_>) -> u8 {
        self.rows_page
            .as_ref()
            .map_or(0, |(page, slot)| parts.rows_of(page).touch(*slot as usize))
    }
}

/// Has memory loaded by using a byte of each place.
#[inline]
fn touch(bytes: impl Iterator<Item = u8>) {
    black_box(bytes.fold(0, |sum, byte| sum ^ byte));
}
