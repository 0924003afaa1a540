//! Work that exports, and knows of the lake only what it told it.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use moonshine_engine::{Batches, ExportFile, Result, Table};
use uuid::Uuid;

use super::work::Work;
use super::{Child, tell};
use crate::lake::line;

/// Exports of two tables, in turn.
#[derive(Default)]
pub(super) struct Exporter {
    exports: u64,
}

/// Key and number of all rows.
///
/// # Errors
/// As the engine answers.
pub(crate) fn ids_and_numbers(batches: Batches) -> Result<Vec<(i64, i64)>> {
    let mut rows = Vec::new();
    for batch in batches {
        let batch = batch?;
        let column = |at: usize| batch.column(at).as_primitive::<Int64Type>().values();
        rows.extend(column(0).iter().copied().zip(column(1).iter().copied()));
    }
    Ok(rows)
}

/// What an earlier export left open ends as the catalog has it.
///
/// # Errors
/// As the engine answers.
pub(super) fn settle(child: &Child, table: &Table) -> Result<()> {
    for pending in child.database.pending_exports() {
        if pending.table().id() != table.id() {
            continue;
        }
        let id = pending.commit_id();
        if child.landed.lock().unwrap().contains(&id) {
            pending.commit(id.to_string())?;
        } else {
            pending.abort()?;
        }
    }
    Ok(())
}

impl Work for Exporter {
    fn name(&self) -> &'static str {
        "exporter"
    }

    fn pause(&self) -> std::time::Duration {
        std::time::Duration::from_millis(5)
    }

    fn step(&mut self, child: &Child) -> Result<()> {
        self.exports += 1;
        let table = match self.exports % 2 {
            0 => &child.tables.left,
            _ => &child.tables.chain,
        };
        settle(child, table)?;
        let snapshot = child.database.snapshot();
        let mut export = child.database.begin_export(table, &snapshot)?;
        drop(snapshot);
        if export.is_empty() {
            return Ok(());
        }
        let rows = ids_and_numbers(export.batches(None, 100)?)?;
        let id = Uuid::new_v4();
        let file = ExportFile {
            path: id.to_string(),
            row_count: rows.len() as u64,
        };
        export.prepare(id, &[file])?;
        match child.draw(&[8, self.exports]) % 8 {
            0 => return export.abort(),
            // Open, and not in the catalog.
            1 => return Ok(()),
            _ => {}
        }
        tell(&line(
            table.name(),
            id,
            export.to_seq(),
            &rows,
            export.removed(),
        ));
        child.landed.lock().unwrap().insert(id);
        match child.draw(&[9, self.exports]) % 6 {
            // Open, and in the catalog.
            0 => Ok(()),
            _ => export.commit(id.to_string()),
        }
    }
}
