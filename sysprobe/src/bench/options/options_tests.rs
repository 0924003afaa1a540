use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;

use super::super::arguments::BenchArguments;
use super::super::jobfile;
use super::super::plan::{Plan, Planner};
use super::super::settings::Place;
use super::*;

/// Values that an option takes; a fitting engine comes first where one is needed.
fn examples(name: &str) -> &'static [&'static str] {
    match name {
        "name" | "description" => &["x", "some text"],
        "directory" => &["/tmp", "a\\:b"],
        "filename" => &["a", "a:b", "a\\:b:c"],
        "filename_format" => &["x.$jobnum.$filenum"],
        "size" | "io_size" => &["1m", "64k", "50%", "1048576", "2mib"],
        "offset" | "offset_increment" => &["0", "8k", "10%"],
        "filesize" | "key_size" | "value_size" | "memory_budget" => &["4k", "1m"],
        "nrfiles" | "iodepth" | "numjobs" | "loops" | "records" | "scan_length" | "batch" => {
            &["1", "4", "16"]
        }
        "fallocate" => &["none", "native", "posix", "keep", "truncate", "0", "1"],
        "fadvise_hint" => &["none", "by_pattern", "random", "sequential", "0", "1"],
        "rw" => &[
            "read",
            "write",
            "randread",
            "randwrite",
            "rw",
            "readwrite",
            "randrw",
        ],
        "rwmixread" | "rwmixwrite" | "miss" => &["0", "50", "100"],
        "bs" => &["4k", "4k,8k", ",8k", "8k,", "512"],
        "bsrange" => &["4k-8k", "8k:4k", "4k-8k,8k-16k"],
        "ba" => &["4k", "4k,8k"],
        "random_distribution" => &[
            "random",
            "zipf",
            "zipf:1.2",
            "pareto:0.3:0.5",
            "normal",
            "normal:20",
        ],
        "randseed" => &["1", "0x89"],
        "ioengine" => &["psync", "pvsync2", "mmap", "io_uring", "tokio_uring"],
        "iodepth_batch"
        | "iodepth_batch_complete_min"
        | "iodepth_batch_complete_max"
        | "iodepth_low"
        | "fsync"
        | "fdatasync"
        | "number_ios"
        | "sqthread_poll_cpu" => &["0", "1", "8"],
        "sync" => &["none", "sync", "dsync", "0", "1"],
        "runtime" | "ramp_time" => &["0", "10", "10s", "2m", "500ms"],
        "startdelay" => &["1", "1-3", "500ms"],
        "rate" => &["1m", "1m,500k", "0"],
        "rate_iops" => &["100", "1k,200"],
        "thinktime" | "thinktime_spin" => &["10", "10us", "1ms"],
        "thinktime_blocks" => &["1", "8"],
        "buffer_pattern" => &["0xdeadbeef", "258", "\"text\""],
        "percentile_list" => &["50", "99.9:50", "1:5:99.99"],
        "kb_base" => &["1000", "1024"],
        "unit_base" => &["0", "1", "8"],
        "significant_figures" => &["1", "4", "10"],
        "workload" => &["ycsb-a", "get", "mixed"],
        _ => &["0", "1"],
    }
}

fn planned(sections: &[super::super::settings::Section]) -> Result<Plan, SettingsError> {
    let mut planner = Planner::new(&["moonshine"], &[]);
    planner.add_file(sections, true)?;
    planner.finish()
}

fn from_text(settings: &str) -> Result<Plan, SettingsError> {
    planned(&jobfile::parse(
        Path::new("a.fio"),
        &format!("[job]\n{settings}\n"),
    )?)
}

/// What an option needs beside it.
fn context_for(name: &str) -> &'static str {
    match name {
        "fixedbufs" | "registerfiles" | "sqthread_poll" | "sqthread_poll_cpu" | "hipri" => {
            "ioengine=io_uring\n"
        }
        "workload" | "records" | "key_size" | "value_size" | "scan_length" | "batch" | "miss"
        | "memory_budget" => "ioengine=moonshine\n",
        "ba" => "rw=randrw\n",
        "time_based" => "runtime=10\n",
        _ => "",
    }
}

#[test]
fn every_option_takes_its_values_under_each_of_its_names() {
    for option in all() {
        for value in examples(option.name) {
            let plans = option.aliases.iter().chain([&option.name]).map(|name| {
                let text = format!("{}{name}={value}", context_for(option.name));
                from_text(&text)
                    .unwrap_or_else(|error| panic!("{error}"))
                    .jobs
            });
            let plans: Vec<_> = plans.collect();
            assert!(
                plans.windows(2).all(|pair| pair[0] == pair[1]),
                "{}",
                option.name
            );
        }
    }
}

#[test]
fn every_option_does_something() {
    for option in all() {
        let context = context_for(option.name);
        let plain = from_text(context).unwrap();
        let does_something = examples(option.name).iter().any(|value| {
            let plan = from_text(&format!("{context}{}={value}", option.name)).unwrap();
            let (mut job, mut plain_job) = (plan.jobs[0].clone(), plain.jobs[0].clone());
            job.options_given.clear();
            plain_job.options_given.clear();
            job != plain_job || plan.reports != plain.reports
        });
        assert!(does_something, "{}", option.name);
    }
}

#[test]
fn names_are_used_once_and_none_is_called_unsupported() {
    let mut names = BTreeSet::new();
    for option in all() {
        for name in option.aliases.iter().chain([&option.name]) {
            assert!(names.insert(*name), "{name} twice");
            assert!(!unsupported::is_known_to_fio(name), "{name}");
            assert!(unsupported::fixed(name, Some("0")).is_none(), "{name}");
        }
        assert!(!option.help.is_empty() && !option.values.is_empty() && !option.default.is_empty());
    }
}

#[test]
fn a_flag_needs_no_value_and_every_other_option_does() {
    for option in all() {
        let result = from_text(&format!("{}{}", context_for(option.name), option.name));
        assert_eq!(
            result.is_ok(),
            option.takes == Takes::Flag,
            "{}",
            option.name
        );
    }
}

/// With `MOONSHINE_WRITE_DOCS` set it puts the table there itself.
#[test]
fn the_documentation_holds_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/bench.md");
    let documentation = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = documentation.split_once("\n## Options\n\n").unwrap();
    let (table, behind) = rest.split_once("## Reports\n").unwrap();
    if std::env::var_os("MOONSHINE_WRITE_DOCS").is_some() {
        let text = format!("{before}\n## Options\n\n{}## Reports\n{behind}", markdown());
        std::fs::write(&path, text).unwrap();
        return;
    }
    assert_eq!(
        table,
        markdown(),
        "run this test with MOONSHINE_WRITE_DOCS=1"
    );
}

/// Options of one job, no two of which exclude each other.
fn settings() -> impl Strategy<Value = Vec<Setting>> {
    let options: Vec<&'static OptionSpec> = all()
        .filter(|option| !context_for(option.name).contains("ioengine"))
        .filter(|option| !["name", "rate_iops", "ioengine", "size"].contains(&option.name))
        .collect();
    let one = (
        0..options.len(),
        any::<prop::sample::Index>(),
        any::<bool>(),
    );
    prop::collection::vec(one, 0..12).prop_map(move |chosen| {
        let settings = chosen.into_iter().map(|(option, example, without)| {
            let option = options[option];
            let value = *example.get(examples(option.name));
            let is_bare = without && option.takes == Takes::Flag;
            Setting {
                name: option.name.to_owned(),
                value: (!is_bare).then(|| value.to_owned()),
                place: Place::CommandLine,
            }
        });
        settings.collect()
    })
}

fn printed(setting: &Setting) -> String {
    match &setting.value {
        Some(value) => format!("{}={value}", setting.name),
        None => setting.name.clone(),
    }
}

proptest! {
    #[test]
    fn what_is_written_as_a_job_file_and_as_flags_is_the_same_job(settings in settings()) {
        let lines: Vec<String> = settings.iter().map(printed).collect();
        let from_file = from_text(&lines.join("\n")).unwrap();
        let flags = settings.iter().map(|setting| format!("--{}", printed(setting)));
        let flags = ["--name=job".to_owned()].into_iter().chain(flags);
        let arguments = BenchArguments::parse(flags).unwrap();
        let mut from_flags = planned(&arguments.sections).unwrap();
        // The name is an option of its own among flags, and a line of its own in a file.
        let name = from_flags.jobs[0].options_given.iter().position(|(name, _)| name == "name");
        from_flags.jobs[0].options_given.remove(name.unwrap());
        prop_assert_eq!(&from_file.jobs, &from_flags.jobs);
        prop_assert_eq!(&from_file.reports, &from_flags.reports);
        // What the report gives back as the job's options makes the same job again.
        let again: Vec<String> = from_file.jobs[0].options_given.iter()
            .map(|(name, value)| format!("{name}={value}"))
            .chain(lines.iter().filter(|line| !line.contains('=')).cloned())
            .collect();
        let mut again = from_text(&again.join("\n")).unwrap();
        again.jobs[0].options_given.clone_from(&from_file.jobs[0].options_given);
        let has = |name: &str, is_bare: bool| {
            let mut with_name = settings.iter().filter(|setting| setting.name == name);
            with_name.any(|setting| setting.value.is_none() == is_bare)
        };
        let has_both = |name: &str| has(name, true) && has(name, false);
        // Which came last is lost of a flag that was given in both ways, and of one that a pattern says anew.
        let is_lost = settings.iter().any(|setting| has_both(&setting.name))
            || (has("refill_buffers", true) && has("buffer_pattern", false));
        if !is_lost {
            prop_assert_eq!(&from_file.jobs, &again.jobs);
        }
    }
}
