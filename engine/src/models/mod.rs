//! Models of what threads do to each other, run by the crate `models` under shuttle: each is a small program over the
//! engine's own code, whose locks, atomics and threads are shuttle's here, and fails by a panic in some order of their steps.
//!
//! [`queue`] and [`pins`] take one structure each, so that many orders, or all, can be gone through; [`commits`],
//! [`publication`], [`exports`], [`backups`] and [`snapshots`] take whole databases on the simulated disk.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a model fails by a panic"
)]

mod backups;
mod commits;
mod exports;
mod pins;
mod publication;
mod queue;
mod small;
mod small_locks;
mod snapshots;

/// A model, and how it is run.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// What it is asked for by.
    pub name: &'static str,
    /// What holds in every order of steps.
    pub shows: &'static str,
    /// Runs it once, within shuttle.
    pub run: fn(),
    /// How often it is run for each time that a whole database is.
    pub weight: usize,
    /// Whether it is small enough for all orders.
    pub is_exhaustive: bool,
}

const fn of_database(name: &'static str, shows: &'static str, run: fn()) -> Model {
    Model {
        name,
        shows,
        run,
        weight: 1,
        is_exhaustive: false,
    }
}

/// All models.
pub const MODELS: &[Model] = &[
    Model {
        name: "queue",
        shows: "each record is written once, in the order of numbers; who waits for one returns when it is written, and not before",
        run: queue::acknowledges_once,
        weight: 20,
        is_exhaustive: false,
    },
    Model {
        name: "queue-fails",
        shows: "a failed write reaches everybody who waits, and who comes later",
        run: queue::failure_reaches_all,
        weight: 20,
        is_exhaustive: false,
    },
    Model {
        name: "pins",
        shows: "the horizon never passes a commit sequence that is held, and follows once nothing is",
        run: pins::horizon_stays_below_holds,
        weight: 20,
        is_exhaustive: true,
    },
    Model {
        name: "pins-wait",
        shows: "who waits for a commit sequence goes on when it is visible, and hears why it never will be",
        run: pins::waits_end,
        weight: 20,
        is_exhaustive: true,
    },
    Model {
        name: "generations",
        shows: "between the generations and what is flushed there is no gap, and a generation goes with its last reader",
        run: publication::generations_leave_no_gap,
        weight: 20,
        is_exhaustive: true,
    },
    Model {
        name: "parked",
        shows: "a reader that is at work when it is to let go lets go when it is done",
        run: small_locks::a_parked_reader_lets_go,
        weight: 20,
        is_exhaustive: true,
    },
    Model {
        name: "pace",
        shows: "a compaction that waits for a block of the log goes on after it",
        run: small_locks::a_compaction_goes_on_after_a_block,
        weight: 20,
        is_exhaustive: true,
    },
    of_database(
        "commits",
        "commits of many threads get sequences without gaps, are visible and as durable as asked for when they return, and every snapshot is a whole prefix of them",
        commits::group_commit,
    ),
    of_database(
        "commits-fail",
        "a failed sync ends every commit that waits or comes later with an error, and nothing that was acknowledged as synced is lost",
        commits::failed_sync,
    ),
    of_database(
        "syncs-fail",
        "where several threads sync what was committed before, and one of them fails, nothing that another took for synced is lost",
        commits::failed_later_sync,
    ),
    of_database(
        "publication",
        "beside flushes readers see whole prefixes and never go back, by key and by parked scans",
        publication::readers_see_prefixes,
    ),
    of_database(
        "views",
        "a snapshot that stays open keeps no generation that was flushed, whatever moment its reads meet the flush at",
        publication::views_let_go,
    ),
    of_database(
        "exports",
        "beside a large export that is committed, changes are those before it or after it, and each row has its place",
        exports::changes_know_their_places,
    ),
    of_database(
        "backups",
        "a backup beside flushes has the segments that it needs, opens, and holds a whole prefix of the commits",
        backups::hold_a_prefix,
    ),
    of_database(
        "snapshots",
        "a snapshot sees the same rows until its last clone is dropped, through flushes and compactions; then older versions go",
        snapshots::are_kept_until_released,
    ),
];
