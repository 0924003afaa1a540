//! The crate's one module with unsafe code. What it offers is safe to use: no caller can make it touch memory that is
//! not its own, use memory that was given back, or give memory back twice.
//!
//! - [`Extent`]: owned memory in whole [`CacheLine`]s. The first one is a mapped chunk; others are split from it and joined
//!   again.
//! - [`Counted`]: a header and lines behind it, shared by a count of references, in an extent or in the allocator's memory.
//! - [`MappedPart`]: a part of a file as memory, written by copying.
//! - [`Trimming`]: what the C library's allocator keeps goes back to the system.
//!
//! docs/testing.md says how its tests run with a sanitizer, and under Miri.

#![allow(
    unsafe_code,
    reason = "the one place for it; each unsafe block says why it is sound"
)]

mod allocator;
mod counted;
mod extent;
mod mapped;

pub(crate) use allocator::Trimming;
pub use allocator::limit_allocator;
pub(crate) use counted::{Counted, Header};
pub(crate) use extent::{CHUNK_SIZE_BYTES, Extent, LINES_PER_CHUNK, chunk_address_of};
pub(crate) use mapped::MappedPart;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a line of the processor's caches.
pub(crate) const LINE_SIZE_BYTES: usize = 64;

/// 64 bytes, aligned so that they take one load of memory.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub(crate) struct CacheLine(pub(crate) [u8; LINE_SIZE_BYTES]);
