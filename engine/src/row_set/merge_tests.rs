//! A merge gives what a map would hold.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::file::{DeltaFile, delta_file_path};
use super::merge::{Backward, Merge, MergeInput, SortedRows, Tombstones, write_merged};
use super::meta::RowSetHead;
use super::page::Compression;
use super::reader::RowSet;
use super::row_set_tests::{DATABASE_ID, Model, all_forward, cache, model_strategy, written};
use super::rows_page::RowRef;
use super::writer::{DeltaFileOptions, DeltaFileWriter};
use crate::error::Result;
use crate::io::SimulatedIo;

/// Rows in memory, in either order.
struct Rows<const DESCENDING: bool>(Vec<(Vec<u8>, Option<Vec<u8>>)>, usize);

impl<const DESCENDING: bool> SortedRows for Rows<DESCENDING> {
    const DESCENDING: bool = DESCENDING;

    fn row(&self) -> Option<RowRef<'_>> {
        self.0.get(self.1).map(|(key, value)| RowRef {
            key,
            value: value.as_deref(),
        })
    }

    fn advance(&mut self) -> Result<()> {
        self.1 += 1;
        Ok(())
    }
}

/// (key, band) → (value, input), as a merge of these models, newest first, must give it.
type Merged = BTreeMap<(Vec<u8>, u32), (Option<Vec<u8>>, usize)>;

fn expected(models: &[(u32, Model)], tombstones: Tombstones) -> Merged {
    let mut merged = Merged::new();
    for (input, (band, model)) in models.iter().enumerate() {
        for (key, value) in model {
            merged
                .entry((key.clone(), *band))
                .or_insert_with(|| (value.clone(), input));
        }
    }
    if tombstones == Tombstones::Drop {
        // From the oldest band on: a tombstone over nothing goes. Older bands have smaller numbers here.
        let keys: Vec<_> = merged.keys().cloned().collect();
        for (key, band) in keys {
            let older = merged.range((key.clone(), 0)..(key.clone(), band)).next();
            if older.is_none() && merged[&(key.clone(), band)].0.is_none() {
                merged.remove(&(key, band));
            }
        }
    }
    merged
}

fn merged<S: SortedRows>(inputs: Vec<MergeInput<S>>, tombstones: Tombstones) -> Merged {
    let mut merge = Merge::new(inputs, tombstones);
    let mut rows = Merged::new();
    let mut last: Option<(Vec<u8>, u32)> = None;
    while let Some(merged) = merge.next_row().unwrap() {
        let at = (merged.row.key.to_vec(), merged.band);
        if let Some((key, band)) = &last {
            // Keys in order; of one key, newer bands first.
            let (before, after) = if S::DESCENDING {
                (&at.0, key)
            } else {
                (key, &at.0)
            };
            assert!(before < after || (before == after && at.1 < *band));
        }
        let value = merged.row.value.map(<[u8]>::to_vec);
        rows.insert(at.clone(), (value, merged.input));
        last = Some(at);
    }
    assert!(merge.next_row().unwrap().is_none());
    rows
}

/// Models that share many keys, newest first, with bands that only fall.
fn inputs_strategy() -> impl Strategy<Value = Vec<(u32, Model)>> {
    let key = prop_oneof![
        prop::collection::vec(prop::sample::select(vec![0u8, 255]), 0..4),
        (0..20u8).prop_map(|n| [b"prefix--".as_slice(), &[n]].concat()),
        Just(vec![255; 8]),
        Just(vec![255; 9]),
    ];
    let value = prop::option::weighted(0.6, prop::collection::vec(any::<u8>(), 0..3));
    let model = prop::collection::btree_map(key, value, 0..30);
    prop::collection::vec((0..3u32, model), 0..12).prop_map(|mut inputs| {
        inputs.sort_by_key(|(band, _)| u32::MAX - band);
        inputs
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_merge_gives_the_newest_row_of_each_key_and_band(inputs in inputs_strategy()) {
        for tombstones in [Tombstones::Keep, Tombstones::Drop] {
            let rows = inputs
                .iter()
                .map(|(band, model)| MergeInput { rows: Rows::<false>(model.clone().into_iter().collect(), 0), band: *band })
                .collect();
            prop_assert_eq!(merged(rows, tombstones), expected(&inputs, tombstones));
            let rows = inputs
                .iter()
                .map(|(band, model)| MergeInput { rows: Rows::<true>(model.clone().into_iter().rev().collect(), 0), band: *band })
                .collect();
            prop_assert_eq!(merged(rows, tombstones), expected(&inputs, tombstones));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// A fragment divides: RowSets in, one RowSet for each child out, nothing lost and each row where its hash says.
    #[test]
    fn a_division_gives_each_child_its_rows(models in prop::collection::vec(model_strategy(), 1..5)) {
        let io = SimulatedIo::new(1);
        let cache = cache(100_000);
        let row_sets = written(&io, &models, Compression::Lz4, &cache);
        let inputs = row_sets
            .iter()
            .map(|row_set| {
                let mut rows = row_set.stream(50_000);
                rows.seek_first().unwrap();
                MergeInput { rows, band: 0 }
            })
            .collect();
        let backward = row_sets
            .iter()
            .map(|row_set| {
                let mut rows = Backward(row_set.cursor());
                rows.0.seek_last().unwrap();
                MergeInput { rows, band: 0 }
            })
            .collect();
        let bands: Vec<_> = models.iter().filter(|model| !model.is_empty()).map(|model| (0, model.clone())).collect();
        prop_assert_eq!(merged(backward, Tombstones::Drop), expected(&bands, Tombstones::Drop));

        let child_of = |hash: u64| (hash >> 62) as usize;
        let mut writers: Vec<_> = (0..4u64)
            .map(|child| {
                let path = delta_file_path(Path::new("/data"), 10 + child);
                let options = DeltaFileOptions::default();
                let mut writer =
                    DeltaFileWriter::create(Arc::new(io.clone()), &path, DATABASE_ID, 10 + child, options).unwrap();
                writer.begin(RowSetHead { fragment_id: child, ..RowSetHead::default() }).unwrap();
                writer
            })
            .collect();
        let mut merge = Merge::new(inputs, Tombstones::Keep);
        let row_count = write_merged(&mut merge, &mut writers, xxh3_64, |_, hash| child_of(hash)).unwrap();

        let mut all = Model::new();
        for model in models.iter().rev() {
            all.extend(model.clone());
        }
        prop_assert_eq!(row_count, all.len() as u64);
        for (child, mut writer) in writers.into_iter().enumerate() {
            let model: Model = all.iter().filter(|(key, _)| child_of(xxh3_64(key)) == child).map(|(k, v)| (k.clone(), v.clone())).collect();
            let Some(meta) = writer.finish_row_set().unwrap() else {
                prop_assert!(model.is_empty());
                continue;
            };
            let number = meta.file_number;
            writer.finish().unwrap();
            let file = DeltaFile::open(&io, &delta_file_path(Path::new("/data"), number), DATABASE_ID, number).unwrap();
            let row_set = RowSet::open(meta, file, &cache).unwrap();
            prop_assert_eq!(all_forward(&mut row_set.cursor()).unwrap(), model.clone());
            for key in model.keys() {
                let found = row_set.get(xxh3_64(key), key).unwrap().unwrap();
                let old = row_sets.iter().find_map(|old| {
                    let found = old.get(xxh3_64(key), key).unwrap()?;
                    Some(old.location(found.ordinal()).unwrap())
                });
                prop_assert_eq!(Some(row_set.location(found.ordinal()).unwrap()), old);
            }
        }
    }
}
