//! What `fuzz/` runs: any bytes as messages of the stream, and as values.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a property that does not hold is told by a panic, as in tests"
)]

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{Database, Options, TableSchema, Value, check_row};
use tokio_postgres::types::{PgLsn, Type};

use super::MirroredTable;
use super::apply::Applier;
use super::catalog::{SourceColumn, SourceTable};
use super::pgoutput::{Cell, Change, Envelope, OldTuple, Relation, RelationColumn, Tuple};
use super::types::PgType;

/// The types of the table that messages are about.
const TYPES: [Type; 8] = [
    Type::INT8,
    Type::TEXT,
    Type::NUMERIC,
    Type::BOOL,
    Type::TIMESTAMPTZ,
    Type::BYTEA,
    Type::DATE,
    Type::INT4_ARRAY,
];

/// Any bytes are a message or refused, and what one says is encoded to a message that says the same; to the same bytes where a
/// row is changed, since nothing is left out of those.
fn message(bytes: &[u8]) -> Option<Change> {
    let copied = Bytes::copy_from_slice(bytes);
    let _ = Envelope::decode(copied.clone());
    let change = Change::decode(copied).ok()?;
    let encoded = encode(&change);
    let is_row = matches!(bytes.first(), Some(b'I' | b'U' | b'D'));
    assert!(!is_row || encoded == bytes, "{change:?}");
    assert_eq!(Change::decode(encoded.into()).as_ref(), Ok(&change));
    Some(change)
}

/// Messages, each behind a length of two bytes, first one by one and then as a stream into a database.
pub fn pgoutput(mut bytes: &[u8]) {
    let mut changes = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
        let (one, rest) = rest.split_at(len);
        changes.extend(message(one));
        bytes = rest;
    }
    if changes.len() > 2 {
        stream(changes);
    }
}

fn stream(changes: Vec<Change>) {
    let options = Options {
        io: Arc::new(SimulatedIo::new(1)),
        memory_budget_bytes: 1 << 20,
        ..Options::unmeasured()
    };
    let database = Database::open("/db", options).unwrap();
    let source = table();
    let engine = database
        .create_table(source.engine_schema().unwrap())
        .unwrap();
    let mirrored = Arc::new(MirroredTable { source, engine });
    let start = PgLsn::from(1);
    let mut applier = Applier::new("s".into(), database.clone(), vec![mirrored], start);
    for change in changes {
        if applier.apply(change, 1).is_err() {
            break;
        }
    }
    let mut newest = None;
    for staged in applier.take_staged() {
        let seq = staged.transaction.submit().unwrap().wait().unwrap();
        assert!(newest < Some(seq));
        newest = Some(seq);
        applier.submitted(seq, staged.end);
    }
    assert!(applier.is_settled());
}

fn table() -> SourceTable {
    let columns = TYPES.iter().enumerate().map(|(i, found)| SourceColumn {
        name: format!("c{i}"),
        type_oid: found.oid(),
        type_modifier: -1,
        pg_type: PgType::of(found.oid(), -1).unwrap(),
        nullable: i > 0,
        comment: String::new(),
    });
    SourceTable {
        oid: 1,
        schema: "public".into(),
        name: "t".into(),
        is_partitioned: false,
        comment: String::new(),
        columns: columns.collect(),
        key: vec![0],
    }
}

/// A type's number and modifier, and the bytes of a value in both of PostgreSQL's formats: what decodes fits its column.
pub fn values(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<8>() else {
        return;
    };
    let [a, b, c, d, modifier @ ..] = *head;
    let oid = u32::from_le_bytes([a, b, c, d]);
    let Some(pg_type) = PgType::of(oid, i32::from_le_bytes(modifier)) else {
        return;
    };
    let schema = TableSchema::builder("t")
        .column("id", moonshine_engine::ColumnType::Int64, false)
        .column("value", pg_type.column_type(), true)
        .primary_key(["id"])
        .build()
        .unwrap();
    for decoded in [pg_type.decode_binary(rest), pg_type.decode_text(rest)] {
        let Ok(value) = decoded else { continue };
        let is_decimal = format!("{:?}", pg_type.column_type()).contains("Decimal");
        let fits = check_row(&schema, &[Value::Int64(1), value.clone()]);
        // Digits beyond a column's are refused with the row.
        assert!(
            fits.is_ok() || is_decimal,
            "{value:?} of {pg_type:?}: {fits:?}"
        );
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn put_tuple(out: &mut Vec<u8>, tuple: &Tuple) {
    out.put_u16(tuple.len() as u16);
    for cell in tuple {
        match cell {
            Cell::Null => out.put_u8(b'n'),
            Cell::Unchanged => out.put_u8(b'u'),
            Cell::Text(bytes) | Cell::Binary(bytes) => {
                out.put_u8(if matches!(cell, Cell::Text(_)) {
                    b't'
                } else {
                    b'b'
                });
                out.put_u32(bytes.len() as u32);
                out.extend_from_slice(bytes);
            }
        }
    }
}

fn put_old(out: &mut Vec<u8>, old: &OldTuple) {
    out.put_u8(if matches!(old, OldTuple::Key(_)) {
        b'K'
    } else {
        b'O'
    });
    put_tuple(out, old.tuple());
}

/// A message as a server encodes it.
fn encode(change: &Change) -> Vec<u8> {
    let mut out = Vec::new();
    match change {
        Change::Begin { final_lsn } => {
            out.put_u8(b'B');
            out.put_u64((*final_lsn).into());
            out.put_bytes(0, 12);
        }
        Change::Commit { end_lsn } => {
            out.put_u8(b'C');
            out.put_bytes(0, 9);
            out.put_u64((*end_lsn).into());
            out.put_bytes(0, 8);
        }
        Change::Relation(relation) => put_relation(&mut out, relation),
        Change::Insert { relation_id, new } => {
            out.put_u8(b'I');
            out.put_u32(*relation_id);
            out.put_u8(b'N');
            put_tuple(&mut out, new);
        }
        Change::Update {
            relation_id,
            old,
            new,
        } => {
            out.put_u8(b'U');
            out.put_u32(*relation_id);
            if let Some(old) = old {
                put_old(&mut out, old);
            }
            out.put_u8(b'N');
            put_tuple(&mut out, new);
        }
        Change::Delete { relation_id, old } => {
            out.put_u8(b'D');
            out.put_u32(*relation_id);
            put_old(&mut out, old);
        }
        Change::Truncate { relation_ids } => {
            out.put_u8(b'T');
            out.put_u32(relation_ids.len() as u32);
            out.put_u8(0);
            relation_ids.iter().for_each(|id| out.put_u32(*id));
        }
        Change::Other => out.put_u8(b'Y'),
    }
    out
}

fn put_relation(out: &mut Vec<u8>, relation: &Relation) {
    out.put_u8(b'R');
    out.put_u32(relation.id);
    put_text(out, &relation.schema);
    put_text(out, &relation.table);
    out.put_u8(relation.replica_identity);
    out.put_u16(relation.columns.len() as u16);
    for column in &relation.columns {
        out.put_u8(u8::from(column.is_key));
        put_text(out, &column.name);
        out.put_u32(column.type_oid);
        out.put_i32(column.type_modifier);
    }
}

/// How a server describes the table.
fn relation() -> Change {
    let columns = table().columns.into_iter().enumerate();
    Change::Relation(Relation {
        id: 7,
        schema: "public".into(),
        table: "t".into(),
        replica_identity: b'd',
        columns: columns
            .map(|(i, column)| RelationColumn {
                is_key: i == 0,
                name: column.name,
                type_oid: column.type_oid,
                type_modifier: column.type_modifier,
            })
            .collect(),
    })
}

fn row(id: &'static str) -> Tuple {
    let texts = [
        id,
        "ann",
        "-12.50",
        "t",
        "2024-02-29 12:00:00.5+02",
        "\\x00ff",
        "1969-12-31",
        "{1,NULL,3}",
    ];
    let cells = texts.map(|text| Cell::Text(Bytes::from_static(text.as_bytes())));
    cells.into()
}

/// Streams of transactions on the table, as a server sends them.
pub fn pgoutput_seeds() -> Vec<Vec<u8>> {
    let mut unchanged = row("2");
    unchanged[1] = Cell::Unchanged;
    unchanged[5] = Cell::Null;
    let mut key = vec![Cell::Null; 8];
    key[0] = Cell::Binary(Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 1]));
    let begin = |lsn: u64| Change::Begin {
        final_lsn: lsn.into(),
    };
    let commit = |lsn: u64| Change::Commit {
        end_lsn: lsn.into(),
    };
    let insert = |id| Change::Insert {
        relation_id: 7,
        new: row(id),
    };
    let update = Change::Update {
        relation_id: 7,
        old: Some(OldTuple::Full(row("2"))),
        new: unchanged,
    };
    let delete = Change::Delete {
        relation_id: 7,
        old: OldTuple::Key(key),
    };
    let truncate = Change::Truncate {
        relation_ids: vec![7],
    };
    let mut two = vec![begin(9), relation(), insert("1"), commit(10)];
    two.extend([begin(11), truncate, Change::Other, commit(12)]);
    let streams = [
        vec![begin(9), relation(), insert("1"), insert("2"), commit(10)],
        vec![
            begin(9),
            relation(),
            insert("2"),
            update,
            delete,
            commit(10),
        ],
        two,
    ];
    streams.iter().map(|stream| put_messages(stream)).collect()
}

/// Messages as they stand in an input.
fn put_messages(stream: &[Change]) -> Vec<u8> {
    let mut seed = Vec::new();
    for change in stream {
        let message = encode(change);
        seed.extend_from_slice(&(message.len() as u16).to_le_bytes());
        seed.extend_from_slice(&message);
    }
    seed
}

/// Values of each type in both formats.
pub fn value_seeds() -> Vec<Vec<u8>> {
    let cases: [(Type, i32, &[u8]); 20] = [
        (Type::BOOL, -1, b"t"),
        (Type::INT2, -1, b"-32768"),
        (Type::INT4, -1, b"\x80\0\0\0"),
        (Type::INT8, -1, b"9223372036854775807"),
        (Type::FLOAT4, -1, b"-Infinity"),
        (Type::FLOAT8, -1, b"1e-300"),
        (Type::NUMERIC, -1, b"\0\x03\0\x01\0\0\0\x02\0\x01\x09\x29\x1a\x2c"),
        (Type::NUMERIC, 4 + (10 << 16) + 2, b"-12.50"),
        (Type::NUMERIC, 4 + (10 << 16) + 2, b"\0\x02\0\0\x40\0\0\x02\0\x07\x01\xf4"),
        (Type::TEXT, -1, b"text"),
        (Type::BYTEA, -1, b"\\x00ff"),
        (Type::DATE, -1, b"0044-03-15 BC"),
        (Type::TIME, -1, b"23:59:59.999999"),
        (Type::TIMESTAMP, -1, b"294276-12-31 23:59:59.999999"),
        (Type::TIMESTAMPTZ, -1, b"2024-02-29 12:00:00.5+05:30"),
        (Type::UUID, -1, b"123e4567-e89b-12d3-a456-426614174000"),
        (Type::JSONB, -1, b"\x01{\"a\":1}"),
        (Type::INT4_ARRAY, -1, b"{1,NULL,-3}"),
        (Type::TEXT_ARRAY, -1, b"{\"a\\\"b\",c,NULL,\"NULL\"}"),
        (
            Type::INT4_ARRAY,
            -1,
            b"\0\0\0\x01\0\0\0\x01\0\0\0\x17\0\0\0\x02\0\0\0\x01\0\0\0\x04\0\0\0\x05\xff\xff\xff\xff",
        ),
    ];
    let encoded = cases.iter().map(|(found, modifier, bytes)| {
        let oid = found.oid().to_le_bytes();
        [&oid, &modifier.to_le_bytes(), *bytes].concat()
    });
    encoded.collect()
}
