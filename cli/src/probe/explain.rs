//! What was measured, in words.

use moonshine_engine::{Layout, StoredProfile, Unit};
use moonshine_sysprobe::Report;
use moonshine_sysprobe::disk::Access;

use crate::units::{label, microseconds, size, size_rounded};

/// Characters of a line.
const LINE_WIDTH: usize = 118;

/// Paragraphs about the numbers of this report, apart by empty lines.
pub(super) fn explain(report: &Report) -> String {
    let paragraphs = [
        what_was_measured(report),
        s_size(report),
        s_paral(report),
        commit(report),
        what_follows(report),
    ];
    format!("\n{}\n", paragraphs.map(|text| wrapped(&text)).join("\n\n"))
}

/// The same with its words on lines of at most [`LINE_WIDTH`]; lines that are set in stay as they are.
fn wrapped(paragraph: &str) -> String {
    let (words, list) = match paragraph.split_once("\n  ") {
        Some((words, list)) => (words, format!("\n  {list}")),
        None => (paragraph, String::new()),
    };
    let mut lines: Vec<String> = Vec::new();
    for word in words.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= LINE_WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n") + &list
}

fn what_was_measured(report: &Report) -> String {
    let file = size_rounded(report.file_size_bytes);
    let file = match report.access {
        Access::ReadWrite => {
            format!("A temporary file of {file} was filled, then read and written")
        }
        Access::ReadOnly => format!("A file of {file} was read"),
    };
    format!(
        "What was measured. {file} at random places: in blocks from 4 KiB to 4 MiB, and in blocks
of about S-Size with up to 128 I/Os under way. Measurements of each point are spread over the whole run, so that a device that
is busy or throttled for a while does not make one point look worse than the next. Bandwidths are of the file as it lay:
a file this small may fit in a cache of the device or of the host of a virtual machine, and then that cache was measured."
    )
}

fn s_size(report: &Report) -> String {
    format!(
        "S-Size = {}: the smallest block with at least 95 % of the greatest bandwidth, of reading or writing, whichever
needs the larger one. Smaller I/O wastes the device, larger I/O gains nothing and costs memory and latency.",
        size(report.profile.s_size_bytes)
    )
}

fn s_paral(report: &Report) -> String {
    let queue = match report.io_depth {
        Some(depth) => format!("with a queue of {depth} asynchronous I/Os from one thread"),
        None => "asynchronous I/O was not measured".into(),
    };
    format!(
        "S-Paral = {}: the device reaches 95 % of its bandwidth with {} threads of synchronous I/O, or {queue};
and this process may use {} cores. The greatest of them, rounded up to a power of two, keeps both device and cores busy.",
        report.profile.s_paral, report.io_threads, report.cores
    )
}

fn commit(report: &Report) -> String {
    match (report.fdatasync_us, report.commit_batch_bytes) {
        (Some(us), Some(bytes)) => format!(
            "Commits. A commit waits until its bytes are durable: {} for the smallest, by write and fdatasync. Up to {} can
share one for at most twice that time.",
            microseconds(us),
            size(bytes)
        ),
        _ => "Commits. What a commit costs was not measured, since nothing was written.".into(),
    }
}

fn what_follows(report: &Report) -> String {
    format!(
        "What the engine does with it. A new database measures its own folder once, or takes a profile that is given to it,
and keeps the numbers for its life; 'moonshine inspect' shows them. From these numbers it would be laid out so:
{}",
        layout_lines(report)
    )
}

/// The numbers of a database that would be created from this report, a line each.
fn layout_lines(report: &Report) -> String {
    let layout = Layout::of(&StoredProfile::from(report));
    let lines = layout.numbers().map(|number| {
        let value = match number.unit {
            Unit::Bytes => size(number.value),
            Unit::Count => number.value.to_string(),
        };
        let name = label(number.name);
        format!("  {name:<18}  {value:>8}  {}", number.formula)
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_lists_are_not() {
        let long = "word ".repeat(60);
        let text = wrapped(&format!("{long}\n  a  b\n  c"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines.iter().all(|line| line.chars().count() <= LINE_WIDTH));
        assert_eq!(lines[3..], ["  a  b", "  c"]);
        assert_eq!(text.split_whitespace().count(), 63);
    }
}
