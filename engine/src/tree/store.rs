//! The state of the tree on disk and in memory, moved on by one edit at a time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use super::edit::{Change, decode_edit, encode_edit};
use super::edit_log::{EditLog, Replayed};
use super::files::{HeldFile, HeldRowSet, delta_files};
use super::state::{Described, TreeState};
use crate::cache::table::{TableState, Trees};
use crate::codec::Malformed;
use crate::error::{Error, Result};
use crate::generation::LOCATIONS_BIT;
use crate::io::Io;
use crate::row_set::file::{DeltaFile, delta_file_path};
use crate::row_set::meta::RowSetMeta;
use crate::row_set::page_cache::PageCache;
use crate::row_set::patch::RowSetPlace;
use crate::row_set::reader::RowSet;

/// The state of a database below level 0.
pub(crate) type HeldState = TreeState<Arc<HeldRowSet>>;

/// Delta files that are open, by number. No number is ever given to another file.
pub(crate) type HeldFiles = HashMap<u64, Arc<HeldFile>>;

/// Makes edits, one at a time.
#[derive(Debug)]
pub(crate) struct TreeStore {
    pub(crate) folder: PathBuf,
    pub(crate) database_id: Uuid,
    pub(crate) cache: Arc<PageCache>,
    /// `None` in a database that is read-only.
    writer: Mutex<Option<Writer>>,
    next_file_number: AtomicU64,
    /// The most RowSets that a fragment of any table has.
    row_sets_max: AtomicU64,
}

#[derive(Debug)]
struct Writer {
    log: EditLog,
    state: HeldState,
    /// How many RowSets of the trees, and patches of them, lie in a file.
    uses_by_file: HashMap<u64, usize>,
}

impl TreeStore {
    pub(crate) fn new(folder: PathBuf, database_id: Uuid, cache: Arc<PageCache>) -> Self {
        TreeStore {
            folder,
            database_id,
            cache,
            writer: Mutex::default(),
            next_file_number: AtomicU64::new(1),
            row_sets_max: AtomicU64::new(0),
        }
    }

    /// The state that edits lead to, with its files open. Those that are open already are given, and more are added.
    pub(crate) fn load(
        &self,
        io: &Arc<dyn Io>,
        replayed: &Replayed,
        files: &mut HeldFiles,
    ) -> Result<HeldState> {
        let corrupt = |malformed: Malformed| Error::Corrupt {
            path: replayed.path().to_owned(),
            offset: 0,
            reason: malformed.0.to_owned(),
        };
        let mut state = TreeState::<Arc<RowSetMeta>>::default();
        for edit in &replayed.edits {
            for change in decode_edit(edit).map_err(corrupt)? {
                state.apply(change).map_err(corrupt)?;
            }
        }
        let mut held = HeldState::default();
        for change in state.changes() {
            let change = change.map(|meta| self.open(io, files, &meta))?;
            held.apply(change).map_err(corrupt)?;
        }
        Ok(held)
    }

    fn open(
        &self,
        io: &Arc<dyn Io>,
        files: &mut HeldFiles,
        meta: &RowSetMeta,
    ) -> Result<Arc<HeldRowSet>> {
        let file = self.open_file(io, files, meta.file_number)?;
        let patch_file = meta.patch.as_ref();
        let patch_file = patch_file.map(|patch| self.open_file(io, files, patch.file_number));
        Ok(Arc::new(HeldRowSet {
            row_set: RowSet::open(meta.clone(), file.file.clone(), &self.cache)?,
            file,
            patch_file: patch_file.transpose()?,
        }))
    }

    fn open_file(
        &self,
        io: &Arc<dyn Io>,
        files: &mut HeldFiles,
        number: u64,
    ) -> Result<Arc<HeldFile>> {
        if let Some(file) = files.get(&number) {
            return Ok(file.clone());
        }
        let path = delta_file_path(&self.folder, number);
        let opened = DeltaFile::open(&**io, &path, self.database_id, number);
        let opened = opened.map_err(|error| missing(&path, error))?;
        let file = HeldFile::new(opened, io.clone());
        files.insert(number, file.clone());
        Ok(file)
    }

    /// A RowSet, as yet without a patch, of a file that is open.
    pub(crate) fn hold(&self, meta: RowSetMeta, file: &Arc<HeldFile>) -> Result<Arc<HeldRowSet>> {
        Ok(Arc::new(HeldRowSet {
            row_set: RowSet::open(meta, file.file.clone(), &self.cache)?,
            file: file.clone(),
            patch_file: None,
        }))
    }

    /// Begins to write where a state that was loaded ends; removes the delta files that it does not name.
    pub(crate) fn resume(&self, io: &Arc<dyn Io>, log: EditLog, state: HeldState) -> Result<()> {
        let mut uses_by_file = HashMap::new();
        for row_set in state.row_sets() {
            for number in files_of(row_set.meta()) {
                *uses_by_file.entry(number).or_default() += 1;
            }
        }
        for (number, path) in delta_files(&**io, &self.folder)? {
            if !uses_by_file.contains_key(&number) {
                io.remove(&path)
                    .map_err(|source| Error::io("remove", &path, source))?;
            }
        }
        self.next_file_number
            .store(state.next_file_number, Ordering::Relaxed);
        *self.writer.lock() = Some(Writer {
            log,
            state,
            uses_by_file,
        });
        Ok(())
    }

    /// The most RowSets that a fragment of any table has, since the last edit.
    pub(crate) fn row_sets_max(&self) -> u64 {
        self.row_sets_max.load(Ordering::Relaxed)
    }

    /// A number that no delta file has had.
    pub(crate) fn next_file_number(&self) -> u64 {
        self.next_file_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes changes durable as one edit, then shows readers the new trees.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing changed. [`Error::Io`] as the system answers; whether the edit counts is then open until
    /// the next start.
    pub(crate) fn commit(
        &self,
        tables: &RwLock<Vec<Arc<TableState>>>,
        make: impl FnOnce(&HeldState) -> Vec<Change<Arc<HeldRowSet>>>,
    ) -> Result<()> {
        let mut writer = self.writer.lock();
        let Some(writer) = writer.as_mut() else {
            return Err(Error::Usage("the database is open read-only".into()));
        };
        let mut changes = make(&writer.state);
        changes.insert(
            0,
            Change::NextFile(self.next_file_number.load(Ordering::Relaxed)),
        );
        let edit = encode_edit(&changes);
        let mut state = writer.state.clone();
        for change in &changes {
            state.apply(change.clone()).map_err(|malformed| {
                Error::Usage(format!("an edit of our own is malformed: {}", malformed.0))
            })?;
        }
        writer.log.append(&edit)?;
        let before = std::mem::replace(&mut writer.state, state);
        let row_sets_max = publish(&writer.state, &changes, tables);
        self.row_sets_max.store(row_sets_max, Ordering::Relaxed);
        writer.retire_files(&before, &changes);
        if writer.log.is_outgrown() {
            match writer.log.restate(&encode_edit(&writer.state.changes())) {
                // The edit counts in the file that there is; the next one tries again.
                Err(error @ Error::NoSpace { .. }) => {
                    tracing::warn!(%error, "the log of edits can't be shortened");
                }
                restated => restated?,
            }
        }
        Ok(())
    }
}

impl Writer {
    /// Counts the uses of files; a file without any goes with its last reader.
    fn retire_files(&mut self, before: &HeldState, changes: &[Change<Arc<HeldRowSet>>]) {
        for change in changes {
            if let Change::Add(row_set) = change {
                for number in files_of(row_set.meta()) {
                    *self.uses_by_file.entry(number).or_default() += 1;
                }
            }
        }
        for row_set in changes.iter().filter_map(|change| removed(before, change)) {
            let files = [Some(&row_set.file), row_set.patch_file.as_ref()];
            for file in files.into_iter().flatten() {
                let number = file.file.file_number();
                if let Some(count) = self.uses_by_file.get_mut(&number) {
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        file.retire();
                        self.uses_by_file.remove(&number);
                    }
                }
            }
        }
    }
}

/// The RowSet that a change takes away.
fn removed<'s>(
    before: &'s HeldState,
    change: &Change<Arc<HeldRowSet>>,
) -> Option<&'s Arc<HeldRowSet>> {
    let Change::Remove {
        table_id,
        fragment_id,
        file_number,
        offset,
    } = *change
    else {
        return None;
    };
    let place = RowSetPlace {
        file_number,
        offset,
    };
    let fragments = &before.tree(table_id)?.fragments;
    let row_sets = &fragments.fragment(fragment_id)?.row_sets;
    row_sets.iter().find(|held| held.meta().place() == place)
}

/// The delta files that a RowSet needs: its own, and that of its patch. One file may count twice.
fn files_of(meta: &RowSetMeta) -> impl Iterator<Item = u64> {
    let patch = meta.patch.as_ref().map(|patch| patch.file_number);
    [Some(meta.file_number), patch].into_iter().flatten()
}

/// Shows readers the trees that an edit touched. Returns the most RowSets that a fragment of any table has.
fn publish(
    state: &HeldState,
    changes: &[Change<Arc<HeldRowSet>>],
    tables: &RwLock<Vec<Arc<TableState>>>,
) -> u64 {
    let mut touched: Vec<u32> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Add(row_set) => Some(row_set.meta().head.table_id),
            Change::Remove { table_id, .. }
            | Change::Divide { table_id, .. }
            | Change::Truncates { table_id, .. }
            | Change::Deletes { table_id, .. } => Some(*table_id),
            _ => None,
        })
        .map(|table_id| table_id & !LOCATIONS_BIT)
        .collect();
    touched.sort_unstable();
    touched.dedup();
    let tables = tables.read();
    for table_id in touched {
        let i = table_id as usize;
        if let (Some(table), Some(entry)) = (tables.get(i), state.tables.get(i)) {
            let fragments = entry.rows.fragments.fragments().into_iter();
            let row_sets_max = fragments
                .map(|fragment| fragment.row_sets.len() as u64)
                .max();
            table
                .row_sets_max
                .store(row_sets_max.unwrap_or(0), Ordering::Relaxed);
            table.trees.store(Arc::new(Trees {
                rows: entry.rows.clone(),
                locations: entry.locations.clone(),
            }));
        }
    }
    let counts = tables
        .iter()
        .map(|table| table.row_sets_max.load(Ordering::Relaxed));
    counts.max().unwrap_or(0)
}

/// A file that the edits name and that is not there was lost.
fn missing(path: &Path, error: Error) -> Error {
    match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Error::Corrupt {
                path: path.to_owned(),
                offset: 0,
                reason: "the file is missing".into(),
            }
        }
        other => other,
    }
}
