//! A generation's versions in key order.
//!
//! Writing keeps no order. Who asks for one pays for it: the versions that came since the last time are sorted into a
//! run, and runs of similar size are merged (the logarithmic method of Bentley and Saxe, 1980), so that a table that is
//! scanned all the time pays O(log n) a version, and one that never is, nothing.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Bodies;
use super::versions::{Version, Versions};
use crate::codec::key::prefix_of;
use crate::sync::Mutex;

/// A version's number with the first bytes of its key, which mostly decide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranked {
    pub(super) prefix: u64,
    pub(super) number: u32,
}

pub(super) type Run = Arc<[Ranked]>;

/// A run takes in the one before it unless that is longer by more than this: few runs make a short range cheap, and each
/// version is copied at most so often for each time that the runs grow by this factor.
const RUN_GROWTH: usize = 8;

/// The versions of a table in key order, as far as somebody asked for them.
#[derive(Debug, Default)]
pub(super) struct SortedRuns {
    sorted: ArcSwap<Sorted>,
    /// Held by who sorts.
    sorting: Mutex<()>,
    some: Mutex<SomeVersions>,
}

/// The versions that somebody last asked for by their numbers: mostly they are asked for several times.
#[derive(Debug, Default)]
struct SomeVersions {
    numbers: Range<u32>,
    sorted: Arc<Sorted>,
    /// The most that there were.
    count_max: u32,
}

/// Versions in key order; of one key the newest first.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// Each much longer than the next.
    pub(super) runs: Vec<Run>,
    /// The versions below this number are in the runs.
    covered: u32,
}

impl SortedRuns {
    /// At least so many of the first versions, in a few runs; and the bytes by which they grew for that.
    pub(super) fn of_first(
        &self,
        count: u32,
        versions: &Versions,
        bodies: &Bodies,
    ) -> (Arc<Sorted>, usize) {
        let sorted = self.sorted.load_full();
        if sorted.covered >= count {
            return (sorted, 0);
        }
        let _sorting = self.sorting.lock();
        let sorted = self.sorted.load_full();
        if sorted.covered >= count {
            return (sorted, 0);
        }
        let grown = Arc::new(sorted.grown(versions, bodies));
        self.sorted.store(grown.clone());
        let added = grown.covered.saturating_sub(sorted.covered) as usize;
        (grown, added * size_of::<Ranked>())
    }

    /// Some versions only, by their numbers; and the bytes by which what is kept of such grew for that.
    pub(super) fn of_some(
        &self,
        numbers: Range<u32>,
        versions: &Versions,
        bodies: &Bodies,
    ) -> (Arc<Sorted>, usize) {
        let mut some = self.some.lock();
        if some.numbers == numbers {
            return (some.sorted.clone(), 0);
        }
        let count = numbers.end.saturating_sub(numbers.start);
        some.sorted = Arc::new(Sorted {
            covered: numbers.end,
            runs: vec![sorted_run(numbers.clone(), versions, bodies).into()],
        });
        some.numbers = numbers;
        let added = count.saturating_sub(some.count_max) as usize;
        some.count_max = some.count_max.max(count);
        (some.sorted.clone(), added * size_of::<Ranked>())
    }
}

impl Sorted {
    /// The same with all versions that are there now.
    fn grown(&self, versions: &Versions, bodies: &Bodies) -> Sorted {
        let covered = versions.len();
        let mut run = sorted_run(self.covered..covered, versions, bodies);
        let mut runs = self.runs.clone();
        while let Some(last) = runs.pop_if(|last| last.len() <= run.len() * RUN_GROWTH) {
            // The standard library's sort finds the two runs and merges them.
            run.extend_from_slice(&last);
            run.sort_by(|a, b| compare(versions, bodies, a, b));
        }
        runs.push(run.into());
        Sorted { runs, covered }
    }
}

fn sorted_run(numbers: Range<u32>, versions: &Versions, bodies: &Bodies) -> Vec<Ranked> {
    let ranked = numbers.filter_map(|number| {
        let version = versions.get(number)?;
        let prefix = prefix_of(version.key(bodies));
        Some(Ranked { prefix, number })
    });
    let mut run: Vec<Ranked> = ranked.collect();
    sort(&mut run, versions, bodies);
    run
}

/// Sorts by key; of one key the newest comes first.
pub(super) fn sort(ranked: &mut [Ranked], versions: &Versions, bodies: &Bodies) {
    // Numbers alone, and keys only where their first bytes are the same.
    ranked.sort_unstable_by_key(|ranked| (ranked.prefix, !ranked.number));
    for alike in ranked.chunk_by_mut(|a, b| a.prefix == b.prefix) {
        if alike.len() > 1 {
            alike.sort_unstable_by(|a, b| compare(versions, bodies, a, b));
        }
    }
}

pub(super) fn key_of<'b>(versions: &Versions, bodies: &'b Bodies, number: u32) -> &'b [u8] {
    let version = versions.get(number);
    version.map_or(&[], |version| version.key(bodies))
}

impl Version {
    /// The key's bytes.
    pub(crate) fn key<'b>(&self, bodies: &'b Bodies) -> &'b [u8] {
        bodies.slice(self.record, self.key_start, self.key_len)
    }

    /// The value's bytes; `None` for a tombstone.
    pub(super) fn value_bytes<'b>(&self, bodies: &'b Bodies) -> Option<&'b [u8]> {
        let (start, len) = self.value?;
        Some(bodies.slice(self.record, start, len))
    }

    /// Has its key and both ends of its value loaded: a number that depends on them, for nothing else.
    pub(super) fn touch(&self, bodies: &Bodies) -> u8 {
        let value = self.value_bytes(bodies).unwrap_or_default();
        let ends = [self.key(bodies).first(), value.first(), value.last()];
        ends.into_iter().flatten().fold(0, |sum, byte| sum ^ byte)
    }
}

fn compare(versions: &Versions, bodies: &Bodies, a: &Ranked, b: &Ranked) -> Ordering {
    a.prefix
        .cmp(&b.prefix)
        .then_with(|| key_of(versions, bodies, a.number).cmp(key_of(versions, bodies, b.number)))
        .then(b.number.cmp(&a.number))
}
