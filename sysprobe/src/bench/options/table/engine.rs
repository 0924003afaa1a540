//! The engine, its depth, and how writes are made durable.

use super::super::super::values::SyncMode;
use super::super::OptionSpec;
use super::super::Takes::{Flag, Value as Text};
use super::super::kinds::engine;
use super::{NUMBER, YES_NO, option, set};

pub(super) const OPTIONS: &[OptionSpec] = &[
    option(
        "ioengine",
        &[],
        (
            Text,
            "psync, pvsync2, mmap, io_uring, tokio_uring, moonshine",
        ),
        "psync",
        "How I/O is done; moonshine is the database itself",
        |draft, value| set(&mut draft.job.ioengine, engine(value)),
    ),
    option(
        "iodepth",
        &[],
        (Text, NUMBER),
        "1",
        "I/Os under way at once, of an engine that can",
        |draft, value| set(&mut draft.job.iodepth, value.small_count(1..=65_536)),
    ),
    option(
        "iodepth_batch",
        &["iodepth_batch_submit"],
        (Text, NUMBER),
        "1",
        "I/Os that are submitted together; 0 is iodepth",
        |draft, value| {
            set(
                &mut draft.job.iodepth_batch_submit,
                value.small_count(0..=65_536),
            )
        },
    ),
    option(
        "iodepth_batch_complete_min",
        &["iodepth_batch_complete"],
        (Text, NUMBER),
        "1",
        "Completions that are waited for together",
        |draft, value| {
            set(
                &mut draft.job.iodepth_batch_complete_min,
                value.small_count(0..=65_536),
            )
        },
    ),
    option(
        "iodepth_batch_complete_max",
        &[],
        (Text, NUMBER),
        "all there are",
        "Most completions that are taken together",
        |draft, value| {
            draft.job.iodepth_batch_complete_max = Some(value.small_count(0..=65_536)?);
            Ok(())
        },
    ),
    option(
        "iodepth_low",
        &[],
        (Text, NUMBER),
        "iodepth",
        "To what a full queue drains before it is filled again",
        |draft, value| {
            draft.job.iodepth_low = Some(value.small_count(0..=65_536)?);
            Ok(())
        },
    ),
    option(
        "direct",
        &[],
        (Text, YES_NO),
        "0",
        "O_DIRECT: past the page cache",
        |draft, value| set(&mut draft.job.direct, value.flag()),
    ),
    option(
        "buffered",
        &[],
        (Text, YES_NO),
        "1",
        "The opposite of direct; the later one of the two counts",
        |draft, value| set(&mut draft.job.direct, value.flag().map(|on| !on)),
    ),
    option(
        "sync",
        &[],
        (Text, "none, sync, dsync"),
        "none",
        "O_SYNC or O_DSYNC: each write is durable",
        |draft, value| {
            set(
                &mut draft.job.sync,
                value.choice(&[
                    ("none", SyncMode::None),
                    ("0", SyncMode::None),
                    ("sync", SyncMode::Sync),
                    ("1", SyncMode::Sync),
                    ("dsync", SyncMode::Dsync),
                ]),
            )
        },
    ),
    option(
        "fsync",
        &[],
        (Text, NUMBER),
        "0",
        "One fsync after so many writes",
        |draft, value| set(&mut draft.job.fsync, value.count(0..=u64::MAX)),
    ),
    option(
        "fdatasync",
        &[],
        (Text, NUMBER),
        "0",
        "One fdatasync after so many writes",
        |draft, value| set(&mut draft.job.fdatasync, value.count(0..=u64::MAX)),
    ),
    option(
        "end_fsync",
        &[],
        (Text, YES_NO),
        "0",
        "One fsync of each file at the end",
        |draft, value| set(&mut draft.job.end_fsync, value.flag()),
    ),
    option(
        "fixedbufs",
        &[],
        (Flag, YES_NO),
        "0",
        "io_uring: registers the buffers with the kernel",
        |draft, value| set(&mut draft.job.fixedbufs, value.flag()),
    ),
    option(
        "registerfiles",
        &[],
        (Flag, YES_NO),
        "0",
        "io_uring: registers the files with the kernel",
        |draft, value| set(&mut draft.job.registerfiles, value.flag()),
    ),
    option(
        "sqthread_poll",
        &[],
        (Flag, YES_NO),
        "0",
        "io_uring: a thread of the kernel submits",
        |draft, value| set(&mut draft.job.sqthread_poll, value.flag()),
    ),
    option(
        "sqthread_poll_cpu",
        &[],
        (Text, NUMBER),
        "any",
        "io_uring: the core of that thread",
        |draft, value| {
            let cpu = value.count(0..=65_535)?;
            draft.job.sqthread_poll_cpu =
                Some(u32::try_from(cpu).map_err(|error| error.to_string())?);
            Ok(())
        },
    ),
    option(
        "hipri",
        &[],
        (Flag, YES_NO),
        "0",
        "io_uring, pvsync2: polls for completions",
        |draft, value| set(&mut draft.job.hipri, value.flag()),
    ),
];
