//! Directions, sizes and places of I/Os, and what is written.

use super::super::super::values::Rw;
use super::super::OptionSpec;
use super::super::Takes::{Flag, Value as Text};
use super::super::kinds::{block_range, distribution, pattern};
use super::{NUMBER, YES_NO, option, set};

pub(super) const OPTIONS: &[OptionSpec] = &[
    option(
        "rw",
        &["readwrite"],
        (
            Text,
            "read, write, randread, randwrite, rw, readwrite, randrw",
        ),
        "read",
        "What is done, and in which order",
        |draft, value| set(&mut draft.job.rw, value.choice(&Rw::NAMES)),
    ),
    option(
        "rwmixread",
        &[],
        (Text, "percentage without %"),
        "50",
        "Share of reads where rw mixes them with writes",
        |draft, value| set(&mut draft.job.rwmix_read_percent, value.percent()),
    ),
    option(
        "rwmixwrite",
        &[],
        (Text, "percentage without %"),
        "50",
        "Share of writes; the later one of the two counts",
        |draft, value| {
            set(
                &mut draft.job.rwmix_read_percent,
                value.percent().map(|write| 100 - write),
            )
        },
    ),
    option(
        "bs",
        &["blocksize"],
        (Text, "size, or read,write"),
        "4k",
        "Size of an I/O",
        |draft, value| value.per_direction(|one| one.size_at_least(1), &mut draft.block_size),
    ),
    option(
        "bsrange",
        &["blocksize_range"],
        (Text, "size-size, or read,write"),
        "bs",
        "Sizes between which each I/O's is drawn",
        |draft, value| value.per_direction(block_range, &mut draft.block_range),
    ),
    option(
        "ba",
        &["blockalign"],
        (Text, "size, or read,write"),
        "the smallest block",
        "What random offsets are multiples of",
        |draft, value| {
            value.per_direction(
                |one| one.size_at_least(1).map(Some),
                &mut draft.job.block_align_bytes,
            )
        },
    ),
    option(
        "random_distribution",
        &[],
        (
            Text,
            "random, zipf[:theta], pareto[:h], normal[:deviation]; each with [:center]",
        ),
        "random",
        "How often each place of the file is drawn",
        |draft, value| {
            set(
                &mut draft.job.random_distribution,
                distribution(value.text()?),
            )
        },
    ),
    option(
        "norandommap",
        &[],
        (Flag, YES_NO),
        "0",
        "Draws blocks without a look at which were done",
        |draft, value| set(&mut draft.job.norandommap, value.flag()),
    ),
    option(
        "randrepeat",
        &[],
        (Text, YES_NO),
        "1",
        "Draws the same in every run",
        |draft, value| set(&mut draft.job.randrepeat, value.flag()),
    ),
    option(
        "randseed",
        &[],
        (Text, NUMBER),
        "by randrepeat",
        "Draws by this seed",
        |draft, value| {
            draft.job.randseed = Some(value.count(0..=u64::MAX)?);
            Ok(())
        },
    ),
    option(
        "zero_buffers",
        &[],
        (Flag, YES_NO),
        "0",
        "Writes zeros",
        |draft, value| set(&mut draft.zero_buffers, value.flag()),
    ),
    option(
        "buffer_pattern",
        &[],
        (Text, "0x and hexadecimal digits, a number, or \"text\""),
        "random bytes",
        "Writes this over and over",
        |draft, value| {
            draft.pattern = Some(pattern(value.text()?)?);
            draft.zero_buffers = false;
            draft.job.refill_buffers = draft.job.rw.reads();
            Ok(())
        },
    ),
    option(
        "refill_buffers",
        &[],
        (Flag, YES_NO),
        "0",
        "Makes new content for each write",
        |draft, value| set(&mut draft.job.refill_buffers, value.flag()),
    ),
    option(
        "scramble_buffers",
        &[],
        (Text, YES_NO),
        "1",
        "Makes the content of each write a little different",
        |draft, value| set(&mut draft.job.scramble_buffers, value.flag()),
    ),
];
