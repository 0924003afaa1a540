//! How far each source is, at each commit sequence that a reader may ask for.

use std::collections::{BTreeMap, VecDeque};

use crate::sync::RwLock;

/// A source's own position, stored in the delta that it produced.
///
/// ```
/// use moonshine_engine::{Database, Options, Origin};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let mut transaction = database.begin();
/// transaction.set_origin(Origin { source: "orders.jsonl".into(), position: "4096".into() });
/// transaction.commit()?;
/// let origin = database.origin("orders.jsonl").ok_or("never read")?;
/// assert_eq!(origin.position, "4096");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The source's name.
    pub source: String,
    /// The position, in the source's own notation: a Postgres LSN, Kafka offsets, a file and byte.
    pub position: String,
}

#[derive(Debug, Default)]
pub(crate) struct Origins {
    /// For each source its positions by commit sequence, oldest first.
    positions: RwLock<BTreeMap<String, VecDeque<(u64, String)>>>,
}

impl Origins {
    /// Notes a position; forgets those that nobody at or after `horizon_seq` can see.
    pub(crate) fn advance(&self, seq: u64, origin: Origin, horizon_seq: u64) {
        let mut sources = self.positions.write();
        let positions = sources.entry(origin.source).or_default();
        positions.push_back((seq, origin.position));
        while positions
            .get(1)
            .is_some_and(|(next_seq, _)| *next_seq <= horizon_seq)
        {
            positions.pop_front();
        }
    }

    /// The newest origin of every source at a commit sequence, sorted by source.
    pub(crate) fn at(&self, seq: u64) -> Vec<Origin> {
        let sources = self.positions.read();
        sources
            .iter()
            .filter_map(|(source, positions)| newest(source, positions, seq))
            .collect()
    }

    /// The newest origin of one source at a commit sequence, which is asked for while nothing is forgotten: between the question
    /// and the answer what it stood for could be.
    pub(crate) fn of(&self, source: &str, seq: impl FnOnce() -> u64) -> Option<Origin> {
        let sources = self.positions.read();
        newest(source, sources.get(source)?, seq())
    }
}

fn newest(source: &str, positions: &VecDeque<(u64, String)>, seq: u64) -> Option<Origin> {
    let (_, position) = positions
        .iter()
        .rev()
        .find(|(position_seq, _)| *position_seq <= seq)?;
    Some(Origin {
        source: source.to_owned(),
        position: position.clone(),
    })
}
