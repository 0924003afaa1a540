//! Which exported rows an export takes away, as compressed bitmaps: a table may replace all that it has exported at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::exported::Placement;

/// Rows of exported files that count no more, sorted by file and position: those that are replaced or deleted, from
/// [`Changes::removed`](crate::Changes::removed), or that were when the file was new, from
/// [`Relocation::prepare`](crate::Relocation::prepare).
///
/// A row takes two bytes at most where many lie in a file, and an eighth of a byte where most of the file's do (Lemire et al.,
/// Roaring Bitmaps: Implementation of an Optimized Software Library, 2018).
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
/// # for id in 0..3 {
/// #     transaction.upsert(&users, vec![Value::Int64(id), Value::Null])?;
/// # }
/// # transaction.commit()?;
/// # let mut export = database.begin_export(&users, &database.snapshot())?;
/// # let files = [ExportFile { path: "data/1.parquet".into(), row_count: 3 }];
/// # export.prepare(uuid::Uuid::from_u128(1), &files)?;
/// # export.commit("snapshot 1".into())?;
/// // Three users are exported, and two of them go.
/// let mut transaction = database.begin();
/// transaction.delete(&users, &[Value::Int64(0)])?;
/// transaction.delete(&users, &[Value::Int64(2)])?;
/// transaction.commit()?;
/// let changes = database.changes(&users, &database.snapshot())?;
/// for (path, positions) in changes.removed().files() {
///     assert_eq!((path.as_ref(), positions.collect::<Vec<_>>()), ("data/1.parquet", vec![0, 2]));
/// }
/// assert_eq!(changes.removed().row_count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RemovedRows {
    files: BTreeMap<Arc<str>, RoaringBitmap>,
}

impl RemovedRows {
    /// Those of files, which may come in parts.
    pub(super) fn of_files(files: impl Iterator<Item = (Arc<str>, RoaringBitmap)>) -> Self {
        let mut removed = RemovedRows::default();
        for (path, positions) in files {
            *removed.files.entry(path).or_default() |= positions;
        }
        removed
    }

    /// How many there are.
    pub fn row_count(&self) -> u64 {
        self.files.values().map(RoaringBitmap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The files that they lie in, by path, each with the positions of its rows, which ascend.
    pub fn files(&self) -> impl Iterator<Item = (&Arc<str>, impl ExactSizeIterator<Item = u32>)> {
        self.files
            .iter()
            .map(|(path, positions)| (path, positions.iter()))
    }

    /// Each row's placement.
    pub fn iter(&self) -> impl Iterator<Item = Placement> {
        self.files().flat_map(|(path, positions)| {
            positions.map(|position| Placement {
                file: path.clone(),
                position: position.into(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is put in comes out sorted, once.
        #[test]
        fn placements_come_out_sorted(
            rows in prop::collection::vec((0_usize..3, prop_oneof![0_u32..9, any::<u32>()]), 0..50),
        ) {
            let paths: [Arc<str>; 3] = ["b".into(), "a".into(), "b".into()];
            let mut files: [RoaringBitmap; 3] = Default::default();
            for &(file, position) in &rows {
                files[file].insert(position);
            }
            let parts = paths.iter().cloned().zip(files).filter(|(_, rows)| !rows.is_empty());
            let removed = RemovedRows::of_files(parts);
            let expected: BTreeSet<Placement> = rows
                .iter()
                .map(|&(file, position)| Placement { file: paths[file].clone(), position: position.into() })
                .collect();
            prop_assert_eq!(removed.row_count(), expected.len() as u64);
            prop_assert_eq!(removed.is_empty(), expected.is_empty());
            prop_assert!(removed.iter().eq(expected));
        }
    }
}
