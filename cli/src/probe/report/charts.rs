//! What of a report is drawn.

use moonshine_sysprobe::Report;
use moonshine_sysprobe::device::{Operation, Pattern, Submission, SyncMethod};
use moonshine_sysprobe::knee::Knee;
use moonshine_sysprobe::latency::Latency;
use moonshine_sysprobe::probe::report::{CurveReport, PointReport};
use moonshine_sysprobe::sweep::Varies;

use super::chart::{Chart, Dot, Mark, Series};
use crate::probe::text::{in_flight_name, operation, point_number};
use crate::units::{bandwidth, microseconds, size};

/// The charts, in the order in which the numbers follow from them. What was not measured has none.
pub(super) fn charts(report: &Report) -> Vec<Chart> {
    let threads = Some(report.io_threads);
    let charts = [
        block_size_chart(report),
        in_flight_chart(report, Submission::Threads, threads),
        in_flight_chart(report, Submission::Queue, report.io_depth),
        latency_chart(report, Submission::Threads),
        latency_chart(report, Submission::Queue),
        synced_chart(report),
    ];
    let has_curves = |chart: &Chart| chart.series.iter().any(|series| !series.dots.is_empty());
    charts.into_iter().filter(has_curves).collect()
}

fn block_size_chart(report: &Report) -> Chart {
    let curves = along(report, Varies::BlockSize);
    let mut series: Vec<Series> = curves.iter().map(|curve| bandwidth_series(curve)).collect();
    series.extend(
        curves
            .iter()
            .filter_map(|curve| sequential_series(report, curve)),
    );
    Chart {
        title: "Bandwidth over block size".into(),
        note: "S-Size is the smallest block with 95 % of the greatest bandwidth, at random places. A curve is what \
               the device gives when nobody interferes, the band reaches down to the interval of the median, the ring is \
               the knee; S-Size may lie anywhere in the shaded part. Dashed curves were measured once."
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
        series,
    }
}

fn in_flight_chart(report: &Report, submission: Submission, number: Option<u64>) -> Chart {
    let curves = over_in_flight(report, submission);
    let note = match submission {
        Submission::Threads => {
            "Synchronous I/O: each thread has one I/O under way. The knee is how many threads the device needs."
        }
        Submission::Queue => {
            "Asynchronous I/O: one thread keeps a queue of io_uring filled. The knee is how deep a queue the device needs."
        }
    };
    Chart {
        title: format!(
            "Bandwidth over {}{}",
            in_flight_name(submission),
            blocks_of(&curves)
        ),
        note: format!(
            "{note} S-Paral is the greatest of threads, depth and cores, as a power of two."
        ),
        x_label: in_flight_name(submission).into(),
        x_text: count,
        y_label: "bandwidth".into(),
        y_text: bandwidth,
        mark: number.map(|number| mark(&curves, number, format!("{number} needed"))),
        series: curves.iter().map(|curve| bandwidth_series(curve)).collect(),
    }
}

fn latency_chart(report: &Report, submission: Submission) -> Chart {
    let curves = over_in_flight(report, submission);
    let series = curves.iter().flat_map(|curve| {
        let (class, name) = (class(curve.load.operation), operation(curve.load.operation));
        let quantile = |of: fn(&Latency) -> f64| -> Vec<Dot> {
            let points = curve.points.iter();
            let dots = points
                .filter_map(|point| Some(dot(setting(curve, point), of(point.latency.as_ref()?))));
            dots.collect()
        };
        let median = Series::new(format!("{name} p50"), class, quantile(|of| of.p50_us));
        let tail = Series::new(format!("{name} p99"), class, quantile(|of| of.p99_us));
        [
            median,
            Series {
                dashed: true,
                ..tail
            },
        ]
    });
    Chart {
        title: format!(
            "Latency over {}{}",
            in_flight_name(submission),
            blocks_of(&curves)
        ),
        note: "How long one I/O takes while so many are under way: beyond the knee they only wait for each other.".into(),
        x_label: in_flight_name(submission).into(),
        x_text: count,
        y_label: "latency of one I/O".into(),
        y_text: microseconds,
        series: series.collect(),
        mark: None,
    }
}

fn synced_chart(report: &Report) -> Chart {
    let methods = [
        (SyncMethod::Fdatasync, "fdatasync", "write"),
        (SyncMethod::ODsync, "O_DSYNC", "third"),
    ];
    let series = methods.iter().flat_map(|(method, name, class)| {
        let dots = |of: fn(&Latency) -> f64| -> Vec<Dot> {
            let synced = report
                .synced
                .iter()
                .filter(|synced| synced.method == *method);
            let dots =
                synced.map(|synced| dot(synced.block_size_bytes as f64, of(&synced.latency)));
            dots.collect()
        };
        let median = Series::new(format!("{name} p50"), class, dots(|of| of.p50_us));
        let tail = Series::new(format!("{name} p99"), class, dots(|of| of.p99_us));
        [
            median,
            Series {
                dashed: true,
                ..tail
            },
        ]
    });
    Chart {
        title: "What a durable write costs".into(),
        note: "A write and what makes it durable, on a preallocated file. Commits that share one block of the commit batch \
               wait at most twice as long as the smallest."
            .into(),
        x_label: "size of the write".into(),
        x_text: bytes,
        y_label: "latency".into(),
        y_text: microseconds,
        series: series.collect(),
        mark: report.commit_batch_bytes.map(|batch| Mark {
            x: batch as f64,
            low: batch as f64,
            high: batch as f64,
            label: format!("commit batch {}", size(batch)),
        }),
    }
}

fn along(report: &Report, varies: Varies) -> Vec<&CurveReport> {
    let curves = report.curves.iter();
    curves.filter(|curve| curve.varies == varies).collect()
}

/// The curves over threads, or over the depth of a queue.
fn over_in_flight(report: &Report, submission: Submission) -> Vec<&CurveReport> {
    let curves = along(report, Varies::InFlight).into_iter();
    curves
        .filter(|curve| curve.load.submission == submission)
        .collect()
}

/// The block size of curves, as the end of a title: what S-Size was taken for when they were measured.
fn blocks_of(curves: &[&CurveReport]) -> String {
    let first = curves.first();
    first.map_or_else(String::new, |curve| {
        format!(", blocks of {}", size(curve.load.block_size_bytes))
    })
}

fn bandwidth_series(curve: &CurveReport) -> Series {
    let dots = curve.points.iter().map(|point| bandwidth_dot(curve, point));
    let class = class(curve.load.operation);
    let name = format!("random {}", operation(curve.load.operation));
    Series {
        knee: curve.knee.map(|knee| knee.setting as f64),
        ..Series::new(name, class, dots.collect())
    }
}

/// The sequential counterpart of a curve over the block size, from the grid; `None` where that has not enough of it.
fn sequential_series(report: &Report, curve: &CurveReport) -> Option<Series> {
    let is_counterpart = |point: &&PointReport| {
        let (load, of) = (point.load, curve.load);
        load.pattern == Pattern::Sequential
            && (load.operation, load.submission, load.in_flight)
                == (of.operation, of.submission, of.in_flight)
    };
    let points = report.grid.iter().filter(is_counterpart);
    let mut dots: Vec<Dot> = points.map(|point| bandwidth_dot(curve, point)).collect();
    dots.sort_by(|a, b| a.x.total_cmp(&b.x));
    let class = class(curve.load.operation);
    let name = format!("sequential {}", operation(curve.load.operation));
    (dots.len() > 2).then(|| Series {
        dashed: true,
        ..Series::new(name, class, dots)
    })
}

/// The level, which knees are taken from, over the interval of the median.
fn bandwidth_dot(curve: &CurveReport, point: &PointReport) -> Dot {
    let speed = point.bytes_per_second;
    Dot {
        x: setting(curve, point),
        y: speed.level,
        low: speed.low.min(speed.level),
        high: speed.high.max(speed.level),
    }
}

/// The mark of a number, over the interval of the knees that it is one of.
fn mark(curves: &[&CurveReport], number: u64, label: String) -> Mark {
    let knees = curves.iter().filter_map(|curve| curve.knee);
    let of_number = |knee: &Knee| [knee.setting, knee.setting_low].contains(&number);
    let knee = knees.into_iter().find(of_number);
    Mark {
        x: number as f64,
        low: knee.map_or(number, |knee| knee.setting_low) as f64,
        high: knee.map_or(number, |knee| knee.setting_high) as f64,
        label,
    }
}

fn setting(curve: &CurveReport, point: &PointReport) -> f64 {
    point_number(curve, point) as f64
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
