//! What was written is what is read, whole or damaged, within memory and without.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::budget::MemoryBudget;
use super::check::check_row_set;
use super::cursor::Cursor;
use super::file::{DeltaFile, delta_file_path};
use super::get::get_from_first;
use super::location::Location;
use super::meta::{RowSetHead, RowSetMeta};
use super::multi_get::HashedKey;
use super::page::Compression;
use super::page_cache::PageCache;
use super::reader::RowSet;
use super::rows_page::RowRef;
use super::writer::{DeltaFileOptions, DeltaFileWriter};
use crate::error::Error;
use crate::io::SimulatedIo;

pub(super) const DATABASE_ID: Uuid = Uuid::from_u128(0x1234 << 64);

/// Key → value or tombstone.
pub(super) type Model = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

pub(super) fn path() -> PathBuf {
    delta_file_path(Path::new("/data"), 1)
}

fn location_of(key: &[u8]) -> Option<Location> {
    let hash = xxh3_64(key);
    (!hash.is_multiple_of(3)).then_some(Location {
        file: hash as u32 % 100,
        position: (hash >> 32) as u32,
    })
}

/// Writes the models as RowSets of one file.
pub(super) fn try_write(
    io: &SimulatedIo,
    models: &[Model],
    compression: Compression,
    locations: bool,
) -> Result<Vec<RowSetMeta>, Error> {
    let options = DeltaFileOptions {
        compression,
        write_size_bytes: 10_000,
    };
    let mut writer =
        DeltaFileWriter::create(Arc::new(io.clone()), &path(), DATABASE_ID, 1, options)?;
    let mut metas = Vec::new();
    for (i, model) in (0..).zip(models) {
        writer.begin(RowSetHead {
            table_id: 7,
            fragment_id: i,
            seq_from: 10 * i,
            seq_to: 10 * i + 10,
        })?;
        for (key, value) in model {
            let row = RowRef {
                key,
                value: value.as_deref(),
            };
            let location = location_of(key).filter(|_| locations);
            writer.push(row, xxh3_64(key), location)?;
        }
        metas.extend(writer.finish_row_set()?);
    }
    writer.finish()?;
    Ok(metas)
}

/// The models that are not empty, as open RowSets.
pub(super) fn written(
    io: &SimulatedIo,
    models: &[Model],
    compression: Compression,
    cache: &Arc<PageCache>,
) -> Vec<RowSet> {
    let metas = try_write(io, models, compression, true).unwrap();
    let file = DeltaFile::open(io, &path(), DATABASE_ID, 1).unwrap();
    metas
        .into_iter()
        .map(|meta| RowSet::open(meta, file.clone(), cache).unwrap())
        .collect()
}

pub(super) fn cache(limit_bytes: u64) -> Arc<PageCache> {
    PageCache::new(MemoryBudget::new(limit_bytes))
}

fn key_strategy() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::collection::vec(prop::sample::select(vec![0u8, 1, 255]), 0..8),
        3 => any::<u16>().prop_map(|n| [b"a prefix that all of them share ".as_slice(), &n.to_be_bytes()].concat()),
        1 => any::<u8>().prop_map(|n| vec![n; 3000]),
    ]
}

pub(super) fn model_strategy() -> impl Strategy<Value = Model> {
    let value = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..60),
        1 => any::<u8>().prop_map(|n| vec![n; 5000]),
        1 => (any::<u8>(), 60_000..150_000usize).prop_map(|(n, len)| vec![n; len]),
    ];
    let small = (key_strategy(), prop::option::weighted(0.8, value.clone()));
    let varied = prop::collection::vec(small, 0..300).prop_map(|rows| rows.into_iter().collect());
    // Enough rows for several directory leaves and pages of locations.
    let many = (1..10_000u32, 0..300usize).prop_map(|(count, len)| {
        (0..count)
            .map(|i| {
                let value = (i % 7 > 0).then(|| vec![i as u8; len + (i % 5) as usize]);
                (xxh3_64(&i.to_le_bytes()).to_be_bytes()[..5].to_vec(), value)
            })
            .collect()
    });
    prop_oneof![9 => varied, 1 => many]
}

fn letters() -> impl Strategy<Value = Model> {
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..9));
    prop::collection::btree_map(prop::collection::vec(0..40u8, 1), value, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// *Ordered*: the newest row of a key is what counts, however many RowSets are asked at once, and whatever of them is
    /// in memory.
    #[test]
    fn the_first_row_set_that_has_a_key_answers(
        models in prop::collection::vec(letters(), 0..11), is_cached in prop::collection::vec(any::<bool>(), 11),
    ) {
        let cache = cache(1 << 20);
        let row_sets = match models.len() {
            0 => Vec::new(),
            _ => written(&SimulatedIo::new(1), &models, Compression::None, &cache),
        };
        for (row_set, _) in row_sets.iter().zip(is_cached).filter(|(_, is_cached)| *is_cached) {
            row_set.may_contain(0)?;
        }
        for key in (0..41u8).map(|letter| [letter]) {
            let expected = models.iter().enumerate().find_map(|(i, model)| Some((i, model.get(&key[..])?.as_deref())));
            let found = get_from_first(row_sets.iter(), xxh3_64(&key), &key)?;
            prop_assert_eq!(found.as_ref().map(|(i, found)| (*i, found.value())), expected);
        }
        let stats = cache.stats();
        prop_assert!(stats.rows_found <= 41 && stats.row_sets_asked <= 41 * models.len() as u64);
    }
}

fn row(row: RowRef<'_>) -> (Vec<u8>, Option<Vec<u8>>) {
    (row.key.to_vec(), row.value.map(<[u8]>::to_vec))
}

pub(super) fn all_forward(cursor: &mut Cursor) -> Result<Model, Error> {
    let mut rows = Model::new();
    cursor.seek_first()?;
    while let Some(at) = cursor.row() {
        let (key, value) = row(at);
        assert!(rows.last_key_value().is_none_or(|(last, _)| *last < key));
        rows.insert(key, value);
        cursor.advance()?;
    }
    Ok(rows)
}

fn all_backward(cursor: &mut Cursor) -> Result<Model, Error> {
    let mut rows = Model::new();
    cursor.seek_last()?;
    while let Some(at) = cursor.row() {
        let (key, value) = row(at);
        assert!(rows.first_key_value().is_none_or(|(first, _)| *first > key));
        rows.insert(key, value);
        cursor.retreat()?;
    }
    Ok(rows)
}

/// Every way of reading gives the model; stops at the first error.
fn check(row_set: &RowSet, model: &Model, probes: &[Vec<u8>]) -> Result<(), Error> {
    for key in model.keys().chain(probes) {
        let found = row_set.get(xxh3_64(key), key)?;
        assert_eq!(
            found.as_ref().map(|found| row(found.row()).1),
            model.get(key).cloned()
        );
        if let Some(found) = found {
            assert!(row_set.may_contain(xxh3_64(key))?);
            assert_eq!(row_set.location(found.ordinal())?, location_of(key));
        }
    }
    let keys: Vec<_> = model
        .keys()
        .chain(probes)
        .map(|key| HashedKey {
            hash: xxh3_64(key),
            key,
        })
        .collect();
    let mut found = vec![None; keys.len()];
    row_set.multi_get(&keys, |i, at| {
        assert_eq!(at.key, keys[i].key);
        assert!(found[i].replace(row(at).1).is_none());
    })?;
    for (key, found) in keys.iter().zip(found) {
        assert_eq!(found.as_ref(), model.get(key.key));
    }
    let hashes: Vec<_> = keys.iter().map(|key| key.hash).collect();
    let mut ordinals = vec![Vec::new(); keys.len()];
    row_set.candidates(&hashes, |i, ordinal| ordinals[i].push(ordinal))?;
    for (key, ordinals) in keys.iter().zip(ordinals) {
        assert_eq!(row_set.may_contain(key.hash)?, !ordinals.is_empty());
        if let Some(found) = row_set.get(key.hash, key.key)? {
            assert!(ordinals.contains(&found.ordinal()));
        }
    }
    for mut cursor in [row_set.cursor(), row_set.stream(1), row_set.stream(20_000)] {
        assert!(cursor.row().is_none());
        assert_eq!(all_forward(&mut cursor)?, *model);
        assert_eq!(all_backward(&mut cursor)?, *model);
        for probe in probes {
            cursor.seek(probe)?;
            let next = model.range(probe.clone()..).next();
            assert_eq!(
                cursor.row().map(row),
                next.map(|(k, v)| (k.clone(), v.clone()))
            );
            if let (Some(at), Some(ordinal)) = (cursor.row(), cursor.ordinal()) {
                let found = row_set.get(xxh3_64(at.key), at.key)?.unwrap();
                assert_eq!(found.ordinal(), ordinal);
            }
            cursor.seek_below(probe)?;
            let before = model.range(..probe.clone()).next_back();
            assert_eq!(
                cursor.row().map(row),
                before.map(|(k, v)| (k.clone(), v.clone()))
            );
        }
    }
    Ok(())
}

const COMPRESSIONS: [Compression; 3] = [
    Compression::None,
    Compression::Lz4,
    Compression::Zstd { level: 1 },
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_was_written_is_read(
        models in prop::collection::vec(model_strategy(), 1..4),
        probes in prop::collection::vec(key_strategy(), 0..20),
        compression in prop::sample::select(COMPRESSIONS.to_vec()),
        // From no room at all to room for everything.
        limit_bytes in prop::sample::select(vec![0u64, 30_000, 1 << 30]),
    ) {
        let io = SimulatedIo::new(1);
        let cache = cache(limit_bytes);
        let row_sets = written(&io, &models, compression, &cache);
        let file = DeltaFile::open(&io, &path(), DATABASE_ID, 1).unwrap();
        let models: Vec<_> = models.iter().filter(|model| !model.is_empty()).collect();
        prop_assert_eq!(row_sets.len(), models.len());
        for (row_set, model) in row_sets.iter().zip(models) {
            let meta = row_set.meta();
            prop_assert_eq!(meta.row_count, model.len() as u64);
            prop_assert_eq!(meta.tombstone_count, model.values().filter(|value| value.is_none()).count() as u64);
            prop_assert_eq!(Some(&*meta.key_min), model.keys().next().map(Vec::as_slice));
            prop_assert_eq!(Some(&*meta.key_max), model.keys().next_back().map(Vec::as_slice));
            check(row_set, model, &probes).unwrap();
            check_row_set(meta, &file, xxh3_64).unwrap();
        }
        drop(row_sets);
        prop_assert_eq!(cache.budget().used_bytes(), 0);
    }
}

/// In a full cache, a page that is read once makes no other go, and one that is read again soon stays.
#[test]
fn a_full_cache_keeps_pages_that_are_read_again() {
    let key = |i: u32| i.to_be_bytes();
    let model = (0..600).map(|i| (key(i).to_vec(), Some(vec![i as u8; 4000])));
    let io = SimulatedIo::new(1);
    let cache = cache(400_000);
    let row_sets = written(&io, &[model.collect()], Compression::None, &cache);
    let misses = || cache.stats().misses();
    let get = |i: u32| {
        let found = row_sets[0].get(xxh3_64(&key(i)), &key(i)).unwrap().unwrap();
        assert_eq!(
            (found.ordinal(), found.value()),
            (i, Some(&[i as u8; 4000][..]))
        );
    };
    (0..300).for_each(get);
    let (before, evicted) = (misses(), cache.stats().evicted());
    (300..600).for_each(get);
    assert!(misses() >= before + 300);
    assert!(cache.stats().evicted() < evicted + 30);
    get(100);
    get(100);
    let before = misses();
    get(100);
    assert_eq!(misses(), before);
}

/// Many pages of one row each, for several leaves of the directory; and pages that end long before they are full.
#[test]
fn large_rows_alone_and_behind_small_ones_are_read() {
    let row = |i: u32, len: usize| (i.to_be_bytes().to_vec(), Some(vec![i as u8; len]));
    let large: Model = (0..600).map(|i| row(i, 6000)).collect();
    let mixed: Model = (0..700)
        .map(|i| row(i, 2))
        .chain((700..800).map(|i| row(i, 30_000)))
        .chain((800..2000).map(|i| row(i, 2)))
        .collect();
    let io = SimulatedIo::new(1);
    let models = [large, mixed];
    let row_sets = written(&io, &models, Compression::Lz4, &cache(1 << 20));
    let file = DeltaFile::open(&io, &path(), DATABASE_ID, 1).unwrap();
    for (row_set, model) in row_sets.iter().zip(&models) {
        let probes: Vec<_> = (0..=2000u32)
            .step_by(61)
            .map(|i| i.to_be_bytes().to_vec())
            .collect();
        check(row_set, model, &probes).unwrap();
        check_row_set(row_set.meta(), &file, xxh3_64).unwrap();
    }
    let [large, mixed] = &row_sets[..] else {
        panic!("two RowSets")
    };
    assert_eq!(
        (
            large.meta().rows_per_page_log2,
            large.meta().rows_page_count
        ),
        (0, 600)
    );
    assert_eq!(large.meta().directory_page_count, 3);
    assert_eq!(mixed.meta().rows_per_page_log2, 9);
    // 2 of the large ones a page.
    assert!((50..60).contains(&mixed.meta().rows_page_count));
}

pub(super) fn sample() -> Model {
    (0..80u32)
        .map(|i| {
            let value = (i % 9 > 0).then(|| vec![i as u8; 60 + (i % 30) as usize]);
            (i.to_be_bytes().to_vec(), value)
        })
        .collect()
}

/// Honest: damage of any byte is named with file and place, or makes no difference.
#[test]
fn any_damaged_byte_is_named_or_makes_no_difference() {
    for compression in COMPRESSIONS {
        let io = SimulatedIo::new(1);
        let model = sample();
        let metas = try_write(&io, &[model.clone(), sample()], compression, true).unwrap();
        let size_bytes = io.files()[0].1;
        let mut named = 0;
        for offset in 0..size_bytes {
            io.damage(&path(), offset, 1 << (offset % 8)).unwrap();
            match open_and_check(&io, &metas, &model) {
                Ok(()) => panic!("{compression:?}: damage of byte {offset} is not seen"),
                Err(Error::Corrupt {
                    path: at,
                    offset: from,
                    ..
                }) => {
                    assert_eq!(at, path());
                    // The page that holds the byte.
                    assert!(from <= offset as u64 && offset as u64 - from < 10_000);
                    named += 1;
                }
                Err(error) => panic!("{compression:?}: byte {offset}: {error}"),
            }
            io.damage(&path(), offset, 1 << (offset % 8)).unwrap();
        }
        assert_eq!(named, size_bytes);
        open_and_check(&io, &metas, &model).unwrap();
    }
}

fn open_and_check(io: &SimulatedIo, metas: &[RowSetMeta], model: &Model) -> Result<(), Error> {
    let file = DeltaFile::open(io, &path(), DATABASE_ID, 1)?;
    let cache = cache(1 << 30);
    for meta in metas {
        let row_set = RowSet::open(meta.clone(), file.clone(), &cache)?;
        for key in model.keys() {
            let found = row_set.get(xxh3_64(key), key)?.unwrap();
            assert_eq!(found.value(), model[key].as_deref());
            assert_eq!(row_set.location(found.ordinal())?, location_of(key));
        }
        for mut cursor in [row_set.stream(5000), row_set.cursor()] {
            assert_eq!(all_forward(&mut cursor)?, *model);
        }
    }
    Ok(())
}
