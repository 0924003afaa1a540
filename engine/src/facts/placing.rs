//! Where the rows of an export lie, once it is committed: from the keys in the log, in the order of the export's files.

use std::sync::Arc;

use super::{PendingRecord, Untaken};
use crate::codec::Malformed;
use crate::codec::key::hash_key;
use crate::exported::files::Exports;
use crate::exported::location::{RowLocation, RowMark};
use crate::exported::{ExportFile, Exported};
use crate::generation::{Generation, LOCATIONS_BIT};
use crate::log::delta::{PendingRow, PendingTable, decode_delta, encode_delta};
use crate::log::export_keys::SeenKeys;
use crate::log::read_back::LogReader;

/// Most bytes of keys in one body of locations.
const LOCATIONS_SIZE_BYTES_MAX: usize = 1 << 20;
/// What a location takes of a generation besides its key.
const LOCATION_SIZE_BYTES: u64 = 48;

impl PendingRecord {
    /// Whether all keys of its files' rows were read.
    pub(super) fn is_whole(&self) -> bool {
        self.row_count() == self.keys.placed_count
    }

    fn row_count(&self) -> u64 {
        self.files.iter().map(|file| file.row_count).sum()
    }

    /// Whether its rows have their locations: the tree may have got them before the log got its outcome.
    pub(crate) fn is_placed(&self) -> bool {
        let exports = self.table.exports.load();
        match &self.older {
            // The files that it replaces go as it is placed, and only then.
            Some(older) if !older.replaced.is_empty() => {
                let mut replaced = older.replaced.iter();
                replaced.all(|number| exports.file(*number).is_none())
            }
            // Whatever was exported before it ends where it begins.
            _ => self.moves_on() && exports.base.as_ref().map(|base| base.seq) == Some(self.to_seq),
        }
    }

    fn moves_on(&self) -> bool {
        self.to_seq > self.from_seq
    }

    /// Whether its locations are more than a generation of so many bytes holds, and can be put into the tree.
    pub(crate) fn outgrows(&self, generation_size_bytes: u64) -> bool {
        let SeenKeys {
            key_count,
            size_bytes,
            ..
        } = self.keys.seen;
        let size_bytes = size_bytes + key_count * LOCATION_SIZE_BYTES;
        size_bytes >= generation_size_bytes && (self.moves_on() || self.is_relocation())
    }

    /// What is known of the keys whose rows get a location or lose theirs.
    pub(crate) fn seen_keys(&self) -> &SeenKeys {
        &self.keys.seen
    }

    /// Writes where the rows lie, and then that they do.
    pub(super) fn place(
        &self,
        active: &Generation,
        log: LogReader<'_>,
        token: String,
    ) -> Result<(), Untaken> {
        let mut exports = self.next_exports(token)?;
        let table_id = self.table.id | LOCATIONS_BIT;
        let key_count = usize::try_from(self.keys.seen.key_count).unwrap_or(usize::MAX);
        active.reserve(table_id, key_count);
        let mut locations = Locations::new(active, table_id, exports.placement_count);
        self.each_location(&mut exports, log, |key, location| {
            locations.push(key, location).map_err(Untaken::from)
        })?;
        locations.write()?;
        self.table.exports.store(Arc::new(exports));
        Ok(())
    }

    /// What the table's exports become under that token, but for the files.
    pub(crate) fn next_exports(&self, token: String) -> Result<Exports, Malformed> {
        if !self.is_whole() {
            return Err(Malformed("keys of a committed export are missing"));
        }
        let mut exports = Exports::clone(&self.table.exports.load());
        let base_seq = exports.base.as_ref().map_or(0, |base| base.seq);
        if base_seq > self.to_seq || (self.is_relocation() && base_seq != self.to_seq) {
            return Err(Malformed("an export moves back"));
        }
        exports.placement_count += 1;
        exports.base = Some(Exported {
            seq: self.to_seq,
            token,
        });
        Ok(exports)
    }

    /// Hands out where the row of each key lies, in the order of the log, and gives the exports the files; no place for a key whose
    /// exported row is gone.
    pub(crate) fn each_location(
        &self,
        exports: &mut Exports,
        log: LogReader<'_>,
        mut take: impl FnMut(&[u8], Option<RowLocation>) -> Result<(), Untaken>,
    ) -> Result<(), Untaken> {
        self.leave_older_files(exports);
        let mut places = Places::new(&self.files, exports);
        self.keys.each_record(self.commit_id, log, |record| {
            record.each_key(|key, mark| match record.cleared {
                true => take(key, None),
                false => match places.next(mark) {
                    Some(location) => take(key, Some(location)),
                    None => Ok(()),
                },
            })
        })?;
        places.end();
        Ok(())
    }

    /// Whether it puts rows that were exported into other files.
    pub(crate) fn is_relocation(&self) -> bool {
        let older = self.older.as_ref();
        older.is_some_and(|older| !older.replaced.is_empty())
    }

    fn leave_older_files(&self, exports: &mut Exports) {
        let Some(older) = &self.older else {
            exports.forget_counts();
            return;
        };
        for &(number, row_count) in &older.taken {
            exports.take_rows(number, row_count);
        }
        older
            .replaced
            .iter()
            .for_each(|number| exports.remove(*number));
    }
}

/// Gives the rows of an export's files their locations, one after the other; files in which a row counts become the table's.
struct Places<'a> {
    files: std::slice::Iter<'a, ExportFile>,
    file: Option<&'a ExportFile>,
    position: u64,
    live_count: u64,
    exports: &'a mut Exports,
}

impl<'a> Places<'a> {
    fn new(files: &'a [ExportFile], exports: &'a mut Exports) -> Self {
        let mut files = files.iter();
        Places {
            file: files.next(),
            files,
            position: 0,
            live_count: 0,
            exports,
        }
    }

    /// Where the next row lies; `None` for one that counts no more.
    fn next(&mut self, mark: RowMark) -> Option<RowLocation> {
        while self.file?.row_count == self.position {
            self.end_file();
        }
        let position = u32::try_from(self.position).unwrap_or(u32::MAX);
        self.position += 1;
        if mark == RowMark::SUPERSEDED {
            return None;
        }
        self.live_count += 1;
        Some(RowLocation {
            file: self.exports.next_number(),
            position,
            row_id: mark.row_id(),
        })
    }

    fn end_file(&mut self) {
        if let Some(file) = self.file.filter(|_| self.live_count > 0) {
            let path = file.path.as_str().into();
            self.exports.add(path, Some(self.live_count));
        }
        self.file = self.files.next();
        (self.position, self.live_count) = (0, 0);
    }

    /// There are no more rows.
    fn end(mut self) {
        self.end_file();
    }
}

/// Locations on their way into a generation, as rows of a table of their own.
struct Locations<'g> {
    generation: &'g Generation,
    table_id: u32,
    /// The number of the placement, not a commit sequence.
    seq: u64,
    arena: Vec<u8>,
    rows: Vec<PendingRow>,
}

impl<'g> Locations<'g> {
    fn new(generation: &'g Generation, table_id: u32, seq: u64) -> Self {
        Locations {
            generation,
            table_id,
            seq,
            arena: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn push(&mut self, key: &[u8], location: Option<RowLocation>) -> Result<(), Malformed> {
        let key_start = self.arena.len();
        self.arena.extend_from_slice(key);
        let key_end = self.arena.len();
        if let Some(location) = location {
            location.encode(&mut self.arena);
        }
        self.rows.push(PendingRow {
            hash: hash_key(key),
            key_start,
            key_end,
            value_end: self.arena.len(),
            tombstone: location.is_none(),
            insert: false,
        });
        if self.arena.len() >= LOCATIONS_SIZE_BYTES_MAX {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Malformed> {
        let table = PendingTable {
            table_id: self.table_id,
            truncate: false,
            deletes: Vec::new(),
            arena: &self.arena,
            rows: std::mem::take(&mut self.rows),
        };
        let body = encode_delta(None, std::slice::from_ref(&table), 0);
        // Both buffers are filled again.
        self.rows = table.rows;
        self.rows.clear();
        self.arena.clear();
        let delta = decode_delta(&body)?;
        let number = self.generation.add_body(body.clone());
        let number = number.ok_or(Malformed("a generation holds at most 2^32 records"))?;
        for part in &delta.tables {
            self.generation.write(self.seq, number, part)?;
        }
        Ok(())
    }
}
