//! The operations of a benchmark of records: their mix, and which record each one takes.
//!
//! The presets are the core workloads of YCSB (Cooper et al., Benchmarking Cloud Serving Systems with YCSB, SoCC 2010;
//! F is of the program, not of the paper). Everything here is arithmetic on the random numbers that it is given.

use super::database::DatabaseWorkload;
use super::zipf::Zipf;

/// How skewed YCSB's requests are.
pub const YCSB_ZIPF_THETA: f64 = 0.99;
/// Ranks that popularity is spread over before they are hashed to records: that many, whatever the number of records,
/// in YCSB.
const SCRAMBLED_RANKS: u64 = 10_000_000_000;

/// The step of `SplitMix64`: 2^64 divided by the golden ratio, odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// What one operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Reads a record.
    Read,
    /// Replaces a record that is there.
    Update,
    /// Writes a record that is new.
    Insert,
    /// Reads the records that follow a key, in order.
    Scan,
    /// Reads a record and writes it back changed.
    ReadModifyWrite,
}

impl Operation {
    /// Its name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Read => "read",
            Operation::Update => "update",
            Operation::Insert => "insert",
            Operation::Scan => "scan",
            Operation::ReadModifyWrite => "read-modify-write",
        }
    }
}

/// Which records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requests {
    /// Every record as often as any other.
    Uniform,
    /// A few records most of the time, spread over all of them by a hash.
    Zipfian,
    /// The newer a record, the more often.
    Latest,
}

/// How long a scan is, in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanLength {
    /// Always the same.
    Fixed(u64),
    /// Each from one to this as often as any other.
    Uniform(u64),
}

impl ScanLength {
    /// The length of the next scan.
    pub fn draw(self, random: u64) -> u64 {
        match self {
            ScanLength::Fixed(length) => length,
            ScanLength::Uniform(length_max) => 1 + below(random, length_max),
        }
    }
}

/// Shares of the operations: two kinds are all that any workload needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// The one kind, and its share of all operations, from 0 to 1.
    pub first: (Operation, f64),
    /// The kind of the rest.
    pub second: Operation,
}

impl Mix {
    /// Nothing but one kind.
    pub fn only(operation: Operation) -> Self {
        Mix {
            first: (operation, 1.0),
            second: operation,
        }
    }

    /// The kind of the next operation.
    pub fn draw(&self, random: u64) -> Operation {
        if unit(random) < self.first.1 {
            self.first.0
        } else {
            self.second
        }
    }

    /// Whether some operations are of this kind.
    pub fn has(&self, operation: Operation) -> bool {
        (self.first.0 == operation && self.first.1 > 0.0)
            || (self.second == operation && self.first.1 < 1.0)
    }
}

impl DatabaseWorkload {
    /// The shares of its operations. `read_percent` is the share of gets in [`DatabaseWorkload::Mixed`].
    ///
    /// ```
    /// use moonshine_sysprobe::bench::DatabaseWorkload;
    /// use moonshine_sysprobe::bench::ycsb::Operation;
    /// let mix = DatabaseWorkload::YcsbB.mix(50);
    /// assert_eq!((mix.first, mix.second), ((Operation::Read, 0.95), Operation::Update));
    /// ```
    pub fn mix(self, read_percent: u8) -> Mix {
        use Operation::{Insert, Read, ReadModifyWrite, Scan, Update};
        let of = |first, share, second| Mix {
            first: (first, share),
            second,
        };
        match self {
            DatabaseWorkload::YcsbA => of(Read, 0.5, Update),
            DatabaseWorkload::YcsbB => of(Read, 0.95, Update),
            DatabaseWorkload::YcsbC | DatabaseWorkload::Get => Mix::only(Read),
            DatabaseWorkload::YcsbD => of(Read, 0.95, Insert),
            DatabaseWorkload::YcsbE => of(Scan, 0.95, Insert),
            DatabaseWorkload::YcsbF => of(Read, 0.5, ReadModifyWrite),
            DatabaseWorkload::Put => Mix::only(Update),
            DatabaseWorkload::Insert => Mix::only(Insert),
            DatabaseWorkload::Scan => Mix::only(Scan),
            DatabaseWorkload::Mixed => of(Read, f64::from(read_percent) / 100.0, Update),
        }
    }

    /// Which records its operations take; `None` where the job's `random_distribution` says it.
    pub fn requests(self) -> Option<Requests> {
        match self {
            DatabaseWorkload::YcsbD => Some(Requests::Latest),
            workload if workload.is_ycsb() => Some(Requests::Zipfian),
            _ => None,
        }
    }

    /// How long its scans are, where a job says `rows`.
    pub fn scan_length(self, rows: u64) -> ScanLength {
        if self.is_ycsb() {
            ScanLength::Uniform(rows)
        } else {
            ScanLength::Fixed(rows)
        }
    }
}

/// Uniform random numbers of 64 bits, the same for the same seed (`SplitMix64`: Steele, Lea and Flood, Fast Splittable
/// Pseudorandom Number Generators, 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence; sequences of close seeds have nothing in common.
    pub fn new(seed: u64) -> Self {
        Random(mix_bits(seed))
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        let number = mix_bits(self.0);
        self.0 = self.0.wrapping_add(STEP);
        number
    }

    /// The next number, as one of 0 to below 1.
    pub fn draw_unit(&mut self) -> f64 {
        unit(self.draw())
    }
}

/// Chooses records out of a number that may grow between two calls.
#[derive(Clone, Debug)]
pub struct RecordChooser {
    requests: Requests,
    zipf: Zipf,
}

impl RecordChooser {
    /// A chooser of YCSB's skew.
    pub fn new(requests: Requests) -> Self {
        RecordChooser {
            requests,
            zipf: Zipf::new(YCSB_ZIPF_THETA),
        }
    }

    /// A record of 0 to `records` - 1, 0 being the oldest; 0 if there are none. `random` gives uniform random numbers.
    pub fn choose(&mut self, records: u64, mut random: impl FnMut() -> u64) -> u64 {
        match self.requests {
            Requests::Uniform => below(random(), records),
            Requests::Zipfian => {
                let rank = self.zipf.rank(SCRAMBLED_RANKS, &mut random);
                jump_hash(mix_bits(rank), records)
            }
            Requests::Latest => {
                let age = self.zipf.rank(records, &mut random);
                records.saturating_sub(1 + age)
            }
        }
    }
}

/// A number of 0 to `end` - 1 from a uniform one of 64 bits; 0 if `end` is 0. Its bias is at most `end` / 2^64.
pub(super) fn below(random: u64, end: u64) -> u64 {
    ((u128::from(random) * u128::from(end)) >> 64) as u64
}

/// A number of 0 to below 1 from a uniform one of 64 bits.
pub(super) fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

/// Spreads numbers that lie close together over 64 bits (the finalizer of `SplitMix64`).
fn mix_bits(number: u64) -> u64 {
    let mut z = number.wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One of 0 to `count` - 1 by hash; when `count` grows by one, only its share of the hashes moves, so that what is
/// popular stays so while records are inserted (Lamping and Veach, A Fast, Minimal Memory, Consistent Hash Algorithm,
/// 2014).
fn jump_hash(mut hash: u64, count: u64) -> u64 {
    let (mut chosen, mut next) = (0, 0);
    while next < count {
        chosen = next;
        hash = hash.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let stretch = (1_u64 << 31) as f64 / ((hash >> 33) + 1) as f64;
        next = ((chosen + 1) as f64 * stretch) as u64;
    }
    chosen
}

#[cfg(test)]
#[path = "ycsb_tests.rs"]
mod tests;
