//! Conditions on the primary key: what a scan with them gives, in every order and at every depth, and what it does not read.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{
    Batches, ColumnType, Database, Durability, Error, Isolation, KeyPredicate, Options, Row, Scan,
    ScanOrder, ShardKey, Table, TableSchema, Transaction, Value,
};
use proptest::prelude::*;

use crate::reading::rows_of;

const SHARD_KEYS: [ShardKey; 4] = [
    ShardKey::PrimaryKey,
    ShardKey::Prefix(1),
    ShardKey::Prefix(2),
    ShardKey::Range,
];

/// Columns are in another order than the key's: `tag`, `value`, `shop`, `line` by (`shop`, `line`, `tag`).
const TAG: usize = 0;
const SHOP: usize = 2;
const LINE: usize = 3;

fn open(io: &SimulatedIo, shard_key: ShardKey) -> (Database, Table) {
    let options = Options {
        io: Arc::new(io.clone()),
        profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
        generation_size_bytes_max: Some(32 << 10),
        fragment_size_bytes_max: Some(32 << 10),
        ..Options::unmeasured()
    };
    let database = Database::open(Path::new("/db"), options).unwrap();
    let schema = TableSchema::builder("rows")
        .column("tag", ColumnType::Binary, false)
        .column("value", ColumnType::Binary, true)
        .column("shop", ColumnType::Utf8, false)
        .column("line", ColumnType::Int32, false)
        .primary_key(["shop", "line", "tag"])
        .shard_key(shard_key)
        .build()
        .unwrap();
    let table = database.create_table(schema).unwrap();
    (database, table)
}

fn shop(i: i32) -> Value {
    // One of them is the beginning of another, one has a zero.
    Value::Utf8(["a", "ab", "b\0", "b", "", "z"][i.rem_euclid(6) as usize].into())
}

fn line(i: i32) -> Value {
    Value::Int32([i32::MIN, -2, -1, 0, 1, 2, 7, i32::MAX][i.rem_euclid(8) as usize])
}

fn tag(i: i32) -> Value {
    Value::Binary([&b""[..], b"\0", b"a", b"a\0", b"\xff\xff"][i.rem_euclid(5) as usize].to_vec())
}

fn key(i: i32) -> [Value; 3] {
    [shop(i), line(i / 6), tag(i / 48)]
}

const KEY_COUNT: i32 = 6 * 8 * 5;

/// Large enough that all of them fill several fragments.
fn row(i: i32, value: i64) -> Row {
    let [shop, line, tag] = key(i);
    let bytes = (0..50).flat_map(|n: i64| mixed(value, n).to_le_bytes());
    vec![tag, Value::Binary(bytes.collect()), shop, line]
}

/// Looks random, so that it is as large on disk.
fn mixed(value: i64, n: i64) -> i64 {
    (value ^ n.wrapping_mul(0x61c8_8646_80b5_83eb)).wrapping_mul(0x1d8e_4e27_c47d_124f)
}

/// Keys compare as their values do.
fn compare(a: &Value, b: &Value) -> std::cmp::Ordering {
    match (a, b) {
        (Value::Utf8(a), Value::Utf8(b)) => a.cmp(b),
        (Value::Int32(a), Value::Int32(b)) => a.cmp(b),
        (Value::Binary(a), Value::Binary(b)) => a.cmp(b),
        _ => panic!("{a:?} and {b:?} are of two types"),
    }
}

fn compare_keys(a: &[Value], b: &[Value]) -> std::cmp::Ordering {
    let of_columns = a.iter().zip(b).map(|(a, b)| compare(a, b));
    of_columns.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
}

fn key_of(row: &Row) -> Vec<Value> {
    vec![row[SHOP].clone(), row[LINE].clone(), row[TAG].clone()]
}

/// A bound of a key's first columns takes in all keys that start with it, or none.
fn is_between<T: ?Sized>(
    range: (Bound<&T>, Bound<&T>),
    order: impl Fn(&T) -> std::cmp::Ordering,
) -> bool {
    let starts = match range.0 {
        Bound::Unbounded => true,
        Bound::Included(start) => order(start).is_ge(),
        Bound::Excluded(start) => order(start).is_gt(),
    };
    let ends = match range.1 {
        Bound::Unbounded => true,
        Bound::Included(end) => order(end).is_le(),
        Bound::Excluded(end) => order(end).is_lt(),
    };
    starts && ends
}

fn as_refs<T: AsRef<[Value]>>(range: &(Bound<T>, Bound<T>)) -> (Bound<&[Value]>, Bound<&[Value]>) {
    (
        range.0.as_ref().map(AsRef::as_ref),
        range.1.as_ref().map(AsRef::as_ref),
    )
}

fn holds(predicate: &KeyPredicate, row: &Row) -> bool {
    match predicate {
        KeyPredicate::In { column, values } => values.contains(&row[*column]),
        KeyPredicate::Between { column, range } => {
            let range = (range.0.as_ref(), range.1.as_ref());
            is_between(range, |bound| compare(&row[*column], bound))
        }
        KeyPredicate::Ranges(ranges) => ranges
            .iter()
            .any(|range| is_between(as_refs(range), |bound| compare_keys(&key_of(row), bound))),
        other => panic!("{other:?} is unknown"),
    }
}

fn any_bound<T: std::fmt::Debug + Clone + 'static>(
    value: impl Strategy<Value = T> + Clone + 'static,
) -> impl Strategy<Value = Bound<T>> {
    prop_oneof![
        2 => value.clone().prop_map(Bound::Included),
        2 => value.prop_map(Bound::Excluded),
        1 => Just(Bound::Unbounded),
    ]
}

fn any_range() -> impl Strategy<Value = (Bound<Vec<Value>>, Bound<Vec<Value>>)> {
    let part = (0..KEY_COUNT, 1..4_usize).prop_map(|(i, columns)| key(i)[..columns].to_vec());
    (any_bound(part.clone()), any_bound(part))
}

fn any_predicate() -> impl Strategy<Value = KeyPredicate> {
    let column = prop_oneof![
        Just((SHOP, shop as fn(i32) -> Value)),
        Just((LINE, line as fn(i32) -> Value)),
        Just((TAG, tag as fn(i32) -> Value)),
    ];
    let of_column = column.prop_flat_map(|(column, value)| {
        let value = (0..48).prop_map(value);
        prop_oneof![
            prop::collection::vec(value.clone(), 0..4)
                .prop_map(move |values| KeyPredicate::In { column, values }),
            (any_bound(value.clone()), any_bound(value))
                .prop_map(move |range| KeyPredicate::Between { column, range }),
        ]
    });
    prop_oneof![
        5 => of_column,
        1 => prop::collection::vec(any_range(), 0..4).prop_map(KeyPredicate::Ranges),
    ]
}

fn any_scan() -> impl Strategy<Value = Scan> {
    let predicates = prop::collection::vec(any_predicate(), 0..4);
    let range = prop_oneof![
        2 => Just((Bound::Unbounded, Bound::Unbounded)),
        1 => any_range(),
    ];
    (predicates, range, 1..40_usize).prop_map(|(predicates, range, batch_rows)| Scan {
        predicates,
        range,
        batch_rows,
        ..Scan::default()
    })
}

fn given(batches: Batches, table: &Table) -> Vec<Row> {
    batches
        .flat_map(|batch| rows_of(&batch.unwrap(), table))
        .collect()
}

type Model = BTreeMap<i32, i64>;

#[derive(Clone, Debug)]
enum Write {
    Upsert(i32, i64),
    Delete(i32),
    /// All rows of the shop of a key.
    DeleteShop(i32),
}

fn any_write() -> impl Strategy<Value = Write> {
    prop_oneof![
        80 => (0..KEY_COUNT, any::<i64>()).prop_map(|(i, value)| Write::Upsert(i, value)),
        20 => (0..KEY_COUNT).prop_map(Write::Delete),
        1 => (0..KEY_COUNT).prop_map(Write::DeleteShop),
    ]
}

fn write(transaction: &mut Transaction, table: &Table, model: &mut Model, one: &Write) {
    match *one {
        Write::Upsert(i, value) => {
            transaction.upsert(table, row(i, value)).unwrap();
            model.insert(i, value);
        }
        Write::Delete(i) => {
            transaction.delete(table, &key(i)).unwrap();
            model.remove(&i);
        }
        Write::DeleteShop(i) => {
            let all = || Bound::Included(vec![shop(i)]);
            transaction.delete_range(table, &(all(), all())).unwrap();
            model.retain(|other, _| shop(*other) != shop(i));
        }
    }
}

/// What a scan is to give, in key order.
fn expected(model: &Model, scan: &Scan) -> Vec<Row> {
    let rows = model.iter().map(|(i, value)| row(*i, *value));
    let mut rows: Vec<Row> = rows
        .filter(|row| {
            is_between(as_refs(&scan.range), |bound| {
                compare_keys(&key_of(row), bound)
            }) && scan.predicates.iter().all(|one| holds(one, row))
        })
        .collect();
    rows.sort_by(|a, b| compare_keys(&key_of(a), &key_of(b)));
    rows
}

fn check(
    scan: &Scan,
    model: &Model,
    table: &Table,
    mut read: impl FnMut(Scan) -> Batches,
) -> Result<(), TestCaseError> {
    let mut read = |order| {
        let scan = Scan {
            order,
            ..scan.clone()
        };
        given(read(scan), table)
    };
    let expected = expected(model, scan);
    prop_assert_eq!(&read(ScanOrder::Ascending), &expected);
    let mut descending = read(ScanOrder::Descending);
    descending.reverse();
    prop_assert_eq!(&descending, &expected);
    let mut unordered = read(ScanOrder::Unordered);
    unordered.sort_by(|a, b| compare_keys(&key_of(a), &key_of(b)));
    prop_assert_eq!(&unordered, &expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// *Same*: a scan with conditions gives what a scan without them gives and the conditions let through, wherever the rows
    /// lie, at a snapshot and in a transaction that wrote some itself.
    #[test]
    fn a_scan_gives_what_its_conditions_let_through(
        shard_key in 0..SHARD_KEYS.len(),
        rounds in prop::collection::vec(
            (prop::collection::vec(any_write(), 1..200), 0..3),
            1..5,
        ),
        own in prop::collection::vec(any_write(), 0..10),
        scans in prop::collection::vec(any_scan(), 1..12),
    ) {
        let (database, table) = open(&SimulatedIo::new(1), SHARD_KEYS[shard_key]);
        let mut model = Model::new();
        for (writes, settled) in &rounds {
            let mut transaction = database.begin();
            for one in writes {
                write(&mut transaction, &table, &mut model, one);
            }
            transaction.commit().unwrap();
            if *settled > 0 {
                database.flush().unwrap();
            }
            if *settled > 1 {
                database.compact().unwrap();
            }
        }
        let snapshot = database.snapshot();
        let mut own_model = model.clone();
        let mut transaction = database.begin_optimistic(Isolation::Serializable);
        for one in &own {
            write(&mut transaction, &table, &mut own_model, one);
        }
        for scan in &scans {
            check(scan, &model, &table, |scan| snapshot.scan(&table, scan).unwrap())?;
            check(scan, &own_model, &table, |scan| transaction.scan(&table, scan).unwrap())?;
            let parts = snapshot.scan_parts(&table, scan, 3).unwrap();
            let mut rows: Vec<Row> = parts.into_iter().flat_map(|part| given(part, &table)).collect();
            rows.sort_by(|a, b| compare_keys(&key_of(a), &key_of(b)));
            prop_assert_eq!(rows, expected(&model, scan));
        }
        transaction.commit().unwrap();
    }
}

/// *Same*: where rows lie in several fragments, by whatever they are divided, each is found by its key, and with others that
/// lie elsewhere.
#[test]
fn conditions_find_the_rows_of_every_fragment() {
    for shard_key in SHARD_KEYS {
        let (database, table) = open(&SimulatedIo::new(1), shard_key);
        let mut model = Model::new();
        for round in 0..3 {
            let mut transaction = database.begin();
            for i in (0..KEY_COUNT).filter(|i| round == 0 || i % 5 == round) {
                let one = Write::Upsert(i, i64::from(i * 3 + round));
                write(&mut transaction, &table, &mut model, &one);
            }
            transaction.commit().unwrap();
            database.flush().unwrap();
            if round < 2 {
                database.compact().unwrap();
            }
        }
        let fragments = &database.statistics().tables[0].fragments;
        assert!(fragments.len() > 2, "{shard_key:?}: {fragments:?}");
        let snapshot = database.snapshot();
        for i in 0..KEY_COUNT {
            let both = |value: fn(i32) -> Value, one, other| vec![value(one), value(other)];
            let other = i * 7 + 3;
            let predicates = [
                (SHOP, both(shop, i, other)),
                (LINE, both(line, i / 6, other / 6)),
                (TAG, both(tag, i / 48, other / 48)),
            ];
            let predicates = predicates.map(|(column, values)| KeyPredicate::In { column, values });
            for told in 1..=3 {
                let scan = Scan {
                    predicates: predicates[..told].to_vec(),
                    ..Scan::default()
                };
                let read = |scan| snapshot.scan(&table, scan).unwrap();
                check(&scan, &model, &table, read).unwrap();
            }
        }
    }
}

/// *Ordered*: a serializable transaction counts as read what its conditions let through, and what it found nothing in.
#[test]
fn what_conditions_rule_in_counts_as_read() {
    for order in [ScanOrder::Ascending, ScanOrder::Unordered] {
        for (i, is_refused) in [(1, true), (0, false), (5, false)] {
            let (database, table) = open(&SimulatedIo::new(1), ShardKey::PrimaryKey);
            let mut reader = database.begin_optimistic(Isolation::Serializable);
            let scan = Scan {
                order,
                predicates: vec![KeyPredicate::In {
                    column: SHOP,
                    values: vec![shop(1)],
                }],
                ..Scan::default()
            };
            assert_eq!(reader.scan(&table, scan).unwrap().count(), 0);
            reader.upsert(&table, row(47, 0)).unwrap();
            let mut writer = database.begin();
            writer.upsert(&table, row(i, 1)).unwrap();
            writer.commit().unwrap();
            let committed = reader.commit();
            assert_eq!(matches!(committed, Err(Error::Conflict { .. })), is_refused);
        }
    }
}

#[test]
fn conditions_that_do_not_fit_are_refused() {
    let (database, table) = open(&SimulatedIo::new(1), ShardKey::PrimaryKey);
    let snapshot = database.snapshot();
    let scan = |predicate| {
        let scan = Scan {
            predicates: vec![predicate],
            ..Scan::default()
        };
        snapshot.scan(&table, scan).map(Iterator::count)
    };
    for column in [1, 4] {
        let values = vec![Value::Int64(1)];
        let refused = scan(KeyPredicate::In { column, values });
        assert!(matches!(refused, Err(Error::Usage(text)) if text.contains("'rows'")));
    }
    for value in [Value::Null, Value::Int64(1)] {
        let range = (Bound::Included(value), Bound::Unbounded);
        let refused = scan(KeyPredicate::Between {
            column: LINE,
            range,
        });
        assert!(matches!(refused, Err(Error::Row(text)) if text.contains("'line'")));
    }
    let range = (Bound::Included(vec![]), Bound::Unbounded);
    let refused = scan(KeyPredicate::Ranges(vec![range]));
    assert!(matches!(refused, Err(Error::Row(_))));
}

const DAYS: i32 = 40;
const IDS: i64 = 1000;

/// Rows of a key of a day and a number, settled and then opened anew, so that nothing is in memory.
fn days(shard_key: ShardKey, io: &SimulatedIo) -> (Database, Table) {
    let open = || {
        let options = Options {
            io: Arc::new(io.clone()),
            profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
            fragment_size_bytes_max: Some(256 << 10),
            ..Options::unmeasured()
        };
        let database = Database::open(Path::new("/db"), options).unwrap();
        let schema = TableSchema::builder("events")
            .column("day", ColumnType::Date, false)
            .column("id", ColumnType::Int64, false)
            .column("text", ColumnType::Utf8, false)
            .primary_key(["day", "id"])
            .shard_key(shard_key);
        let table = database.create_table(schema.build().unwrap()).unwrap();
        (database, table)
    };
    let (database, table) = open();
    for day in 0..DAYS {
        let mut transaction = database.begin();
        transaction.set_durability(Durability::Buffered);
        for id in 0..IDS {
            let text = Value::Utf8(format!("the event {id} of day {day}"));
            let row = vec![Value::Date(day), Value::Int64(id), text];
            transaction.upsert(&table, row).unwrap();
        }
        transaction.commit().unwrap();
    }
    database.flush().unwrap();
    database.compact().unwrap();
    drop((database, table));
    open()
}

/// Pages that conditions rule out are not read: neither by the first column of the key nor, where those of a page begin with
/// the same, by the next one.
#[test]
fn what_is_ruled_out_is_not_read() {
    let one_day = KeyPredicate::In {
        column: 0,
        values: vec![Value::Date(7)],
    };
    let two_days = KeyPredicate::In {
        column: 0,
        values: vec![Value::Date(33), Value::Date(2)],
    };
    let ids = KeyPredicate::Between {
        column: 1,
        range: (Bound::Included(Value::Int64(990)), Bound::Unbounded),
    };
    let some_ids = KeyPredicate::In {
        column: 1,
        values: vec![Value::Int64(3), Value::Int64(500)],
    };
    // Conditions, rows, and the part of all bytes that may be read.
    let cases = [
        (vec![one_day.clone()], IDS, 0.15),
        (vec![two_days], 2 * IDS, 0.2),
        (vec![one_day.clone(), ids.clone()], 10, 0.05),
        (vec![ids], 10 * i64::from(DAYS), 0.5),
        (vec![one_day, some_ids], 2, 0.1),
    ];
    // Each in one leaf of many.
    let keys = vec![
        KeyPredicate::In {
            column: 0,
            values: (0..4).map(|n| Value::Date(n * 11)).collect(),
        },
        KeyPredicate::In {
            column: 1,
            values: (0..3).map(|n| Value::Int64(n * 399)).collect(),
        },
    ];
    let keys = [(keys, 12, 0.08)];
    let by_shard_key = [
        (ShardKey::Prefix(1), &cases[..]),
        (ShardKey::Range, &cases[..]),
        (ShardKey::PrimaryKey, &keys[..]),
    ];
    for (shard_key, cases) in by_shard_key {
        let io = SimulatedIo::new(1);
        let read_bytes = |predicates: Vec<KeyPredicate>, order, rows: i64| {
            let (database, table) = days(shard_key, &io);
            let before = database.statistics().reads.file_bytes;
            let scan = Scan {
                predicates,
                order,
                ..Scan::default()
            };
            let batches = database.snapshot().scan(&table, scan).unwrap();
            let found: usize = batches.map(|batch| batch.unwrap().num_rows()).sum();
            assert_eq!(found as i64, rows);
            (database.statistics().reads.file_bytes - before) as f64
        };
        for order in [
            ScanOrder::Unordered,
            ScanOrder::Ascending,
            ScanOrder::Descending,
        ] {
            let all = read_bytes(Vec::new(), order, IDS * i64::from(DAYS));
            for (predicates, rows, part) in cases {
                let read = read_bytes(predicates.clone(), order, *rows);
                assert!(
                    read < all * part,
                    "{shard_key:?} {order:?} {predicates:?}: {read} bytes of {all}"
                );
            }
        }
    }
}
