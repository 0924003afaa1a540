//! RocksDB through the `rocksdb` crate. Concurrent synced writes share a sync (its own group commit).

use std::path::Path;

use rocksdb::{
    BottommostLevelCompaction, ColumnFamilyDescriptor, CompactOptions, DB,
    DEFAULT_COLUMN_FAMILY_NAME, WaitForCompactOptions, WriteBatch, WriteOptions,
};

use crate::data::KEY_SIZE_BYTES;
use crate::kv::{Durability, Kv, Reader, Result, Sink};
use crate::settings::{self, Memory, ROWS_PER_WRITE_BATCH_MAX};

pub(crate) struct RocksDb {
    db: DB,
    synced: WriteOptions,
    buffered: WriteOptions,
}

impl RocksDb {
    fn write_options(&self, durability: Durability) -> &WriteOptions {
        match durability {
            Durability::Synced => &self.synced,
            Durability::Buffered => &self.buffered,
        }
    }
}

impl Kv for RocksDb {
    type Reader<'a> = RocksReader<'a>;

    fn open(folder: &Path, memory: Memory) -> Result<Self> {
        let options = settings::rocksdb(memory);
        // Named, so that it can be asked for many keys at once.
        let rows = ColumnFamilyDescriptor::new(DEFAULT_COLUMN_FAMILY_NAME, options.clone());
        let db = DB::open_cf_descriptors(&options, folder, [rows])?;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Ok(RocksDb {
            db,
            synced,
            buffered: WriteOptions::default(),
        })
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        Ok(self
            .db
            .put_opt(key, value, self.write_options(durability))?)
    }

    fn write(
        &self,
        durability: Durability,
        fill: impl FnOnce(&mut dyn Sink) -> Result<()>,
    ) -> Result<()> {
        let mut sink = RocksSink {
            kv: self,
            batch: WriteBatch::default(),
        };
        fill(&mut sink)?;
        Ok(self
            .db
            .write_opt(sink.batch, self.write_options(durability))?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.db.flush_wal(true)?)
    }

    fn settle(&self) -> Result<()> {
        let mut options = WaitForCompactOptions::default();
        options.set_flush(true);
        Ok(self.db.wait_for_compact(&options)?)
    }

    fn compact(&mut self) -> Result<bool> {
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db
            .compact_range_opt::<&[u8], &[u8]>(None, None, &options);
        self.settle()?;
        Ok(true)
    }

    fn reader(&self) -> Result<RocksReader<'_>> {
        Ok(RocksReader(&self.db))
    }
}

struct RocksSink<'a> {
    kv: &'a RocksDb,
    batch: WriteBatch,
}

impl RocksSink<'_> {
    fn write_full_batch(&mut self) -> Result<()> {
        if self.batch.len() >= ROWS_PER_WRITE_BATCH_MAX {
            self.kv
                .db
                .write_opt(std::mem::take(&mut self.batch), &self.kv.buffered)?;
        }
        Ok(())
    }
}

impl Sink for RocksSink<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.batch.put(key, value);
        self.write_full_batch()
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.batch.delete(key);
        self.write_full_batch()
    }
}

/// Reads the newest state at each call: cheaper than a snapshot, and what a user does.
pub(crate) struct RocksReader<'a>(&'a DB);

impl Reader for RocksReader<'_> {
    fn get(&mut self, key: &[u8], mut found: impl FnMut(&[u8])) -> Result<bool> {
        let value = self.0.get_pinned(key)?;
        Ok(value.map(|value| found(&value)).is_some())
    }

    fn get_many(
        &mut self,
        keys: &[[u8; KEY_SIZE_BYTES]],
        mut found: impl FnMut(usize, &[u8]),
    ) -> Result<()> {
        let rows = self.0.cf_handle(DEFAULT_COLUMN_FAMILY_NAME);
        let rows = rows.ok_or("RocksDB has no default column family")?;
        let values = self.0.batched_multi_get_cf(rows, keys, false);
        for (i, value) in values.into_iter().enumerate() {
            if let Some(value) = value? {
                found(i, &value);
            }
        }
        Ok(())
    }

    fn range(
        &mut self,
        from: &[u8],
        limit: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        // The raw iterator lends its rows; the other one copies each into two boxes.
        let mut rows = self.0.raw_iterator();
        let mut count = 0;
        rows.seek(from);
        while count < limit
            && let Some((key, value)) = rows.item()
        {
            each(key, value);
            count += 1;
            rows.next();
        }
        rows.status()?;
        Ok(count)
    }
}
