//! A history of transactions over lists, as `adya` takes it.

use std::sync::{Mutex, PoisonError};

use adya::history::{History, Interner, Mop, Op, OpType, ReadValue, Scalar};
use adya::{Opts, Report, Workload, check};

/// What a transaction does to a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Append(i64, i64),
    /// What was found; `None` before it is known.
    Read(i64, Option<Vec<i64>>),
}

/// A transaction begins, or ends in some way.
#[derive(Clone, Debug)]
struct Event {
    thread: i64,
    kind: OpType,
    actions: Vec<Action>,
}

/// Begins and ends of transactions, in the order in which they were.
#[derive(Debug, Default)]
pub(crate) struct Lists(Mutex<Vec<Event>>);

impl Lists {
    fn push(&self, thread: i64, kind: OpType, actions: Vec<Action>) {
        let event = Event {
            thread,
            kind,
            actions,
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(event);
    }

    /// To be called before a transaction begins.
    pub(crate) fn begins(&self, thread: i64, actions: &[Action]) {
        self.push(thread, OpType::Invoke, actions.to_vec());
    }

    /// To be called after it was committed.
    pub(crate) fn committed(&self, thread: i64, actions: Vec<Action>) {
        self.push(thread, OpType::Ok, actions);
    }

    /// To be called after it was refused: it never happened.
    pub(crate) fn refused(&self, thread: i64, actions: &[Action]) {
        self.push(thread, OpType::Fail, actions.to_vec());
    }

    /// How many were committed.
    pub(crate) fn committed_count(&self) -> usize {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_committed = |event: &&Event| event.kind == OpType::Ok;
        events.iter().filter(is_committed).count()
    }

    /// What the checker says of it at an isolation level.
    pub(crate) fn check(&self, level: &str) -> Report {
        assert!(adya::model::canonical(level).is_some(), "no level: {level}");
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = Interner::default();
        let mut ops = Vec::new();
        for (event, index) in events.iter().zip(0..) {
            let name = |number: i64, names: &mut Interner| names.intern(Scalar::Int(number));
            let mut mop = |action: &Action| match action {
                Action::Append(key, value) => Mop::Append {
                    key: name(*key, &mut names),
                    value: name(*value, &mut names),
                },
                Action::Read(key, found) => Mop::Read {
                    key: name(*key, &mut names),
                    value: found.as_ref().map_or(ReadValue::Nil, |found| {
                        let found = found.iter().map(|value| name(*value, &mut names));
                        ReadValue::List(found.collect())
                    }),
                },
            };
            ops.push(Op {
                index,
                kind: event.kind,
                process: Some(event.thread),
                value: event.actions.iter().map(&mut mop).collect(),
                time: None,
            });
        }
        let options = Opts {
            models: vec![level.to_owned()],
            timeout: std::time::Duration::from_secs(20),
            ..Opts::default()
        };
        check(
            &History::from_ops(ops, names),
            Workload::ListAppend,
            &options,
        )
    }
}

/// The anomalies of a report in words.
pub(crate) fn words(report: &Report) -> String {
    let all = report.anomalies.iter().flat_map(|(kind, anomalies)| {
        let first = anomalies.iter().take(2);
        first.map(move |anomaly| format!("{kind}: {}", anomaly.explanation))
    });
    all.collect::<Vec<_>>().join("\n")
}
