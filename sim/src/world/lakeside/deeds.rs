//! What other writers do to the tables, and how it is undone.

use iceberg::TableIdent;
use moonshine_engine::Database;
use moonshine_export::catalog::Guard;

use super::Lakeside;
use crate::lake::{Deed, SimulatedCatalog};
use crate::model::tables::TABLE_COUNT;
use crate::random::Stream;

/// What somebody did that stops the export of a table.
#[derive(Debug)]
pub(super) struct Trouble {
    table: usize,
    deed: Deed,
    /// The table's newest snapshot before it.
    before: i64,
    /// And behind it.
    after: Option<i64>,
}

impl Lakeside {
    fn head(&self, ident: &TableIdent) -> Option<i64> {
        let guard: Guard = self.ground.guard;
        let catalog = SimulatedCatalog::of(&self.ground.lake, guard, 0);
        catalog.look(ident)?.metadata.current_snapshot_id()
    }

    /// Somebody does something to a table; in words what, if it can be done.
    pub(super) fn disturb(&mut self, stream: &mut Stream) -> Option<String> {
        let table = stream.below(TABLE_COUNT as u64) as usize;
        let keep = stream.between(1, 3) as usize;
        let deed = stream.pick(&[
            Deed::SetProperty,
            Deed::RollBack,
            Deed::Expire { keep },
            Deed::RewriteManifests,
            Deed::Append,
            Deed::Replace,
        ]);
        if self.trouble.is_some() {
            return None;
        }
        let ident = self.names.ident(table).clone();
        let before = self.head(&ident)?;
        if !self.ground.lake.disturb(&ident, deed) {
            return None;
        }
        if matches!(deed, Deed::RollBack | Deed::Append | Deed::Replace) {
            self.checker.forget_position(table);
            let after = self.head(&ident);
            self.trouble = Some(Trouble {
                table,
                deed,
                before,
                after,
            });
        }
        Some(format!("{deed:?} of {ident}"))
    }

    /// What stops an export is undone, as its error asks for; in words what, if anything is.
    pub(super) fn undo(&mut self, database: &Database) -> Option<String> {
        let trouble = self.trouble.take()?;
        let ident = self.names.ident(trouble.table).clone();
        // An export goes on where a rollback took back no row.
        if self.head(&ident) != trouble.after {
            return None;
        }
        let snapshot_id = trouble.before;
        // Once the database found out that its export is not there, it goes on without.
        let table = database.table(self.names.name(trouble.table))?;
        let exported = database.exported(&table).map(|exported| exported.token);
        let mut pending = database.pending_exports().into_iter();
        let is_open = pending.any(|pending| pending.table().name() == table.name());
        if trouble.deed == Deed::RollBack && !is_open && exported != Some(snapshot_id.to_string()) {
            return None;
        }
        self.checker.forget_position(trouble.table);
        self.ground
            .lake
            .disturb(&ident, Deed::MakeHead { snapshot_id });
        Some(format!("{:?} of {ident} is undone", trouble.deed))
    }
}
