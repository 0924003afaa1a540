//! What every engine is given, in one place, so that fairness can be checked by reading one file.
//!
//! The rules, the same for all: no compression; one memory budget of a block cache plus write buffers; as many
//! background threads as there are cores; the engine's own defaults elsewhere, or what its own documentation advises
//! for this kind of work. Where an engine has no such setting, the comment says what it does instead.

use serde::{Deserialize, Serialize};

use crate::kv::Result;

/// Rows that one transaction of a row source carries.
pub(crate) const BATCH_ROWS: usize = 1000;

/// Rows after which an engine that keeps a whole transaction in memory writes it in parts: RocksDB and fjall. The
/// published redb benchmark does the same.
pub(crate) const ROWS_PER_WRITE_BATCH_MAX: usize = 100_000;

/// The memory an engine may use.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Blocks or pages that were read.
    pub(crate) cache_bytes: u64,
    /// One write buffer, for engines that have them.
    pub(crate) memtable_bytes: u64,
}

impl Memory {
    /// Both together, for engines with a single budget.
    pub(crate) fn total_bytes(self) -> u64 {
        self.cache_bytes + self.memtable_bytes
    }

    pub(crate) fn total_len(self) -> usize {
        usize::try_from(self.total_bytes()).unwrap_or(usize::MAX)
    }
}

fn core_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// RocksDB: its defaults with the changes of "Setup Options and Basic Tuning" in its wiki.
pub(crate) fn rocksdb(memory: Memory) -> rocksdb::Options {
    let cache_len = usize::try_from(memory.cache_bytes).unwrap_or(usize::MAX);
    let memtable_len = usize::try_from(memory.memtable_bytes).unwrap_or(usize::MAX);
    let mut table = rocksdb::BlockBasedOptions::default();
    // The cache that RocksDB advises since 8.6: it scales with cores, the LRU cache does not.
    table.set_block_cache(&rocksdb::Cache::new_hyper_clock_cache(cache_len, 0));
    // As advised; also, without a filter every miss would read a block a level.
    table.set_bloom_filter(10.0, false);
    // Index and filters count towards the cache, as the budget wants.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // Blocks stay at the default 4 KiB: 16 KiB, which the wiki advises for large data, halves point reads of 116 bytes.
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(rocksdb::DBCompressionType::None);
    options.set_write_buffer_size(memtable_len);
    options.increase_parallelism(i32::try_from(core_count()).unwrap_or(1));
    options.set_bytes_per_sync(1 << 20);
    // Statistics cost a few per cent; they stay off.
    options
}

/// fjall: its defaults with this budget. Filters, 4 KiB blocks and background threads are on by default.
pub(crate) fn fjall(folder: &std::path::Path, memory: Memory) -> Result<fjall::Database> {
    // Compression of values in the journal is off, because the crate is built without the `lz4` feature.
    Ok(fjall::Database::builder(folder)
        .cache_size(memory.cache_bytes)
        .worker_threads(core_count())
        .open()?)
}

/// fjall's settings of the keyspace.
pub(crate) fn fjall_keyspace(memory: Memory) -> fjall::KeyspaceCreateOptions {
    fjall::KeyspaceCreateOptions::default()
        .max_memtable_size(memory.memtable_bytes)
        .data_block_compression_policy(fjall::config::CompressionPolicy::all(
            fjall::CompressionType::None,
        ))
}

/// redb: one cache for pages read and written, so it gets the whole budget. It has no background threads.
pub(crate) fn redb(memory: Memory) -> redb::Builder {
    let mut builder = redb::Database::builder();
    builder.set_cache_size(memory.total_len());
    builder
}

/// Largest size that an LMDB file may grow to: address space, not disk.
const LMDB_MAP_BYTES: usize = 256 << 30;

/// LMDB: it maps its file and so uses whatever page cache the system has; there is no budget to give.
///
/// Neither WRITEMAP nor NORDAHEAD: the defaults, which are safe against stray writes of the program.
pub(crate) fn lmdb() -> heed::EnvOpenOptions<heed::WithTls> {
    let mut options = heed::EnvOpenOptions::new();
    options.map_size(LMDB_MAP_BYTES).max_readers(256);
    options
}

/// sled: one cache. Its timer that syncs every half second is off, as the harness says when to sync.
pub(crate) fn sled(folder: &std::path::Path, memory: Memory) -> sled::Config {
    sled::Config::new()
        .path(folder)
        .cache_capacity(memory.total_bytes())
        .mode(sled::Mode::HighThroughput)
        .use_compression(false)
        .flush_every_ms(None)
}

/// Moonshine: one budget for the newest rows and for pages. It measures its device when the folder is made, before the
/// clock runs.
pub(crate) fn moonshine(memory: Memory) -> moonshine_engine::Options {
    moonshine_engine::Options {
        memory_budget_bytes: memory.total_bytes(),
        ..moonshine_engine::Options::default()
    }
}
