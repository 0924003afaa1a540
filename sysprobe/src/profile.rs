//! The profile of a machine.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

/// S-Size where nothing was measured: what a hard disk needs, so no device is given less than it can use.
const S_SIZE_BYTES_DEFAULT: u64 = 256 * 1024;
/// Greatest S-Paral: a shard number is kept in 16 bits, and no device known needs more.
const S_PARAL_MAX: u32 = 1024;

/// Where the numbers of a [`Profile`] came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileSource {
    /// Taken from the number of cores and the most cautious device.
    SafeDefaults,
    /// Set by the caller.
    Given,
    /// Measured on this machine.
    Measured,
}

/// The two numbers an engine lays itself out from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// S-Size: the smallest I/O that reaches the device's maximum bandwidth, in bytes.
    pub s_size_bytes: u64,
    /// S-Paral: the fewest partitions that reach maximum bandwidth and full CPU; a power of two.
    pub s_paral: u32,
    /// Where the two came from.
    pub source: ProfileSource,
}

impl Profile {
    /// A profile for a machine that has not been measured.
    ///
    /// ```
    /// let profile = moonshine_sysprobe::Profile::safe_defaults();
    /// assert!(profile.s_paral.is_power_of_two());
    /// ```
    pub fn safe_defaults() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Profile {
            s_size_bytes: S_SIZE_BYTES_DEFAULT,
            s_paral: s_paral_from(cores),
            source: ProfileSource::SafeDefaults,
        }
    }

    /// A profile of numbers that the caller knows; S-Paral is rounded up to a power of two.
    ///
    /// ```
    /// let profile = moonshine_sysprobe::Profile::given(65_536, 6);
    /// assert_eq!(profile.s_paral, 8);
    /// ```
    pub fn given(s_size_bytes: u64, s_paral: u32) -> Self {
        Profile {
            s_size_bytes: s_size_bytes.max(4096),
            s_paral: s_paral_from(usize::try_from(s_paral).unwrap_or(usize::MAX)),
            source: ProfileSource::Given,
        }
    }

    /// A profile of what a device and the cores of this machine need; S-Paral is the greater of the two, rounded up to a
    /// power of two.
    ///
    /// ```
    /// let profile = moonshine_sysprobe::Profile::measured(65_536, 6, 4);
    /// assert_eq!((profile.s_size_bytes, profile.s_paral), (65_536, 8));
    /// ```
    pub fn measured(s_size_bytes: u64, io_threads: u64, cores: usize) -> Self {
        let io_threads = usize::try_from(io_threads).unwrap_or(usize::MAX);
        Profile {
            s_size_bytes: s_size_bytes.max(4096),
            s_paral: s_paral_from(io_threads.max(cores)),
            source: ProfileSource::Measured,
        }
    }
}

fn s_paral_from(partitions: usize) -> u32 {
    let partitions = u32::try_from(partitions)
        .unwrap_or(S_PARAL_MAX)
        .clamp(1, S_PARAL_MAX);
    partitions.next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_paral_is_a_power_of_two_within_its_limit() {
        for (partitions, expected) in [
            (0, 1),
            (1, 1),
            (3, 4),
            (4, 4),
            (1000, 1024),
            (u32::MAX, 1024),
        ] {
            assert_eq!(
                Profile::given(4096, partitions).s_paral,
                expected,
                "{partitions}"
            );
        }
    }
}
