//! What a simulation's lake is like.

use super::config::Config;
use super::operation::Kind;
use crate::random::Stream;

/// Most operations of a plan with a lake, whose operations take longer.
const OPERATION_COUNT_MAX: usize = 150;

/// What a seed draws of the lake and the exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LakeConfig {
    /// Whether tables begin in Iceberg's format 2, which knows no defaults.
    pub is_format_2: bool,
    /// Whether the catalog swaps all of the metadata, and does not compare what a change demands.
    pub swaps_metadata: bool,
    /// A data file is closed behind about so many bytes.
    pub target_file_size_bytes: u64,
    /// How often a process that dies leaves an exporter behind that wakes up later, in a thousand.
    pub zombie_permille: u64,
    /// How requests fare.
    pub climate: ClimateConfig,
}

/// How often requests fare badly, of a thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClimateConfig {
    /// Commits.
    pub commits_permille: u64,
    /// Looks at tables.
    pub looks_permille: u64,
    /// Requests to the store.
    pub objects_permille: u64,
    /// The longest that one is on its way.
    pub late_max_ms: u64,
}

impl ClimateConfig {
    /// What is drawn.
    pub fn draw(stream: &mut Stream) -> Self {
        if stream.chance(250) {
            return ClimateConfig {
                commits_permille: 0,
                looks_permille: 0,
                objects_permille: 0,
                late_max_ms: 1,
            };
        }
        ClimateConfig {
            commits_permille: stream.pick(&[50, 200, 600]),
            looks_permille: stream.below(150),
            objects_permille: stream.pick(&[0, 3, 20]),
            late_max_ms: stream.pick(&[40, 2000, 60_000]),
        }
    }
}

impl Config {
    /// Draws a lake. What is drawn of the engine stays as it is.
    pub(super) fn add_lake(&mut self, seed: u64) {
        let mut stream = Stream::new(seed, "lake", 0);
        self.operation_count = self.operation_count.min(OPERATION_COUNT_MAX);
        let kinds = Kind::ALL.iter().filter(|kind| kind.is_of_lake());
        let weights = kinds.map(|&kind| {
            let factor = stream.pick(&[0, 1, 2, 2, 2, 6]);
            match kind {
                Kind::Tick => kind.weight() * factor.max(1),
                // What stops an export does not for ever.
                Kind::Undo => kind.weight(),
                _ => kind.weight() * factor,
            }
        });
        self.weights.extend(weights);
        self.lake = Some(LakeConfig {
            is_format_2: stream.chance(333),
            swaps_metadata: stream.chance(500),
            target_file_size_bytes: stream.pick(&[700, 3000, 1 << 20]),
            zombie_permille: stream.pick(&[0, 300, 700]),
            climate: ClimateConfig::draw(&mut stream),
        });
    }
}
