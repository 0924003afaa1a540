//! Rows of a bulk load on their way into the tree: they are written to the fragments that they belong to, and an edit of
//! a flush takes them in, behind all rows that were committed before.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::edit::Change;
use super::files::HeldRowSet;
use super::flush::{OutputFile, shared_write_size_bytes};
use super::fragment::{Division, Fragment, FragmentId, FragmentTree};
use super::state::Described;
use super::store::{HeldState, TreeStore};
use crate::codec::key::hash_key;
use crate::error::{Error, Result};
use crate::row_set::meta::RowSetHead;
use crate::row_set::rows_page::RowRef;
use crate::sharding::Sharding;
use crate::shared::{Shared, TreeSizes};

/// Most fragments that are written side by side, each to a file of its own. A larger load leaves fragments that divide
/// later.
const FRAGMENTS_MAX: usize = 256;
/// What a row costs in memory until its RowSet ends.
const INDEX_BYTES_PER_ROW: u64 = 8;

/// RowSets that a bulk load wrote. Their heads name no commit sequence.
#[derive(Debug)]
pub(crate) struct LoadedRows {
    table_id: u32,
    /// Of fragments without rows, before the RowSets come.
    divisions: Vec<(FragmentId, Division)>,
    row_sets: Vec<Arc<HeldRowSet>>,
    outcome: Mutex<Outcome>,
}

/// What became of a bulk load.
#[derive(Debug, Default)]
enum Outcome {
    #[default]
    Open,
    /// The tree has taken it.
    Taken,
    /// The tree has changed, so that it does not fit any more.
    Refused,
    /// The flush that was to take it in found no space.
    GivenUp(Error),
}

/// Where rows of a bulk load go.
pub(crate) struct Placing<'s> {
    shared: &'s Shared,
    table_id: u32,
    /// The table's tree as it will be.
    tree: FragmentTree<Arc<HeldRowSet>>,
    divisions: Vec<(FragmentId, Division)>,
    /// Whether all rows go to the root, where they always may: nothing lies above it.
    to_root: bool,
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
    pub(super) fn decide(&self, fits: bool) -> bool {
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
    pub(super) fn undecide(&self, error: &Error) {
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
pub(super) fn fits(
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

impl<'s> Placing<'s> {
    /// Places rows of so many bytes in the tree as it is now, which is divided for them if the table is empty.
    pub(crate) fn in_leaves(shared: &'s Shared, table_id: u32, size_bytes: u64) -> Self {
        let table = shared.table_state(table_id);
        let trees = table.map(|table| table.trees.load_full());
        let mut tree =
            trees.map_or_else(FragmentTree::default, |trees| trees.rows.fragments.clone());
        let root = tree.root();
        let is_empty = root.children.is_none() && root.row_sets.is_empty();
        // Where a range of keys is to be divided is known once its rows are there.
        let divisions = if is_empty && !matches!(tree.sharding(), Sharding::Range) {
            divisions(size_bytes, &shared.tree_sizes)
        } else {
            Vec::new()
        };
        for (id, division) in &divisions {
            tree = tree.divided(*id, division).unwrap_or(tree);
        }
        Placing {
            shared,
            table_id,
            tree,
            divisions,
            to_root: false,
        }
    }

    /// Places all rows in the root.
    pub(crate) fn in_root(shared: &'s Shared, table_id: u32) -> Self {
        Placing {
            shared,
            table_id,
            tree: FragmentTree::default(),
            divisions: Vec::new(),
            to_root: true,
        }
    }

    /// The fragment of a row: the first on its path that holds rows, or else the leaf.
    fn fragment_of(&self, hash: u64, key: &[u8]) -> FragmentId {
        if self.to_root {
            return FragmentId::ROOT;
        }
        let mut target = FragmentId::ROOT;
        for fragment in self.tree.path(hash, key) {
            target = fragment.id;
            if !fragment.row_sets.is_empty() {
                break;
            }
        }
        target
    }

    /// How many fragments rows may go to.
    fn fragment_count(&self) -> usize {
        self.tree.fragments().len()
    }

    /// Writes rows, which `read` hands out in key order, each key once, as often as it is called.
    ///
    /// It is called again for other fragments where the indexes of all would not fit the memory.
    pub(crate) fn write(
        self,
        row_count: u64,
        memory_size_bytes: u64,
        mut read: impl FnMut(&mut dyn FnMut(RowRef<'_>) -> Result<()>) -> Result<()>,
    ) -> Result<LoadedRows> {
        let index_bytes = row_count.saturating_mul(INDEX_BYTES_PER_ROW);
        let passes = index_bytes
            .div_ceil(memory_size_bytes.max(1))
            .max(self.fragment_count().div_ceil(FRAGMENTS_MAX) as u64)
            .clamp(1, self.fragment_count() as u64);
        let write_size_bytes =
            shared_write_size_bytes(self.shared, self.fragment_count().div_ceil(passes as usize));
        let mut loaded = LoadedRows {
            table_id: self.table_id,
            divisions: self.divisions.clone(),
            row_sets: Vec::new(),
            outcome: Mutex::default(),
        };
        for pass in 0..passes {
            let mut files = BTreeMap::new();
            let written = read(&mut |row| {
                let hash = hash_key(row.key);
                let id = self.fragment_of(hash, row.key);
                if passes > 1 && id.0 % passes != pass {
                    return Ok(());
                }
                let file = match files.entry(id) {
                    std::collections::btree_map::Entry::Occupied(file) => file.into_mut(),
                    std::collections::btree_map::Entry::Vacant(place) => {
                        let mut file = OutputFile::new(self.shared, write_size_bytes);
                        file.begin(self.head(id))?;
                        place.insert(file)
                    }
                };
                file.push(row, hash)
            });
            let finished = finish(written, files.into_values());
            match finished {
                Ok(row_sets) => loaded.row_sets.extend(row_sets),
                Err(error) => {
                    loaded.retire();
                    return Err(error);
                }
            }
        }
        Ok(loaded)
    }

    fn head(&self, id: FragmentId) -> RowSetHead {
        RowSetHead {
            table_id: self.table_id,
            fragment_id: id.0,
            seq_from: 0,
            seq_to: 0,
        }
    }
}

/// Makes files durable, or removes them.
fn finish<'s>(
    written: Result<()>,
    files: impl Iterator<Item = OutputFile<'s>>,
) -> Result<Vec<Arc<HeldRowSet>>> {
    let mut row_sets: Vec<Arc<HeldRowSet>> = Vec::new();
    let mut failed = written.err();
    for mut file in files {
        if failed.is_some() {
            file.discard();
            continue;
        }
        match file.end() {
            Err(error) => {
                failed = Some(error);
                file.discard();
            }
            Ok(()) => match file.finish() {
                Ok(finished) => row_sets.extend(finished),
                Err(error) => failed = Some(error),
            },
        }
    }
    match failed {
        None => Ok(row_sets),
        Some(error) => {
            row_sets.iter().for_each(|held| held.file.retire());
            Err(error)
        }
    }
}

/// The divisions of an empty table that is to hold so many bytes, each before those of its children.
fn divisions(size_bytes: u64, sizes: &TreeSizes) -> Vec<(FragmentId, Division)> {
    // The P-Size of a leaf may be as small as that.
    let leaf_size_bytes_max = sizes.fragment_size_bytes_max - sizes.fragment_size_bytes_max / 4;
    let bits = sizes.child_bits;
    let mut leaves = vec![FragmentId::ROOT];
    let mut divisions = Vec::new();
    while size_bytes / leaves.len() as u64 > leaf_size_bytes_max
        && leaves.len() << bits <= FRAGMENTS_MAX
    {
        let mut children = Vec::with_capacity(leaves.len() << bits);
        for id in leaves {
            let division = Division::Hash { bits };
            children.extend(division.child_ids(id));
            divisions.push((id, division));
        }
        leaves = children;
    }
    divisions
}
