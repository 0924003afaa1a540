use super::*;

fn insert() -> Vec<u8> {
    let mut bytes = b"I\0\0\0\x07N\0\x04n".to_vec();
    bytes.extend(b"u");
    bytes.extend(b"t\0\0\0\x02ab");
    bytes.extend(b"b\0\0\0\x01\x01");
    bytes
}

fn relation() -> Vec<u8> {
    let mut bytes = b"R\0\0\0\x07public\0orders\0d\0\x02".to_vec();
    bytes.extend(b"\x01id\0\0\0\0\x14\xff\xff\xff\xff");
    bytes.extend(b"\0note\0\0\0\0\x19\xff\xff\xff\xff");
    bytes
}

fn update() -> Vec<u8> {
    let mut bytes = b"U\0\0\0\x07K\0\x01t\0\0\0\x011".to_vec();
    bytes.extend(b"N\0\x01t\0\0\0\x012");
    bytes
}

fn decode(bytes: &[u8]) -> Result<Change, Malformed> {
    Change::decode(Bytes::copy_from_slice(bytes))
}

#[test]
fn messages_decode() {
    let begin = [b"B".as_slice(), &0x16_B374_D848u64.to_be_bytes(), &[0; 12]].concat();
    assert_eq!(
        decode(&begin).unwrap(),
        Change::Begin {
            final_lsn: "16/B374D848".parse().unwrap()
        }
    );
    let commit = [b"C\0".as_slice(), &[0; 8], &5u64.to_be_bytes(), &[0; 8]].concat();
    assert_eq!(
        decode(&commit).unwrap(),
        Change::Commit {
            end_lsn: PgLsn::from(5)
        }
    );
    let new = vec![
        Cell::Null,
        Cell::Unchanged,
        Cell::Text(Bytes::from_static(b"ab")),
        Cell::Binary(Bytes::from_static(b"\x01")),
    ];
    assert_eq!(
        decode(&insert()).unwrap(),
        Change::Insert {
            relation_id: 7,
            new
        }
    );
    let Change::Relation(relation) = decode(&relation()).unwrap() else {
        panic!("no relation")
    };
    assert_eq!(
        (relation.schema.as_str(), relation.table.as_str()),
        ("public", "orders")
    );
    assert_eq!(relation.columns[1].name, "note");
    assert!(relation.columns[0].is_key && !relation.columns[1].is_key);
    let one = |text: &'static [u8]| vec![Cell::Text(Bytes::from_static(text))];
    assert_eq!(
        decode(&update()).unwrap(),
        Change::Update {
            relation_id: 7,
            old: Some(OldTuple::Key(one(b"1"))),
            new: one(b"2")
        }
    );
    let truncate = b"T\0\0\0\x02\0\0\0\0\x07\0\0\0\x08";
    assert_eq!(
        decode(truncate).unwrap(),
        Change::Truncate {
            relation_ids: vec![7, 8]
        }
    );
}

#[test]
fn every_shortened_message_is_refused() {
    for whole in [insert(), relation(), update()] {
        for size in 0..whole.len() {
            assert!(
                decode(&whole[..size]).is_err(),
                "{} of {} bytes",
                size,
                whole.len()
            );
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(decode(&longer).is_err());
    }
}

#[test]
fn every_flipped_byte_decodes_or_is_refused() {
    for whole in [insert(), relation(), update()] {
        for position in 0..whole.len() {
            for value in 0..=u8::MAX {
                let mut damaged = whole.clone();
                damaged[position] = value;
                // Neither outcome is wrong for a damaged byte, a panic is.
                drop(decode(&damaged));
            }
        }
    }
}

#[test]
fn a_refusal_names_the_message() {
    let error = decode(b"I\0\0\0\x07X").unwrap_err();
    assert_eq!(
        error.to_string(),
        "malformed pgoutput 'I' message: 'X' where 'N' belongs"
    );
    assert!(
        decode(b"?")
            .unwrap_err()
            .to_string()
            .contains("unknown kind")
    );
    assert!(
        decode(b"T\xff\xff\xff\xff\0")
            .unwrap_err()
            .to_string()
            .contains("too early")
    );
}

#[test]
fn envelopes_decode() {
    let keepalive = [b"k".as_slice(), &9u64.to_be_bytes(), &[0; 8], &[1]].concat();
    match Envelope::decode(keepalive.into()).unwrap() {
        Envelope::Keepalive {
            wal_end,
            reply_requested,
        } => {
            assert_eq!((wal_end, reply_requested), (PgLsn::from(9), true));
        }
        Envelope::Data(_) => panic!("not data"),
    }
    assert!(Envelope::decode(Bytes::from_static(b"w")).is_err());
    assert!(Envelope::decode(Bytes::from_static(b"")).is_err());
    assert!(Envelope::decode(Bytes::from_static(b"z")).is_err());
}

#[test]
fn a_status_update_has_the_layout_of_the_protocol() {
    let bytes = encode_status_update(PgLsn::from(3), PgLsn::from(2), 1, true);
    assert_eq!(bytes.len(), 34);
    assert_eq!(&bytes[..17], b"r\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x02");
    assert_eq!(bytes[33], 1);
}
