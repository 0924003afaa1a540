//! What a database did, and what it holds: [`Database::statistics`](crate::Database::statistics).
//!
//! Who works counts into the [`counters`], which cost next to nothing: [`striped`] by thread where every read and commit
//! counts, [`histogram`]s where something takes microseconds anyway. What goes to files is counted by the
//! [`metered`](crate::io) layer below everything. [`gather`] puts it together with what can be had by looking, such as the
//! trees, as [`figures`]; [`metrics`] is the same as text for Prometheus.

pub(crate) mod counters;
pub(crate) mod figures;
mod gather;
pub(crate) mod histogram;
mod metrics;
pub(crate) mod striped;

/// A share or a multiple; 0 of nothing.
pub(crate) fn ratio(of: u64, by: u64) -> f64 {
    if by == 0 { 0.0 } else { of as f64 / by as f64 }
}
