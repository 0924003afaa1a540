//! The locations of an export whose rows are many: they go into the tree by a load, and the export with them.

use std::sync::Arc;

use crate::error::Result;
use crate::exported::location::{LOCATION_SIZE_BYTES_MIN, RowLocation};
use crate::facts::{PendingRecord, Untaken};
use crate::generation::LOCATIONS_BIT;
use crate::load::{Load, SortedRows, take_memory};
use crate::log::delta::encode_delta;
use crate::log::format::RecordKind;
use crate::row_set::rows_page::RowRef;
use crate::shared::Shared;
use crate::tree::loaded::LoadedExport;

/// Puts the locations of an export's rows into the tree, and the export with them: no generation holds them, and nobody who commits
/// waits while they are written.
///
/// The catalog holds the export by now. After a crash before the log says so, it is pending still, and [`PendingRecord::is_placed`].
pub(super) fn load_locations(shared: &Shared, record: &PendingRecord, token: &str) -> Result<()> {
    let locations = Locations {
        shared,
        record,
        token,
    };
    let seen = record.seen_keys();
    if seen.key_count == 0 {
        return Ok(());
    }
    let table_id = record.table.id | LOCATIONS_BIT;
    // Older locations that no delta follows would not be flushed before these come, and the tree would refuse them.
    if shared.generations.active().table(table_id).is_some() {
        shared.log(RecordKind::Delta, encode_delta(None, &[], 0))?;
    }
    if seen.is_sorted() {
        let (memory_size_bytes, _memory) = take_memory(shared);
        let sorted = SortedRows {
            table_id,
            row_count: seen.key_count,
            size_bytes: seen.size_bytes + seen.key_count * LOCATION_SIZE_BYTES_MIN,
            memory_size_bytes,
        };
        return sorted
            .take_effect(shared, |take| {
                let each = |key: &[u8], location: &[u8]| {
                    take(RowRef {
                        key,
                        value: Some(location),
                    })
                };
                locations.each(each).map(Some)
            })
            .map(drop);
    }
    let mut load = Load::new(shared, table_id);
    let export = locations.each(|key, location| {
        let put_key = |out: &mut Vec<u8>| {
            out.extend_from_slice(key);
            Ok(())
        };
        load.push(shared, put_key, |out| out.extend_from_slice(location))
    })?;
    load.finish(shared, Some(&export)).map(drop)
}

/// The locations of an export, in the order of its files.
struct Locations<'a> {
    shared: &'a Shared,
    record: &'a PendingRecord,
    token: &'a str,
}

impl Locations<'_> {
    /// Hands out each key and the bytes of its location, none for a row that is gone; what the table's exports become.
    fn each(&self, mut take: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<LoadedExport> {
        let exports = self.record.next_exports(self.token.to_owned());
        let mut exports = exports.map_err(|malformed| Untaken::from(malformed).of_our_own())?;
        let mut bytes = Vec::new();
        let each = |key: &[u8], location: Option<RowLocation>| {
            bytes.clear();
            if let Some(location) = location {
                location.encode(&mut bytes);
            }
            Ok(take(key, &bytes)?)
        };
        let placed = (self.record).each_location(&mut exports, self.shared.log_reader(), each);
        placed.map_err(Untaken::of_our_own)?;
        Ok(LoadedExport {
            table: self.record.table.clone(),
            exports: Arc::new(exports),
        })
    }
}
