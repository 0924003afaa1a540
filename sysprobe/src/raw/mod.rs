//! The crate's one module with unsafe code. What it offers is safe to use: no caller can make it touch memory that is
//! not its own, or let the kernel do so.
//!
//! - [`Buffers`]: page-aligned memory for the slots of an engine, owned by the engine and given to the kernel by pointer.

#![allow(
    unsafe_code,
    reason = "the one place for it; each block says why it is sound"
)]

mod buffers;

pub(crate) use buffers::Buffers;
