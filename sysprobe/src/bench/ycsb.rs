//! The operations of a benchmark of records: their mix, and which record each one takes.
//!
//! The presets are the core workloads of YCSB (Cooper et al., Benchmarking Cloud Serving Systems with YCSB, SoCC 2010;
//! F is of the program, not of the paper).

use xxhash_rust::xxh3::xxh3_64;

use super::database::DatabaseWorkload;
use super::distribution::SkewedBlocks;
use super::job::JobOptions;
use super::random::{self, thread_seed};
use super::values::{Distribution, PerDirection};
use super::zipf::Zipf;

/// How skewed YCSB's requests are.
pub const YCSB_ZIPF_THETA: f64 = 0.99;
/// Ranks that popularity is spread over before they are hashed to records: that many, whatever the number of records,
/// in YCSB.
const SCRAMBLED_RANKS: u64 = 10_000_000_000;

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

/// Which records YCSB asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requests {
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
    pub fn draw(self, random: &mut Random) -> u64 {
        match self {
            ScanLength::Fixed(length) => length,
            ScanLength::Uniform(length_max) => 1 + random.draw_below(length_max),
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
    pub fn draw(&self, random: &mut Random) -> Operation {
        if random.draw_share() < self.first.1 {
            self.first.0
        } else {
            self.second
        }
    }

    /// Whether it reads and writes, as the statistics tell them apart.
    pub fn directions(&self) -> PerDirection<bool> {
        use Operation::{Insert, Read, ReadModifyWrite, Scan, Update};
        PerDirection {
            read: [Read, Scan].into_iter().any(|one| self.has(one)),
            write: [Update, Insert, ReadModifyWrite]
                .into_iter()
                .any(|one| self.has(one)),
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

/// Uniform random numbers, the same for the same seed.
#[derive(Clone, Debug)]
pub struct Random(random::Random);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Random(random::Random::new(seed))
    }

    /// The numbers of one thread of a job, by `randseed` and `randrepeat`; other jobs and threads have others.
    pub fn of_thread(job: &JobOptions, thread: usize) -> Self {
        let name = xxh3_64(job.name.as_bytes()) as u32;
        Self::new(thread_seed(
            job.randseed,
            job.randrepeat,
            name as usize,
            thread,
        ))
    }

    /// The next number, of 64 bits.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        self.0.next()
    }

    /// The next number, below `end`; 0 if that is 0.
    #[inline]
    pub fn draw_below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    /// The next number, from 0 to below 1.
    #[inline]
    pub fn draw_share(&mut self) -> f64 {
        self.0.share()
    }
}

/// Chooses records out of a number that may grow between two calls.
#[derive(Clone, Debug)]
pub struct RecordChooser(Law);

#[derive(Clone, Debug)]
enum Law {
    Uniform,
    Zipfian(Zipf),
    Latest(Zipf),
    /// Of the records that were there at first.
    Skewed(SkewedBlocks),
}

impl RecordChooser {
    /// A chooser of YCSB's skew.
    pub fn ycsb(requests: Requests) -> Self {
        let zipf = Zipf::new(YCSB_ZIPF_THETA);
        RecordChooser(match requests {
            Requests::Zipfian => Law::Zipfian(zipf),
            Requests::Latest => Law::Latest(zipf),
        })
    }

    /// A chooser by a job's `random_distribution`. What is not uniform takes only the records that are there now.
    pub fn of(distribution: Distribution, records: u64, random: &mut Random) -> Self {
        let skewed = SkewedBlocks::new(distribution, records, random.draw());
        RecordChooser(skewed.map_or(Law::Uniform, Law::Skewed))
    }

    /// A record of 0 to `records` - 1, 0 being the oldest; 0 if there are none.
    pub fn choose(&mut self, records: u64, random: &mut Random) -> u64 {
        match &mut self.0 {
            Law::Uniform => random.draw_below(records),
            Law::Zipfian(zipf) => {
                let rank = zipf.rank(SCRAMBLED_RANKS, random);
                jump_hash(mix_bits(rank), records)
            }
            Law::Latest(zipf) => {
                let age = zipf.rank(records, random);
                records.saturating_sub(1 + age)
            }
            Law::Skewed(skewed) => skewed.next(),
        }
    }
}

/// A hash: ranks that lie close together come to lie far apart.
fn mix_bits(rank: u64) -> u64 {
    random::Random::new(rank).next()
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
