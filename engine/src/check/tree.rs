//! The edits, the RowSets that they name, and the files of those.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use super::Checking;
use crate::codec::key::hash_key;
use crate::error::{Error, Result};
use crate::exported::location::RowLocation;
use crate::generation::LOCATIONS_BIT;
use crate::parallel;
use crate::recovery::tree_folder;
use crate::row_set::budget::MemoryBudget;
use crate::row_set::check::{check_patch, check_row_set};
use crate::row_set::file::{DeltaFile, delta_file_path};
use crate::row_set::meta::RowSetMeta;
use crate::row_set::page_cache::PageCache;
use crate::row_set::patch::RowSetPlace;
use crate::row_set::reader::RowSet;
use crate::tree::edit_log::{Replayed, replay_edits};
use crate::tree::files::delta_files;
use crate::tree::fragment::{Fragment, FragmentId};
use crate::tree::state::{TableTree, TreeState};
use crate::tree::store::state_of;

/// The state that the edits lead to, without files.
pub(super) type NamedState = TreeState<Arc<RowSetMeta>>;

/// Memory for pages of two RowSets while a patch is checked.
const CACHE_SIZE_BYTES: u64 = 16 << 20;
/// Bytes read at once.
const READ_SIZE_BYTES: usize = 1 << 20;

/// A RowSet to check, and what it is checked against.
struct Task<'a> {
    table_id: u32,
    meta: &'a Arc<RowSetMeta>,
    tree: &'a TableTree<Arc<RowSetMeta>>,
    /// Files that the table was exported to have numbers below it.
    export_file_count: u32,
}

/// Delta files that can be read.
type OpenFiles = HashMap<u64, Arc<DeltaFile>>;

impl Checking<'_> {
    /// Reads the edits; `None` of a database that has none yet.
    pub(super) fn edits(&self) -> Result<Option<Replayed>> {
        if !self.has_tree {
            return Ok(None);
        }
        let tree_folder = tree_folder(self.folder);
        let replayed = replay_edits(&**self.io, &tree_folder, self.database_id, false)?;
        match replayed {
            Some(replayed) => Ok(Some(replayed)),
            None => Err(Error::Corrupt {
                path: tree_folder,
                offset: 0,
                reason: "the log of edits is missing".into(),
            }),
        }
    }

    /// Which edits those are.
    pub(super) fn version_of(edits: &Option<Replayed>) -> Option<(PathBuf, usize)> {
        let edits = edits.as_ref()?;
        Some((edits.path().to_owned(), edits.edits.len()))
    }

    pub(super) fn version(&self) -> Option<(PathBuf, usize)> {
        Self::version_of(&self.edits().ok()?)
    }

    /// Checks all that the edits name; the state is empty where they can't be read.
    pub(super) fn check_tree(&self, edits: &Result<Option<Replayed>>) -> Result<NamedState> {
        let state = match edits {
            Ok(Some(replayed)) => {
                let mut found = self.found.lock();
                found.edits = replayed.edits.len() as u64;
                found.checked_bytes += replayed.len_bytes();
                drop(found);
                state_of(replayed)
            }
            Ok(None) => return Ok(NamedState::default()),
            Err(error) => Err(Error::Corrupt {
                path: tree_folder(self.folder),
                offset: 0,
                reason: format!("which RowSets there are is not known: {error}"),
            }),
        };
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                if let Err(Error::Corrupt {
                    path,
                    offset,
                    reason,
                }) = edits
                {
                    self.note(Error::Corrupt {
                        path: path.clone(),
                        offset: *offset,
                        reason: reason.clone(),
                    });
                }
                self.note(error);
                return Ok(NamedState::default());
            }
        };
        self.check_state(&state)?;
        Ok(state)
    }

    fn check_state(&self, state: &NamedState) -> Result<()> {
        let mut tasks = Vec::new();
        for (table_id, table) in (0..).zip(&state.tables) {
            let export_file_count = table.exports.next_number();
            for (table_id, tree) in [
                (table_id, &table.rows),
                (table_id | LOCATIONS_BIT, &table.locations),
            ] {
                for (meta, reason) in out_of_place(tree.fragments.root(), u64::MAX) {
                    self.note(self.misplaced(meta, reason));
                }
                for fragment in tree.fragments.fragments() {
                    self.found.lock().fragments += 1;
                    tasks.extend(fragment.row_sets.iter().map(|meta| Task {
                        table_id,
                        meta,
                        tree,
                        export_file_count,
                    }));
                }
            }
        }
        let files = self.open_files(state)?;
        {
            let mut found = self.found.lock();
            found.tables = state.tables.len() as u64;
            found.row_sets = tasks.len() as u64;
            found.delta_files = files.len() as u64;
        }
        let threads = self.layout.recovery_threads.as_usize();
        parallel::map(&tasks, threads, |task| {
            if let Err(error) = self.check_task(task, &files) {
                self.note(error);
            }
        });
        Ok(())
    }

    fn misplaced(&self, meta: &RowSetMeta, reason: &str) -> Error {
        Error::Corrupt {
            path: delta_file_path(&tree_folder(self.folder), meta.file_number),
            offset: meta.offset,
            reason: format!("the edits place a RowSet wrongly: {reason}"),
        }
    }

    /// Opens the files that are named; notes those that are missing, and those that nobody names.
    fn open_files(&self, state: &NamedState) -> Result<OpenFiles> {
        let folder = tree_folder(self.folder);
        let mut named: BTreeMap<u64, u64> = BTreeMap::new();
        for meta in state.row_sets() {
            *named.entry(meta.file_number).or_default() += meta.size_bytes;
            if let Some(patch) = &meta.patch {
                *named.entry(patch.file_number).or_default() += patch.size_bytes();
            }
        }
        let mut files = OpenFiles::new();
        for (&number, size_bytes) in &named {
            let path = delta_file_path(&folder, number);
            match DeltaFile::open(&**self.io, &path, self.database_id, number) {
                Ok(file) => {
                    self.found.lock().checked_bytes += size_bytes;
                    files.insert(number, file);
                }
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    self.note(Error::Corrupt {
                        path,
                        offset: 0,
                        reason: "the file is missing".into(),
                    });
                }
                Err(error) => self.note(error),
            }
        }
        let mut unnamed: Vec<PathBuf> = delta_files(&**self.io, &folder)?
            .into_iter()
            .filter(|(number, _)| !named.contains_key(number))
            .map(|(_, path)| path)
            .collect();
        unnamed.sort();
        self.found.lock().unnamed_files = unnamed;
        Ok(files)
    }

    fn check_task(&self, task: &Task<'_>, files: &OpenFiles) -> Result<()> {
        let Some(file) = files.get(&task.meta.file_number) else {
            // That it is missing was noted.
            return Ok(());
        };
        let misplaced = Cell::new(false);
        let fragment_id = FragmentId(task.meta.head.fragment_id);
        let hash_of = |key: &[u8]| {
            let hash = hash_key(key);
            let mut path = task.tree.fragments.path(hash, key);
            if !path.any(|fragment| fragment.id == fragment_id) {
                misplaced.set(true);
            }
            hash
        };
        check_row_set(task.meta, file, hash_of)?;
        self.found.lock().rows += task.meta.row_count;
        if misplaced.get() {
            return Err(file.corrupt(task.meta.offset, "a row belongs to another fragment"));
        }
        if task.table_id & LOCATIONS_BIT != 0 {
            check_locations(task, file)?;
        }
        self.check_patch(task, files, file)
    }

    fn check_patch(&self, task: &Task<'_>, files: &OpenFiles, file: &Arc<DeltaFile>) -> Result<()> {
        let Some(patch) = &task.meta.patch else {
            return Ok(());
        };
        let Some(patch_file) = files.get(&patch.file_number) else {
            return Ok(());
        };
        let cache = PageCache::new(MemoryBudget::new(CACHE_SIZE_BYTES));
        let newer = RowSet::open((**task.meta).clone(), file.clone(), &cache)?;
        for target in &patch.targets {
            let older = find(task, target.place);
            let older = older.and_then(|meta| Some((meta, files.get(&meta.file_number)?)));
            // One that is gone was merged with what replaced its rows.
            if let Some((meta, older_file)) = older {
                let older = RowSet::open((**meta).clone(), older_file.clone(), &cache)?;
                check_patch(&newer, patch, patch_file, &older, hash_key)?;
                self.found.lock().patched_rows += u64::from(target.ordinal_count);
            }
        }
        Ok(())
    }
}

/// RowSets of a fragment follow each other, and all of them are newer than what lies below it. Those that are not, and why;
/// `above` is where the commits of what lies above the fragment begin.
fn out_of_place(
    fragment: &Fragment<Arc<RowSetMeta>>,
    above: u64,
) -> Vec<(&Arc<RowSetMeta>, &'static str)> {
    let mut found = Vec::new();
    let mut below = above;
    for meta in fragment.row_sets.iter() {
        let head = meta.head;
        if head.seq_from >= head.seq_to || head.seq_to > below {
            found.push((meta, "its commits are not older than those before it"));
        }
        if FragmentId(head.fragment_id) != fragment.id {
            found.push((meta, "it names another fragment"));
        }
        below = below.min(head.seq_from);
    }
    let children = fragment.children.iter().flat_map(|c| c.fragments.iter());
    found.extend(children.flat_map(|child| out_of_place(child, below)));
    found
}

fn find<'a>(task: &Task<'a>, place: RowSetPlace) -> Option<&'a Arc<RowSetMeta>> {
    let id = FragmentId(task.meta.head.fragment_id);
    let row_sets = &task.tree.fragments.fragment(id)?.row_sets;
    row_sets.iter().find(|meta| meta.place() == place)
}

/// Each location names a file that the table was exported to.
fn check_locations(task: &Task<'_>, file: &Arc<DeltaFile>) -> Result<()> {
    let cache = PageCache::new(MemoryBudget::new(CACHE_SIZE_BYTES));
    let row_set = RowSet::open((**task.meta).clone(), file.clone(), &cache)?;
    let mut cursor = row_set.stream(READ_SIZE_BYTES);
    cursor.seek_first()?;
    while let Some(row) = cursor.row() {
        if let Some(value) = row.value {
            let named = RowLocation::decode(value).map(|location| location.file);
            if named.is_ok_and(|number| number < task.export_file_count) {
                cursor.advance()?;
                continue;
            }
            let reason = "a location names a file that the table was not exported to";
            return Err(file.corrupt(task.meta.offset, reason));
        }
        cursor.advance()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row_set::meta::RowSetHead;
    use crate::sharding::Sharding;
    use crate::tree::fragment::{Division, FragmentTree};

    /// The reasons found in a tree of a root, and below it two fragments of which the second one is divided once more; the
    /// RowSets of root, second child and the first of its children, newest first.
    fn reasons(
        root: &[(u64, u64)],
        child: &[(u64, u64)],
        leaf: &[(u64, u64)],
    ) -> Vec<&'static str> {
        let mut tree = FragmentTree::new(Sharding::WholeKey);
        let mut ids = vec![FragmentId::ROOT];
        for _ in 0..2 {
            let id = *ids.last().unwrap();
            tree = tree.divided(id, &Division::Hash { bits: 1 }).unwrap();
            let children = Division::Hash { bits: 1 }.child_ids(id);
            ids.push(*children.last().unwrap());
        }
        for (id, row_sets) in ids.into_iter().zip([root, child, leaf]) {
            let metas = row_sets.iter().map(|&(seq_from, seq_to)| {
                let head = RowSetHead {
                    fragment_id: id.0,
                    seq_from,
                    seq_to,
                    ..RowSetHead::default()
                };
                Arc::new(RowSetMeta {
                    head,
                    ..RowSetMeta::default()
                })
            });
            tree = tree.with_row_sets(id, metas.collect()).unwrap();
        }
        let found = out_of_place(tree.root(), u64::MAX);
        found.into_iter().map(|(_, reason)| reason).collect()
    }

    /// *Honest*: older commits above newer ones are named, within a fragment, right below one, and further down.
    #[test]
    fn commits_in_the_wrong_order_are_named() {
        let wrong = ["its commits are not older than those before it"];
        assert!(reasons(&[(20, 30), (10, 20)], &[(5, 9)], &[(4, 5), (0, 4)]).is_empty());
        assert!(reasons(&[], &[(5, 9)], &[(4, 5), (0, 4)]).is_empty());
        assert_eq!(reasons(&[(10, 20), (20, 30)], &[], &[]), wrong);
        assert_eq!(reasons(&[(10, 10)], &[], &[]), wrong);
        assert_eq!(reasons(&[(10, 20)], &[(9, 11)], &[]), wrong);
        assert_eq!(reasons(&[(10, 20)], &[], &[(9, 11)]), wrong);
        assert_eq!(reasons(&[(10, 20)], &[(8, 10)], &[(8, 9)]), wrong);
    }
    /// *Honest*: a RowSet that lies in another fragment than it says.
    #[test]
    fn a_row_set_of_another_fragment_is_named() {
        let head = RowSetHead {
            fragment_id: 2,
            seq_to: 1,
            ..RowSetHead::default()
        };
        let meta = Arc::new(RowSetMeta {
            head,
            ..RowSetMeta::default()
        });
        let tree = FragmentTree::new(Sharding::WholeKey);
        let tree = tree.with_row_sets(FragmentId::ROOT, [meta].into()).unwrap();
        let found = out_of_place(tree.root(), u64::MAX);
        let reasons: Vec<_> = found.into_iter().map(|(_, reason)| reason).collect();
        assert_eq!(reasons, ["it names another fragment"]);
    }
}
