use super::*;

fn thread(state: ThreadState, read: bool, write: bool, is_random: bool) -> ThreadSnapshot {
    ThreadSnapshot {
        job: 0,
        state,
        directions: PerDirection { read, write },
        is_random,
        bytes: PerDirection::both(0),
        ios: PerDirection::both(0),
        bytes_goal: None,
        elapsed: None,
        time_left: None,
    }
}

#[test]
fn states_are_counted_like_fio_does() {
    use ThreadState::{Ended, Ramp, Running, Syncing, Waiting};
    let threads = [
        thread(Running, true, false, true),
        thread(Running, true, false, true),
        thread(Running, true, true, true),
        thread(Running, true, true, false),
        thread(Running, false, true, false),
        thread(Ramp, true, false, false),
        thread(Syncing, false, true, false),
        thread(Ended, true, false, false),
        thread(Waiting, true, false, false),
    ];
    assert_eq!(states(&threads), "r(2),m(1),M(1),W(1),/(1),F(1),_(1),P(1)");
}

#[test]
fn the_line_has_rates_since_the_one_before_and_covers_it() {
    let jobs = [JobOptions {
        nrfiles: 2,
        rate_bytes_per_s: PerDirection::both(Some(1 << 20)),
        ..JobOptions::default()
    }];
    let mut live = LiveLine::new(&jobs);
    let snapshot = |after_s: u64, reads: u64, left_s| {
        let mut running = thread(ThreadState::Running, true, false, true);
        running.bytes.read = reads * 4096;
        running.ios.read = reads;
        running.time_left = Some(Duration::from_secs(left_s));
        Snapshot {
            at: live.began + Duration::from_secs(after_s),
            threads: vec![running, running],
        }
    };
    let (first, second, mut last) = (
        snapshot(1, 1000, 3),
        snapshot(3, 3000, 1),
        snapshot(4, 3000, 0),
    );
    for thread in &mut last.threads {
        thread.state = ThreadState::Ended;
    }
    assert_eq!(
        live.next(first),
        "Jobs: 2 (f=4), 0B/s-2048KiB/s: [r(2)][25.0%][r=8000KiB/s][r=2000 IOPS][eta 00m:03s]"
    );
    let line = live.next(second);
    assert!(
        line.contains("[75.0%][r=8000KiB/s][r=2000 IOPS][eta 00m:01s]"),
        "{line}"
    );
    let short = live.next(last);
    assert_eq!(short.trim_end(), "Jobs: 0 (f=0)");
    assert_eq!(short.len(), line.len());
}

#[test]
fn a_time_that_is_not_known_yet_is_left_open() {
    let jobs = [JobOptions::default()];
    let mut live = LiveLine::new(&jobs);
    let snapshot = Snapshot {
        at: live.began + Duration::from_secs(1),
        threads: vec![thread(ThreadState::Ramp, false, true, false)],
    };
    assert_eq!(live.next(snapshot), "Jobs: 1 (f=1): [/(1)][-.-%][eta --]");
}

#[test]
fn times_have_as_many_parts_as_they_need() {
    for (seconds, words) in [
        (0, "00m:00s"),
        (61, "01m:01s"),
        (3_600, "01h:00m:00s"),
        (90_061, "01d:01h:01m:01s"),
    ] {
        assert_eq!(in_words(Duration::from_secs(seconds)), words);
    }
    assert_eq!(in_words(Duration::from_millis(1001)), "00m:02s");
}
