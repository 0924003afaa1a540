//! Compactions: RowSets of a fragment become fewer, or go to its children.

use std::sync::Arc;

use super::deletes;
use super::edit::Change;
use super::files::HeldRowSet;
use super::flush::{INDEXED_ROW_SIZE_BYTES, OutputFile, retire_unnamed, shared_write_size_bytes};
use super::fragment::{Division, FragmentId};
use super::plan::{Job, JobKind, boundaries_of, may_merge, plan};
use super::resolve::resolve;
use super::state::{Described, TableTree};
use crate::cache::table::{TableState, hash_key};
use crate::deletes::{Hidden, RangeDeletes};
use crate::error::{Error, Result};
use crate::generation::LOCATIONS_BIT;
use crate::read::merge::{Merge, Source};
use crate::read::range::KeyRange;
use crate::row_set::meta::RowSetHead;
use crate::row_set::rows_page::RowRef;
use crate::shared::Shared;
use crate::space::check_room;

/// What the inputs are read in at once, together.
const READ_SIZE_BYTES: usize = 4 << 20;

/// What became of looking for a compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compacted {
    /// One was done.
    Done,
    /// None is due.
    Nothing,
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

/// Does the compaction that is due first.
pub(crate) fn compact_once(shared: &Shared) -> Result<Compacted, Failed> {
    let tables: Vec<_> = shared.tables.read().iter().cloned().collect();
    for table in tables {
        for table_id in [table.id, table.id | LOCATIONS_BIT] {
            let tree = tree_of(&table, table_id);
            if let Some(job) = plan(shared, table_id, &tree) {
                let kind = job.kind.name();
                let read_bytes = job.inputs.iter().map(|held| held.meta().size_bytes).sum();
                let work = || run(shared, &tree, job);
                let written = shared.counters.time_compaction(kind, read_bytes, work)?;
                return Ok(written.map_or(Compacted::Cancelled, |_| Compacted::Done));
            }
            if forgettable(shared, table_id, &tree).is_some()
                || deletes::forgettable(shared, table_id, &tree).is_some()
            {
                return forget(shared, table_id);
            }
        }
    }
    Ok(Compacted::Nothing)
}

fn tree_of(table: &TableState, table_id: u32) -> Arc<TableTree<Arc<HeldRowSet>>> {
    let trees = table.trees.load();
    if table_id & LOCATIONS_BIT == 0 {
        trees.rows.clone()
    } else {
        trees.locations.clone()
    }
}

/// The truncates that stay, if some can go: nobody asks for the table before them, and no RowSet from before is left.
fn forgettable(
    shared: &Shared,
    table_id: u32,
    tree: &TableTree<Arc<HeldRowSet>>,
) -> Option<Vec<u64>> {
    if tree.truncates.is_empty() {
        return None;
    }
    let boundaries = boundaries_of(shared, table_id);
    let fragments = tree.fragments.fragments();
    let oldest = fragments
        .iter()
        .flat_map(|fragment| fragment.row_sets.iter())
        .map(|held| held.meta().head.seq_to)
        .min();
    let is_needed = |(i, &truncate): (usize, &u64)| match tree.truncates.get(i + 1) {
        // The next one says the same to all that read at or after it.
        Some(&next) => boundaries.iter().any(|&seq| truncate <= seq && seq < next),
        None => {
            oldest.is_some_and(|oldest| oldest < truncate)
                || boundaries.iter().any(|&seq| seq < truncate)
        }
    };
    let kept: Vec<u64> = tree
        .truncates
        .iter()
        .enumerate()
        .filter(|one| is_needed(*one))
        .map(|(_, &truncate)| truncate)
        .collect();
    (kept.len() < tree.truncates.len()).then_some(kept)
}

/// Forgets truncates and range deletes.
fn forget(shared: &Shared, table_id: u32) -> Result<Compacted, Failed> {
    let made = shared.store.commit(&shared.tables, |state| {
        let tree = state.tree(table_id);
        let seqs = tree.and_then(|tree| forgettable(shared, table_id, tree));
        let truncates = seqs.map(|seqs| Change::Truncates { table_id, seqs });
        let deletes = tree.and_then(|tree| deletes::forgettable(shared, table_id, tree));
        let deletes = deletes.map(|deletes| Change::Deletes { table_id, deletes });
        truncates.into_iter().chain(deletes).collect()
    });
    made.map_err(Failed::of_edit)?;
    Ok(Compacted::Done)
}

/// Does a job; returns the bytes of its RowSets, `None` if the database is being closed meanwhile.
fn run(
    shared: &Shared,
    tree: &TableTree<Arc<HeldRowSet>>,
    job: Job,
) -> Result<Option<u64>, Failed> {
    let size_bytes = job.inputs.iter().map(|held| held.meta().size_bytes).sum();
    check_room(shared, size_bytes).map_err(Failed::Rows)?;
    let rows: u64 = job.inputs.iter().map(|held| held.meta().row_count).sum();
    let _index = shared.charge(rows * INDEXED_ROW_SIZE_BYTES);
    if job.kind == JobKind::Resolve {
        return run_resolve(shared, &job);
    }
    let boundaries = boundaries_of(shared, job.table_id);
    let division = match job.kind {
        JobKind::Divide => Some(Division::Hash {
            bits: shared.tree_sizes.child_bits,
        }),
        JobKind::PushDown => tree
            .fragments
            .fragment(job.fragment_id)
            .and_then(|fragment| fragment.children.as_ref())
            .map(|children| children.division.clone()),
        JobKind::Merge | JobKind::Sweep | JobKind::Resolve => None,
    };
    let writing = Writing {
        shared,
        job: &job,
        deletes: &tree.deletes,
        division: division.as_ref(),
    };
    let groups = grouped(&job.inputs, &tree.truncates, &boundaries);
    let Some(outputs) = writing.write(&groups).map_err(Failed::Rows)? else {
        return Ok(None);
    };
    let written_bytes = outputs.iter().map(|held| held.meta().size_bytes).sum();
    let mut changes = Vec::new();
    if job.kind == JobKind::Divide
        && let Some(division) = division
    {
        changes.push(Change::Divide {
            table_id: job.table_id,
            fragment_id: job.fragment_id,
            division,
        });
    }
    for held in job.inputs.iter().chain(&job.dead) {
        let meta = held.meta();
        changes.push(Change::Remove {
            table_id: job.table_id,
            fragment_id: job.fragment_id,
            file_number: meta.file_number,
            offset: meta.offset,
        });
    }
    changes.extend(outputs.iter().cloned().map(Change::Add));
    let made = shared.store.commit(&shared.tables, |_| changes);
    made.map_err(|error| {
        retire_unnamed(&error, &outputs);
        Failed::of_edit(error)
    })?;
    Ok(Some(written_bytes))
}

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
    made.map_err(Failed::Edit)?;
    Ok(Some(written_bytes))
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
    deletes: &'a RangeDeletes,
    division: Option<&'a Division>,
}

impl Writing<'_> {
    /// Writes a RowSet for each group and fragment; `None` if the database is being closed meanwhile.
    fn write(&self, groups: &[Vec<Arc<HeldRowSet>>]) -> Result<Option<Vec<Arc<HeldRowSet>>>> {
        let fragment_ids: Vec<FragmentId> = match self.division {
            None => vec![self.job.fragment_id],
            Some(division) => (0..division.child_count())
                .map(|number| self.job.fragment_id.child(number, division.bits()))
                .collect(),
        };
        let write_size_bytes = shared_write_size_bytes(self.shared, fragment_ids.len());
        let mut files: Vec<OutputFile<'_>> = fragment_ids
            .iter()
            .map(|_| OutputFile::new(self.shared, write_size_bytes))
            .collect();
        let mut written = Ok(true);
        for (i, group) in groups.iter().enumerate() {
            // Below the oldest group of a leaf nothing is left that a tombstone could hide.
            let drop_tombstones = i == 0 && self.job.is_bottom;
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
            })?;
        }
        let read_size_bytes = self.shared.buffer_size_bytes(READ_SIZE_BYTES) / group.len();
        let read_size_bytes = read_size_bytes.clamp(8 << 10, 1 << 20);
        let sources = group
            .iter()
            .map(|held| Source::RowSet(held.row_set.stream(read_size_bytes), held.clone()))
            .collect();
        // What was deleted by the end of the group goes: who reads the result reads behind that.
        let mut hidden = Hidden::default();
        hidden.add(self.deletes, head.seq_to);
        let merge = Merge::new(sources, KeyRange::ALL, false, !drop_tombstones);
        let mut merge = merge.without(hidden);
        let mut rows = 0_u32;
        while merge.advance()? {
            if let Some(row) = merge.row() {
                self.push(row, files)?;
            }
            rows = rows.wrapping_add(1);
            if rows.is_multiple_of(1024) && self.shared.generations.is_stopping() {
                return Ok(false);
            }
        }
        for file in files {
            file.end()?;
        }
        Ok(!self.shared.generations.is_stopping())
    }

    fn push(&self, row: RowRef<'_>, files: &mut [OutputFile<'_>]) -> Result<()> {
        let hash = hash_key(row.key);
        let child = self.division.map_or(0, |division| {
            division.child_of(self.job.fragment_id, hash, row.key)
        });
        match files.get_mut(child) {
            Some(file) => file.push(row, hash),
            None => Err(Error::Usage(
                "a row goes to a fragment that is not there".into(),
            )),
        }
    }
}
