//! What lies on disk, by level and by fragment.

use std::fmt::Write;

use moonshine_engine::{Statistics, TreeFigures};
use serde::Serialize;

use crate::units::size_rounded;

/// Fragments that are listed one by one; of more, only their number.
const FRAGMENTS_LISTED_MAX: usize = 16;

/// What lies on disk in all.
#[derive(Debug, Serialize)]
pub(super) struct SpaceFacts {
    log_bytes: u64,
    /// Of the RowSets of all tables, and of the locations of their exported rows.
    tree_bytes: u64,
    /// Keys and values in RowSets, those that newer ones replace included.
    data_bytes: u64,
    /// Bytes on disk for each of those; what is replaced makes the true one larger.
    space_amplification_min: f64,
}

/// A table's rows below level 0.
#[derive(Debug, Default, Serialize)]
pub(super) struct TreeFacts {
    #[serde(flatten)]
    held: HeldFacts,
    location_bytes: u64,
    levels: Vec<LevelFacts>,
    fragments: Vec<FragmentFacts>,
}

/// RowSets and what is in them.
#[derive(Debug, Default, Serialize)]
struct HeldFacts {
    row_sets: u64,
    row_versions: u64,
    tombstones: u64,
    replaced_rows: u64,
    size_bytes: u64,
    data_bytes: u64,
}

#[derive(Debug, Serialize)]
struct LevelFacts {
    level: u32,
    fragments: u64,
    row_sets_max: u64,
    #[serde(flatten)]
    held: HeldFacts,
}

#[derive(Debug, Serialize)]
struct FragmentFacts {
    id: String,
    level: u32,
    is_leaf: bool,
    after_seq: u64,
    to_seq: u64,
    #[serde(flatten)]
    held: HeldFacts,
}

impl SpaceFacts {
    pub(super) fn of(statistics: &Statistics) -> Self {
        let tables = &statistics.tables;
        SpaceFacts {
            log_bytes: statistics.log.size_bytes,
            tree_bytes: tables
                .iter()
                .map(|table| table.held.size_bytes + table.location_bytes)
                .sum(),
            data_bytes: tables.iter().map(|table| table.held.data_bytes).sum(),
            space_amplification_min: statistics.space_amplification_min(),
        }
    }

    pub(super) fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "\nspace: {} in fragments, {} in the log, for {} of keys and values: {:.2} times as much, or more",
            size_rounded(self.tree_bytes),
            size_rounded(self.log_bytes),
            size_rounded(self.data_bytes),
            self.space_amplification_min
        )
    }
}

impl TreeFacts {
    pub(super) fn of(statistics: &Statistics, table: &str) -> Self {
        let Some(table) = statistics.tables.iter().find(|one| one.name == table) else {
            return TreeFacts::default();
        };
        let levels = table.levels.iter().map(|level| LevelFacts {
            level: level.level,
            fragments: level.fragments,
            row_sets_max: level.row_sets_max,
            held: HeldFacts::of(&level.held),
        });
        let fragments = table.fragments.iter().map(|fragment| FragmentFacts {
            id: format!("{:b}", fragment.id),
            level: fragment.level,
            is_leaf: fragment.is_leaf,
            after_seq: fragment.seqs.0,
            to_seq: fragment.seqs.1,
            held: HeldFacts::of(&fragment.held),
        });
        TreeFacts {
            held: HeldFacts::of(&table.held),
            location_bytes: table.location_bytes,
            levels: levels.collect(),
            fragments: fragments.collect(),
        }
    }

    pub(super) fn write(&self, text: &mut String) -> std::fmt::Result {
        for level in &self.levels {
            let fragments = match level.fragments {
                1 => "1 fragment".into(),
                count => format!("{count} fragments"),
            };
            writeln!(
                text,
                "  level {}: {fragments}, at most {} RowSets each, {}",
                level.level,
                level.row_sets_max,
                level.held.text()
            )?;
        }
        if self.fragments.len() <= FRAGMENTS_LISTED_MAX {
            for fragment in self.fragments.iter().filter(|one| one.held.row_sets > 0) {
                writeln!(
                    text,
                    "    fragment {}: {} RowSets, {}, commits {} to {}",
                    fragment.id,
                    fragment.held.row_sets,
                    fragment.held.text(),
                    fragment.after_seq + 1,
                    fragment.to_seq
                )?;
            }
        }
        Ok(())
    }
}

impl HeldFacts {
    fn of(held: &TreeFigures) -> Self {
        HeldFacts {
            row_sets: held.row_sets,
            row_versions: held.rows,
            tombstones: held.tombstones,
            replaced_rows: held.replaced_rows,
            size_bytes: held.size_bytes,
            data_bytes: held.data_bytes,
        }
    }

    fn text(&self) -> String {
        format!(
            "{} in {} rows, {} of them tombstones and {} known to be replaced",
            size_rounded(self.size_bytes),
            self.row_versions,
            self.tombstones,
            self.replaced_rows
        )
    }
}
