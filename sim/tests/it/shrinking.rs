//! A failing plan becomes as small as it can be.

use moonshine_sim::plan::operation::Kind;
use moonshine_sim::plan::shrink::shrink;
use moonshine_sim::plan::{Plan, Selection};

#[test]
fn what_a_failure_does_not_need_is_left_out() {
    let has = |plan: &Plan, kind| plan.operations.iter().any(|one| one.kind == kind);
    let fails = |plan: &Plan| has(plan, Kind::Write) && has(plan, Kind::Settle);
    let seed = (1..).find(|&seed| fails(&Plan::of(seed, &Selection::default())));
    let seed = seed.unwrap();
    let smallest = shrink(seed, &Selection::default(), |plan| Some(fails(plan)));
    let plan = Plan::of(seed, &smallest);
    assert!(fails(&plan));
    assert_eq!((plan.operations.len(), plan.config.client_count), (2, 1));
}

#[test]
fn it_ends_when_the_time_is_over() {
    let mut tries = 0;
    let smallest = shrink(1, &Selection::default(), |_| {
        tries += 1;
        (tries < 3).then_some(true)
    });
    let whole = Plan::of(1, &Selection::default()).operations.len();
    assert!(tries == 3 && smallest.operations.unwrap().len() < whole);
}
