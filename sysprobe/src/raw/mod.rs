//! The crate's one module with unsafe code. What it offers is safe to use: no caller can make it touch memory that is
//! not its own, or let the kernel do so.
//!
//! - [`Buffers`]: page-aligned memory for the slots of an engine.
//! - [`Ring`]: an io_uring that owns the buffers and files which the kernel uses, until the kernel is done with them.
//! - [`FileMap`]: a file as memory, read and written by copying.
//! - [`PageBuffer`]: a page-aligned buffer that the crate `tokio-uring` can own while the kernel uses it.
//! - [`ThreadUsage`]: CPU time, context switches and page faults of a thread.

#![allow(
    unsafe_code,
    reason = "the one place for it; each block says why it is sound"
)]

mod buffers;
mod map;
mod page_buffer;
mod ring;
mod usage;

pub(crate) use buffers::Buffers;
pub(crate) use map::FileMap;
pub(crate) use page_buffer::PageBuffer;
pub(crate) use ring::{Ring, RingError};
pub(crate) use usage::ThreadUsage;
