//! Whole seeds.

use moonshine_sim::plan::{Plan, Selection};
use moonshine_sim::run::run_plan;

/// What a seed's plan comes to.
fn check_of(seed: u64, selection: &Selection) -> Option<&'static str> {
    let report = run_plan(&Plan::of(seed, selection), false);
    report.violation.map(|violation| violation.check)
}

/// Whether one of fifty seeds finds that files of that ending are not synced.
fn finds_forgotten_syncs(ending: &'static str) -> bool {
    let selection = Selection {
        forgotten_syncs: Some(ending),
        ..Selection::default()
    };
    (1..=50).any(|seed| check_of(seed, &selection).is_some())
}

#[test]
fn the_engine_as_it_is_keeps_all_invariants() {
    for seed in 1..=30 {
        let report = run_plan(&Plan::of(seed, &Selection::default()), false);
        assert_eq!(report.violation, None, "seed {seed}");
    }
}

/// *Durable*: a log that is never synced loses what was acknowledged.
#[test]
fn a_log_that_is_not_synced_is_found() {
    assert!(finds_forgotten_syncs(".mlog"));
}

/// *Durable*: so does a tree whose edits are not.
#[test]
fn edits_that_are_not_synced_are_found() {
    assert!(finds_forgotten_syncs(".medits"));
}

/// An operation is drawn the same whether or not others are left out.
#[test]
fn what_is_left_of_a_plan_stays_what_it_is() {
    let whole = Plan::of(7, &Selection::default());
    let numbers = Selection::parse_numbers("3,5-9").unwrap();
    let selection = Selection {
        operations: Some(numbers),
        ..Selection::default()
    };
    let left = Plan::of(7, &selection);
    assert_eq!(
        left.operations,
        [&whole.operations[3..4], &whole.operations[5..10]].concat()
    );
    assert_eq!(selection.to_string(), " --operations 3,5-9");
}
