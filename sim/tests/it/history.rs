//! The model takes what may be, and nothing else.

use std::sync::Arc;

use moonshine_engine::Row;
use moonshine_sim::model::attempt::{Attempt, Conditions, End};
use moonshine_sim::model::history::{History, Recovered, Round};
use moonshine_sim::model::observation::{Observation, Seen};
use moonshine_sim::model::rows::{StoredRow, key_bytes};
use moonshine_sim::model::state::Effect;
use moonshine_sim::model::tables::{PEOPLE, TABLE_COUNT, key, row, schemas};

fn put(number: u64, content: u64) -> Effect {
    let schema = &schemas(0)[PEOPLE];
    Effect::Put {
        table: PEOPLE,
        key: key_bytes(&key(PEOPLE, number)),
        row: StoredRow::new(schema, &row(schema, PEOPLE, number, content)),
        must_be_new: false,
    }
}

fn committed(seq: u64, effect: Effect) -> Attempt {
    let mut attempt = Attempt::new(0, vec![effect], seq - 1);
    attempt.seq = Some(seq);
    attempt.end = End::Committed;
    attempt
}

/// It read at a sequence, and writes a key.
fn optimistic(seq: u64, since_seq: u64, number: u64, end: End) -> Attempt {
    let mut attempt = committed(seq, put(number, 99));
    attempt.end = end;
    attempt.conditions = Some(Conditions {
        since_seq,
        keys: [(PEOPLE, key_bytes(&key(PEOPLE, number)))].into(),
        unsure_keys: [].into(),
        tables_of_ranges: [].into(),
    });
    attempt
}

fn saw(seq: u64, number: u64, found: Option<Row>) -> Observation {
    Observation {
        operation: 1,
        seq,
        table: PEOPLE,
        schema: Arc::new(schemas(0)[PEOPLE].clone()),
        own: Vec::new(),
        seen: Seen::Row(key_bytes(&key(PEOPLE, number)), found),
    }
}

fn of(number: u64, content: u64) -> Option<Row> {
    Some(row(&schemas(0)[PEOPLE], PEOPLE, number, content))
}

fn take(attempts: Vec<Attempt>, observations: Vec<Observation>) -> Result<(), String> {
    History::default().take(Round {
        attempts,
        observations,
        ..Round::default()
    })
}

#[test]
fn a_row_is_there_from_its_commit_on() {
    let both = || vec![committed(1, put(5, 1)), committed(2, put(5, 2))];
    let seen = |seq, found| take(both(), vec![saw(seq, 5, found)]);
    assert_eq!(seen(0, None), Ok(()));
    assert_eq!(seen(1, of(5, 1)), Ok(()));
    assert_eq!(seen(2, of(5, 2)), Ok(()));
    assert!(seen(1, None).is_err() && seen(1, of(5, 2)).is_err() && seen(2, of(5, 1)).is_err());
}

#[test]
fn no_sequence_is_left_out_or_given_twice() {
    assert!(
        take(
            vec![committed(1, put(5, 1)), committed(3, put(5, 2))],
            vec![]
        )
        .is_err()
    );
    assert!(
        take(
            vec![committed(1, put(5, 1)), committed(1, put(5, 2))],
            vec![]
        )
        .is_err()
    );
}

#[test]
fn the_first_committer_wins() {
    let outcome = |number, end| {
        let second = optimistic(3, 1, number, end);
        let first = [committed(1, put(5, 1)), committed(2, put(5, 2))];
        take([&first[..], &[second]].concat(), vec![])
    };
    assert_eq!(outcome(5, End::Refused), Ok(()));
    assert!(outcome(5, End::Committed).is_err());
    assert_eq!(outcome(6, End::Committed), Ok(()));
    assert!(outcome(6, End::Refused).is_err());
}

#[test]
fn an_unknown_outcome_is_decided_by_what_is_found() {
    let schemas: Vec<_> = schemas(0).into_iter().map(Arc::new).collect();
    let recovered = |seq, found: Option<Row>| {
        let mut unknown = committed(2, put(5, 2));
        unknown.end = End::Unknown;
        let mut tables: Vec<_> = schemas.iter().map(|one| (one.clone(), vec![])).collect();
        tables[PEOPLE].1.extend(found);
        assert_eq!(tables.len(), TABLE_COUNT);
        History::default().take(Round {
            attempts: vec![committed(1, put(5, 1)), unknown],
            recovered: Some(Recovered {
                seq,
                tables,
                origins: [].into(),
            }),
            ..Round::default()
        })
    };
    assert_eq!(recovered(1, of(5, 1)), Ok(()));
    assert_eq!(recovered(2, of(5, 2)), Ok(()));
    // It is there or it is not: nothing but another transaction can keep it from taking effect at its sequence.
    assert!(recovered(2, of(5, 1)).is_err() && recovered(1, None).is_err());
}

/// Two writes of whom nobody knows which came first, and a crash that loses the second, in a later round.
#[test]
fn an_unknown_order_stays_open_until_something_decides_it() {
    let schemas: Vec<_> = schemas(0).into_iter().map(Arc::new).collect();
    let after_crash_of_second = |found: Option<Row>| {
        let unplaced = |number| {
            let mut attempt = Attempt::new(0, vec![put(number, number)], 0);
            attempt.end = End::Committed;
            attempt.seq_max = Some(2);
            attempt
        };
        let mut history = History::default();
        let both_there = vec![saw(2, 5, of(5, 5)), saw(2, 6, of(6, 6))];
        history.take(Round {
            attempts: vec![unplaced(5), unplaced(6)],
            observations: both_there,
            visible_seq: Some(2),
            ..Round::default()
        })?;
        let mut tables: Vec<_> = schemas.iter().map(|one| (one.clone(), vec![])).collect();
        tables[PEOPLE].1.extend(found);
        history.take(Round {
            recovered: Some(Recovered {
                seq: 1,
                tables,
                origins: [].into(),
            }),
            ..Round::default()
        })
    };
    assert_eq!(after_crash_of_second(of(5, 5)), Ok(()));
    assert_eq!(after_crash_of_second(of(6, 6)), Ok(()));
    assert!(after_crash_of_second(None).is_err() && after_crash_of_second(of(7, 7)).is_err());
}
