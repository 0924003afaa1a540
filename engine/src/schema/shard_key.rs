//! How a table is divided into fragments, as its creator chooses it.

use crate::error::{Error, Result};

/// How a table is divided into fragments. Chosen when it is created; point reads and writes are the same with each.
///
/// ```
/// use moonshine_engine::{ColumnType, ShardKey, TableSchema};
/// let readings = TableSchema::builder("readings")
///     .column("sensor", ColumnType::Int64, false)
///     .column("at", ColumnType::Timestamp, false)
///     .column("value", ColumnType::Float64, false)
///     .primary_key(["sensor", "at"])
///     .shard_key(ShardKey::Prefix(1))
///     .build()?;
/// assert_eq!(readings.shard_key(), ShardKey::Prefix(1));
/// # Ok::<(), moonshine_engine::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ShardKey {
    /// By the hash of the whole primary key: writes spread evenly whatever the keys are, and an ordered scan reads every
    /// fragment.
    #[default]
    PrimaryKey,
    /// By the hash of so many first columns of the primary key. Rows that share them lie together, in order: a scan of
    /// a range among them reads one fragment. A fragment can't hold less than all rows that share them.
    Prefix(u32),
    /// By the hash of so many first bytes of the encoded key, or of all of it where it is shorter: as
    /// [`Prefix`](Self::Prefix), for keys that are one binary column.
    PrefixBytes(u32),
    /// By the key: each fragment holds a range of keys. An ordered scan reads the fragments it needs, one after the other.
    /// Keys that only ever grow all go to the last fragment, so such writes are not shared among fragments.
    Range,
}

impl ShardKey {
    /// Checks that a primary key of so many columns can be divided so.
    pub(crate) fn check(self, table_name: &str, key_columns: usize) -> Result<()> {
        let fits = match self {
            ShardKey::PrimaryKey | ShardKey::Range => true,
            ShardKey::Prefix(count) => (1..=key_columns).contains(&(count as usize)),
            ShardKey::PrefixBytes(count) => count > 0,
        };
        if fits {
            return Ok(());
        }
        Err(Error::Schema(format!(
            "table '{table_name}': a shard key of {self:?}, the primary key has {key_columns} columns"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_keys_that_can_not_be_are_refused() {
        for (shard_key, fits) in [
            (ShardKey::Prefix(0), false),
            (ShardKey::Prefix(3), false),
            (ShardKey::PrefixBytes(0), false),
            (ShardKey::Prefix(2), true),
            (ShardKey::Range, true),
        ] {
            assert_eq!(shard_key.check("t", 2).is_ok(), fits, "{shard_key:?}");
        }
    }
}
