//! From a device to the numbers.
//!
//! 1. Bandwidth over block size, at random places, by [`THREADS_FOR_BLOCK_SIZE`] threads: the knees of reading and of
//!    writing, the greater of them, are S-Size. Places are random, since that is where an engine's fragments lie.
//! 2. Bandwidth over threads, and over the depth of a queue, in blocks of S-Size: the fewest that may reach the share, of
//!    reading and of writing the greater, are what the device needs of synchronous and of asynchronous I/O. The law's own
//!    knee is not used here: more threads than needed cost an engine something for ever, so the need for each step beyond
//!    has to be shown by the measurements. S-Paral is the greatest of the two and the number of cores, rounded up to a
//!    power of two.
//! 3. Synced writes of growing size: what a commit costs, and how much may share one for little more.
//! 4. What is left of the time goes to all other points of the grid; before its end the block sizes are measured again,
//!    and S-Size is taken from both times together.

use std::time::Duration;

use serde::Serialize;

use crate::error::ProbeError;
use crate::latency::{Histogram, Latency};
use crate::probe::budget::Budget;
use crate::probe::device::{
    BLOCK_SIZE_BYTES_MAX, BLOCK_SIZE_BYTES_MIN, Device, IN_FLIGHT_MAX, Load, Operation, Pattern,
    Submission, SyncMethod,
};
use crate::probe::drift::{Drift, drift};
use crate::probe::grid::Grid;
use crate::probe::knee::Knee;
use crate::probe::sweep::{Axis, Deadline, Varies, sweep};

/// Enough to hide the latency of most devices, so that block size alone is what varies.
pub const THREADS_FOR_BLOCK_SIZE: u64 = 16;
/// Most memory for the buffers of a load.
pub(crate) const BUFFERS_BYTES_MAX: u64 = 256 << 20;
/// Most bytes under way on the axes that decide: more than any device needs at once, and waiting for them takes time.
const BYTES_IN_FLIGHT_MAX: u64 = 32 << 20;
/// A commit may take this many times as long as the smallest one, for the bytes that share it.
const COMMIT_LATENCY_RATIO: f64 = 2.0;
/// Sizes of synced writes.
const SYNCED_KIB: [u64; 5] = [4, 16, 64, 256, 1024];
/// Synced writes of each size are measured this many times at most, between each other.
const SYNCED_ROUNDS: usize = 6;
/// Samples of a point that must be left when those from before a throttle are dropped.
const SUSTAINED_ROUNDS: usize = 2;

/// Shares of the time, in percent, after which each part has to end.
struct Schedule {
    block_sizes: u32,
    threads: u32,
    queue: u32,
    synced: u32,
    grid: u32,
    block_sizes_again: u32,
}

impl Schedule {
    fn of(budget: &Budget) -> Self {
        if budget.whole_grid {
            Schedule {
                block_sizes: 18,
                threads: 32,
                queue: 46,
                synced: 50,
                grid: 78,
                block_sizes_again: 93,
            }
        } else {
            Schedule {
                block_sizes: 30,
                threads: 50,
                queue: 70,
                synced: 75,
                grid: 75,
                block_sizes_again: 100,
            }
        }
    }
}

/// What was measured of a device.
#[derive(Clone, Debug)]
pub struct Probed {
    /// The axes that decide, those of the block size first.
    pub axes: Vec<Axis>,
    /// Everything else, if the budget is for it.
    pub grid: Grid,
    /// S-Size in bytes.
    pub s_size_bytes: u64,
    /// Threads of synchronous I/O that the device needs for its greatest bandwidth in blocks of S-Size.
    pub io_threads: u64,
    /// Depth of a queue of asynchronous I/O that it needs; `None` where no queue can be kept.
    pub io_depth: Option<u64>,
    /// Synced writes by method and size.
    pub synced: Vec<Synced>,
    /// What the device did meanwhile.
    pub drift: Option<Drift>,
    /// The numbers whose curves are not decided.
    pub uncertain: Vec<Uncertain>,
}

/// What a curve decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// S-Size, in bytes.
    SSize,
    /// Threads of synchronous I/O.
    IoThreads,
    /// Depth of a queue of asynchronous I/O.
    IoDepth,
}

/// A number that leaving out a part of the measurements would change by more than a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Uncertain {
    /// Which.
    pub quantity: Quantity,
    /// The least it may be.
    pub low: u64,
    /// The most it may be.
    pub high: u64,
}

/// Writes of one size, each made durable.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Synced {
    /// How.
    pub method: SyncMethod,
    /// Size of the write.
    pub block_size_bytes: u64,
    /// The write and what makes it durable together.
    pub latency: Latency,
    /// The shortest: what it costs when nobody interferes, in microseconds.
    pub least_us: f64,
    /// Writes that were measured.
    pub writes: u64,
}

impl Probed {
    /// The greatest write whose commit takes at most twice as long as the smallest one, when nobody interferes.
    pub fn commit_batch_bytes(&self) -> Option<u64> {
        let least = self.fdatasynced().map(|synced| synced.least_us);
        let most = least.min_by(f64::total_cmp)? * COMMIT_LATENCY_RATIO;
        // A greater write that is cheap shows that the smaller ones are too.
        let cheap = self.fdatasynced().filter(|synced| synced.least_us <= most);
        cheap.map(|synced| synced.block_size_bytes).max()
    }

    /// The smallest write and its `fdatasync`, in microseconds: the median.
    pub fn fdatasync_us(&self) -> Option<f64> {
        self.fdatasynced()
            .next()
            .map(|synced| synced.latency.p50_us)
    }

    fn fdatasynced(&self) -> impl Iterator<Item = &Synced> {
        let all = self.synced.iter();
        all.filter(|synced| synced.method == SyncMethod::Fdatasync)
    }
}

/// Measures a device; `None` where the time ran out before there was enough to go by.
///
/// # Errors
/// Those of the device.
pub fn probe(device: &impl Device, budget: &Budget) -> Result<Option<Probed>, ProbeError> {
    let clock = Clock::new(device, budget);
    let mut by_block_size = block_size_axes(device);
    // Block sizes are measured at the beginning and at the end, so that whatever else the machine does in between has to
    // last longer than the probe to be all they saw.
    let half = budget.halved();
    sweep(
        device,
        &mut by_block_size,
        &half,
        clock.until(clock.schedule.block_sizes),
    )?;
    let Some(first) = greatest_knee(&by_block_size) else {
        return Ok(None);
    };
    let Some(mut in_flight) = InFlight::measure(device, first, budget, &clock)? else {
        return Ok(None);
    };
    let synced = if device.writes() {
        synced(device, budget, clock.end(clock.schedule.synced))?
    } else {
        Vec::new()
    };
    let mut grid = Grid::default();
    if budget.whole_grid {
        grid = Grid::plan(
            device,
            &[by_block_size.as_slice(), &in_flight.axes].concat(),
        );
        grid.measure(device, budget, clock.until(clock.schedule.grid))?;
    }
    sweep(
        device,
        &mut by_block_size,
        &half,
        clock.until(clock.schedule.block_sizes_again),
    )?;
    let drift = sustained(&mut by_block_size);
    let Some(s_size_bytes) = greatest_knee(&by_block_size) else {
        return Ok(None);
    };
    if s_size_bytes > first.saturating_mul(2) || first > s_size_bytes.saturating_mul(2) {
        // Where there is no time, what other blocks need is the best there is.
        in_flight = InFlight::measure(device, s_size_bytes, &half, &clock)?.unwrap_or(in_flight);
    }
    grid.measure(device, budget, clock.until(100))?;
    let uncertain = [
        uncertain(Quantity::SSize, &by_block_size),
        uncertain(Quantity::IoThreads, in_flight.of(Submission::Threads)),
        uncertain(Quantity::IoDepth, in_flight.of(Submission::Queue)),
    ];
    by_block_size.extend(in_flight.axes);
    Ok(Some(Probed {
        axes: by_block_size,
        grid,
        s_size_bytes,
        io_threads: in_flight.threads,
        io_depth: in_flight.depth,
        synced,
        drift: drift.or(in_flight.drift),
        uncertain: uncertain.into_iter().flatten().collect(),
    }))
}

/// When each part has to end.
struct Clock {
    started: Duration,
    time: Duration,
    schedule: Schedule,
}

impl Clock {
    /// What was spent before, on filling the file, is part of the budget.
    fn new(device: &impl Device, budget: &Budget) -> Self {
        Clock {
            started: device.now(),
            time: budget.duration.saturating_sub(device.now()),
            schedule: Schedule::of(budget),
        }
    }

    fn end(&self, percent: u32) -> Duration {
        self.started + self.time * percent / 100
    }

    fn until(&self, percent: u32) -> Deadline {
        Deadline {
            usual: self.end(percent),
            latest: self.end(100),
        }
    }
}

/// The axes of I/Os under way, and what they come to.
struct InFlight {
    /// Those of threads first.
    axes: Vec<Axis>,
    threads: u64,
    depth: Option<u64>,
    drift: Option<Drift>,
}

impl InFlight {
    /// `None` where the time ran out before there was enough to go by.
    fn measure(
        device: &impl Device,
        block_size_bytes: u64,
        budget: &Budget,
        clock: &Clock,
    ) -> Result<Option<Self>, ProbeError> {
        let mut axes = in_flight_axes(device, Submission::Threads, block_size_bytes);
        sweep(
            device,
            &mut axes,
            budget,
            clock.until(clock.schedule.threads),
        )?;
        let mut drift = sustained(&mut axes);
        let Some(threads) = fewest_needed(&axes) else {
            return Ok(None);
        };
        let mut depth = None;
        if device.queues() {
            let mut by_depth = in_flight_axes(device, Submission::Queue, block_size_bytes);
            sweep(
                device,
                &mut by_depth,
                budget,
                clock.until(clock.schedule.queue),
            )?;
            drift = drift.or(sustained(&mut by_depth));
            depth = fewest_needed(&by_depth);
            axes.extend(by_depth);
        }
        Ok(Some(InFlight {
            axes,
            threads,
            depth,
            drift,
        }))
    }

    fn of(&self, submission: Submission) -> &[Axis] {
        let threads = self
            .axes
            .partition_point(|axis| axis.load.submission == Submission::Threads);
        let (threads, queue) = self.axes.split_at_checked(threads).unwrap_or_default();
        match submission {
            Submission::Threads => threads,
            Submission::Queue => queue,
        }
    }
}

/// Tells what the device did; where it fell meanwhile, only what it sustained counts.
fn sustained(axes: &mut [Axis]) -> Option<Drift> {
    let drift = drift(axes);
    if let Some(Drift::Throttled { after_s, .. }) = drift {
        let first = axes
            .iter()
            .flat_map(|axis| axis.taken_at.iter().flatten())
            .min();
        let moment = *first? + Duration::from_secs_f64(after_s);
        for axis in axes {
            axis.forget_before(moment, SUSTAINED_ROUNDS);
        }
    }
    drift
}

/// What a device can be asked to do.
pub(crate) fn operations(device: &impl Device) -> Vec<Operation> {
    if device.writes() {
        vec![Operation::Read, Operation::Write]
    } else {
        vec![Operation::Read]
    }
}

fn block_size_axes(device: &impl Device) -> Vec<Axis> {
    let sizes = powers_of_two(BLOCK_SIZE_BYTES_MIN, BLOCK_SIZE_BYTES_MAX);
    let axis = |operation| {
        let load = Load {
            operation,
            pattern: Pattern::Random,
            block_size_bytes: 0,
            submission: Submission::Threads,
            in_flight: THREADS_FOR_BLOCK_SIZE,
        };
        Axis::new(Varies::BlockSize, load, sizes.iter().copied())
    };
    operations(device).into_iter().map(axis).collect()
}

fn in_flight_axes(
    device: &impl Device,
    submission: Submission,
    block_size_bytes: u64,
) -> Vec<Axis> {
    let most = IN_FLIGHT_MAX.min(BYTES_IN_FLIGHT_MAX / block_size_bytes.max(1));
    let axis = |operation| {
        let load = Load {
            operation,
            pattern: Pattern::Random,
            block_size_bytes,
            submission,
            in_flight: 0,
        };
        Axis::new(Varies::InFlight, load, powers_of_two(1, most))
    };
    operations(device).into_iter().map(axis).collect()
}

/// The greatest knee of the axes; `None` where one has too few points to have any.
fn greatest_knee(axes: &[Axis]) -> Option<u64> {
    knees(axes)?.iter().map(|knee| knee.setting).max()
}

/// The fewest I/Os under way that may be enough for each of the axes; `None` as above.
fn fewest_needed(axes: &[Axis]) -> Option<u64> {
    knees(axes)?.iter().map(|knee| knee.setting_low).max()
}

fn knees(axes: &[Axis]) -> Option<Vec<Knee>> {
    let knee = |axis: &Axis| Some(axis).filter(|axis| axis.has_shape())?.curve.knee();
    axes.iter().map(knee).collect()
}

fn uncertain(quantity: Quantity, axes: &[Axis]) -> Option<Uncertain> {
    let knees: Vec<Knee> = axes.iter().filter_map(|axis| axis.curve.knee()).collect();
    let found = greatest_knee(axes)?;
    // An undecided curve whose knee can't be the greatest changes nothing.
    let undecided = |axis: &Axis| {
        let high = axis.curve.knee().map_or(0, |knee| knee.setting_high);
        !axis.curve.is_decided() && high >= found
    };
    let uncertain = Uncertain {
        quantity,
        low: knees.iter().map(|knee| knee.setting_low).max()?,
        high: knees.iter().map(|knee| knee.setting_high).max()?,
    };
    (uncertain.low < uncertain.high && axes.iter().any(undecided)).then_some(uncertain)
}

/// Synced writes, smallest first; each size at least once.
fn synced(
    device: &impl Device,
    budget: &Budget,
    deadline: Duration,
) -> Result<Vec<Synced>, ProbeError> {
    let methods = [SyncMethod::Fdatasync, SyncMethod::ODsync];
    let mut measured: Vec<(SyncMethod, u64, Histogram)> = methods
        .into_iter()
        .flat_map(|method| SYNCED_KIB.map(|kib| (method, kib * 1024, Histogram::default())))
        .collect();
    for round in 0..SYNCED_ROUNDS {
        for (method, block_size_bytes, latencies) in &mut measured {
            if round > 0 && device.now() >= deadline {
                break;
            }
            latencies.add(&device.run_synced(*method, *block_size_bytes, budget.window)?);
        }
    }
    let synced = measured
        .into_iter()
        .filter_map(|(method, block_size_bytes, latencies)| {
            Some(Synced {
                method,
                block_size_bytes,
                latency: latencies.latency()?,
                least_us: latencies.moments().min_ns() as f64 / 1000.0,
                writes: latencies.count(),
            })
        });
    Ok(synced.collect())
}

pub(crate) fn powers_of_two(least: u64, most: u64) -> Vec<u64> {
    std::iter::successors(Some(least), |one| one.checked_mul(2))
        .take_while(|one| *one <= most)
        .collect()
}

#[cfg(test)]
#[path = "derive_tests.rs"]
mod tests;
