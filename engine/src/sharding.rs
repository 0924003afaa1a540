//! Which fragment of a table a row lies in: by its key's hash, by the hash of the key's first part, or by the key itself.

use std::ops::Bound;
use std::sync::Arc;

use crate::codec::key::fixed_key_size_bytes;
use crate::codec::key::hash_key;
use crate::key_range::{KeyRange, after_prefix};
use crate::schema::{ShardKey, TableSchema};

/// A shard key, made ready to be applied to encoded keys.
#[derive(Clone, Debug, Default)]
pub(crate) enum Sharding {
    #[default]
    WholeKey,
    /// So many bytes, or all.
    Bytes(usize),
    /// Columns, some of which end where their bytes say.
    Columns(Arc<[KeyPart]>),
    /// By the key itself: there is no hash.
    Range,
}

/// A column of a key that is not the last one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyPart {
    /// So many bytes.
    Fixed(usize),
    /// Up to 00 00.
    Ended,
}

impl From<Option<usize>> for KeyPart {
    /// Of the bytes that each value takes, if all take as many.
    fn from(size_bytes: Option<usize>) -> Self {
        size_bytes.map_or(KeyPart::Ended, KeyPart::Fixed)
    }
}

impl KeyPart {
    /// Bytes of the column that a key's rest begins with; `None` if the rest ends before.
    pub(crate) fn len(self, rest: &[u8]) -> Option<usize> {
        match self {
            KeyPart::Fixed(size_bytes) => Some(size_bytes),
            KeyPart::Ended => ended_len(rest),
        }
    }
}

impl Sharding {
    pub(crate) fn new(schema: &TableSchema) -> Self {
        match schema.shard_key() {
            ShardKey::PrimaryKey => Sharding::WholeKey,
            ShardKey::PrefixBytes(count) => Sharding::Bytes(count as usize),
            ShardKey::Range => Sharding::Range,
            ShardKey::Prefix(count) if count as usize == schema.primary_key().len() => {
                Sharding::WholeKey
            }
            ShardKey::Prefix(count) => {
                let types = schema.key_columns().take(count as usize);
                let sizes: Vec<_> = types
                    .map(|column| fixed_key_size_bytes(column.column_type))
                    .collect();
                match sizes.iter().copied().sum::<Option<usize>>() {
                    Some(size_bytes) => Sharding::Bytes(size_bytes),
                    None => Sharding::Columns(sizes.into_iter().map(KeyPart::from).collect()),
                }
            }
        }
    }

    /// The hash that chooses the fragment of a key, whose own hash is given.
    pub(crate) fn hash(&self, key_hash: u64, key: &[u8]) -> u64 {
        match self {
            Sharding::WholeKey => key_hash,
            Sharding::Range => 0,
            Sharding::Bytes(_) | Sharding::Columns(_) => match self.prefix(key) {
                Some(prefix) if prefix.len() < key.len() => hash_key(prefix),
                _ => key_hash,
            },
        }
    }

    /// The hash that all keys of a range share, if they do.
    pub(crate) fn hash_of_range(&self, range: &KeyRange) -> Option<u64> {
        let (Bound::Included(start) | Bound::Excluded(start)) = &range.start else {
            return None;
        };
        if matches!(self, Sharding::WholeKey) {
            return range.only_key().map(hash_key);
        }
        let prefix = self.prefix(start)?;
        let share = match (after_prefix(prefix.to_vec()), &range.end) {
            // No key lies above those that start with it.
            (None, _) => true,
            (_, Bound::Unbounded) => false,
            (Some(above_all), Bound::Included(end)) => *end < above_all,
            (Some(above_all), Bound::Excluded(end)) => *end <= above_all,
        };
        share.then(|| hash_key(prefix))
    }

    /// The first part of a key; `None` if the key ends before, or if it is not by a part that keys are divided.
    fn prefix<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        match self {
            Sharding::WholeKey | Sharding::Range => None,
            Sharding::Bytes(count) => key.get(..*count),
            Sharding::Columns(parts) => {
                let mut end = 0;
                for part in parts.iter() {
                    end += part.len(key.get(end..)?)?;
                }
                key.get(..end)
            }
        }
    }
}

/// Bytes of a column up to the 00 00 that ends it; a 00 of its own has an FF behind it.
fn ended_len(key: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += key.get(at..)?.iter().position(|&byte| byte == 0)?;
        let next = *key.get(at + 1)?;
        at += 2;
        if next == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::key::encode_key;
    use crate::schema::ColumnType;
    use crate::value::Value;
    use crate::value::tests::{any_key_type, any_value};

    fn schema(types: &[ColumnType], shard_key: ShardKey) -> TableSchema {
        let mut builder = TableSchema::builder("t");
        let names: Vec<_> = (0..types.len()).map(|i| format!("c{i}")).collect();
        for (name, column_type) in names.iter().zip(types) {
            builder = builder.column(name, *column_type, false);
        }
        builder
            .primary_key(names)
            .shard_key(shard_key)
            .build()
            .unwrap()
    }

    proptest! {
        /// Keys that share the first columns share the hash, and no others but by chance; a range among them knows it.
        #[test]
        fn the_hash_is_of_the_first_columns(
            (types, count, a, b) in prop::collection::vec(any_key_type(), 2..4).prop_flat_map(|types| {
                let values = || types.iter().map(|t| any_value(*t)).collect::<Vec<_>>();
                (Just(types.clone()), 1..types.len(), values(), values())
            })
        ) {
            let schema = schema(&types, ShardKey::Prefix(count as u32));
            let sharding = Sharding::new(&schema);
            let encode = |values: &[Value]| {
                let mut key = Vec::new();
                encode_key(&schema, values.iter(), &mut key).unwrap();
                key
            };
            let hash = |key: &[u8]| sharding.hash(hash_key(key), key);
            let mixed: Vec<Value> = a[..count].iter().chain(&b[count..]).cloned().collect();
            let (key_a, key_b, key_mixed) = (encode(&a), encode(&b), encode(&mixed));
            prop_assert_eq!(hash(&key_a), hash(&key_mixed));
            let same = format!("{:?}", &a[..count]) == format!("{:?}", &b[..count]);
            prop_assert_eq!(hash(&key_a) == hash(&key_b), same);

            let (first, last) = if key_a < key_mixed { (key_a, key_mixed) } else { (key_mixed, key_a) };
            let expected = Some(hash(&first));
            let range = |end| KeyRange::of_bytes(Bound::Included(first.clone()), end);
            prop_assert_eq!(sharding.hash_of_range(&range(Bound::Included(last.clone()))), expected);
            prop_assert_eq!(sharding.hash_of_range(&range(Bound::Excluded(last))), expected);
            let ends = first[..4.min(first.len())].iter().any(|&byte| byte < 0xff);
            prop_assert!(!ends || sharding.hash_of_range(&range(Bound::Unbounded)).is_none());
            if !same && key_b > first {
                prop_assert_eq!(sharding.hash_of_range(&range(Bound::Included(key_b))), None);
            }
        }

        /// The keys that start with some bytes lie in one fragment if the bytes are as many as the shard key's.
        #[test]
        fn a_prefix_of_bytes_is_one_range(
            key in prop::collection::vec(any::<u8>(), 0..6), count in 1..5_u32,
        ) {
            let sharding = Sharding::new(&schema(&[ColumnType::Binary], ShardKey::PrefixBytes(count)));
            let end = after_prefix(key.clone()).map_or(Bound::Unbounded, Bound::Excluded);
            let found = sharding.hash_of_range(&KeyRange::of_bytes(Bound::Included(key.clone()), end));
            let expected = key.get(..count as usize).map(hash_key);
            prop_assert_eq!(found, expected);
            let longer: Vec<u8> = key.iter().copied().chain([7]).collect();
            if let Some(hash) = found {
                prop_assert_eq!(sharding.hash(hash_key(&longer), &longer), hash);
            }
        }
    }
}
