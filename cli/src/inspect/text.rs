//! What was found, for people.

use std::fmt::Write;

use super::{Inspection, LayoutFact, PendingFacts, TableFacts};
use crate::units::{label, size, size_rounded};

/// Segments of the log that are listed one by one; of more, only their number.
const SEGMENTS_LISTED_MAX: usize = 8;

/// The whole of it.
pub(super) fn text(inspection: &Inspection) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _never = write_text(&mut text, inspection);
    text
}

fn write_text(text: &mut String, inspection: &Inspection) -> std::fmt::Result {
    writeln!(
        text,
        "{}, database {}",
        inspection.database.display(),
        inspection.id
    )?;
    write_profile(text, inspection)?;
    write_layout(text, &inspection.layout)?;
    write_log(text, inspection)?;
    inspection.space.write(text)?;
    for table in &inspection.tables {
        write_table(text, table)?;
    }
    if inspection.tables.is_empty() {
        writeln!(text, "\nno tables yet")?;
    }
    if !inspection.sources.is_empty() {
        writeln!(text, "\nsources and how far they are")?;
    }
    for source in &inspection.sources {
        writeln!(text, "  {}: {}", source.name, source.position)?;
    }
    for pending in &inspection.pending_exports {
        write_pending(text, pending)?;
    }
    Ok(())
}

fn write_profile(text: &mut String, inspection: &Inspection) -> std::fmt::Result {
    let profile = &inspection.profile;
    write!(text, "\nprofile: {}", profile.from)?;
    if let Some(measured_at) = &profile.measured_at {
        write!(text, " at {measured_at}")?;
    }
    writeln!(text)?;
    writeln!(text, "  S-Size        {}", size(profile.s_size_bytes))?;
    writeln!(text, "  S-Paral       {}", profile.s_paral)?;
    let batch = profile.commit_batch_bytes.map(size);
    let batch = batch.unwrap_or_else(|| "not measured".into());
    writeln!(text, "  commit batch  {batch}")?;
    writeln!(text, "  method        {}", profile.method)?;
    if let Some(machine) = &profile.machine {
        writeln!(text, "  machine       {machine}")?;
    }
    Ok(())
}

fn write_layout(text: &mut String, layout: &[LayoutFact]) -> std::fmt::Result {
    writeln!(
        text,
        "\n{:<18}  {:>10}  {:<12}  how it follows",
        "layout", "value", "from"
    )?;
    for number in layout {
        let value = match number.unit {
            "bytes" => size(number.value),
            _ => number.value.to_string(),
        };
        let name = label(number.name);
        writeln!(
            text,
            "{name:<18}  {value:>10}  {:<12}  {}",
            number.from, number.formula
        )?;
    }
    Ok(())
}

fn write_log(text: &mut String, inspection: &Inspection) -> std::fmt::Result {
    let log = &inspection.log;
    writeln!(
        text,
        "\nlog: {} in {}, commit sequence {}",
        size_rounded(log.size_bytes),
        match log.segments.len() {
            1 => "1 segment".into(),
            count => format!("{count} segments"),
        },
        log.commit_seq
    )?;
    if log.segments.len() <= SEGMENTS_LISTED_MAX {
        for segment in &log.segments {
            let size = size_rounded(segment.size_bytes);
            writeln!(text, "  {size:>10}  {}", segment.file)?;
        }
    }
    Ok(())
}

fn write_table(text: &mut String, table: &TableFacts) -> std::fmt::Result {
    writeln!(
        text,
        "\ntable {}: {} rows, key {}",
        table.name,
        table.rows,
        table.key.join(", ")
    )?;
    if let Some(comment) = &table.comment {
        writeln!(text, "  {}", one_line(comment))?;
    }
    for column in &table.columns {
        let not_null = if column.nullable { "" } else { " not null" };
        write!(text, "  {}: {}{not_null}", column.name, column.column_type)?;
        match &column.comment {
            Some(comment) => writeln!(text, " ({})", one_line(comment))?,
            None => writeln!(text)?,
        }
    }
    table.tree.write(text)?;
    match &table.exported {
        Some(exported) => writeln!(
            text,
            "  exported at commit sequence {} as {}; since then {} rows to write, {} to remove",
            exported.commit_seq,
            exported.token,
            table.unexported.rows_written,
            table.unexported.rows_removed
        ),
        None => writeln!(text, "  not exported yet"),
    }
}

/// A comment without its line ends and other control characters.
fn one_line(comment: &str) -> String {
    comment.replace(char::is_control, " ")
}

fn write_pending(text: &mut String, pending: &PendingFacts) -> std::fmt::Result {
    writeln!(
        text,
        "\npending export of {}: commit {}, commit sequences {} to {}, {} files; its outcome is asked of the catalog at \
         the next sync",
        pending.table, pending.commit_id, pending.from_seq, pending.to_seq, pending.files
    )
}
