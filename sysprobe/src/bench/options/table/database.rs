//! Options of `ioengine=moonshine` alone.

use super::super::super::values::DatabaseWorkload;
use super::super::OptionSpec;
use super::super::Takes::Value as Text;
use super::{NUMBER, SIZE, option, set};

pub(super) const OPTIONS: &[OptionSpec] = &[
    option(
        "workload",
        &[],
        (Text, "ycsb-a to ycsb-f, put, get, scan, mixed"),
        "ycsb-a",
        "moonshine: what is done",
        |draft, value| {
            set(
                &mut draft.job.database.workload,
                value.choice(&DatabaseWorkload::NAMES),
            )
        },
    ),
    option(
        "records",
        &[],
        (Text, NUMBER),
        "100000",
        "moonshine: rows that are there before the job begins",
        |draft, value| set(&mut draft.job.database.records, value.count(1..=u64::MAX)),
    ),
    option(
        "value_size",
        &[],
        (Text, SIZE),
        "1000",
        "moonshine: bytes of a value",
        |draft, value| {
            set(
                &mut draft.job.database.value_size_bytes,
                value.size_at_least(1),
            )
        },
    ),
    option(
        "scan_length",
        &[],
        (Text, NUMBER),
        "100",
        "moonshine: most rows of a scan",
        |draft, value| {
            set(
                &mut draft.job.database.scan_rows_max,
                value.count(1..=u64::MAX),
            )
        },
    ),
    option(
        "batch",
        &[],
        (Text, NUMBER),
        "1",
        "moonshine: puts that share a transaction",
        |draft, value| set(&mut draft.job.database.batch, value.count(1..=u64::MAX)),
    ),
];
