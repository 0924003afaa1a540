//! What of a report is drawn.

use moonshine_sysprobe::Report;
use moonshine_sysprobe::device::{Operation, Pattern};
use moonshine_sysprobe::probe::report::{CurveReport, PointReport};
use moonshine_sysprobe::sweep::Varies;

use super::chart::{Chart, Dot, Mark, Series};
use crate::units::{bandwidth, microseconds, size};

/// The charts, in the order in which the numbers follow from them. What was not measured has none.
pub(super) fn charts(report: &Report) -> Vec<Chart> {
    let charts = [
        block_size_chart(report),
        threads_chart(report),
        latency_chart(report),
        synced_chart(report),
    ];
    let has_curves = |chart: &Chart| chart.series.iter().any(|series| !series.dots.is_empty());
    charts.into_iter().filter(has_curves).collect()
}

fn block_size_chart(report: &Report) -> Chart {
    let curves = along(report, Varies::BlockSize);
    Chart {
        title: "Bandwidth over block size".into(),
        note: "S-Size is the smallest block with 95 % of the greatest bandwidth, at random places; the ring on each \
               curve is its knee, the band its interval, the shaded part where S-Size may lie."
            .into(),
        x_label: "block size".into(),
        x_text: bytes,
        y_label: "bandwidth".into(),
        y_text: bandwidth,
        mark: Some(mark(
            &curves,
            report.profile.s_size_bytes,
            format!("S-Size {}", size(report.profile.s_size_bytes)),
        )),
        series: curves.iter().map(|curve| bandwidth_series(curve)).collect(),
    }
}

fn threads_chart(report: &Report) -> Chart {
    let curves = in_s_size(report);
    Chart {
        title: format!(
            "Bandwidth over threads, blocks of {}",
            size(report.profile.s_size_bytes)
        ),
        note: "Threads with one I/O each. The knee is how many the device needs; S-Paral is that or the number of cores, \
               whichever is greater."
            .into(),
        x_label: "threads".into(),
        x_text: count,
        y_label: "bandwidth".into(),
        y_text: bandwidth,
        mark: Some(mark(
            &curves,
            report.io_threads,
            format!("{} threads", report.io_threads),
        )),
        series: curves.iter().map(|curve| bandwidth_series(curve)).collect(),
    }
}

fn latency_chart(report: &Report) -> Chart {
    let curves = in_s_size(report);
    let series = curves.iter().flat_map(|curve| {
        let class = class(curve.operation);
        let name = operation(curve.operation);
        let quantile = |of: fn(&PointReport) -> Option<f64>| {
            let dots = curve
                .points
                .iter()
                .filter_map(|point| Some(dot(setting(curve, point), of(point)?)));
            dots.collect::<Vec<_>>()
        };
        let median = Series::new(
            format!("{name} p50"),
            class,
            quantile(|point| point.latency.map(|latency| latency.p50_us)),
        );
        let tail = Series {
            dashed: true,
            ..Series::new(
                format!("{name} p99"),
                class,
                quantile(|point| point.latency.map(|latency| latency.p99_us)),
            )
        };
        [median, tail]
    });
    Chart {
        title: format!(
            "Latency over threads, blocks of {}",
            size(report.profile.s_size_bytes)
        ),
        note: "What one I/O waits while so many others are under way: beyond the knee, threads only wait for each other."
            .into(),
        x_label: "threads".into(),
        x_text: count,
        y_label: "latency of one I/O".into(),
        y_text: microseconds,
        series: series.collect(),
        mark: None,
    }
}

fn synced_chart(report: &Report) -> Chart {
    let dots = |of: fn(&moonshine_sysprobe::latency::Latency) -> f64| {
        let synced = report.synced.iter();
        let dots = synced.map(|synced| dot(synced.block_size_bytes as f64, of(&synced.latency)));
        dots.collect::<Vec<_>>()
    };
    let median = Series::new("fdatasync p50", "write", dots(|latency| latency.p50_us));
    let tail = Series {
        dashed: true,
        ..Series::new("fdatasync p99", "write", dots(|latency| latency.p99_us))
    };
    Chart {
        title: "What a durable write costs".into(),
        note: "A write and its sync, on a preallocated file. Commits that share one block of the commit batch wait at most \
               twice as long as the smallest."
            .into(),
        x_label: "bytes written before the sync".into(),
        x_text: bytes,
        y_label: "latency".into(),
        y_text: microseconds,
        series: vec![median, tail],
        mark: report.commit_batch_bytes.map(|bytes| Mark {
            x: bytes as f64,
            low: bytes as f64,
            high: bytes as f64,
            label: format!("commit batch {}", size(bytes)),
        }),
    }
}

fn along(report: &Report, varies: Varies) -> Vec<&CurveReport> {
    let curves = report.curves.iter();
    curves.filter(|curve| curve.varies == varies).collect()
}

/// The curves over threads in blocks of S-Size.
fn in_s_size(report: &Report) -> Vec<&CurveReport> {
    let is_s_size = |curve: &&CurveReport| {
        let point = curve.points.first();
        point.is_some_and(|point| point.load.block_size_bytes == report.profile.s_size_bytes)
    };
    along(report, Varies::Threads)
        .into_iter()
        .filter(is_s_size)
        .collect()
}

fn bandwidth_series(curve: &CurveReport) -> Series {
    let dots = curve.points.iter().map(|point| Dot {
        x: setting(curve, point),
        y: point.bytes_per_second.median,
        low: point.bytes_per_second.low,
        high: point.bytes_per_second.high,
    });
    let pattern = match curve.pattern {
        Pattern::Sequential => "sequential",
        Pattern::Random => "random",
    };
    let name = format!("{pattern} {}", operation(curve.operation));
    Series {
        dashed: curve.pattern == Pattern::Sequential,
        knee: curve.knee.map(|knee| knee.setting as f64),
        ..Series::new(name, class(curve.operation), dots.collect())
    }
}

/// The mark of a number, over the interval of the knees that it is one of.
fn mark(curves: &[&CurveReport], number: u64, label: String) -> Mark {
    let knees = curves.iter().filter_map(|curve| curve.knee);
    let knee = knees.into_iter().find(|knee| knee.setting == number);
    Mark {
        x: number as f64,
        low: knee.map_or(number, |knee| knee.setting_low) as f64,
        high: knee.map_or(number, |knee| knee.setting_high) as f64,
        label,
    }
}

fn setting(curve: &CurveReport, point: &PointReport) -> f64 {
    let setting = match curve.varies {
        Varies::BlockSize => point.load.block_size_bytes,
        Varies::Threads => point.load.threads,
    };
    setting as f64
}

/// A dot without an interval.
fn dot(x: f64, y: f64) -> Dot {
    Dot {
        x,
        y,
        low: y,
        high: y,
    }
}

fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Read => "read",
        Operation::Write => "write",
    }
}

fn class(operation: Operation) -> &'static str {
    match operation {
        Operation::Read => "read",
        Operation::Write => "write",
    }
}

fn bytes(value: f64) -> String {
    size(value.round() as u64)
}

fn count(value: f64) -> String {
    format!("{value:.0}")
}
