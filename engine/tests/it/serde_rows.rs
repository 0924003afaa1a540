//! Rows as structs: every type of column there and back, and errors that name the field.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{
    ColumnType, Database, Error, NestedField, Options, Scan, TableSchema, Value,
};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Everything {
    number: i64,
    name: String,
    flag: bool,
    small: Option<i32>,
    real: f64,
    half: Option<f32>,
    amount: String,
    day: i32,
    at: i64,
    id: Option<Bytes>,
    bytes: Bytes,
}

/// Bytes as bytes, not as a sequence of numbers.
#[derive(Clone, Debug, PartialEq)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfBytes;
        impl Visitor<'_> for OfBytes {
            type Value = Bytes;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(OfBytes)
    }
}

fn schema() -> TableSchema {
    let amount = ColumnType::Decimal {
        precision: 10,
        scale: 2,
    };
    TableSchema::builder("everything")
        .column("name", ColumnType::Utf8, false)
        .column("number", ColumnType::Int64, false)
        .column("flag", ColumnType::Boolean, false)
        .column("small", ColumnType::Int32, true)
        .column("real", ColumnType::Float64, false)
        .column("half", ColumnType::Float32, true)
        .column("amount", amount, false)
        .column("day", ColumnType::Date, false)
        .column("at", ColumnType::TimestampTz, false)
        .column("id", ColumnType::Uuid, true)
        .column("bytes", ColumnType::Binary, false)
        .primary_key(["number", "name"])
        .build()
        .unwrap()
}

fn row(number: i64) -> Everything {
    Everything {
        number,
        name: format!("row {number}"),
        flag: number % 2 == 0,
        small: (number % 3 > 0).then_some(number as i32),
        real: number as f64 / 3.0,
        half: (number % 5 > 0).then_some(0.5),
        amount: format!("{number}.25"),
        day: number as i32,
        at: number * 1_000_000,
        id: (number % 2 > 0).then(|| Bytes(vec![number as u8; 16])),
        bytes: Bytes(vec![0, number as u8]),
    }
}

fn open() -> Database {
    let options = Options {
        io: Arc::new(SimulatedIo::new(40)),
        ..Options::unmeasured()
    };
    Database::open(Path::new("/db"), options).unwrap()
}

/// *Same*: what was written is read, value for value, by key and by a scan.
#[test]
fn structs_round_trip() {
    let database = open();
    let table = database.create_table(schema()).unwrap();
    let rows: Vec<_> = (0..50).map(row).collect();
    let mut transaction = database.begin();
    transaction.upsert_as(&table, &rows[0]).unwrap();
    transaction.insert_all_as(&table, &rows[1..]).unwrap();
    let key = |number: i64| [Value::Int64(number), Value::Utf8(format!("row {number}"))];
    let own: Option<Everything> = transaction.get_as(&table, &key(3)).unwrap();
    assert_eq!(own.as_ref(), Some(&rows[3]));
    transaction.commit().unwrap();
    let snapshot = database.snapshot();
    for row in &rows {
        let found = snapshot
            .get_as::<Everything>(&table, &key(row.number))
            .unwrap();
        assert_eq!(found.as_ref(), Some(row));
    }
    assert_eq!(
        snapshot.get_as::<Everything>(&table, &key(99)).unwrap(),
        None
    );
    let batches = snapshot.scan(&table, Scan::default()).unwrap();
    let mut scanned: Vec<Everything> = batches
        .flat_map(|batch| table.rows_as(&batch.unwrap()).unwrap())
        .collect();
    scanned.sort_by_key(|row| row.number);
    assert_eq!(scanned, rows);
}

/// What does not fit names table and field, and nothing of it is written.
#[test]
fn fields_that_do_not_fit_are_named() {
    #[derive(Serialize)]
    struct Wrong {
        number: i64,
        name: String,
    }
    #[derive(Debug, Deserialize)]
    struct Missing {
        #[allow(dead_code, reason = "it is never made")]
        unknown: i64,
    }
    let database = open();
    let schema = TableSchema::builder("named")
        .column("number", ColumnType::Int64, false)
        .column("name", ColumnType::Boolean, true)
        .primary_key(["number"])
        .build()
        .unwrap();
    let table = database.create_table(schema).unwrap();
    let mut transaction = database.begin();
    let rows = [1, 2].map(|number| Wrong {
        number,
        name: format!("row {number}"),
    });
    match transaction.upsert_all_as(&table, &rows) {
        Err(Error::Row(text)) => {
            assert!(text.contains("'named'") && text.contains("name"), "{text}")
        }
        other => panic!("{other:?}"),
    }
    assert!(transaction.is_empty());
    transaction
        .upsert(&table, vec![Value::Int64(1), Value::Null])
        .unwrap();
    match transaction.get_as::<Missing>(&table, &[Value::Int64(1)]) {
        Err(Error::Row(text)) => assert!(text.contains("unknown"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Address {
    street: Option<String>,
    numbers: Vec<i32>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Person {
    id: i64,
    home: Option<Address>,
    others: Vec<Address>,
    scores: BTreeMap<String, Option<f64>>,
}

/// *Same*, of vectors, structs and maps within structs.
#[test]
fn nested_structs_round_trip() {
    let database = open();
    let numbers = ColumnType::list(ColumnType::Int32, false);
    let address = ColumnType::structure([
        NestedField::new("street", ColumnType::Utf8, true),
        NestedField::new("numbers", numbers, false),
    ]);
    let scores = ColumnType::map(ColumnType::Utf8, ColumnType::Float64, true);
    let schema = TableSchema::builder("people")
        .column("id", ColumnType::Int64, false)
        .column("home", address, true)
        .column("others", ColumnType::list(address, false), false)
        .column("scores", scores, false)
        .primary_key(["id"]);
    let table = database.create_table(schema.build().unwrap()).unwrap();
    let address = |count: i32| Address {
        street: (count % 2 > 0).then(|| format!("street {count}")),
        numbers: (0..count).collect(),
    };
    let people: Vec<Person> = (0..20)
        .map(|id| Person {
            id: id.into(),
            home: (id % 3 > 0).then(|| address(id)),
            others: (0..id % 4).map(address).collect(),
            scores: (0..id % 5)
                .map(|n| (format!("{n}"), (n > 1).then_some(0.5)))
                .collect(),
        })
        .collect();
    let mut transaction = database.begin();
    transaction.upsert_all_as(&table, &people).unwrap();
    transaction.commit().unwrap();
    database.flush().unwrap();
    let snapshot = database.snapshot();
    for person in &people {
        let key = [Value::Int64(person.id)];
        let found: Option<Person> = snapshot.get_as(&table, &key).unwrap();
        assert_eq!(found.as_ref(), Some(person));
    }
    let batches = snapshot.scan(&table, Scan::default()).unwrap();
    let rows = batches.flat_map(|batch| table.rows_as::<Person>(&batch.unwrap()).unwrap());
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|person| person.id);
    assert_eq!(rows, people);
}
