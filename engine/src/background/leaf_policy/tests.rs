//! What leaves of different RowSets are due for.

use std::path::Path;

use super::*;
use crate::io::{Io, OpenMode, SimulatedIo};
use crate::row_set::budget::MemoryBudget;
use crate::row_set::file::DeltaFile;
use crate::row_set::meta::{RowSetHead, RowSetMeta};
use crate::row_set::page_cache::PageCache;
use crate::tree::files::HeldFile;

const MIB: u64 = 1 << 20;

/// RowSets of those sizes in MiB and tombstones, the newest first.
fn row_sets(sizes: &[(u64, u64)]) -> Vec<Arc<HeldRowSet>> {
    let io = SimulatedIo::new(1);
    let path = Path::new("/delta");
    let opened = io.open(path, OpenMode::CreateNew).unwrap();
    let file = DeltaFile::new(path, opened, uuid::Uuid::nil(), 1);
    let file = HeldFile::new(file, Arc::new(io));
    let cache = PageCache::new(MemoryBudget::new(MIB));
    let held = |(age, &(size_mib, tombstone_count)): (u64, &(u64, u64))| {
        let meta = RowSetMeta {
            head: RowSetHead {
                seq_from: 100 - age,
                seq_to: 101 - age,
                ..RowSetHead::default()
            },
            file_number: 1,
            offset: age,
            size_bytes: size_mib * MIB,
            row_count: size_mib * 1000,
            tombstone_count,
            ..RowSetMeta::default()
        };
        Arc::new(HeldRowSet::open(meta, &file, None, &cache).unwrap())
    };
    (1..).zip(sizes).map(held).collect()
}

/// One of 64 MiB that may divide, has patches, and beside no flush.
fn leaf<'a>(row_sets: &'a [Arc<HeldRowSet>], boundaries: &[u64]) -> Leaf<'a> {
    Leaf {
        row_sets,
        groups: groups(row_sets, &[], boundaries),
        size_bytes_max: 64 * MIB,
        can_divide: true,
        rows_max: 400_000,
        has_patches: true,
        is_flushing: false,
    }
}

fn due(sizes: &[(u64, u64)], boundaries: &[u64], depth: Depth) -> Option<Due> {
    let row_sets = row_sets(sizes);
    let leaf = Leaf {
        has_patches: false,
        ..leaf(&row_sets, boundaries)
    };
    leaf.due(depth, |_| true)
}

fn merge(row_sets: Range<usize>) -> Option<Due> {
    Some(Due {
        kind: JobKind::Merge,
        row_sets,
    })
}

#[test]
fn a_leaf_beyond_p_size_divides_and_sooner_where_it_would_have_to_merge() {
    let divide = |row_sets| {
        Some(Due {
            kind: JobKind::Divide,
            row_sets,
        })
    };
    assert_eq!(due(&[(65, 0)], &[], Depth::Regular), divide(0..1));
    assert_eq!(due(&[(64, 0)], &[], Depth::Regular), None);
    let many = row_sets(&[(4, 0); 15]);
    let leaf = leaf(&many, &[]);
    assert_eq!(leaf.due(Depth::Regular, |_| false), divide(0..15));
}

#[test]
fn what_only_the_dead_make_too_large_is_merged() {
    // All of the newer ones are taken to replace rows.
    assert_eq!(due(&[(35, 0), (30, 0)], &[], Depth::Regular), merge(0..2));
}

#[test]
fn boundaries_keep_row_sets_apart() {
    assert_eq!(due(&[(4, 0), (4, 0)], &[], Depth::Regular), merge(0..2));
    assert_eq!(due(&[(4, 0), (4, 0)], &[99], Depth::Regular), None);
    assert_eq!(due(&[(4, 0), (4, 0)], &[99], Depth::Full), None);
    assert_eq!(due(&[(4, 0), (4, 0)], &[98], Depth::Full), merge(0..2));
}

#[test]
fn a_leaf_that_only_held_snapshots_make_large_is_not_divided() {
    let kind = |sizes: &[(u64, u64)], boundaries: &[u64]| {
        let row_sets = row_sets(sizes);
        let leaf = leaf(&row_sets, boundaries);
        leaf.due(Depth::Regular, |_| false).map(|due| due.kind)
    };
    let divides = Some(JobKind::Divide);
    assert_eq!(kind(&[(50, 0), (60, 0)], &[]), divides);
    assert_ne!(kind(&[(50, 0), (60, 0)], &[99]), divides);
    assert_eq!(
        kind(&[(50, 0), (65, 0)], &[99]),
        divides,
        "one of them is too large"
    );
    let many = |count: usize| {
        let boundaries: Vec<u64> = (0..100).collect();
        kind(&vec![(60, 0); count], &boundaries)
    };
    assert_ne!(many(6), divides);
    assert_eq!(many(7), divides, "more rows than there is memory for");
}

#[test]
fn so_many_row_sets_are_not_resolved() {
    let is_resolved = |count: usize| {
        let row_sets = row_sets(&vec![(1, 0); count]);
        let boundaries: Vec<u64> = (0..100).collect();
        let due = leaf(&row_sets, &boundaries).due(Depth::Regular, |_| false);
        due.is_some_and(|due| due.kind == JobKind::Resolve)
    };
    assert!(is_resolved(RESOLVED_ROW_SETS_MAX));
    assert!(!is_resolved(RESOLVED_ROW_SETS_MAX + 1));
}

#[test]
fn what_snapshots_kept_apart_is_merged_before_the_leaf_is_divided() {
    let many = [vec![(2, 0); RESOLVED_ROW_SETS_MAX].as_slice(), &[(40, 0)]].concat();
    let row_sets = row_sets(&many);
    let leaf = leaf(&row_sets, &[]);
    assert_eq!(
        leaf.due(Depth::Regular, |_| false),
        merge(0..RESOLVED_ROW_SETS_MAX)
    );
    let without_room = Leaf {
        rows_max: 1000,
        ..leaf
    };
    let due = without_room.due(Depth::Regular, |_| false);
    assert_eq!(due.map(|due| due.kind), Some(JobKind::Divide));
}

#[test]
fn tombstones_go_where_nothing_older_is() {
    assert_eq!(due(&[(4, 1)], &[], Depth::Full), merge(0..1));
    assert_eq!(due(&[(4, 0)], &[], Depth::Full), None);
    assert_eq!(due(&[(4, 300)], &[], Depth::Idle), merge(0..1));
    assert_eq!(due(&[(4, 100)], &[], Depth::Idle), None);
    assert_eq!(due(&[(4, 300)], &[], Depth::Regular), None);
    assert_eq!(due(&[(4, 2001)], &[], Depth::Regular), merge(0..1));
    assert_eq!(
        due(&[(4, 4), (9, 0)], &[99], Depth::Full),
        None,
        "older ones below"
    );
}

#[test]
fn what_is_mostly_replaced_is_merged_without_finding_out_what() {
    let row_sets = row_sets(&[(10, 0), (30, 0)]);
    let refined = |kind, depth, dead_mib: u64, boundaries: &[u64], may_spend| {
        let leaf = leaf(&row_sets, boundaries);
        leaf.refined(kind, depth, dead_mib * MIB, |_| may_spend)
    };
    use JobKind::{Divide, Merge, Resolve};
    assert_eq!(refined(Resolve, Depth::Regular, 14, &[], false), Merge);
    assert_eq!(refined(Resolve, Depth::Regular, 13, &[], true), Resolve);
    assert_eq!(refined(Resolve, Depth::Regular, 14, &[99], true), Resolve);
    assert_eq!(refined(Resolve, Depth::Idle, 3, &[], true), Merge);
    assert_eq!(refined(Resolve, Depth::Idle, 3, &[], false), Resolve);
    assert_eq!(refined(Divide, Depth::Regular, 9, &[], false), Merge);
}

#[test]
fn what_only_the_dead_make_too_large_is_not_divided() {
    let row_sets = row_sets(&[(30, 0), (40, 0)]);
    let refined = |dead_mib: u64, boundaries: &[u64]| {
        let leaf = leaf(&row_sets, boundaries);
        leaf.refined(JobKind::Divide, Depth::Regular, dead_mib * MIB, |_| false)
    };
    assert_eq!(refined(0, &[]), JobKind::Divide);
    assert_eq!(refined(5, &[]), JobKind::Divide);
    assert_eq!(refined(6, &[]), JobKind::Resolve);
    assert_eq!(refined(38, &[]), JobKind::Resolve);
    assert_eq!(refined(39, &[]), JobKind::Merge);
    assert_eq!(refined(39, &[99]), JobKind::Divide, "a boundary keeps it");
}

#[test]
fn a_leaf_that_is_nearly_too_large_is_merged_where_that_costs_little() {
    let many = [[(2, 0); 14].as_slice(), &[(32, 0)]].concat();
    let due = due(&many, &[], Depth::Regular);
    assert_eq!(due, merge(0..14), "not divided with 60 of 64 MiB");
}

#[test]
fn while_a_generation_is_flushed_more_may_be_dead() {
    let row_sets = row_sets(&[(9, 0), (10, 0)]);
    let dead_group = |is_flushing| {
        let leaf = Leaf {
            has_patches: false,
            is_flushing,
            ..leaf(&row_sets, &[])
        };
        leaf.dead_group()
    };
    assert_eq!(dead_group(false), Some(0..2));
    assert_eq!(dead_group(true), None);
}

#[test]
fn the_cheapest_are_merged_and_the_large_left_alone() {
    let row_sets = row_sets(&[[(1, 0); 14].as_slice(), &[(20, 0)]].concat());
    let leaf = leaf(&row_sets, &[]);
    assert_eq!(leaf.cheapest(), Some(0..14));
    let few = Leaf {
        row_sets: &row_sets[1..],
        ..leaf
    };
    assert_eq!(few.cheapest(), None);
}
