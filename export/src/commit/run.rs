//! The state machine of a commit.
//!
//! ```text
//!          ┌── the table holds it already ─────────────────────────► committed
//!  look ───┤
//!   ▲      └── change ──► catalog ──┬── committed, and shows it ───► committed
//!   │                               ├── refused, and shows none ───► not committed
//!   └──── load the table again ◄────┴── conflict, busy, unknown
//! ```
//!
//! A change demands the newest snapshot that it was made on. So two attempts on the same snapshot can't both take place, and
//! one without an answer may be tried again: the second attempt either finds that the first one did, or keeps it
//! from doing so. What a proposal looks at each time it is asked is the commit's own id in the table's history, the
//! writer's epoch, and whether the rows are as they were.
//!
//! A conflict is an answer to one copy of a request. Networks make more of them, and another copy may be what this one
//! conflicts with, still at work. So an attempt is over only when the table has moved past what it demands; and not even
//! then if somebody moved it elsewhere, who may move it back: that is for the next look to decide, behind a fence. A refusal
//! is an answer to one copy, too: it ends the commit, and stands once the table is seen without it. And what a
//! catalog says it committed has to be in the table that it shows: files are removed because of that.

use async_trait::async_trait;

use crate::catalog::{CatalogTable, Change, CommitOutcome, Guard, TableCatalog};
use crate::environment::Environment;
use crate::error::ExportError;

/// How often a change is sent.
pub(crate) const ATTEMPTS_MAX: u32 = 8;
/// The first pause after an attempt that did not succeed, in milliseconds.
const PAUSE_MIN_MS: u64 = 50;
/// The longest pause, in milliseconds, whatever the catalog asks for.
const PAUSE_MAX_MS: u64 = 5_000;

/// What is to be committed.
#[async_trait]
pub(crate) trait Proposal: Send {
    /// Whether the table holds it.
    fn is_in(&self, table: &CatalogTable) -> bool;

    /// What is to be changed of the table as it is.
    ///
    /// # Errors
    /// Why it must not be made of this table.
    async fn change(&mut self, table: &CatalogTable) -> Result<Change, ExportError>;
}

/// How a commit failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing was committed, and nothing of it can be any more.
    NotCommitted(ExportError),
    /// Whether it was cannot be told yet.
    Unknown(ExportError),
}

impl Failure {
    /// Why, where it does not matter whether it was.
    pub(crate) fn into_error(self) -> ExportError {
        match self {
            Failure::NotCommitted(error) | Failure::Unknown(error) => error,
        }
    }
}

/// An attempt that may have taken place, or may still do so.
struct Unanswered {
    base_location: String,
    change: Change,
}

impl Unanswered {
    fn new(base: &CatalogTable, change: Change) -> Self {
        Unanswered {
            base_location: base.metadata_location.clone(),
            change,
        }
    }

    /// Whether it can still take place, the table being this.
    fn may_land(&self, guard: Guard, table: &CatalogTable) -> bool {
        match guard {
            Guard::Metadata => self.base_location == table.metadata_location,
            Guard::Requirements => self.change.may_follow(&table.metadata),
        }
    }
}

/// Commits what `proposal` proposes, of `table` or of what it has become; returns the table that holds it.
pub(crate) async fn run(
    catalog: &dyn TableCatalog,
    environment: &Environment,
    table: CatalogTable,
    proposal: &mut dyn Proposal,
) -> Result<CatalogTable, Failure> {
    run_up_to(ATTEMPTS_MAX, catalog, environment, table, proposal).await
}

/// As [`run`], with so many attempts at most.
pub(crate) async fn run_up_to(
    attempts_max: u32,
    catalog: &dyn TableCatalog,
    environment: &Environment,
    mut table: CatalogTable,
    proposal: &mut dyn Proposal,
) -> Result<CatalogTable, Failure> {
    let mut unanswered: Vec<Unanswered> = Vec::new();
    let (mut last, mut may_revive) = (None, false);
    for attempt in 0..attempts_max {
        if proposal.is_in(&table) {
            return Ok(table);
        }
        let change = match proposal.change(&table).await {
            Ok(change) => change,
            Err(error) => return Err(failure(may_revive || !unanswered.is_empty(), error)),
        };
        let outcome = catalog
            .commit(&table, &change, environment.identities.uuid())
            .await;
        let mut pause_ms = (PAUSE_MIN_MS << attempt).min(PAUSE_MAX_MS);
        match shown(proposal, outcome) {
            CommitOutcome::Committed(table) => return Ok(table),
            CommitOutcome::Conflict => unanswered.push(Unanswered::new(&table, change)),
            CommitOutcome::Refused(error) => {
                let found = catalog.load(&table.ident).await;
                return taken_at_first(proposal, found, !unanswered.is_empty(), error);
            }
            CommitOutcome::Busy {
                retry_after_ms,
                error,
            } => {
                pause_ms = retry_after_ms.map_or(pause_ms, |wanted| wanted.min(PAUSE_MAX_MS));
                last = Some(error);
            }
            CommitOutcome::Unknown(error) => {
                tracing::warn!(table = %table.ident, %error, "a commit got no answer; the table is looked at");
                unanswered.push(Unanswered::new(&table, change));
                last = Some(error);
            }
        }
        environment.clock.pause(pause_ms).await;
        let is_open = !unanswered.is_empty();
        table = match catalog.load(&table.ident).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                let gone = ExportError::foreign(
                    &table.ident,
                    "it is gone from the catalog; put it back, by its newest metadata file",
                );
                return Err(failure(is_open, gone));
            }
            Err(error) => return Err(failure(is_open, last.unwrap_or(error))),
        };
        // What is wrong with the table may be that it was rolled back, and be mended by the opposite: then what was demanded holds again.
        may_revive |= catalog.guard() == Guard::Requirements && !unanswered.is_empty();
        unanswered.retain(|attempt| attempt.may_land(catalog.guard(), &table));
    }
    if proposal.is_in(&table) {
        return Ok(table);
    }
    let conflict = ExportError::Conflict {
        table: table.ident.to_string(),
        attempts: attempts_max,
    };
    Err(failure(!unanswered.is_empty(), last.unwrap_or(conflict)))
}

/// The table, if it holds what was refused: of a request that was sent twice on its way, the first copy may have been taken. Without
/// an answer to that it is not known.
fn taken_at_first(
    proposal: &dyn Proposal,
    found: Result<Option<CatalogTable>, ExportError>,
    is_open: bool,
    refused: ExportError,
) -> Result<CatalogTable, Failure> {
    match found {
        Ok(Some(table)) if proposal.is_in(&table) => Ok(table),
        Ok(_) => Err(failure(is_open, refused)),
        Err(_) => Err(Failure::Unknown(refused)),
    }
}

/// The outcome; unknown if the table that is said to hold the commit does not.
fn shown(proposal: &dyn Proposal, outcome: CommitOutcome) -> CommitOutcome {
    match outcome {
        CommitOutcome::Committed(table) if !proposal.is_in(&table) => {
            let place = format!("table '{}'", table.ident);
            let reason = "the catalog's answer to a commit does not show it";
            CommitOutcome::Unknown(ExportError::unavailable(place, reason))
        }
        outcome => outcome,
    }
}

/// `is_open`: whether a commit may have taken place, or may still do so.
fn failure(is_open: bool, error: ExportError) -> Failure {
    match is_open {
        true => Failure::Unknown(error),
        false => Failure::NotCommitted(error),
    }
}
