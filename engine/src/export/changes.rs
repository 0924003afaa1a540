//! The net change of a table since its last committed export.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::export_spill::ExportSpill;
use super::noted::{Note, Noted, Notes};
use super::removed::RemovedRows;
use crate::codec::Malformed;
use crate::codec::key::hash_key;
use crate::error::{Error, Result};
use crate::exported::Exported;
use crate::exported::files::Exports;
use crate::exported::location::RowLocation;
use crate::key_range::{KeyInterval, KeyRange, above_all};
use crate::origins::Origin;
use crate::parallel;
use crate::read::merge::{Merge, not_stored};
use crate::read::rows::Rows;
use crate::read::view::View;
use crate::row_set::multi_get::HashedKey;
use crate::row_set::rows_page::RowRef;
use crate::snapshot::{Batches, Snapshot};
use crate::table::Table;

/// The net change of one table from its last committed export to a snapshot.
///
/// Of a key that was written several times only the last state counts; a key that came and went does not appear.
///
/// ```
/// use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// # let schema = TableSchema::builder("users")
/// #     .column("id", ColumnType::Int64, false)
/// #     .column("name", ColumnType::Utf8, true)
/// #     .primary_key(["id"]);
/// # let users = database.create_table(schema.build()?)?;
/// # let mut transaction = database.begin();
/// # transaction.upsert(&users, vec![Value::Int64(1), Value::Utf8("ada".into())])?;
/// # transaction.commit()?;
/// let changes = database.changes(&users, &database.snapshot())?;
/// assert_eq!((changes.from_seq(), changes.row_count()), (0, 1));
/// for batch in changes.batches(None, 8192)? {
///     println!("{} rows to export", batch?.num_rows());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Changes {
    pub(crate) table: Table,
    pub(crate) snapshot: Snapshot,
    base: Option<Exported>,
    origins: Vec<Origin>,
    removed: RemovedRows,
    /// What was written since. It stays as it is, whatever is exported and compacted meanwhile.
    rows: View,
    row_count: u64,
}

/// Keys whose locations are looked up together.
const KEYS_TOGETHER: usize = 4096;
/// Fewer, if they have so many bytes.
const KEY_BYTES_TOGETHER: usize = 1 << 20;
/// Of those, what one thread takes at a time: below that, starting a second thread costs more than it saves.
const KEYS_OF_SHARE: usize = 256;

/// Keys that were written, until their locations are looked up.
#[derive(Default)]
struct Written {
    /// The keys, one behind the other.
    bytes: Vec<u8>,
    /// Where each ends, and whether its row lives.
    keys: Vec<(usize, bool)>,
}

impl Written {
    fn push(&mut self, row: RowRef<'_>) {
        self.bytes.extend_from_slice(row.key);
        self.keys.push((self.bytes.len(), row.value.is_some()));
    }

    /// The keys in their order, and whether the row of each lives.
    fn keys(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let mut start = 0;
        self.keys.iter().map(move |&(end, lives)| {
            let key = self.bytes.get(start..end).unwrap_or_default();
            start = end;
            (key, lives)
        })
    }

    /// Where the row of each key lies. Most of the time goes by waiting for pages of a large table, so several threads do.
    fn look_up(&self, locations: &View, threads: usize) -> Result<Vec<Option<RowLocation>>> {
        let keys = self.keys().map(|(key, _)| HashedKey {
            hash: hash_key(key),
            key,
        });
        let keys: Vec<HashedKey<'_>> = keys.collect();
        let shares: Vec<&[HashedKey<'_>]> = keys.chunks(KEYS_OF_SHARE).collect();
        let found = parallel::map(&shares, threads, |share| {
            let mut found = vec![None; share.len()];
            let mut malformed = None;
            locations.lookup().multi_get(share, |place, location| {
                match (RowLocation::decode(location), found.get_mut(place)) {
                    (Ok(location), Some(place)) => *place = Some(location),
                    (Err(error), _) => malformed = Some(error),
                    (Ok(_), None) => {}
                }
            })?;
            malformed.map_or(Ok(found), |malformed| Err(not_stored(malformed)))
        });
        let found: Result<Vec<_>> = found.into_iter().collect();
        Ok(found?.concat())
    }
}

/// Finds out what changed.
struct Gathering<N> {
    exports: Arc<Exports>,
    /// How many threads look up locations.
    threads: usize,
    /// The positions of rows that are removed, by the number of their file.
    removed: BTreeMap<u32, RoaringBitmap>,
    /// How many those were, once they are handed on.
    taken: Vec<(u32, u64)>,
    row_count: u64,
    notes: N,
}

impl<N: Note> Gathering<N> {
    /// Takes a key that was written, with where its row was exported to.
    fn take(&mut self, key: &[u8], lives: bool, location: Option<RowLocation>) -> Result<()> {
        if let Some(location) = location {
            let positions = self.removed.entry(location.file).or_default();
            positions.insert(location.position);
            match lives {
                true => self.notes.replaced(self.row_count, location)?,
                false => self.notes.cleared(key)?,
            }
        }
        self.row_count += u64::from(lives);
        Ok(())
    }

    /// Hands on the rows that are removed, by the paths of their files.
    fn removed_rows(&mut self) -> Result<RemovedRows> {
        let removed = std::mem::take(&mut self.removed);
        let counts = removed.iter().map(|(file, rows)| (*file, rows.len()));
        self.taken = counts.collect();
        let no_file = || not_stored(Malformed("a location names no export file"));
        let of_file = |(number, positions): (u32, RoaringBitmap)| {
            let file = self.exports.file(number).ok_or_else(no_file)?;
            Ok((file.path.clone(), positions))
        };
        let files: Result<Vec<_>> = removed.into_iter().map(of_file).collect();
        Ok(RemovedRows::of_files(files?.into_iter()))
    }

    /// Looks up where the rows of the keys of a range that were written lie.
    fn look_up(&mut self, rows: &View, locations: &View, range: KeyRange) -> Result<()> {
        let mut rows = rows.scan(range, false, true);
        let mut written = Written::default();
        while rows.advance()? {
            if let Some(row) = rows.row() {
                written.push(row);
            }
            if written.keys.len() == KEYS_TOGETHER || written.bytes.len() >= KEY_BYTES_TOGETHER {
                self.take_all(&std::mem::take(&mut written), locations)?;
            }
        }
        self.take_all(&written, locations)
    }

    /// Takes keys that were written, once their locations are looked up.
    fn take_all(&mut self, written: &Written, locations: &View) -> Result<()> {
        let found = written.look_up(locations, self.threads)?;
        for ((key, lives), location) in written.keys().zip(found) {
            self.take(key, lives, location)?;
        }
        Ok(())
    }

    /// Looks up the keys that were written, and joins those of ranges that were deleted.
    fn look_at_all(&mut self, rows: &View, locations: &View) -> Result<()> {
        let mut start = Bound::Unbounded;
        for KeyInterval { start: first, end } in rows.deleted() {
            let before = KeyRange::of_bytes(start, Bound::Excluded(first.clone()));
            self.look_up(rows, locations, before)?;
            let end = end.map_or(Bound::Unbounded, Bound::Excluded);
            let deleted = KeyRange::of_bytes(Bound::Included(first), end.clone());
            self.join(rows, locations, deleted)?;
            start = match end {
                Bound::Excluded(end) => Bound::Included(end),
                // Nothing is left.
                _ => Bound::Excluded(above_all()),
            };
        }
        self.look_up(rows, locations, KeyRange::of_bytes(start, Bound::Unbounded))
    }

    /// Joins the keys of a range that were written with all that are exported: it was emptied in between.
    fn join(&mut self, rows: &View, locations: &View, range: KeyRange) -> Result<()> {
        let mut rows = rows.scan(range.clone(), false, true);
        let mut locations = locations.scan(range, false, false);
        let (mut more_rows, mut more_locations) = (rows.advance()?, locations.advance()?);
        while more_rows || more_locations {
            let (row, location) = (rows.row(), locations.row());
            let order = match (row, location) {
                (Some(row), Some(location)) => row.key.cmp(location.key),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, _) => std::cmp::Ordering::Greater,
            };
            let here = location.filter(|_| order.is_ge());
            let place = here.and_then(|location| location.value);
            let place = place.map(RowLocation::decode).transpose();
            let place = place.map_err(not_stored)?;
            if let Some(row) = row.filter(|_| order.is_le()) {
                self.take(row.key, row.value.is_some(), place)?;
            } else if let Some(location) = here {
                self.take(location.key, false, place)?;
            }
            if order.is_le() {
                more_rows = rows.advance()?;
            }
            if order.is_ge() {
                more_locations = locations.advance()?;
            }
        }
        Ok(())
    }
}

impl Changes {
    pub(crate) fn new(table: &Table, snapshot: &Snapshot) -> Result<Self> {
        Self::gather(table, snapshot, ()).map(|(changes, _)| changes)
    }

    /// The changes, and what an export of them remembers.
    pub(super) fn noted(
        table: &Table,
        snapshot: &Snapshot,
        spill: &Arc<ExportSpill>,
    ) -> Result<(Self, Noted)> {
        let (changes, gathered) = Self::gather(table, snapshot, Notes::new(spill))?;
        let noted = Noted {
            taken: gathered.taken,
            exports: gathered.exports,
            replaced: Arc::new(gathered.notes.replaced),
            cleared: gathered.notes.cleared,
        };
        Ok((changes, noted))
    }

    fn gather<N: Note>(
        table: &Table,
        snapshot: &Snapshot,
        notes: N,
    ) -> Result<(Self, Gathering<N>)> {
        let seq = snapshot.seq();
        snapshot.check_table(table)?;
        let (rows, locations, exports) = View::of_changes(snapshot.shared(), &table.state, seq);
        let base = exports.base.clone();
        if let Some(base) = &base
            && base.seq > seq
        {
            return Err(Error::Usage(format!(
                "table '{}' is exported up to commit sequence {}, the snapshot is older: {seq}",
                table.name(),
                base.seq,
            )));
        }
        let mut gathering = Gathering {
            exports,
            threads: snapshot.shared().tree_sizes.compaction_threads,
            removed: BTreeMap::new(),
            taken: Vec::new(),
            row_count: 0,
            notes,
        };
        if base.is_none() {
            // Nothing was exported, so there is nothing to be replaced.
            gathering.row_count = rows.row_count()?;
        } else if rows.truncate_seq() > rows.after_seq() {
            gathering.join(&rows, &locations, KeyRange::ALL)?;
        } else {
            gathering.look_at_all(&rows, &locations)?;
        }
        let changes = Changes {
            table: table.clone(),
            snapshot: snapshot.clone(),
            base,
            origins: snapshot.origins(),
            removed: gathering.removed_rows()?,
            rows,
            row_count: gathering.row_count,
        };
        Ok((changes, gathering))
    }

    /// The rows that were written since and live at the snapshot, in primary-key order.
    pub(crate) fn rows(&self) -> Merge {
        self.rows.scan(KeyRange::ALL, false, false)
    }

    /// The last committed export, which these are the changes since; `None` before the first.
    pub fn base(&self) -> Option<&Exported> {
        self.base.as_ref()
    }

    /// The commit sequence of the last committed export; 0 before the first.
    pub fn from_seq(&self) -> u64 {
        self.base.as_ref().map_or(0, |base| base.seq)
    }

    /// The commit sequence of the snapshot.
    pub fn to_seq(&self) -> u64 {
        self.snapshot.seq()
    }

    /// How far each source is at [`to_seq`](Self::to_seq), sorted by source.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.row_count == 0
    }

    /// The exported rows that are replaced or deleted now.
    pub fn removed(&self) -> &RemovedRows {
        &self.removed
    }

    /// How many rows [`batches`](Self::batches) returns.
    pub fn row_count(&self) -> u64 {
        self.row_count
    }

    /// The rows that were written since and live at the snapshot, in primary-key order.
    ///
    /// # Errors
    /// [`Error::Usage`] if the projection names a column that the table does not have.
    pub fn batches(&self, projection: Option<&[usize]>, batch_rows: usize) -> Result<Batches> {
        Batches::new(
            &self.table,
            &self.snapshot,
            Rows::ordered(self.rows()),
            projection,
            batch_rows,
        )
    }
}
