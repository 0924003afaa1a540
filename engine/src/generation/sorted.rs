//! A generation's versions in key order.
//!
//! Writing keeps no order. Who asks for one pays for it: the versions that came since the last time are sorted into a
//! run, and runs of similar size are merged (the logarithmic method of Bentley and Saxe, 1980), so that a table that is
//! scanned all the time pays O(log n) a version, and one that never is, nothing.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Bodies;
use super::versions::{Version, Versions};

/// A version's number with the first bytes of its key, which mostly decide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranked {
    prefix: u64,
    number: u32,
}

pub(super) type Run = Arc<[Ranked]>;

/// Versions in key order; of one key the newest first.
#[derive(Debug, Default)]
pub(super) struct SortedRuns {
    state: Mutex<Sorted>,
}

#[derive(Debug, Default)]
struct Sorted {
    /// Each much longer than the next.
    runs: Vec<Run>,
    /// The versions below this number are in the runs.
    covered: u32,
}

impl SortedRuns {
    /// All versions that are there now, in a few runs.
    pub(super) fn runs(&self, versions: &Versions, bodies: &Bodies) -> Vec<Run> {
        let mut sorted = self.state.lock();
        let len = versions.len();
        if sorted.covered < len {
            let order = |a: &Ranked, b: &Ranked| compare(versions, bodies, a, b);
            let ranked = (sorted.covered..len).filter_map(|number| {
                let version = versions.get(number)?;
                let prefix = prefix_of(version.key(bodies));
                Some(Ranked { prefix, number })
            });
            let mut run: Vec<Ranked> = ranked.collect();
            run.sort_unstable_by(order);
            while let Some(last) = sorted.runs.pop_if(|last| last.len() <= run.len() * 2) {
                // The standard library's sort finds the two runs and merges them.
                run.extend_from_slice(&last);
                run.sort_by(order);
            }
            sorted.runs.push(run.into());
            sorted.covered = len;
        }
        sorted.runs.clone()
    }
}

/// The rows and tombstones of a table at a commit sequence, each key once, in key order.
#[derive(Debug)]
pub(crate) struct SortedRows<'g> {
    versions: &'g Versions,
    bodies: &'g Bodies,
    runs: Vec<Run>,
    /// The next version of each run that has one.
    heads: BinaryHeap<Head<'g>>,
    seq: u64,
    truncate_seq: u64,
    last_key: Option<&'g [u8]>,
}

#[derive(Debug)]
struct Head<'g> {
    prefix: u64,
    key: &'g [u8],
    number: u32,
    run: usize,
    next: usize,
}

impl<'g> SortedRows<'g> {
    pub(super) fn new(
        versions: &'g Versions,
        bodies: &'g Bodies,
        runs: Vec<Run>,
        seq: u64,
        truncate_seq: u64,
    ) -> Self {
        let mut rows = SortedRows {
            versions,
            bodies,
            heads: BinaryHeap::with_capacity(runs.len()),
            runs,
            seq,
            truncate_seq,
            last_key: None,
        };
        (0..rows.runs.len()).for_each(|run| rows.push_head(run, 0));
        rows
    }

    /// Goes to the first key at or after `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) {
        self.heads.clear();
        self.last_key = None;
        for run in 0..self.runs.len() {
            let Some(ranked) = self.runs.get(run) else {
                continue;
            };
            let prefix = prefix_of(key);
            let at = ranked.partition_point(|ranked| match ranked.prefix.cmp(&prefix) {
                Ordering::Equal => self.key_of(ranked.number) < key,
                order => order.is_lt(),
            });
            self.push_head(run, at);
        }
    }

    fn key_of(&self, number: u32) -> &'g [u8] {
        let version = self.versions.get(number);
        version.map_or(&[], |version| version.key(self.bodies))
    }

    fn push_head(&mut self, run: usize, at: usize) {
        let ranked = self.runs.get(run).and_then(|run| run.get(at)).copied();
        if let Some(Ranked { prefix, number }) = ranked {
            self.heads.push(Head {
                prefix,
                key: self.key_of(number),
                number,
                run,
                next: at + 1,
            });
        }
    }
}

impl<'g> Iterator for SortedRows<'g> {
    /// The key and its version.
    type Item = (&'g [u8], Version);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let head = self.heads.pop()?;
            self.push_head(head.run, head.next);
            let is_older = self.last_key.is_some_and(|last| last == head.key);
            let Some(version) = self.versions.get(head.number).filter(|_| !is_older) else {
                continue;
            };
            if version.seq > self.seq {
                continue;
            }
            self.last_key = Some(head.key);
            if version.seq >= self.truncate_seq {
                return Some((head.key, version));
            }
        }
    }
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head<'_> {}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head<'_> {
    /// The greatest is the smallest key, its newest version first, since a binary heap gives its greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_key = other
            .prefix
            .cmp(&self.prefix)
            .then_with(|| other.key.cmp(self.key));
        by_key.then(self.number.cmp(&other.number))
    }
}

impl Version {
    /// The key's bytes.
    pub(crate) fn key<'b>(&self, bodies: &'b Bodies) -> &'b [u8] {
        bodies.slice(self.record, self.key_start, self.key_len)
    }
}

fn compare(versions: &Versions, bodies: &Bodies, a: &Ranked, b: &Ranked) -> Ordering {
    let key = |ranked: &Ranked| {
        let version = versions.get(ranked.number);
        version.map_or(&[][..], |version| version.key(bodies))
    };
    a.prefix
        .cmp(&b.prefix)
        .then_with(|| key(a).cmp(key(b)))
        .then(b.number.cmp(&a.number))
}

/// The first eight bytes of a key, so that numbers compare as keys do; shorter keys are filled up with zeros.
fn prefix_of(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    for (byte, of_key) in bytes.iter_mut().zip(key) {
        *byte = *of_key;
    }
    u64::from_be_bytes(bytes)
}
