//! What a transaction of the model writes, and what becomes of a state by it.

use std::collections::BTreeSet;
use std::ops::Bound;

use moonshine_engine::{Row, Table, Transaction};
use proptest::prelude::*;

use super::{State, TABLE_COUNT, key, row};
use crate::reading::sort_key;

/// Keys of the model are made of numbers below this.
pub(super) const KEY_COUNT: u8 = 20;

#[derive(Clone, Debug)]
pub(super) enum Write {
    Upsert(usize, u8, u8),
    /// Only if the key does not exist.
    Insert(usize, u8, u8),
    Delete(usize, u8),
    Truncate(usize),
    /// From one key to another, whichever is less; or all that have the first column of the first.
    DeleteRange(usize, u8, u8, bool),
}

type Range = (Bound<Row>, Bound<Row>);

/// The range of keys that is deleted.
fn range_of(t: usize, from: u8, to: u8, is_prefix: bool) -> Range {
    if is_prefix {
        let prefix = vec![key(t, from)[0].clone()];
        return (Bound::Included(prefix.clone()), Bound::Included(prefix));
    }
    let (first, last) = ordered(t, from, to);
    (
        Bound::Included(key(t, first)),
        Bound::Included(key(t, last)),
    )
}

fn ordered(t: usize, from: u8, to: u8) -> (u8, u8) {
    if sort_key(&key(t, from)) <= sort_key(&key(t, to)) {
        (from, to)
    } else {
        (to, from)
    }
}

fn is_deleted(t: usize, (from, to, is_prefix): (u8, u8, bool), key_: &str) -> bool {
    if is_prefix {
        let first = &key(t, from)[0];
        return (0..KEY_COUNT).any(|k| key(t, k)[0] == *first && sort_key(&key(t, k)) == key_);
    }
    let (first, last) = ordered(t, from, to);
    *sort_key(&key(t, first)) <= *key_ && *key_ <= *sort_key(&key(t, last))
}

pub(super) fn any_write() -> impl Strategy<Value = Write> {
    let table = 0..TABLE_COUNT;
    let k = 0..KEY_COUNT;
    prop_oneof![
        16 => (table.clone(), k.clone(), any::<u8>()).prop_map(|(t, k, v)| Write::Upsert(t, k, v)),
        1 => (table.clone(), k.clone(), any::<u8>()).prop_map(|(t, k, v)| Write::Insert(t, k, v)),
        8 => (table.clone(), k).prop_map(|(t, k)| Write::Delete(t, k)),
        2 => table.clone().prop_map(Write::Truncate),
        4 => (table, 0..KEY_COUNT, 0..KEY_COUNT, any::<bool>())
            .prop_map(|(t, from, to, is_prefix)| Write::DeleteRange(t, from, to, is_prefix)),
    ]
}

impl Write {
    pub(super) fn make(&self, transaction: &mut Transaction, tables: &[Table]) {
        let made = match *self {
            Write::Upsert(t, k, v) => transaction.upsert(&tables[t], row(t, k, v)),
            Write::Insert(t, k, v) => transaction.insert(&tables[t], row(t, k, v)),
            Write::Delete(t, k) => transaction.delete(&tables[t], &key(t, k)),
            Write::Truncate(t) => transaction.truncate(&tables[t]),
            Write::DeleteRange(t, from, to, is_prefix) => {
                transaction.delete_range(&tables[t], &range_of(t, from, to, is_prefix))
            }
        };
        made.unwrap();
    }

    /// Whether it is about a key, whether that exists or not.
    pub(super) fn touches(&self, table: usize, key_: &str) -> bool {
        match *self {
            Write::Upsert(t, k, _) | Write::Insert(t, k, _) | Write::Delete(t, k) => {
                t == table && sort_key(&key(t, k)) == key_
            }
            Write::Truncate(t) => t == table,
            Write::DeleteRange(t, from, to, is_prefix) => {
                t == table && is_deleted(t, (from, to, is_prefix), key_)
            }
        }
    }
}

/// Moves a state on; false if a row is inserted that exists.
pub(super) fn replay(writes: &[Write], state: &mut State) -> bool {
    let mut broken = BTreeSet::new();
    for write in writes {
        match *write {
            Write::Upsert(t, k, v) => {
                state[t].insert(sort_key(&key(t, k)), row(t, k, v));
            }
            Write::Insert(t, k, v) => {
                let key = sort_key(&key(t, k));
                if state[t].insert(key.clone(), row(t, k, v)).is_some() {
                    broken.insert((t, key));
                }
            }
            Write::Delete(t, k) => {
                state[t].remove(&sort_key(&key(t, k)));
            }
            Write::Truncate(t) => {
                // What the transaction inserted before is as if it had never been.
                broken.retain(|(table, _)| *table != t);
                state[t].clear();
            }
            Write::DeleteRange(t, from, to, is_prefix) => {
                let gone = |key: &str| is_deleted(t, (from, to, is_prefix), key);
                broken.retain(|(table, key)| *table != t || !gone(key));
                state[t].retain(|key, _| !gone(key));
            }
        }
    }
    broken.is_empty()
}
