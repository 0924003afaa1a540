//! Which block is next.

use super::distribution::SkewedBlocks;
use super::job::JobOptions;
use super::random::Random;
use super::random_map::RandomMap;
use super::values::{BlockRange, Direction, Distribution, PerDirection, Rw};

/// The part of a file that a thread reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileRange {
    /// Byte where it begins.
    pub(super) start: u64,
    /// Bytes from there on.
    pub(super) size: u64,
    /// Bytes of the whole file.
    pub(super) file_size: u64,
}

/// A block of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) file: usize,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Picks blocks from a thread's files in turn, as the job's options say.
#[derive(Debug)]
pub(super) struct BlockPicker {
    files: Vec<FileState>,
    turn: usize,
    settings: Settings,
    seed: u64,
    random: Random,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    is_random: bool,
    begins_again: bool,
    sizes: PerDirection<BlockRange>,
    align: PerDirection<u64>,
}

#[derive(Debug)]
struct FileState {
    range: FileRange,
    /// Where the next sequential block of each direction begins, from the range's start.
    next: PerDirection<u64>,
    map: Option<MapOfUnits>,
    skew: Option<SkewedBlocks>,
    is_done: bool,
}

/// The random map counts in units: the smallest block of any direction.
#[derive(Debug)]
struct MapOfUnits {
    map: RandomMap,
    unit: u64,
}

impl BlockPicker {
    pub(super) fn new(job: &JobOptions, ranges: &[FileRange], seed: u64) -> Self {
        let sizes = job.block_sizes;
        let align = |direction| {
            let given = *job.block_align_bytes.get(direction);
            given.unwrap_or(sizes.get(direction).least_bytes).max(1)
        };
        let settings = Settings {
            is_random: job.rw.is_random(),
            begins_again: job.time_based,
            sizes,
            align: PerDirection {
                read: align(Direction::Read),
                write: align(Direction::Write),
            },
        };
        let unit = least_block(job.rw, &sizes);
        let has_map = settings.is_random
            && !job.norandommap
            && job.random_distribution == Distribution::Random;
        let state = |(index, range): (usize, &FileRange)| FileState {
            range: *range,
            next: PerDirection::both(0),
            map: has_map.then(|| MapOfUnits {
                // A rest that is smaller than a block is never done, as in fio.
                map: RandomMap::new(range.size / unit),
                unit,
            }),
            skew: SkewedBlocks::new(
                job.random_distribution,
                range.size / unit,
                seed ^ (index as u64 + 1),
            ),
            is_done: false,
        };
        BlockPicker {
            files: ranges.iter().enumerate().map(state).collect(),
            turn: 0,
            settings,
            seed,
            random: Random::new(seed),
        }
    }

    /// Begins a further loop: nothing was done. The places are the same again where `repeats` is set.
    pub(super) fn restart(&mut self, repeats: bool) {
        for file in &mut self.files {
            file.restart();
            file.is_done = false;
        }
        if repeats {
            self.random = Random::new(self.seed);
        }
    }

    /// The next block; `None` when all were done.
    #[inline]
    pub(super) fn next(&mut self, direction: Direction) -> Option<Block> {
        for _ in 0..self.files.len() {
            let index = self.turn;
            self.turn = if index + 1 < self.files.len() {
                index + 1
            } else {
                0
            };
            let file = self.files.get_mut(index)?;
            if file.is_done {
                continue;
            }
            let mut picked = file.pick(&self.settings, direction, &mut self.random);
            if picked.is_none() && self.settings.begins_again {
                file.restart();
                picked = file.pick(&self.settings, direction, &mut self.random);
            }
            match picked {
                Some((offset, length)) => {
                    return Some(Block {
                        file: index,
                        offset,
                        length,
                    });
                }
                None => file.is_done = true,
            }
        }
        None
    }
}

/// The smallest block of the directions that the job does.
pub(super) fn least_block(rw: Rw, sizes: &PerDirection<BlockRange>) -> u64 {
    let read = rw.reads().then_some(sizes.read.least_bytes);
    let write = rw.writes().then_some(sizes.write.least_bytes);
    read.into_iter().chain(write).min().unwrap_or(1).max(1)
}

impl FileState {
    fn restart(&mut self) {
        self.next = PerDirection::both(0);
        if let Some(units) = &mut self.map {
            units.map.clear();
        }
    }

    #[inline]
    fn pick(
        &mut self,
        settings: &Settings,
        direction: Direction,
        random: &mut Random,
    ) -> Option<(u64, u64)> {
        let begin = match settings.is_random {
            true => {
                self.random_place(*settings.align.get(direction), direction, settings, random)?
            }
            false => *self.next.get(direction),
        };
        if begin >= self.range.size {
            return None;
        }
        let offset = self.range.start + begin;
        let mut length = self.length_at(begin, settings.sizes.get(direction), random)?;
        if offset + length > self.range.file_size {
            return None;
        }
        if let Some(units) = &mut self.map {
            let count = length.div_ceil(units.unit);
            let marked = units.map.set_run(begin / units.unit, count);
            length = length.min(marked * units.unit);
        }
        *self.next.get_mut(direction) = begin + length;
        Some((offset, length))
    }

    /// Where in the range the next random block begins.
    #[inline]
    fn random_place(
        &mut self,
        align: u64,
        direction: Direction,
        settings: &Settings,
        random: &mut Random,
    ) -> Option<u64> {
        if let Some(skew) = &mut self.skew {
            return Some(skew.next() * align);
        }
        let size = self.range.size.min(self.range.file_size);
        // Blocks that begin off their own size must not reach over the end.
        let least = settings.sizes.get(direction).least_bytes;
        let places = size.saturating_sub(least.saturating_sub(align)) / align;
        if places == 0 {
            return None;
        }
        let begin = random.below(places) * align;
        let Some(units) = &self.map else {
            return Some(begin);
        };
        let mut unit = units.map.next_free(begin / units.unit)?;
        // A free unit may lie off the alignment; look further, at most once round.
        for _ in 0..=places {
            let begin = unit * units.unit;
            if begin.is_multiple_of(align) {
                return Some(begin);
            }
            let aligned = begin.next_multiple_of(align) / units.unit;
            unit = units
                .map
                .next_free(aligned)
                .or_else(|| units.map.next_free(0))?;
        }
        None
    }

    #[inline]
    fn length_at(&self, begin: u64, sizes: &BlockRange, random: &mut Random) -> Option<u64> {
        let BlockRange {
            least_bytes,
            most_bytes,
        } = *sizes;
        if least_bytes == most_bytes {
            return Some(least_bytes);
        }
        let room = self.range.size - begin;
        if least_bytes > room {
            return None;
        }
        loop {
            let drawn = least_bytes + (most_bytes as f64 * random.share()) as u64;
            let length = (drawn - drawn % least_bytes).min(most_bytes);
            if length <= room {
                return Some(length);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(size: u64) -> FileRange {
        FileRange {
            start: 0,
            size,
            file_size: size,
        }
    }

    fn all(picker: &mut BlockPicker, direction: Direction) -> Vec<Block> {
        std::iter::from_fn(|| picker.next(direction)).collect()
    }

    fn job(rw: Rw, least: u64, most: u64) -> JobOptions {
        JobOptions {
            rw,
            block_sizes: PerDirection::both(BlockRange {
                least_bytes: least,
                most_bytes: most,
            }),
            ..JobOptions::default()
        }
    }

    #[test]
    fn a_random_map_does_each_block_once() {
        let job = job(Rw::RandWrite, 4096, 4096);
        let mut picker = BlockPicker::new(&job, &[range(1000 * 4096 + 100), range(64 * 4096)], 1);
        let mut done: Vec<(usize, u64)> = all(&mut picker, Direction::Write)
            .iter()
            .map(|block| (block.file, block.offset))
            .collect();
        let in_order = done.is_sorted();
        done.sort_unstable();
        let whole = (0..1000).map(|block| (0, block * 4096));
        let expected: Vec<_> = whole
            .chain((0..64).map(|block| (1, block * 4096)))
            .collect();
        assert!(done == expected, "{} blocks", done.len());
        assert!(!in_order);
        picker.restart(true);
        assert_eq!(all(&mut picker, Direction::Write).len(), 1064);
    }

    #[test]
    fn blocks_of_a_range_are_aligned_within_bounds_and_cover_the_file_once() {
        let (least, most, size) = (4096, 65536, 4096 * 1001);
        let mut picker = BlockPicker::new(&job(Rw::RandRead, least, most), &[range(size)], 5);
        let mut blocks = all(&mut picker, Direction::Read);
        let sizes: std::collections::HashSet<u64> =
            blocks.iter().map(|block| block.length).collect();
        assert_eq!(sizes.len(), 16);
        blocks.sort_unstable_by_key(|block| block.offset);
        let mut end = 0;
        for block in &blocks {
            assert_eq!(
                (block.offset, block.offset % least, block.length % least),
                (end, 0, 0)
            );
            assert!((least..=most).contains(&block.length));
            end += block.length;
        }
        assert_eq!(end, size);
    }

    #[test]
    fn without_a_map_blocks_repeat() {
        let job = JobOptions {
            norandommap: true,
            ..job(Rw::RandRead, 4096, 4096)
        };
        let mut picker = BlockPicker::new(&job, &[range(64 * 4096)], 1);
        let offsets: std::collections::HashSet<u64> = (0..64)
            .map(|_| picker.next(Direction::Read).unwrap().offset)
            .collect();
        assert!(offsets.len() < 64);
    }

    #[test]
    fn sequential_blocks_begin_at_the_offset_and_end_at_the_size() {
        let job = job(Rw::Read, 4096, 4096);
        let part = FileRange {
            start: 8192,
            size: 10_000,
            file_size: 100_000,
        };
        let mut picker = BlockPicker::new(&job, &[part], 1);
        let offsets: Vec<u64> = all(&mut picker, Direction::Read)
            .iter()
            .map(|block| block.offset)
            .collect();
        assert_eq!(offsets, [8192, 12288, 16384]);
        let whole = FileRange {
            file_size: 18_192,
            ..part
        };
        assert_eq!(
            all(&mut BlockPicker::new(&job, &[whole], 1), Direction::Read).len(),
            2
        );
    }

    #[test]
    fn a_time_based_job_begins_again() {
        let job = JobOptions {
            time_based: true,
            ..job(Rw::RandWrite, 4096, 4096)
        };
        let mut picker = BlockPicker::new(&job, &[range(4096 * 10)], 1);
        assert!((0..100).all(|_| picker.next(Direction::Write).is_some()));
    }

    #[test]
    fn an_alignment_greater_than_the_block_leaves_the_rest_out() {
        let job = JobOptions {
            block_align_bytes: PerDirection::both(Some(16384)),
            ..job(Rw::RandRead, 4096, 4096)
        };
        let mut picker = BlockPicker::new(&job, &[range(160 * 1024)], 1);
        let mut offsets: Vec<u64> = all(&mut picker, Direction::Read)
            .iter()
            .map(|block| block.offset)
            .collect();
        offsets.sort_unstable();
        assert_eq!(
            offsets,
            (0..10).map(|place| place * 16384).collect::<Vec<_>>()
        );
    }
}
