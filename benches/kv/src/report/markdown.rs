//! The tables.

use std::fmt::Write;

use super::targets::verdicts;
use super::{Line, Section, Stored, Unit};
use crate::workloads::{Engine, mib};

/// The section whose published form is times, not rates.
const PUBLISHED_AS_TIMES: &str = "redb-bench";

pub(super) fn render(stored: &Stored, sections: &[Section], plots: &[String]) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = write_all(&mut text, stored, sections, plots);
    text
}

fn write_all(
    text: &mut String,
    stored: &Stored,
    sections: &[Section],
    plots: &[String],
) -> std::fmt::Result {
    facts(text, stored)?;
    targets(text, stored, sections)?;
    for (section, plot) in sections.iter().zip(plots) {
        writeln!(text, "\n## {}\n\n![{0}]({plot})\n", section.name)?;
        table(text, stored, section, "times better", |line, engine| {
            let cell = line.cells.get(&engine)?;
            Some(format!(
                "{}{}",
                number(cell.value),
                if cell.cut_short { " *" } else { "" }
            ))
        })?;
        if section.name == PUBLISHED_AS_TIMES {
            writeln!(
                text,
                "\nThe same as times for all operations, as the comparison is published, in ms:\n"
            )?;
            table(text, stored, section, "", |line, engine| {
                line.cells
                    .get(&engine)?
                    .planned_s
                    .map(|seconds| format!("{:.0}", seconds * 1e3))
            })?;
        }
        if section.lines.iter().any(|line| line.unit == Unit::OpsPerS) {
            writeln!(
                text,
                "\nCPU time an operation, background threads included, in µs:\n"
            )?;
            table(text, stored, section, "", |line, engine| {
                line.cells.get(&engine)?.cpu_us_per_op.map(number)
            })?;
        }
    }
    if !stored.failures.is_empty() {
        writeln!(text, "\n## Without a result\n")?;
    }
    for failure in &stored.failures {
        let (engine, section) = (failure.engine.name(), &failure.section);
        writeln!(
            text,
            "- {engine}, {section}, round {}: {}",
            failure.round + 1,
            failure.reason
        )?;
    }
    Ok(())
}

fn facts(text: &mut String, stored: &Stored) -> std::fmt::Result {
    let (machine, sizes) = (&stored.machine, &stored.sizes);
    writeln!(text, "# Embedded key-value engines side by side\n")?;
    writeln!(
        text,
        "Machine: {}, {} cores, {} MiB of memory, {}, {}.",
        machine.cpu, machine.cores, machine.memory_mib, machine.kernel, machine.file_system
    )?;
    writeln!(
        text,
        "Its disk makes {:.0} appends of 4 KiB a second durable one after the other ({:.0} where the file was written \
         before), {:.0} of a batch of rows ({:.0}), and {:.0} MiB/s in appends of 1 MiB.",
        machine.durable_appends_per_s,
        machine.durable_overwrites_per_s,
        machine.durable_batch_appends_per_s,
        machine.durable_batch_overwrites_per_s,
        machine.durable_mib_per_s
    )?;
    writeln!(
        text,
        "Load averages: {} before, {} after.",
        machine.load_before, machine.load_after
    )?;
    writeln!(text, "Engines: {}.", machine.engines.join(", "))?;
    writeln!(
        text,
        "{} rows of 16-byte keys and 100-byte values, {} where larger than memory; {:.0} MiB cache, {:.0} MiB write buffers, no compression; \
         median of {} rounds.",
        sizes.row_count,
        sizes.larger_row_count,
        mib(sizes.memory.cache_bytes),
        mib(sizes.memory.memtable_bytes),
        stored.rounds
    )?;
    writeln!(
        text,
        "\nRates are operations a second: rows for writes and scans, ranges for ranges. `*`: the time limit came before all \
         operations were done. The last column is Moonshine against the best peer of the row; above 1 is better."
    )
}

fn targets(text: &mut String, stored: &Stored, sections: &[Section]) -> std::fmt::Result {
    let verdicts = verdicts(stored, sections);
    if verdicts.is_empty() {
        return Ok(());
    }
    let met = verdicts.iter().filter(|verdict| verdict.is_met).count();
    let by_all = verdicts.iter().filter(|verdict| verdict.is_met_by_all());
    writeln!(
        text,
        "\n## Targets: {met} of {} met, {} where each is held against the best peer of its row\n",
        verdicts.len(),
        by_all.count()
    )?;
    writeln!(
        text,
        "| | target | measured | | against the best peer of the row |\n|---|---|---|---|---|"
    )?;
    for verdict in verdicts {
        let best = verdict.against_best.map_or("–".into(), |best| {
            let measured = number(best.measured);
            format!(
                "{}: {measured}, {}",
                best.peer.name(),
                met_or_missed(best.is_met)
            )
        });
        writeln!(
            text,
            "| {}: {}: {} | {} | {} | {} | {best} |",
            verdict.engine.name(),
            verdict.section,
            verdict.row,
            verdict.aim,
            number(verdict.measured),
            met_or_missed(verdict.is_met)
        )?;
    }
    Ok(())
}

fn met_or_missed(is_met: bool) -> &'static str {
    if is_met { "met" } else { "**missed**" }
}

/// Writes a table; the last columns only with a headline.
fn table(
    text: &mut String,
    stored: &Stored,
    section: &Section,
    ratio_headline: &str,
    cell: impl Fn(&Line, Engine) -> Option<String>,
) -> std::fmt::Result {
    let with_ratio = !ratio_headline.is_empty();
    write!(text, "| |")?;
    if with_ratio {
        write!(text, " unit |")?;
    }
    for engine in &stored.engines {
        write!(text, " {} |", engine.name())?;
    }
    if with_ratio {
        write!(text, " best peer | {ratio_headline} |")?;
    }
    let columns = stored.engines.len() + if with_ratio { 3 } else { 0 };
    writeln!(text, "\n|---|{}", "---|".repeat(columns))?;
    for line in &section.lines {
        let cells: Vec<_> = stored
            .engines
            .iter()
            .map(|&engine| cell(line, engine))
            .collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        write!(text, "| {} |", line.row)?;
        if with_ratio {
            write!(
                text,
                " {} |",
                if let Unit::Of(unit) = &line.unit {
                    unit
                } else {
                    "ops/s"
                }
            )?;
        }
        for cell in cells {
            write!(text, " {} |", cell.as_deref().unwrap_or("–"))?;
        }
        if with_ratio {
            let best = line.best_peer.map_or("–", |(engine, _)| engine.name());
            let ratio = line
                .ratio()
                .map_or("–".into(), |ratio| format!("**{}**", number(ratio)));
            write!(text, " {best} | {ratio} |")?;
        }
        writeln!(text)?;
    }
    Ok(())
}

/// Three significant digits, with k and M.
pub(super) fn number(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        v if v >= 999_500.0 => (value / 1e6, " M"),
        v if v >= 9_995.0 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let decimals = match scaled.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        v if v >= 0.0995 => 3,
        v if v >= 0.00995 => 4,
        _ => 5,
    };
    format!("{scaled:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_have_three_digits() {
        let shown = [
            1_234_567.0,
            999_600.0,
            45_600.0,
            2_345.0,
            99.96,
            1.0,
            0.123,
            0.0123,
        ]
        .map(number);
        assert_eq!(
            shown,
            [
                "1.23 M", "1.00 M", "45.6 k", "2345", "100", "1.00", "0.123", "0.0123"
            ]
        );
    }
}
