//! Memory for pages, of the engine's own: chunks of 2 MiB, for which the system is asked to use large pages.
//!
//! A page that is found costs a few loads from memory, and with usual pages of 4 KiB most of them miss the processor's
//! table of addresses too. And a general allocator keeps what it is given back apart by size and by thread, so that a
//! process ends up with several times what a cache has in use at any time.
//!
//! Here a page takes the smallest free extent that it fits into (best fit, Knuth 2.5), and free extents that meet become
//! one. All is in whole lines, and pages mostly have one of few sizes, so little is left over. When others take memory
//! that pages had, free extents lie scattered over all chunks: then the pages of the emptiest chunks are to move
//! ([`PageMemory::vacate_sparsest`]), and the chunks go back to the system.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::raw::{CHUNK_SIZE_BYTES, Extent, LINE_SIZE_BYTES, LINES_PER_CHUNK};
use crate::sync::Mutex;

/// Under a budget smaller than this, whole chunks would be too coarse: pages lie in the allocator's memory.
const BUDGET_BYTES_MIN: u64 = 64 << 20;

/// Larger pages, which hold large rows, lie in the allocator's memory.
const PAGE_LINES_MAX: usize = 1024;

/// A shard for each so many bytes of the budget, up to the most: threads that read different pages seldom wait for each
/// other, and what a shard has free in its last chunk is little beside what it has in use.
const BUDGET_BYTES_PER_SHARD: u64 = 64 << 20;
const SHARD_COUNT_MAX: u64 = 8;

/// Pages move once more is free than this part of what is in use, and a chunk for each shard.
const FREE_PARTS: usize = 16;
const FREE_CHUNKS_PER_SHARD: usize = 1;

/// The chunks of a cache, divided among shards.
#[derive(Debug)]
pub(super) struct PageMemory {
    shards: Box<[Mutex<Shard>]>,
    mapped_bytes: AtomicUsize,
    used_bytes: AtomicUsize,
}

/// Some of the chunks.
#[derive(Debug, Default)]
struct Shard {
    /// Free extents by where they begin.
    free: BTreeMap<usize, Extent>,
    /// The same by length in lines, then by where they begin.
    by_length: BTreeSet<(u32, usize)>,
    /// Lines in use of each chunk, by where it begins.
    chunks: BTreeMap<usize, ChunkUse>,
}

#[derive(Debug, Default)]
struct ChunkUse {
    used_lines: u32,
    /// Nothing is placed here any more; the chunk goes when its last page does.
    vacated: bool,
}

impl PageMemory {
    /// Memory for the pages of a cache under that budget; no chunk is taken yet.
    pub(super) fn new(budget_bytes: u64) -> Self {
        let shard_count = match budget_bytes {
            ..BUDGET_BYTES_MIN => 0,
            _ => (budget_bytes / BUDGET_BYTES_PER_SHARD).clamp(1, SHARD_COUNT_MAX),
        };
        PageMemory {
            shards: (0..shard_count).map(|_| Mutex::default()).collect(),
            mapped_bytes: AtomicUsize::new(0),
            used_bytes: AtomicUsize::new(0),
        }
    }

    /// A place for a page of so many lines; `hash` chooses the shard. `None` if the allocator is to give it.
    pub(super) fn take(&self, hash: u64, line_count: usize) -> Option<Extent> {
        let number = hash.checked_rem(self.shards.len() as u64)?;
        let shard = self.shards.get(usize::try_from(number).ok()?)?;
        let line_count = u32::try_from(line_count).ok()?;
        if line_count as usize > PAGE_LINES_MAX {
            return None;
        }
        let mut shard = shard.lock();
        let extent = match shard.take(line_count) {
            Some(extent) => extent,
            None => {
                let chunk = Extent::map_chunk(u32::try_from(number).ok()?)?;
                self.mapped_bytes
                    .fetch_add(CHUNK_SIZE_BYTES, Ordering::Relaxed);
                shard.add_chunk(chunk);
                shard.take(line_count)?
            }
        };
        self.used_bytes
            .fetch_add(size_bytes(line_count), Ordering::Relaxed);
        Some(extent)
    }

    /// Takes a place back.
    pub(super) fn put(&self, extent: Extent) {
        self.used_bytes
            .fetch_sub(size_bytes(extent.line_count()), Ordering::Relaxed);
        if let Some(shard) = self.shards.get(extent.tag() as usize) {
            let gone = shard.lock().put(extent);
            self.mapped_bytes
                .fetch_sub(gone * CHUNK_SIZE_BYTES, Ordering::Relaxed);
        }
    }

    /// Bytes that were taken from the system.
    pub(super) fn mapped_bytes(&self) -> usize {
        self.mapped_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of those that no page has.
    pub(super) fn free_bytes(&self) -> usize {
        let used_bytes = self.used_bytes.load(Ordering::Relaxed);
        self.mapped_bytes().saturating_sub(used_bytes)
    }

    /// Bytes more than what should be free.
    fn excess_bytes(&self) -> usize {
        let used_bytes = self.used_bytes.load(Ordering::Relaxed);
        let chunks = self.shards.len() * FREE_CHUNKS_PER_SHARD * CHUNK_SIZE_BYTES;
        let most = used_bytes + used_bytes / FREE_PARTS + chunks;
        self.mapped_bytes().saturating_sub(most)
    }

    /// Chooses chunks whose pages are to move where there is more room than there should be: those with the fewest, as
    /// many as leave half of what may be free, and those chosen before that some page still lies in. Returns where the
    /// chunks begin, ascending. Nothing is placed there from now on.
    pub(super) fn vacate_sparsest(&self) -> Vec<usize> {
        if self.excess_bytes() == 0 {
            return Vec::new();
        }
        let shards = self.shards.iter();
        let mut vacated: Vec<usize> = shards.flat_map(|shard| shard.lock().vacate()).collect();
        vacated.sort_unstable();
        vacated
    }
}

fn size_bytes(line_count: u32) -> usize {
    line_count as usize * LINE_SIZE_BYTES
}

impl Shard {
    fn take(&mut self, line_count: u32) -> Option<Extent> {
        let (_, address) = *self.by_length.range((line_count, 0)..).next()?;
        let mut extent = self.take_free(address)?;
        self.chunks
            .entry(extent.chunk_address())
            .or_default()
            .used_lines += line_count;
        match extent.split_front(line_count) {
            Some(front) => {
                self.add_free(extent);
                Some(front)
            }
            None => Some(extent),
        }
    }

    /// Returns how many chunks went with it.
    fn put(&mut self, mut extent: Extent) -> usize {
        let chunk_address = extent.chunk_address();
        let chunk = self.chunks.entry(chunk_address).or_default();
        chunk.used_lines -= extent.line_count();
        let is_empty = chunk.used_lines == 0;
        if chunk.vacated {
            if is_empty {
                self.chunks.remove(&chunk_address);
            }
            return usize::from(is_empty);
        }
        let before = self.free.range(..extent.address()).next_back();
        let meets = |before: &Extent| before.end_address() == extent.address();
        let before = before.filter(|(_, before)| meets(before));
        let before = before.map(|(address, _)| *address);
        if let Some(before) = before.and_then(|address| self.take_free(address)) {
            extent = self.joined(before, extent);
        }
        if let Some(behind) = self.take_free(extent.end_address()) {
            extent = self.joined(extent, behind);
        }
        // One empty chunk is kept, for what comes next.
        if is_empty
            && self
                .by_length
                .last()
                .is_some_and(|(length, _)| *length == LINES_PER_CHUNK)
        {
            self.chunks.remove(&chunk_address);
            return 1;
        }
        self.add_free(extent);
        0
    }

    fn add_chunk(&mut self, chunk: Extent) {
        self.chunks
            .insert(chunk.chunk_address(), ChunkUse::default());
        self.add_free(chunk);
    }

    fn add_free(&mut self, extent: Extent) {
        self.by_length
            .insert((extent.line_count(), extent.address()));
        self.free.insert(extent.address(), extent);
    }

    /// Takes out the free extent that begins there, if one does.
    fn take_free(&mut self, address: usize) -> Option<Extent> {
        let extent = self.free.remove(&address)?;
        self.by_length.remove(&(extent.line_count(), address));
        Some(extent)
    }

    /// One of two that meet.
    fn joined(&mut self, mut extent: Extent, behind: Extent) -> Extent {
        if let Err(apart) = extent.join(behind) {
            self.add_free(apart);
        }
        extent
    }

    fn vacate(&mut self) -> Vec<usize> {
        let free_of = |chunk: &ChunkUse| (LINES_PER_CHUNK - chunk.used_lines) as usize;
        // The one chunk that may be empty stays.
        let is_open = |chunk: &ChunkUse| !chunk.vacated && chunk.used_lines > 0;
        let chunks = self.chunks.iter().filter(|(_, chunk)| is_open(chunk));
        let mut sparsest: Vec<(u32, usize)> = chunks
            .clone()
            .map(|(address, chunk)| (chunk.used_lines, *address))
            .collect();
        sparsest.sort_unstable();
        let mut free_lines: usize = chunks.map(|(_, chunk)| free_of(chunk)).sum();
        let used_lines: usize = sparsest.iter().map(|(used, _)| *used as usize).sum();
        let chunk_lines = FREE_CHUNKS_PER_SHARD * LINES_PER_CHUNK as usize;
        let kept_free_lines = (used_lines / FREE_PARTS + chunk_lines) / 2;
        // Those whose pages were missed when they were to move are named again.
        let chunks = self.chunks.iter();
        let left = chunks.filter_map(|(address, chunk)| chunk.vacated.then_some(*address));
        let mut vacated: Vec<usize> = left.collect();
        for (_, address) in sparsest {
            // Its own room goes, and what it holds takes as much elsewhere as is missing to a whole chunk.
            free_lines = match free_lines.checked_sub(LINES_PER_CHUNK as usize) {
                Some(left) if left >= kept_free_lines => left,
                _ => break,
            };
            self.leave(address);
            vacated.push(address);
        }
        vacated
    }

    /// Lets the free extents of a chunk go; its memory follows with its last page.
    fn leave(&mut self, chunk_address: usize) {
        let within = chunk_address..chunk_address + CHUNK_SIZE_BYTES;
        let addresses: Vec<usize> = self
            .free
            .range(within)
            .map(|(address, _)| *address)
            .collect();
        for address in addresses {
            self.take_free(address);
        }
        if let Some(chunk) = self.chunks.get_mut(&chunk_address) {
            chunk.vacated = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: usize = 66;

    fn memory() -> PageMemory {
        PageMemory::new(BUDGET_BYTES_MIN)
    }

    /// Extents that take that many bytes together, a little more than a chunk holds for each chunk.
    fn fill(memory: &PageMemory, size_bytes: usize) -> Vec<Extent> {
        let count = size_bytes / (LINES * LINE_SIZE_BYTES);
        let extents = (0..count as u64).map(|hash| memory.take(hash, LINES));
        extents.map(|extent| extent.expect("a chunk")).collect()
    }

    #[test]
    fn what_went_is_used_again_whatever_its_size() {
        let memory = memory();
        let extents = fill(&memory, 16 << 20);
        let mapped_bytes = memory.mapped_bytes();
        assert!(
            mapped_bytes <= (16 << 20) + CHUNK_SIZE_BYTES,
            "{mapped_bytes}"
        );
        // Neighbours that went make room for one of two thirds more.
        extents.into_iter().for_each(|extent| memory.put(extent));
        assert_eq!(
            memory.mapped_bytes(),
            CHUNK_SIZE_BYTES,
            "one empty chunk is kept"
        );
        let larger: Vec<Extent> = (0..100).filter_map(|_| memory.take(0, 110)).collect();
        assert_eq!(
            (larger.len(), memory.mapped_bytes()),
            (100, CHUNK_SIZE_BYTES)
        );
    }

    #[test]
    fn a_small_budget_and_a_large_page_are_the_allocators() {
        assert!(PageMemory::new(BUDGET_BYTES_MIN - 1).take(0, 1).is_none());
        assert!(memory().take(0, PAGE_LINES_MAX + 1).is_none());
        assert_eq!(
            memory()
                .take(0, PAGE_LINES_MAX)
                .map(|extent| extent.line_count()),
            Some(1024)
        );
    }

    /// Defends invariant 7 (bounded): room that lies scattered goes back to the system once the chunks are vacated.
    #[test]
    fn scattered_room_goes_back() {
        let memory = memory();
        let extents = fill(&memory, 32 << 20);
        let full_bytes = memory.mapped_bytes();
        assert!(memory.vacate_sparsest().is_empty(), "there is no room");
        let (kept, gone): (Vec<_>, Vec<_>) = extents
            .into_iter()
            .enumerate()
            .partition(|(i, _)| i % 2 == 0);
        gone.into_iter().for_each(|(_, extent)| memory.put(extent));
        assert_eq!(
            memory.mapped_bytes(),
            full_bytes,
            "every chunk holds something"
        );
        let vacated = memory.vacate_sparsest();
        let mut moved = Vec::new();
        for (hash, extent) in kept {
            if vacated.binary_search(&extent.chunk_address()).is_ok() {
                let other = memory.take(hash as u64, LINES).expect("room elsewhere");
                assert!(vacated.binary_search(&other.chunk_address()).is_err());
                memory.put(extent);
                moved.push(other);
            } else {
                moved.push(extent);
            }
        }
        let left_bytes = memory.mapped_bytes();
        assert_eq!(left_bytes, full_bytes - vacated.len() * CHUNK_SIZE_BYTES);
        assert!(left_bytes <= 20 << 20, "{left_bytes}");
        moved.into_iter().for_each(|extent| memory.put(extent));
        assert_eq!(memory.mapped_bytes(), CHUNK_SIZE_BYTES);
    }
}
