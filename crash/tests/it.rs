//! A few crashes on real files, as `cargo xtask crash` and `cargo xtask power` have many.
//!
//! Defends *durable*, *atomic*, *ordered* and *once*: behind each, what is there is the outcome of a prefix of the commits and
//! holds all that was acknowledged; each file passes the check; the lake with what changed since is the table.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of tests end as tests do"
)]

use moonshine_crash::fuse::{Event, Trigger};
use moonshine_crash::harness::calls::{self, Calls};
use moonshine_crash::harness::{Request, Totals, Violation, kills, power, strace};
use tempfile::TempDir;

fn request(seed: u64) -> (TempDir, Request) {
    let folder = tempfile::tempdir().unwrap();
    let request = Request {
        program: env!("CARGO_BIN_EXE_moonshine-crash").into(),
        folder: folder.path().to_owned(),
        kept_in: folder.path().to_owned(),
        seed,
        forget_syncs: None,
        early: false,
        is_verbose: false,
    };
    (folder, request)
}

fn holds(ran: Result<(), Box<Violation>>) {
    if let Err(violation) = ran {
        panic!("{}\n{violation:?}", violation.what);
    }
}

#[test]
fn processes_killed_at_any_moment_keep_what_they_acknowledged() {
    let (_folder, request) = request(11);
    let mut totals = Totals::default();
    holds(kills::run(&request, 6, &mut totals));
    assert_eq!(totals.counts["kills at random"], 6);
}

#[test]
fn processes_killed_at_a_call_keep_what_they_acknowledged() {
    let (_folder, request) = request(12);
    let mut totals = Totals::default();
    let calls = Calls {
        first: 3,
        step: 61,
        count_max: 24,
    };
    holds(calls::run(&request, calls, &mut totals));
    assert!(totals.counts["kills at a call"] >= 24, "{totals:?}");
    assert!(totals.counts["failed calls"] >= 4, "{totals:?}");
    assert!(totals.acknowledged > 0);
}

#[test]
fn file_systems_that_lose_power_keep_what_was_synced() {
    let (_folder, request) = request(13);
    let mut totals = Totals::default();
    holds(power::run(&request, 2, &mut totals));
}

/// The harness itself: what it must find, it does.
#[test]
fn a_sync_that_is_left_out_and_an_early_acknowledgement_are_found() {
    let (_folder, mut request) = request(15);
    request.early = true;
    let calls = Calls {
        first: 60,
        step: 3,
        count_max: 240,
    };
    let found = calls::run(&request, calls, &mut Totals::default());
    assert!(found.is_err(), "nobody saw the early acknowledgement");
    request.early = false;
    if power::missing().is_empty() {
        request.forget_syncs = Some("mlog".into());
        let found = power::run(&request, 8, &mut Totals::default());
        assert!(found.is_err(), "nobody saw that syncs were left out");
    }
}

#[test]
fn strace_ends_a_process_or_says_why_it_can_not() {
    let (_folder, request) = request(14);
    match strace::is_missing() {
        Some(why) => eprintln!("SKIPPED: {why}"),
        None => holds(strace::one(
            &request,
            "fdatasync",
            "signal=KILL:when=3",
            &mut Totals::default(),
        )),
    }
}

#[test]
fn a_trigger_says_what_it_was_read_from() {
    for text in ["17:before", "1:half", "2:behind", "3:eio", "4:enospc-on"] {
        let trigger: Trigger = text.parse().unwrap();
        assert_eq!(trigger.to_string(), text);
    }
    assert!("17".parse::<Trigger>().is_err());
    let trigger: Trigger = "9:eio-on".parse().unwrap();
    let (errno, lasts) = (5, true);
    assert_eq!(trigger.event, Event::Fails { errno, lasts });
}
