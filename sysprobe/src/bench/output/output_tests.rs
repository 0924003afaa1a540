//! Holds the reports against those that fio 3.33 printed of one run, in its three formats. The statistics are made from
//! fio's JSON with its histograms; then every word must be the same, and every number within what a histogram's buckets
//! allow.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use super::super::jobfile;
use super::super::plan::Planner;
use super::super::stats::{DirectionStats, SampleStats, SyncStats};
use super::super::values::PerDirection;
use super::*;
use crate::latency::{Histogram, Moments};

const JOB_FILE: &str = include_str!("../testdata/fio-3.33.fio");
const JSON: &str = include_str!("../testdata/fio-3.33.json");
const TERSE: &str = include_str!("../testdata/fio-3.33.terse");
const TEXT: &str = include_str!("../testdata/fio-3.33.txt");

/// Numbers differ by this share at most: a bucket of a histogram is that wide.
const TOLERANCE: f64 = 0.016;

fn whole(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} of {value}"))
}

fn real(value: &Value, key: &str) -> f64 {
    value[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} of {value}"))
}

fn moments(value: &Value) -> Moments {
    Moments::from_parts(
        whole(value, "N"),
        (whole(value, "min"), whole(value, "max")),
        real(value, "mean"),
        real(value, "stddev"),
    )
}

fn histogram(value: &Value) -> Histogram {
    let bins = value["bins"].as_object().into_iter().flatten();
    let buckets = bins.map(|(ns, count)| (ns.parse().unwrap(), count.as_u64().unwrap()));
    Histogram::from_buckets(buckets, moments(value))
}

fn samples(value: &Value, name: &str, deviation: &str) -> SampleStats {
    let key = |suffix: &str| format!("{name}_{suffix}");
    let samples = whole(value, &key("samples"));
    SampleStats {
        min: real(value, &key("min")),
        max: real(value, &key("max")),
        mean: real(value, &key("mean")),
        squares: real(value, deviation).powi(2) * samples.saturating_sub(1) as f64,
        samples,
    }
}

fn direction(value: &Value) -> DirectionStats {
    DirectionStats {
        io_bytes: whole(value, "io_bytes"),
        total_ios: whole(value, "total_ios"),
        short_ios: whole(value, "short_ios"),
        runtime_ms: whole(value, "runtime"),
        slat: moments(&value["slat_ns"]),
        clat: histogram(&value["clat_ns"]),
        lat: histogram(&value["lat_ns"]),
        bandwidth_kib_per_s: samples(value, "bw", "bw_dev"),
        iops: samples(value, "iops", "iops_stddev"),
    }
}

/// Counts whose shares of `total` are those of the object.
fn counts(value: &Value, total: f64) -> [u64; 7] {
    let keys = ["0", "1", "2", "4", "8", "16", "32", "64", ">=64"];
    let shares = keys.iter().filter_map(|key| value[*key].as_f64());
    let counts: Vec<u64> = shares
        .map(|share| (share * total / 100.0).round() as u64)
        .collect();
    counts.try_into().unwrap()
}

fn job(value: &Value, plan: &Plan) -> JobStats {
    let name = value["jobname"].as_str().unwrap();
    let job = plan.jobs.iter().position(|job| job.name == name).unwrap();
    let options = &plan.jobs[job];
    let (read, write) = (direction(&value["read"]), direction(&value["write"]));
    let ios = (read.total_ios + write.total_ios) as f64;
    let runtime_ms = whole(value, "job_runtime");
    let cpu = |key| Duration::from_secs_f64(real(value, key) * runtime_ms as f64 / 100_000.0);
    JobStats {
        name: name.to_owned(),
        job,
        group: whole(value, "groupid") as usize,
        threads: if options.group_reporting { 2 } else { 1 },
        options_given: options.options_given.clone(),
        iodepth: options.iodepth as u64,
        directions: PerDirection { read, write },
        sync: SyncStats {
            total_ios: whole(&value["sync"], "total_ios"),
            lat: histogram(&value["sync"]["lat_ns"]),
        },
        job_runtime_ms: runtime_ms,
        user_time: cpu("usr_cpu"),
        system_time: cpu("sys_cpu"),
        context_switches: whole(value, "ctx"),
        major_faults: whole(value, "majf"),
        minor_faults: whole(value, "minf"),
        depth_level: counts(&value["iodepth_level"], ios),
        depth_submit: counts(&value["iodepth_submit"], 1000.0),
        depth_complete: counts(&value["iodepth_complete"], 1000.0),
        percentile_list: options.percentile_list.clone(),
        clat_percentiles: options.clat_percentiles,
        lat_percentiles: options.lat_percentiles,
        ..JobStats::default()
    }
}

/// What fio's run came to.
fn golden() -> (Plan, RunReport) {
    let json: Value = serde_json::from_str(JSON).unwrap();
    let mut planner = Planner::new(&[], &[]);
    let sections = jobfile::parse(Path::new("fio-3.33.fio"), JOB_FILE).unwrap();
    planner.add_file(&sections, true).unwrap();
    let plan = planner.finish().unwrap();
    let disks = json["disk_util"].as_array().unwrap().iter();
    let disks = disks.map(|disk| DiskUtil {
        name: disk["name"].as_str().unwrap().to_owned(),
        read_ios: whole(disk, "read_ios"),
        write_ios: whole(disk, "write_ios"),
        read_merges: whole(disk, "read_merges"),
        write_merges: whole(disk, "write_merges"),
        read_ticks: whole(disk, "read_ticks"),
        write_ticks: whole(disk, "write_ticks"),
        in_queue: whole(disk, "in_queue"),
        util: real(disk, "util"),
    });
    let elapsed = Duration::from_secs(whole(&json["jobs"][0], "elapsed"));
    let jobs = json["jobs"].as_array().unwrap().iter();
    let run = RunReport {
        started: UNIX_EPOCH + Duration::from_secs(whole(&json, "timestamp")) - elapsed,
        elapsed,
        threads: jobs.map(|value| job(value, &plan)).collect(),
        disk_util: disks.collect(),
    };
    (plan, run)
}

fn printed(format: OutputFormat) -> String {
    let (plan, run) = golden();
    let results = Results::new(&plan, &run, "fio-3.33");
    results.print(&[format]).unwrap()
}

/// Words and numbers of a line: a number is what looks like one, everything between is a word.
fn tokens(line: &str) -> Vec<&str> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut tokens = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_number(c) != is_number(first));
        let (token, behind) = rest.split_at(end.unwrap_or(rest.len()));
        tokens.push(token);
        rest = behind;
    }
    tokens
}

fn assert_same(ours: &str, theirs: &str, what: &str) {
    let ours_lines: Vec<&str> = ours.lines().collect();
    let theirs_lines: Vec<&str> = theirs.lines().collect();
    for (index, (our, their)) in ours_lines.iter().zip(&theirs_lines).enumerate() {
        let place = format!("{what}, line {}:\nours   {our}\ntheirs {their}", index + 1);
        let (our, their) = (tokens(our), tokens(their));
        assert_eq!(our.len(), their.len(), "{place}");
        for (our, their) in our.iter().zip(&their) {
            match (our.parse::<f64>(), their.parse::<f64>()) {
                (Ok(our_number), Ok(their_number)) => {
                    let tolerance = (their_number.abs() * TOLERANCE).max(1e-6);
                    assert!((our_number - their_number).abs() <= tolerance, "{place}");
                    let decimals = |number: &str| number.split_once('.').map(|(_, d)| d.len());
                    assert_eq!(decimals(our), decimals(their), "{place}");
                }
                _ => assert_eq!(our.trim(), their.trim(), "{place}"),
            }
        }
    }
    assert_eq!(ours_lines.len(), theirs_lines.len(), "{what}: lines");
}

#[test]
fn the_json_is_fios_key_by_key() {
    // The bins are named by the middle of a bucket, and buckets at its edge may swap; their order and counts are held
    // against each other by the statistics made from them.
    assert_same(&printed(OutputFormat::JsonPlus), JSON, "json+");
}

#[test]
fn json_is_json_plus_without_bins() {
    let without: Value = serde_json::from_str(&printed(OutputFormat::Json)).unwrap();
    let mut with: Value = serde_json::from_str(&printed(OutputFormat::JsonPlus)).unwrap();
    assert_ne!(without, with);
    fn remove_bins(value: &mut Value) {
        if let Value::Object(object) = value {
            object.remove("bins");
            object.values_mut().for_each(remove_bins);
        } else if let Value::Array(array) = value {
            array.iter_mut().for_each(remove_bins);
        }
    }
    remove_bins(&mut with);
    assert_eq!(without, with);
}

#[test]
fn the_terse_line_is_fios_field_by_field() {
    let ours = printed(OutputFormat::Terse);
    assert_same(&ours, TERSE, "terse");
    for (our, their) in ours.lines().zip(TERSE.lines()) {
        assert_eq!(our.split(';').count(), their.split(';').count());
    }
}

/// Moments and process numbers are each run's own.
fn without_own(text: &str) -> String {
    let lines = text.lines().map(|line| match line.split_once(" pid=") {
        Some((before, _)) => before,
        None => line,
    });
    lines.collect::<Vec<&str>>().join("\n")
}

#[test]
fn the_text_is_fios_line_by_line() {
    let ours = printed(OutputFormat::Normal);
    assert_same(&without_own(&ours), &without_own(TEXT), "text");
}

#[test]
fn several_formats_follow_each_other_in_fios_order() {
    let (plan, run) = golden();
    let results = Results::new(&plan, &run, "fio-3.33");
    let formats = [
        OutputFormat::Normal,
        OutputFormat::Json,
        OutputFormat::Terse,
    ];
    let text = results.print(&formats).unwrap();
    let positions = ["3;fio-3.33;", "{\n  \"fio version\"", "\nmixed: (groupid=0"];
    let positions = positions.map(|part| text.find(part).unwrap());
    assert!(positions.is_sorted(), "{positions:?}");
}

#[test]
fn a_start_names_jobs_groups_and_threads() {
    let (plan, _) = golden();
    assert_eq!(
        start(&plan, "fio-3.33"),
        "mixed: (g=0): rw=randrw, bs=(R) 4096B-4096B, (W) 4096B-4096B, (T) 4096B-4096B, ioengine=io_uring, iodepth=4\n\
         ...\n\
         reads: (g=1): rw=read, bs=(R) 4096B-4096B, (W) 4096B-4096B, (T) 4096B-4096B, ioengine=psync, iodepth=1\n\
         writes: (g=1): rw=write, bs=(R) 8192B-8192B, (W) 8192B-8192B, (T) 8192B-8192B, ioengine=pvsync2, iodepth=1\n\
         ...\n\
         fio-3.33\n\
         Starting 5 threads\n"
    );
}

#[test]
fn a_run_that_did_nothing_prints_too() {
    let mut planner = Planner::new(&[], &[]);
    let sections = jobfile::parse(Path::new("a.fio"), "[a]\nsize=1m\n").unwrap();
    planner.add_file(&sections, true).unwrap();
    let plan = planner.finish().unwrap();
    let run = RunReport {
        threads: vec![JobStats {
            error: 5,
            error_text: Some("read: Input/output error".to_owned()),
            ..JobStats::default()
        }],
        ..RunReport::default()
    };
    let results = Results::new(&plan, &run, "moonshine-0");
    let json: Value = serde_json::from_str(&results.print(&[OutputFormat::Json]).unwrap()).unwrap();
    assert_eq!(json["jobs"][0]["error"], 5);
    assert!(json.get("disk_util").is_none());
    assert_eq!(
        results.print(&[]).unwrap(),
        "\n\nRun status group 0 (all jobs):\n"
    );
}
