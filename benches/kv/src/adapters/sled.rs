//! sled 0.34. It has no durability a write: a synced one is a write and a flush of everything before it.
//!
//! On Linux its flush is `sync_file_range`, which leaves the file's size and the disk's own cache alone: a power cut
//! takes what it acknowledged. So the adapter syncs the file as well, to be as durable as the others.

use std::fs::File;
use std::path::Path;

use sled::{Batch, Db};

use crate::kv::{Durability, Kv, Reader, Result, Sink};
use crate::settings::{self, Memory};

pub(crate) struct Sled {
    db: Db,
    file: File,
}

impl Kv for Sled {
    type Reader<'a> = SledReader<'a>;

    fn open(folder: &Path, memory: Memory) -> Result<Self> {
        let db = settings::sled(folder, memory).open()?;
        Ok(Sled {
            db,
            file: File::open(folder.join("db"))?,
        })
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        self.db.insert(key, value)?;
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
        let mut sink = SledSink(Batch::default());
        fill(&mut sink)?;
        self.db.apply_batch(sink.0)?;
        if durability == Durability::Synced {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.db.flush()?;
        Ok(self.file.sync_data()?)
    }

    fn reader(&self) -> Result<SledReader<'_>> {
        Ok(SledReader(&self.db))
    }
}

struct SledSink(Batch);

impl Sink for SledSink {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.insert(key, value);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.0.remove(key);
        Ok(())
    }
}

/// Reads the newest state at each call.
pub(crate) struct SledReader<'a>(&'a Db);

impl Reader for SledReader<'_> {
    fn get(&mut self, key: &[u8], mut found: impl FnMut(&[u8])) -> Result<bool> {
        let value = self.0.get(key)?;
        Ok(value.map(|value| found(&value)).is_some())
    }

    fn range(&mut self, from: &[u8], limit: u64, each: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        super::show_rows(self.0.range(from..), limit, each)
    }

    fn len(&mut self) -> Result<u64> {
        Ok(self.0.len() as u64)
    }
}
