//! What the engine lays itself out from, and what follows from it.
//!
//! A [`ProfileChoice`] says where a new database takes its S-Size and S-Paral from: measured on its own folder, safe
//! defaults, or given. The MANIFEST keeps the answer as a [`StoredProfile`](crate::StoredProfile), so a database is measured once in its life.
//! At every start the [`Layout`] follows from the stored profile: each number with its formula and where it came from.

mod choice;
mod numbers;
mod tree_numbers;

pub use choice::ProfileChoice;
pub(crate) use choice::profile_for;
pub(crate) use numbers::MEMORY_BUDGET_BYTES;
pub use numbers::{Layout, LayoutNumber, Unit};
pub(crate) use tree_numbers::Given;
