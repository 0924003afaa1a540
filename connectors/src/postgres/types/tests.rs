use moonshine_engine::{ColumnType, Value};

use super::numeric::Numeric;
use super::*;

fn numeric_bytes(weight: i16, sign: u16, fraction_digits: u16, groups: &[u16]) -> Vec<u8> {
    let mut bytes = u16::try_from(groups.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(weight.to_be_bytes());
    bytes.extend(sign.to_be_bytes());
    bytes.extend(fraction_digits.to_be_bytes());
    groups
        .iter()
        .for_each(|group| bytes.extend(group.to_be_bytes()));
    bytes
}

#[test]
fn numeric_type_modifiers_give_precision_and_scale() {
    let modifier = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7ff)) + 4;
    let of = |modifier| PgType::of(Type::NUMERIC.oid(), modifier).unwrap();
    assert_eq!(
        of(modifier(10, 2)),
        PgType::Decimal {
            precision: 10,
            scale: 2
        }
    );
    assert_eq!(
        of(modifier(38, 38)),
        PgType::Decimal {
            precision: 38,
            scale: 38
        }
    );
    assert_eq!(of(-1), PgType::NumericText);
    assert_eq!(of(modifier(39, 0)), PgType::NumericText);
    assert_eq!(of(modifier(3, -2)), PgType::NumericText);
    assert_eq!(of(modifier(2, 5)), PgType::NumericText);
}

#[test]
fn types_without_a_mapping_are_refused() {
    assert_eq!(PgType::of(Type::POINT.oid(), -1), None);
    assert_eq!(PgType::of(Type::INTERVAL_ARRAY.oid(), -1), None);
    assert_eq!(PgType::of(1_000_000, -1), None);
    assert_eq!(
        PgType::of(Type::BPCHAR.oid(), 14).unwrap().column_type(),
        ColumnType::Utf8
    );
}

#[test]
fn numerics_read_exactly() {
    let cases: [(&[u8], &str, Option<i128>); 7] = [
        (
            &numeric_bytes(1, 0, 2, &[1, 2345, 6700]),
            "12345.67",
            Some(1_234_567),
        ),
        (&numeric_bytes(0, 0x4000, 2, &[7, 500]), "-7.05", Some(-705)),
        (&numeric_bytes(-1, 0, 2, &[100]), "0.01", Some(1)),
        (&numeric_bytes(0, 0, 2, &[]), "0.00", Some(0)),
        (
            &numeric_bytes(2, 0, 0, &[5]),
            "500000000",
            Some(50_000_000_000),
        ),
        (&numeric_bytes(-2, 0, 8, &[1]), "0.00000001", None),
        (&numeric_bytes(0, 0xC000, 0, &[]), "NaN", None),
    ];
    for (bytes, text, unscaled) in cases {
        let numeric = Numeric::from_binary(bytes).unwrap();
        assert_eq!(numeric.to_text(), text);
        assert_eq!(numeric.unscaled(2).ok(), unscaled, "{text}");
        assert_eq!(
            numeric::unscaled_from_text(text, 2).ok(),
            unscaled,
            "{text}"
        );
    }
}

#[test]
fn malformed_numerics_are_refused() {
    let whole = numeric_bytes(1, 0, 2, &[1, 2345]);
    for size in 0..whole.len() {
        assert!(Numeric::from_binary(&whole[..size]).is_err());
    }
    assert!(Numeric::from_binary(&numeric_bytes(0, 0, 0, &[10_000])).is_err());
    assert!(Numeric::from_binary(&numeric_bytes(0, 0x1234, 0, &[1])).is_err());
    assert!(
        Numeric::from_binary(&numeric_bytes(i16::MAX, 0, 0, &[1]))
            .unwrap()
            .unscaled(0)
            .is_err()
    );
    for text in ["", "-", "1e5", "1.2.3", "١", ".5"] {
        assert!(numeric::unscaled_from_text(text, 2).is_err(), "{text}");
    }
}

#[test]
fn both_forms_of_a_time_agree() {
    let timestamp = |text: &str| PgType::Timestamp.decode_text(text.as_bytes());
    let zoned = |text: &str| PgType::TimestampTz.decode_text(text.as_bytes());
    assert_eq!(
        timestamp("1970-01-01 00:00:00.000001").unwrap(),
        Value::Timestamp(1)
    );
    assert_eq!(
        PgType::Timestamp
            .decode_binary(&0i64.to_be_bytes())
            .unwrap(),
        timestamp("2000-01-01 00:00:00").unwrap()
    );
    assert_eq!(
        zoned("2000-01-01 01:30:00+01:30").unwrap(),
        Value::TimestampTz(POSTGRES_EPOCH_US)
    );
    assert_eq!(
        zoned("1999-12-31 23:59:00.5-00:01").unwrap(),
        Value::TimestampTz(POSTGRES_EPOCH_US + 500_000)
    );
    // The first moment that PostgreSQL knows: Julian day 0.
    let first_us = -211_813_488_000_000_000i64;
    assert_eq!(
        PgType::Timestamp
            .decode_binary(&first_us.to_be_bytes())
            .unwrap(),
        timestamp("4714-11-24 00:00:00 BC").unwrap()
    );
    assert_eq!(
        PgType::Date.decode_text(b"5874897-12-31").unwrap(),
        Value::Date(2_145_042_905)
    );
    assert_eq!(
        PgType::Date.decode_binary(&59i32.to_be_bytes()),
        PgType::Date.decode_text(b"2000-02-29")
    );
}

#[test]
fn what_no_column_can_hold_is_refused_with_its_reason() {
    let refusal = |pg_type: PgType, text: &str| pg_type.decode_text(text.as_bytes()).unwrap_err();
    for pg_type in [PgType::Date, PgType::Timestamp, PgType::TimestampTz] {
        assert!(refusal(pg_type.clone(), "infinity").contains("infinite"));
        assert!(refusal(pg_type, "-infinity").contains("infinite"));
    }
    for bound in [i64::MIN, i64::MAX] {
        assert!(
            PgType::Timestamp
                .decode_binary(&bound.to_be_bytes())
                .unwrap_err()
                .contains("infinite")
        );
    }
    assert!(
        PgType::Date
            .decode_binary(&i32::MAX.to_be_bytes())
            .unwrap_err()
            .contains("infinite")
    );
    assert!(
        PgType::Timestamp
            .decode_binary(&(i64::MAX - 1).to_be_bytes())
            .unwrap_err()
            .contains("294246")
    );
    assert!(refusal(PgType::Time, "24:00:00").contains("24:00:00"));
    assert!(refusal(PgType::Time, "12:60:00").contains("12:60:00"));
    assert!(refusal(PgType::Int2, "40000").contains("40000"));
    assert!(refusal(PgType::Uuid, "12").contains("uuid"));
    assert!(refusal(PgType::Bytea, "\\x1").contains("hex"));
    assert!(
        refusal(
            PgType::Decimal {
                precision: 4,
                scale: 2
            },
            "NaN"
        )
        .contains("NaN")
    );
}

#[test]
fn values_of_a_wrong_size_are_refused() {
    let types = [
        PgType::Bool,
        PgType::Int2,
        PgType::Int4,
        PgType::Int8,
        PgType::Float4,
        PgType::Float8,
        PgType::NumericText,
        PgType::Date,
        PgType::Time,
        PgType::Timestamp,
        PgType::TimestampTz,
        PgType::Uuid,
        PgType::Jsonb,
    ];
    for pg_type in types {
        assert!(pg_type.decode_binary(b"").is_err(), "{pg_type:?}");
        assert!(pg_type.decode_binary(&[7; 40]).is_err(), "{pg_type:?}");
    }
}

#[test]
fn arrays_that_are_damaged_are_refused() {
    let array = PgType::of(Type::INT4_ARRAY.oid(), -1).unwrap();
    let words = [1, 1, 23, 2, 1, 4, 7, -1];
    let whole: Vec<u8> = words
        .iter()
        .flat_map(|word: &i32| word.to_be_bytes())
        .collect();
    let expected = Value::List(vec![Value::Int32(7), Value::Null]);
    assert_eq!(array.decode_binary(&whole), Ok(expected.clone()));
    for size in 0..whole.len() {
        assert!(array.decode_binary(&whole[..size]).is_err(), "{size} bytes");
    }
    let longer = [whole.as_slice(), &[0]].concat();
    assert!(array.decode_binary(&longer).is_err());
    assert_eq!(array.decode_text(b"{7,NULL}"), Ok(expected));
    for text in ["", "{", "7", "{7", "{7,}", "{\"7}", "{\"7\"8}", "{7}8"] {
        assert!(array.decode_text(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(PgType::of(Type::INT2_VECTOR.oid(), -1), None);
}

/// Invariant 7, "bounded": what a few bytes stand for takes many in memory, so it is counted before.
#[test]
fn arrays_of_too_many_elements_are_refused() {
    let array = PgType::of(Type::BOOL_ARRAY.oid(), -1).unwrap();
    let most = i32::try_from(array::ELEMENT_COUNT_MAX).unwrap();
    for (count, is_taken) in [(most, true), (most + 1, false)] {
        let header = [1, 1, 16, count, 1];
        let words = header.into_iter().chain((0..count).map(|_| -1));
        let bytes: Vec<u8> = words.flat_map(i32::to_be_bytes).collect();
        let elements: Vec<&str> = (0..count).map(|_| "t").collect();
        let text = format!("{{{}}}", elements.join(","));
        for read in [
            array.decode_binary(&bytes),
            array.decode_text(text.as_bytes()),
        ] {
            match read {
                Ok(Value::List(values)) => assert!(is_taken && values.len() == count as usize),
                Ok(other) => panic!("{other:?}"),
                Err(error) => assert!(!is_taken && error.contains("more than"), "{error}"),
            }
        }
    }
}

/// Of text, no element's own form refuses what is left over.
#[test]
fn damaged_arrays_of_text_are_refused() {
    let array = PgType::of(Type::TEXT_ARRAY.oid(), -1).unwrap();
    let bytes = |words: &[i32]| -> Vec<u8> {
        let words = words.iter().flat_map(|word| word.to_be_bytes());
        words.collect()
    };
    let none = Ok(Value::List(Vec::new()));
    assert_eq!(array.decode_binary(&bytes(&[0, 0, 25])), none);
    for words in [
        [0, 0, 25, 0].as_slice(),
        &[1, 0, 25, -1, 1],
        &[1, 0, 25, i32::MIN, 1],
        &[1, 0, 25, 1, 1, -2],
        &[1, 0, 25, i32::MAX, 1],
    ] {
        let refused = array.decode_binary(&bytes(words));
        assert!(refused.is_err(), "{words:?}: {refused:?}");
    }
    let text = |text: &str| Value::Utf8(text.into());
    let fine = r#"{a b,"","a\"b","{7}8",NULL,"NULL"}"#;
    let values = ["a b", "", "a\"b", "{7}8"].map(text).into_iter();
    let values = values.chain([Value::Null, text("NULL")]).collect();
    assert_eq!(array.decode_text(fine.as_bytes()), Ok(Value::List(values)));
    assert_eq!(array.decode_text(b"{}"), none);
    for damaged in [
        "{a,}",
        "{,a}",
        "{a,,b}",
        "{,}",
        "{a\"b}",
        "{7}8}",
        "{a{b}",
        "{a\\b}",
        "{\"a\"b}",
        "{\"a\\\"}",
    ] {
        let refused = array.decode_text(damaged.as_bytes());
        assert!(refused.is_err(), "{damaged}: {refused:?}");
    }
}
