//! Reading a file whole, in pieces side by side.
//!
//! One read through the page cache keeps the device busy with one read-ahead window at a time. As many threads as the
//! device needs for its greatest bandwidth (S-Paral), each with a read of at least S-Size, keep all of it busy.

use std::io::Result;
use std::slice::ChunksMut;

use crate::io::IoFile;
use crate::layout::Layout;
use crate::sync::Mutex;
use crate::sync::thread::Builder;

/// Reads the first `len` bytes of a file.
pub(super) fn read_whole(file: &dyn IoFile, len: usize, layout: &Layout) -> Result<Vec<u8>> {
    let piece_len = layout.recovery_read_size_bytes.as_usize().max(1);
    let mut bytes = vec![0; len];
    let threads = layout
        .recovery_threads
        .as_usize()
        .min(len.div_ceil(piece_len));
    let pieces = Pieces {
        left: Mutex::new(bytes.chunks_mut(piece_len).enumerate()),
        piece_len,
    };
    std::thread::scope(|scope| {
        let spawn = |_| {
            let work = || pieces.read(file);
            // Where no more threads can be had, those that there are read it all.
            Builder::new().spawn_scoped(scope, work).ok()
        };
        let helpers: Vec<_> = (1..threads).filter_map(spawn).collect();
        let mut read = pieces.read(file);
        for helper in helpers {
            match helper.join() {
                Ok(by_helper) => read = read.and(by_helper),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        read
    })?;
    Ok(bytes)
}

/// Pieces of a file that nobody reads yet.
struct Pieces<'a> {
    left: Mutex<std::iter::Enumerate<ChunksMut<'a, u8>>>,
    piece_len: usize,
}

impl Pieces<'_> {
    /// Reads one piece after the other until none is left.
    fn read(&self, file: &dyn IoFile) -> Result<()> {
        loop {
            let next = self.left.lock().next();
            let Some((i, piece)) = next else {
                return Ok(());
            };
            file.read_exact_at(piece, (i * self.piece_len) as u64)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use moonshine_sysprobe::Profile;

    use super::*;
    use crate::io::{Io, OpenMode, SimulatedIo};
    use crate::profile::StoredProfile;

    fn layout() -> Layout {
        let profile = StoredProfile::from(Profile::given(4096, 8));
        let mut layout = Layout::of(&profile);
        layout.recovery_read_size_bytes.value = 4096;
        layout
    }

    #[test]
    fn a_file_comes_back_whole_whatever_its_length() {
        let io = SimulatedIo::new(1);
        for len in [0, 1, 4095, 4096, 4097, 100_000] {
            let path = format!("/{len}");
            let file = io.open(Path::new(&path), OpenMode::CreateNew).unwrap();
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            file.write_all_at(&bytes, 0).unwrap();
            assert_eq!(read_whole(&*file, len, &layout()).unwrap(), bytes, "{len}");
        }
    }

    #[test]
    fn a_piece_that_cannot_be_read_is_an_error() {
        let io = SimulatedIo::new(1);
        let file = io.open(Path::new("/f"), OpenMode::CreateNew).unwrap();
        file.write_all_at(&[1; 50_000], 0).unwrap();
        assert!(read_whole(&*file, 50_001, &layout()).is_err());
    }
}
