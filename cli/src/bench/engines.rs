//! Engines that are not made of blocks.

use moonshine_sysprobe::bench::WorkloadFactory;

/// All of them; `ioengine` names one.
pub(super) fn all() -> Vec<Box<dyn WorkloadFactory>> {
    Vec::new()
}
