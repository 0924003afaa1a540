//! What a database did, and what it holds: [`Database::statistics`](crate::Database::statistics).
//!
//! Who works counts into the [`counters`], which cost next to nothing. What goes to files is counted by the
//! [`metered`](crate::io) layer below everything. The database puts it together with what can be had by looking, such as
//! the trees, as [`figures`]; [`metrics`] is the same as text for Prometheus.

pub(crate) mod counters;
pub(crate) mod figures;
mod metrics;
pub(crate) mod stalls;
