//! Putting the figures together.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::database::Database;
use crate::generation::Generation;
use crate::row_set::meta::RowSetMeta;
use crate::shared::Shared;
use crate::statistics::counters::WorkCounters;
use crate::statistics::figures::{
    FragmentStatistics, LevelStatistics, LogStatistics, MemoryStatistics, ReadStatistics,
    Statistics, TableStatistics, TreeFigures, WorkStatistics, WriteStatistics,
};
use crate::tree::files::HeldRowSet;
use crate::tree::fragment::{Fragment, FragmentTree};
use crate::tree::state::Described;
use crate::tree::table::TableState;

impl Database {
    /// What the database did since it was opened, and what it holds.
    ///
    /// Costs a look at every fragment and every RowSet's description, all in memory; it makes nobody wait.
    pub fn statistics(&self) -> Statistics {
        statistics(self.shared())
    }
}

fn statistics(shared: &Shared) -> Statistics {
    let counters = &shared.counters;
    let generations = shared.generations.list().clone();
    let tables: Vec<_> = shared.tables.read().iter().cloned().collect();
    let tables: Vec<_> = tables
        .iter()
        .map(|table| table_statistics(table, &generations))
        .collect();
    let compactions = counters.compactions().into_iter();
    Statistics {
        uptime: counters.uptime(),
        writes: write_statistics(shared),
        log: log_statistics(shared),
        flushes: work_statistics(&counters.flushes),
        queued_flushes: shared.generations.frozen_count() as u64,
        compactions: compactions
            .map(|(kind, work)| (kind, work_statistics(&work)))
            .collect(),
        reads: read_statistics(shared),
        memory: memory_statistics(shared),
        stalls: counters.stalls(),
        open_files: counters.io.open_files.load(Ordering::Relaxed),
        tables,
    }
}

fn write_statistics(shared: &Shared) -> WriteStatistics {
    let counters = &shared.counters;
    let [commits, rows, user_bytes] = counters.writes();
    let io = &counters.io;
    WriteStatistics {
        commits,
        rows,
        user_bytes,
        log_bytes: io.log.written_bytes.load(Ordering::Relaxed),
        delta_file_bytes: io.delta.written_bytes.load(Ordering::Relaxed),
        edit_bytes: io.other.written_bytes.load(Ordering::Relaxed),
        synced_commit_ns: counters.synced_commit_ns.distribution(),
        buffered_commit_ns: counters.buffered_commit_ns.distribution(),
    }
}

fn log_statistics(shared: &Shared) -> LogStatistics {
    let segments = shared.segments.list().unwrap_or_default();
    let (queued_records, queued_bytes) = shared.queue.queued();
    LogStatistics {
        size_bytes: segments.iter().map(|segment| segment.size_bytes).sum(),
        block_records: shared.counters.block_records.distribution(),
        syncs: shared.counters.io.log.sync_ns.distribution(),
        queued_records: queued_records as u64,
        queued_bytes: queued_bytes as u64,
    }
}

fn read_statistics(shared: &Shared) -> ReadStatistics {
    let [gets, generations] = shared.counters.gets();
    let [file_reads, file_bytes] = shared.counters.io.delta.reads.totals();
    ReadStatistics {
        gets,
        generations,
        pages: shared.store.cache.stats(),
        file_reads,
        file_bytes,
    }
}

fn memory_statistics(shared: &Shared) -> MemoryStatistics {
    let cache = &shared.store.cache;
    let pages = cache.stats();
    let generation_bytes = shared.generations.size_bytes();
    let held_bytes = shared.generations.held_bytes();
    MemoryStatistics {
        budget_bytes: cache.budget().limit_bytes(),
        used_bytes: cache.budget().used_bytes(),
        generation_bytes,
        kept_generation_bytes: held_bytes.saturating_sub(generation_bytes),
        page_bytes: pages.by_kind.iter().map(|one| one.size_bytes).sum(),
        page_room_bytes: cache.free_bytes(),
        slot_bytes: pages.slot_bytes,
        transaction_bytes: shared.memory_parts.transactions.used_bytes(),
        background_bytes: shared.memory_parts.background.used_bytes(),
        commit_queue_bytes: shared.queue.queued().1 as u64,
    }
}

fn work_statistics(work: &WorkCounters) -> WorkStatistics {
    let time_ns = work.time_ns.distribution();
    WorkStatistics {
        count: time_ns.count,
        failed: work.failed.load(Ordering::Relaxed),
        read_bytes: work.read_bytes.load(Ordering::Relaxed),
        written_bytes: work.written_bytes.load(Ordering::Relaxed),
        time_ns,
    }
}

fn table_statistics(table: &TableState, generations: &[Arc<Generation>]) -> TableStatistics {
    let trees = table.trees.load_full();
    let mut fragments = Vec::new();
    add_fragments(trees.rows.fragments.root(), 1, &mut fragments);
    let mut levels: Vec<LevelStatistics> = Vec::new();
    let mut held = TreeFigures::default();
    for fragment in &fragments {
        held.add(&fragment.held);
        let at = fragment.level as usize - 1;
        if levels.len() <= at {
            levels.resize_with(at + 1, LevelStatistics::default);
        }
        if let Some(level) = levels.get_mut(at) {
            level.level = fragment.level;
            level.fragments += 1;
            level.held.add(&fragment.held);
            level.row_sets_max = level.row_sets_max.max(fragment.held.row_sets);
        }
    }
    let versions = generations.iter().filter_map(|one| one.table(table.id));
    TableStatistics {
        name: table.schema().name().to_owned(),
        generation_rows: versions.map(|one| u64::from(one.version_count())).sum(),
        held,
        levels,
        fragments,
        location_bytes: size_bytes(&trees.locations.fragments),
    }
}

/// A fragment and those below it, each before its children.
fn add_fragments(
    fragment: &Fragment<Arc<HeldRowSet>>,
    level: u32,
    found: &mut Vec<FragmentStatistics>,
) {
    let mut held = TreeFigures::default();
    for (behind, row_set) in (1..).zip(fragment.row_sets.iter()) {
        held.add(&TreeFigures::of(row_set.meta()));
        let older = fragment.row_sets.iter().skip(behind);
        let targets = older.filter_map(|older| row_set.meta().target(older.meta()));
        held.replaced_rows += targets
            .map(|target| u64::from(target.ordinal_count))
            .sum::<u64>();
    }
    let (newest, oldest) = (fragment.row_sets.first(), fragment.row_sets.last());
    found.push(FragmentStatistics {
        id: fragment.id.0,
        level,
        is_leaf: fragment.children.is_none(),
        held,
        seqs: (
            oldest.map_or(0, |held| held.meta().head.seq_from),
            newest.map_or(0, |held| held.meta().head.seq_to),
        ),
    });
    for child in fragment.children.iter().flat_map(|of| of.fragments.iter()) {
        add_fragments(child, level + 1, found);
    }
}

fn size_bytes(tree: &FragmentTree<Arc<HeldRowSet>>) -> u64 {
    let fragments = tree.fragments().into_iter();
    let row_sets = fragments.flat_map(|fragment| fragment.row_sets.iter());
    row_sets.map(|held| held.meta().size_bytes).sum()
}

impl TreeFigures {
    fn of(meta: &RowSetMeta) -> Self {
        TreeFigures {
            row_sets: 1,
            rows: meta.row_count,
            tombstones: meta.tombstone_count,
            replaced_rows: 0,
            size_bytes: meta.size_bytes,
            data_bytes: meta.key_bytes + meta.value_bytes,
        }
    }

    fn add(&mut self, other: &TreeFigures) {
        self.row_sets += other.row_sets;
        self.rows += other.rows;
        self.tombstones += other.tombstones;
        self.replaced_rows += other.replaced_rows;
        self.size_bytes += other.size_bytes;
        self.data_bytes += other.data_bytes;
    }
}
