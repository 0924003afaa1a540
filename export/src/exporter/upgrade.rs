//! The format version of an Iceberg table follows the configuration, upward.
//!
//! That is a commit of the table's metadata alone. Position delete files from before stay, until more rows of their data file are
//! deleted: then a deletion vector takes their positions over. Rows from before get ids with the next export.

use async_trait::async_trait;
use iceberg::TableUpdate;
use moonshine_engine::Table;

use super::Core;
use super::core::TableState;
use crate::catalog::{CatalogTable, Change};
use crate::commit::{Failure, Proposal, run, table_version};
use crate::config::FormatVersion;
use crate::error::Result;
use crate::ownership::Writer;

struct Upgrade<'a> {
    core: &'a Core,
    base: CatalogTable,
    writer: Writer,
    wanted: FormatVersion,
}

#[async_trait]
impl Proposal for Upgrade<'_> {
    fn is_in(&self, table: &CatalogTable) -> bool {
        table_version(table).is_ok_and(|version| version >= self.wanted)
    }

    async fn change(&mut self, table: &CatalogTable) -> Result<Change> {
        let owner = &self.core.owner;
        owner.check_position_unmoved(&self.base, table, &self.writer)?;
        let upgrade = TableUpdate::UpgradeFormatVersion {
            format_version: self.wanted.iceberg(),
        };
        Ok(Change::of(&table.metadata, vec![upgrade]))
    }
}

impl Core {
    /// Gives the Iceberg table the format version that is configured.
    pub(super) async fn upgrade(&self, table: &Table, state: &mut TableState) -> Result<()> {
        let base = state.current.clone();
        let mut change = Upgrade {
            core: self,
            base: base.clone(),
            writer: state.writer,
            wanted: self.settings(table).format_version,
        };
        state.current = run(self.catalog.as_ref(), &self.environment, base, &mut change)
            .await
            .map_err(Failure::into_error)?;
        Ok(())
    }
}
