//! fio's line of fields, version 3: for each report one line, for programs that cut it at semicolons.

use std::fmt::Write;

use super::super::stats::{DirectionStats, JobStats};
use super::Results;
use super::groups::{GroupDirection, whole_bytes_per_s};
use crate::latency::Moments;

const VERSION: u32 = 3;
/// Percentiles that each direction has room for.
const PERCENTILES: usize = 20;

/// One line for each report. Writing to a string can't fail, so results of `write!` are dropped here.
pub(super) fn lines(results: &Results<'_>) -> String {
    results
        .jobs
        .iter()
        .map(|stats| line(results, stats) + "\n")
        .collect()
}

fn line(results: &Results<'_>, stats: &JobStats) -> String {
    let group = results.group_of(stats).directions;
    let mut text = format!(
        "{VERSION};{};{};{};{}",
        results.program, stats.name, stats.group, stats.error
    );
    direction(&mut text, stats, &stats.directions.read, &group.read);
    direction(&mut text, stats, &stats.directions.write, &group.write);
    let _ = write!(
        text,
        ";{:.6}%;{:.6}%;{};{};{}",
        stats.user_cpu_percent(),
        stats.system_cpu_percent(),
        stats.context_switches,
        stats.major_faults,
        stats.minor_faults,
    );
    for share in stats.depth_level_shares() {
        let _ = write!(text, ";{share:3.1}%");
    }
    // This format is older than latencies below 1 µs: they count as the first class above.
    let mut shares = stats.latency_shares();
    let below_us: f64 = shares.ns.iter().sum();
    if let Some(first) = shares.us.first_mut() {
        *first += below_us;
    }
    for share in shares.us.iter().chain(&shares.ms) {
        let _ = write!(text, ";{share:3.2}%");
    }
    for disk in results.disks() {
        let _ = write!(
            text,
            ";{};{};{};{};{};{};{};{};{:3.2}%",
            disk.name,
            disk.read_ios,
            disk.write_ios,
            disk.read_merges,
            disk.write_merges,
            disk.read_ticks,
            disk.write_ticks,
            disk.in_queue,
            disk.util,
        );
    }
    if let Some(description) = &results.reports_of(stats).description {
        let _ = write!(text, ";{description}");
    }
    text
}

fn direction(text: &mut String, job: &JobStats, stats: &DirectionStats, group: &GroupDirection) {
    let _ = write!(
        text,
        ";{};{};{};{}",
        stats.io_bytes >> 10,
        whole_bytes_per_s(stats.io_bytes, stats.runtime_ms) / 1024,
        whole_bytes_per_s(stats.total_ios, stats.runtime_ms),
        stats.runtime_ms,
    );
    moments_us(text, &stats.slat);
    moments_us(text, stats.clat.moments());
    let reported = if job.lat_percentiles {
        Some(&stats.lat)
    } else {
        job.clat_percentiles.then_some(&stats.clat)
    };
    let list: &[f64] = if reported.is_some() {
        &job.percentile_list
    } else {
        &[]
    };
    for index in 0..PERCENTILES {
        let Some(percentile) = list.get(index) else {
            text.push_str(";0%=0");
            continue;
        };
        let value_ns = reported.and_then(|histogram| histogram.percentile_ns(*percentile));
        let value_us = value_ns.unwrap_or_default() / 1000;
        let _ = write!(text, ";{percentile:.6}%={value_us}");
    }
    moments_us(text, stats.lat.moments());
    let samples = &stats.bandwidth_kib_per_s;
    let share = match samples.samples {
        0 => 0.0,
        _ => group.share_percent(samples.mean),
    };
    let _ = write!(
        text,
        ";{};{};{share:.6}%;{:.6};{:.6}",
        samples.min as u64,
        samples.max as u64,
        samples.mean,
        samples.stddev(),
    );
}

fn moments_us(text: &mut String, moments: &Moments) {
    let _ = write!(
        text,
        ";{};{};{:.6};{:.6}",
        moments.min_ns() / 1000,
        moments.max_ns() / 1000,
        moments.mean_ns() / 1000.0,
        moments.stddev_ns() / 1000.0,
    );
}
