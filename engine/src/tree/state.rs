//! The state of all tables below level 0, and how a change moves it on.

use std::sync::Arc;

use super::edit::Change;
use super::fragment::{FragmentId, FragmentTree};
use super::growth::{GrowthPoint, POINTS_MAX};
use crate::Origin;
use crate::codec::Malformed;
use crate::deletes::RangeDeletes;
use crate::export::files::Exports;
use crate::generation::LOCATIONS_BIT;
use crate::log::fact::decode_table;
use crate::row_set::meta::RowSetMeta;
use crate::row_set::patch::RowSetPlace;
use crate::sharding::Sharding;

/// What stands for a RowSet.
pub(crate) trait Described: Clone {
    /// What is known of it.
    fn meta(&self) -> &RowSetMeta;
}

impl Described for Arc<RowSetMeta> {
    fn meta(&self) -> &RowSetMeta {
        self
    }
}

/// From where on the log is needed: a segment, and its first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogStart {
    pub(crate) segment_number: u64,
    pub(crate) block_number: u64,
}

/// The fragments of a table, or of the locations of its exported rows.
#[derive(Clone, Debug)]
pub(crate) struct TableTree<R> {
    pub(crate) fragments: FragmentTree<R>,
    /// Deltas that emptied the table, ascending: RowSets that end before one are gone for who reads at or after it.
    pub(crate) truncates: Arc<[u64]>,
    /// Ranges that deltas deleted: rows of RowSets that end before one are gone for who reads at or after it.
    pub(crate) deletes: RangeDeletes,
    /// The last times that it doubled.
    pub(crate) growth: Arc<[GrowthPoint]>,
}

/// One table below level 0.
#[derive(Clone, Debug)]
pub(crate) struct TableEntry<R> {
    /// The table's record in the log: id and schema.
    pub(crate) record: Arc<[u8]>,
    pub(crate) exports: Arc<Exports>,
    pub(crate) rows: Arc<TableTree<R>>,
    pub(crate) locations: Arc<TableTree<R>>,
}

/// All tables below level 0.
#[derive(Clone, Debug)]
pub(crate) struct TreeState<R> {
    /// The deltas up to this sequence are in the RowSets.
    pub(crate) flushed_seq: u64,
    /// What other records say up to this block of the log is in the state, but for exports that are pending.
    pub(crate) facts_through_block: u64,
    pub(crate) log_start: LogStart,
    /// No delta file had this number or a greater one.
    pub(crate) next_file_number: u64,
    /// How far each source is at the flushed sequence.
    pub(crate) origins: Vec<Origin>,
    pub(crate) tables: Vec<TableEntry<R>>,
}

/// What an edit changed, as it was before.
#[derive(Debug)]
pub(crate) struct Undo<R> {
    flushed_seq: u64,
    facts_through_block: u64,
    log_start: LogStart,
    next_file_number: u64,
    /// If they changed.
    origins: Option<Vec<Origin>>,
    table_count: usize,
    tables: Vec<(usize, TableEntry<R>)>,
}

impl<R> Default for TableTree<R> {
    fn default() -> Self {
        TableTree::new(Sharding::default())
    }
}

impl<R> TableTree<R> {
    /// A tree without rows.
    pub(crate) fn new(sharding: Sharding) -> Self {
        TableTree {
            fragments: FragmentTree::new(sharding),
            truncates: Arc::new([]),
            deletes: RangeDeletes::default(),
            growth: Arc::new([]),
        }
    }
}

impl<R: Clone> Default for TreeState<R> {
    fn default() -> Self {
        TreeState {
            flushed_seq: 0,
            facts_through_block: 0,
            log_start: LogStart {
                segment_number: 1,
                block_number: 1,
            },
            next_file_number: 1,
            origins: Vec::new(),
            tables: Vec::new(),
        }
    }
}

impl<R: Clone> TableTree<R> {
    /// The newest delta up to a commit sequence that deleted a key with others; 0 for none.
    #[inline]
    pub(crate) fn gone_seq(&self, key: &[u8], seq: u64) -> u64 {
        let truncate_seq = self.truncate_seq(seq);
        if self.deletes.is_empty() {
            return truncate_seq;
        }
        truncate_seq.max(self.deletes.newest_seq(key, seq))
    }

    /// The newest delta up to a commit sequence that emptied the table; 0 for none.
    pub(crate) fn truncate_seq(&self, seq: u64) -> u64 {
        let older = self.truncates.partition_point(|&truncate| truncate <= seq);
        older
            .checked_sub(1)
            .and_then(|i| self.truncates.get(i).copied())
            .unwrap_or(0)
    }
}

impl<R: Described> TreeState<R> {
    /// The fragments of a table or of its locations.
    pub(crate) fn tree(&self, table_id: u32) -> Option<&Arc<TableTree<R>>> {
        let table = self.tables.get((table_id & !LOCATIONS_BIT) as usize)?;
        Some(if table_id & LOCATIONS_BIT == 0 {
            &table.rows
        } else {
            &table.locations
        })
    }

    fn tree_mut(&mut self, table_id: u32) -> Result<&mut TableTree<R>, Malformed> {
        let table = self.tables.get_mut((table_id & !LOCATIONS_BIT) as usize);
        let table = table.ok_or(Malformed("an edit names an unknown table"))?;
        Ok(Arc::make_mut(if table_id & LOCATIONS_BIT == 0 {
            &mut table.rows
        } else {
            &mut table.locations
        }))
    }

    /// Moves the state on by an edit; or not at all, where a change of it can't be. What it takes follows from the edit, not
    /// from the state.
    pub(crate) fn apply_edit(&mut self, changes: &[Change<R>]) -> Result<Undo<R>, Malformed> {
        let mut touched: Vec<usize> = changes
            .iter()
            .filter_map(|change| Some(change.table_id()? as usize))
            .collect();
        touched.sort_unstable();
        touched.dedup();
        let has_origins = |change| matches!(change, &Change::Origins(_));
        let undo = Undo {
            flushed_seq: self.flushed_seq,
            facts_through_block: self.facts_through_block,
            log_start: self.log_start,
            next_file_number: self.next_file_number,
            origins: changes
                .iter()
                .any(has_origins)
                .then(|| self.origins.clone()),
            table_count: self.tables.len(),
            tables: touched
                .into_iter()
                .filter_map(|i| Some((i, self.tables.get(i)?.clone())))
                .collect(),
        };
        for change in changes {
            if let Err(malformed) = self.apply(change.clone()) {
                self.undo(undo);
                return Err(malformed);
            }
        }
        Ok(undo)
    }

    /// Takes an edit back, the last one there was.
    pub(crate) fn undo(&mut self, undo: Undo<R>) {
        self.flushed_seq = undo.flushed_seq;
        self.facts_through_block = undo.facts_through_block;
        self.log_start = undo.log_start;
        self.next_file_number = undo.next_file_number;
        if let Some(origins) = undo.origins {
            self.origins = origins;
        }
        self.tables.truncate(undo.table_count);
        for (i, entry) in undo.tables {
            if let Some(place) = self.tables.get_mut(i) {
                *place = entry;
            }
        }
    }

    /// A RowSet, by its fragment and its place.
    pub(crate) fn row_set(
        &self,
        table_id: u32,
        fragment_id: FragmentId,
        place: RowSetPlace,
    ) -> Option<&R> {
        let fragment = self.tree(table_id)?.fragments.fragment(fragment_id)?;
        fragment
            .row_sets
            .iter()
            .find(|row_set| row_set.meta().place() == place)
    }

    /// Moves the state on.
    pub(crate) fn apply(&mut self, change: Change<R>) -> Result<(), Malformed> {
        match change {
            Change::Table { record } => self.set_table(record)?,
            Change::Add(row_set) => self.add(row_set)?,
            Change::Remove {
                table_id,
                fragment_id,
                file_number,
                offset,
            } => self.remove(table_id, fragment_id, (file_number, offset))?,
            Change::Divide {
                table_id,
                fragment_id,
                division,
            } => {
                let fragments = &mut self.tree_mut(table_id)?.fragments;
                *fragments = fragments
                    .divided(fragment_id, &division)
                    .ok_or(Malformed("an edit divides a fragment that can't be"))?;
            }
            Change::Truncates { table_id, seqs } => {
                if !seqs.is_sorted_by(|a, b| a < b) {
                    return Err(Malformed("truncates don't ascend"));
                }
                self.tree_mut(table_id)?.truncates = seqs.into();
            }
            Change::Deletes { table_id, deletes } => self.tree_mut(table_id)?.deletes = deletes,
            Change::Grown { table_id, point } => {
                let growth = &mut self.tree_mut(table_id)?.growth;
                let old = growth.len().saturating_sub(POINTS_MAX - 1);
                *growth = growth.iter().copied().skip(old).chain([point]).collect();
            }
            Change::Exported {
                table_id,
                base,
                files,
            } => {
                let table = self.tables.get_mut(table_id as usize);
                let exports = &mut table
                    .ok_or(Malformed("an edit names an unknown table"))?
                    .exports;
                let exports = Arc::make_mut(exports);
                if exports.base.as_ref().is_some_and(|old| old.seq > base.seq) {
                    return Err(Malformed("an export moves back"));
                }
                exports.base = Some(base);
                exports.apply(files)?;
            }
            Change::Flushed {
                seq,
                facts_through_block,
                log_start,
            } => {
                if seq < self.flushed_seq || facts_through_block < self.facts_through_block {
                    return Err(Malformed("the flushed sequence moves back"));
                }
                self.flushed_seq = seq;
                self.facts_through_block = facts_through_block;
                self.log_start = log_start;
            }
            Change::Origins(origins) => self.origins = origins,
            Change::NextFile(number) => {
                self.next_file_number = self.next_file_number.max(number);
            }
        }
        Ok(())
    }

    /// Takes the next table, or what is known now of one that is there.
    fn set_table(&mut self, record: Arc<[u8]>) -> Result<(), Malformed> {
        let (id, schema) = decode_table(&record)?;
        let count = self.tables.len();
        let tree = || Arc::new(TableTree::new(Sharding::new(&schema)));
        match self.tables.get_mut(id as usize) {
            Some(table) => table.record = record,
            None if id as usize == count => self.tables.push(TableEntry {
                record,
                exports: Arc::default(),
                rows: tree(),
                locations: tree(),
            }),
            None => return Err(Malformed("a table is missing before this one")),
        }
        Ok(())
    }

    /// Takes a RowSet, which its place names, out of a fragment.
    fn remove(
        &mut self,
        table_id: u32,
        fragment_id: FragmentId,
        place: (u64, u64),
    ) -> Result<(), Malformed> {
        let fragments = &mut self.tree_mut(table_id)?.fragments;
        let fragment = fragments
            .fragment(fragment_id)
            .ok_or(Malformed("an edit names an unknown fragment"))?;
        let stays = |row_set: &&R| {
            let meta = row_set.meta();
            (meta.file_number, meta.offset) != place
        };
        let row_sets: Arc<[R]> = fragment.row_sets.iter().filter(stays).cloned().collect();
        if row_sets.len() + 1 != fragment.row_sets.len() {
            return Err(Malformed("an edit takes a RowSet away that is not there"));
        }
        *fragments = fragments
            .with_row_sets(fragment_id, row_sets)
            .ok_or(Malformed("an edit names an unknown fragment"))?;
        Ok(())
    }

    /// Puts a RowSet into its fragment: the newer, the further in front.
    fn add(&mut self, row_set: R) -> Result<(), Malformed> {
        let head = row_set.meta().head;
        if head.seq_from >= head.seq_to || row_set.meta().file_number >= self.next_file_number {
            return Err(Malformed("an edit adds a RowSet that can't be"));
        }
        let fragment_id = FragmentId(head.fragment_id);
        let fragments = &mut self.tree_mut(head.table_id)?.fragments;
        let fragment = fragments
            .fragment(fragment_id)
            .ok_or(Malformed("an edit names an unknown fragment"))?;
        let mut row_sets = fragment.row_sets.to_vec();
        let newer = |other: &R| other.meta().head.seq_from >= head.seq_to;
        let at = row_sets.partition_point(newer);
        if row_sets
            .get(at)
            .is_some_and(|older| older.meta().head.seq_to > head.seq_from)
        {
            return Err(Malformed("RowSets of one fragment overlap"));
        }
        row_sets.insert(at, row_set);
        *fragments = fragments
            .with_row_sets(fragment_id, row_sets.into())
            .ok_or(Malformed("an edit names an unknown fragment"))?;
        Ok(())
    }

    /// The changes that make this state from nothing.
    pub(crate) fn changes(&self) -> Vec<Change<R>> {
        let mut changes = vec![
            Change::NextFile(self.next_file_number),
            Change::Flushed {
                seq: self.flushed_seq,
                facts_through_block: self.facts_through_block,
                log_start: self.log_start,
            },
            Change::Origins(self.origins.clone()),
        ];
        for (table_id, table) in (0..).zip(&self.tables) {
            changes.push(Change::Table {
                record: table.record.clone(),
            });
            if let Some(base) = &table.exports.base {
                changes.push(Change::Exported {
                    table_id,
                    base: base.clone(),
                    files: table.exports.changes_since(&Exports::default()),
                });
            }
            tree_changes(table_id, &table.rows, &mut changes);
            tree_changes(table_id | LOCATIONS_BIT, &table.locations, &mut changes);
        }
        changes
    }

    /// All RowSets.
    pub(crate) fn row_sets(&self) -> impl Iterator<Item = &R> {
        let trees = self
            .tables
            .iter()
            .flat_map(|table| [&table.rows, &table.locations]);
        trees.flat_map(|tree| {
            let fragments = tree.fragments.fragments().into_iter();
            fragments.flat_map(|fragment| fragment.row_sets.iter())
        })
    }
}

fn tree_changes<R: Described>(table_id: u32, tree: &TableTree<R>, changes: &mut Vec<Change<R>>) {
    if !tree.truncates.is_empty() {
        changes.push(Change::Truncates {
            table_id,
            seqs: tree.truncates.to_vec(),
        });
    }
    if !tree.deletes.is_empty() {
        changes.push(Change::Deletes {
            table_id,
            deletes: tree.deletes.clone(),
        });
    }
    for &point in &*tree.growth {
        changes.push(Change::Grown { table_id, point });
    }
    for fragment in tree.fragments.fragments() {
        // The RowSets first: by range, what is divided without any makes way for its children at once.
        changes.extend(fragment.row_sets.iter().cloned().map(Change::Add));
        if let Some(children) = &fragment.children {
            changes.push(Change::Divide {
                table_id,
                fragment_id: fragment.id,
                division: children.division.clone(),
            });
        }
    }
}
