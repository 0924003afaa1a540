//! Which row of an export replaces which exported one, in the order of the export's rows: in memory while they are few, and on disk.
//!
//! A row takes as many bytes as its number is greater than the last one's, the number of its file, its position and what its location
//! says of its id take as variable-length numbers: mostly five to eight.

use std::sync::Arc;

use super::export_spill::ExportSpill;
use crate::codec::{Malformed, Reader, put_varint};
use crate::error::Result;
use crate::exported::Placement;
use crate::exported::files::Exports;
use crate::exported::location::{RowLocation, RowMark};
use crate::read::merge::not_stored;
use crate::row_set::spill::Spilled;

/// A row to be exported that replaces an exported one.
///
/// ```
/// use moonshine_engine::{Placement, Replaced};
/// let placement = Placement { file: "data/1.parquet".into(), position: 41 };
/// let replaced = Replaced { row: 0, placement, row_id: None };
/// // The file does not say the row's id, so it is that of the file's first row and 41 more.
/// assert_eq!(replaced.row_id.unwrap_or(1000 + replaced.placement.position), 1041);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The number of the row among those of [`Changes::batches`](crate::Changes::batches), from 0.
    pub row: u64,
    /// Where the row lies that it replaces.
    pub placement: Placement,
    /// That row's id, where its file says it outright.
    pub row_id: Option<u64>,
}

/// The rows of an export that replace exported ones.
#[derive(Debug)]
pub(super) struct ReplacedRows {
    spill: Arc<ExportSpill>,
    on_disk: Vec<Spilled>,
    last: Vec<u8>,
    /// Rows that were taken have smaller numbers, of the piece that is being put together.
    next_row: u64,
    row_count: u64,
    has_row_ids: bool,
}

impl ReplacedRows {
    pub(super) fn new(spill: Arc<ExportSpill>) -> Self {
        ReplacedRows {
            spill,
            on_disk: Vec::new(),
            last: Vec::new(),
            next_row: 0,
            row_count: 0,
            has_row_ids: false,
        }
    }

    /// Takes a row whose number is greater than those before, with where the row lies that it replaces.
    ///
    /// # Errors
    /// What writing to the disk answers. Then they are of no use any more.
    pub(super) fn push(&mut self, row: u64, location: RowLocation) -> Result<()> {
        if self.last.len() >= self.spill.piece_size_bytes {
            self.on_disk.push(self.spill.write(&self.last)?);
            self.last.clear();
            self.next_row = 0;
        }
        assert!(row >= self.next_row, "replaced rows come in order");
        put_varint(&mut self.last, row - self.next_row);
        put_varint(&mut self.last, location.file.into());
        put_varint(&mut self.last, location.position.into());
        put_varint(&mut self.last, RowMark::of_row_id(location.row_id).0);
        self.next_row = row + 1;
        self.row_count += 1;
        self.has_row_ids |= location.row_id.is_some();
        Ok(())
    }

    pub(super) fn row_count(&self) -> u64 {
        self.row_count
    }

    /// Whether any of them has the id that its file says outright.
    pub(super) fn has_row_ids(&self) -> bool {
        self.has_row_ids
    }

    /// A reader before the first of them. `exports` has the files that their locations name.
    pub(super) fn reader(self: &Arc<Self>, exports: &Arc<Exports>) -> ReplacedReader {
        ReplacedReader {
            rows: self.clone(),
            exports: exports.clone(),
            next_piece: 0,
            piece: Vec::new(),
            offset: 0,
            next_row: 0,
        }
    }
}

/// Goes through the rows of an export that replace exported ones, in their order; from
/// [`Export::replaced`](crate::Export::replaced).
///
/// After an error it ends.
///
/// ```
/// use moonshine_engine::{ColumnType, Database, ExportFile, Options, TableSchema, Value};
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
/// # let mut export = database.begin_export(&users, &database.snapshot())?;
/// # let files = [ExportFile { path: "data/1.parquet".into(), row_count: 1 }];
/// # export.prepare(uuid::Uuid::from_u128(1), &files)?;
/// # export.commit("snapshot 1".into())?;
/// // One user is exported, is written anew, and another one comes before it.
/// let mut transaction = database.begin();
/// transaction.upsert(&users, vec![Value::Int64(1), Value::Utf8("eve".into())])?;
/// transaction.upsert(&users, vec![Value::Int64(0), Value::Utf8("bob".into())])?;
/// transaction.commit()?;
/// let export = database.begin_export(&users, &database.snapshot())?;
/// for replaced in export.replaced() {
///     let replaced = replaced?;
///     assert_eq!((replaced.row, replaced.placement.position), (1, 0));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ReplacedReader {
    rows: Arc<ReplacedRows>,
    exports: Arc<Exports>,
    /// The number of the piece behind the one at hand.
    next_piece: usize,
    piece: Vec<u8>,
    offset: usize,
    next_row: u64,
}

impl ReplacedReader {
    /// Goes to the next piece; false if there is none.
    fn advance(&mut self) -> Result<bool> {
        let rows = &self.rows;
        self.piece = match rows.on_disk.get(self.next_piece) {
            Some(spilled) => rows.spill.read(*spilled)?,
            None if self.next_piece == rows.on_disk.len() => rows.last.clone(),
            None => return Ok(false),
        };
        self.next_piece += 1;
        (self.offset, self.next_row) = (0, 0);
        Ok(true)
    }

    fn decode(&mut self) -> Result<Replaced, Malformed> {
        let rest = self.piece.get(self.offset..).unwrap_or_default();
        let mut reader = Reader::new(rest);
        let row = self.next_row.checked_add(reader.varint()?);
        let row = row.ok_or(Malformed("a replaced row has no number"))?;
        let file = u32::try_from(reader.varint()?).ok();
        let file = file.and_then(|number| self.exports.file(number));
        let file = file.ok_or(Malformed("a location names no export file"))?;
        let position = reader.varint()?;
        let mark = RowMark(reader.varint()?);
        self.offset = self.piece.len() - reader.remaining().len();
        self.next_row = row + 1;
        Ok(Replaced {
            row,
            placement: Placement {
                file: file.path.clone(),
                position,
            },
            row_id: mark.row_id(),
        })
    }

    fn try_next(&mut self) -> Result<Option<Replaced>> {
        while self.offset == self.piece.len() {
            if !self.advance()? {
                return Ok(None);
            }
        }
        self.decode().map(Some).map_err(not_stored)
    }
}

impl Iterator for ReplacedReader {
    type Item = Result<Replaced>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.try_next();
        if next.is_err() {
            self.next_piece = usize::MAX;
            self.piece.clear();
            self.offset = 0;
        }
        next.transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::io::SimulatedIo;
    use crate::row_set::spill::Spill;

    fn locations() -> impl Strategy<Value = Vec<(u64, RowLocation)>> {
        let gap = prop_oneof![8 => 0_u64..3, 1 => 0_u64..1 << 40];
        let position = prop_oneof![0_u32..300, any::<u32>()];
        let row_id = prop_oneof![3 => Just(None), 1 => (0_u64..1 << 62).prop_map(Some)];
        let one = (gap, 0_u32..2, position, row_id);
        prop::collection::vec(one, 0..60).prop_map(|all| {
            let mut next_row = 0;
            let location = |(gap, file, position, row_id)| {
                let row = next_row + gap;
                next_row = row + 1;
                (
                    row,
                    RowLocation {
                        file,
                        position,
                        row_id,
                    },
                )
            };
            all.into_iter().map(location).collect()
        })
    }

    proptest! {
        /// What is taken comes out again, however much of it lies on disk, and as often as it is read.
        #[test]
        fn replaced_rows_come_out_as_they_went_in(all in locations(), piece_size_bytes in 1_usize..200) {
            let io = Arc::new(SimulatedIo::new(1));
            let spill = Spill::new(io, "replaced".into());
            let spill = Arc::new(ExportSpill::of_pieces(spill, piece_size_bytes));
            let mut exports = Exports::default();
            for path in ["a", "b"] {
                exports.add(path.into(), Some(1));
            }
            let exports = Arc::new(exports);
            let mut rows = ReplacedRows::new(spill);
            for &(row, location) in &all {
                rows.push(row, location).unwrap();
            }
            prop_assert_eq!(rows.row_count(), all.len() as u64);
            let any_id = all.iter().any(|(_, location)| location.row_id.is_some());
            prop_assert_eq!(rows.has_row_ids(), any_id);
            let rows = Arc::new(rows);
            for _ in 0..2 {
                let read: Result<Vec<_>> = rows.reader(&exports).collect();
                let expected = all.iter().map(|(row, location)| Replaced {
                    row: *row,
                    placement: Placement {
                        file: exports.file(location.file).unwrap().path.clone(),
                        position: location.position.into(),
                    },
                    row_id: location.row_id,
                });
                prop_assert_eq!(read.unwrap(), expected.collect::<Vec<_>>());
            }
        }
    }

    /// *Honest*: a row whose file is not known is not passed over.
    #[test]
    fn a_reader_ends_after_an_error() {
        let io = Arc::new(SimulatedIo::new(1));
        let spill = ExportSpill::of_pieces(Spill::new(io, "replaced".into()), 1);
        let mut rows = ReplacedRows::new(Arc::new(spill));
        for row in 0..3 {
            let location = RowLocation {
                file: 0,
                position: 0,
                row_id: None,
            };
            rows.push(row, location).unwrap();
        }
        let mut reader = Arc::new(rows).reader(&Arc::default());
        assert!(reader.next().unwrap().is_err());
        assert!(reader.next().is_none());
    }
}
