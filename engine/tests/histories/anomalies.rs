//! What the checkers find: histories with one anomaly each.

use adya::Valid;
use porcupine_rs::{CheckResult, check_operations_timeout};

use crate::calls::{Call, Calls, TIMEOUT};
use crate::lists::Action::{self, Append, Read};
use crate::lists::{Lists, words};

const SERIALIZABLE: &str = "strict-serializable";
const SNAPSHOT: &str = "strong-snapshot-isolation";

fn read(key: i64, found: &[i64]) -> Action {
    Read(key, Some(found.to_vec()))
}

fn asked(actions: &[Action]) -> Vec<Action> {
    let ask = |action: &Action| match action {
        Read(key, _) => Read(*key, None),
        append => append.clone(),
    };
    actions.iter().map(ask).collect()
}

/// A history of transactions that all run beside each other.
fn beside(transactions: &[&[Action]]) -> Lists {
    let lists = Lists::default();
    for (thread, actions) in (0..).zip(transactions) {
        lists.begins(thread, &asked(actions));
    }
    for (thread, actions) in (0..).zip(transactions) {
        lists.committed(thread, actions.to_vec());
    }
    lists
}

/// A history of transactions that run one after the other.
fn in_turn(transactions: &[&[Action]]) -> Lists {
    let lists = Lists::default();
    for (thread, actions) in (0..).zip(transactions) {
        lists.begins(thread, &asked(actions));
        lists.committed(thread, actions.to_vec());
    }
    lists
}

/// Checks that an anomaly is found, by that name, at the levels that forbid it and at no other.
fn finds(name: &str, lists: &Lists, levels: &[&str]) {
    for level in [SERIALIZABLE, SNAPSHOT] {
        let report = lists.check(level);
        let expected = levels.contains(&level);
        assert_eq!(
            report.valid == Valid::False,
            expected,
            "{name} at {level}: {}",
            words(&report)
        );
        if expected {
            let kinds = &report.anomaly_types;
            assert!(kinds.iter().any(|kind| kind == name), "{name}: {kinds:?}");
        }
    }
}

const BOTH: &[&str] = &[SERIALIZABLE, SNAPSHOT];

#[test]
fn histories_without_anomalies_pass() {
    let serial = in_turn(&[
        &[read(1, &[]), Append(1, 10)],
        &[read(1, &[10]), Append(1, 11), read(1, &[10, 11])],
        &[read(1, &[10, 11]), read(2, &[])],
    ]);
    finds("none", &serial, &[]);
    let beside = beside(&[
        &[Append(1, 10), Append(2, 20)],
        &[read(1, &[]), read(2, &[])],
        &[read(1, &[10]), read(2, &[20])],
    ]);
    finds("none", &beside, &[]);
}

#[test]
fn dirty_writes_are_found() {
    let lists = beside(&[
        &[Append(1, 10), Append(2, 20)],
        &[Append(1, 11), Append(2, 21)],
        &[read(1, &[10, 11])],
        &[read(2, &[21, 20])],
    ]);
    finds("G0", &lists, BOTH);
}

#[test]
fn aborted_intermediate_and_circular_reads_are_found() {
    let lists = Lists::default();
    lists.begins(0, &[Append(1, 10)]);
    lists.begins(1, &[Read(1, None)]);
    lists.refused(0, &[Append(1, 10)]);
    lists.committed(1, vec![read(1, &[10])]);
    finds("G1a", &lists, BOTH);
    let intermediate = beside(&[&[Append(1, 10), Append(1, 11)], &[read(1, &[10])]]);
    finds("G1b", &intermediate, BOTH);
    let circular = beside(&[
        &[Append(1, 10), read(2, &[20])],
        &[Append(2, 20), read(1, &[10])],
    ]);
    finds("G1c", &circular, BOTH);
}

#[test]
fn lost_updates_are_found() {
    let lists = beside(&[
        &[read(1, &[]), Append(1, 10)],
        &[read(1, &[]), Append(1, 11)],
        &[read(1, &[10, 11])],
    ]);
    finds("lost-update", &lists, BOTH);
    // The second append took the place of the first, which was read before.
    let gone = beside(&[
        &[Append(1, 10)],
        &[read(1, &[10])],
        &[Append(1, 11)],
        &[read(1, &[11])],
    ]);
    finds("incompatible-order", &gone, BOTH);
}

/// Snapshot isolation allows it.
#[test]
fn write_skew_is_found() {
    let lists = beside(&[
        &[read(1, &[]), read(2, &[]), Append(1, 10)],
        &[read(1, &[]), read(2, &[]), Append(2, 20)],
    ]);
    finds("G2-item", &lists, &[SERIALIZABLE]);
    // Fekete, O'Neil and O'Neil, 2004: the one that only reads makes it wrong.
    let read_only = beside(&[
        &[read(1, &[]), read(2, &[]), Append(1, 10)],
        &[Append(2, 20)],
        &[read(1, &[]), read(2, &[20])],
    ]);
    finds("G2-item", &read_only, &[SERIALIZABLE]);
}

/// The checker knows no predicates. A range is given to it as reads of all keys that could be in it, those too that
/// are not there; so what comes into a range that was read is found as what overwrites one of them.
#[test]
fn phantoms_are_found_as_reads_of_what_is_not_there() {
    let skew = beside(&[
        &[read(1, &[]), read(2, &[]), read(3, &[]), Append(1, 10)],
        &[read(1, &[]), read(2, &[]), read(3, &[]), Append(3, 30)],
    ]);
    finds("G2-item", &skew, &[SERIALIZABLE]);
    // Two reads of the range, and an insert between them.
    let many_preceders = beside(&[
        &[read(1, &[]), read(2, &[]), read(1, &[]), read(2, &[20])],
        &[Append(2, 20)],
    ]);
    finds("internal", &many_preceders, BOTH);
}

#[test]
fn read_skew_and_long_forks_are_found() {
    let read_skew = beside(&[
        &[Append(1, 10), Append(2, 20)],
        &[read(1, &[]), read(2, &[20])],
    ]);
    finds("G-single-item", &read_skew, BOTH);
    let long_fork = beside(&[
        &[Append(1, 10)],
        &[Append(2, 20)],
        &[read(1, &[10]), read(2, &[])],
        &[read(1, &[]), read(2, &[20])],
    ]);
    finds("G-nonadjacent-item", &long_fork, BOTH);
}

/// Both levels are the strong ones: what was committed is seen by whoever begins later.
#[test]
fn stale_reads_are_found() {
    let lists = in_turn(&[&[Append(1, 10)], &[read(1, &[])]]);
    finds("G-single-item-realtime", &lists, BOTH);
}

#[test]
fn calls_in_no_order_are_found() {
    let check = |calls: &[(i64, i64, Call)]| {
        let operations: Vec<_> = calls
            .iter()
            .map(|&(begin, end, call)| Calls::operation(0, 7, (begin, end), call))
            .collect();
        check_operations_timeout(&operations, TIMEOUT)
    };
    let (put, get) = (Call::Put, Call::Get);
    let fine = [(0, 9, put(1)), (1, 8, get(None)), (2, 7, get(Some(1)))];
    assert_eq!(check(&fine), CheckResult::Ok);
    let stale = [(0, 1, put(1)), (2, 3, get(None))];
    let back = [(0, 9, put(1)), (1, 2, get(Some(1))), (3, 4, get(None))];
    let swapped_twice = [
        (0, 1, put(1)),
        (2, 9, Call::Swap(Some(1), Some(2), true)),
        (3, 8, Call::Swap(Some(1), Some(3), true)),
    ];
    let refused_for_nothing = [(0, 1, put(1)), (2, 3, Call::Swap(Some(1), Some(2), false))];
    let comes_back = [(0, 1, put(1)), (2, 3, Call::Remove), (4, 5, get(Some(1)))];
    for calls in [
        &stale[..],
        &back,
        &swapped_twice,
        &refused_for_nothing,
        &comes_back,
    ] {
        assert_eq!(check(calls), CheckResult::Illegal, "{calls:?}");
    }
}
