//! Compactions: RowSets of a fragment become fewer, or go to its children.

use std::sync::Arc;

use super::deletes;
use super::flush::{INDEXED_ROW_SIZE_BYTES, OutputFile, retire_unnamed, shared_write_size_bytes};
use super::leaf_policy::{may_merge, row_count, size_bytes};
use super::plan::{boundaries_of, forgettable, refine};
use super::resolve::resolve;
use crate::codec::key::hash_key;
use crate::deletes::{Hidden, RangeDeletes};
use crate::error::{Error, Result};
use crate::key_range::KeyRange;
use crate::read::merge::{Merge, Source};
use crate::row_set::meta::RowSetHead;
use crate::row_set::rows_page::RowRef;
use crate::schedule::job::{Job, JobKind};
use crate::sharding::Sharding;
use crate::shared::Shared;
use crate::sync::MutexGuard;
use crate::tree::edit::Change;
use crate::tree::files::HeldRowSet;
use crate::tree::fragment::{Division, FragmentId};
use crate::tree::growth::division_bits;
use crate::tree::splits::splits_of;
use crate::tree::state::Described;

/// What the inputs are read in at once, together.
const READ_SIZE_BYTES: usize = 4 << 20;

/// What became of a compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compacted {
    /// It is done.
    Done,
    /// The database is being closed; nothing changed.
    Cancelled,
}

/// Why a compaction failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Reading or writing rows, or no space; the tree is as it was.
    Rows(Error),
    /// The edit: whether it counts is open until the next start.
    Edit(Error),
}

impl Failed {
    fn of_edit(error: Error) -> Self {
        match error {
            Error::NoSpace { .. } => Failed::Rows(error),
            _ => Failed::Edit(error),
        }
    }
}

/// Does a compaction.
pub(crate) fn run(shared: &Shared, job: &mut Job) -> Result<Compacted, Failed> {
    refine(shared, job).map_err(Failed::Rows)?;
    let job = &*job;
    let read_bytes = size_bytes(&job.inputs);
    check_room(shared, read_bytes).map_err(Failed::Rows)?;
    // Who writes rows builds an index of them.
    let indexed_rows: u64 = match job.kind {
        JobKind::Resolve | JobKind::Sweep | JobKind::Forget => 0,
        JobKind::Merge | JobKind::Divide | JobKind::PushDown => row_count(&job.inputs),
    };
    let _index = shared.charge(indexed_rows * INDEXED_ROW_SIZE_BYTES);
    let work = || match job.kind {
        JobKind::Forget => forget(shared, job.table_id),
        JobKind::Resolve => run_resolve(shared, job),
        _ => rewrite(shared, job),
    };
    let written = shared
        .counters
        .time_compaction(job.kind.name(), read_bytes, work)?;
    Ok(written.map_or(Compacted::Cancelled, |_| Compacted::Done))
}

/// As all that do a job it returns the bytes that it wrote, `None` if the database is being closed meanwhile.
fn run_resolve(shared: &Shared, job: &Job) -> Result<Option<u64>, Failed> {
    let Some(changes) = resolve(shared, job).map_err(Failed::Rows)? else {
        return Ok(None);
    };
    let patch_size_bytes = |change: &Change<Arc<HeldRowSet>>| match change {
        Change::Add(held) => held.meta().patch.as_ref().map(|patch| patch.size_bytes()),
        _ => None,
    };
    let written_bytes = changes.iter().filter_map(patch_size_bytes).sum();
    let made = shared.store.commit(&shared.tables, |_| changes);
    made.map_err(Failed::of_edit)?;
    Ok(Some(written_bytes))
}

/// Writes rows again, for fewer RowSets or further down.
fn rewrite(shared: &Shared, job: &Job) -> Result<Option<u64>, Failed> {
    let boundaries = boundaries_of(shared, job.table_id);
    let groups = grouped(&job.inputs, &job.tree.truncates, &boundaries);
    let division = match job.kind {
        JobKind::Divide => division_of(shared, job).map_err(Failed::Rows)?,
        JobKind::PushDown => job
            .tree
            .fragments
            .fragment(job.fragment_id)
            .and_then(|fragment| fragment.children.as_ref())
            .map(|children| children.division.clone()),
        _ => None,
    };
    let mut work = Work {
        writing: Writing {
            shared,
            job,
            deletes: job.tree.deletes.clone(),
            division: division.as_ref(),
            is_bottom: job.is_bottom,
        },
        inputs: job.inputs.clone(),
        outputs: Vec::new(),
    };
    let written = match &division {
        Some(_) => work.move_down(&groups),
        None => work.write(&groups).map(|done| done.then_some(None)),
    };
    match written {
        // The guard keeps flushes away until the edit is made.
        Ok(Some(guard)) if guard.is_some() && !work.fits(division.as_ref()) => {
            work.discard();
            Ok(Some(0))
        }
        Ok(Some(_guard)) => {
            let made = shared
                .store
                .commit(&shared.tables, |_| work.changes(division.clone()));
            made.map_err(|error| {
                retire_unnamed(&error, &work.outputs);
                Failed::of_edit(error)
            })?;
            Ok(Some(size_bytes(&work.outputs)))
        }
        Ok(None) => {
            work.discard();
            Ok(None)
        }
        Err(error) => {
            work.discard();
            Err(Failed::Rows(error))
        }
    }
}

/// How a leaf divides; `None` if no key lies between its rows.
fn division_of(shared: &Shared, job: &Job) -> Result<Option<Division>> {
    let child_bits = division_bits(
        &job.tree.growth,
        size_bytes(&job.inputs),
        job.fragment_id,
        &shared.tree_sizes,
    );
    if !matches!(job.tree.fragments.sharding(), Sharding::Range) {
        return Ok(Some(Division::Hash { bits: child_bits }));
    }
    let size_bytes_max = shared.tree_sizes.fragment_size_bytes_max;
    let splits = splits_of(&job.inputs, 1 << child_bits, size_bytes_max)?;
    let ids = (0..=splits.len()).map(|_| FragmentId(shared.store.next_file_number()));
    Ok((!splits.is_empty()).then(|| Division::Range {
        ids: ids.collect(),
        splits: splits.into(),
    }))
}

/// What a compaction has done so far.
struct Work<'a> {
    writing: Writing<'a>,
    inputs: Vec<Arc<HeldRowSet>>,
    outputs: Vec<Arc<HeldRowSet>>,
}

impl<'a> Work<'a> {
    /// Writes the outputs of some inputs; false if the database is being closed meanwhile.
    fn write(&mut self, groups: &[Vec<Arc<HeldRowSet>>]) -> Result<bool> {
        let written = self.writing.write(groups)?;
        let is_done = written.is_some();
        self.outputs.extend(written.into_iter().flatten());
        Ok(is_done)
    }

    /// Writes the outputs for the children, and then those of what came into the fragment meanwhile. Otherwise a fast
    /// writer would find it filled at each flush, and no flush would get further down again.
    fn move_down(
        &mut self,
        groups: &[Vec<Arc<HeldRowSet>>],
    ) -> Result<Option<Option<MutexGuard<'a, ()>>>> {
        let (shared, job) = (self.writing.shared, self.writing.job);
        if !self.write(groups)? {
            return Ok(None);
        }
        let guard = shared.scheduler.placing.lock();
        let tree = shared.tree_of(job.table_id);
        let fragment = tree
            .as_ref()
            .and_then(|tree| tree.fragments.fragment(job.fragment_id));
        let known = |held: &&Arc<HeldRowSet>| {
            let mut known = self.inputs.iter().chain(&job.dead);
            known.any(|input| Arc::ptr_eq(input.extent(), held.extent()))
        };
        let row_sets = fragment.map_or(&[][..], |fragment| &fragment.row_sets);
        let new: Vec<_> = row_sets
            .iter()
            .filter(|held| !known(held))
            .cloned()
            .collect();
        if let (false, Some(tree)) = (new.is_empty(), &tree) {
            let boundaries = boundaries_of(shared, job.table_id);
            let groups = grouped(&new, &tree.truncates, &boundaries);
            // They lie above the first ones, so their tombstones stay.
            self.writing.is_bottom = false;
            self.writing.deletes = tree.deletes.clone();
            if !self.write(&groups)? {
                return Ok(None);
            }
            self.inputs.extend(new);
        }
        Ok(Some(Some(guard)))
    }

    /// Whether the children that rows were written for are still there. By range, one that was divided meanwhile may have
    /// made way for its own.
    fn fits(&self, division: Option<&Division>) -> bool {
        let job = self.writing.job;
        if job.kind != JobKind::PushDown {
            return true;
        }
        let tree = self.writing.shared.tree_of(job.table_id);
        let mut ids = division
            .map_or_else(Vec::new, |division| division.child_ids(job.fragment_id))
            .into_iter();
        tree.is_some_and(|tree| ids.all(|id| tree.fragments.fragment(id).is_some()))
    }

    /// The edit.
    fn changes(&self, division: Option<Division>) -> Vec<Change<Arc<HeldRowSet>>> {
        let job = self.writing.job;
        let mut changes = Vec::new();
        if let (JobKind::Divide, Some(division)) = (job.kind, division) {
            changes.push(Change::Divide {
                table_id: job.table_id,
                fragment_id: job.fragment_id,
                division,
            });
        }
        for held in self.inputs.iter().chain(&job.dead) {
            let meta = held.meta();
            changes.push(Change::Remove {
                table_id: job.table_id,
                fragment_id: job.fragment_id,
                file_number: meta.file_number,
                offset: meta.offset,
            });
        }
        changes.extend(self.outputs.iter().cloned().map(Change::Add));
        changes
    }

    /// Has the files of the outputs removed.
    fn discard(self) {
        self.outputs.iter().for_each(|held| held.file.retire());
    }
}

/// Forgets truncates and range deletes.
fn forget(shared: &Shared, table_id: u32) -> Result<Option<u64>, Failed> {
    let made = shared.store.commit(&shared.tables, |state| {
        let tree = state.tree(table_id);
        let seqs = tree.and_then(|tree| forgettable(shared, table_id, tree));
        let truncates = seqs.map(|seqs| Change::Truncates { table_id, seqs });
        let deletes = tree.and_then(|tree| deletes::forgettable(shared, table_id, tree));
        let deletes = deletes.map(|deletes| Change::Deletes { table_id, deletes });
        truncates.into_iter().chain(deletes).collect()
    });
    made.map_err(Failed::of_edit)?;
    Ok(Some(0))
}

/// The inputs in groups that may each become one, the oldest group first, each newest first.
fn grouped(
    inputs: &[Arc<HeldRowSet>],
    truncates: &[u64],
    boundaries: &[u64],
) -> Vec<Vec<Arc<HeldRowSet>>> {
    let mut groups: Vec<Vec<Arc<HeldRowSet>>> = Vec::new();
    for newer in inputs.iter().rev() {
        match groups.last_mut() {
            Some(group)
                if group
                    .first()
                    .is_some_and(|oldest| may_merge(oldest, newer, truncates, boundaries)) =>
            {
                group.push(newer.clone());
            }
            _ => groups.push(vec![newer.clone()]),
        }
    }
    groups.iter_mut().for_each(|group| group.reverse());
    groups
}

/// The rows of a job on their way.
struct Writing<'a> {
    shared: &'a Shared,
    job: &'a Job,
    /// As of the inputs.
    deletes: RangeDeletes,
    division: Option<&'a Division>,
    /// Whether nothing older lies below what is written.
    is_bottom: bool,
}

impl Writing<'_> {
    /// Writes a RowSet for each group and fragment; `None` if the database is being closed meanwhile.
    fn write(&self, groups: &[Vec<Arc<HeldRowSet>>]) -> Result<Option<Vec<Arc<HeldRowSet>>>> {
        let fragment_ids: Vec<FragmentId> = match self.division {
            None => vec![self.job.fragment_id],
            Some(division) => division.child_ids(self.job.fragment_id),
        };
        let write_size_bytes = shared_write_size_bytes(self.shared, fragment_ids.len());
        let mut files: Vec<OutputFile<'_>> = fragment_ids
            .iter()
            .map(|_| OutputFile::new(self.shared, write_size_bytes))
            .collect();
        let mut written = Ok(true);
        for (i, group) in groups.iter().enumerate() {
            // Below the oldest group of a leaf nothing is left that a tombstone could hide.
            let drop_tombstones = i == 0 && self.is_bottom;
            written = self.write_group(group, drop_tombstones, &fragment_ids, &mut files);
            if !matches!(written, Ok(true)) {
                break;
            }
        }
        match written {
            Ok(true) => self.finish(files),
            other => {
                files.into_iter().for_each(OutputFile::discard);
                other.map(|_| None)
            }
        }
    }

    fn finish(&self, files: Vec<OutputFile<'_>>) -> Result<Option<Vec<Arc<HeldRowSet>>>> {
        let mut outputs: Vec<Arc<HeldRowSet>> = Vec::new();
        let mut failed = None;
        for file in files {
            match file.finish() {
                Ok(row_sets) if failed.is_none() => outputs.extend(row_sets),
                Ok(row_sets) => row_sets.iter().for_each(|held| held.file.retire()),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            None => Ok(Some(outputs)),
            Some(error) => {
                // They go as the last of them is let go of here.
                outputs.iter().for_each(|held| held.file.retire());
                Err(error)
            }
        }
    }

    fn write_group(
        &self,
        group: &[Arc<HeldRowSet>],
        drop_tombstones: bool,
        fragment_ids: &[FragmentId],
        files: &mut [OutputFile<'_>],
    ) -> Result<bool> {
        let (Some(newest), Some(oldest)) = (group.first(), group.last()) else {
            return Ok(true);
        };
        let head = RowSetHead {
            table_id: self.job.table_id,
            fragment_id: 0,
            seq_from: oldest.meta().head.seq_from,
            seq_to: newest.meta().head.seq_to,
        };
        for (file, id) in files.iter_mut().zip(fragment_ids) {
            file.begin(RowSetHead {
                fragment_id: id.0,
                ..head
            });
        }
        let threads = self.shared.tree_sizes.compaction_threads;
        let read_size_bytes =
            self.shared.buffer_size_bytes(READ_SIZE_BYTES) / (threads * group.len());
        let read_size_bytes = read_size_bytes.clamp(8 << 10, 1 << 20);
        let sources = group
            .iter()
            .map(|held| Source::RowSet(held.row_set.stream(read_size_bytes), held.clone()))
            .collect();
        // What was deleted by the end of the group goes: who reads the result reads behind that.
        let mut hidden = Hidden::default();
        hidden.add(&self.deletes, head.seq_to);
        let merge = Merge::new(sources, KeyRange::ALL, false, !drop_tombstones);
        let mut merge = merge.without(hidden);
        let mut piece_bytes = 0;
        while merge.advance()? {
            if let Some(row) = merge.row() {
                self.push(row, files)?;
                piece_bytes += row.key.len() + row.value.map_or(0, <[u8]>::len) + 1;
            }
            if piece_bytes >= self.shared.write_size_bytes() {
                let pace = &self.shared.scheduler.pace;
                if self.division.is_some() && self.is_written() {
                    pace.await_block();
                } else {
                    pace.permit(piece_bytes as u64);
                }
                piece_bytes = 0;
            }
            if self.shared.generations.is_stopping() {
                return Ok(false);
            }
        }
        for file in files {
            file.end()?;
        }
        Ok(!self.shared.generations.is_stopping())
    }

    /// Whether the table is being written: what is flushed into its fragments meanwhile goes through the next job too.
    fn is_written(&self) -> bool {
        let generations = self.shared.generations.list();
        let table_id = self.job.table_id;
        generations
            .iter()
            .any(|generation| generation.table(table_id).is_some())
    }

    fn push(&self, row: RowRef<'_>, files: &mut [OutputFile<'_>]) -> Result<()> {
        let hash = hash_key(row.key);
        let child = self.division.map_or(0, |division| {
            let shard_hash = self.job.tree.fragments.shard_hash(hash, row.key);
            division.child_of(self.job.fragment_id, shard_hash, row.key)
        });
        match files.get_mut(child) {
            Some(file) => file.push(row, hash),
            None => Err(Error::Usage(
                "a row goes to a fragment that is not there".into(),
            )),
        }
    }
}

/// Says beforehand if the disk has no room for so many bytes below level 0, where that can be known.
///
/// # Errors
/// [`Error::NoSpace`].
fn check_room(shared: &Shared, size_bytes: u64) -> Result<()> {
    let folder = &shared.store.folder;
    match shared.io.free_bytes(folder) {
        Ok(Some(free_bytes)) if free_bytes < size_bytes => Err(Error::NoSpace {
            operation: "write to",
            path: folder.clone(),
            reason: format!("{size_bytes} bytes are needed and {free_bytes} are free"),
        }),
        // What can't be known is tried.
        _ => Ok(()),
    }
}
