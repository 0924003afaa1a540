//! Memory that is split and joined by owning it.

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use super::{CacheLine, LINE_SIZE_BYTES};

/// Bytes of a chunk: one large page of the usual processors.
pub(crate) const CHUNK_SIZE_BYTES: usize = 2 << 20;

/// Lines of a chunk that its extents share; the first line of all counts the extents.
pub(crate) const LINES_PER_CHUNK: u32 = (CHUNK_SIZE_BYTES / LINE_SIZE_BYTES) as u32 - 1;

/// What the first line of a chunk holds.
struct ChunkHead {
    /// Extents that are in use. The chunk goes with the last.
    extent_count: AtomicU32,
    /// A number that who mapped the chunk gave it.
    tag: u32,
}

/// Whole lines of a chunk, owned: no two extents have a line in common. What the lines hold is undefined.
pub(crate) struct Extent {
    first: NonNull<CacheLine>,
    line_count: u32,
}

// SAFETY: an extent owns its lines, as a `Box` does; the chunk's head is shared by atomics only.
unsafe impl Send for Extent {}
// SAFETY: through a shared extent nothing but its address, length and tag can be read, which do not change.
unsafe impl Sync for Extent {}

impl Extent {
    /// A chunk of memory, for which the system is asked to use a large page; `None` if it has none to give.
    pub(crate) fn map_chunk(tag: u32) -> Option<Extent> {
        let chunk = map()?;
        let head = ChunkHead {
            extent_count: AtomicU32::new(1),
            tag,
        };
        // SAFETY: the chunk is mapped, writable and aligned to its size, and nobody else knows of it. Its first line is
        // large and aligned enough for the head; the lines behind it are within the chunk.
        unsafe {
            chunk.cast::<ChunkHead>().write(head);
            Some(Extent {
                first: chunk.cast::<CacheLine>().add(1),
                line_count: LINES_PER_CHUNK,
            })
        }
    }

    /// How many lines it has.
    pub(crate) fn line_count(&self) -> u32 {
        self.line_count
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> usize {
        self.first.addr().get()
    }

    /// Where what lies behind it begins.
    pub(crate) fn end_address(&self) -> usize {
        self.address() + self.line_count as usize * LINE_SIZE_BYTES
    }

    /// Where its chunk begins.
    pub(crate) fn chunk_address(&self) -> usize {
        chunk_address_of(self.address())
    }

    /// The number that its chunk was given.
    pub(crate) fn tag(&self) -> u32 {
        self.head().tag
    }

    /// Splits that many lines off its front, if it has more.
    pub(crate) fn split_front(&mut self, line_count: u32) -> Option<Extent> {
        if line_count == 0 || line_count >= self.line_count {
            return None;
        }
        self.head().extent_count.fetch_add(1, Ordering::Relaxed);
        let front = Extent {
            first: self.first,
            line_count,
        };
        // SAFETY: fewer than its lines are skipped, so the new begin lies within the extent.
        self.first = unsafe { self.first.add(line_count as usize) };
        self.line_count -= line_count;
        Some(front)
    }

    /// Takes the lines of an extent that begins where this one ends; else gives that back.
    pub(crate) fn join(&mut self, behind: Extent) -> Result<(), Extent> {
        // The head of a chunk lies between the extents of two chunks, so extents that meet are of one.
        if self.end_address() != behind.address() {
            return Err(behind);
        }
        self.line_count += behind.line_count;
        Ok(())
    }

    /// Gives up the extent for its lines. To be made one again by [`from_parts`](Self::from_parts).
    pub(super) fn into_parts(self) -> (NonNull<CacheLine>, u32) {
        let parts = (self.first, self.line_count);
        std::mem::forget(self);
        parts
    }

    /// The extent that [`into_parts`](Self::into_parts) made these of.
    ///
    /// # Safety
    /// Each result of `into_parts` may be given here once, and its lines not be used by others from then on.
    pub(super) unsafe fn from_parts(first: NonNull<CacheLine>, line_count: u32) -> Self {
        Extent { first, line_count }
    }

    fn chunk(&self) -> NonNull<u8> {
        self.first.cast::<u8>().map_addr(|address| {
            // The first line of a chunk is no extent's, so the chunk does not begin at zero either.
            std::num::NonZero::new(chunk_address_of(address.get())).unwrap_or(address)
        })
    }

    fn head(&self) -> &ChunkHead {
        // SAFETY: an extent lies within a chunk, which is aligned to its size and stays mapped while one of its extents
        // lives; its head was written before the first extent was made, and is never written again but by atomics.
        unsafe { self.chunk().cast::<ChunkHead>().as_ref() }
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        // As for `Arc`: what others did with their extents happens before the chunk goes.
        if self.head().extent_count.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            // SAFETY: this was the last extent of the chunk, so nothing of it is in use.
            unsafe { unmap(self.chunk()) };
        }
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines at {:#x}", self.line_count, self.address())
    }
}

/// Where the chunk begins that has that address.
pub(crate) fn chunk_address_of(address: usize) -> usize {
    address & !(CHUNK_SIZE_BYTES - 1)
}

/// Memory of a chunk's size, aligned to that.
#[cfg(not(miri))]
fn map() -> Option<NonNull<u8>> {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    // Twice as much, of which what lies before and behind the aligned chunk is given back.
    let mapped_size_bytes = 2 * CHUNK_SIZE_BYTES;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new anonymous mapping at an address that the kernel chooses touches no memory that is in use.
    let mapped = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            mapped_size_bytes,
            protection,
            MapFlags::PRIVATE,
        )
    };
    let mapped = NonNull::new(mapped.ok()?)?.cast::<u8>();
    let before = mapped.addr().get().next_multiple_of(CHUNK_SIZE_BYTES) - mapped.addr().get();
    // SAFETY: both parts lie within what was just mapped, and outside of the chunk; mappings begin at whole pages.
    unsafe {
        let chunk = mapped.add(before);
        let behind = CHUNK_SIZE_BYTES - before;
        if before > 0 {
            // What can't be given back stays mapped and is never touched.
            munmap(mapped.as_ptr().cast(), before).ok();
        }
        if behind > 0 {
            munmap(chunk.add(CHUNK_SIZE_BYTES).as_ptr().cast(), behind).ok();
        }
        #[cfg(target_os = "linux")]
        {
            let advice = rustix::mm::Advice::LinuxHugepage;
            // Where the system has no large pages, usual ones do.
            rustix::mm::madvise(chunk.as_ptr().cast(), CHUNK_SIZE_BYTES, advice).ok();
        }
        Some(chunk)
    }
}

/// Gives a chunk back to the system.
///
/// # Safety
/// It was returned by [`map`], and nothing of it is used any more.
#[cfg(not(miri))]
unsafe fn unmap(chunk: NonNull<u8>) {
    // SAFETY: as the caller says. What can't be given back stays mapped and is never touched.
    unsafe { rustix::mm::munmap(chunk.as_ptr().cast(), CHUNK_SIZE_BYTES).ok() };
}

/// Miri knows no mappings, but what an allocator gives.
#[cfg(miri)]
const CHUNK_LAYOUT: std::alloc::Layout =
    match std::alloc::Layout::from_size_align(CHUNK_SIZE_BYTES, CHUNK_SIZE_BYTES) {
        Ok(layout) => layout,
        Err(_) => panic!("a chunk's size is a power of two"),
    };

#[cfg(miri)]
fn map() -> Option<NonNull<u8>> {
    // SAFETY: the layout is not empty.
    NonNull::new(unsafe { std::alloc::alloc(CHUNK_LAYOUT) })
}

#[cfg(miri)]
unsafe fn unmap(chunk: NonNull<u8>) {
    // SAFETY: as the caller says.
    unsafe { std::alloc::dealloc(chunk.as_ptr(), CHUNK_LAYOUT) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_split_and_joined_within_their_chunk() {
        let mut rest = Extent::map_chunk(7).unwrap();
        assert_eq!((rest.line_count(), rest.tag()), (LINES_PER_CHUNK, 7));
        assert_eq!(rest.address() - rest.chunk_address(), LINE_SIZE_BYTES);
        let mut first = rest.split_front(3).unwrap();
        let second = rest.split_front(4).unwrap();
        assert_eq!(second.address() - first.address(), 3 * LINE_SIZE_BYTES);
        assert!(rest.split_front(0).is_none() && rest.split_front(rest.line_count()).is_none());
        let rest = first.join(rest).unwrap_err();
        first.join(second).unwrap();
        first.join(rest).unwrap();
        assert_eq!(first.line_count(), LINES_PER_CHUNK);
        let other = Extent::map_chunk(8).unwrap();
        assert_ne!(other.chunk_address(), first.chunk_address());
        assert_eq!(first.join(other).unwrap_err().tag(), 8);
    }

    #[test]
    fn a_chunk_stays_until_its_last_extent_has_gone() {
        let mut rest = Extent::map_chunk(1).unwrap();
        let extents: Vec<Extent> = (0..8).map(|_| rest.split_front(16).unwrap()).collect();
        drop(rest);
        std::thread::scope(|scope| {
            for extent in extents {
                scope.spawn(move || assert_eq!((extent.tag(), extent.line_count()), (1, 16)));
            }
        });
    }
}
