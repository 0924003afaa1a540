//! The bytes of a file: what the page cache has, what the device has, and the changes that lie between.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Result};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::process::Holder;
use super::random::Random;

/// What a device writes whole or not at all, in bytes.
pub(super) const SECTOR_SIZE_BYTES: usize = 512;
/// What a file system gives a file space by, in bytes.
const BLOCK_SIZE_BYTES: usize = 4096;

/// A change of a file's bytes.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    Write {
        offset: usize,
        bytes: Arc<[u8]>,
    },
    /// Cut, or made longer with zeros.
    Length(usize),
    /// A hole.
    Zeros(Range<usize>),
}

impl Effect {
    pub(super) fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Effect::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                if let Some(place) = file.get_mut(*offset..end) {
                    place.copy_from_slice(bytes);
                }
            }
            Effect::Length(len) => file.resize(*len, 0),
            Effect::Zeros(range) => {
                let end = range.end.min(file.len());
                if let Some(place) = file.get_mut(range.start.min(end)..end) {
                    place.fill(0);
                }
            }
        }
    }

    /// The same for a part of a file that begins at `start` and keeps its length.
    pub(super) fn apply_within(&self, start: usize, part: &mut [u8]) {
        let end = start + part.len();
        let (from, to, bytes): (_, _, Option<&[u8]>) = match self {
            Effect::Write { offset, bytes } => (*offset, offset + bytes.len(), Some(bytes)),
            Effect::Length(len) => (*len, usize::MAX, None),
            Effect::Zeros(range) => (range.start, range.end, None),
        };
        let (at, until) = (from.max(start), to.min(end));
        if at >= until {
            return;
        }
        let Some(place) = part.get_mut(at - start..until - start) else {
            return;
        };
        match bytes.map(|bytes| bytes.get(at - from..until - from)) {
            Some(Some(bytes)) => place.copy_from_slice(bytes),
            Some(None) => {}
            None => place.fill(0),
        }
    }

    /// A file's length after it.
    pub(super) fn len_after(&self, len: usize) -> usize {
        match self {
            Effect::Write { offset, bytes } => len.max(offset + bytes.len()),
            Effect::Length(len) => *len,
            Effect::Zeros(_) => len,
        }
    }

    /// The bytes that it may change of a file that was never longer than that.
    pub(super) fn range(&self, len_max: usize) -> Range<usize> {
        match self {
            Effect::Write { offset, bytes } => *offset..offset + bytes.len(),
            Effect::Length(len) => *len..len_max.max(*len),
            Effect::Zeros(range) => range.start..range.end.min(len_max),
        }
    }

    /// The first part of a write; all of anything else.
    pub(super) fn first(&self, size_bytes: usize) -> Self {
        match self {
            Effect::Write { offset, bytes } => Effect::Write {
                offset: *offset,
                bytes: bytes.get(..size_bytes).unwrap_or(bytes).into(),
            },
            other => other.clone(),
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Effect::Write { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }
}

/// A change that is not synced.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// Its place among all changes of the disk.
    pub(super) sequence: u64,
    pub(super) effect: Effect,
}

/// A file without its names. The two images share their bytes until one is written to, so that a crash copies nothing of a
/// file that rests.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// What readers see.
    pub(super) current: Arc<Vec<u8>>,
    /// What the device has for sure.
    pub(super) synced: Arc<Vec<u8>>,
    /// What leads from `synced` to `current`, in order.
    pub(super) unsynced: Vec<Change>,
    /// Writes that began and have not arrived.
    pub(super) in_flight: Vec<Change>,
    /// Syncs under way: up to which change.
    pub(super) syncing: Vec<u64>,
    /// Sectors as they were before the sync that replaced them, unless they were empty, by their number.
    pub(super) older: Arc<BTreeMap<usize, Arc<[u8]>>>,
    /// Bytes that were given back: starts and ends.
    pub(super) holes: Vec<(usize, usize)>,
    /// Open files that no hole is to come into.
    pub(super) shares: Vec<Weak<Holder>>,
    /// How many names it has, and how often it is open.
    pub(super) name_count: usize,
    pub(super) open_count: usize,
    /// Changes that the device refused, and whether anybody was told of the last.
    pub(super) failure_count: u64,
    pub(super) failure_told: bool,
    /// Which change of names gave it its first one.
    pub(super) created: u64,
    blocks: Blocks,
}

impl Content {
    /// A file that has these bytes, and lies on the device with them except for the changes.
    pub(super) fn found(
        synced: Arc<Vec<u8>>,
        current: Arc<Vec<u8>>,
        unsynced: Vec<Change>,
        older: &Content,
        space: &Space,
    ) -> Self {
        let mut content = Content {
            synced,
            current,
            unsynced,
            holes: older.holes.clone(),
            older: older.older.clone(),
            ..Content::default()
        };
        content.blocks = older.blocks.counted(content.current.len(), space);
        content
    }

    /// Takes the space that a write needs; returns how many of its bytes have some.
    pub(super) fn take_space(&mut self, offset: usize, size_bytes: usize, space: &Space) -> usize {
        let fits = self.blocks.grow(offset..offset + size_bytes, space);
        fits.saturating_sub(offset).min(size_bytes)
    }

    /// A change arrives in the page cache.
    pub(super) fn arrive(&mut self, change: Change, space: &Space) {
        change.effect.apply(Arc::make_mut(&mut self.current));
        if let Effect::Length(len) = change.effect {
            self.blocks.cut(len, space);
        }
        self.unsynced.push(change);
    }

    /// The changes up to one are on the device.
    pub(super) fn harden(&mut self, through: u64) {
        let hard = self.unsynced.partition_point(|one| one.sequence <= through);
        if hard == 0 {
            return;
        }
        let synced = Arc::make_mut(&mut self.synced);
        let older = Arc::make_mut(&mut self.older);
        for change in self.unsynced.drain(..hard) {
            let touched = change.effect.range(synced.len());
            let sectors =
                touched.start / SECTOR_SIZE_BYTES..touched.end.div_ceil(SECTOR_SIZE_BYTES);
            for sector in sectors {
                let start = sector * SECTOR_SIZE_BYTES;
                let end = synced.len().min(start + SECTOR_SIZE_BYTES);
                match synced.get(start..end) {
                    Some(old) if old.iter().any(|byte| *byte != 0) => {
                        older.insert(sector, old.into());
                    }
                    Some(_) => {}
                    None => break,
                }
            }
            change.effect.apply(synced);
        }
    }

    /// The device refuses the changes up to one. As on Linux their pages count as clean from then on: readers see them, no
    /// later sync writes them, and some sectors may have arrived.
    pub(super) fn refuse(&mut self, through: u64, random: &mut Random) {
        let refused = self.unsynced.partition_point(|one| one.sequence <= through);
        let changes: Vec<Change> = self.unsynced.drain(..refused).collect();
        self.failure_count += 1;
        self.failure_told = false;
        if random.coin() {
            let synced = super::crash::torn(&self.synced, &changes, random);
            self.synced = Arc::new(synced);
        }
    }

    /// Gives bytes back, durably at once, the worst that may happen: a hole must not come before what makes the bytes
    /// needless is durable.
    pub(super) fn punch(&mut self, hole: Range<usize>, sequence: u64, space: &Space) {
        let effect = Effect::Zeros(hole.clone());
        effect.apply(Arc::make_mut(&mut self.synced));
        effect.apply(Arc::make_mut(&mut self.current));
        if !self.unsynced.is_empty() {
            self.unsynced.push(Change { sequence, effect });
        }
        self.blocks.punch(hole.clone(), space);
        self.holes.push((hole.start, hole.end));
    }

    /// Flips bits of a stored byte.
    pub(super) fn flip(&mut self, offset: usize, flip: u8) -> Result<()> {
        for bytes in [&mut self.synced, &mut self.current] {
            if let Some(byte) = Arc::make_mut(bytes).get_mut(offset) {
                *byte ^= flip;
            }
        }
        match offset < self.current.len() {
            true => Ok(()),
            false => Err(ErrorKind::NotFound.into()),
        }
    }

    /// Whether somebody keeps holes away.
    pub(super) fn is_shared(&mut self) -> bool {
        self.shares
            .retain(|share| share.upgrade().is_some_and(|holder| holder.is_alive()));
        !self.shares.is_empty()
    }

    /// Gives its space back, once it has no name and nobody has it open.
    pub(super) fn free_if_gone(&mut self, space: &Space) {
        if self.name_count == 0 && self.open_count == 0 {
            self.blocks.cut(0, space);
        }
    }
}

/// The disk's space, in blocks.
#[derive(Debug)]
pub(super) struct Space {
    taken: AtomicU64,
    blocks_max: AtomicU64,
}

impl Default for Space {
    fn default() -> Self {
        Space {
            taken: AtomicU64::new(0),
            blocks_max: AtomicU64::new(u64::MAX),
        }
    }
}

impl Space {
    pub(super) fn limit(&self, capacity_bytes: Option<u64>) {
        let blocks = capacity_bytes.map_or(u64::MAX, |bytes| bytes / BLOCK_SIZE_BYTES as u64);
        self.blocks_max.store(blocks, Ordering::Relaxed);
    }

    /// Bytes that are left; `None` if there is no limit.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let blocks_max = self.blocks_max.load(Ordering::Relaxed);
        let free = blocks_max.saturating_sub(self.taken.load(Ordering::Relaxed));
        (blocks_max < u64::MAX).then(|| free * BLOCK_SIZE_BYTES as u64)
    }

    fn take_one(&self) -> bool {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        let fits = taken < self.blocks_max.load(Ordering::Relaxed);
        if !fits {
            self.taken.fetch_sub(1, Ordering::Relaxed);
        }
        fits
    }
}

/// Which blocks of a file have space on the disk.
#[derive(Debug, Default)]
struct Blocks(Vec<bool>);

impl Blocks {
    /// Gives a range space; returns where the space ends.
    fn grow(&mut self, range: Range<usize>, space: &Space) -> usize {
        let (first, end) = (
            range.start / BLOCK_SIZE_BYTES,
            range.end.div_ceil(BLOCK_SIZE_BYTES),
        );
        if self.0.len() < end {
            self.0.resize(end, false);
        }
        for (block, taken) in self.0.iter_mut().enumerate().take(end).skip(first) {
            if !*taken && !space.take_one() {
                return block * BLOCK_SIZE_BYTES;
            }
            *taken = true;
        }
        range.end
    }

    /// The same on another disk, for a file of that length.
    fn counted(&self, len_bytes: usize, space: &Space) -> Self {
        let end = len_bytes.div_ceil(BLOCK_SIZE_BYTES);
        let blocks: Vec<bool> = self.0.iter().copied().take(end).collect();
        let count = blocks.iter().filter(|taken| **taken).count();
        space.taken.fetch_add(count as u64, Ordering::Relaxed);
        Blocks(blocks)
    }

    fn cut(&mut self, len_bytes: usize, space: &Space) {
        let end = len_bytes.div_ceil(BLOCK_SIZE_BYTES).min(self.0.len());
        self.free(end..self.0.len(), space);
        self.0.truncate(end);
    }

    fn punch(&mut self, hole: Range<usize>, space: &Space) {
        let end = (hole.end / BLOCK_SIZE_BYTES).min(self.0.len());
        self.free(hole.start.div_ceil(BLOCK_SIZE_BYTES)..end, space);
    }

    fn free(&mut self, blocks: Range<usize>, space: &Space) {
        for taken in self.0.get_mut(blocks).unwrap_or_default() {
            if std::mem::take(taken) {
                space.taken.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}
