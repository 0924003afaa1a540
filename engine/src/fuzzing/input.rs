//! Choices from the bytes of an input. Where they end, every choice is the first.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Input { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let (front, rest) = self.rest.split_at(self.rest.len().min(N));
        taken[..front.len()].copy_from_slice(front);
        self.rest = rest;
        taken
    }

    pub(super) fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub(super) fn bool(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// A number below a bound of at most 256.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.u8()) % bound
    }

    /// A place in something of that length; 0 in what is empty.
    pub(super) fn place(&mut self, len: usize) -> usize {
        let at = usize::from(self.u16());
        at % len.max(1)
    }

    /// At most so many bytes, behind a byte that says how many.
    pub(super) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let len = usize::from(self.u8()) % (most + 1);
        self.take(len)
    }

    /// Bytes behind two that say how many.
    pub(super) fn part(&mut self) -> &'a [u8] {
        let len = usize::from(self.u16());
        self.take(len)
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(self.rest.len().min(len));
        self.rest = rest;
        taken
    }
}

/// Bytes that were changed somehow; the same ones by chance.
pub(super) fn damaged(bytes: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let (kind, at) = (input.below(6), input.place(bytes.len()));
    let end = (at + 1 + usize::from(input.u8())).min(out.len());
    match kind {
        0 if !out.is_empty() => out[at] ^= 1 << input.below(8),
        1 if !out.is_empty() => out[at] = input.u8(),
        2 => out.truncate(at),
        3 => out[at..end].fill(0),
        // A part of it once more, in another place.
        4 => {
            let from = input.place(bytes.len());
            let copied: Vec<u8> = bytes[from..].iter().copied().take(end - at).collect();
            out[at..at + copied.len().min(end - at)].copy_from_slice(&copied);
        }
        _ => out.extend_from_slice(input.bytes(64)),
    }
    out
}
