//! A generation's rows on their way below level 0: told apart in commit order, then brought into key order, a fragment's
//! rows at a time, on as many threads as write them.

use std::collections::BTreeMap;
use std::hint::black_box;

use super::Bodies;
use super::sorted::{Ranked, key_of, sort};
use super::table::TableGeneration;
use super::versions::Version;
use crate::codec::key::prefix_of;
use crate::error::Result;
use crate::row_set::rows_page::RowRef;

/// Rows whose cache misses overlap: in key order they lie anywhere.
const ROWS_AT_ONCE: usize = 32;
/// What the processor fetches at once.
const CACHE_LINE_SIZE_BYTES: usize = 64;
/// Cache lines of a value that are fetched ahead; the processor itself goes on from there.
const VALUE_LINES_MAX: usize = 4;

/// What was written to a fragment, in commit order.
#[derive(Debug, Default)]
pub(crate) struct GatheredRows {
    ranked: Vec<Ranked>,
    size_bytes: u64,
}

impl GatheredRows {
    /// Bytes of keys and values.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

impl TableGeneration {
    /// What was written after one commit sequence and up to another, but for what a truncate up to there took, by the
    /// fragment of each hash and key.
    pub(crate) fn gather<F: Ord>(
        &self,
        bodies: &Bodies,
        after_seq: u64,
        seq: u64,
        fragment_of: impl Fn(u64, &[u8]) -> F,
    ) -> BTreeMap<F, GatheredRows> {
        let seq_min = self.truncate_seq(seq).max(after_seq.saturating_add(1));
        let mut fragments: BTreeMap<F, GatheredRows> = BTreeMap::new();
        for number in 0..self.version_count() {
            let version = self.versions().get(number);
            let Some(version) = version.filter(|one| (seq_min..=seq).contains(&one.seq)) else {
                continue;
            };
            let key = version.key(bodies);
            let rows = fragments.entry(fragment_of(version.hash, key)).or_default();
            let value_len = version.value.map_or(0, |(_, len)| u64::from(len));
            rows.size_bytes += key.len() as u64 + value_len;
            rows.ranked.push(Ranked {
                prefix: prefix_of(key),
                number,
            });
        }
        fragments
    }

    /// Hands out gathered rows in key order, with the hash of each: of every key the newest, unless a range delete up to
    /// `seq` took it. Stops where `take` returns false, and then returns that.
    ///
    /// # Errors
    /// What `take` returns.
    pub(crate) fn each_sorted(
        &self,
        bodies: &Bodies,
        rows: GatheredRows,
        seq: u64,
        mut take: impl FnMut(RowRef<'_>, u64) -> Result<bool>,
    ) -> Result<bool> {
        let versions = self.versions();
        let mut ranked = rows.ranked;
        sort(&mut ranked, versions, bodies);
        let key = |ranked: &Ranked| key_of(versions, bodies, ranked.number);
        // The newest one of a key comes first, and stays.
        ranked.dedup_by(|older, newer| older.prefix == newer.prefix && key(older) == key(newer));
        let deletes = self.deletes();
        let mut batch = Vec::with_capacity(ROWS_AT_ONCE);
        for ranked in ranked.chunks(ROWS_AT_ONCE) {
            batch.clear();
            batch.extend(ranked.iter().filter_map(|one| versions.get(one.number)));
            warm(bodies, &batch);
            for version in &batch {
                let key = version.key(bodies);
                if !deletes.is_empty() && version.seq < deletes.newest_seq(key, seq) {
                    continue;
                }
                let value = version.value_bytes(bodies);
                if !take(RowRef { key, value }, version.hash)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The first and the last key that something was written of.
    pub(crate) fn key_bounds<'b>(&self, bodies: &'b Bodies) -> Option<(&'b [u8], &'b [u8])> {
        let numbers = 0..self.version_count();
        let mut keys = numbers.map(|number| key_of(self.versions(), bodies, number));
        let first = keys.next()?;
        Some(keys.fold((first, first), |(least, most), key| {
            (least.min(key), most.max(key))
        }))
    }
}

/// Reads something of each cache line of some rows, so that the processor waits for all of them side by side.
fn warm(bodies: &Bodies, versions: &[Version]) {
    let lines = versions.iter().map(|version| {
        let key = version.key(bodies).first().copied().unwrap_or(0);
        let value = version.value_bytes(bodies).unwrap_or_default();
        let lines = value.iter().step_by(CACHE_LINE_SIZE_BYTES);
        let last = value.last().copied().unwrap_or(0);
        let lines = lines.take(VALUE_LINES_MAX).fold(0, |sum, byte| sum ^ byte);
        u32::from(key ^ lines ^ last)
    });
    black_box(lines.sum::<u32>());
}
