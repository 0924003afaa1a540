//! A device of formulas, with a clock of its own.

use std::cell::Cell;
use std::time::Duration;

use crate::error::ProbeError;
use crate::latency::Histogram;
use crate::probe::device::{Device, Load, Measurement, SyncMethod};

/// Latency and bandwidth of a device, noise, and what a provider takes away after a while.
pub(crate) struct SimulatedDevice {
    pub(crate) latency: Duration,
    pub(crate) bytes_per_second_max: f64,
    /// Whether it has one arm: I/Os wait for each other.
    pub(crate) one_arm: bool,
    /// Others take up to this share of each measurement.
    pub(crate) noise_share: f64,
    /// From this time on, the device has only half of its bandwidth.
    pub(crate) throttled_from: Duration,
    pub(crate) writes: bool,
    pub(crate) queues: bool,
    pub(crate) seed: Cell<u64>,
    pub(crate) clock: Cell<Duration>,
}

impl SimulatedDevice {
    /// A disk with an arm: 8 ms and 150 MB/s.
    pub(crate) fn hard_disk() -> Self {
        SimulatedDevice {
            latency: Duration::from_millis(8),
            bytes_per_second_max: 150e6,
            one_arm: true,
            ..SimulatedDevice::steady()
        }
    }

    /// 100 µs and 2 GB/s: by Little's law, 16 I/Os under way need blocks of 12.5 kB.
    pub(crate) fn steady() -> Self {
        SimulatedDevice {
            latency: Duration::from_micros(100),
            bytes_per_second_max: 2e9,
            one_arm: false,
            noise_share: 0.0,
            throttled_from: Duration::MAX,
            writes: true,
            queues: true,
            seed: Cell::new(1),
            clock: Cell::new(Duration::ZERO),
        }
    }

    /// From 0 to 1.
    fn noise(&self) -> f64 {
        let mixed = self
            .seed
            .get()
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.seed.set(mixed);
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Device for SimulatedDevice {
    fn run(&self, load: &Load, window: Duration) -> Result<Measurement, ProbeError> {
        let bytes_under_way = load.bytes_in_flight() as f64;
        let throttle = if self.clock.get() >= self.throttled_from {
            0.5
        } else {
            1.0
        };
        let latency_s = self.latency.as_secs_f64();
        let bandwidth = if self.one_arm {
            let bytes = load.block_size_bytes as f64;
            bytes / (latency_s + bytes / self.bytes_per_second_max)
        } else {
            (bytes_under_way / latency_s).min(self.bytes_per_second_max)
        };
        // At least one I/O for each that may be under way.
        let spent = Duration::from_secs_f64(bytes_under_way / bandwidth);
        self.clock.set(self.clock.get() + window.max(spent));
        let mut latencies = Histogram::default();
        latencies.record(spent);
        Ok(Measurement {
            bytes_per_second: bandwidth * throttle * (1.0 - self.noise_share * self.noise()),
            latencies,
        })
    }

    fn run_synced(
        &self,
        _method: SyncMethod,
        block_size_bytes: u64,
        window: Duration,
    ) -> Result<Histogram, ProbeError> {
        self.clock.set(self.clock.get() + window);
        let mut latencies = Histogram::default();
        let transfer = block_size_bytes as f64 / self.bytes_per_second_max;
        latencies.record(self.latency + Duration::from_secs_f64(transfer));
        Ok(latencies)
    }

    fn writes(&self) -> bool {
        self.writes
    }

    fn queues(&self) -> bool {
        self.queues
    }

    fn now(&self) -> Duration {
        self.clock.get()
    }
}
