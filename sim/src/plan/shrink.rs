//! Smaller plans that still fail.
//!
//! A plan is smaller if operations are left out, whole kinds of them, or clients. A smaller one is kept if the same check
//! fails. Runs of operations are left out in halves, quarters and so on down to single ones (ddmin; Zeller and Hildebrandt:
//! Simplifying and isolating failure-inducing input, 2002).

use std::collections::BTreeSet;

use super::operation::{Kind, Operation};
use super::{Plan, Selection};

/// Finds a smaller selection of a seed's plan that still fails. `fails` runs a plan and says whether the same check fails;
/// it is asked until it says that the time is over: `None`.
pub fn shrink(
    seed: u64,
    selection: &Selection,
    mut fails: impl FnMut(&Plan) -> Option<bool>,
) -> Selection {
    let plan = Plan::of(seed, selection);
    let mut smallest = selection.clone();
    smallest.operations = Some(plan.operations.iter().map(|one| one.number).collect());
    let mut try_one = |candidate: Selection, smallest: &mut Selection| {
        let is_smaller = fails(&Plan::of(seed, &candidate))?;
        if is_smaller {
            *smallest = candidate;
        }
        Some(is_smaller)
    };
    let mut steps = || {
        loop {
            let before = smallest.clone();
            leave_out_runs(&mut smallest, &mut try_one)?;
            leave_out_kinds(seed, &mut smallest, &mut try_one)?;
            let mut alone = smallest.clone();
            alone.clients_max = Some(1);
            if smallest.clients_max != Some(1) {
                try_one(alone, &mut smallest)?;
            }
            if smallest == before {
                return Some(());
            }
        }
    };
    // Whether or not there was time for all of it.
    let _all = steps();
    // Kinds that have no operation left need not be named.
    smallest.without.clear();
    smallest
}

/// Tries to leave out each run of operations, long ones first.
fn leave_out_runs(
    smallest: &mut Selection,
    try_one: &mut impl FnMut(Selection, &mut Selection) -> Option<bool>,
) -> Option<()> {
    let count = |selection: &Selection| selection.operations.as_ref().map_or(0, BTreeSet::len);
    let mut run_len = count(smallest).div_ceil(2);
    while run_len > 0 {
        let mut start = 0;
        while start < count(smallest) {
            let numbers = smallest.operations.iter().flatten().copied();
            let left = numbers
                .enumerate()
                .filter(|(at, _)| !(start..start + run_len).contains(at));
            let candidate = Selection {
                operations: Some(left.map(|(_, number)| number).collect()),
                ..smallest.clone()
            };
            if !try_one(candidate, smallest)? {
                start += run_len;
            }
        }
        run_len /= 2;
    }
    Some(())
}

/// Tries to leave out all operations of a kind.
fn leave_out_kinds(
    seed: u64,
    smallest: &mut Selection,
    try_one: &mut impl FnMut(Selection, &mut Selection) -> Option<bool>,
) -> Option<()> {
    for &kind in Kind::ALL {
        let plan = Plan::of(seed, smallest);
        let (of_kind, others): (Vec<Operation>, Vec<Operation>) = plan
            .operations
            .into_iter()
            .partition(|one| one.kind == kind);
        if of_kind.is_empty() {
            continue;
        }
        let candidate = Selection {
            operations: Some(others.iter().map(|one| one.number).collect()),
            ..smallest.clone()
        };
        try_one(candidate, smallest)?;
    }
    Some(())
}
