//! Tables that are divided by the hash of the key, of a part of it, or by range: all hold the same.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::{CrashStyle, SimulatedIo};
use moonshine_engine::{
    Database, Durability, Error, Keyspace, KeyspaceOptions, Options, ShardKey, Snapshot,
};

const SHARD_KEYS: [ShardKey; 3] = [
    ShardKey::PrimaryKey,
    ShardKey::PrefixBytes(2),
    ShardKey::Range,
];
const KEYS: u32 = 1200;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// In which order keys are written.
#[derive(Clone, Copy, Debug)]
enum Order {
    Ascending,
    Descending,
    Mixed,
    /// Mostly at the end, now and then anywhere.
    Straying,
}

fn open(io: &SimulatedIo, shard_key: ShardKey) -> (Database, Keyspace) {
    let options = Options {
        io: Arc::new(io.clone()),
        profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
        memory_budget_bytes: 256 << 10,
        segment_size_bytes_max: Some(16 << 10),
        generation_size_bytes_max: Some(16 << 10),
        fragment_size_bytes_max: Some(8 << 10),
        compaction_threads: Some(2),
    };
    let database = Database::open(Path::new("/db"), options).unwrap();
    let keyspace = database.keyspace_with("pairs", KeyspaceOptions { shard_key });
    let keyspace = keyspace.unwrap().with_durability(Durability::Buffered);
    (database, keyspace)
}

/// Keys of 20 groups, in order of their numbers.
fn key(number: u32) -> Vec<u8> {
    format!("{:02}/{:05}", number / (KEYS / 20), number).into_bytes()
}

/// Numbers that look random and are the same each time.
fn mixed(seed: u32) -> impl Iterator<Item = u32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    })
}

fn numbers(order: Order) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..KEYS).collect();
    match order {
        Order::Ascending => {}
        Order::Descending => numbers.reverse(),
        Order::Mixed => {
            for (i, random) in (1..numbers.len()).zip(mixed(7)) {
                numbers.swap(i, random as usize % (i + 1));
            }
        }
        Order::Straying => {
            for (number, random) in numbers.iter_mut().zip(mixed(9)) {
                if random.is_multiple_of(10) {
                    *number = random / 10 % KEYS;
                }
            }
        }
    }
    numbers
}

fn write(keyspace: &Keyspace, model: &mut Model, numbers: &[u32], round: u32) {
    for chunk in numbers.chunks(40) {
        let mut batch = keyspace.batch();
        for &number in chunk {
            let value = format!("{round} {}", "v".repeat(number as usize % 50)).into_bytes();
            batch.insert(key(number), &value).unwrap();
            model.insert(key(number), value);
        }
        if let Some(&gone) = chunk.iter().find(|number| number.is_multiple_of(3)) {
            batch.remove(key(gone)).unwrap();
            model.remove(&key(gone));
        }
        batch.commit().unwrap();
    }
}

fn range(
    keyspace: &Keyspace,
    snapshot: &Snapshot,
    bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>),
) -> (Pairs, Pairs) {
    let pairs = || keyspace.range_at(snapshot, bounds.clone()).unwrap();
    let owned = |pair: Result<(moonshine_engine::Slice, moonshine_engine::Slice), Error>| {
        let (key, value) = pair.unwrap();
        (key.to_vec(), value.to_vec())
    };
    let forward = pairs().map(owned).collect();
    let mut backward: Vec<_> = pairs().rev().map(owned).collect();
    backward.reverse();
    (forward, backward)
}

/// *Ordered*: gets, and scans of any range in both directions, find what was written.
fn check(keyspace: &Keyspace, snapshot: &Snapshot, model: &Model) {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let mut bounds = vec![all];
    let mut random = mixed(model.len() as u32 + 1);
    let mut next = || random.next().unwrap();
    for _ in 0..6 {
        let (a, b) = (next() % KEYS, next() % KEYS);
        let (low, high) = (key(a.min(b)), key(a.max(b)));
        let near = key((a + next() % 30).min(KEYS));
        bounds.extend([
            (Bound::Included(low.clone()), Bound::Excluded(high.clone())),
            (Bound::Excluded(low), Bound::Included(high)),
            (Bound::Included(key(a)), Bound::Included(near.max(key(a)))),
            (Bound::Included(key(a)), Bound::Unbounded),
            (Bound::Unbounded, Bound::Excluded(key(b))),
        ]);
    }
    for group in [0, 7, 19] {
        let prefix = format!("{group:02}").into_bytes();
        let end = format!("{:02}", group + 1).into_bytes();
        bounds.push((Bound::Included(prefix), Bound::Excluded(end)));
    }
    for bounds in bounds {
        let expected = model.range::<Vec<u8>, _>(bounds.clone());
        let expected: Vec<_> = expected.map(|(k, v)| (k.clone(), v.clone())).collect();
        let (forward, backward) = range(keyspace, snapshot, bounds.clone());
        assert_eq!(forward, expected, "{bounds:?}");
        assert_eq!(backward, expected, "{bounds:?} backward");
    }
    for number in 0..KEYS {
        let found = keyspace.get_at(snapshot, key(number)).unwrap();
        let found = found.map(|value| value.to_vec());
        assert_eq!(found.as_ref(), model.get(&key(number)), "{number}");
    }
}

#[test]
fn every_shard_key_holds_the_same() {
    for shard_key in SHARD_KEYS {
        for order in [
            Order::Ascending,
            Order::Descending,
            Order::Mixed,
            Order::Straying,
        ] {
            let mut io = SimulatedIo::new(3);
            let (mut database, mut keyspace) = open(&io, shard_key);
            let mut model = Model::new();
            let numbers = numbers(order);
            let (first, second) = numbers.split_at(numbers.len() / 2);
            write(&keyspace, &mut model, first, 1);
            let (snapshot, held) = (database.snapshot(), model.clone());
            check(&keyspace, &snapshot, &held);
            write(&keyspace, &mut model, second, 2);
            write(&keyspace, &mut model, &numbers[..300], 3);
            check(&keyspace, &snapshot, &held);
            check(&keyspace, &database.snapshot(), &model);
            database.flush().unwrap();
            database.compact().unwrap();
            check(&keyspace, &snapshot, &held);
            check(&keyspace, &database.snapshot(), &model);

            write(&keyspace, &mut model, &numbers[400..600], 4);
            database.sync().unwrap();
            io = io.crash(CrashStyle::LoseUnsynced);
            drop((snapshot, keyspace, database));
            (database, keyspace) = open(&io, shard_key);
            check(&keyspace, &database.snapshot(), &model);
            write(&keyspace, &mut model, &numbers, 5);
            database.flush().unwrap();
            database.compact().unwrap();
            check(&keyspace, &database.snapshot(), &model);
        }
    }
}

/// A range within one fragment reads little, however large the table is; by the hash of the whole key it reads all.
#[test]
fn a_short_range_reads_the_fragments_that_it_needs() {
    let mut read_bytes = Vec::new();
    for shard_key in SHARD_KEYS {
        let io = SimulatedIo::new(5);
        let (database, keyspace) = open(&io, shard_key);
        write(&keyspace, &mut Model::new(), &numbers(Order::Mixed), 1);
        database.flush().unwrap();
        database.compact().unwrap();
        drop((keyspace, database));
        let (database, keyspace) = open(&io, shard_key);
        let (_, before) = database.memory_used_bytes();
        assert!(keyspace.prefix("07/0042").count() > 3);
        let mut open_ended = keyspace.range(b"12/00741".to_vec()..).take(3);
        if shard_key == ShardKey::Range {
            assert!(open_ended.all(|pair| pair.is_ok()));
            assert!(
                keyspace
                    .range(..key(800))
                    .rev()
                    .take(3)
                    .all(|pair| pair.is_ok())
            );
        }
        read_bytes.push(database.memory_used_bytes().1 - before);
    }
    let [by_hash, by_prefix, by_range] = read_bytes[..] else {
        panic!("three shard keys")
    };
    assert!(by_prefix < by_hash / 3, "{read_bytes:?}");
    assert!(by_range < by_hash / 2, "{read_bytes:?}");
}

#[test]
fn a_keyspace_keeps_its_shard_key() {
    let io = SimulatedIo::new(1);
    let (database, keyspace) = open(&io, ShardKey::Range);
    keyspace.insert("a", "1").unwrap();
    drop((database, keyspace));
    let (database, _) = open(&io, ShardKey::Range);
    let keyspace = database.keyspace("pairs").unwrap();
    assert_eq!(keyspace.table().schema().shard_key(), ShardKey::Range);
    assert_eq!(keyspace.get("a").unwrap().as_deref(), Some(&b"1"[..]));
    let other = KeyspaceOptions {
        shard_key: ShardKey::PrefixBytes(1),
    };
    assert!(matches!(
        database.keyspace_with("pairs", other),
        Err(Error::Schema(_))
    ));
}
