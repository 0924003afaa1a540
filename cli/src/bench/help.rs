//! `moonshine bench --help`, from the tables that flags are read by.

use moonshine_sysprobe::bench::arguments::PROGRAM_FLAGS;
use moonshine_sysprobe::bench::options::{GROUPS, OptionSpec, Takes};

const INTRODUCTION: &str = "\
Measure I/O with jobs in fio's syntax

Usage: moonshine bench [FLAGS]... [JOBFILE]...

Each --name begins a job; options before the first one hold for all jobs. Job files are fio's: sections of options,
[global] for all jobs behind it. Sizes: k, m, g, t, p are powers of 1024 unless kb_base=1000. Example:

  moonshine bench --name=reads --filename=data.bin --size=1g --rw=randread --bs=4k --direct=1 \\
      --ioengine=io_uring --iodepth=32 --runtime=10 --time_based --output-format=json

";

/// All flags and options.
pub(super) fn text() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("Flags of the program:\n");
    for (name, value, help) in PROGRAM_FLAGS {
        let value = value.map_or_else(String::new, |value| format!("={value}"));
        text.push_str(&format!("  --{name}{value}\n          {help}\n"));
    }
    for group in &GROUPS {
        text.push_str(&format!("\n{}:\n", group.title));
        for option in group.options {
            text.push_str(&entry(option));
        }
    }
    text
}

fn entry(option: &OptionSpec) -> String {
    let aliases = option.aliases.iter();
    let aliases: String = aliases.map(|alias| format!(", --{alias}")).collect();
    let value = match option.takes {
        Takes::Value => format!("=<{}>", option.values),
        Takes::Flag => format!("[={}]", option.values),
    };
    format!(
        "  --{}{aliases}{value}\n          {} [default: {}]\n",
        option.name, option.help, option.default
    )
}
