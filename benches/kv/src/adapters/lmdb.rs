//! LMDB through `heed`. One writer at a time; buffered commits run under `MDB_NOSYNC`, which is a state of the whole
//! environment, so the adapter switches it when the durability that is asked for changes.

use std::ops::Bound;
use std::path::Path;
use std::sync::Mutex;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, FlagSetMode, RoTxn, RwTxn, WithTls};

use crate::kv::{Durability, Kv, Reader, Result, Sink};
use crate::settings::{self, Memory};

type Rows = Database<'static, Bytes, Bytes>;

pub(crate) struct Lmdb {
    env: Env,
    rows: Rows,
    durability: Mutex<Durability>,
}

impl Lmdb {
    fn set_durability(&self, wanted: Durability) -> Result<()> {
        let mut current = self
            .durability
            .lock()
            .map_err(|_| "a thread ended in a panic")?;
        if *current != wanted {
            let mode = if wanted == Durability::Buffered {
                FlagSetMode::Enable
            } else {
                FlagSetMode::Disable
            };
            // SAFETY: NOSYNC only weakens what a power cut leaves, which is what a buffered write asks for.
            unsafe { self.env.set_flags(EnvFlags::NO_SYNC, mode)? };
            *current = wanted;
        }
        Ok(())
    }
}

impl Kv for Lmdb {
    type Reader<'a> = LmdbReader<'a>;

    fn open(folder: &Path, _: Memory) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        // SAFETY: no other process changes the file while it is mapped.
        let env = unsafe { settings::lmdb().open(folder)? };
        let rows = env
            .create_databases_and_commit(env.write_txn()?, |opener, transaction| {
                opener
                    .create_database(transaction, None)
                    .map(CommitOrAbort::<_, ()>::Commit)
            })?
            .commit()
            .ok_or("LMDB made no database")?;
        Ok(Lmdb {
            env,
            rows,
            durability: Mutex::new(Durability::Synced),
        })
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        self.write(durability, |sink| sink.put(key, value))
    }

    fn write(
        &self,
        durability: Durability,
        fill: impl FnOnce(&mut dyn Sink) -> Result<()>,
    ) -> Result<()> {
        self.set_durability(durability)?;
        let mut sink = LmdbSink {
            rows: self.rows,
            transaction: self.env.write_txn()?,
        };
        fill(&mut sink)?;
        Ok(sink.transaction.commit()?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    fn reader(&self) -> Result<LmdbReader<'_>> {
        Ok(LmdbReader {
            rows: self.rows,
            transaction: self.env.read_txn()?,
        })
    }
}

struct LmdbSink<'a> {
    rows: Rows,
    transaction: RwTxn<'a>,
}

impl Sink for LmdbSink<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.rows.put(&mut self.transaction, key, value)?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.rows.delete(&mut self.transaction, key)?;
        Ok(())
    }
}

pub(crate) struct LmdbReader<'a> {
    rows: Rows,
    transaction: RoTxn<'a, WithTls>,
}

impl Reader for LmdbReader<'_> {
    fn get(&mut self, key: &[u8], mut found: impl FnMut(&[u8])) -> Result<bool> {
        Ok(self
            .rows
            .get(&self.transaction, key)?
            .map(&mut found)
            .is_some())
    }

    fn range(
        &mut self,
        from: &[u8],
        limit: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let mut count = 0;
        let mut visit = |row: heed::Result<(&[u8], &[u8])>| -> Result<()> {
            let (key, value) = row?;
            each(key, value);
            count += 1;
            Ok(())
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        // LMDB has no empty key to start from.
        if from.is_empty() {
            self.rows
                .iter(&self.transaction)?
                .take(limit)
                .try_for_each(&mut visit)?;
        } else {
            let range = (Bound::Included(from), Bound::Unbounded);
            self.rows
                .range(&self.transaction, &range)?
                .take(limit)
                .try_for_each(&mut visit)?;
        }
        Ok(count)
    }

    fn len(&mut self) -> Result<u64> {
        Ok(self.rows.len(&self.transaction)?)
    }
}
