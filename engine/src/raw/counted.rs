//! A header and lines behind it, shared by counting references.

use std::alloc::{Layout, handle_alloc_error};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering, fence};

use arc_swap::RefCnt;

use super::{CacheLine, Extent, LINE_SIZE_BYTES};

/// What stands before the lines, and hears when the last reference has gone.
pub(crate) trait Header: Send + Sync {
    /// The lines are no longer used; here is the extent that they lay in, if it was one.
    fn let_go(self, extent: Option<Extent>);
}

/// Header and count; the lines follow. All of it fits into one line, so that a reader loads one.
#[repr(C, align(64))]
pub(crate) struct Head<H> {
    reference_count: AtomicUsize,
    /// All lines, with that of the head.
    line_count: u32,
    in_extent: bool,
    header: H,
}

/// A reference to a header and lines: an `Arc` whose memory may be a [`Extent`].
pub(crate) struct Counted<H: Header> {
    head: NonNull<Head<H>>,
    owns: PhantomData<Head<H>>,
}

// SAFETY: as for `Arc`: several threads use header and lines by shared references only, and any of them may be the last.
// `Header` is `Send + Sync`, lines are bytes.
unsafe impl<H: Header> Send for Counted<H> {}
// SAFETY: as above.
unsafe impl<H: Header> Sync for Counted<H> {}

impl<H: Header> Counted<H> {
    const FITS: () = assert!(size_of::<Head<H>>() == size_of::<CacheLine>());

    /// Lines that content of that size takes, with the head's.
    pub(crate) fn line_count_for(content_size_bytes: usize) -> usize {
        1 + content_size_bytes.div_ceil(LINE_SIZE_BYTES)
    }

    /// Takes a copy of the content, filled up with zeros, into an extent of as many lines as that takes
    /// ([`line_count_for`](Self::line_count_for)). An extent of other size goes, and memory is the allocator's, as it is
    /// without an extent.
    pub(crate) fn new(header: H, content: &[u8], extent: Option<Extent>) -> Self {
        const { Self::FITS };
        assert!(
            u32::try_from(content.len()).is_ok(),
            "content of at most 2^32 bytes"
        );
        let line_count = crate::codec::len_u32(Self::line_count_for(content.len()));
        let extent = extent.filter(|extent| extent.line_count() == line_count);
        let in_extent = extent.is_some();
        let first = match extent {
            Some(extent) => extent.into_parts().0,
            None => allocate(line_count),
        };
        let head = first.cast::<Head<H>>();
        let value = Head {
            reference_count: AtomicUsize::new(1),
            line_count,
            in_extent,
            header,
        };
        // SAFETY: `first` has `line_count` lines which are nobody else's: the head's, large and aligned enough for it,
        // and those of the content, of which all bytes are written here.
        unsafe {
            head.write(value);
            let bytes = first.add(1).cast::<u8>();
            let filled_size_bytes = (line_count as usize - 1) * LINE_SIZE_BYTES - content.len();
            bytes.copy_from_nonoverlapping(NonNull::from(content).cast(), content.len());
            bytes.add(content.len()).write_bytes(0, filled_size_bytes);
        }
        Counted {
            head,
            owns: PhantomData,
        }
    }

    /// What stands before the lines.
    #[inline]
    pub(crate) fn header(&self) -> &H {
        &self.head().header
    }

    /// The lines of the content.
    #[inline]
    pub(crate) fn lines(&self) -> &[CacheLine] {
        let count = self.head().line_count as usize - 1;
        // SAFETY: that many lines follow the head's; they were all written when this was made and are not written again
        // while a reference lives.
        unsafe { std::slice::from_raw_parts(self.head.add(1).cast::<CacheLine>().as_ptr(), count) }
    }

    /// How many references there are.
    #[inline]
    pub(crate) fn reference_count(&self) -> usize {
        self.head().reference_count.load(Ordering::Relaxed)
    }

    /// Where its memory begins.
    #[inline]
    pub(crate) fn address(&self) -> usize {
        self.head.addr().get()
    }

    #[inline]
    fn head(&self) -> &Head<H> {
        // SAFETY: the head was written when this was made, and stays while a reference lives.
        unsafe { self.head.as_ref() }
    }

    /// Takes header and memory apart, after the last reference.
    ///
    /// # Safety
    /// No reference is left, and this is called once.
    #[cold]
    unsafe fn free(head: NonNull<Head<H>>) {
        // SAFETY: nobody else uses the head any more, so it can be moved out. Its memory is what `new` took: an extent, which
        // becomes one again here and nowhere else, or memory of the allocator with that layout.
        unsafe {
            let value = head.read();
            let first = head.cast::<CacheLine>();
            let extent = if value.in_extent {
                Some(Extent::from_parts(first, value.line_count))
            } else {
                std::alloc::dealloc(first.as_ptr().cast(), layout(value.line_count));
                None
            };
            value.header.let_go(extent);
        }
    }
}

impl<H: Header> Clone for Counted<H> {
    #[inline]
    fn clone(&self) -> Self {
        let before = self.head().reference_count.fetch_add(1, Ordering::Relaxed);
        // As `Arc` does: so many references can only be forgotten ones, and one more could make the count zero.
        if before > isize::MAX as usize {
            std::process::abort();
        }
        Counted {
            head: self.head,
            owns: PhantomData,
        }
    }
}

impl<H: Header> Drop for Counted<H> {
    #[inline]
    fn drop(&mut self) {
        // As `Arc` does: uses by other threads happen before their decrements, those before the memory goes.
        if self.head().reference_count.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            // SAFETY: that was the last reference.
            unsafe { Self::free(self.head) };
        }
    }
}

impl<H: Header + fmt::Debug> fmt::Debug for Counted<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted")
            .field("header", self.header())
            .finish_non_exhaustive()
    }
}

// SAFETY: the pointer is that of the head, made from a reference and made one again without a change of the count; a clone
// of the same reference has the same pointer, so it tells two references apart exactly where they are of two heads.
unsafe impl<H: Header> RefCnt for Counted<H> {
    type Base = Head<H>;

    fn into_ptr(me: Self) -> *mut Head<H> {
        let head = me.head.as_ptr();
        std::mem::forget(me);
        head
    }

    fn as_ptr(me: &Self) -> *mut Head<H> {
        me.head.as_ptr()
    }

    unsafe fn from_ptr(head: *const Head<H>) -> Self {
        Counted {
            // SAFETY: the caller got it from `into_ptr` or `as_ptr`, which give no null.
            head: unsafe { NonNull::new_unchecked(head.cast_mut()) },
            owns: PhantomData,
        }
    }
}

/// `line_count` is a `u32`'s, so this is no overflow.
fn layout(line_count: u32) -> Layout {
    let size_bytes = line_count as usize * LINE_SIZE_BYTES;
    match Layout::from_size_align(size_bytes, align_of::<CacheLine>()) {
        Ok(layout) => layout,
        Err(_) => std::process::abort(),
    }
}

fn allocate(line_count: u32) -> NonNull<CacheLine> {
    let layout = layout(line_count);
    // SAFETY: there is a line at least, that of the head.
    let memory = unsafe { std::alloc::alloc(layout) };
    match NonNull::new(memory.cast()) {
        Some(memory) => memory,
        None => handle_alloc_error(layout),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::sync::Mutex;
    use arc_swap::ArcSwapAny;
    use zerocopy::IntoBytes;

    use super::*;

    /// Keeps what comes back.
    #[derive(Clone, Debug, Default)]
    struct Returned(Arc<Mutex<Vec<Option<Extent>>>>);

    impl Header for Returned {
        fn let_go(self, extent: Option<Extent>) {
            self.0.lock().push(extent);
        }
    }

    #[test]
    fn content_is_copied_into_its_extent_which_comes_back_once() {
        let returned = Returned::default();
        let mut chunk = Extent::map_chunk(0).unwrap();
        let content: Vec<u8> = (1..=200).collect();
        let line_count = Counted::<Returned>::line_count_for(content.len());
        assert_eq!(line_count, 5);
        let extent = chunk.split_front(5).unwrap();
        let address = extent.address();
        let one = Counted::new(returned.clone(), &content, Some(extent));
        let other = one.clone();
        assert_eq!((one.address(), other.reference_count()), (address, 2));
        let bytes = other.lines().as_bytes();
        assert_eq!((&bytes[..200], &bytes[200..]), (&content[..], &[0; 56][..]));
        drop(one);
        assert!(returned.0.lock().is_empty());
        drop(other);
        let extents = std::mem::take(&mut *returned.0.lock());
        let [Some(extent)] = &extents[..] else {
            panic!("{extents:?}")
        };
        assert_eq!((extent.address(), extent.line_count()), (address, 5));
    }

    #[test]
    fn without_an_extent_that_fits_memory_is_the_allocators() {
        let returned = Returned::default();
        let mut chunk = Extent::map_chunk(0).unwrap();
        let small = chunk.split_front(2).unwrap();
        for extent in [None, Some(small)] {
            let counted = Counted::new(returned.clone(), &[7; 100], extent);
            assert_eq!(counted.lines().as_bytes()[..100], [7; 100]);
        }
        let empty = Counted::new(returned.clone(), &[], None);
        assert!(empty.lines().is_empty());
        drop(empty);
        assert!(returned.0.lock().iter().all(Option::is_none));
        assert_eq!(returned.0.lock().len(), 3);
    }

    /// Readers that hold what a slot had, while others put something else there.
    #[test]
    fn a_slot_is_read_while_it_is_written() {
        let returned = Returned::default();
        let mut chunk = Extent::map_chunk(0).unwrap();
        let made = |byte: u8, extent| Some(Counted::new(returned.clone(), &[byte; 64], extent));
        let slot = ArcSwapAny::<Option<Counted<Returned>>>::new(made(0, chunk.split_front(2)));
        let rounds = if cfg!(miri) { 20 } else { 20_000 };
        let extents: Vec<_> = (0..2).filter_map(|_| chunk.split_front(2)).collect();
        std::thread::scope(|scope| {
            for extent in extents {
                let (slot, made) = (&slot, &made);
                scope.spawn(move || {
                    let mut extent = Some(extent);
                    (0..rounds).for_each(|i| slot.store(made(i as u8, extent.take())));
                });
                scope.spawn(move || {
                    for _ in 0..rounds {
                        let held = slot.load();
                        let lines = held.as_ref().unwrap().lines();
                        assert!(lines[0].0.iter().all(|byte| *byte == lines[0].0[0]));
                    }
                });
            }
        });
        slot.store(None);
        assert_eq!(returned.0.lock().len(), 2 * rounds + 1);
        assert_eq!(returned.0.lock().iter().flatten().count(), 3);
    }
}
