//! Full memory, full disks and damaged files.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::file::{DeltaFile, delta_file_path};
use super::meta::RowSetHead;
use super::page::{Compression, PageKind};
use super::page_cache::PageCache;
use super::reader::RowSet;
use super::row_set_tests::{DATABASE_ID, Model, all_forward, cache, path, try_write, written};
use super::rows_page::RowRef;
use super::writer::{DeltaFileOptions, DeltaFileWriter, PAGE_SIZE_BYTES_AIM};
use crate::error::Error;
use crate::io::{Io, OpenMode, SimulatedIo};

/// About `count` × 120 bytes.
fn rows(count: u32) -> Model {
    (0..count)
        .map(|i| (i.to_be_bytes().to_vec(), Some(vec![i as u8; 110])))
        .collect()
}

fn check_all_accounted(cache: &PageCache) {
    let stats = cache.stats();
    let pages: u64 = stats.by_kind.iter().map(|one| one.size_bytes).sum();
    assert_eq!(pages + stats.slot_bytes, cache.budget().used_bytes());
}

/// Bounded: the budget holds while threads read more than fits, but for the pages that they hold at the moment.
#[test]
fn the_budget_holds_under_concurrent_readers() {
    const THREADS: usize = 4;
    const ROWS: u32 = 8000;
    let limit_bytes = 150_000;
    let io = SimulatedIo::new(1);
    let cache = cache(limit_bytes);
    let model = rows(ROWS);
    let row_sets = written(
        &io,
        &[model.clone(), model.clone()],
        Compression::None,
        &cache,
    );
    let over = AtomicBool::new(false);
    let page_bytes_max = 8000;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (row_sets, cache, model, over) = (&row_sets, &cache, &model, &over);
            scope.spawn(move || {
                for i in 0..20_000u64 {
                    let n = xxh3_64(&(i * THREADS as u64 + thread as u64).to_le_bytes());
                    let key = (n as u32 % ROWS).to_be_bytes();
                    let row_set = &row_sets[(n >> 40) as usize % 2];
                    let found = row_set.get(xxh3_64(&key), &key).unwrap().unwrap();
                    assert_eq!(found.value(), model[&key[..]].as_deref());
                    // A page found, one on the way of it, and one being built.
                    let most = limit_bytes + (THREADS * 3 * page_bytes_max) as u64;
                    over.fetch_or(cache.budget().used_bytes() > most, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(!over.into_inner());
    let stats = cache.stats();
    assert!(stats.evicted() > 1000 && stats.hits() > 1000, "{stats:?}");
    check_all_accounted(&cache);
    assert!(cache.budget().used_bytes() <= limit_bytes);
    drop(row_sets);
    check_all_accounted(&cache);
    assert_eq!(cache.budget().used_bytes(), 0);
}

#[test]
fn the_index_outlives_a_scan_and_others_get_room() {
    let io = SimulatedIo::new(1);
    let cache = cache(500_000);
    let model = rows(10_000);
    let row_sets = written(&io, std::slice::from_ref(&model), Compression::None, &cache);
    let index_misses = || {
        let before = cache.stats().misses();
        for key in model.keys() {
            assert!(row_sets[0].may_contain(xxh3_64(key)).unwrap());
        }
        cache.stats().misses() - before
    };
    assert_eq!(
        index_misses(),
        u64::from(row_sets[0].meta().index_page_count())
    );
    assert_eq!(all_forward(&mut row_sets[0].cursor()).unwrap(), model);
    assert!(cache.stats().evicted() > 100);
    assert_eq!(index_misses(), 0);
    // A stream reads past the cache; its buffer and the page it is at need room too.
    let (before, buffer_size_bytes) = (cache.budget().used_bytes(), 100_000);
    assert_eq!(
        all_forward(&mut row_sets[0].stream(buffer_size_bytes)).unwrap(),
        model
    );
    let evicted_bytes = before - cache.budget().used_bytes();
    assert!(evicted_bytes <= (buffer_size_bytes + 2 * PAGE_SIZE_BYTES_AIM) as u64);

    let wanted = 350_000;
    assert!(cache.budget().try_charge(wanted).is_none());
    assert!(cache.make_room(wanted));
    let other = cache.budget().try_charge(wanted).unwrap();
    // Reading goes on in what is left, even if that is nothing.
    let rest = cache.budget().charge(50_000);
    assert_eq!(all_forward(&mut row_sets[0].cursor()).unwrap(), model);
    assert!(!cache.make_room(100_000));
    check_pages(&cache, 0);
    drop((other, rest));
    all_forward(&mut row_sets[0].cursor()).unwrap();
    check_pages(&cache, 300_000);
}

fn check_pages(cache: &PageCache, at_least: u64) {
    let by_kind = cache.stats().by_kind;
    assert_eq!(by_kind.map(|one| one.kind), PageKind::ALL);
    let pages: u64 = by_kind.iter().map(|one| one.size_bytes).sum();
    assert!(
        pages >= at_least && (at_least > 0 || pages == 0),
        "{by_kind:?}"
    );
}

#[test]
fn what_the_clock_knows_goes_with_its_row_sets() {
    let io = SimulatedIo::new(1);
    let cache = cache(1 << 30);
    let model = rows(3000);
    let metas = try_write(&io, &[model], Compression::None, false).unwrap();
    let file = DeltaFile::open(&io, &path(), DATABASE_ID, 1).unwrap();
    let mut entries_max = 0;
    for _ in 0..200 {
        let row_set = RowSet::open(metas[0].clone(), file.clone(), &cache).unwrap();
        all_forward(&mut row_set.cursor()).unwrap();
        entries_max = entries_max.max(cache.clock_entry_count());
    }
    let pages = metas[0].rows_page_count as usize + 3;
    // One RowSet's, as many that are gone, and what each of the sixteen clocks may leave.
    assert!(
        (pages..2 * pages + 16 * 66).contains(&entries_max),
        "{entries_max}"
    );
    assert_eq!(cache.budget().used_bytes(), 0);
}

#[test]
fn a_full_disk_and_a_failed_sync_are_errors_that_name_the_file() {
    let model = rows(500);
    let is_named = |error: &Error| matches!(error, Error::Io { path: at, .. } if *at == path());
    let mut failures = 0;
    loop {
        let io = SimulatedIo::new(1);
        io.fail_writes_after(failures);
        match try_write(&io, std::slice::from_ref(&model), Compression::None, true) {
            Ok(_) => break,
            Err(error) => assert!(is_named(&error), "{error}"),
        }
        failures += 1;
    }
    assert!(failures > 5);
    let io = SimulatedIo::new(1);
    io.fail_syncs(true);
    let error = try_write(&io, std::slice::from_ref(&model), Compression::None, true).unwrap_err();
    assert!(is_named(&error), "{error}");
    // The file is there already.
    let error = try_write(&io, &[model], Compression::None, true).unwrap_err();
    assert!(is_named(&error), "{error}");
}

#[test]
fn a_writer_whose_write_failed_does_not_finish() {
    let io = SimulatedIo::new(1);
    let options = DeltaFileOptions {
        write_size_bytes: 100,
        ..DeltaFileOptions::default()
    };
    let io_arc = std::sync::Arc::new(io.clone());
    let mut writer = DeltaFileWriter::create(io_arc, &path(), DATABASE_ID, 1, options).unwrap();
    writer.begin(RowSetHead::default()).unwrap();
    io.fail_writes_after(0);
    let value = vec![1; 100_000];
    let failed = (0..10u8)
        .filter(|i| {
            let row = RowRef {
                key: &[*i],
                value: Some(&value),
            };
            writer.push(row, 0, None).is_err()
        })
        .count();
    assert!(failed > 0);
    io.fail_writes_after(1000);
    let _ = writer.finish_row_set();
    assert!(matches!(writer.finish(), Err(Error::Usage(_))));
}

#[test]
fn misuse_of_a_writer_is_refused() {
    let io = std::sync::Arc::new(SimulatedIo::new(1));
    let mut writer =
        DeltaFileWriter::create(io, &path(), DATABASE_ID, 1, DeltaFileOptions::default()).unwrap();
    let row = |key| RowRef { key, value: None };
    assert!(matches!(
        writer.push(row(b"a"), 0, None),
        Err(Error::Usage(_))
    ));
    assert!(matches!(writer.finish_row_set(), Err(Error::Usage(_))));
    writer.begin(RowSetHead::default()).unwrap();
    assert!(matches!(
        writer.begin(RowSetHead::default()),
        Err(Error::Usage(_))
    ));
    writer.push(row(b"b"), 0, None).unwrap();
    for key in [b"b", b"a"] {
        assert!(matches!(
            writer.push(row(key), 0, None),
            Err(Error::Usage(_))
        ));
    }
    assert_eq!(writer.finish_row_set().unwrap().unwrap().row_count, 1);
    writer.begin(RowSetHead::default()).unwrap();
    assert_eq!(writer.finish_row_set().unwrap(), None);
    writer.begin(RowSetHead::default()).unwrap();
    assert!(matches!(writer.finish(), Err(Error::Usage(_))));
}

/// Honest: a file that was cut off is damage wherever the cut is.
#[test]
fn a_cut_file_is_named() {
    let io = SimulatedIo::new(1);
    let model = rows(300);
    let metas = try_write(&io, std::slice::from_ref(&model), Compression::Lz4, true).unwrap();
    let whole = io.files()[0].1 as u64;
    let file = io.open(&path(), OpenMode::Write).unwrap();
    for len_bytes in (0..whole).rev().step_by(7) {
        file.set_len(len_bytes).unwrap();
        let read = || -> Result<(), Error> {
            let file = DeltaFile::open(&io, &path(), DATABASE_ID, 1)?;
            let row_set = RowSet::open(metas[0].clone(), file, &cache(1 << 30))?;
            assert_eq!(all_forward(&mut row_set.stream(3000))?, model);
            for key in model.keys() {
                let found = row_set.get(xxh3_64(key), key)?.unwrap();
                row_set.location(found.ordinal())?;
            }
            Ok(())
        };
        match read() {
            Err(Error::Corrupt { path: at, .. }) => assert_eq!(at, path()),
            other => panic!("{len_bytes} of {whole} bytes: {other:?}"),
        }
    }
}

#[test]
fn another_file_or_another_row_set_is_not_taken() {
    let io = SimulatedIo::new(1);
    let models = [rows(50), rows(50)];
    let metas = try_write(&io, &models, Compression::None, false).unwrap();
    let open = |id, number| DeltaFile::open(&io, &path(), id, number).map(drop);
    open(DATABASE_ID, 1).unwrap();
    assert!(matches!(open(DATABASE_ID, 2), Err(Error::Corrupt { .. })));
    assert!(matches!(open(Uuid::nil(), 1), Err(Error::Corrupt { .. })));
    let missing = delta_file_path(Path::new("/data"), 2);
    assert!(matches!(
        DeltaFile::open(&io, &missing, DATABASE_ID, 2),
        Err(Error::Io { .. })
    ));
    // An entry that leads to another RowSet's pages.
    let file = DeltaFile::open(&io, &path(), DATABASE_ID, 1).unwrap();
    let mut wrong = metas[0].clone();
    wrong.head.fragment_id = 99;
    let row_set = RowSet::open(wrong, file.clone(), &cache(1 << 30)).unwrap();
    assert!(matches!(
        row_set.cursor().seek_first(),
        Err(Error::Corrupt { .. })
    ));
    let mut other_file = metas[0].clone();
    other_file.file_number = 2;
    assert!(RowSet::open(other_file, file.clone(), &cache(1 << 30)).is_err());
    let mut too_many = metas[0].clone();
    too_many.rows_page_count = u32::MAX;
    assert!(RowSet::open(too_many, file, &cache(1 << 30)).is_err());
}
