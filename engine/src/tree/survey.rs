//! How much of a leaf is dead: an estimate from a sample of its rows.
//!
//! A few pages of each RowSet are read, and the indexes of the older ones are asked for their keys. So many of its rows
//! replace others as of the sample; the index errs once in 6,500. It costs some ten pages a RowSet and no sorting.

use std::sync::Arc;

use super::files::HeldRowSet;
use super::state::Described;
use crate::cache::table::hash_key;
use crate::error::Result;

/// Pages of a RowSet that are looked at, spread over all of it.
const PAGES_SAMPLED: u32 = 8;

/// Bytes of the RowSets, newest first, that merging them into one would leave out. At the bottom tombstones go too.
///
/// # Errors
/// What reading them may end in.
pub(super) fn dead_bytes(row_sets: &[Arc<HeldRowSet>], is_bottom: bool) -> Result<u64> {
    let mut dead_bytes = 0;
    for (i, held) in row_sets.iter().enumerate() {
        let meta = held.meta();
        if is_bottom {
            dead_bytes += share(meta.size_bytes, meta.tombstone_count, meta.row_count);
        }
        let older = row_sets.get(i + 1..).unwrap_or_default();
        if !older.is_empty() {
            let (replaced_bytes, sampled) = sample(held, older)?;
            dead_bytes += share(replaced_bytes, meta.row_count, sampled);
        }
    }
    Ok(dead_bytes)
}

/// Bytes of older rows that the sampled rows of a RowSet replace, and how many rows were sampled.
fn sample(held: &HeldRowSet, older: &[Arc<HeldRowSet>]) -> Result<(u64, u64)> {
    let page_count = held.row_set.meta().rows_page_count;
    let (mut replaced_bytes, mut sampled) = (0, 0);
    for i in 0..PAGES_SAMPLED.min(page_count) {
        let number =
            u64::from(i) * u64::from(page_count) / u64::from(PAGES_SAMPLED.min(page_count));
        let page = held.row_set.rows_page(number as u32)?.into_pinned();
        let rows = page.rows();
        for slot in 0..rows.row_count() {
            sampled += 1;
            let hash = hash_key(rows.key(slot));
            for replaced in older {
                if replaced.row_set.may_contain(hash)? {
                    let meta = replaced.meta();
                    replaced_bytes += meta.size_bytes / meta.row_count.max(1);
                    // What that one replaces counts with its own rows.
                    break;
                }
            }
        }
    }
    Ok((replaced_bytes, sampled))
}

/// `bytes` × `part` / `whole`.
fn share(bytes: u64, part: u64, whole: u64) -> u64 {
    let product = u128::from(bytes) * u128::from(part);
    u64::try_from(product / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}
