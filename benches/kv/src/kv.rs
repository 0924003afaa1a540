//! What every engine must do here: one trait, one adapter an engine.
//!
//! The trait asks for what each engine's users write anyway. Values are handed to a closure as borrowed bytes, so an
//! engine that can read without a copy does, and calls are static, so an adapter costs nothing of its own.

use std::path::Path;

use crate::data::KEY_SIZE_BYTES;
use crate::settings::Memory;

/// Any error ends a step; the runner reports it and goes on with the next engine.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What has happened when a write returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It survives a power cut.
    Synced,
    /// It is on its way: the next sync makes it durable, a power cut before that may take the newest writes.
    ///
    /// RocksDB, fjall and LMDB have handed it to the system, so that it survives the end of the process; redb and sled
    /// know nothing between memory and a sync, so there it does not.
    Buffered,
}

/// A database with one ordered map of keys to values.
pub(crate) trait Kv: Sized + Sync {
    type Reader<'a>: Reader
    where
        Self: 'a;

    /// Opens the database in a folder, or makes one.
    fn open(folder: &Path, memory: Memory) -> Result<Self>;

    /// Writes one row. It is readable on return.
    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()>;

    /// Writes and deletes rows in one transaction.
    ///
    /// A `Buffered` one may be readable later than on return, but is after [`sync`](Self::sync).
    fn write(
        &self,
        durability: Durability,
        fill: impl FnOnce(&mut dyn Sink) -> Result<()>,
    ) -> Result<()>;

    /// Loads rows into an empty map of their own by the engine's way for that, durably; `false` where the adapter has none.
    fn bulk_load(&self, _fill: impl FnOnce(&mut dyn Sink) -> Result<()>) -> Result<bool> {
        Ok(false)
    }

    /// How many rows a look at all of that map finds.
    fn bulk_loaded_len(&self) -> Result<u64> {
        Ok(0)
    }

    /// Makes everything durable that was written.
    fn sync(&self) -> Result<()>;

    /// Writes out what the engine holds in memory and waits for the background work that it has decided on.
    ///
    /// It asks for no extra compaction: the state is what a user has after a pause.
    fn settle(&self) -> Result<()> {
        self.sync()
    }

    /// Compacts as far as the engine can; `false` if it has no such function.
    fn compact(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// A view of at least all that was readable before the call.
    fn reader(&self) -> Result<Self::Reader<'_>>;
}

/// The writes of one transaction.
pub(crate) trait Sink {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;
    fn delete(&mut self, key: &[u8]) -> Result<()>;
}

/// Reads on one thread.
pub(crate) trait Reader {
    /// Shows the value of a key, if there is one.
    fn get(&mut self, key: &[u8], found: impl FnMut(&[u8])) -> Result<bool>;

    /// Shows the values of those of many keys that there are, each with its position in the list.
    fn get_many(
        &mut self,
        keys: &[[u8; KEY_SIZE_BYTES]],
        mut found: impl FnMut(usize, &[u8]),
    ) -> Result<()> {
        for (i, key) in keys.iter().enumerate() {
            self.get(key, |value| found(i, value))?;
        }
        Ok(())
    }

    /// Shows up to `limit` rows from a key on, in key order; returns how many there were.
    fn range(&mut self, from: &[u8], limit: u64, each: impl FnMut(&[u8], &[u8])) -> Result<u64>;

    /// Shows every row once, in whichever order is the engine's fastest.
    fn scan(&mut self, each: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        self.range(&[], u64::MAX, each)
    }

    /// Reads every row as Arrow batches; `None` if the engine has none.
    fn scan_arrow(&mut self) -> Result<Option<ArrowTotals>> {
        Ok(None)
    }

    /// How many rows there are, by the engine's quickest way.
    fn len(&mut self) -> Result<u64> {
        self.scan(|_, _| {})
    }
}

/// What a scan to Arrow batches saw.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ArrowTotals {
    pub(crate) row_count: u64,
    /// The wrapping sum of [`crate::data::check_sum`] over the values.
    pub(crate) check_sum: u64,
}
