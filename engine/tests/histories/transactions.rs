//! Transactions over lists, at both isolation levels.
//!
//! A list is a row of its own (`fixed/KEY`), or one that moves (`moving/KEY/PLACE`): each append removes the row, by itself or
//! with its range, and inserts another one, so that a read is one of a range, in which there has to be one row, or none
//! before the first append. Keys change all the time, so that new ones come into the ranges that others read.

use std::sync::atomic::{AtomicI64, Ordering};

use adya::Valid;
use moonshine_engine::{Database, Durability, Error, Isolation, KeyspaceTransaction};

use crate::lists::{Action, Lists, words};
use crate::{Random, for_seeds, workload};

const THREADS: i64 = 6;
/// How often the database is opened.
const TIMES: u64 = 3;
/// Transactions of a thread until the database is opened again.
const TRANSACTIONS: u64 = 250;
/// Keys that are used at once, and appends until another one takes the place of one.
const KEYS: i64 = 6;
const APPENDS_A_KEY: i64 = 12;

type Result<T> = std::result::Result<T, Error>;

/// A list, and where it is: its key, what is in it, its row's key.
type Found = (i64, Vec<i64>, Vec<u8>);

/// What all threads share.
#[derive(Debug, Default)]
struct World {
    lists: Lists,
    appends: AtomicI64,
}

fn encoded(list: &[i64]) -> Vec<u8> {
    list.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn decoded(bytes: &[u8]) -> Vec<i64> {
    let values = bytes.chunks_exact(8);
    values
        .map(|value| i64::from_le_bytes(value.try_into().unwrap()))
        .collect()
}

fn is_moving(key: i64) -> bool {
    key % 3 != 0
}

fn fixed(key: i64) -> String {
    format!("fixed/{key:08}")
}

fn prefix(key: i64) -> String {
    format!("moving/{key:08}/")
}

/// The lists of some keys that move, by one read of their range, and where each is.
fn range(transaction: &mut KeyspaceTransaction, first: i64, end: i64) -> Result<Vec<Found>> {
    let mut found: Vec<Found> = Vec::new();
    for pair in transaction.range(prefix(first)..prefix(end))? {
        let (place, list) = pair?;
        let key = std::str::from_utf8(&place["moving/".len()..][..8]);
        let key = key.unwrap().parse().unwrap();
        if let Some(other) = found.iter().find(|(of, ..)| *of == key) {
            panic!(
                "half of a transaction: the list {key} is in two places: {other:?} and {place:?}"
            );
        }
        found.push((key, decoded(&list), place.to_vec()));
    }
    Ok(found)
}

fn read(transaction: &mut KeyspaceTransaction, key: i64) -> Result<(Vec<i64>, Option<Vec<u8>>)> {
    if is_moving(key) {
        let found = range(transaction, key, key + 1)?.pop();
        return Ok(found.map_or_else(Default::default, |(_, list, place)| (list, Some(place))));
    }
    let found = transaction.get(fixed(key))?;
    Ok((found.map_or_else(Vec::new, |list| decoded(&list)), None))
}

fn append(
    transaction: &mut KeyspaceTransaction,
    key: i64,
    value: i64,
    random: &mut Random,
) -> Result<()> {
    let (mut list, place) = read(transaction, key)?;
    list.push(value);
    if !is_moving(key) {
        return transaction.insert(fixed(key), encoded(&list));
    }
    // The first place is the same for all: else two that find no row would write two, as snapshot isolation allows.
    let to = place.as_ref().map_or(0, |_| random.below(100));
    match place {
        Some(place) if random.below(3) > 0 => transaction.remove(place)?,
        Some(_) => transaction.remove_prefix(prefix(key))?,
        None => {}
    }
    transaction.insert(format!("{}{to:02}", prefix(key)), encoded(&list))
}

/// What a transaction is to do.
fn plan(world: &World, random: &mut Random) -> Vec<Action> {
    let mut actions = Vec::new();
    for _ in 0..1 + random.below(4) {
        let appends = world.appends.load(Ordering::Relaxed);
        let first = appends / APPENDS_A_KEY;
        let key = first + random.below(KEYS as u64) as i64;
        match random.below(5) {
            0 | 1 => {
                let value = world.appends.fetch_add(1, Ordering::Relaxed);
                actions.push(Action::Append(key, value));
            }
            2 => {
                // A range of lists that move, next to each other.
                let end = key + 1 + random.below(4) as i64;
                let moving = (key..end).filter(|key| is_moving(*key));
                actions.extend(moving.map(|key| Action::Read(key, None)));
            }
            _ => actions.push(Action::Read(key, None)),
        }
    }
    actions
}

/// Does it. Reads of neighbours that move are one read of their range.
fn act(
    transaction: &mut KeyspaceTransaction,
    planned: &[Action],
    random: &mut Random,
) -> Result<Vec<Action>> {
    let mut done: Vec<Action> = Vec::new();
    while let Some(action) = planned.get(done.len()) {
        if random.below(3) == 0 {
            std::thread::yield_now();
        }
        match *action {
            Action::Append(key, value) => {
                append(transaction, key, value, random)?;
                done.push(Action::Append(key, value));
            }
            Action::Read(key, _) if is_moving(key) => {
                let rest = &planned[done.len()..];
                let is_next = |(action, key): &(&Action, i64)| {
                    is_moving(*key) && **action == Action::Read(*key, None)
                };
                let neighbours = rest.iter().zip(key..).take_while(is_next).count() as i64;
                let found = range(transaction, key, key + neighbours)?;
                for key in key..key + neighbours {
                    let list = found.iter().find(|(of, ..)| *of == key);
                    let list = list.map_or_else(Vec::new, |(_, list, _)| list.clone());
                    done.push(Action::Read(key, Some(list)));
                }
            }
            Action::Read(key, _) => {
                done.push(Action::Read(key, Some(read(transaction, key)?.0)));
            }
        }
    }
    Ok(done)
}

/// One thread's transactions.
fn work(
    world: &World,
    database: &Database,
    thread: i64,
    random: &mut Random,
    isolation: impl Fn(&mut Random) -> Isolation,
) {
    let keyspace = database.keyspace("lists").unwrap();
    for _ in 0..TRANSACTIONS {
        let durability = match random.below(16) {
            0 => Durability::Synced,
            _ => Durability::Buffered,
        };
        let keyspace = keyspace.clone().with_durability(durability);
        let planned = plan(world, random);
        world.lists.begins(thread, &planned);
        let mut transaction = keyspace.transaction(isolation(random));
        let done = act(&mut transaction, &planned, random).unwrap();
        match transaction.commit() {
            Ok(()) => world.lists.committed(thread, done),
            Err(Error::Conflict { .. }) => world.lists.refused(thread, &planned),
            Err(error) => panic!("{error}"),
        }
    }
}

fn history(seed: u64, isolation: impl Fn(&mut Random) -> Isolation + Sync) -> Lists {
    let world = World::default();
    workload::run(THREADS, TIMES, |database, thread, time| {
        let mut random = Random::new(seed << 16 | time << 8 | thread as u64);
        work(&world, database, thread, &mut random, &isolation);
    });
    let all = THREADS as usize * TIMES as usize * TRANSACTIONS as usize;
    let committed = world.lists.committed_count();
    assert!(
        committed > all / 10,
        "only {committed} of {all} were committed"
    );
    println!("seed {seed}: {committed} of {all} transactions were committed");
    world.lists
}

fn holds(lists: &Lists, level: &str) {
    let report = lists.check(level);
    assert_eq!(report.valid, Valid::True, "{level}: {}", words(&report));
}

/// *Ordered*: serializable transactions take effect one after the other, in an order that real time agrees with.
#[test]
fn serializable_transactions_are_strictly_serializable() {
    for_seeds(3, |seed| {
        holds(
            &history(seed, |_| Isolation::Serializable),
            "strict-serializable",
        );
    });
}

/// *Ordered*: those of snapshot isolation see a prefix that holds all that was committed before they began, and none of two
/// that overlap overwrites the other. What else they may do, they do: the history shows it.
#[test]
fn snapshot_transactions_are_of_strong_snapshot_isolation() {
    for_seeds(3, |seed| {
        let lists = history(seed, |_| Isolation::Snapshot);
        holds(&lists, "strong-snapshot-isolation");
        let report = lists.check("serializable");
        assert_eq!(report.valid, Valid::False, "no write skew");
        assert!(
            report.anomaly_types.iter().any(|kind| kind == "G2-item"),
            "{:?}",
            report.anomaly_types
        );
    });
}

/// *Ordered*: both beside each other are of snapshot isolation.
#[test]
fn transactions_of_both_levels_are_of_strong_snapshot_isolation() {
    for_seeds(2, |seed| {
        let lists = history(seed, |random| match random.below(2) {
            0 => Isolation::Serializable,
            _ => Isolation::Snapshot,
        });
        holds(&lists, "strong-snapshot-isolation");
    });
}
