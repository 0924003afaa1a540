//! Every way of reading a keyspace gives the same: *ordered* and *same*.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{
    Database, Durability, Error, Keyspace, KeyspaceSnapshot, Options, PairCursor, Slice,
};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Checks what a keyspace answers against a map, asking for some keys that are there and some that are not.
pub(crate) fn check(reader: &KeyspaceSnapshot, expected: &Map, keys: &[Vec<u8>]) {
    let keyspace_has = |key: &Vec<u8>| reader.contains_key(key).unwrap();
    for key in keys {
        let value = expected.get(key);
        assert_eq!(
            reader.get(key).unwrap().as_deref(),
            value.map(Vec::as_slice)
        );
        assert_eq!(
            reader.get_with(key, <[u8]>::to_vec).unwrap().as_ref(),
            value
        );
        assert_eq!(keyspace_has(key), value.is_some());
    }
    check_multi_get(expected, keys, |keys, found| {
        reader.multi_get(keys, found).unwrap();
    });
    check_order(reader, expected, ..);
    if let (Some(from), Some(to)) = (keys.iter().min(), keys.iter().max()) {
        check_order(reader, expected, from.clone()..to.clone());
        let inner = (Bound::Excluded(from.clone()), Bound::Included(to.clone()));
        check_order(reader, expected, inner);
    }
}

/// Forwards, backwards, and from both ends at once.
fn check_order(
    reader: &KeyspaceSnapshot,
    expected: &Map,
    range: impl RangeBounds<Vec<u8>> + Clone,
) {
    let wanted: Vec<_> = expected
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .filter(|(key, _)| range.contains(key))
        .collect();
    let owned = |pair: Result<(Slice, Slice), Error>| {
        let (key, value) = pair.unwrap();
        (key.to_vec(), value.to_vec())
    };
    let listed = reader.range(range.clone()).map(owned);
    assert_eq!(listed.collect::<Vec<_>>(), wanted);
    assert_eq!(list(reader.cursor(range.clone())), wanted);
    let mut backwards = list(reader.cursor_back(range.clone()));
    backwards.reverse();
    assert_eq!(backwards, wanted);
    let mut both = reader.range(range);
    let (mut front, mut back) = (Vec::new(), Vec::new());
    loop {
        let before = front.len() + back.len();
        front.extend(both.next().map(owned));
        back.extend(both.by_ref().rev().take(2).map(owned));
        if front.len() + back.len() == before {
            break;
        }
    }
    front.extend(back.into_iter().rev());
    assert_eq!(front, wanted);
}

fn list(mut cursor: PairCursor) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut pairs = Vec::new();
    while let Some((key, value)) = cursor.next_pair().unwrap() {
        pairs.push((key.to_vec(), value.to_vec()));
    }
    assert!(cursor.next_pair().unwrap().is_none());
    pairs
}

fn check_multi_get(
    expected: &Map,
    keys: &[Vec<u8>],
    multi_get: impl Fn(&[Vec<u8>], &mut dyn FnMut(usize, &[u8])),
) {
    let mut found = vec![None; keys.len()];
    multi_get(keys, &mut |i, value| {
        assert!(found[i].replace(value.to_vec()).is_none(), "{i} twice");
    });
    let wanted: Vec<_> = keys.iter().map(|key| expected.get(key).cloned()).collect();
    assert_eq!(found, wanted);
}

fn key(k: u32) -> Vec<u8> {
    format!("{:04}", k * 7919 % 10_000).into_bytes()
}

fn open(io: &SimulatedIo) -> Database {
    let options = Options {
        io: Arc::new(io.clone()),
        memory_budget_bytes: 400 << 10,
        generation_size_bytes_max: Some(16 << 10),
        fragment_size_bytes_max: Some(16 << 10),
        profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
        ..Options::default()
    };
    Database::open(Path::new("/db"), options).unwrap()
}

fn write(keyspace: &Keyspace, map: &mut Map, keys: impl Iterator<Item = u32>, round: u32) {
    let mut batch = keyspace.batch();
    for k in keys {
        if (k + round).is_multiple_of(5) {
            batch.remove(key(k)).unwrap();
            map.remove(&key(k));
        } else {
            let value = format!("{k} of {round}").into_bytes();
            batch.insert(key(k), &value).unwrap();
            map.insert(key(k), value);
        }
    }
    batch.commit().unwrap();
}

/// Rows in generations, in RowSets of several levels and fragments, replaced and deleted in others.
#[test]
fn many_keys_at_once_are_found_wherever_they_lie() {
    let io = SimulatedIo::new(7);
    let database = open(&io);
    let keyspace = database.keyspace("pairs").unwrap();
    let keyspace = keyspace.with_durability(Durability::Buffered);
    let mut map = Map::new();
    let keys: Vec<_> = (0..2500).map(key).collect();
    let mut held = Vec::new();
    for round in 0..12_u32 {
        write(
            &keyspace,
            &mut map,
            (0..2000).filter(|k| (k + round).is_multiple_of(3)),
            round,
        );
        if round % 4 == 1 {
            held.push((keyspace.at(&database.snapshot()).unwrap(), map.clone()));
        }
        if round % 5 == 2 {
            database.compact().unwrap();
        }
        if round == 6 {
            let mut transaction = database.begin();
            transaction.truncate(keyspace.table()).unwrap();
            transaction.commit().unwrap();
            map.clear();
        }
        check_multi_get(&map, &keys, |keys, found| {
            keyspace.multi_get(keys, found).unwrap();
        });
        for (reader, map) in &held {
            check(reader, map, &keys);
        }
    }
    database.flush().unwrap();
    database.compact().unwrap();
    for (reader, map) in &held {
        check(reader, map, &keys);
        // Another view of the same snapshot.
        check(&keyspace.at(reader.snapshot()).unwrap(), map, &keys);
    }
    keyspace
        .multi_get::<&[u8]>(&[], |_, _| panic!("nothing was asked for"))
        .unwrap();
    let twice = [key(1), key(1)];
    check_multi_get(&map, &twice, |keys, found| {
        keyspace.multi_get(keys, found).unwrap()
    });
}

/// *Atomic* and *monotonic*: what a reader finds at one moment is of one transaction, and never goes back, whatever is
/// flushed and compacted meanwhile.
#[test]
fn readers_beside_a_writer_see_whole_transactions() {
    let io = SimulatedIo::new(8);
    let database = open(&io);
    let keyspace = database.keyspace("pairs").unwrap();
    let keyspace = keyspace.with_durability(Durability::Buffered);
    let keys: Vec<_> = (0..40).map(key).collect();
    let write_all = |round: u32| {
        let mut batch = keyspace.batch();
        for key in &keys {
            batch.insert(key, round.to_be_bytes()).unwrap();
        }
        batch.commit().unwrap();
    };
    write_all(0);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !is_done.load(Ordering::Relaxed) {
                    let mut rounds = Vec::new();
                    let take = |rounds: &mut Vec<u32>, value: &[u8]| {
                        rounds.push(u32::from_be_bytes(value.try_into().unwrap()));
                    };
                    keyspace
                        .multi_get(&keys, |_, value| take(&mut rounds, value))
                        .unwrap();
                    let single: Slice = keyspace.get(&keys[0]).unwrap().unwrap();
                    assert_eq!(rounds.len(), keys.len());
                    assert!(
                        rounds
                            .iter()
                            .all(|round| *round == rounds[0] && *round >= last)
                    );
                    last = rounds[0];
                    rounds.clear();
                    take(&mut rounds, &single);
                    assert!(rounds[0] >= last);
                    last = rounds[0];
                }
            });
        }
        for round in 1..1500 {
            write_all(round);
        }
        is_done.store(true, Ordering::Relaxed);
    });
}
