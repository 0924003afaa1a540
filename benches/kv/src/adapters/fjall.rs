//! fjall. A sync covers the journal that all writers share; each asks for its own.

use std::path::Path;

use fjall::{Database, Keyspace, OwnedWriteBatch, PersistMode};

use crate::kv::{Durability, Kv, Reader, Result, Sink};
use crate::settings::{self, Memory, ROWS_PER_WRITE_BATCH_MAX};

pub(crate) struct Fjall {
    db: Database,
    rows: Keyspace,
}

impl Kv for Fjall {
    type Reader<'a> = FjallReader<'a>;

    fn open(folder: &Path, memory: Memory) -> Result<Self> {
        let db = settings::fjall(folder, memory)?;
        let rows = db.keyspace("rows", || settings::fjall_keyspace(memory))?;
        Ok(Fjall { db, rows })
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        self.rows.insert(key, value)?;
        if durability == Durability::Synced {
            self.sync()?;
        }
        Ok(())
    }

    fn write(
        &self,
        durability: Durability,
        fill: impl FnOnce(&mut dyn Sink) -> Result<()>,
    ) -> Result<()> {
        let mut sink = FjallSink {
            kv: self,
            batch: self.db.batch(),
        };
        fill(&mut sink)?;
        let mode = (durability == Durability::Synced).then_some(PersistMode::SyncData);
        Ok(sink.batch.durability(mode).commit()?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.db.persist(PersistMode::SyncData)?)
    }

    fn settle(&self) -> Result<()> {
        self.rows.rotate_memtable_and_wait()?;
        while self.db.outstanding_flushes() > 0 || self.db.active_compactions() > 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Ok(())
    }

    fn compact(&mut self) -> Result<bool> {
        self.settle()?;
        self.rows.major_compact()?;
        self.settle()?;
        Ok(true)
    }

    fn reader(&self) -> Result<FjallReader<'_>> {
        Ok(FjallReader(&self.rows))
    }
}

struct FjallSink<'a> {
    kv: &'a Fjall,
    batch: OwnedWriteBatch,
}

impl FjallSink<'_> {
    fn write_full_batch(&mut self) -> Result<()> {
        if self.batch.len() >= ROWS_PER_WRITE_BATCH_MAX {
            std::mem::replace(&mut self.batch, self.kv.db.batch()).commit()?;
        }
        Ok(())
    }
}

impl Sink for FjallSink<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.batch.insert(&self.kv.rows, key, value);
        self.write_full_batch()
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.batch.remove(&self.kv.rows, key);
        self.write_full_batch()
    }
}

/// Reads the newest state at each call.
pub(crate) struct FjallReader<'a>(&'a Keyspace);

impl Reader for FjallReader<'_> {
    fn get(&mut self, key: &[u8], mut found: impl FnMut(&[u8])) -> Result<bool> {
        let value = self.0.get(key)?;
        Ok(value.map(|value| found(&value)).is_some())
    }

    fn range(&mut self, from: &[u8], limit: u64, each: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        super::show_rows(
            self.0.range(from..).map(|row| row.into_inner()),
            limit,
            each,
        )
    }

    fn len(&mut self) -> Result<u64> {
        Ok(self.0.len()? as u64)
    }
}
