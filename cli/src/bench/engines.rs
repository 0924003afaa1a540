//! Engines that are not made of blocks.

use moonshine_sysprobe::bench::WorkloadFactory;

use super::moonshine::MoonshineFactory;

/// All of them; `ioengine` names one.
pub(super) fn all() -> Vec<Box<dyn WorkloadFactory>> {
    vec![Box::new(MoonshineFactory::new())]
}
