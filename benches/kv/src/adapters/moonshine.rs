//! Moonshine: a keyspace, through the engine's public API; divided by the hash of its keys, which is the default, or by range.
//!
//! A reader asks for the newest state each time. Arrow batches come from the table that the keyspace is.

use std::ops::Bound;
use std::path::Path;

use arrow_array::{Array, BinaryArray, RecordBatch};
use moonshine_engine::{
    Batch, Batches, Database, Keyspace, KeyspaceLoad, KeyspaceOptions, Scan, ShardKey,
};

use crate::data::{self, KEY_SIZE_BYTES};
use crate::kv::{ArrowTotals, Durability, Kv, Reader, Result, Sink};
use crate::settings::{self, Memory};

const VALUE_COLUMN: usize = 1;

pub(crate) struct Moonshine<const BY_RANGE: bool> {
    database: Database,
    synced: Keyspace,
    buffered: Keyspace,
}

/// Its keys are divided by their hash.
pub(crate) type ByHash = Moonshine<false>;
/// Its keys are divided in ranges.
pub(crate) type ByRange = Moonshine<true>;

impl<const BY_RANGE: bool> Moonshine<BY_RANGE> {
    fn rows(&self, durability: Durability) -> &Keyspace {
        match durability {
            Durability::Synced => &self.synced,
            Durability::Buffered => &self.buffered,
        }
    }
}

impl<const BY_RANGE: bool> Kv for Moonshine<BY_RANGE> {
    type Reader<'a> = MoonshineReader<'a>;

    fn open(folder: &Path, memory: Memory) -> Result<Self> {
        let database = Database::open(folder, settings::moonshine(memory))?;
        let shard_key = if BY_RANGE {
            ShardKey::Range
        } else {
            ShardKey::PrimaryKey
        };
        let synced = database.keyspace_with("rows", KeyspaceOptions { shard_key })?;
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

fn totals_of(batches: Batches) -> Result<ArrowTotals> {
    let mut totals = ArrowTotals::default();
    for batch in batches {
        let batch = batch?;
        totals.row_count += batch.num_rows() as u64;
        let values = binary_column(&batch, VALUE_COLUMN)?;
        let sum = values
            .iter()
            .flatten()
            .map(data::check_sum)
            .fold(0, u64::wrapping_add);
        totals.check_sum = totals.check_sum.wrapping_add(sum);
    }
    Ok(totals)
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
        self.rows.snapshot().for_each(|key, value| {
            each(key, value);
            count += 1;
        })?;
        Ok(count)
    }

    fn scan_arrow(&mut self) -> Result<Option<ArrowTotals>> {
        let threads = std::thread::available_parallelism()?.get();
        let snapshot = self.database.snapshot();
        let parts = snapshot.scan_parts(self.rows.table(), &Scan::default(), threads)?;
        let totals: Vec<_> = std::thread::scope(|scope| {
            let readers = parts
                .into_iter()
                .map(|part| scope.spawn(|| totals_of(part).map_err(|error| error.to_string())));
            let readers: Vec<_> = readers.collect();
            let joined = readers.into_iter().map(|reader| reader.join());
            joined.collect()
        });
        let mut all = ArrowTotals::default();
        for part in totals {
            let part = part.map_err(|_| "a thread of a scan panicked")??;
            all.row_count += part.row_count;
            all.check_sum = all.check_sum.wrapping_add(part.check_sum);
        }
        Ok(Some(all))
    }

    fn len(&mut self) -> Result<u64> {
        Ok(self.database.snapshot().row_count(self.rows.table())?)
    }
}
