//! Moonshine: a keyspace, through the engine's public API.
//!
//! A reader asks for the newest state each time. Arrow batches come from the table that the keyspace is.

use std::ops::Bound;
use std::path::Path;

use arrow_array::{Array, BinaryArray, RecordBatch};
use moonshine_engine::{Batch, Database, Keyspace, KeyspaceLoad, Scan};

use crate::data::{self, KEY_SIZE_BYTES};
use crate::kv::{ArrowTotals, Durability, Kv, Reader, Result, Sink};
use crate::settings::{self, Memory};

const VALUE_COLUMN: usize = 1;

pub(crate) struct Moonshine {
    database: Database,
    synced: Keyspace,
    buffered: Keyspace,
}

impl Moonshine {
    fn rows(&self, durability: Durability) -> &Keyspace {
        match durability {
            Durability::Synced => &self.synced,
            Durability::Buffered => &self.buffered,
        }
    }
}

impl Kv for Moonshine {
    type Reader<'a> = MoonshineReader<'a>;

    fn open(folder: &Path, memory: Memory) -> Result<Self> {
        let database = Database::open(folder, settings::moonshine(memory))?;
        let synced = database.keyspace("rows")?;
        let buffered = synced
            .clone()
            .with_durability(moonshine_engine::Durability::Buffered);
        Ok(Moonshine {
            database,
            synced,
            buffered,
        })
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        Ok(self.rows(durability).insert(key, value)?)
    }

    fn write(
        &self,
        durability: Durability,
        fill: impl FnOnce(&mut dyn Sink) -> Result<()>,
    ) -> Result<()> {
        let mut batch = self.rows(durability).batch();
        fill(&mut batch)?;
        Ok(batch.commit()?)
    }

    fn bulk_load(&self, fill: impl FnOnce(&mut dyn Sink) -> Result<()>) -> Result<bool> {
        let mut load = self.database.keyspace("bulk")?.bulk_load()?;
        fill(&mut load)?;
        load.finish()?;
        Ok(true)
    }

    fn bulk_loaded_len(&self) -> Result<u64> {
        let rows = self.database.keyspace("bulk")?;
        Ok(self.database.snapshot().row_count(rows.table())?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.sync()?)
    }

    fn settle(&self) -> Result<()> {
        Ok(self.database.flush()?)
    }

    fn compact(&mut self) -> Result<bool> {
        self.database.flush()?;
        self.database.compact()?;
        Ok(true)
    }

    fn reader(&self) -> Result<MoonshineReader<'_>> {
        Ok(MoonshineReader {
            rows: &self.synced,
            database: &self.database,
        })
    }
}

impl Sink for KeyspaceLoad {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.insert(key, value)?)
    }

    fn delete(&mut self, _key: &[u8]) -> Result<()> {
        Err("a bulk load deletes nothing".into())
    }
}

impl Sink for Batch {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.insert(key, value)?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        Ok(self.remove(key)?)
    }
}

pub(crate) struct MoonshineReader<'a> {
    rows: &'a Keyspace,
    database: &'a Database,
}

impl MoonshineReader<'_> {
    fn each_batch(&mut self, mut each: impl FnMut(&RecordBatch) -> Result<()>) -> Result<()> {
        for batch in self
            .database
            .snapshot()
            .scan(self.rows.table(), Scan::default())?
        {
            each(&batch?)?;
        }
        Ok(())
    }
}

fn binary_column(batch: &RecordBatch, position: usize) -> Result<&BinaryArray> {
    let column = batch
        .columns()
        .get(position)
        .and_then(|column| column.as_any().downcast_ref());
    column.ok_or_else(|| format!("column {position} of the batch is not binary").into())
}

impl Reader for MoonshineReader<'_> {
    fn get(&mut self, key: &[u8], found: impl FnMut(&[u8])) -> Result<bool> {
        Ok(self.rows.get_with(key, found)?.is_some())
    }

    fn get_many(
        &mut self,
        keys: &[[u8; KEY_SIZE_BYTES]],
        found: impl FnMut(usize, &[u8]),
    ) -> Result<()> {
        Ok(self.rows.multi_get(keys, found)?)
    }

    fn range(
        &mut self,
        from: &[u8],
        limit: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let range = (Bound::Included(from), Bound::Unbounded);
        let mut cursor = self.rows.snapshot().cursor::<&[u8]>(range);
        let mut count = 0;
        while count < limit
            && let Some((key, value)) = cursor.next_pair()?
        {
            each(key, value);
            count += 1;
        }
        Ok(count)
    }

    fn scan(&mut self, mut each: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut count = 0;
        self.each_batch(|batch| {
            let (keys, values) = (
                binary_column(batch, 0)?,
                binary_column(batch, VALUE_COLUMN)?,
            );
            for (key, value) in keys.iter().zip(values) {
                each(key.unwrap_or_default(), value.unwrap_or_default());
                count += 1;
            }
            Ok(())
        })?;
        Ok(count)
    }

    fn scan_arrow(&mut self) -> Result<Option<ArrowTotals>> {
        let mut totals = ArrowTotals::default();
        self.each_batch(|batch| {
            totals.row_count += batch.num_rows() as u64;
            let values = binary_column(batch, VALUE_COLUMN)?;
            let sum = values
                .iter()
                .flatten()
                .map(data::check_sum)
                .fold(0, u64::wrapping_add);
            totals.check_sum = totals.check_sum.wrapping_add(sum);
            Ok(())
        })?;
        Ok(Some(totals))
    }

    fn len(&mut self) -> Result<u64> {
        Ok(self.database.snapshot().row_count(self.rows.table())?)
    }
}
