//! Rows of a load on their way into the tree: they are written to the fragments that they belong to, and an edit of
//! a flush takes them in, behind all rows that were committed before.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Take;
use crate::background::flush::{OutputFile, shared_write_size_bytes};
use crate::codec::key::hash_key;
use crate::error::Result;
use crate::row_set::index::HashSpill;
use crate::row_set::meta::RowSetHead;
use crate::row_set::spill::Spill;
use crate::sharding::Sharding;
use crate::shared::Shared;
use crate::sync::Mutex;
use crate::tree::files::HeldRowSet;
use crate::tree::fragment::{Division, FragmentId, FragmentTree};
use crate::tree::growth::TreeSizes;
use crate::tree::loaded::{LoadedExport, LoadedRows};

/// Most fragments that are written side by side, each to a file of its own. A larger load leaves fragments that divide
/// later.
const FRAGMENTS_MAX: usize = 256;
/// What a row costs in memory until its RowSet ends.
const INDEX_BYTES_PER_ROW: u64 = 8;
/// So many hashes are worth to be put aside.
const HASHES_MIN: usize = 64;

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

impl<'s> Placing<'s> {
    /// Places rows of so many bytes in the tree as it is now, which is divided for them if the table is empty.
    pub(crate) fn in_leaves(shared: &'s Shared, table_id: u32, size_bytes: u64) -> Self {
        let tree = shared.tree_of(table_id);
        let mut tree = tree.map_or_else(FragmentTree::default, |tree| tree.fragments.clone());
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
    /// It is called again for other fragments where there are more than can be written side by side, and answers the export that
    /// takes effect with the rows.
    pub(super) fn write(
        self,
        row_count: u64,
        memory_size_bytes: u64,
        mut read: impl FnMut(Take<'_>) -> Result<Option<LoadedExport>>,
    ) -> Result<LoadedRows> {
        let passes = self.fragment_count().div_ceil(FRAGMENTS_MAX).max(1) as u64;
        let files = self.fragment_count().div_ceil(passes as usize);
        let write_size_bytes = shared_write_size_bytes(self.shared, files);
        let spill = self.spill(row_count, memory_size_bytes, files);
        let mut loaded = LoadedRows {
            table_id: self.table_id,
            divisions: self.divisions.clone(),
            row_sets: Vec::new(),
            export: None,
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
                        let file = OutputFile::new(self.shared, write_size_bytes);
                        let mut file = file.spill_hashes(spill.clone());
                        file.begin(self.head(id));
                        place.insert(file)
                    }
                };
                file.push(row, hash)
            });
            let written = written.map(|export| loaded.export = export);
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

    /// Where the hashes of rows go that a share of the memory does not hold, if so.
    fn spill(&self, row_count: u64, memory_size_bytes: u64, files: usize) -> Option<HashSpill> {
        let hashes_max = memory_size_bytes / INDEX_BYTES_PER_ROW;
        if row_count <= hashes_max {
            return None;
        }
        let name = format!("load-hashes-{}", self.table_id);
        let path = self.shared.store.folder.join(name);
        Some(HashSpill {
            spill: Arc::new(Spill::new(self.shared.io.clone(), path)),
            hashes_max: (hashes_max as usize / files).max(HASHES_MIN),
        })
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
