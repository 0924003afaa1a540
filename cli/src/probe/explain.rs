//! What was measured, in words.

use moonshine_engine::{Layout, StoredProfile, Unit};
use moonshine_sysprobe::Report;

use crate::units::{label, size};

/// Paragraphs about the numbers of this report.
pub(super) fn explain(report: &Report) -> String {
    let profile = &report.profile;
    format!(
        "
What was measured. A temporary file of {file} was filled, then read and written at random places: in blocks from
4 KiB to 4 MiB by 16 threads, and in blocks of S-Size by 1 to 128 threads. Measurements of each point are spread
over the whole run; their median counts. Bandwidths are of the file as it lay: a file this small may fit in a cache
of the device or of the host of a virtual machine, and then that cache was measured.

S-Size = {s_size}: the smallest block with at least 95 % of the greatest bandwidth, of reading or writing,
whichever needs the larger one. Smaller I/O wastes the device, larger I/O gains nothing and costs memory.

S-Paral = {s_paral}: the device reaches 95 % of its bandwidth with {io_threads} threads of synchronous I/O, and the
machine has {cores} cores; the greater one, rounded up to a power of two. Asynchronous I/O is not measured yet.

Commit batch: a commit waits for write + fdatasync. {commit}

What the engine does with it. A new database measures its own folder once, or takes a profile that is given to it, and
keeps the numbers for its life; 'moonshine inspect' shows them. From these numbers it would be laid out so:
{layout}
",
        file = size(report.file_size_bytes),
        s_size = size(profile.s_size_bytes),
        s_paral = profile.s_paral,
        io_threads = report.io_threads,
        cores = report.machine.cores,
        layout = layout_lines(report),
        commit = match report.commit_batch_bytes {
            Some(bytes) => format!(
                "Up to {} can share one for at most twice the time of the smallest.",
                size(bytes)
            ),
            None => "It was not measured.".into(),
        },
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
