//! One plot a section: for each row, how many times better than the best peer each engine is, on a logarithmic axis.
//!
//! A bar for Moonshine, from the line of the best peer to the right if it is better; a dot for every peer.

use std::fmt::Write;

use super::Section;
use super::markdown::number;
use crate::workloads::Engine;

const LINE_HEIGHT: usize = 22;
const LABEL_WIDTH: f64 = 330.0;
const PLOT_WIDTH: f64 = 520.0;
const RIGHT_WIDTH: f64 = 70.0;
const TOP: usize = 44;
/// The axis reaches from one part in so many to so many times the best peer; what lies beyond stands at its end.
const RATIO_MAX: f64 = 64.0;

fn x_of(ratio: f64) -> f64 {
    let clamped = ratio.clamp(1.0 / RATIO_MAX, RATIO_MAX);
    LABEL_WIDTH + PLOT_WIDTH * (0.5 + clamped.log2() / (2.0 * RATIO_MAX.log2()))
}

fn color(engine: Engine) -> &'static str {
    match engine {
        Engine::Moonshine => "#4c6ef5",
        Engine::MoonshineRange => "#9775fa",
        Engine::Rocksdb => "#e8590c",
        Engine::Fjall => "#2f9e44",
        Engine::Redb => "#c2255c",
        Engine::Lmdb => "#0b7285",
        Engine::Sled => "#868e96",
    }
}

pub(super) fn plot(section: &Section) -> String {
    let mut svg = String::new();
    // Writing to a string can't fail.
    let _ = write_plot(&mut svg, section);
    svg
}

fn write_plot(svg: &mut String, section: &Section) -> std::fmt::Result {
    let bottom = TOP + LINE_HEIGHT * section.lines.len();
    let width = LABEL_WIDTH + PLOT_WIDTH + RIGHT_WIDTH;
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{}" font-family="sans-serif" font-size="12">"#,
        bottom + 24
    )?;
    writeln!(svg, r#"<rect width="100%" height="100%" fill="white"/>"#)?;
    legend(svg, section)?;
    for power in -3..=3 {
        let (ratio, x) = (4f64.powi(power), x_of(4f64.powi(power)));
        let stroke = if power == 0 { "#495057" } else { "#dee2e6" };
        writeln!(
            svg,
            r#"<line x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{bottom}" stroke="{stroke}"/>"#
        )?;
        let label = if power < 0 {
            format!("1/{}", 1.0 / ratio)
        } else {
            format!("{ratio}")
        };
        writeln!(
            svg,
            r#"<text x="{x:.1}" y="{}" text-anchor="middle">{label}×</text>"#,
            bottom + 16
        )?;
    }
    for (i, line) in section.lines.iter().enumerate() {
        let middle = TOP + LINE_HEIGHT * i + LINE_HEIGHT / 2;
        writeln!(
            svg,
            r#"<text x="{}" y="{}" text-anchor="end">{}</text>"#,
            LABEL_WIDTH - 8.0,
            middle + 4,
            escape(&line.row)
        )?;
        if let Some(ratio) = line.ratio() {
            let (from, to) = (x_of(1.0).min(x_of(ratio)), x_of(1.0).max(x_of(ratio)));
            let fill = color(Engine::Moonshine);
            writeln!(
                svg,
                r#"<rect x="{from:.1}" y="{}" width="{:.1}" height="12" fill="{fill}"/>"#,
                middle - 6,
                (to - from).max(1.0)
            )?;
            let at = LABEL_WIDTH + PLOT_WIDTH + 8.0;
            writeln!(
                svg,
                r#"<text x="{at}" y="{}" fill="{fill}">{}×</text>"#,
                middle + 4,
                number(ratio)
            )?;
        }
        for &engine in line
            .cells
            .keys()
            .filter(|&&engine| engine != Engine::Moonshine)
        {
            if let Some(ratio) = line.ratio_of(engine) {
                writeln!(
                    svg,
                    r#"<circle cx="{:.1}" cy="{middle}" r="4" fill="{}" fill-opacity="0.85"/>"#,
                    x_of(ratio),
                    color(engine)
                )?;
            }
        }
    }
    writeln!(svg, "</svg>")
}

fn legend(svg: &mut String, section: &Section) -> std::fmt::Result {
    let title = format!("{}: times better than the best peer", section.name);
    writeln!(
        svg,
        r#"<text x="8" y="16" font-weight="bold">{}</text>"#,
        escape(&title)
    )?;
    let mut engines: Vec<Engine> = section
        .lines
        .iter()
        .flat_map(|line| line.cells.keys().copied())
        .collect();
    engines.sort();
    engines.dedup();
    for (i, engine) in engines.into_iter().enumerate() {
        let x = LABEL_WIDTH + 90.0 * i as f64;
        writeln!(
            svg,
            r#"<circle cx="{x}" cy="30" r="4" fill="{}"/>"#,
            color(engine)
        )?;
        writeln!(
            svg,
            r#"<text x="{}" y="34">{}</text>"#,
            x + 8.0,
            engine.name()
        )?;
    }
    Ok(())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
