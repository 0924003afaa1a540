//! fio's text report.

use std::fmt::Write;

use super::super::options::ReportOptions;
use super::super::stats::{
    DirectionStats, JobStats, LATENCY_CLASSES_MS, LATENCY_CLASSES_NS, LATENCY_CLASSES_US,
    SampleStats,
};
use super::super::units::{Counted, KiloBase, shortened};
use super::super::values::Direction;
use super::Results;
use super::groups::{GroupDirection, GroupStats, whole_bytes_per_s};
use crate::latency::{Histogram, Moments};

/// Classes of latency in a line.
const CLASSES_PER_LINE: usize = 5;

/// The whole report. Writing to a string can't fail, so results of `write!` are dropped here.
pub(super) fn report(results: &Results<'_>) -> String {
    let mut text = "\n".to_owned();
    for stats in &results.jobs {
        job(&mut text, results, stats);
    }
    for (number, group) in results.groups.iter().enumerate() {
        let member = results.jobs.iter().find(|stats| stats.group == number);
        let options = member.map_or(&results.fallback, |stats| results.reports_of(stats));
        group_lines(&mut text, number, group, options);
    }
    if !results.disks().is_empty() {
        text.push_str("\nDisk stats (read/write):\n");
    }
    for disk in results.disks() {
        let _ = writeln!(
            text,
            "  {}: ios={}/{}, merge={}/{}, ticks={}/{}, in_queue={}, util={:3.2}%",
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
    text
}

/// Numbers of bytes as a job wants them printed: both kinds of prefixes, its own first.
struct Bytes<'a>(&'a ReportOptions);

impl Bytes<'_> {
    fn is_binary(&self) -> bool {
        self.0.kb_base == KiloBase::Inverted1024
    }

    fn rate_unit(&self) -> Counted {
        if self.0.in_bits {
            Counted::BitsPerSecond
        } else {
            Counted::BytesPerSecond
        }
    }

    fn size(&self, bytes: u64) -> String {
        shortened(bytes, self.0.digits_max, self.is_binary(), Counted::Bytes)
    }

    fn size_other(&self, bytes: u64) -> String {
        shortened(bytes, self.0.digits_max, !self.is_binary(), Counted::Bytes)
    }

    fn rate(&self, bytes_per_s: u64) -> String {
        let unit = self.rate_unit();
        shortened(bytes_per_s, self.0.digits_max, self.is_binary(), unit)
    }

    fn rate_other(&self, bytes_per_s: u64) -> String {
        let unit = self.rate_unit();
        shortened(bytes_per_s, self.0.digits_max, !self.is_binary(), unit)
    }
}

fn job(text: &mut String, results: &Results<'_>, stats: &JobStats) {
    let (read, write) = (&stats.directions.read, &stats.directions.write);
    if read.total_ios + write.total_ios + read.io_bytes + write.io_bytes == 0 {
        return;
    }
    let options = results.reports_of(stats);
    let group = results.group_of(stats).directions;
    let ended = stats.ended.unwrap_or(results.run.started);
    let error = match (&stats.error_text, stats.error) {
        (Some(error), number) => format!("{number:2} ({error})"),
        (None, number) => format!("{number:2}"),
    };
    let _ = writeln!(
        text,
        "{}: (groupid={}, jobs={}): err={error}: pid={}: {}",
        stats.name,
        stats.group,
        stats.threads,
        stats.thread_id,
        super::in_local_time(ended),
    );
    if let Some(description) = &options.description {
        let _ = writeln!(text, "  Description  : [{description}]");
    }
    for (direction, group) in [
        (Direction::Read, &group.read),
        (Direction::Write, &group.write),
    ] {
        DirectionReport {
            stats,
            options,
            direction,
            group,
        }
        .print(text);
    }
    latency_classes(text, stats);
    syncs(text, stats, options);
    totals(text, stats);
    for line in &stats.report_lines {
        let _ = writeln!(text, "  {line}");
    }
}

struct DirectionReport<'a> {
    stats: &'a JobStats,
    options: &'a ReportOptions,
    direction: Direction,
    group: &'a GroupDirection,
}

impl DirectionReport<'_> {
    fn print(&self, text: &mut String) {
        let stats = self.stats.direction(self.direction);
        if stats.runtime_ms == 0 || stats.io_bytes == 0 {
            return;
        }
        self.headline(text, stats);
        moments(text, "slat", &stats.slat);
        moments(text, "clat", stats.clat.moments());
        moments(text, " lat", stats.lat.moments());
        let decimals = self.options.percentile_decimals;
        let list = &self.stats.percentile_list;
        for (name, shown, histogram) in [
            ("clat", self.stats.clat_percentiles, &stats.clat),
            ("lat", self.stats.lat_percentiles, &stats.lat),
        ] {
            if shown {
                percentiles(text, name, histogram, list, decimals);
            }
        }
        self.samples(text, stats);
    }

    fn headline(&self, text: &mut String, stats: &DirectionStats) {
        let bytes = Bytes(self.options);
        let bytes_per_s = whole_bytes_per_s(stats.io_bytes, stats.runtime_ms);
        let ios_per_s = whole_bytes_per_s(stats.total_ios, stats.runtime_ms);
        let (name, behind) = match self.direction {
            Direction::Read => ("read", ""),
            // Zoned devices are not supported, so none of their zones is ever reset.
            Direction::Write => ("write", "; 0 zone resets"),
        };
        let _ = writeln!(
            text,
            "  {name}: IOPS={}, BW={} ({})({}/{}msec){behind}",
            shortened(ios_per_s, self.options.digits_max, false, Counted::Plain),
            bytes.rate(bytes_per_s),
            bytes.rate_other(bytes_per_s),
            bytes.size(stats.io_bytes),
            stats.runtime_ms,
        );
    }

    fn samples(&self, text: &mut String, stats: &DirectionStats) {
        let samples = &stats.bandwidth_kib_per_s;
        if samples.samples > 0 {
            let (unit, divisor) = self.sample_unit(samples);
            let _ = writeln!(
                text,
                "   bw ({unit:>5}/s): min={:5}, max={:5}, per={:3.2}%, avg={:5.2}, stdev={:5.2}, samples={}",
                (samples.min / divisor) as u64,
                (samples.max / divisor) as u64,
                self.group.share_percent(samples.mean),
                samples.mean / divisor,
                samples.stddev() / divisor,
                samples.samples,
            );
        }
        let samples = &stats.iops;
        if samples.samples > 0 {
            let _ = writeln!(
                text,
                "   iops        : min={:5}, max={:5}, avg={:5.2}, stdev={:5.2}, samples={}",
                samples.min as u64,
                samples.max as u64,
                samples.mean,
                samples.stddev(),
                samples.samples,
            );
        }
    }

    /// The unit of the line of samples, and how many KiB/s it is.
    fn sample_unit(&self, samples: &SampleStats) -> (&'static str, f64) {
        let base = self.options.kb_base.number() as f64;
        let is_binary = Bytes(self.options).is_binary();
        let bits = if self.options.in_bits { 8.0 } else { 1.0 };
        let is_large = samples.mean * bits > base * base;
        let unit = match (self.options.in_bits, is_binary, is_large) {
            (true, _, true) => "Mibit",
            (true, true, false) => "Kibit",
            (true, false, false) => "kbit",
            (false, _, true) => "MiB",
            (false, true, false) => "KiB",
            (false, false, false) => "kB",
        };
        (unit, if is_large { base } else { 1.0 } / bits)
    }
}

/// Least, greatest, mean and deviation, in the unit that fits all of them.
fn moments(text: &mut String, name: &str, moments: &Moments) {
    if moments.count() == 0 {
        return;
    }
    let (least, most) = (moments.min_ns(), moments.max_ns());
    let deviation = moments.stddev_ns();
    let (unit, divisor) = if least > 2_000_000 && most > 99_999_999 && deviation > 1_000_000.0 {
        ("msec", 1_000_000)
    } else if least > 2_000 && most > 99_999 && deviation > 1_000.0 {
        ("usec", 1_000)
    } else {
        ("nsec", 1)
    };
    let whole = |nanoseconds: u64| shortened(nanoseconds / divisor, 6, false, Counted::Plain);
    let _ = writeln!(
        text,
        "    {name} ({unit}): min={}, max={}, avg={:5.2}, stdev={:5.2}",
        whole(least),
        whole(most),
        moments.mean_ns() / divisor as f64,
        deviation / divisor as f64,
    );
}

fn percentiles(
    text: &mut String,
    name: &str,
    histogram: &Histogram,
    list: &[f64],
    decimals: usize,
) {
    let values = list.iter().filter_map(|one| histogram.percentile_ns(*one));
    let values: Vec<u64> = values.collect();
    let (Some(least), Some(most)) = (values.iter().min(), values.iter().max()) else {
        return;
    };
    let (unit, divisor) = if *least > 2_000_000 && *most > 99_999_999 {
        ("msec", 1_000_000)
    } else if *least > 2_000 && *most > 99_999 {
        ("usec", 1_000)
    } else {
        ("nsec", 1)
    };
    let digits = (most / divisor).to_string().len().max(5);
    let per_line = (73 / (decimals + 10 + digits)).max(1);
    let _ = write!(text, "    {name} percentiles ({unit}):");
    let last = values.len() - 1;
    for (index, (percentile, value)) in list.iter().zip(&values).enumerate() {
        if index % per_line == 0 {
            text.push_str("\n     |");
        }
        let _ = write!(
            text,
            " {percentile:width$.decimals$}th=[{:digits$}]",
            value.div_ceil(divisor),
            width = decimals + 3,
        );
        if index != last {
            text.push(',');
        }
    }
    text.push('\n');
}

fn latency_classes(text: &mut String, stats: &JobStats) {
    let shares = stats.latency_shares();
    for (unit, bounds, shares) in [
        ("nsec", &LATENCY_CLASSES_NS[..], &shares.ns[..]),
        ("usec", &LATENCY_CLASSES_US[..], &shares.us[..]),
        ("msec", &LATENCY_CLASSES_MS[..], &shares.ms[..]),
    ] {
        let names = bounds
            .iter()
            .map(u64::to_string)
            .chain([">=2000".to_owned()]);
        let there = names.zip(shares).filter(|(_, share)| **share > 0.0);
        let there: Vec<String> = there
            .map(|(name, share)| format!("{name}={share:3.2}%"))
            .collect();
        for line in there.chunks(CLASSES_PER_LINE) {
            let _ = writeln!(text, "  lat ({unit})   : {}", line.join(", "));
        }
    }
}

fn syncs(text: &mut String, stats: &JobStats, options: &ReportOptions) {
    let latencies = &stats.sync.lat;
    if latencies.count() == 0 {
        return;
    }
    text.push_str("  fsync/fdatasync/sync_file_range:\n");
    moments(text, "sync", latencies.moments());
    let list = &stats.percentile_list;
    percentiles(text, "sync", latencies, list, options.percentile_decimals);
}

fn totals(text: &mut String, stats: &JobStats) {
    let _ = writeln!(
        text,
        "  cpu          : usr={:3.2}%, sys={:3.2}%, ctx={}, majf={}, minf={}",
        stats.user_cpu_percent(),
        stats.system_cpu_percent(),
        stats.context_switches,
        stats.major_faults,
        stats.minor_faults,
    );
    const LEVELS: [&str; 7] = ["1", "2", "4", "8", "16", "32", ">=64"];
    const BATCHES: [&str; 7] = ["0", "4", "8", "16", "32", "64", ">=64"];
    for (name, keys, shares) in [
        ("  IO depths    ", LEVELS, stats.depth_level_shares()),
        ("     submit    ", BATCHES, stats.depth_submit_shares()),
        ("     complete  ", BATCHES, stats.depth_complete_shares()),
    ] {
        let parts = keys.iter().zip(shares);
        let parts: Vec<String> = parts
            .map(|(key, share)| format!("{key}={share:3.1}%"))
            .collect();
        let _ = writeln!(text, "{name}: {}", parts.join(", "));
    }
    let (read, write) = (&stats.directions.read, &stats.directions.write);
    let _ = writeln!(
        text,
        "     issued rwts: total={},{},0,{} short={},{},0,0 dropped=0,0,0,0",
        read.total_ios, write.total_ios, stats.sync.total_ios, read.short_ios, write.short_ios,
    );
    let _ = writeln!(
        text,
        "     latency   : target=0, window=0, percentile=100.00%, depth={}",
        stats.iodepth,
    );
}

fn group_lines(text: &mut String, number: usize, group: &GroupStats, options: &ReportOptions) {
    let _ = writeln!(text, "\nRun status group {number} (all jobs):");
    let bytes = Bytes(options);
    for (name, direction) in [
        ("   READ", &group.directions.read),
        ("  WRITE", &group.directions.write),
    ] {
        if direction.runtime_ms_max == 0 {
            continue;
        }
        let (least, most) = (direction.bytes_per_s_min, direction.bytes_per_s_max);
        let _ = writeln!(
            text,
            "{name}: bw={} ({}), {}-{} ({}-{}), io={} ({}), run={}-{}msec",
            bytes.rate(direction.bytes_per_s),
            bytes.rate_other(direction.bytes_per_s),
            bytes.rate(least),
            bytes.rate(most),
            bytes.rate_other(least),
            bytes.rate_other(most),
            bytes.size(direction.io_bytes),
            bytes.size_other(direction.io_bytes),
            direction.runtime_ms_min,
            direction.runtime_ms_max,
        );
    }
}
