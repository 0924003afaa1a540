//! Sizes and switches: each seed has its own, so that each looks at another part of what there is (swarm testing; Groce and
//! others, 2012).

use moonshine_engine::io::{CrashStyle, NamesStyle};

use super::lake::LakeConfig;
use super::operation::Kind;
use crate::random::Stream;

/// Most clients side by side.
pub const CLIENT_COUNT_MAX: usize = 4;

/// What a simulation is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many operations there are before any is left out.
    pub operation_count: usize,
    /// How many clients work side by side.
    pub client_count: usize,
    /// Which shard keys the tables have: 0 to 2.
    pub shard_keys: usize,
    /// How many keys each table may have.
    pub key_count: u64,
    /// Most writes of a transaction.
    pub write_count_max: u64,
    /// Most rows of a bulk load.
    pub load_row_count_max: u64,
    /// How often each kind of operation comes.
    pub weights: Vec<u64>,
    /// How often a transaction is not synced, in a thousand.
    pub buffered_permille: u64,
    /// How often a start dies, in a thousand.
    pub death_in_start_permille: u64,
    /// See the engine's options.
    pub segment_size_bytes_max: u64,
    /// See the engine's options.
    pub memory_budget_bytes: u64,
    /// See the engine's options.
    pub generation_size_bytes_max: u64,
    /// See the engine's options.
    pub fragment_size_bytes_max: u64,
    /// See the engine's options.
    pub compaction_threads: usize,
    /// S-Size and S-Paral of the profile.
    pub profile: (u64, u64),
    /// Syncs of files with this ending are left out: a fault to see that the checks find it.
    pub forgotten_syncs: Option<&'static str>,
    /// The lake, if there is one.
    pub lake: Option<LakeConfig>,
}

impl Config {
    /// What a seed draws.
    pub fn of(seed: u64) -> Self {
        let mut stream = Stream::new(seed, "config", 0);
        let operation_count = match stream.below(20) {
            0 => 600,
            1..4 => 250,
            _ => stream.between(40, 120) as usize,
        };
        Config {
            operation_count,
            client_count: stream.weighted(&[0, 50, 20, 15, 15]),
            shard_keys: stream.below(3) as usize,
            key_count: stream.pick(&[8, 20, 20, 60, 200]),
            write_count_max: stream.pick(&[2, 8, 8, 30]),
            load_row_count_max: stream.pick(&[5, 60, 300]),
            weights: weights(&mut stream),
            buffered_permille: stream.pick(&[0, 300, 300, 900]),
            death_in_start_permille: stream.pick(&[0, 200, 500]),
            segment_size_bytes_max: stream.pick(&[1000, 2000, 2000, 16_000]),
            memory_budget_bytes: stream.pick(&[40_000, 40_000, 120_000, 1_000_000]),
            generation_size_bytes_max: stream.pick(&[2000, 6000, 6000, 20_000]),
            fragment_size_bytes_max: stream.pick(&[2000, 4000, 4000, 16_000]),
            compaction_threads: stream.between(1, 3) as usize,
            profile: stream.pick(&[(4096, 1), (4096, 2), (4096, 4), (4096, 4), (4096, 8)]),
            forgotten_syncs: None,
            lake: None,
        }
    }
}

/// Some kinds are left out and some come often; in one seed of ten nothing breaks, and then everything must be exact.
fn weights(stream: &mut Stream) -> Vec<u64> {
    let is_whole = stream.chance(100);
    let of_engine = Kind::ALL.iter().filter(|kind| !kind.is_of_lake());
    let drawn = of_engine.map(|&kind| {
        let factor = stream.pick(&[0, 1, 2, 2, 2, 6]);
        match kind {
            Kind::Write | Kind::Settle => kind.weight() * factor.max(1),
            _ if is_whole && kind.is_fault() => 0,
            _ => kind.weight() * factor,
        }
    });
    drawn.collect()
}

/// How a machine dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// What becomes of what was written and not synced.
    pub style: CrashStyle,
    /// What becomes of names that were given, changed or taken, and whose folder was not synced.
    pub names: NamesStyle,
}

impl Crash {
    /// One of the ways.
    pub fn draw(stream: &mut Stream) -> Self {
        let style = match stream.below(6) {
            0..2 => CrashStyle::KeepUnsynced,
            2 => CrashStyle::LoseUnsynced,
            3 => CrashStyle::PrefixUnsynced(stream.next()),
            4 => CrashStyle::SubsetUnsynced(stream.next()),
            _ => CrashStyle::TearUnsynced(stream.next()),
        };
        let names = match stream.below(3) {
            0 => NamesStyle::Kept,
            1 => NamesStyle::Ordered(stream.next()),
            _ => NamesStyle::Any(stream.next()),
        };
        Crash { style, names }
    }

    /// Its name in counts.
    pub fn name(&self) -> &'static str {
        match self.style {
            CrashStyle::LoseUnsynced => "crashes that lose",
            CrashStyle::KeepUnsynced => "crashes that keep",
            CrashStyle::TearUnsynced(_) => "crashes that tear",
            CrashStyle::PrefixUnsynced(_) => "crashes that keep a prefix",
            CrashStyle::SubsetUnsynced(_) => "crashes that keep a subset",
        }
    }
}
