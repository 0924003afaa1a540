//! redb. One writer at a time; a buffered commit is `Durability::None`, which the next synced one makes durable.

use std::path::Path;

use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition,
};

use crate::kv::{Durability, Kv, Reader, Result, Sink};
use crate::settings::{self, Memory};

const ROWS: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("rows");

pub(crate) struct Redb {
    db: Database,
}

impl Kv for Redb {
    type Reader<'a> = RedbReader;

    fn open(folder: &Path, memory: Memory) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let kv = Redb {
            db: settings::redb(memory).create(folder.join("data.redb"))?,
        };
        kv.write(Durability::Synced, |_| Ok(()))?;
        Ok(kv)
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<()> {
        self.write(durability, |sink| sink.put(key, value))
    }

    fn write(
        &self,
        durability: Durability,
        fill: impl FnOnce(&mut dyn Sink) -> Result<()>,
    ) -> Result<()> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(match durability {
            Durability::Synced => redb::Durability::Immediate,
            Durability::Buffered => redb::Durability::None,
        })?;
        fill(&mut RedbSink(transaction.open_table(ROWS)?))?;
        Ok(transaction.commit()?)
    }

    fn sync(&self) -> Result<()> {
        self.write(Durability::Synced, |_| Ok(()))
    }

    fn compact(&mut self) -> Result<bool> {
        self.db.compact()?;
        Ok(true)
    }

    fn reader(&self) -> Result<RedbReader> {
        Ok(RedbReader(self.db.begin_read()?.open_table(ROWS)?))
    }
}

struct RedbSink<'a>(Table<'a, &'static [u8], &'static [u8]>);

impl Sink for RedbSink<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.insert(key, value)?;
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.0.remove(key)?;
        Ok(())
    }
}

pub(crate) struct RedbReader(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl Reader for RedbReader {
    fn get(&mut self, key: &[u8], mut found: impl FnMut(&[u8])) -> Result<bool> {
        // The trait's method lends the value; the type's own method of that name counts references.
        let value = ReadableTable::get(&self.0, key)?;
        Ok(value.map(|value| found(value.value())).is_some())
    }

    fn range(
        &mut self,
        from: &[u8],
        limit: u64,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let mut count = 0;
        for row in ReadableTable::range(&self.0, from..)?
            .take(usize::try_from(limit).unwrap_or(usize::MAX))
        {
            let (key, value) = row?;
            each(key.value(), value.value());
            count += 1;
        }
        Ok(count)
    }

    fn len(&mut self) -> Result<u64> {
        Ok(self.0.len()?)
    }
}
