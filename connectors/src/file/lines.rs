//! Bytes as lines, with the place of each.

use std::ops::Range;

/// Longest line that is taken, in bytes.
pub(super) const LINE_BYTES_MAX: usize = 256 << 20;
/// Bytes asked of the input at a time.
pub(super) const CHUNK_BYTES: usize = 1 << 20;

/// Holds bytes that were read and gives them out line by line.
#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    bytes: Vec<u8>,
    /// Where the next line starts in `bytes`.
    start: usize,
    /// Up to where there is no newline after `start`.
    searched: usize,
}

impl LineBuffer {
    /// Takes more bytes in.
    pub(super) fn extend(&mut self, chunk: &[u8]) {
        self.drop_taken();
        self.bytes.extend_from_slice(chunk);
    }

    /// Takes more bytes in from a reader; returns how many.
    pub(super) fn fill(&mut self, reader: &mut impl std::io::Read) -> std::io::Result<usize> {
        self.drop_taken();
        let before = self.bytes.len();
        let mut limited = std::io::Read::take(reader, CHUNK_BYTES as u64);
        self.bytes.reserve(CHUNK_BYTES);
        std::io::Read::read_to_end(&mut limited, &mut self.bytes)?;
        Ok(self.bytes.len() - before)
    }

    /// Where the next whole line is, with its newline; it counts as taken.
    pub(super) fn take_line(&mut self) -> Option<Range<usize>> {
        let unsearched = self.bytes.get(self.searched..)?;
        let Some(at) = memchr::memchr(b'\n', unsearched) else {
            self.searched = self.bytes.len();
            return None;
        };
        let line = self.start..self.searched + at + 1;
        (self.start, self.searched) = (line.end, line.end);
        Some(line)
    }

    /// What is left after the last newline, as a line; it counts as taken. `None` if nothing is left.
    pub(super) fn take_rest(&mut self) -> Option<Range<usize>> {
        let rest = self.start..self.bytes.len();
        (self.start, self.searched) = (rest.end, rest.end);
        (!rest.is_empty()).then_some(rest)
    }

    /// The bytes of a line that was taken since the last time that bytes came in.
    pub(super) fn line(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// Bytes that are waiting for their newline.
    pub(super) fn rest_bytes(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        (self.start, self.searched) = (0, 0);
    }

    fn drop_taken(&mut self) {
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(buffer: &mut LineBuffer) -> Option<String> {
        let range = buffer.take_line()?;
        Some(String::from_utf8(buffer.line(range).to_vec()).unwrap())
    }

    #[test]
    fn lines_come_out_whole_however_the_bytes_come_in() {
        let text = b"one\n\ntwo three\nfo";
        for size in 1..text.len() {
            let mut buffer = LineBuffer::default();
            let mut lines = Vec::new();
            for chunk in text.chunks(size) {
                buffer.extend(chunk);
                while let Some(line) = next(&mut buffer) {
                    lines.push(line);
                }
            }
            assert_eq!(lines, ["one\n", "\n", "two three\n"], "chunks of {size}");
            assert_eq!(buffer.rest_bytes(), 2);
            let rest = buffer.take_rest().unwrap();
            assert_eq!(buffer.line(rest), b"fo");
            assert_eq!(buffer.take_rest(), None);
        }
    }

    #[test]
    fn a_reader_fills_it_until_its_end() {
        let mut buffer = LineBuffer::default();
        let mut reader = &b"a\nb"[..];
        assert_eq!(buffer.fill(&mut reader).unwrap(), 3);
        assert_eq!(buffer.fill(&mut reader).unwrap(), 0);
        assert_eq!(next(&mut buffer).unwrap(), "a\n");
        reader = b"c\n";
        assert_eq!(buffer.fill(&mut reader).unwrap(), 2);
        assert_eq!(next(&mut buffer).unwrap(), "bc\n");
    }
}
