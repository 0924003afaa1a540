//! All options, in groups, in the order of the documentation.

mod blocks;
mod database;
mod engine;
mod files;
mod report;
mod time;

use super::value::Value;
use super::{Draft, OptionSpec, Takes};

/// Options that belong together.
#[derive(Debug)]
pub struct OptionGroup {
    /// The headline in the help and the documentation.
    pub title: &'static str,
    /// The options.
    pub options: &'static [OptionSpec],
}

/// All options.
pub const GROUPS: [OptionGroup; 6] = [
    OptionGroup {
        title: "Jobs and files",
        options: files::OPTIONS,
    },
    OptionGroup {
        title: "What is done",
        options: blocks::OPTIONS,
    },
    OptionGroup {
        title: "How it is done",
        options: engine::OPTIONS,
    },
    OptionGroup {
        title: "How many, how long and how fast",
        options: time::OPTIONS,
    },
    OptionGroup {
        title: "What is reported",
        options: report::OPTIONS,
    },
    OptionGroup {
        title: "The engine moonshine",
        options: database::OPTIONS,
    },
];

const SIZE: &str = "size";
const SIZE_OR_PERCENT: &str = "size or percentage";
const NUMBER: &str = "number";
const SECONDS: &str = "time, in seconds without a unit";
const MICROSECONDS: &str = "time, in microseconds without a unit";
const YES_NO: &str = "0 or 1";

const fn option(
    name: &'static str,
    aliases: &'static [&'static str],
    (takes, values): (Takes, &'static str),
    default: &'static str,
    help: &'static str,
    set: fn(&mut Draft<'_>, &Value<'_>) -> Result<(), String>,
) -> OptionSpec {
    OptionSpec {
        name,
        aliases,
        takes,
        values,
        default,
        help,
        set,
    }
}

fn set<T>(field: &mut T, value: Result<T, String>) -> Result<(), String> {
    *field = value?;
    Ok(())
}
