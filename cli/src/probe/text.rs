//! The report for people.

use std::fmt::Write;

use moonshine_sysprobe::cpu::Work;
use moonshine_sysprobe::device::{Operation, Pattern};
use moonshine_sysprobe::disk::IoMode;
use moonshine_sysprobe::drift::Drift;
use moonshine_sysprobe::probe::report::{CurveReport, PointReport};
use moonshine_sysprobe::sweep::Varies;
use moonshine_sysprobe::{Finding, Report};

use crate::units::{bandwidth, size};

/// Characters of the longest bar.
const BAR_WIDTH: usize = 32;
const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// The whole report.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _never = write_text(&mut text, report);
    text
}

fn write_text(text: &mut String, report: &Report) -> std::fmt::Result {
    let mode = match report.io_mode {
        IoMode::Direct => "O_DIRECT",
        IoMode::Buffered => "page cache",
    };
    writeln!(
        text,
        "{}: {mode}, file of {}, {:.1} s; {} cores, {}",
        report.folder.display(),
        size(report.file_size_bytes),
        report.duration_s,
        report.machine.cores,
        report.machine.processor,
    )?;
    for curve in &report.curves {
        writeln!(text)?;
        write_curve(text, curve)?;
    }
    writeln!(
        text,
        "\nwrite + fdatasync       p50        p99      p99.9  µs"
    )?;
    for synced in &report.synced {
        let latency = synced.latency;
        writeln!(
            text,
            "{:>14}  {:>9.0}  {:>9.0}  {:>9.0}",
            size(synced.block_size_bytes),
            latency.p50_us,
            latency.p99_us,
            latency.p999_us
        )?;
    }
    writeln!(
        text,
        "\ncores                    one core          all cores"
    )?;
    for speed in &report.cpu {
        let (name, one) = work_rate(speed.work, speed.one_core_per_second);
        let (_, all) = work_rate(speed.work, speed.all_cores_per_second);
        writeln!(text, "{name:>14}  {one:>17}  {all:>17}")?;
    }
    writeln!(
        text,
        "\nS-Size        {}",
        size(report.profile.s_size_bytes)
    )?;
    writeln!(
        text,
        "S-Paral       {} (device: {} threads; {} cores)",
        report.profile.s_paral, report.io_threads, report.machine.cores
    )?;
    if let Some(bytes) = report.commit_batch_bytes {
        writeln!(
            text,
            "commit batch  up to {} for at most twice the smallest commit's time",
            size(bytes)
        )?;
    }
    for finding in &report.findings {
        writeln!(text, "note: {}", finding_text(finding))?;
    }
    Ok(())
}

fn write_curve(text: &mut String, curve: &CurveReport) -> std::fmt::Result {
    let title = curve_title(curve);
    writeln!(
        text,
        "{title:<62}MB/s      IOPS    p50 µs    p99 µs  p99.9 µs"
    )?;
    let maximum = curve.knee.map_or(0.0, |knee| knee.maximum);
    for point in &curve.points {
        let setting = point_setting(curve, point);
        let is_knee = curve
            .knee
            .is_some_and(|knee| knee.setting == point_number(curve, point));
        let median = point.bytes_per_second.median;
        write!(
            text,
            "{setting:>9} {} {:<5}  {:>22.1} {:>9.0}",
            bar(median / maximum),
            if is_knee { "◄ 95%" } else { "" },
            median / 1e6,
            point.iops,
        )?;
        match point.latency {
            Some(latency) => writeln!(
                text,
                " {:>9.0} {:>9.0} {:>9.0}",
                latency.p50_us, latency.p99_us, latency.p999_us
            )?,
            None => writeln!(text)?,
        }
    }
    Ok(())
}

/// What a curve shows, and under what load.
pub(super) fn curve_title(curve: &CurveReport) -> String {
    let pattern = match curve.pattern {
        Pattern::Sequential => "sequential",
        Pattern::Random => "random",
    };
    let operation = match curve.operation {
        Operation::Read => "read",
        Operation::Write => "write",
    };
    let load = curve.points.first().map(|point| point.load);
    let (varies, fixed) = match curve.varies {
        Varies::BlockSize => (
            "block size",
            load.map(|load| format!("{} threads", load.threads)),
        ),
        Varies::Threads => (
            "threads",
            load.map(|load| format!("blocks of {}", size(load.block_size_bytes))),
        ),
    };
    format!(
        "{pattern} {operation} over {varies}, {}",
        fixed.unwrap_or_default()
    )
}

/// A point's place on its curve.
pub(super) fn point_number(curve: &CurveReport, point: &PointReport) -> u64 {
    match curve.varies {
        Varies::BlockSize => point.load.block_size_bytes,
        Varies::Threads => point.load.threads,
    }
}

/// A point's place on its curve, in words.
pub(super) fn point_setting(curve: &CurveReport, point: &PointReport) -> String {
    let number = point_number(curve, point);
    match curve.varies {
        Varies::BlockSize => size(number),
        Varies::Threads => number.to_string(),
    }
}

/// A work's name and its rate.
pub(super) fn work_rate(work: Work, per_second: f64) -> (&'static str, String) {
    match work {
        Work::Hash => ("xxh3", bandwidth(per_second)),
        Work::Sort => ("sort", format!("{:.1} Mkeys/s", per_second / 1e6)),
        Work::Copy => ("memory copy", bandwidth(per_second)),
    }
}

/// A bar of a share from 0 to 1, padded to its whole width.
fn bar(share: f64) -> String {
    let eighths = (share.clamp(0.0, 1.0) * (BAR_WIDTH * 8) as f64).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    let mut width = eighths / 8;
    let rest = eighths % 8;
    if let Some(part) = EIGHTHS.get(rest).filter(|_| rest > 0) {
        bar.push(*part);
        width += 1;
    }
    bar + &" ".repeat(BAR_WIDTH.saturating_sub(width))
}

pub(super) fn finding_text(finding: &Finding) -> String {
    match finding {
        Finding::Buffered => {
            "O_DIRECT was refused: the page cache was measured along with the device, so the numbers are a guess".into()
        }
        Finding::InMemory => "the folder lies in memory, there is no device below it".into(),
        Finding::Remote => "the file system is a network's or FUSE: the state of its server is part of the numbers".into(),
        Finding::Unsteady { drift } => match drift {
            Drift::Slower { share } => format!(
                "the device ended at {:.0} % of the speed it began with: throttled, or a burst used up; after a rest it \
                 may be faster again",
                share * 100.0
            ),
            Drift::Faster { share } => format!(
                "the device ended at {:.0} % of the speed it began with: a cache filled, or somebody else stopped using it",
                share * 100.0
            ),
            Drift::Scattered { ratio } => format!(
                "equal measurements differed {ratio:.1}-fold: the device is shared, or busy with something else"
            ),
        },
        Finding::OutOfTime => "the time ran out before every point was decided: the numbers may be a step or more off".into(),
        Finding::SmallFile => "writing was slow, so the temporary file is smaller than planned and caches weigh more".into(),
        _ => format!("{finding:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_have_one_width() {
        for share in [0.0, 0.001, 0.5, 0.87, 0.999, 1.0, 7.0, f64::NAN] {
            assert_eq!(bar(share).chars().count(), BAR_WIDTH, "{share}");
        }
        assert_eq!(bar(0.5).trim_end().chars().count(), BAR_WIDTH / 2);
        assert_eq!(bar(1.0), "█".repeat(BAR_WIDTH));
    }
}
