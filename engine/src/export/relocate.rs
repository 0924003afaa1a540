//! Exported rows that come to lie in other files, while they stay what they are.
//!
//! Whoever rewrites files of an export, as small ones or those with many deleted rows, reads their rows, writes them to new
//! files, and then has the engine take the new places: in the same two steps around the catalog's commit as an export. A row
//! whose key was exported anew meanwhile keeps its newer place; the new file has a dead row then, which the catalog's
//! commit has to delete.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use roaring::{RoaringBitmap, RoaringTreemap};
use uuid::Uuid;

use super::export_spill::ExportSpill;
use super::keys::KeyRecords;
use super::removed::RemovedRows;
use super::spilled_keys::SpilledKeys;
use super::steps::{Turn, claim, resolve};
use crate::codec::columns::BatchColumns;
use crate::codec::key::hash_key;
use crate::error::{Error, Result};
use crate::exported::files::Exports;
use crate::exported::location::{RowLocation, RowMark};
use crate::exported::{ExportFile, Exported};
use crate::key_range::KeyRange;
use crate::log::fact::{ExportPrepared, OlderFiles};
use crate::log::format::RecordKind;
use crate::read::merge::not_stored;
use crate::read::view::View;
use crate::shared::Shared;
use crate::table::Table;

/// A relocation of one table's exported rows that is under way. Exports go on until it is prepared; from then on none begins.
///
/// Dropped before [`commit`](Self::commit), it leaves the table as it was; if it was prepared it stays a
/// [`PendingExport`](super::PendingExport), since the catalog may hold it.
///
/// ```
/// use moonshine_engine::{ColumnType, Database, ExportFile, Options, Scan, TableSchema, Value};
/// # use uuid::Uuid;
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// # let schema = TableSchema::builder("users").column("id", ColumnType::Int64, false).primary_key(["id"]);
/// # let users = database.create_table(schema.build()?)?;
/// # let mut transaction = database.begin();
/// # transaction.upsert(&users, vec![Value::Int64(1)])?;
/// # transaction.commit()?;
/// let file = |path: &str| ExportFile { path: path.into(), row_count: 1 };
/// let mut export = database.begin_export(&users, &database.snapshot())?;
/// export.prepare(Uuid::from_u128(1), &[file("data/1.parquet")])?;
/// export.commit("snapshot 1".into())?;
///
/// // The rows of data/1.parquet were written to data/2.parquet; these are their keys.
/// let keys = database.snapshot().scan(&users, Scan::default())?.next().ok_or("no rows")??;
/// let mut relocation = database.begin_relocation(&users, Uuid::from_u128(2), &["data/1.parquet".into()])?;
/// relocation.add(&keys, None)?;
/// let dead_rows = relocation.prepare(&[file("data/2.parquet")])?;
/// assert!(dead_rows.is_empty());
/// // The catalog takes data/2.parquet in place of data/1.parquet.
/// relocation.commit("snapshot 2".into())?;
/// # let mut transaction = database.begin();
/// # transaction.delete(&users, &[Value::Int64(1)])?;
/// # transaction.commit()?;
/// let changes = database.changes(&users, &database.snapshot())?;
/// let removed = changes.removed().iter().next().ok_or("nothing is removed")?;
/// assert_eq!(removed.file.as_ref(), "data/2.parquet");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Relocation {
    shared: Arc<Shared>,
    table: Table,
    commit_id: Uuid,
    base: Exported,
    exports: Arc<Exports>,
    locations: View,
    /// The files that are replaced, by number.
    replaced: BTreeMap<u32, Counts>,
    /// Of each row of the new files. They go to the log once it is prepared.
    keys: SpilledKeys,
    spill: Arc<ExportSpill>,
    /// Numbers of the rows that count no more.
    superseded: RoaringTreemap,
    /// Whether it was tried to prepare it, and whether it is prepared and has no outcome yet.
    is_tried: bool,
    is_prepared: bool,
    turn: Option<Turn>,
}

/// Rows of a file that is replaced.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// That count.
    live: u64,
    /// That were found among the new files' rows.
    found: u64,
}

impl Relocation {
    pub(crate) fn begin(
        shared: &Arc<Shared>,
        table: &Table,
        commit_id: Uuid,
        replaced_files: &[String],
    ) -> Result<Self> {
        shared.check_writable()?;
        let (_, locations, exports) =
            View::of_changes(shared, &table.state, shared.pins.visible_seq());
        let refused = |reason: &str| Error::Usage(format!("table '{}': {reason}", table.name()));
        let base = exports.base.clone();
        let base = base.ok_or_else(|| refused("it was never exported, so nothing can be moved"))?;
        let mut replaced = BTreeMap::new();
        for path in replaced_files {
            let file = exports.file_at(path);
            let file = file.ok_or_else(|| refused(&format!("no exported row lies in {path}")))?;
            let live = file.live_count.unwrap_or(0);
            replaced.insert(file.number, Counts { live, found: 0 });
        }
        if replaced.is_empty() {
            return Err(refused("a relocation without files"));
        }
        let mut uncounted: BTreeMap<u32, u64> = BTreeMap::new();
        let files = replaced.keys().filter_map(|number| exports.file(*number));
        for file in files.filter(|file| file.live_count.is_none()) {
            uncounted.insert(file.number, 0);
        }
        if !uncounted.is_empty() {
            count_rows(&locations, &mut uncounted)?;
            for (number, live) in uncounted {
                replaced.insert(number, Counts { live, found: 0 });
            }
        }
        let spill = ExportSpill::new(shared, table);
        Ok(Relocation {
            shared: shared.clone(),
            table: table.clone(),
            commit_id,
            base,
            exports,
            locations,
            replaced,
            keys: SpilledKeys::new(spill.clone(), false),
            spill,
            superseded: RoaringTreemap::new(),
            is_tried: false,
            is_prepared: false,
            turn: None,
        })
    }

    /// The export whose files they are.
    pub fn base(&self) -> &Exported {
        &self.base
    }

    /// The id that it was begun with.
    pub fn commit_id(&self) -> Uuid {
        self.commit_id
    }

    /// Whether no export and no other relocation was committed since it began. What was found of the rows holds only then.
    pub fn is_current(&self) -> bool {
        Arc::ptr_eq(&self.exports, &self.table.state.exports.load())
    }

    /// Takes the keys of the next rows of the new files, in the files' order, with the ids of the rows where the files say
    /// them outright.
    ///
    /// # Errors
    /// [`Error::Row`] if the batch has not the columns of the key, [`Error::Usage`] if there are not as many ids as rows; or
    /// what reading and writing answer. Then it is of no use any more.
    pub fn add(&mut self, keys: &RecordBatch, row_ids: Option<&[u64]>) -> Result<()> {
        let schema = self.table.schema().clone();
        let columns = BatchColumns::of_keys(&schema, keys)?;
        if self.is_tried || row_ids.is_some_and(|ids| ids.len() != keys.num_rows()) {
            return Err(self.refused("not an id for each row, or it is prepared already"));
        }
        let mut key = Vec::new();
        for row in 0..keys.num_rows() {
            key.clear();
            columns.encode_key(&schema, row, &mut key)?;
            let row_id = row_ids.and_then(|ids| ids.get(row)).copied();
            match self.counting_row(&key)? {
                Some(counts) => {
                    counts.found += 1;
                    let mark = RowMark::of_row_id(row_id);
                    self.keys.push_with(mark, |out| {
                        out.extend_from_slice(&key);
                        Ok(())
                    })?;
                }
                None => {
                    self.superseded.insert(self.keys.key_count());
                    self.keys.push_with(RowMark::SUPERSEDED, |_| Ok(()))?;
                }
            }
        }
        Ok(())
    }

    /// The counts of the replaced file that the key's row lies in; `None` if it lies elsewhere by now, or is gone.
    fn counting_row(&mut self, key: &[u8]) -> Result<Option<&mut Counts>> {
        let Some(found) = self.locations.get(hash_key(key), key)? else {
            return Ok(None);
        };
        let location = RowLocation::decode(found.bytes()).map_err(not_stored)?;
        Ok(self.replaced.get_mut(&location.file))
    }

    /// Notes durably which files hold the rows: in order, file after file. To be called once the files are written and before
    /// the catalog is told of them. Returns the rows of these files that count no more, which the catalog's commit has to
    /// delete.
    ///
    /// # Errors
    /// [`Error::Usage`] if the files' row counts don't add up to the rows, if rows of the replaced files that count are not
    /// among them, if an export or another relocation is under way, is pending or came in between, or if it was tried before;
    /// or what writing to the log answers: then begin another one, with another commit id.
    pub fn prepare(&mut self, files: &[ExportFile]) -> Result<RemovedRows> {
        let file_rows: u64 = files.iter().map(|file| file.row_count).sum();
        let is_too_large = |file: &ExportFile| file.row_count > u64::from(u32::MAX);
        if file_rows != self.keys.key_count() || files.iter().any(is_too_large) {
            return Err(self.refused("the files have other numbers of rows than were given"));
        }
        if std::mem::replace(&mut self.is_tried, true) {
            return Err(self.refused("prepared twice"));
        }
        if self.shared.generations.is_crowded() {
            self.shared.generations.wait_for_room()?;
        }
        self.turn = Some(Turn::take(&self.shared, &self.table)?);
        if !self.is_current() {
            return Err(self.refused("exported since the relocation began"));
        }
        let not_whole = self
            .replaced
            .iter()
            .find(|(_, counts)| counts.live != counts.found);
        if let Some((number, _)) = not_whole {
            let path = self.exports.file(*number).map_or("", |file| &*file.path);
            return Err(self.refused(&format!("not the rows of {path} were moved, each once")));
        }
        claim(&self.shared, &self.table, self.commit_id)?;
        let mut keys = KeyRecords::placed(&self.shared, self.commit_id);
        // It is prepared once, so they are needed once.
        let none = SpilledKeys::new(self.spill.clone(), false);
        let of_files = std::mem::replace(&mut self.keys, none);
        of_files.each_body(|body| keys.submit_body(body))?;
        let prepared = ExportPrepared {
            table_id: self.table.id(),
            commit_id: self.commit_id,
            from_seq: self.base.seq,
            to_seq: self.base.seq,
            files: files.to_vec(),
            older: Some(OlderFiles {
                taken: Vec::new(),
                replaced: self.replaced.keys().copied().collect(),
            }),
        };
        self.shared
            .log(RecordKind::ExportPrepared, prepared.encode())?;
        keys.are_used();
        self.is_prepared = true;
        Ok(self.dead_rows(files))
    }

    fn dead_rows(&self, files: &[ExportFile]) -> RemovedRows {
        let mut numbers = self.superseded.iter().peekable();
        let mut first = 0;
        let of_files = files.iter().map(|file| {
            let end = first + file.row_count;
            let mut positions = RoaringBitmap::new();
            while let Some(number) = numbers.next_if(|number| *number < end) {
                // No file has as many rows.
                positions.insert(u32::try_from(number - first).unwrap_or(u32::MAX));
            }
            first = end;
            (Arc::from(file.path.as_str()), positions)
        });
        RemovedRows::of_files(of_files.filter(|(_, positions)| !positions.is_empty()))
    }

    /// Notes durably that the catalog holds it, under that token; the rows have their new placements from now on, and the
    /// last export goes by that token.
    ///
    /// # Errors
    /// [`Error::Usage`] if it was not prepared; or what writing to the log answers: it is then pending.
    pub fn commit(mut self, token: String) -> Result<()> {
        if !std::mem::take(&mut self.is_prepared) {
            return Err(self.refused("committed without prepare"));
        }
        resolve(&self.shared, self.commit_id, Some(token))
    }

    /// Gives it up: the catalog does not hold it and never will.
    ///
    /// # Errors
    /// What writing to the log answers: it is then pending, if it was prepared.
    pub fn abort(mut self) -> Result<()> {
        match std::mem::take(&mut self.is_prepared) {
            false => Ok(()),
            true => resolve(&self.shared, self.commit_id, None),
        }
    }

    fn refused(&self, reason: &str) -> Error {
        Error::Usage(format!("table '{}': {reason}", self.table.name()))
    }
}

/// Counts the rows of files that an older build did not count.
fn count_rows(locations: &View, counts: &mut BTreeMap<u32, u64>) -> Result<()> {
    let mut rows = locations.scan(KeyRange::ALL, false, false);
    while rows.advance()? {
        if let Some(value) = rows.row().and_then(|row| row.value) {
            let location = RowLocation::decode(value).map_err(not_stored)?;
            if let Some(count) = counts.get_mut(&location.file) {
                *count += 1;
            }
        }
    }
    Ok(())
}
