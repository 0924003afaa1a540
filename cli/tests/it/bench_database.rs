//! `moonshine bench` with the database as its engine.

use serde_json::Value;

use crate::moonshine::{Outcome, Workplace};

const YCSB: &str = include_str!("../../../examples/bench/ycsb.fio");

/// The jobs of a run that was printed as JSON.
fn jobs(outcome: &Outcome) -> Vec<Value> {
    outcome.assert_success();
    let report: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    report["jobs"].as_array().unwrap().clone()
}

fn ios(job: &Value, direction: &str) -> u64 {
    job[direction]["total_ios"].as_u64().unwrap()
}

#[test]
fn the_ycsb_example_does_what_its_letters_say() {
    let workplace = Workplace::new();
    workplace.write("ycsb.fio", YCSB);
    let outcome = workplace.run(&["bench", "ycsb.fio", "--output-format=json"]);
    let jobs = jobs(&outcome);
    // Operations, and how many of them write: within six standard deviations.
    let expected = [
        ("a-update-heavy", 20_000, 9_570..=10_430),
        ("b-read-mostly", 20_000, 815..=1_185),
        ("c-read-only", 20_000, 0..=0),
        ("f-read-modify-write", 20_000, 9_570..=10_430),
        ("d-read-latest", 20_000, 815..=1_185),
        ("e-short-ranges", 500, 1..=54),
    ];
    assert_eq!(jobs.len(), expected.len());
    let record_bytes = 16 + 1000;
    for (job, (name, operations, writes)) in jobs.iter().zip(expected) {
        assert_eq!(job["jobname"], name);
        assert_eq!(job["error"], 0, "{name}");
        assert_eq!(ios(job, "read") + ios(job, "write"), operations, "{name}");
        assert!(writes.contains(&ios(job, "write")), "{name}: {job}");
        let write_bytes = ios(job, "write") * record_bytes;
        assert_eq!(job["write"]["io_bytes"], write_bytes, "{name}");
        if name != "e-short-ranges" {
            let read_bytes = ios(job, "read") * record_bytes;
            assert_eq!(job["read"]["io_bytes"], read_bytes, "{name}");
        }
    }

    // What D and E inserted is there for the next run.
    let inserted = ios(&jobs[4], "write") + ios(&jobs[5], "write");
    let outcome = workplace.run(&[
        "bench",
        "--name=again",
        "--ioengine=moonshine",
        "--filename=bench.db",
        "--workload=ycsb-c",
        "--number_ios=10",
    ]);
    outcome.assert_success();
    let found = format!("{} records found", 10_000 + inserted);
    assert!(
        outcome.stdout_text().contains(&found),
        "{}",
        outcome.stdout_text()
    );
}

#[test]
fn every_put_of_many_threads_is_synced_where_the_job_asks_for_it() {
    let workplace = Workplace::new();
    let outcome = workplace.run(&[
        "bench",
        "--name=puts",
        "--ioengine=moonshine",
        "--workload=put",
        "--records=200",
        "--bs=100",
        "--numjobs=3",
        "--number_ios=50",
        "--fdatasync=1",
        "--group_reporting",
        "--output-format=json",
    ]);
    let jobs = jobs(&outcome);
    assert_eq!(jobs.len(), 1);
    assert_eq!(ios(&jobs[0], "write"), 150);
    assert_eq!(ios(&jobs[0], "read"), 0);
    assert_eq!(jobs[0]["write"]["io_bytes"], 150 * 116);
    assert_eq!(jobs[0]["sync"]["total_ios"], 150);
}

#[test]
fn a_job_that_makes_no_sense_for_a_database_is_refused_with_its_reason() {
    let workplace = Workplace::new();
    workplace.write("notes/letter.txt", "dear");
    for (option, reason) in [
        ("--workload=ycsb-g", "ycsb-g"),
        ("--direct=1", "direct"),
        ("--value_size=3", "value_size=3"),
        ("--filename=notes", "holds files and no database"),
        ("--directory=nowhere", "nowhere"),
        ("--readonly", "--readonly"),
    ] {
        let outcome = workplace.run(&[
            "bench",
            "--name=bad",
            "--ioengine=moonshine",
            "--number_ios=1",
            option,
        ]);
        outcome.assert_error(&[reason]);
    }
    let outcome = workplace.run(&[
        "bench",
        "--name=bad",
        "--rw=read",
        "--size=1m",
        "--records=5",
    ]);
    outcome.assert_error(&["records", "moonshine"]);
}
