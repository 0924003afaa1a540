//! The HTML page.

use std::fmt::Write;

use moonshine_sysprobe::Report;

use super::chart::{Chart, STYLE};
use super::{escaped, tables};
use crate::probe::explain::explain;
use crate::probe::text::{measured_file, s_paral_parts};
use crate::units::{microseconds, size};

const PAGE_STYLE: &str = include_str!("page.css");

/// The title of page and file.
pub(super) fn title(report: &Report) -> String {
    format!("Moonshine probe of {}", report.folder.display())
}

/// The whole page.
pub(super) fn page(report: &Report, charts: &[Chart]) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _never = write_page(&mut page, report, charts);
    page
}

fn write_page(page: &mut String, report: &Report, charts: &[Chart]) -> std::fmt::Result {
    let title = escaped(&title(report));
    writeln!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{STYLE}{PAGE_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>"
    )?;
    write_facts(page, report)?;
    write_tiles(page, report)?;
    write_findings(page, report)?;
    for chart in charts {
        writeln!(
            page,
            "<figure>\n<h2>{}</h2>\n{}\n<figcaption>{}</figcaption>\n</figure>",
            escaped(&chart.title),
            chart.svg(),
            escaped(&chart.note)
        )?;
    }
    tables::write_tables(page, report)?;
    write_explanation(page, report)?;
    writeln!(page, "</main>\n</body>\n</html>")
}

fn write_facts(page: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(
        page,
        "<p class=\"facts\">{} · {} · {} cores, {} · took {:.1} s</p>",
        escaped(&report.measured_at),
        escaped(&measured_file(report)),
        report.cores,
        escaped(&report.machine.processor),
        report.duration_s
    )
}

fn write_tiles(page: &mut String, report: &Report) -> std::fmt::Result {
    let none = || "–".to_owned();
    let tiles = [
        (
            "S-Size",
            size(report.profile.s_size_bytes),
            "smallest block at full bandwidth".to_owned(),
        ),
        (
            "S-Paral",
            report.profile.s_paral.to_string(),
            s_paral_parts(report),
        ),
        (
            "Durable write",
            report.fdatasync_us.map_or_else(none, microseconds),
            "smallest write and fdatasync, median".to_owned(),
        ),
        (
            "Commit batch",
            report.commit_batch_bytes.map_or_else(none, size),
            "may share a sync at twice its cost".to_owned(),
        ),
    ];
    writeln!(page, "<div class=\"tiles\">")?;
    for (name, value, note) in tiles {
        writeln!(
            page,
            "<div class=\"tile\"><div class=\"tile-name\">{name}</div><div class=\"tile-value\">{}</div>\
             <div class=\"tile-note\">{}</div></div>",
            escaped(&value),
            escaped(&note)
        )?;
    }
    writeln!(page, "</div>")
}

fn write_findings(page: &mut String, report: &Report) -> std::fmt::Result {
    if report.findings.is_empty() {
        return Ok(());
    }
    writeln!(page, "<ul class=\"findings\">")?;
    for finding in &report.findings {
        writeln!(page, "<li>{}</li>", escaped(&finding.to_string()))?;
    }
    writeln!(page, "</ul>")
}

/// The paragraphs of `--explain`.
fn write_explanation(page: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(page, "<section>\n<h2>What it means</h2>")?;
    for paragraph in explain(report).trim().split("\n\n") {
        // Lines that are set in are a list.
        let (words, list) = paragraph.split_once("\n  ").unwrap_or((paragraph, ""));
        writeln!(page, "<p>{}</p>", escaped(words))?;
        if !list.is_empty() {
            writeln!(page, "<pre>  {}</pre>", escaped(list))?;
        }
    }
    writeln!(
        page,
        "<p class=\"facts\">Method: {}</p>\n</section>",
        escaped(&report.method)
    )
}
