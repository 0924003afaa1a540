//! Point reads, short ranges and full scans of a settled database whose caches are warm.

use super::{Job, rng};
use crate::data::{self, ID_NEVER_WRITTEN, Picks, Zipf, ensure};
use crate::kv::{Kv, Reader, Result};
use crate::measure::{Done, Usage, run as run_threads};

/// Rows of a short range.
const RANGE_ROWS: u64 = 100;
/// Rows that one call asks for, where it asks for many.
const KEYS_TOGETHER: usize = 100;
/// Full scans that are measured as one.
const SCAN_COUNT: u64 = 3;

pub(super) fn run<K: Kv>(job: &Job) -> Result<()> {
    let kv: K = job.open()?;
    let row_count = job.sizes.row_count;
    warm_up(job, &kv)?;
    let uniform = Picks::Uniform { row_count };
    let zipf = Picks::Zipf(Zipf::new(row_count));
    let cores = [(1, "1 thread"), (job.sizes.threads, "all cores")];
    for (threads, label) in cores {
        hits(
            job,
            &kv,
            threads,
            &uniform,
            format!("get, hit, uniform, {label}"),
        )?;
        hits(job, &kv, threads, &zipf, format!("get, hit, zipf, {label}"))?;
        misses(job, &kv, threads, format!("get, miss, {label}"))?;
    }
    gets_together(job, &kv)?;
    for (threads, label) in cores {
        ranges(
            job,
            &kv,
            row_count,
            threads,
            format!("ranges of {RANGE_ROWS}, {label}"),
        )?;
    }
    scans(job, &kv)
}

fn warm_up<K: Kv>(job: &Job, kv: &K) -> Result<()> {
    super::check_all_rows(kv, job.sizes.row_count)?;
    let (mut reader, mut rng) = (kv.reader()?, rng(job, 1, 0));
    for _ in 0..job.sizes.op_count / 4 {
        let id = rng.below(job.sizes.row_count);
        ensure(reader.get(&data::key(id), |_| {})?, || {
            format!("row {id} is missing")
        })?;
    }
    Ok(())
}

/// Gets of rows that exist, each thread with one reader.
pub(super) fn hits<K: Kv>(
    job: &Job,
    kv: &K,
    threads: usize,
    picks: &Picks,
    row: String,
) -> Result<()> {
    let ops = job.sizes.op_count;
    let rate = run_threads(
        threads,
        job.sizes.phase_limit,
        |thread| picks.ids(ops, &mut rng(job, 2, thread)),
        |ids, deadline| {
            let mut reader = kv.reader()?;
            for (i, &id) in ids.iter().enumerate() {
                if deadline.passed_at(i) {
                    return Ok(Done::of(i as u64, ops));
                }
                let mut right = false;
                reader.get(&data::key(id), |value| right = data::is_value_of(value, id))?;
                ensure(right, || format!("row {id} is missing or another's"))?;
            }
            Ok(Done::of(ops, ops))
        },
    )?;
    job.rate(row, rate);
    Ok(())
}

fn misses<K: Kv>(job: &Job, kv: &K, threads: usize, row: String) -> Result<()> {
    let ops = job.sizes.op_count;
    let rate = run_threads(
        threads,
        job.sizes.phase_limit,
        |thread| {
            Picks::Uniform {
                row_count: ID_NEVER_WRITTEN,
            }
            .ids(ops, &mut rng(job, 3, thread))
        },
        |ids, deadline| {
            let mut reader = kv.reader()?;
            for (i, &id) in ids.iter().enumerate() {
                if deadline.passed_at(i) {
                    return Ok(Done::of(i as u64, ops));
                }
                let found = reader.get(&data::key(ID_NEVER_WRITTEN + id), |_| {})?;
                ensure(!found, || {
                    format!("a row was found that was never written: {id}")
                })?;
            }
            Ok(Done::of(ops, ops))
        },
    )?;
    job.rate(row, rate);
    Ok(())
}

/// Gets of many rows in one call; an operation is a row.
fn gets_together<K: Kv>(job: &Job, kv: &K) -> Result<()> {
    let (row_count, ops) = (job.sizes.row_count, job.sizes.op_count);
    let rate = run_threads(
        1,
        job.sizes.phase_limit,
        |thread| Picks::Uniform { row_count }.ids(ops, &mut rng(job, 7, thread)),
        |ids, deadline| {
            let mut reader = kv.reader()?;
            let mut done = 0;
            for ids in ids.chunks(KEYS_TOGETHER) {
                if deadline.passed() {
                    break;
                }
                let keys: Vec<_> = ids.iter().map(|&id| data::key(id)).collect();
                let mut right = 0;
                reader.get_many(&keys, |i, value| {
                    right +=
                        usize::from(ids.get(i).is_some_and(|&id| data::is_value_of(value, id)));
                })?;
                ensure(right == ids.len(), || {
                    format!("{right} rows of {} are right", ids.len())
                })?;
                done += ids.len() as u64;
            }
            Ok(Done::of(done, ops))
        },
    )?;
    job.rate(
        format!("get, {KEYS_TOGETHER} in one call, uniform, 1 thread"),
        rate,
    );
    Ok(())
}

/// Rows in key order from the key of a random row on; an operation is a range.
pub(super) fn ranges<K: Kv>(
    job: &Job,
    kv: &K,
    row_count: u64,
    threads: usize,
    row: String,
) -> Result<()> {
    let ops = (job.sizes.op_count / RANGE_ROWS * 5).max(1);
    let rate = run_threads(
        threads,
        job.sizes.phase_limit,
        |thread| Picks::Uniform { row_count }.ids(ops, &mut rng(job, 4, thread)),
        |ids, deadline| {
            let mut reader = kv.reader()?;
            for (i, &id) in ids.iter().enumerate() {
                if deadline.passed() {
                    return Ok(Done::of(i as u64, ops));
                }
                check_range(&mut reader, id, RANGE_ROWS)?;
            }
            Ok(Done::of(ops, ops))
        },
    )?;
    job.rate(row, rate);
    Ok(())
}

/// Reads a range from the key of a row that exists and checks order, keys and values.
///
/// A range may end early only at the end of all keys: then its last key must be among the greatest.
pub(super) fn check_range(reader: &mut impl Reader, id: u64, limit: u64) -> Result<()> {
    let start = data::key(id);
    let mut previous: Option<[u8; data::KEY_SIZE_BYTES]> = None;
    let mut right = true;
    let count = reader.range(&start, limit, |key, value| {
        right &= data::is_row(key, value)
            && previous.map_or(key == start, |previous| key > previous.as_slice());
        previous = key.try_into().ok();
    })?;
    // Keys are spread evenly, so the last thousandth of the key space is the end of any database here.
    let at_end = previous.is_some_and(|key| key[0] == u8::MAX && key[1] >= 0xc0);
    ensure(right && (count == limit || at_end), || {
        format!(
            "a range from row {id} gave {count} rows of {limit}, or out of order, or another's values"
        )
    })
}

fn scans<K: Kv>(job: &Job, kv: &K) -> Result<()> {
    let row_count = job.sizes.row_count;
    let check = |found: u64, sum: u64| {
        ensure(
            found == row_count && sum == data::check_sum_of(row_count, 0),
            || format!("a scan saw {found} rows of {row_count}, or other values"),
        )
    };
    let ops = SCAN_COUNT * row_count;
    let mut reader = kv.reader()?;
    let mut results = Vec::new();
    let before = Usage::now()?;
    for _ in 0..SCAN_COUNT {
        let mut sum = 0u64;
        results.push((
            reader.scan(|_, value| sum = sum.wrapping_add(data::check_sum(value)))?,
            sum,
        ));
    }
    job.rate("full scan, rows", before.since(ops)?);
    let before = Usage::now()?;
    for _ in 0..SCAN_COUNT {
        let mut sum = 0u64;
        let found = reader.range(&[], u64::MAX, |_, value| {
            sum = sum.wrapping_add(data::check_sum(value))
        })?;
        results.push((found, sum));
    }
    job.rate("full scan, rows in key order", before.since(ops)?);
    let before = Usage::now()?;
    let mut arrow = Vec::new();
    for _ in 0..SCAN_COUNT {
        arrow.extend(reader.scan_arrow()?);
    }
    if !arrow.is_empty() {
        job.rate("full scan, Arrow batches", before.since(ops)?);
    }
    results.extend(
        arrow
            .iter()
            .map(|totals| (totals.row_count, totals.check_sum)),
    );
    results
        .into_iter()
        .try_for_each(|(found, sum)| check(found, sum))
}
