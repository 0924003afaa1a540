//! Calls on single keys: they take effect at one moment between their begin and their end.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use moonshine_engine::{Database, Durability, Error};
use porcupine_rs::{CheckResult, Model, Operation, check_operations_timeout};

use crate::{Random, for_seeds, workload};

/// How long the search may take. It takes less than a second.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(100);

const THREADS: i64 = 6;
const TIMES: u64 = 3;
const CALLS: u64 = 250;
const KEYS: u64 = 8;

/// A call, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Get(Option<u64>),
    Put(u64),
    Remove,
    /// Whether there was nothing.
    InsertNew(u64, bool),
    /// From one value to another, and whether that was there.
    Swap(Option<u64>, Option<u64>, bool),
}

/// What a key's value may be: that of a register.
#[derive(Clone, Debug)]
pub(crate) struct Calls;

impl Model for Calls {
    type State = Option<u64>;
    type Op = (u64, Call);
    type Metadata = ();

    fn partition_operations(history: &[Operation<Self>]) -> Vec<Vec<Operation<Self>>> {
        let mut by_key: BTreeMap<u64, Vec<Operation<Self>>> = BTreeMap::new();
        for operation in history {
            by_key
                .entry(operation.op.0)
                .or_default()
                .push(operation.clone());
        }
        by_key.into_values().collect()
    }

    fn init() -> Option<u64> {
        None
    }

    fn step(state: &Option<u64>, (_, call): &(u64, Call)) -> (bool, Option<u64>) {
        match *call {
            Call::Get(found) => (found == *state, *state),
            Call::Put(value) => (true, Some(value)),
            Call::Remove => (true, None),
            Call::InsertNew(value, true) => (state.is_none(), Some(value)),
            Call::InsertNew(_, false) => (state.is_some(), *state),
            Call::Swap(from, to, true) => (from == *state, to),
            Call::Swap(from, _, false) => (from != *state, *state),
        }
    }
}

impl Calls {
    /// A call of a thread on a key, between two moments.
    pub(crate) fn operation(
        thread: u32,
        key: u64,
        (call_time, return_time): (i64, i64),
        call: Call,
    ) -> Operation<Calls> {
        Operation {
            client_id: Some(thread),
            call_time,
            return_time,
            op: (key, call),
            metadata: None,
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// Makes a call; what came of it.
fn make(database: &Database, key: u64, value: u64, last: Option<u64>, random: &mut Random) -> Call {
    let keyspace = database.keyspace("numbers").unwrap();
    let keyspace = match random.below(16) {
        0 => keyspace,
        _ => keyspace.with_durability(Durability::Buffered),
    };
    let key = key.to_be_bytes();
    let bytes = value.to_le_bytes();
    match random.below(8) {
        0 => {
            keyspace.remove(key).unwrap();
            Call::Remove
        }
        1 => {
            keyspace.insert(key, bytes).unwrap();
            Call::Put(value)
        }
        2 => match keyspace.insert_new(key, bytes) {
            Ok(()) => Call::InsertNew(value, true),
            Err(Error::Exists { .. }) => Call::InsertNew(value, false),
            Err(error) => panic!("{error}"),
        },
        3 | 4 => {
            let new = (random.below(4) > 0).then_some(value);
            let [from, to] = [last, new].map(|value| value.map(u64::to_le_bytes));
            let from_to = (
                from.as_ref().map(|from| &from[..]),
                to.as_ref().map(|to| &to[..]),
            );
            let swapped = keyspace
                .compare_and_swap(key, from_to.0, from_to.1)
                .unwrap();
            Call::Swap(last, new, swapped.is_ok())
        }
        5 => {
            let found = keyspace.snapshot().get(key).unwrap();
            Call::Get(found.map(|found| number(&found)))
        }
        _ => {
            let found = keyspace.get(key).unwrap();
            Call::Get(found.map(|found| number(&found)))
        }
    }
}

/// *Ordered*, *monotonic*: gets, puts, removes and conditional updates by many threads take effect in one order a key; and
/// who takes a snapshot after another had it gets the same sequence or a later one.
#[test]
fn calls_on_a_key_are_linearizable() {
    for_seeds(3, |seed| {
        let (clock, next_value) = (AtomicI64::new(0), AtomicU64::new(1));
        let newest_seq = AtomicU64::new(0);
        let operations = Mutex::new(Vec::new());
        workload::run(THREADS, TIMES, |database, thread, time| {
            let mut random = Random::new(seed << 16 | time << 8 | thread as u64);
            let mut last = [None; KEYS as usize];
            for _ in 0..CALLS {
                let key = random.below(KEYS);
                let value = next_value.fetch_add(1, Ordering::SeqCst);
                let begin = clock.fetch_add(1, Ordering::SeqCst);
                let call = make(database, key, value, last[key as usize], &mut random);
                let end = clock.fetch_add(1, Ordering::SeqCst);
                if let Call::Get(found) = call {
                    last[key as usize] = found;
                }
                let operation = Calls::operation(thread as u32, key, (begin, end), call);
                operations.lock().unwrap().push(operation);
                let least = newest_seq.load(Ordering::SeqCst);
                let seq = database.snapshot().seq();
                assert!(
                    seq >= least,
                    "the visible sequence went back from {least} to {seq}"
                );
                newest_seq.fetch_max(seq, Ordering::SeqCst);
            }
        });
        let operations = operations.into_inner().unwrap();
        let swapped =
            |operation: &&Operation<Calls>| matches!(operation.op.1, Call::Swap(_, _, true));
        assert!(
            operations.iter().filter(swapped).count() > 20,
            "too few were swapped"
        );
        let checked = check_operations_timeout(&operations, TIMEOUT);
        assert_eq!(checked, CheckResult::Ok);
    });
}
