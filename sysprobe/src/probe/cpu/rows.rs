//! Rows as an engine encodes them: a key whose bytes sort as its values do, then the value.
//!
//! A signed integer is written big-endian with its sign turned; a string ends with 0x00 0x00 and has 0x00 0xff for each
//! byte 0x00 in it, so a shorter one sorts before those that it begins.

/// An order of a shop: what change streams are full of.
#[derive(Debug)]
pub(super) struct Row {
    shop: String,
    number: i64,
    customer: String,
    /// In cents.
    total: i128,
    paid: bool,
    at_us: i64,
    note: Option<String>,
}

impl Row {
    /// The row of a number; neighbours differ as they would in a table.
    pub(super) fn typical(number: u64) -> Self {
        let drawn = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let signed = i64::try_from(number).unwrap_or(i64::MAX);
        Row {
            shop: format!("shop-{:03}", drawn % 100),
            number: signed,
            customer: format!("customer {}", (drawn >> 20) % 100_000),
            total: i128::from(drawn >> 40),
            paid: drawn & 1 == 0,
            at_us: 1_700_000_000_000_000 + signed,
            note: drawn
                .is_multiple_of(4)
                .then(|| format!("leave at the door of number {}", drawn >> 52)),
        }
    }
}

/// Appends key and value.
pub(super) fn encode(row: &Row, out: &mut Vec<u8>) {
    encode_key(row, out);
    out.push(u8::from(row.note.is_some()) << 3 | u8::from(row.paid));
    out.extend_from_slice(&row.total.to_le_bytes());
    out.extend_from_slice(&row.at_us.to_le_bytes());
    for text in [Some(&row.customer), row.note.as_ref()]
        .into_iter()
        .flatten()
    {
        out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

fn encode_key(row: &Row, out: &mut Vec<u8>) {
    for byte in row.shop.bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&(row.number.cast_unsigned() ^ (1 << 63)).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(shop: &str, number: i64) -> Vec<u8> {
        let row = Row {
            shop: shop.into(),
            number,
            ..Row::typical(0)
        };
        let mut key = Vec::new();
        encode_key(&row, &mut key);
        key
    }

    #[test]
    fn keys_sort_as_their_values_do() {
        let shops = ["", "\0", "\0\0", "\0a", "a", "a\0", "a\0b", "aa", "b"];
        let numbers = [i64::MIN, -256, -1, 0, 1, 255, i64::MAX];
        let mut last = None;
        for shop in shops {
            for number in numbers {
                let key = Some(key(shop, number));
                assert!(last < key, "{shop:?} {number}");
                last = key;
            }
        }
    }

    #[test]
    fn rows_differ_and_have_all_their_columns() {
        let mut encoded: Vec<Vec<u8>> = Vec::new();
        for number in 0..100 {
            let mut out = Vec::new();
            encode(&Row::typical(number), &mut out);
            assert!(out.len() > 50, "{number}");
            encoded.push(out);
        }
        encoded.sort();
        encoded.dedup();
        assert_eq!(encoded.len(), 100);
    }
}
