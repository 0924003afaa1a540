//! Crashes on real files: a process that writes to a database is killed at any of its calls, or the file system below it
//! loses power, and what is found afterwards is held against what the process had said was done.
//!
//! A [`child`] opens a database over a [`fuse`] and writes what follows from a seed and a number, as the [`workload`] says. It
//! tells each thing that was done by one line, before it goes on. The [`harness`] reads the lines ([`told`]), ends the child,
//! and has [`verify`] compare: what is there is the outcome of a prefix of the commits, whole, and holds all that was
//! acknowledged.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a tool for tests, what must not be ends it"
)]

pub mod child;
pub mod fuse;
pub mod harness;
pub mod lake;
pub mod told;
pub mod verify;
pub mod workload;
