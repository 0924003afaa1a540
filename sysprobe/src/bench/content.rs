//! What is written.

use super::job::JobOptions;
use super::random::Random;
use super::values::BufferContent;

/// Bytes from one changed place to the next where a buffer is scrambled.
const SCRAMBLE_STEP: usize = 512;
/// The changed place lies in one of this many cache lines of each step.
const LINES: u64 = 8;
/// Bytes of a cache line.
const LINE: usize = 64;

/// Fills buffers before they are written.
#[derive(Clone, Debug)]
pub(super) struct Content {
    kind: BufferContent,
    refills: bool,
    scrambles: bool,
    random: Random,
}

impl Content {
    pub(super) fn new(job: &JobOptions, seed: u64) -> Self {
        let is_random = job.buffer_content == BufferContent::Random;
        Content {
            kind: job.buffer_content.clone(),
            refills: job.refill_buffers && is_random,
            scrambles: job.scramble_buffers && is_random,
            random: Random::new(seed),
        }
    }

    /// Whether [`Self::before_write`] changes anything.
    pub(super) fn changes(&self) -> bool {
        self.refills || self.scrambles
    }

    /// What a buffer holds at first.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) {
        match &self.kind {
            BufferContent::Random => self.random.fill(buffer),
            BufferContent::Zeros => buffer.fill(0),
            BufferContent::Pattern(pattern) => {
                for (byte, pattern) in buffer.iter_mut().zip(pattern.iter().cycle()) {
                    *byte = *pattern;
                }
            }
        }
    }

    /// Makes the buffer differ from what was written before. Scrambling writes the place and the time into each 512
    /// bytes, which keeps a device from finding the same block twice and costs little, as in fio.
    #[inline]
    pub(super) fn before_write(&mut self, buffer: &mut [u8], offset: u64, now_ns: u64) {
        if self.refills {
            self.random.fill(buffer);
        } else if self.scrambles {
            let line = ((now_ns ^ (offset / SCRAMBLE_STEP as u64)) % LINES) as usize * LINE;
            let mut place = offset;
            for part in buffer.chunks_exact_mut(SCRAMBLE_STEP) {
                if let Some(target) = part.get_mut(line..line + 16)
                    && let Some((first, second)) = target.split_first_chunk_mut::<8>()
                {
                    *first = place.to_le_bytes();
                    second.copy_from_slice(&now_ns.to_le_bytes());
                }
                place += SCRAMBLE_STEP as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(job: &JobOptions) -> (Vec<u8>, Vec<u8>) {
        let mut content = Content::new(job, 1);
        let mut buffer = vec![0; 4096];
        content.fill(&mut buffer);
        content.before_write(&mut buffer, 4096, 1);
        let first = buffer.clone();
        content.before_write(&mut buffer, 8192, 2);
        (first, buffer)
    }

    #[test]
    fn buffers_hold_what_the_job_says() {
        let (first, second) = written(&JobOptions::default());
        for (one, other) in first.chunks(512).zip(second.chunks(512)) {
            assert_ne!(one, other);
        }
        let (first, second) = written(&JobOptions {
            buffer_content: BufferContent::Zeros,
            ..JobOptions::default()
        });
        assert!(first.iter().chain(&second).all(|byte| *byte == 0));
        let (first, _) = written(&JobOptions {
            buffer_content: BufferContent::Pattern(vec![1, 2, 3]),
            ..JobOptions::default()
        });
        assert_eq!(first[..7], [1, 2, 3, 1, 2, 3, 1]);
        let (first, second) = written(&JobOptions {
            scramble_buffers: false,
            ..JobOptions::default()
        });
        assert_eq!(first, second);
        let (first, second) = written(&JobOptions {
            refill_buffers: true,
            ..JobOptions::default()
        });
        let same = first
            .iter()
            .zip(&second)
            .filter(|(one, other)| one == other)
            .count();
        assert!(same < 4096 / 16);
    }
}
