//! What a bulk load wrote, until the tree takes it in or it is given up.

use std::sync::Arc;

use super::edit::Change;
use super::files::HeldRowSet;
use super::fragment::{Division, Fragment, FragmentId};
use super::state::Described;
use super::store::{HeldState, TreeStore};
use super::table::TableState;
use crate::error::{Error, Result};
use crate::exported::files::Exports;
use crate::sync::Mutex;

/// RowSets that a bulk load wrote. Their heads name no commit sequence.
#[derive(Debug)]
pub(crate) struct LoadedRows {
    pub(crate) table_id: u32,
    /// Of fragments without rows, before the RowSets come.
    pub(crate) divisions: Vec<(FragmentId, Division)>,
    pub(crate) row_sets: Vec<Arc<HeldRowSet>>,
    /// The export whose locations the rows are.
    pub(crate) export: Option<LoadedExport>,
    pub(crate) outcome: Mutex<Outcome>,
}

/// An export of a table whose rows get their locations by a load, and take effect with them.
#[derive(Clone, Debug)]
pub(crate) struct LoadedExport {
    pub(crate) table: Arc<TableState>,
    /// What the table's exports become.
    pub(crate) exports: Arc<Exports>,
}

/// What became of a bulk load.
#[derive(Debug, Default)]
pub(crate) enum Outcome {
    #[default]
    Open,
    /// The tree has taken it.
    Taken,
    /// The tree has changed, so that it does not fit any more.
    Refused,
    /// The flush that was to take it in found no space.
    GivenUp(Error),
}

impl LoadedRows {
    /// The changes that put the rows into the tree at a commit sequence of their own.
    pub(crate) fn at_seq(
        &self,
        store: &TreeStore,
        seq: u64,
    ) -> Result<Vec<Change<Arc<HeldRowSet>>>> {
        let divides = self.divisions.iter().map(|(fragment_id, division)| {
            Ok(Change::Divide {
                table_id: self.table_id,
                fragment_id: *fragment_id,
                division: division.clone(),
            })
        });
        let adds = self.row_sets.iter().map(|held| {
            let mut meta = held.meta().clone();
            (meta.head.seq_from, meta.head.seq_to) = (seq - 1, seq);
            store.hold(meta, &held.file).map(Change::Add)
        });
        divides.chain(adds).collect()
    }

    /// Settles whether an edit takes the rows in, which it can where they fit and were not given up; says so.
    pub(crate) fn decide(&self, fits: bool) -> bool {
        let mut outcome = self.outcome.lock();
        if matches!(*outcome, Outcome::Open) {
            *outcome = if fits {
                Outcome::Taken
            } else {
                Outcome::Refused
            };
        }
        matches!(*outcome, Outcome::Taken)
    }

    /// Takes that back, if the edit found no space. After any other error it may count.
    pub(crate) fn undecide(&self, error: &Error) {
        let mut outcome = self.outcome.lock();
        if matches!((&*outcome, error), (Outcome::Taken, Error::NoSpace { .. })) {
            *outcome = Outcome::Open;
        }
    }

    /// Gives the rows up for want of space; false if an edit is just taking them in.
    pub(crate) fn give_up(&self, error: &Error) -> bool {
        let mut outcome = self.outcome.lock();
        if matches!(*outcome, Outcome::Open)
            && let Some(error) = error.no_space()
        {
            *outcome = Outcome::GivenUp(error);
        }
        !matches!(*outcome, Outcome::Taken)
    }

    /// Whether the tree has taken the rows, once that is settled.
    ///
    /// # Errors
    /// [`Error::NoSpace`] if they were given up.
    pub(crate) fn is_taken(&self) -> Result<bool> {
        match &*self.outcome.lock() {
            Outcome::GivenUp(error) => Err(error
                .no_space()
                .unwrap_or(Error::Usage("a bulk load was given up".into()))),
            outcome => Ok(matches!(outcome, Outcome::Taken)),
        }
    }

    /// Has the files go with their last reader.
    pub(crate) fn retire(&self) {
        self.row_sets.iter().for_each(|held| held.file.retire());
    }
}

/// Whether the tree takes the rows of a bulk load behind other changes: their fragments are there, and no older row lies
/// above them, where it would be found first.
pub(crate) fn fits(
    state: &HeldState,
    changes: &[Change<Arc<HeldRowSet>>],
    loaded: &[Change<Arc<HeldRowSet>>],
) -> bool {
    let mut after = state.clone();
    after.next_file_number = u64::MAX;
    for change in changes.iter().chain(loaded) {
        if after.apply(change.clone()).is_err() {
            return false;
        }
    }
    loaded.iter().all(|change| {
        let Change::Add(held) = change else {
            return true;
        };
        let head = held.meta().head;
        let tree = after.tree(head.table_id);
        tree.is_some_and(|tree| {
            is_below_no_row(tree.fragments.root(), FragmentId(head.fragment_id))
        })
    })
}

/// Whether a fragment is there, with no row above it.
fn is_below_no_row(fragment: &Fragment<Arc<HeldRowSet>>, id: FragmentId) -> bool {
    if fragment.id == id {
        return true;
    }
    let Some(children) = &fragment.children else {
        return false;
    };
    let mut children = children.fragments.iter();
    fragment.row_sets.is_empty() && children.any(|child| is_below_no_row(child, id))
}
