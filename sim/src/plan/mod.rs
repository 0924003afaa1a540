//! What happens in a simulation, as it follows from a seed.
//!
//! A [`Plan`] is sizes and switches ([`config`]), and a list of [`operation`]s. An operation is its number, its client and
//! its kind; all else about it is drawn when it is done, from a stream of its own number. So operations can be left out, and
//! whole kinds of them, and the others stay what they are: a smaller plan is the same seed with a [`Selection`].

pub mod config;
pub mod lake;
pub mod operation;
pub mod selection;
pub mod shrink;

use config::{CLIENT_COUNT_MAX, Config};
use operation::{Kind, Operation};
pub use selection::Selection;

use crate::random::Stream;

/// What happens in one simulation.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What all of it follows from.
    pub seed: u64,
    /// Sizes and switches.
    pub config: Config,
    /// In order.
    pub operations: Vec<Operation>,
}

impl Plan {
    /// The plan of a seed, less what is left out.
    pub fn of(seed: u64, selection: &Selection) -> Self {
        let mut config = Config::of(seed);
        if selection.has_lake {
            config.add_lake(seed);
        }
        selection.apply(&mut config);
        let mut drawn = Stream::new(seed, "kinds", 0);
        let weights = config.weights.clone();
        let operations = (0..config.operation_count).map(|number| {
            let kind = Kind::ALL[drawn.weighted(&weights)];
            let client = drawn.below(CLIENT_COUNT_MAX as u64) as usize % config.client_count;
            Operation {
                number,
                client,
                kind,
            }
        });
        let operations = operations
            .filter(|operation| selection.has(operation))
            .collect();
        Plan {
            seed,
            config,
            operations,
        }
    }
}
