//! A keyspace's transactions: what they see, what they lose to, and the operations made of them.

use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{Database, Durability, Error, Isolation, Keyspace, Options};

fn open() -> (Database, Keyspace) {
    let options = Options {
        io: Arc::new(SimulatedIo::new(12)),
        ..Options::unmeasured()
    };
    let database = Database::open(Path::new("/db"), options).unwrap();
    let keyspace = database.keyspace("pairs").unwrap();
    (database, keyspace.with_durability(Durability::Buffered))
}

fn keys(pairs: moonshine_engine::Pairs) -> Vec<String> {
    let keys = pairs.map(|pair| String::from_utf8(pair.unwrap().0.to_vec()).unwrap());
    keys.collect()
}

/// *Atomic*: it sees its snapshot with its own writes over it, in every way of reading, and nobody else sees them.
#[test]
fn it_sees_its_own_writes() {
    let (database, pairs) = open();
    for key in ["a/1", "a/2", "b/1", "b/2", "c/1"] {
        pairs.insert(key, key).unwrap();
    }
    database.flush().unwrap();
    let mut transaction = pairs.transaction(Isolation::Snapshot);
    transaction.insert("b/3", "new").unwrap();
    transaction.insert("b/1", "changed").unwrap();
    transaction.remove("a/2").unwrap();
    transaction.remove_prefix("c/").unwrap();
    transaction.insert("c/2", "later").unwrap();
    pairs.insert("a/0", "unseen").unwrap();
    let expected = ["a/1", "b/1", "b/2", "b/3", "c/2"];
    assert_eq!(keys(transaction.iter().unwrap()), expected);
    let mut backwards: Vec<_> = transaction.iter().unwrap().rev().collect();
    backwards.reverse();
    assert_eq!(backwards.len(), expected.len());
    assert_eq!(
        keys(transaction.range("a/2".."b/3").unwrap()),
        ["b/1", "b/2"]
    );
    assert_eq!(
        keys(transaction.prefix("b/").unwrap()),
        ["b/1", "b/2", "b/3"]
    );
    assert_eq!(
        transaction.get("b/1").unwrap().as_deref(),
        Some(&b"changed"[..])
    );
    assert!(!transaction.contains_key("a/2").unwrap());
    assert!(!transaction.contains_key("c/1").unwrap());
    assert!(transaction.contains_key("c/2").unwrap());
    transaction.remove_range("b/1"..="b/2").unwrap();
    assert_eq!(keys(transaction.iter().unwrap()), ["a/1", "b/3", "c/2"]);
    assert!(pairs.contains_key("b/1").unwrap());
    transaction.commit().unwrap();
    assert_eq!(keys(pairs.iter()), ["a/0", "a/1", "b/3", "c/2"]);
}

/// *Ordered*: of a range only what was gone through counts as read, from either end.
#[test]
fn ranges_count_as_far_as_they_are_read() {
    for (written, refused) in [
        ("a", true),
        ("b", true),
        ("d", false),
        ("f", true),
        ("g", true),
    ] {
        let (_database, pairs) = open();
        for key in ["b", "c", "e", "f"] {
            pairs.insert(key, "").unwrap();
        }
        let mut transaction = pairs.transaction(Isolation::Serializable);
        let mut range = transaction.iter().unwrap();
        assert!(range.next().is_some() && range.next_back().is_some());
        transaction.insert("z", "").unwrap();
        pairs.insert(written, "other").unwrap();
        assert_eq!(transaction.commit().is_err(), refused, "{written}");
    }
}

/// *Once*: of updates by many threads none is lost, and of those who want a key to themselves one gets it.
#[test]
fn updates_of_many_threads_all_count() {
    let (_database, pairs) = open();
    let won = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let (pairs, won) = (&pairs, &won);
            scope.spawn(move || {
                for i in 0..100_u8 {
                    let increment = |value: Option<&[u8]>| {
                        let count =
                            value.map_or(0, |value| u64::from_be_bytes(value.try_into().unwrap()));
                        Some((count + 1).to_be_bytes().to_vec())
                    };
                    pairs.fetch_update("count", increment).unwrap();
                    let lease = [b'l', i];
                    let mine = [thread];
                    let swapped = match thread % 2 {
                        0 => pairs
                            .compare_and_swap(lease, None, Some(&mine))
                            .unwrap()
                            .is_ok(),
                        _ => match pairs.insert_new(lease, mine) {
                            Ok(()) => true,
                            Err(Error::Exists { .. }) => false,
                            Err(error) => panic!("{error}"),
                        },
                    };
                    won.fetch_add(u64::from(swapped), std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(won.into_inner(), 100);
    assert_eq!(
        pairs.get("count").unwrap().as_deref(),
        Some(&400_u64.to_be_bytes()[..])
    );
}

/// Keys that are too long are refused where they are given, bounds of ranges included.
#[test]
fn sizes_are_checked() {
    let (_database, pairs) = open();
    let long = vec![7; 70_000];
    let is_row = |result: Result<(), Error>| matches!(result, Err(Error::Row(_)));
    assert!(is_row(pairs.insert_new(&long, "")));
    assert!(is_row(pairs.remove_prefix(&long)));
    assert!(is_row(pairs.remove_range(&long[..]..)));
    let longest = vec![255; 65_536];
    pairs.insert(&longest, "").unwrap();
    pairs.remove_range(..=&longest[..]).unwrap();
    assert_eq!(pairs.iter().count(), 0);
}
