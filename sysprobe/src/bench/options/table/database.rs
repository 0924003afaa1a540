//! Options of `ioengine=moonshine` alone.

use super::super::super::database::DatabaseWorkload;
use super::super::OptionSpec;
use super::super::Takes::Value as Text;
use super::{NUMBER, SIZE, option, set};

pub(super) const OPTIONS: &[OptionSpec] = &[
    option(
        "workload",
        &[],
        (Text, "ycsb-a to ycsb-f, put, insert, get, scan, mixed"),
        "ycsb-a",
        "moonshine: what is done with the records",
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
        "moonshine: rows that are there before the job begins; what is missing is loaded",
        |draft, value| set(&mut draft.job.database.records, value.count(0..=u64::MAX)),
    ),
    option(
        "key_size",
        &[],
        (Text, SIZE),
        "16",
        "moonshine: bytes of a key",
        |draft, value| {
            set(
                &mut draft.job.database.key_size_bytes,
                value.size_at_least(1),
            )
        },
    ),
    option(
        "value_size",
        &[],
        (Text, SIZE),
        "1000 for YCSB, else bs",
        "moonshine: bytes of a value",
        |draft, value| {
            set(
                &mut draft.job.database.value_size_bytes,
                value.size_at_least(1).map(Some),
            )
        },
    ),
    option(
        "scan_length",
        &[],
        (Text, NUMBER),
        "100",
        "moonshine: rows of a scan; of the longest one with YCSB",
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
        "moonshine: rows that a put or an insert writes in one transaction, which is one I/O",
        |draft, value| set(&mut draft.job.database.batch, value.count(1..=u64::MAX)),
    ),
    option(
        "miss",
        &[],
        (Text, "0 to 100"),
        "0",
        "moonshine: percent of the gets that ask for a key that is not there",
        |draft, value| set(&mut draft.job.database.miss_percent, value.percent()),
    ),
    option(
        "memory_budget",
        &[],
        (Text, SIZE),
        "the engine's own",
        "moonshine: bytes that the database may hold in memory, beside its keys",
        |draft, value| {
            set(
                &mut draft.job.database.memory_budget_bytes,
                value.size_at_least(1).map(Some),
            )
        },
    ),
];
