//! The numbers behind the charts, as tables.

use std::collections::BTreeSet;
use std::fmt::Write;

use moonshine_sysprobe::Report;
use moonshine_sysprobe::device::{Load, Operation, Pattern, Submission};
use moonshine_sysprobe::latency::Latency;
use moonshine_sysprobe::probe::report::PointReport;
use moonshine_sysprobe::sweep::Varies;

use super::escaped;
use crate::probe::text::{
    curve_title, in_flight_name, operation, pattern, point_number, sync_title, work_rate,
};
use crate::units::{bandwidth, microseconds, size};

/// All tables.
pub(super) fn write_tables(page: &mut String, report: &Report) -> std::fmt::Result {
    write_curves(page, report)?;
    write_grids(page, report)?;
    let synced = report.synced.iter().map(|synced| {
        let mut row = vec![
            sync_title(synced.method).to_owned(),
            size(synced.block_size_bytes),
        ];
        row.extend(latency_cells(Some(synced.latency)));
        row.push(synced.writes.to_string());
        row
    });
    if !report.synced.is_empty() {
        let columns = ["", "size", "p50", "p99", "p99.9", "measured"];
        write_table(page, "durable writes", &columns, synced)?;
    }
    let cpu = report.cpu.iter().map(|speed| {
        vec![
            speed.work.name().to_owned(),
            work_rate(speed.work, speed.one_core_per_second),
            work_rate(speed.work, speed.all_cores_per_second),
        ]
    });
    write_table(page, "cores", &["", "one core", "all cores"], cpu)
}

fn write_curves(page: &mut String, report: &Report) -> std::fmt::Result {
    for curve in &report.curves {
        let rows = curve.points.iter().map(|point| {
            let number = point_number(curve, point);
            let speed = point.bytes_per_second;
            let mut row = vec![
                match curve.varies {
                    Varies::BlockSize => size(number),
                    Varies::InFlight => number.to_string(),
                },
                bandwidth(speed.median),
                format!("{} – {}", bandwidth(speed.low), bandwidth(speed.high)),
                bandwidth(speed.level),
                format!("{:.0}", point.iops),
            ];
            row.extend(latency_cells(point.latency));
            row.push(point.measurements.to_string());
            row
        });
        let columns = [
            "",
            "median",
            "interval",
            "undisturbed",
            "IOPS",
            "p50",
            "p99",
            "p99.9",
            "measured",
        ];
        write_table(page, &curve_title(curve), &columns, rows)?;
    }
    Ok(())
}

/// Every point there is, by block size and I/Os under way: one table for each way to read or write.
fn write_grids(page: &mut String, report: &Report) -> std::fmt::Result {
    if report.grid.is_empty() {
        return Ok(());
    }
    let curves = report.curves.iter().flat_map(|curve| &curve.points);
    let points: Vec<&PointReport> = curves.chain(&report.grid).collect();
    for submission in [Submission::Threads, Submission::Queue] {
        for way in [Pattern::Random, Pattern::Sequential] {
            for direction in [Operation::Read, Operation::Write] {
                let is_of = |load: &Load| {
                    (load.submission, load.pattern, load.operation) == (submission, way, direction)
                };
                let of: Vec<&PointReport> = points
                    .iter()
                    .copied()
                    .filter(|point| is_of(&point.load))
                    .collect();
                write_grid(page, &of)?;
            }
        }
    }
    Ok(())
}

fn write_grid(page: &mut String, points: &[&PointReport]) -> std::fmt::Result {
    let Some(load) = points.first().map(|point| point.load) else {
        return Ok(());
    };
    let speeds = points.iter().map(|point| point.bytes_per_second.median);
    let greatest = speeds.fold(0.0, f64::max);
    let columns: BTreeSet<u64> = points.iter().map(|point| point.load.in_flight).collect();
    let rows: BTreeSet<u64> = points
        .iter()
        .map(|point| point.load.block_size_bytes)
        .collect();
    writeln!(
        page,
        "<details>\n<summary>{} {}, block size by {}: MB/s</summary>\n<div class=\"scroll\"><table class=\"heat\">\n\
         <tr><th></th>",
        pattern(&load),
        operation(load.operation),
        in_flight_name(load.submission)
    )?;
    for column in &columns {
        write!(page, "<th>{column}</th>")?;
    }
    writeln!(page, "</tr>")?;
    for row in rows {
        write!(page, "<tr><td>{}</td>", size(row))?;
        for column in &columns {
            let here = |point: &&&PointReport| {
                point.load.block_size_bytes == row && point.load.in_flight == *column
            };
            match points.iter().find(here) {
                Some(point) => write_cell(page, point, greatest)?,
                None => write!(page, "<td></td>")?,
            }
        }
        writeln!(page, "</tr>")?;
    }
    writeln!(page, "</table></div>\n</details>")
}

/// A cell of a grid, coloured by its share of the greatest bandwidth.
fn write_cell(page: &mut String, point: &PointReport, greatest: f64) -> std::fmt::Result {
    let median = point.bytes_per_second.median;
    let share = (median / greatest.max(1.0)).clamp(0.0, 1.0);
    let latency = point.latency.map_or_else(String::new, |latency| {
        format!(
            ", p50 {}, p99 {}",
            microseconds(latency.p50_us),
            microseconds(latency.p99_us)
        )
    });
    write!(
        page,
        "<td style=\"--share:{share:.2}\" title=\"{:.0} IOPS{latency}\">{:.0}</td>",
        point.iops,
        median / 1e6
    )
}

fn latency_cells(latency: Option<Latency>) -> [String; 3] {
    latency.map_or_else(Default::default, |latency| {
        [latency.p50_us, latency.p99_us, latency.p999_us].map(microseconds)
    })
}

fn write_table(
    page: &mut String,
    title: &str,
    columns: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> std::fmt::Result {
    writeln!(
        page,
        "<details>\n<summary>{}</summary>\n<div class=\"scroll\"><table>\n<tr>",
        escaped(title)
    )?;
    for column in columns {
        write!(page, "<th>{}</th>", escaped(column))?;
    }
    writeln!(page, "</tr>")?;
    for row in rows {
        write!(page, "<tr>")?;
        for cell in row {
            write!(page, "<td>{}</td>", escaped(&cell))?;
        }
        writeln!(page, "</tr>")?;
    }
    writeln!(page, "</table></div>\n</details>")
}
