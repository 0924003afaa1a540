//! `moonshine bench`: fio's job files, flags and reports, held against fio itself where it is installed.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Command;

use serde_json::Value;

use crate::moonshine::{Workplace, wait_for};

/// The version whose reports are the model; others have more keys or fewer.
const FIO_VERSION: &str = "fio-3.33";

/// What can be compared ends by its size, not by time.
const JOBS: &str = "\
; three jobs, one after the other
[global]
directory=.
size=256k
bs=4k
group_reporting=0

[log]
rw=write
ioengine=psync
fdatasync=16
description=a log

[reads]
stonewall
rw=randread
ioengine=pvsync2
numjobs=2
group_reporting=1
lat_percentiles=1
percentile_list=50:99

[mixed]
stonewall
rw=randrw
rwmixread=75
refill_buffers
ioengine=mmap
end_fsync=1
";

/// fio, if it is installed in the version that can be compared.
fn fio(test: &str) -> bool {
    let version = Command::new("fio").arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    match version {
        Ok(version) if version == FIO_VERSION => true,
        Ok(version) => skipped(&format!(
            "{test} compares with {FIO_VERSION}, and {version} is here"
        )),
        Err(_) if std::env::var_os("CI").is_some() => panic!("fio is not installed"),
        Err(_) => skipped(&format!("{test} needs fio; scripts/test installs it")),
    }
}

/// Straight to the process's standard error: the test harness would keep it to itself.
fn skipped(reason: &str) -> bool {
    let notice = format!("\nSKIPPED: {reason}\n");
    std::io::stderr().write_all(notice.as_bytes()).unwrap();
    false
}

/// Whether files of the workplace can be opened past the page cache.
fn takes_direct(workplace: &Workplace) -> bool {
    let flags = [
        "--size=4k",
        "--rw=write",
        "--direct=1",
        "--filename=direct.bin",
    ];
    let arguments: Vec<&str> = ["bench", "--name=direct"]
        .into_iter()
        .chain(flags)
        .collect();
    workplace.run(&arguments).status.success()
}

/// What fio prints in that format when it runs the same jobs in a workplace of its own.
fn fio_report(jobs: &str, format: &str) -> String {
    let workplace = Workplace::new();
    workplace.write("jobs.fio", jobs);
    let output = Command::new("fio")
        .args(["jobs.fio", &format!("--output-format={format}")])
        .current_dir(workplace.path("."))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn report(jobs: &str, format: &str) -> String {
    let workplace = Workplace::new();
    workplace.write("jobs.fio", jobs);
    let flag = format!("--output-format={format}");
    let outcome = workplace.run(&["bench", "jobs.fio", &flag]);
    outcome.assert_success();
    outcome.stdout_text()
}

/// The path of every value with its type; `disk_util` depends on what lies below the folder.
fn shape(value: &Value, path: &str, shape: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object.iter().filter(|(key, _)| *key != "disk_util") {
                self::shape(value, &format!("{path}/{key}"), shape);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                self::shape(value, &format!("{path}/{index}"), shape);
            }
        }
        Value::Number(number) if number.is_f64() => {
            shape.insert(format!("{path}: real"));
        }
        Value::Number(_) => {
            shape.insert(format!("{path}: whole"));
        }
        _ => {
            shape.insert(format!("{path}: text"));
        }
    }
}

#[test]
fn a_job_file_of_fio_runs_unchanged_and_its_json_has_the_same_keys_and_totals() {
    if !fio("the JSON of a job file") {
        return;
    }
    let direct = u8::from(takes_direct(&Workplace::new()));
    // A memory map can't go past the page cache, in fio neither.
    let jobs = JOBS.replace("[log]\n", &format!("[log]\ndirect={direct}\n"));
    let ours: Value = serde_json::from_str(&report(&jobs, "json")).unwrap();
    let theirs: Value = serde_json::from_str(&fio_report(&jobs, "json")).unwrap();
    let shape_of = |value| {
        let mut found = BTreeSet::new();
        shape(value, "", &mut found);
        found
    };
    let (our_shape, their_shape) = (shape_of(&ours), shape_of(&theirs));
    let missing: Vec<&String> = their_shape.difference(&our_shape).collect();
    let added: Vec<&String> = our_shape.difference(&their_shape).collect();
    assert!(
        missing.is_empty() && added.is_empty(),
        "missing {missing:?}, added {added:?}"
    );

    let jobs = |report: &Value| report["jobs"].as_array().unwrap().clone();
    for (our, their) in jobs(&ours).iter().zip(&jobs(&theirs)) {
        let name = &our["jobname"];
        assert_eq!(our["job options"], their["job options"], "{name}");
        assert_eq!(our["groupid"], their["groupid"], "{name}");
        let sum = |job: &Value, key: &str| {
            let of = |direction: &str| job[direction][key].as_u64().unwrap();
            of("read") + of("write")
        };
        assert_eq!(sum(our, "io_bytes"), sum(their, "io_bytes"), "{name}");
        if name == "mixed" {
            // Which I/Os are reads is drawn by each program for itself.
            continue;
        }
        for direction in ["read", "write"] {
            for key in ["io_bytes", "io_kbytes", "total_ios", "short_ios"] {
                let (our, their) = (&our[direction][key], &their[direction][key]);
                // fio counts each fdatasync of a synchronous engine as a short write.
                assert!(
                    our == their || key == "short_ios",
                    "{name} {direction} {key}: {our} {their}"
                );
            }
        }
    }
    assert_eq!(ours["global options"], theirs["global options"]);
}

#[test]
fn the_terse_lines_have_as_many_fields_as_fios() {
    if !fio("the terse lines of a job file") {
        return;
    }
    let (ours, theirs) = (report(JOBS, "terse"), fio_report(JOBS, "terse"));
    assert_eq!(ours.lines().count(), theirs.lines().count());
    for (our, their) in ours.lines().zip(theirs.lines()) {
        let (our, their): (Vec<&str>, Vec<&str>) =
            (our.split(';').collect(), their.split(';').collect());
        // What stands behind field 121 is nine fields for each disk below the folder, and the description.
        assert_eq!(our.len() % 9, their.len() % 9);
        assert_eq!((our[0], our[2], our[3]), (their[0], their[2], their[3]));
        // Kilobytes read and written.
        let sum = |fields: &[&str]| {
            fields[5].parse::<u64>().unwrap() + fields[46].parse::<u64>().unwrap()
        };
        assert_eq!(sum(&our), sum(&their), "{our:?}\n{their:?}");
    }
}

#[test]
fn the_report_goes_where_it_is_told_to_and_the_files_stay() {
    let workplace = Workplace::new();
    let outcome = workplace.run(&[
        "bench",
        "--output=report.txt",
        "--output-format=normal,json",
        "--name=a",
        "--size=64k",
        "--rw=write",
    ]);
    outcome.assert_success();
    assert_eq!(outcome.stdout_text(), "");
    let report = std::fs::read_to_string(workplace.path("report.txt")).unwrap();
    for part in [
        "a: (g=0): rw=write",
        "\"jobs\" : [",
        "Run status group 0",
        "WRITE: bw=",
    ] {
        assert!(report.contains(part), "{part}\n{report}");
    }
    let file = std::fs::metadata(workplace.path("a.0.0")).unwrap();
    assert_eq!(file.len(), 64 << 10);
}

#[test]
fn mistakes_are_named_with_their_place_and_nothing_runs() {
    let workplace = Workplace::new();
    workplace.write("jobs.fio", "[a]\nsize=64k\nrw=write\nblok=4k\n");
    for (arguments, parts) in [
        (&["bench", "jobs.fio"][..], &["jobs.fio:4", "'blok'"][..]),
        (
            &["bench", "--name=a", "--bssplit=4k/50"],
            &["'bssplit'", "not supported"],
        ),
        (
            &["bench", "--name=a", "--rw=reed"],
            &["rw=reed", "randread"],
        ),
        (&["bench", "--name=a", "--ioengine=libaio"], &["io_uring"]),
        (&["bench", "nowhere.fio"], &["nowhere.fio"]),
        (&["bench"], &["no job"]),
        (
            &["bench", "--readonly", "--name=a", "--rw=write", "--size=4k"],
            &["--readonly"],
        ),
        (
            &[
                "bench",
                "--warnings-fatal",
                "--name=a",
                "--size=4k",
                "--iodepth=4",
            ],
            &["psync"],
        ),
        (
            &["bench", "--output=no/where", "--name=a", "--size=4k"],
            &["no/where"],
        ),
    ] {
        let outcome = workplace.run(arguments);
        outcome.assert_error(parts);
        assert_eq!(outcome.status.code(), Some(2), "{arguments:?}");
    }
    let files = std::fs::read_dir(workplace.path(".")).unwrap().count();
    assert_eq!(files, 1);
}

#[test]
fn jobs_can_be_looked_at_without_running_them() {
    let workplace = Workplace::new();
    workplace.write("jobs.fio", JOBS);
    let outcome = workplace.run(&["bench", "--parse-only", "jobs.fio"]);
    outcome.assert_success();
    assert_eq!(outcome.stdout_text(), "");
    let outcome = workplace.run(&["bench", "--showcmd", "jobs.fio"]);
    outcome.assert_success();
    let command = outcome.stdout_text();
    assert!(
        command.starts_with("moonshine bench --name=global --directory=. "),
        "{command}"
    );
    // The flags that were printed are taken again.
    let flags = command.trim().split(' ').skip(1);
    let flags = flags.filter(|flag| !flag.contains('\'') && *flag != "log'");
    let flags: Vec<&str> = flags.chain(["--parse-only"]).collect();
    workplace.run(&flags).assert_success();
    let files = std::fs::read_dir(workplace.path(".")).unwrap().count();
    assert_eq!(files, 1);
    let help = workplace.run(&["bench", "--help"]);
    help.assert_success();
    for part in ["--bs, --blocksize", "--output-format", "ioengine"] {
        assert!(help.stdout_text().contains(part), "{part}");
    }
}

#[test]
fn the_live_line_is_shown_when_asked_for_and_a_signal_ends_the_run_with_its_report() {
    let workplace = Workplace::new();
    let mut bench = workplace.start(
        &[
            "bench",
            "--eta=always",
            "--name=a",
            "--size=64k",
            "--rw=randread",
            "--runtime=3600",
            "--time_based",
            "--rate_iops=100",
        ],
        "log",
    );
    wait_for("the live line", || {
        assert!(bench.is_running(), "{}", bench.log_text());
        bench
            .log_text()
            .contains("Jobs: 1 (f=1), 0-100 IOPS: [r(1)][")
            .then_some(())
    });
    bench.signal("INT");
    let status = bench.wait();
    let log = bench.log_text();
    assert_eq!(status.code(), Some(128), "{log}");
    for part in [
        "[eta ",
        "terminating on signal 2",
        "  read: IOPS=",
        "Run status group 0",
    ] {
        assert!(log.contains(part), "{part}\n{log}");
    }
}
