//! Threads, their order, times and limits.

use super::super::super::values::StartDelay;
use super::super::OptionSpec;
use super::super::Takes::{Flag, Value as Text};
use super::{MICROSECONDS, NUMBER, SECONDS, YES_NO, option, set};

pub(super) const OPTIONS: &[OptionSpec] = &[
    option(
        "numjobs",
        &[],
        (Text, NUMBER),
        "1",
        "Threads that do the same",
        |draft, value| set(&mut draft.job.numjobs, value.small_count(1..=4096)),
    ),
    option(
        "thread",
        &[],
        (Flag, YES_NO),
        "0",
        "Nothing: jobs are always threads here, never processes",
        |draft, value| set(&mut draft.job.thread, value.flag()),
    ),
    option(
        "runtime",
        &["timeout"],
        (Text, SECONDS),
        "no limit",
        "Ends a thread after this time, without the ramp",
        |draft, value| {
            let runtime = value.seconds()?;
            draft.job.runtime = (!runtime.is_zero()).then_some(runtime);
            Ok(())
        },
    ),
    option(
        "time_based",
        &[],
        (Flag, YES_NO),
        "0",
        "Begins again until runtime is over",
        |draft, value| set(&mut draft.job.time_based, value.flag()),
    ),
    option(
        "ramp_time",
        &[],
        (Text, SECONDS),
        "0",
        "Time at the beginning that is not measured",
        |draft, value| set(&mut draft.job.ramp_time, value.seconds()),
    ),
    option(
        "loops",
        &[],
        (Text, NUMBER),
        "1",
        "How often size is done",
        |draft, value| {
            draft.job.loops = value.count(0..=u64::MAX)?.max(1);
            Ok(())
        },
    ),
    option(
        "startdelay",
        &[],
        (Text, "time, or time-time, in seconds without a unit"),
        "0",
        "Begins so much later, or by a time drawn between the two",
        |draft, value| {
            let (least, most) = value.seconds_range()?;
            draft.job.startdelay = StartDelay { least, most };
            Ok(())
        },
    ),
    option(
        "stonewall",
        &["wait_for_previous"],
        (Flag, YES_NO),
        "0",
        "Begins when all jobs before it have ended",
        |draft, value| set(&mut draft.job.stonewall, value.flag()),
    ),
    option(
        "rate",
        &[],
        (Text, "size a second, or read,write"),
        "no limit",
        "Most bytes a second of each thread",
        |draft, value| {
            value.per_direction(|one| one.size().map(limit), &mut draft.job.rate_bytes_per_s)
        },
    ),
    option(
        "rate_iops",
        &[],
        (Text, "number a second, or read,write"),
        "no limit",
        "Most I/Os a second of each thread",
        |draft, value| {
            value.per_direction(
                |one| one.count(0..=u64::MAX).map(limit),
                &mut draft.job.rate_iops,
            )
        },
    ),
    option(
        "thinktime",
        &[],
        (Text, MICROSECONDS),
        "0",
        "Pause after each thinktime_blocks I/Os",
        |draft, value| set(&mut draft.job.thinktime, value.microseconds()),
    ),
    option(
        "thinktime_spin",
        &[],
        (Text, MICROSECONDS),
        "0",
        "How much of the pause keeps the core busy",
        |draft, value| set(&mut draft.job.thinktime_spin, value.microseconds()),
    ),
    option(
        "thinktime_blocks",
        &[],
        (Text, NUMBER),
        "1",
        "I/Os between two pauses",
        |draft, value| set(&mut draft.job.thinktime_blocks, value.count(1..=u64::MAX)),
    ),
];

/// 0 is no limit.
fn limit(most: u64) -> Option<u64> {
    (most > 0).then_some(most)
}
