//! The report for people.

use std::fmt::Write;

use moonshine_sysprobe::Report;
use moonshine_sysprobe::cpu::{Unit, Work};
use moonshine_sysprobe::device::{Load, Operation, Pattern, Submission, SyncMethod};
use moonshine_sysprobe::disk::{Access, IoMode};
use moonshine_sysprobe::probe::report::{CurveReport, PointReport};
use moonshine_sysprobe::sweep::Varies;

use crate::units::{bandwidth, size, size_rounded};

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
    writeln!(
        text,
        "{}: {}, {:.1} s; {} cores, {}",
        report.folder.display(),
        measured_file(report),
        report.duration_s,
        report.cores,
        report.machine.processor,
    )?;
    for curve in &report.curves {
        writeln!(text)?;
        write_curve(text, curve)?;
    }
    write_synced(text, report)?;
    writeln!(
        text,
        "\ncores                    one core          all cores"
    )?;
    for speed in &report.cpu {
        let one = work_rate(speed.work, speed.one_core_per_second);
        let all = work_rate(speed.work, speed.all_cores_per_second);
        writeln!(text, "{:>14}  {one:>17}  {all:>17}", speed.work.name())?;
    }
    if !report.grid.is_empty() {
        writeln!(
            text,
            "\n{} more points, of other block sizes, patterns and depths, are in --json and --report",
            report.grid.len()
        )?;
    }
    write_numbers(text, report)
}

fn write_numbers(text: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(
        text,
        "\nS-Size        {}",
        size(report.profile.s_size_bytes)
    )?;
    writeln!(
        text,
        "S-Paral       {} ({})",
        report.profile.s_paral,
        s_paral_parts(report)
    )?;
    if let (Some(bytes), Some(us)) = (report.commit_batch_bytes, report.fdatasync_us) {
        writeln!(
            text,
            "commit        {us:.0} µs for the smallest; up to {} for at most twice that",
            size(bytes)
        )?;
    }
    for finding in &report.findings {
        writeln!(text, "note: {finding}")?;
    }
    Ok(())
}

fn write_synced(text: &mut String, report: &Report) -> std::fmt::Result {
    let mut method = None;
    for synced in &report.synced {
        if method != Some(synced.method) {
            method = Some(synced.method);
            let title = sync_title(synced.method);
            writeln!(text, "\n{title:<17}       p50        p99      p99.9  µs")?;
        }
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
        let number = point_number(curve, point);
        let setting = match curve.varies {
            Varies::BlockSize => size(number),
            Varies::InFlight => number.to_string(),
        };
        let is_knee = curve.knee.is_some_and(|knee| knee.setting == number);
        let speed = point.bytes_per_second;
        write!(
            text,
            "{setting:>9} {} {:<5}  {:>22.1} {:>9.0}",
            bar(speed.level / maximum),
            if is_knee { "◄ 95%" } else { "" },
            speed.median / 1e6,
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

/// What file was measured, and through what.
pub(super) fn measured_file(report: &Report) -> String {
    let mode = match report.io_mode {
        IoMode::Direct => "O_DIRECT",
        IoMode::Buffered => "page cache",
    };
    let access = match report.access {
        Access::ReadWrite => "",
        Access::ReadOnly => ", read only",
    };
    format!(
        "{mode}, file of {}{access}",
        size_rounded(report.file_size_bytes)
    )
}

/// What S-Paral is the greatest of.
pub(super) fn s_paral_parts(report: &Report) -> String {
    let queue = match report.io_depth {
        Some(depth) => format!(" or a queue of {depth}"),
        None => String::new(),
    };
    format!(
        "device: {} threads{queue}; CPU: {} cores",
        report.io_threads, report.cores
    )
}

/// What a curve shows, and under what load.
pub(super) fn curve_title(curve: &CurveReport) -> String {
    let load = &curve.load;
    let kind = format!("{} {}", pattern(load), operation(load.operation));
    match (curve.varies, load.submission) {
        (Varies::BlockSize, Submission::Threads) => {
            format!("{kind} over block size, {} threads", load.in_flight)
        }
        (Varies::BlockSize, Submission::Queue) => {
            format!("{kind} over block size, queue of {}", load.in_flight)
        }
        (Varies::InFlight, submission) => format!(
            "{kind} over {}, blocks of {}",
            in_flight_name(submission),
            size(load.block_size_bytes)
        ),
    }
}

/// What the I/Os under way are counted in.
pub(super) fn in_flight_name(submission: Submission) -> &'static str {
    match submission {
        Submission::Threads => "threads",
        Submission::Queue => "queue depth",
    }
}

pub(super) fn pattern(load: &Load) -> &'static str {
    match load.pattern {
        Pattern::Sequential => "sequential",
        Pattern::Random => "random",
    }
}

pub(super) fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Read => "read",
        Operation::Write => "write",
    }
}

/// How a write is made durable, as a title.
pub(super) fn sync_title(method: SyncMethod) -> &'static str {
    match method {
        SyncMethod::Fdatasync => "write + fdatasync",
        SyncMethod::ODsync => "O_DSYNC write",
    }
}

/// A point's place on its curve.
pub(super) fn point_number(curve: &CurveReport, point: &PointReport) -> u64 {
    match curve.varies {
        Varies::BlockSize => point.load.block_size_bytes,
        Varies::InFlight => point.load.in_flight,
    }
}

/// A rate of a kind of work.
pub(super) fn work_rate(work: Work, per_second: f64) -> String {
    match work.unit() {
        Unit::Bytes => bandwidth(per_second),
        Unit::Keys => format!("{:.1} Mkeys/s", per_second / 1e6),
        Unit::Rows => format!("{:.1} Mrows/s", per_second / 1e6),
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
