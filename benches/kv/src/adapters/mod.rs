//! One adapter an engine: the plainest code that its own documentation would lead a user to.
//!
//! Settings are in [`crate::settings`]; nothing here tunes. Each file says what is peculiar to its engine.

pub(crate) mod fjall;
pub(crate) mod lmdb;
pub(crate) mod moonshine;
pub(crate) mod redb;
pub(crate) mod rocksdb;
pub(crate) mod sled;
