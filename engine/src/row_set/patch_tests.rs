//! What a join finds is what is replaced, and what is wrong with a patch is named.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::budget::MemoryBudget;
use super::check::check_patch;
use super::file::{DELTA_FILE_VERSION, DeltaFile, delta_file_path};
use super::join::{find_replaced, sample_replaced};
use super::page::Compression;
use super::page_cache::PageCache;
use super::patch::{PatchMeta, PatchTarget, Replaced, TargetOrdinals};
use super::reader::RowSet;
use super::row_set_tests::{DATABASE_ID, Model, path, written};
use super::writer::{DeltaFileOptions, DeltaFileWriter};
use crate::codec::check_bytes;
use crate::error::Error;
use crate::io::{Io, OpenMode, SimulatedIo};

fn any_model() -> impl Strategy<Value = Model> {
    let key = prop::collection::vec(0u8..4, 0..4);
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
    prop::collection::btree_map(key, value, 0..60)
}

/// Writes a patch into a file of its own.
fn write_patch(io: &SimulatedIo, targets: &[TargetOrdinals]) -> (PatchMeta, Arc<DeltaFile>) {
    let path = delta_file_path(Path::new("/data"), 2);
    let io = Arc::new(io.clone());
    let mut writer =
        DeltaFileWriter::create(io, &path, DATABASE_ID, 2, DeltaFileOptions::default()).unwrap();
    let patch = writer.write_patch(targets).unwrap();
    (patch, writer.finish().unwrap())
}

/// Ordinals of the rows that the patch names, for each target.
fn named(patch: &PatchMeta, file: &DeltaFile, older: &[&RowSet]) -> Vec<Vec<u32>> {
    let marked = older.iter().map(|older| {
        let mut marks = Replaced::none_of(older.meta());
        patch.mark(file, older.meta(), &mut marks).unwrap();
        marks.iter().collect()
    });
    marked.collect()
}

#[test]
fn a_sample_tells_about_how_many_rows_are_replaced() {
    let io = SimulatedIo::new(1);
    let cache = PageCache::new(MemoryBudget::new(1 << 20));
    let rows = |keys: std::ops::Range<u32>, every: usize| -> Model {
        let keys = keys.step_by(every);
        let row = |k: u32| (k.to_be_bytes().to_vec(), Some(vec![7; 100]));
        keys.map(row).collect()
    };
    // Of the newest one every fourth key is in the oldest.
    let models = [
        rows(0..20_000, 1),
        rows(90_000..91_000, 1),
        rows(0..20_000, 4),
    ];
    let row_sets = written(&io, &models, Compression::None, &cache);
    let sampled = |older: &[&RowSet]| {
        let (seen, found) = sample_replaced(&row_sets[0], older, xxh3_64).unwrap();
        assert!(
            (100..2_000).contains(&seen),
            "{seen} of 20000 rows were read"
        );
        found as f64 / seen as f64
    };
    let part = sampled(&[&row_sets[1], &row_sets[2]]);
    assert!((0.2..0.3).contains(&part), "{part}");
    assert!(sampled(&[&row_sets[1]]) < 0.01);
}

proptest! {
    #[test]
    fn a_join_finds_the_next_older_row_of_each_key(models in prop::collection::vec(any_model(), 1..5)) {
        let io = SimulatedIo::new(1);
        let cache = PageCache::new(MemoryBudget::new(1 << 20));
        let row_sets = written(&io, &models, Compression::Lz4, &cache);
        prop_assume!(!row_sets.is_empty());
        let (newer, older) = (&row_sets[0], row_sets[1..].iter().collect::<Vec<_>>());
        let targets = find_replaced(newer, &older, xxh3_64, || false).unwrap().unwrap();
        let (patch, file) = write_patch(&io, &targets);
        prop_assert_eq!(patch.targets.len(), older.len());
        // The same, by looking each key up.
        let mut expected = vec![Vec::new(); older.len()];
        let mut live = vec![0; older.len()];
        let mut cursor = newer.cursor();
        cursor.seek_first().unwrap();
        while let Some(row) = cursor.row() {
            for (i, one) in older.iter().enumerate() {
                if let Some(found) = one.get(xxh3_64(row.key), row.key).unwrap() {
                    expected[i].push(found.ordinal());
                    live[i] += u32::from(found.value().is_some());
                    break;
                }
            }
            cursor.advance().unwrap();
        }
        prop_assert_eq!(named(&patch, &file, &older), expected);
        prop_assert_eq!(patch.targets.iter().map(|target| target.live_count).collect::<Vec<_>>(), live);
        for one in &older {
            check_patch(newer, &patch, &file, one, xxh3_64).unwrap();
        }
        prop_assert!(find_replaced(newer, &older, xxh3_64, || true).unwrap().is_none(), "it can be stopped");
    }
}

fn model(keys: impl Iterator<Item = u32>) -> Model {
    let pairs = keys.map(|k| (format!("{k:08}").into_bytes(), Some(b"value".to_vec())));
    pairs.collect::<BTreeMap<_, _>>()
}

/// *Honest*: a patch that says what is not so is named.
#[test]
fn wrong_patches_are_named() {
    let io = SimulatedIo::new(2);
    let cache = PageCache::new(MemoryBudget::new(1 << 20));
    let models = [model((0..3000).step_by(2)), model(0..3000)];
    let row_sets = written(&io, &models, Compression::None, &cache);
    let (newer, older) = (&row_sets[0], &row_sets[1]);
    let right = find_replaced(newer, &[older], xxh3_64, || false)
        .unwrap()
        .unwrap();
    let (patch, file) = write_patch(&io, &right);
    assert_eq!(named(&patch, &file, &[older])[0].len(), 1500);
    let check = |patch: &PatchMeta, file: &DeltaFile| {
        check_patch(newer, patch, file, older, xxh3_64).map_err(|error| match error {
            Error::Corrupt { path, .. } => assert_eq!(path, file.path()),
            other => panic!("{other}"),
        })
    };
    check(&patch, &file).unwrap();
    let target = patch.targets[0];
    for wrong in [
        PatchTarget {
            live_count: target.live_count - 1,
            ..target
        },
        PatchTarget {
            ordinal_count: target.ordinal_count - 1,
            ..target
        },
        PatchTarget {
            size_bytes: target.size_bytes - 1,
            ..target
        },
    ] {
        let targets = [wrong].into();
        check(
            &PatchMeta {
                targets,
                ..patch.clone()
            },
            &file,
        )
        .unwrap_err();
    }
    check(
        &PatchMeta {
            offset: patch.offset + 1,
            ..patch.clone()
        },
        &file,
    )
    .unwrap_err();
    // A row that nothing replaces, one behind the last of its page, and one behind all pages.
    for ordinal in [
        1,
        older.meta().ordinal_end() - 1,
        older.meta().ordinal_end(),
    ] {
        let io = SimulatedIo::new(3);
        let mut ordinals = TargetOrdinals::new(older.meta().place());
        ordinals.push(ordinal, true);
        let (patch, file) = write_patch(&io, &[ordinals]);
        check(&patch, &file).unwrap_err();
    }
}

/// *Honest*: whichever bit of a patch flips, it is found out.
#[test]
fn damaged_patches_are_named() {
    let io = SimulatedIo::new(4);
    let cache = PageCache::new(MemoryBudget::new(1 << 20));
    let row_sets = written(
        &io,
        &[model((0..300).step_by(7)), model(0..300)],
        Compression::None,
        &cache,
    );
    let targets = find_replaced(&row_sets[0], &[&row_sets[1]], xxh3_64, || false)
        .unwrap()
        .unwrap();
    let (patch, file) = write_patch(&io, &targets);
    let start = usize::try_from(patch.offset).unwrap();
    for offset in start..start + patch.size_bytes() as usize {
        let bit = 1 << (offset % 8);
        io.damage(file.path(), offset, bit).unwrap();
        let mut marks = Replaced::none_of(row_sets[1].meta());
        let read = patch.mark(&file, row_sets[1].meta(), &mut marks);
        assert!(matches!(read, Err(Error::Corrupt { .. })), "byte {offset}");
        io.damage(file.path(), offset, bit).unwrap();
    }
}

/// A file of RowSets with tombstones and locations, and one of a patch. Nothing is compressed, which is for its library to say.
#[test]
fn bytes_of_delta_files_change_with_their_version() {
    let io = SimulatedIo::new(5);
    let cache = PageCache::new(MemoryBudget::new(1 << 20));
    let mut newer = model((0..300).step_by(7));
    newer.insert(b"gone".to_vec(), None);
    let row_sets = written(&io, &[newer, model(0..300)], Compression::None, &cache);
    let targets = find_replaced(&row_sets[0], &[&row_sets[1]], xxh3_64, || false);
    let (_, file) = write_patch(&io, &targets.unwrap().unwrap());
    let mut all = Vec::new();
    for path in [path(), file.path().to_owned()] {
        let file = io.open(&path, OpenMode::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len_bytes().unwrap()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        all.extend(bytes);
    }
    check_bytes(
        "delta files",
        &all,
        DELTA_FILE_VERSION,
        (2, 0xaca5_0329_d5e1_1e6f),
    );
}
