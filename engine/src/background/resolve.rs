//! Resolving: which rows of the older RowSets of a leaf a RowSet replaces becomes known, as its patch.
//!
//! It rewrites no rows, so it costs the reading of what is unresolved and of the key pages that it meets, and a byte or two
//! for each replaced row. From then on a scan passes over the replaced rows without comparing keys, rows are counted
//! without being read, and it is known how much of a leaf is dead.

use std::sync::Arc;

use super::flush::OutputFile;
use super::leaf_policy::{row_count, share, size_bytes};
use crate::codec::key::hash_key;
use crate::error::Result;
use crate::row_set::join::{find_replaced, sample_replaced};
use crate::row_set::meta::RowSetMeta;
use crate::row_set::patch::{PatchMeta, TargetOrdinals};
use crate::schedule::job::Job;
use crate::shared::Shared;
use crate::tree::edit::Change;
use crate::tree::files::{HeldFile, HeldRowSet};
use crate::tree::state::Described;

/// RowSets are resolved when they are this part of all others of their leaf: reading them and the pages that they meet
/// then costs about so many times the bytes that were written.
const UNRESOLVED_SHARE: u64 = 8;
/// The same while a generation is flushed: more is soon there, and what is found out at once costs less.
const UNRESOLVED_SHARE_FLUSHING: u64 = 1;

/// Whether a RowSet's patch says which rows of all older ones, given newest first, it replaces.
fn is_resolved(newer: &RowSetMeta, older: &[Arc<HeldRowSet>]) -> bool {
    older.iter().all(|held| newer.target(held.meta()).is_some())
}

/// The RowSets of a leaf, given newest first, whose patches are missing, each with its place.
fn unresolved(
    row_sets: &[Arc<HeldRowSet>],
) -> impl Iterator<Item = (&Arc<HeldRowSet>, &[Arc<HeldRowSet>])> {
    (1..)
        .zip(row_sets)
        .map(|(behind, newer)| (newer, row_sets.get(behind..).unwrap_or_default()))
        .filter(|(newer, older)| !is_resolved(newer.meta(), older))
}

/// Whether so much of a leaf is unresolved that it is to be resolved; anything is enough while nobody writes. The RowSets
/// are given newest first.
pub(super) fn is_due(row_sets: &[Arc<HeldRowSet>], is_idle: bool, is_flushing: bool) -> bool {
    let size_bytes = |held: &Arc<HeldRowSet>| held.meta().size_bytes;
    let all: u64 = row_sets.iter().map(size_bytes).sum();
    let open: u64 = unresolved(row_sets).map(|(held, _)| size_bytes(held)).sum();
    let share = if is_flushing {
        UNRESOLVED_SHARE_FLUSHING
    } else {
        UNRESOLVED_SHARE
    };
    open > 0 && (is_idle || open >= (all - open) / share)
}

/// About how many bytes of older rows the unresolved RowSets of a leaf, given newest first, replace beyond what patches tell.
pub(super) fn sampled_dead_bytes(row_sets: &[Arc<HeldRowSet>]) -> Result<u64> {
    let mut dead_bytes = 0;
    for (newer, older) in unresolved(row_sets) {
        let unknown = older.iter();
        let unknown: Vec<_> = unknown
            .filter(|held| newer.meta().target(held.meta()).is_none())
            .map(|held| &held.row_set)
            .collect();
        let (seen, found) = sample_replaced(&newer.row_set, &unknown, hash_key)?;
        let older_bytes = size_bytes(older);
        let older_rows = row_count(older);
        let replaced = share(newer.meta().row_count, found, seen);
        dead_bytes += share(older_bytes, replaced, older_rows);
    }
    Ok(dead_bytes)
}

/// Bytes of the rows of a leaf that newer ones replace and that a merge of all RowSets, given newest first, would free, as
/// far as patches tell. `may_merge` says of an older and a newer RowSet whether they may become one.
pub(super) fn dead_bytes(
    row_sets: &[Arc<HeldRowSet>],
    may_merge: impl Fn(&Arc<HeldRowSet>, &Arc<HeldRowSet>) -> bool,
) -> u64 {
    let pairs = (1..).zip(row_sets).flat_map(|(behind, newer)| {
        row_sets
            .iter()
            .skip(behind)
            .map(move |older| (newer, older))
    });
    let of_pair = |(newer, older): (&Arc<HeldRowSet>, &Arc<HeldRowSet>)| {
        let meta = older.meta();
        let target = newer.meta().target(meta)?;
        let bytes = share(meta.size_bytes, target.ordinal_count.into(), meta.row_count);
        may_merge(older, newer).then_some(bytes)
    };
    pairs.filter_map(of_pair).sum()
}

/// Finds out what the unresolved RowSets of a leaf replace; the changes that say so. `None` if the database is being
/// closed meanwhile.
pub(super) fn resolve(shared: &Shared, job: &Job) -> Result<Option<Vec<Change<Arc<HeldRowSet>>>>> {
    let mut output = OutputFile::new(shared, shared.write_size_bytes());
    match write_patches(shared, job, &mut output) {
        Ok(Some(patches)) => {
            let file = output.finish_patches()?;
            Ok(Some(changes(job, patches, file.as_ref())))
        }
        other => {
            output.discard();
            other.map(|_| None)
        }
    }
}

type Patched<'j> = (&'j Arc<HeldRowSet>, PatchMeta);

fn write_patches<'j>(
    shared: &Shared,
    job: &'j Job,
    output: &mut OutputFile<'_>,
) -> Result<Option<Vec<Patched<'j>>>> {
    let mut patches = Vec::new();
    for (newer, older) in unresolved(&job.inputs) {
        let older: Vec<_> = older.iter().map(|held| &held.row_set).collect();
        let stops = || shared.generations.is_stopping();
        let Some(targets) = find_replaced(&newer.row_set, &older, hash_key, stops)? else {
            return Ok(None);
        };
        patches.push((newer, patch_of(newer.meta(), &targets, output)?));
    }
    Ok(Some(patches))
}

/// A patch without ordinals needs no bytes, and no file of its own.
fn patch_of(
    newer: &RowSetMeta,
    targets: &[TargetOrdinals],
    output: &mut OutputFile<'_>,
) -> Result<PatchMeta> {
    if targets.iter().all(TargetOrdinals::is_empty) {
        return Ok(PatchMeta::without_ordinals(newer, targets));
    }
    output.patch(targets)
}

fn changes(
    job: &Job,
    patches: Vec<Patched<'_>>,
    file: Option<&Arc<HeldFile>>,
) -> Vec<Change<Arc<HeldRowSet>>> {
    let mut changes = Vec::new();
    for (held, patch) in patches {
        let place = held.meta().place();
        changes.push(Change::Remove {
            table_id: job.table_id,
            fragment_id: job.fragment_id,
            file_number: place.file_number,
            offset: place.offset,
        });
        let own = patch.file_number == place.file_number;
        let patch_file = file.filter(|_| !own).unwrap_or(&held.file);
        changes.push(Change::Add(Arc::new(
            held.with_patch(patch, patch_file.clone()),
        )));
    }
    changes
}
