//! What a transaction of the model writes, and what becomes of a state by it.

use std::collections::BTreeSet;

use moonshine_engine::{Table, Transaction};
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
}

pub(super) fn any_write() -> impl Strategy<Value = Write> {
    let table = 0..TABLE_COUNT;
    let k = 0..KEY_COUNT;
    prop_oneof![
        16 => (table.clone(), k.clone(), any::<u8>()).prop_map(|(t, k, v)| Write::Upsert(t, k, v)),
        1 => (table.clone(), k.clone(), any::<u8>()).prop_map(|(t, k, v)| Write::Insert(t, k, v)),
        8 => (table.clone(), k).prop_map(|(t, k)| Write::Delete(t, k)),
        2 => table.prop_map(Write::Truncate),
    ]
}

impl Write {
    pub(super) fn make(&self, transaction: &mut Transaction, tables: &[Table]) {
        let made = match *self {
            Write::Upsert(t, k, v) => transaction.upsert(&tables[t], row(t, k, v)),
            Write::Insert(t, k, v) => transaction.insert(&tables[t], row(t, k, v)),
            Write::Delete(t, k) => transaction.delete(&tables[t], &key(t, k)),
            Write::Truncate(t) => transaction.truncate(&tables[t]),
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
        }
    }
    broken.is_empty()
}
