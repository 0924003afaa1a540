//! Which blocks of a file were done.

/// Bits of a word.
const WORD_BITS: u64 = 64;

/// A set of block numbers that finds its next absent one quickly: above the bits lies, for each 64 words of a level, a
/// word that says which of them are full.
#[derive(Clone, Debug)]
pub(super) struct RandomMap {
    blocks: u64,
    levels: Vec<Vec<u64>>,
}

impl RandomMap {
    /// Empty, for block numbers below `blocks`.
    pub(super) fn new(blocks: u64) -> Self {
        let mut levels = Vec::new();
        let mut bits = blocks.max(1);
        loop {
            let words = bits.div_ceil(WORD_BITS);
            levels.push(vec![0; usize::try_from(words).unwrap_or(usize::MAX)]);
            if words == 1 {
                break;
            }
            bits = words;
        }
        let mut map = RandomMap { blocks, levels };
        map.mark_beyond();
        map
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        for level in &mut self.levels {
            level.fill(0);
        }
        self.mark_beyond();
    }

    /// Whether the block was done; true beyond the last one.
    #[inline]
    pub(super) fn is_set(&self, block: u64) -> bool {
        block >= self.blocks || bit(&self.levels, 0, block)
    }

    /// Marks blocks as done, from `first` on, until one that is done already; returns how many.
    #[inline]
    pub(super) fn set_run(&mut self, first: u64, count: u64) -> u64 {
        let mut marked = 0;
        while marked < count && !self.is_set(first + marked) {
            self.set(first + marked);
            marked += 1;
        }
        marked
    }

    /// The first block that is not done, from `first` on and then from the beginning.
    #[inline]
    pub(super) fn next_free(&self, first: u64) -> Option<u64> {
        if !self.is_set(first) {
            return Some(first);
        }
        self.free_from(first).or_else(|| self.free_from(0))
    }

    fn set(&mut self, block: u64) {
        let mut position = block;
        for level in &mut self.levels {
            let Some(word) = usize::try_from(position / WORD_BITS)
                .ok()
                .and_then(|index| level.get_mut(index))
            else {
                return;
            };
            *word |= 1 << (position % WORD_BITS);
            if *word != u64::MAX {
                return;
            }
            position /= WORD_BITS;
        }
    }

    /// Bits of each level that stand for nothing count as done.
    fn mark_beyond(&mut self) {
        let mut bits = self.blocks;
        for level in &mut self.levels {
            let used = bits % WORD_BITS;
            if let Some(last) = level.last_mut()
                && (used != 0 || bits == 0)
            {
                *last |= u64::MAX << used;
            }
            bits = bits.div_ceil(WORD_BITS);
        }
    }

    /// Goes up until a word has a free bit behind the position, then down to the first free bit below it.
    fn free_from(&self, first: u64) -> Option<u64> {
        let mut position = first;
        for level in 0..self.levels.len() {
            let word = word(&self.levels, level, position / WORD_BITS);
            let behind = !word & (u64::MAX << (position % WORD_BITS));
            if behind != 0 {
                let found = position / WORD_BITS * WORD_BITS + u64::from(behind.trailing_zeros());
                return self.descend(level, found);
            }
            position = position / WORD_BITS + 1;
            if position.is_multiple_of(WORD_BITS) && position >= self.words(level) {
                return None;
            }
        }
        None
    }

    fn descend(&self, level: usize, position: u64) -> Option<u64> {
        let mut position = position;
        for level in (0..level).rev() {
            let free = !word(&self.levels, level, position);
            if free == 0 {
                return None;
            }
            position = position * WORD_BITS + u64::from(free.trailing_zeros());
        }
        (position < self.blocks).then_some(position)
    }

    fn words(&self, level: usize) -> u64 {
        self.levels.get(level).map_or(0, |level| level.len() as u64)
    }
}

#[inline]
fn word(levels: &[Vec<u64>], level: usize, index: u64) -> u64 {
    let level = levels.get(level).map_or(&[][..], Vec::as_slice);
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    level.get(index).copied().unwrap_or(u64::MAX)
}

#[inline]
fn bit(levels: &[Vec<u64>], level: usize, position: u64) -> bool {
    word(levels, level, position / WORD_BITS) >> (position % WORD_BITS) & 1 == 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_a_plain_search_finds(blocks in 1_u64..20_000, steps in prop::collection::vec((0_u64..20_000, 1_u64..300), 1..200)) {
            let mut map = RandomMap::new(blocks);
            let mut plain = vec![false; blocks as usize];
            for (first, count) in steps {
                let first = first % blocks;
                let free = |block: &u64| !plain[*block as usize];
                let expected = (first..blocks).find(free).or_else(|| (0..first).find(free));
                prop_assert_eq!(map.next_free(first), expected);
                let Some(start) = expected else { break };
                let run = (start..blocks.min(start + count)).take_while(free).count() as u64;
                prop_assert_eq!(map.set_run(start, count), run);
                for block in start..start + run {
                    plain[block as usize] = true;
                }
            }
        }
    }

    #[test]
    fn a_full_map_has_nothing_free_until_it_is_cleared() {
        for blocks in [1, 63, 64, 65, 4096, 4097, 300_000] {
            let mut map = RandomMap::new(blocks);
            assert_eq!(map.set_run(0, u64::MAX), blocks);
            assert_eq!(map.next_free(blocks / 2), None);
            map.clear();
            assert_eq!(map.next_free(blocks - 1), Some(blocks - 1));
        }
    }
}
