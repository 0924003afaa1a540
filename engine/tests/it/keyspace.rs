//! A keyspace against a map of the standard library: *ordered*, and *same* as the table that it is.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{
    ColumnType, Database, Durability, Error, Keyspace, Options, Pairs, Scan, TableSchema, Value,
};
use proptest::prelude::*;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn database(seed: u64) -> Database {
    let options = Options {
        io: Arc::new(SimulatedIo::new(seed)),
        ..Options::unmeasured()
    };
    Database::open(Path::new("/db"), options).unwrap()
}

fn list(pairs: impl Iterator<Item = <Pairs as Iterator>::Item>) -> Vec<(Vec<u8>, Vec<u8>)> {
    pairs
        .map(|pair| {
            pair.map(|(key, value)| (key.to_vec(), value.to_vec()))
                .unwrap()
        })
        .collect()
}

/// *Ordered*: a part of a scan that is not read leaves the others nothing out, of what is in memory as of what is on disk.
#[test]
fn any_part_of_a_scan_gives_all() {
    let database = database(1);
    let pairs = database.keyspace("pairs").unwrap();
    for in_memory in [false, true] {
        for number in 0..10_u8 {
            pairs.insert([number, in_memory.into()], "v").unwrap();
        }
        if !in_memory {
            database.flush().unwrap();
        }
    }
    for unread in 0..3 {
        let mut parts = pairs.snapshot().scan_parts(3).unwrap();
        parts.remove(unread);
        let mut count = 0;
        for part in parts {
            part.for_each(|_, _| count += 1).unwrap();
        }
        assert_eq!(count, 20);
        let snapshot = database.snapshot();
        let mut parts = snapshot
            .scan_parts(pairs.table(), &Scan::default(), 3)
            .unwrap();
        parts.remove(unread);
        let batches = parts.into_iter().flatten();
        let count: usize = batches.map(|batch| batch.unwrap().num_rows()).sum();
        assert_eq!(count, 20);
    }
}

/// Short keys of few bytes, so that many are equal, empty, or the beginning of others.
fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0), Just(1), Just(0xff)], 0..4)
}

fn any_bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        Just(Bound::Unbounded),
        any_key().prop_map(Bound::Included),
        any_key().prop_map(Bound::Excluded),
    ]
}

/// What a map answers for a range that may be empty or the wrong way round, for which the map itself panics.
fn expected(map: &Map, start: &Bound<Vec<u8>>, end: &Bound<Vec<u8>>) -> Vec<(Vec<u8>, Vec<u8>)> {
    use std::ops::RangeBounds as _;
    let range = (start.as_ref(), end.as_ref());
    let pairs = map.iter().filter(|(key, _)| range.contains(key));
    pairs.map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn check(keyspace: &Keyspace, map: &Map, start: &Bound<Vec<u8>>, end: &Bound<Vec<u8>>) {
    let all: Vec<_> = map.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    assert_eq!(list(keyspace.iter()), all);
    let mut of_range = expected(map, start, end);
    assert_eq!(list(keyspace.range((start.clone(), end.clone()))), of_range);
    of_range.reverse();
    assert_eq!(
        list(keyspace.range((start.clone(), end.clone())).rev()),
        of_range
    );
    for key in map.keys() {
        assert_eq!(
            keyspace.get(key).unwrap().as_deref(),
            map.get(key).map(Vec::as_slice)
        );
        let with_prefix: Vec<_> = all
            .iter()
            .filter(|(k, _)| k.starts_with(key))
            .cloned()
            .collect();
        assert_eq!(list(keyspace.prefix(key)), with_prefix);
    }
}

proptest! {
    #[test]
    fn a_keyspace_is_an_ordered_map(
        writes in prop::collection::vec((any_key(), prop::option::of(any_key())), 0..30),
        start in any_bound(),
        end in any_bound(),
        is_batch: bool,
    ) {
        let database = database(1);
        let keyspace = database.keyspace("pairs").unwrap().with_durability(Durability::Buffered);
        let before = database.snapshot();
        let mut map = Map::new();
        let mut batch = keyspace.batch();
        for (key, value) in &writes {
            match value {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
            match (value, is_batch) {
                (Some(value), true) => batch.insert(key, value).unwrap(),
                (None, true) => batch.remove(key).unwrap(),
                (Some(value), false) => keyspace.insert(key, value).unwrap(),
                (None, false) => keyspace.remove(key).unwrap(),
            }
        }
        batch.commit().unwrap();
        check(&keyspace, &map, &start, &end);
        prop_assert_eq!(keyspace.range_at::<&[u8]>(&before, ..).unwrap().count(), 0);
        for (key, _) in &writes {
            prop_assert_eq!(keyspace.contains_key(key).unwrap(), map.contains_key(key));
            prop_assert!(keyspace.get_at(&before, key).unwrap().is_none());
            let row = database.snapshot().get(keyspace.table(), &[Value::Binary(key.clone())]).unwrap();
            let expected = map.get(key).map(|value| vec![Value::Binary(key.clone()), Value::Binary(value.clone())]);
            prop_assert_eq!(row, expected);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let database = database(1);
    let keyspace = database.keyspace("pairs").unwrap();
    assert!(matches!(
        keyspace.insert(vec![0; 65_537], ""),
        Err(Error::Row(_))
    ));
    assert!(matches!(
        keyspace.remove(vec![0; 65_537]),
        Err(Error::Row(_))
    ));
    keyspace.insert(vec![0; 65_536], "longest").unwrap();
    assert_eq!(keyspace.get(vec![0; 65_536]).unwrap().unwrap(), b"longest");
    let schema = TableSchema::builder("rows")
        .column("id", ColumnType::Int64, false)
        .primary_key(["id"])
        .build()
        .unwrap();
    database.create_table(schema).unwrap();
    assert!(matches!(database.keyspace("rows"), Err(Error::Schema(_))));
    assert!(database.keyspace("").is_err());
}

#[test]
fn a_snapshot_of_another_database_is_refused() {
    let (one, other) = (database(1), database(2));
    let keyspace = one.keyspace("pairs").unwrap();
    let snapshot = other.snapshot();
    assert!(matches!(
        keyspace.get_at(&snapshot, "a"),
        Err(Error::Usage(_))
    ));
    assert!(matches!(
        keyspace.range_at::<&[u8]>(&snapshot, ..),
        Err(Error::Usage(_))
    ));
}
