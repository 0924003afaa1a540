//! How a job's results are printed.

use super::super::units::KiloBase;

/// The options of a job that change its report and nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportOptions {
    /// `description`.
    pub description: Option<String>,
    /// `kb_base`: what `k` means in values, and which of KiB and kB comes first in the text report.
    pub kb_base: KiloBase,
    /// `unit_base=1`: bandwidths of the text report in bits.
    pub in_bits: bool,
    /// `significant_figures` of the text report.
    pub digits_max: usize,
    /// Decimals of the percentiles' names in the text report, as many as `percentile_list` has.
    pub percentile_decimals: usize,
}

impl Default for ReportOptions {
    fn default() -> Self {
        ReportOptions {
            description: None,
            kb_base: KiloBase::default(),
            in_bits: false,
            digits_max: 4,
            percentile_decimals: 2,
        }
    }
}
