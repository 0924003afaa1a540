//! What counts are kept in: numbers [`striped`] by thread where every read and commit counts, [`histogram`]s where
//! something takes microseconds anyway. Who counts what with them is in `statistics` and in `io`.

pub(crate) mod histogram;
pub(crate) mod striped;

/// A share or a multiple; 0 of nothing.
pub(crate) fn ratio(of: u64, by: u64) -> f64 {
    if by == 0 { 0.0 } else { of as f64 / by as f64 }
}
