//! The state of the tree on disk and in memory, moved on by one edit at a time.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

use super::edit::{Change, decode_edit, encode_edit};
use super::edit_log::{EditLog, Replayed};
use super::files::{HeldFile, HeldRowSet, delta_files, punch_hole};
use super::state::TreeState;
use crate::error::{Error, Result};
use crate::io::Io;
use crate::row_set::file::{DeltaFile, FILE_HEADER_SIZE_BYTES, delta_file_path};
use crate::row_set::meta::RowSetMeta;
use crate::row_set::open_files::OpenFiles;
use crate::row_set::page_cache::PageCache;
use crate::row_set::patch::RowSetPlace;
use crate::sync::{self, Mutex, Point, RwLock};
use crate::tree::table::{TableState, Trees};

/// The state of a database below level 0.
pub(crate) type HeldState = TreeState<Arc<HeldRowSet>>;

/// Delta files that are open, by number. No number is ever given to another file.
pub(crate) type HeldFiles = HashMap<u64, Arc<HeldFile>>;

/// Bytes of a file that no RowSet names: offset and length.
type Gap = (Arc<HeldFile>, (u64, u64));

/// Makes edits, one at a time.
#[derive(Debug)]
pub(crate) struct TreeStore {
    pub(crate) folder: PathBuf,
    pub(crate) database_id: Uuid,
    pub(crate) cache: Arc<PageCache>,
    pub(crate) open_files: Arc<OpenFiles>,
    /// `None` in a database that is read-only.
    writer: Mutex<Option<Writer>>,
    next_file_number: AtomicU64,
    /// Bytes that no RowSet names in the files that were there at the start.
    gaps: Mutex<Vec<Gap>>,
    /// The most RowSets that a fragment of any table has.
    row_sets_max: AtomicU64,
}

#[derive(Debug)]
struct Writer {
    log: EditLog,
    state: HeldState,
    files: NamedFiles,
}

impl TreeStore {
    pub(crate) fn new(
        folder: PathBuf,
        database_id: Uuid,
        cache: Arc<PageCache>,
        open_files: Arc<OpenFiles>,
    ) -> Self {
        TreeStore {
            folder,
            database_id,
            cache,
            open_files,
            writer: Mutex::default(),
            next_file_number: AtomicU64::new(1),
            gaps: Mutex::default(),
            row_sets_max: AtomicU64::new(0),
        }
    }

    /// The state that edits lead to. Files that are open already are given, and more are added. Beside a process that
    /// writes they stay open, which keeps that process from taking anything out of them.
    pub(crate) fn load(
        &self,
        io: &Arc<dyn Io>,
        replayed: &Replayed,
        files: &mut HeldFiles,
        beside_writer: bool,
    ) -> Result<HeldState> {
        let mut held = HeldState::default();
        for change in state_of(replayed)?.changes() {
            let change = change.map(|meta| self.open(io, files, &meta, beside_writer))?;
            held.apply(change)
                .map_err(|malformed| replayed.corrupt(malformed))?;
        }
        Ok(held)
    }

    fn open(
        &self,
        io: &Arc<dyn Io>,
        files: &mut HeldFiles,
        meta: &RowSetMeta,
        beside_writer: bool,
    ) -> Result<Arc<HeldRowSet>> {
        let file = self.open_file(io, files, meta.file_number, beside_writer)?;
        let patch_file = meta.patch.as_ref();
        let patch_file =
            patch_file.map(|patch| self.open_file(io, files, patch.file_number, beside_writer));
        let held = HeldRowSet::open(meta.clone(), &file, patch_file.transpose()?, &self.cache)?;
        if beside_writer {
            // It may have gone after the edits were read, and before the file was shared.
            held.row_set.check_there()?;
        }
        Ok(Arc::new(held))
    }

    fn open_file(
        &self,
        io: &Arc<dyn Io>,
        files: &mut HeldFiles,
        number: u64,
        beside_writer: bool,
    ) -> Result<Arc<HeldFile>> {
        if let Some(file) = files.get(&number) {
            return Ok(file.clone());
        }
        let path = delta_file_path(&self.folder, number);
        let opened = DeltaFile::open(&**io, &path, self.database_id, number);
        let opened = opened.map_err(|error| missing(&path, error))?;
        if beside_writer {
            opened.share()?;
        } else {
            opened.limit(&self.open_files);
        }
        let file = HeldFile::new(opened, io.clone());
        files.insert(number, file.clone());
        Ok(file)
    }

    /// A RowSet, as yet without a patch, of a file that is open.
    pub(crate) fn hold(&self, meta: RowSetMeta, file: &Arc<HeldFile>) -> Result<Arc<HeldRowSet>> {
        Ok(Arc::new(HeldRowSet::open(meta, file, None, &self.cache)?))
    }

    /// Begins to write where a state that was loaded ends; removes the delta files that it does not name.
    pub(crate) fn resume(
        &self,
        io: &Arc<dyn Io>,
        mut log: EditLog,
        state: HeldState,
    ) -> Result<()> {
        if log.is_outgrown() {
            log.restate(&encode_edit(&state.changes()))?;
        }
        let mut files = NamedFiles::default();
        state.row_sets().for_each(|row_set| files.add(row_set));
        for (number, path) in delta_files(&**io, &self.folder)? {
            if !files.0.contains_key(&number) {
                io.remove(&path)
                    .map_err(|source| Error::io("remove", &path, source))?;
            }
        }
        self.next_file_number
            .store(state.next_file_number, Ordering::Relaxed);
        *self.gaps.lock() = files.gaps();
        *self.writer.lock() = Some(Writer { log, state, files });
        Ok(())
    }

    /// Gives back the space that the last process did not come to give back.
    pub(crate) fn punch_gaps(&self, io: &dyn Io) {
        let gaps = std::mem::take(&mut *self.gaps.lock());
        for (file, gap) in gaps {
            punch_hole(io, file.file.path(), gap);
        }
    }

    /// The state as it is between two edits. While it is held, its files stay.
    pub(crate) fn state(&self) -> Result<HeldState> {
        let writer = self.writer.lock();
        let writer = writer.as_ref();
        writer
            .map(|writer| writer.state.clone())
            .ok_or_else(|| Error::Usage("the database is open read-only".into()))
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
        let removed = self.commit_edit(tables, make)?;
        // What nobody reads gives its space back as it is let go of here, where no other edit has to wait for it.
        removed.iter().for_each(|held| held.extent().retire());
        Ok(())
    }

    /// Makes the edit; returns the RowSets that went for good.
    fn commit_edit(
        &self,
        tables: &RwLock<Vec<Arc<TableState>>>,
        make: impl FnOnce(&HeldState) -> Vec<Change<Arc<HeldRowSet>>>,
    ) -> Result<Vec<Arc<HeldRowSet>>> {
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
        let mut removed = writer.removed(&changes);
        let undo = writer.state.apply_edit(&changes).map_err(|malformed| {
            Error::Usage(format!("an edit of our own is malformed: {}", malformed.0))
        })?;
        if let Err(error) = writer.log.append(&edit) {
            writer.state.undo(undo);
            return Err(error);
        }
        sync::point(Point::Publish);
        let row_sets_max = publish(&writer.state, &changes, tables);
        self.row_sets_max.store(row_sets_max, Ordering::Relaxed);
        writer.count_row_sets(&removed, &changes);
        if writer.log.is_outgrown() {
            match writer.log.restate(&encode_edit(&writer.state.changes())) {
                // The edit counts in the file that there is; the next one tries again.
                Err(error @ Error::NoSpace { .. }) => {
                    tracing::warn!(%error, "the log of edits can't be shortened");
                }
                restated => restated?,
            }
        }
        removed.retain(|held| {
            let stays = |change: &Change<Arc<HeldRowSet>>| {
                matches!(change, Change::Add(added) if Arc::ptr_eq(added.extent(), held.extent()))
            };
            !changes.iter().any(stays)
        });
        Ok(removed)
    }
}

impl Writer {
    /// The RowSets that an edit takes away, also those that it puts back in another form.
    fn removed(&self, changes: &[Change<Arc<HeldRowSet>>]) -> Vec<Arc<HeldRowSet>> {
        let removed = changes.iter().filter_map(|change| match *change {
            Change::Remove {
                table_id,
                fragment_id,
                file_number,
                offset,
            } => {
                let place = RowSetPlace {
                    file_number,
                    offset,
                };
                self.state.row_set(table_id, fragment_id, place).cloned()
            }
            _ => None,
        });
        removed.collect()
    }

    /// Counts what lies in files. A file without anything goes with its last reader.
    fn count_row_sets(&mut self, removed: &[Arc<HeldRowSet>], changes: &[Change<Arc<HeldRowSet>>]) {
        removed.iter().for_each(|held| self.files.take(held));
        for change in changes {
            if let Change::Add(row_set) = change {
                self.files.add(row_set);
            }
        }
        // Only now: an edit may put back what it took.
        for held in removed {
            parts(held).for_each(|part| self.files.retire_if_empty(part.file));
        }
    }
}

/// A RowSet or a patch in a file: offset and length.
struct Part<'a> {
    file: &'a Arc<HeldFile>,
    offset: u64,
    size_bytes: u64,
}

/// What of a RowSet lies in files: itself, and its patch if that has any bytes.
fn parts(held: &HeldRowSet) -> impl Iterator<Item = Part<'_>> {
    let meta = held.row_set.meta();
    let own = Part {
        file: &held.file,
        offset: meta.offset,
        size_bytes: meta.size_bytes,
    };
    let patch = meta.patch.as_ref().zip(held.patch_file.as_ref());
    let patch = patch.map(|(patch, file)| Part {
        file,
        offset: patch.offset,
        size_bytes: patch.size_bytes(),
    });
    [Some(own), patch.filter(|patch| patch.size_bytes > 0)]
        .into_iter()
        .flatten()
}

/// The files that the trees name, and where what they name lies in each: offsets and lengths.
#[derive(Debug, Default)]
struct NamedFiles(BTreeMap<u64, (BTreeMap<u64, u64>, Arc<HeldFile>)>);

impl NamedFiles {
    fn add(&mut self, held: &HeldRowSet) {
        for part in parts(held) {
            let entry = self.0.entry(part.file.file.file_number());
            let (parts, _) = entry.or_insert_with(|| (BTreeMap::new(), part.file.clone()));
            parts.insert(part.offset, part.size_bytes);
        }
    }

    fn take(&mut self, held: &HeldRowSet) {
        for part in parts(held) {
            if let Some((parts, _)) = self.0.get_mut(&part.file.file.file_number()) {
                parts.remove(&part.offset);
            }
        }
    }

    fn retire_if_empty(&mut self, file: &HeldFile) {
        if let Entry::Occupied(entry) = self.0.entry(file.file.file_number())
            && entry.get().0.is_empty()
        {
            entry.remove().1.retire();
        }
    }

    /// What lies between the parts of each file, and behind the last.
    fn gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (parts, file) in self.0.values() {
            let mut end = FILE_HEADER_SIZE_BYTES as u64;
            // Where the length can't be told, what lies behind the last part stays.
            let file_end = file.file.len_bytes().unwrap_or(0);
            for (&start, &size_bytes) in parts.iter().chain([(&file_end, &0)]) {
                if end < start {
                    gaps.push((file.clone(), (end, start - end)));
                }
                end = end.max(start.saturating_add(size_bytes));
            }
        }
        gaps
    }
}

/// The state that edits lead to, without its files.
pub(crate) fn state_of(replayed: &Replayed) -> Result<TreeState<Arc<RowSetMeta>>> {
    let corrupt = |malformed| replayed.corrupt(malformed);
    let mut state = TreeState::<Arc<RowSetMeta>>::default();
    for edit in &replayed.edits {
        for change in decode_edit(edit).map_err(corrupt)? {
            state.apply(change).map_err(corrupt)?;
        }
    }
    Ok(state)
}

/// Shows readers the trees that an edit touched. Returns the most RowSets that a fragment of any table has.
fn publish(
    state: &HeldState,
    changes: &[Change<Arc<HeldRowSet>>],
    tables: &RwLock<Vec<Arc<TableState>>>,
) -> u64 {
    let mut touched: Vec<u32> = changes.iter().filter_map(Change::table_id).collect();
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
