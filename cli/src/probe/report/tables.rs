//! The numbers behind the charts, as tables.

use std::fmt::Write;

use moonshine_sysprobe::Report;
use moonshine_sysprobe::latency::Latency;

use super::escaped;
use crate::probe::text::{curve_title, point_setting, work_rate};
use crate::units::{bandwidth, microseconds, size};

/// All tables.
pub(super) fn write_tables(page: &mut String, report: &Report) -> std::fmt::Result {
    for curve in &report.curves {
        let rows = curve.points.iter().map(|point| {
            let setting = point_setting(curve, point);
            let speed = point.bytes_per_second;
            let mut row = vec![
                setting,
                bandwidth(speed.median),
                format!("{} – {}", bandwidth(speed.low), bandwidth(speed.high)),
                format!("{:.0}", point.iops),
            ];
            row.extend(latency_cells(point.latency));
            row.push(point.measurements.to_string());
            row
        });
        write_table(
            page,
            &curve_title(curve),
            &[
                "",
                "bandwidth",
                "interval",
                "IOPS",
                "p50",
                "p99",
                "p99.9",
                "measured",
            ],
            rows,
        )?;
    }
    let synced = report.synced.iter().map(|synced| {
        let mut row = vec![size(synced.block_size_bytes)];
        row.extend(latency_cells(Some(synced.latency)));
        row
    });
    write_table(
        page,
        "write and fdatasync",
        &["", "p50", "p99", "p99.9"],
        synced,
    )?;
    let cpu = report.cpu.iter().map(|speed| {
        let (name, one) = work_rate(speed.work, speed.one_core_per_second);
        let (_, all) = work_rate(speed.work, speed.all_cores_per_second);
        vec![name.to_owned(), one, all]
    });
    write_table(page, "cores", &["", "one core", "all cores"], cpu)
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
