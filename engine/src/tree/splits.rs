//! The keys at which a leaf of a tree that is divided by range falls into parts, from the directories of its RowSets.

use std::sync::Arc;

use super::files::HeldRowSet;
use super::state::Described;
use crate::error::Result;
use crate::row_set::directory::Fence;

/// Where rows came in key order, a part gets so many tenths of P-Size: no more than the smallest P-Size of a leaf.
const APPENDED_TENTHS: u64 = 7;

/// Whether there is a key between the rows of a leaf.
pub(crate) fn can_split(row_sets: &[Arc<HeldRowSet>]) -> bool {
    let mut metas = row_sets.iter().map(|held| held.meta());
    let first = row_sets.first().map(|held| &held.meta().key_min);
    metas.any(|meta| meta.rows_page_count > 1 || Some(&meta.key_min) != first)
}

/// The splits of a leaf with these RowSets, newest first: they divide its bytes evenly into so many parts, as far as pages
/// allow. If the newest lies behind all others, keys come in order, and what is there will hardly grow: then the parts are
/// filled, but for the last.
pub(crate) fn splits_of(
    row_sets: &[Arc<HeldRowSet>],
    part_count: u64,
    size_bytes_max: u64,
) -> Result<Vec<Box<[u8]>>> {
    let mut fences = Vec::new();
    for held in row_sets {
        fences.extend(held.row_set.fences()?);
    }
    fences.sort_unstable();
    let total: u64 = fences.iter().map(|fence| fence.size_bytes).sum();
    let part_bytes = if are_appended(row_sets) {
        (size_bytes_max / 10 * APPENDED_TENTHS).min(total / 2)
    } else {
        total / part_count.max(2)
    };
    Ok(chosen(&fences, part_bytes.max(1)))
}

/// Whether the newest RowSet lies behind all others.
fn are_appended(row_sets: &[Arc<HeldRowSet>]) -> bool {
    let Some((newest, older)) = row_sets.split_first() else {
        return false;
    };
    let key_min = &newest.meta().key_min;
    !older.is_empty() && older.iter().all(|held| held.meta().key_max < *key_min)
}

/// The keys of fences at which parts of that many bytes end; at least one if two fences differ.
fn chosen(fences: &[Fence], part_bytes: u64) -> Vec<Box<[u8]>> {
    let Some(first) = fences.first() else {
        return Vec::new();
    };
    let mut splits: Vec<Box<[u8]>> = Vec::new();
    let (mut before, mut part_end) = (0, part_bytes);
    for same in fences.chunk_by(|a, b| a.key == b.key) {
        if let Some(fence) = same.first()
            && before >= part_end
        {
            splits.push(fence.key.clone());
            part_end = before + part_bytes;
        }
        before += same.iter().map(|fence| fence.size_bytes).sum::<u64>();
    }
    if splits.is_empty() {
        let other = fences.iter().rev().find(|fence| fence.key > first.key);
        splits.extend(other.map(|fence| fence.key.clone()));
    }
    splits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The splits ascend, lie behind the first key, and make parts of about the size that was asked for.
        #[test]
        fn splits_make_parts_of_a_size(
            pages in prop::collection::vec((0..50_u8, 1..100_u64), 1..60), part_bytes in 1..2000_u64,
        ) {
            let mut fences: Vec<Fence> = pages
                .iter()
                .map(|&(key, size_bytes)| Fence { key: [key].into(), size_bytes })
                .collect();
            fences.sort_unstable();
            let splits = chosen(&fences, part_bytes);
            prop_assert!(splits.is_sorted_by(|a, b| a < b));
            prop_assert!(splits.iter().all(|split| *split > fences[0].key));
            let differ = fences.iter().any(|fence| fence.key != fences[0].key);
            prop_assert_eq!(splits.is_empty(), !differ);
            let mut parts = vec![0; splits.len() + 1];
            for fence in &fences {
                parts[splits.partition_point(|split| *split <= fence.key)] += fence.size_bytes;
            }
            let of_one_key = |key: &[u8]| -> u64 {
                let same = fences.iter().filter(|fence| *fence.key == *key);
                same.map(|fence| fence.size_bytes).sum()
            };
            let most = fences.iter().map(|fence| of_one_key(&fence.key)).max().unwrap();
            // A key is in one part; and where nothing is left behind the last key, that one is the last part.
            if splits.len() > 1 {
                prop_assert!(parts.iter().all(|part| *part <= part_bytes + most), "{:?}", parts);
                prop_assert!(parts[..splits.len()].iter().all(|part| *part >= part_bytes), "{:?}", parts);
            }
        }
    }
}
