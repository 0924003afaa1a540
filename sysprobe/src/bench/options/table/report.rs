//! Groups, percentiles and units of the report.

use super::super::super::units::KiloBase;
use super::super::OptionSpec;
use super::super::Takes::{Flag, Value as Text};
use super::{YES_NO, option, set};

pub(super) const OPTIONS: &[OptionSpec] = &[
    option(
        "new_group",
        &[],
        (Flag, YES_NO),
        "0",
        "Begins a new group of the report",
        |draft, value| set(&mut draft.job.new_group, value.flag()),
    ),
    option(
        "group_reporting",
        &[],
        (Flag, YES_NO),
        "0",
        "One report for all threads of a group",
        |draft, value| set(&mut draft.job.group_reporting, value.flag()),
    ),
    option(
        "clat_percentiles",
        &[],
        (Text, YES_NO),
        "1",
        "Percentiles of the time from submission to completion",
        |draft, value| set(&mut draft.job.clat_percentiles, value.flag()),
    ),
    option(
        "lat_percentiles",
        &[],
        (Text, YES_NO),
        "0",
        "Percentiles of the whole latency",
        |draft, value| set(&mut draft.job.lat_percentiles, value.flag()),
    ),
    option(
        "percentile_list",
        &[],
        (Text, "up to 20 percentiles, with colons between them"),
        "1:5:10:20:30:40:50:60:70:80:90:95:99:99.5:99.9:99.95:99.99",
        "Which percentiles",
        |draft, value| {
            (draft.job.percentile_list, draft.report.percentile_decimals) = value.percentiles()?;
            Ok(())
        },
    ),
    option(
        "kb_base",
        &[],
        (Text, "1024, 1000"),
        "1024",
        "1024: k is 1024 and kib 1000; 1000: the other way round",
        |draft, value| {
            set(
                &mut draft.report.kb_base,
                value.choice(&[
                    ("1024", KiloBase::Inverted1024),
                    ("1000", KiloBase::Standard1000),
                ]),
            )
        },
    ),
    option(
        "unit_base",
        &[],
        (Text, "0, 8, 1"),
        "0",
        "1: the text report has bits a second, else bytes",
        |draft, value| {
            set(
                &mut draft.report.in_bits,
                value.choice(&[("0", false), ("8", false), ("1", true)]),
            )
        },
    ),
    option(
        "significant_figures",
        &[],
        (Text, "1 to 10"),
        "4",
        "Digits of the numbers of the text report",
        |draft, value| set(&mut draft.report.digits_max, value.small_count(1..=10)),
    ),
];
