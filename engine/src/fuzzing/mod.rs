//! What `fuzz/` runs: built with `--cfg fuzzing` alone, and then for nobody else.
//!
//! Each [`Target`] takes any bytes and panics where a property does not hold; docs/testing.md lists them. What lies behind a
//! checksum is given to its decoder as it is, and once more sealed, so that the fuzzer needs no luck to get past one.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a property that does not hold is told by a panic, as in tests"
)]

mod delta;
mod edits;
mod engine;
mod facts;
mod input;
mod log;
mod manifest;
mod pages;
mod reference;
mod row_set;
mod rows;
mod values;

use uuid::Uuid;

/// What the fuzzer runs, and what it begins with.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Panics where a property does not hold.
    pub run: fn(&[u8]),
    /// Inputs that reach far, made from what the engine itself encodes.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($module:ident: $constant:ident),* $(,)?) => {
        $(pub const $constant: Target = Target { run: $module::run, seeds: $module::seeds };)*
    };
}

targets! {
    delta: DELTA,
    edits: EDITS,
    engine: ENGINE,
    facts: FACTS,
    log: LOG,
    manifest: MANIFEST,
    pages: PAGES,
    row_set: ROW_SET,
    rows: ROWS,
}

/// The database that all bytes are of.
const DATABASE: Uuid = Uuid::from_u128(0x0bad_cafe_0000_0000_0000_0000_0000_0007);

/// Inputs of that length that nothing is known of: for a target that makes something of any bytes.
fn noise(count: u64, len: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|i| {
            let words = (0..len.div_ceil(8) as u64)
                .map(|at| xxhash_rust::xxh3::xxh3_64_with_seed(&at.to_le_bytes(), i));
            let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
            bytes.truncate(len);
            bytes
        })
        .collect()
}

/// A part of an input behind its length, as [`input::Input::part`] takes it.
fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&(part.len() as u16).to_le_bytes());
    out.extend_from_slice(part);
}
