//! The kinds of work, each with the input that it is done on.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Serialize;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::rows::{Row, encode};

/// Bytes that are checksummed, compressed and decompressed at a time: they stay in a core's cache, as a block that was just
/// read does.
const BLOCK_BYTES: usize = 64 * 1024;
/// Keys that are sorted at a time, and hashed.
const KEYS: usize = 64 * 1024;
/// Rows that are encoded at a time.
const ROWS: usize = 1024;
/// Bytes that are read or copied from memory at a time: more than a core's share of the last cache, if all threads' buffers
/// together have room.
const MEMORY_BYTES: usize = 32 << 20;
/// Most memory that the threads' buffers take together.
const MEMORY_BYTES_MAX: usize = 1 << 30;
/// zstd's fastest level of the usual ones.
const ZSTD_LEVEL: i32 = 1;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// xxh3 of keys of 16 bytes: what chooses a shard and a place in a hash table.
    Hash,
    /// xxh3 with a seed over blocks of 64 KiB: what protects a block.
    Checksum,
    /// Sorting runs of 65,536 keys of 64 bits.
    Sort,
    /// Encoding rows: a key whose bytes sort as its values do, and the value.
    EncodeRows,
    /// LZ4 over a block of encoded rows of 64 KiB.
    Lz4Compress,
    /// The other way, in bytes that come out.
    Lz4Decompress,
    /// zstd, level 1, over a block of encoded rows of 64 KiB.
    ZstdCompress,
    /// The other way, in bytes that come out.
    ZstdDecompress,
    /// Reading memory: the bandwidth of scans that find nothing in a cache.
    MemoryRead,
    /// Copying memory to memory, in bytes copied: half of what the memory moves.
    MemoryCopy,
}

/// What a speed counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Keys.
    Keys,
    /// Rows.
    Rows,
}

impl Work {
    /// All kinds.
    pub const ALL: [Work; 10] = [
        Work::Hash,
        Work::Checksum,
        Work::Sort,
        Work::EncodeRows,
        Work::Lz4Compress,
        Work::Lz4Decompress,
        Work::ZstdCompress,
        Work::ZstdDecompress,
        Work::MemoryRead,
        Work::MemoryCopy,
    ];

    /// What its speed counts.
    pub fn unit(self) -> Unit {
        match self {
            Work::Hash | Work::Sort => Unit::Keys,
            Work::EncodeRows => Unit::Rows,
            _ => Unit::Bytes,
        }
    }

    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Work::Hash => "xxh3 of keys",
            Work::Checksum => "checksum",
            Work::Sort => "sort",
            Work::EncodeRows => "encode rows",
            Work::Lz4Compress => "lz4",
            Work::Lz4Decompress => "lz4 back",
            Work::ZstdCompress => "zstd-1",
            Work::ZstdDecompress => "zstd-1 back",
            Work::MemoryRead => "memory read",
            Work::MemoryCopy => "memory copy",
        }
    }
}

/// Does a kind of work once, and says how much of the time was not work.
pub(super) type Once = Box<dyn FnMut() -> Duration>;

/// Makes the input for one of `threads` threads; returns the units of work in it, and what does it.
pub(super) fn prepare(work: Work, threads: usize) -> (usize, Once) {
    let memory_bytes = MEMORY_BYTES.min(MEMORY_BYTES_MAX / 2 / threads.max(1));
    match work {
        Work::Hash => hash(),
        Work::Checksum => {
            let bytes = block();
            (
                bytes.len(),
                busy(move || xxh3_64_with_seed(black_box(&bytes), 7)),
            )
        }
        Work::Sort => sort(),
        Work::EncodeRows => encode_rows(),
        Work::Lz4Compress => {
            let bytes = block();
            let mut out = vec![0; lz4_flex::block::get_maximum_output_size(bytes.len())];
            let once = move || lz4_flex::block::compress_into(black_box(&bytes), &mut out);
            (BLOCK_BYTES, busy(once))
        }
        Work::Lz4Decompress => {
            let compressed = lz4_flex::block::compress(&block());
            let mut out = vec![0; BLOCK_BYTES];
            let once = move || lz4_flex::block::decompress_into(black_box(&compressed), &mut out);
            (BLOCK_BYTES, busy(once))
        }
        Work::ZstdCompress => zstd_compress(),
        Work::ZstdDecompress => zstd_decompress(),
        Work::MemoryRead => {
            let words = vec![7_u64; memory_bytes / size_of::<u64>()];
            let once = move || black_box(&words).iter().fold(0_u64, |sum, one| sum ^ one);
            (memory_bytes, busy(once))
        }
        Work::MemoryCopy => {
            let from = vec![7_u8; memory_bytes];
            let mut to = vec![1_u8; memory_bytes];
            let once = move || {
                to.copy_from_slice(black_box(&from));
                to.last().copied()
            };
            (memory_bytes, busy(once))
        }
    }
}

/// Work all of whose time counts.
fn busy<T>(mut once: impl FnMut() -> T + 'static) -> Once {
    Box::new(move || {
        black_box(once());
        Duration::ZERO
    })
}

fn drawn_keys() -> Vec<u64> {
    let multiplier = 0x9e37_79b9_7f4a_7c15_u64;
    (1..=KEYS as u64)
        .map(|key| key.wrapping_mul(multiplier))
        .collect()
}

fn hash() -> (usize, Once) {
    let keys: Vec<[u8; 16]> = drawn_keys()
        .into_iter()
        .map(|key| (u128::from(key) << 64 | u128::from(key.rotate_left(32))).to_be_bytes())
        .collect();
    let once = move || {
        black_box(&keys)
            .iter()
            .fold(0, |sum, key| sum ^ xxh3_64(key))
    };
    (KEYS, busy(once))
}

fn sort() -> (usize, Once) {
    let drawn = drawn_keys();
    let mut keys = drawn.clone();
    let once = move || {
        let begun = Instant::now();
        keys.copy_from_slice(black_box(&drawn));
        let copying = begun.elapsed();
        keys.sort_unstable();
        black_box(&keys);
        copying
    };
    (KEYS, Box::new(once))
}

fn encode_rows() -> (usize, Once) {
    let rows: Vec<Row> = (0..ROWS as u64).map(Row::typical).collect();
    let mut out = Vec::new();
    let once = move || {
        out.clear();
        for row in black_box(&rows) {
            encode(row, &mut out);
        }
        out.len()
    };
    (ROWS, busy(once))
}

/// Encoded rows: what is checksummed and compressed.
fn block() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK_BYTES + 256);
    let mut number = 0;
    while bytes.len() < BLOCK_BYTES {
        encode(&Row::typical(number), &mut bytes);
        number += 1;
    }
    bytes.truncate(BLOCK_BYTES);
    bytes
}

fn zstd_compress() -> (usize, Once) {
    let bytes = block();
    let mut out = vec![0; zstd::zstd_safe::compress_bound(bytes.len())];
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL).ok();
    let once = move || {
        let compressor = compressor.as_mut()?;
        compressor
            .compress_to_buffer(black_box(&bytes), &mut out)
            .ok()
    };
    (BLOCK_BYTES, busy(once))
}

fn zstd_decompress() -> (usize, Once) {
    let compressed = zstd::bulk::compress(&block(), ZSTD_LEVEL).unwrap_or_default();
    let mut out = vec![0; BLOCK_BYTES];
    let mut decompressor = zstd::bulk::Decompressor::new().ok();
    let once = move || {
        let decompressor = decompressor.as_mut()?;
        decompressor
            .decompress_to_buffer(black_box(&compressed), &mut out)
            .ok()
    };
    (BLOCK_BYTES, busy(once))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_copying_before_a_sort_is_no_work() {
        for work in Work::ALL {
            let (units, mut once) = prepare(work, 1);
            assert!(units > 0, "{work:?}");
            assert_eq!(once() > Duration::ZERO, work == Work::Sort, "{work:?}");
        }
    }

    #[test]
    fn blocks_are_whole_and_compress_as_rows_do() {
        let bytes = block();
        assert_eq!(bytes.len(), BLOCK_BYTES);
        let compressed = lz4_flex::block::compress(&bytes);
        let share = compressed.len() as f64 / bytes.len() as f64;
        assert!((0.2..0.9).contains(&share), "{share}");
        let back = lz4_flex::block::decompress(&compressed, BLOCK_BYTES).unwrap();
        assert_eq!(back, bytes);
        let compressed = zstd::bulk::compress(&bytes, ZSTD_LEVEL).unwrap();
        assert_eq!(
            zstd::bulk::decompress(&compressed, BLOCK_BYTES).unwrap(),
            bytes
        );
    }

    #[test]
    fn many_threads_share_the_memory() {
        let (bytes, _) = prepare(Work::MemoryCopy, 1024);
        assert!(bytes * 2 * 1024 <= MEMORY_BYTES_MAX, "{bytes}");
    }
}
