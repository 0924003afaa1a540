//! A reader of Iceberg tables from nothing: from the metadata file on, by the specification alone. It shares no code with
//! the exporter or the crate `iceberg`, so a mistake of theirs is not its own.
//!
//! `metadata` reads the metadata file, `manifest` the manifest lists and manifests, `data` the rows of Parquet files, `deletes`
//! what is deleted of them, `partition` and `bounds` hold rows against what their file's entry says of them. `snapshot`
//! puts one snapshot together, and `history` holds each against its parent: counts, sequence numbers, row ids, and the
//! positions that the exporter stamps. Whatever does not fit is a [`Finding`].
//!
//! A [`Replay`] remembers the files and snapshots that it has seen by their keys, as nobody changes an object: a check costs
//! what is new.

// Lists of counters of a fixed length, by names of a fixed length.
#![allow(clippy::indexing_slicing)]

mod avro;
mod bounds;
mod compare;
mod data;
mod deletes;
mod history;
mod manifest;
mod metadata;
mod partition;
mod snapshot;
mod types;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;

pub use self::compare::Rows;
pub use self::metadata::{Metadata, Snapshot};
pub use self::snapshot::{ReplayedRow, RowsByKey, SnapshotRows};
pub use self::types::{Field, Schema, Type};
pub use self::value::{Value, from_arrow};

/// Something about a table that is not as it has to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Finding {
    /// The file, snapshot or row.
    pub place: String,
    /// What is wrong with it.
    pub what: String,
}

impl Finding {
    /// Something is wrong at this place.
    pub fn new(place: impl Display, what: impl Display) -> Self {
        Finding {
            place: place.to_string(),
            what: what.to_string(),
        }
    }
}

/// What the reader returns.
pub type Result<T, E = Finding> = std::result::Result<T, E>;

/// A finding unless something holds.
fn ensure(holds: bool, place: impl Display, what: impl FnOnce() -> String) -> Result<()> {
    match holds {
        true => Ok(()),
        false => Err(Finding::new(place, what())),
    }
}

/// The objects of a store by their keys, which are the locations that metadata name.
pub trait Objects {
    /// The bytes of an object; `None` if there is none.
    fn object(&self, key: &str) -> Option<Bytes>;

    /// The size of an object in bytes; `None` if there is none.
    fn size_bytes(&self, key: &str) -> Option<u64> {
        self.object(key).map(|bytes| bytes.len() as u64)
    }
}

/// The files of this machine; a key may begin with `file://`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalFiles;

impl Objects for LocalFiles {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is where local files are read"
    )]
    fn object(&self, key: &str) -> Option<Bytes> {
        let path = key.strip_prefix("file://").unwrap_or(key);
        std::fs::read(path).ok().map(Bytes::from)
    }
}

fn object(objects: &dyn Objects, key: &str) -> Result<Bytes> {
    let found = objects.object(key);
    found.ok_or_else(|| Finding::new(key, "it is named, and is not there"))
}

/// Every snapshot of a table, as its metadata file shows it, oldest first.
///
/// # Errors
/// The first [`Finding`].
pub fn snapshots(objects: &dyn Objects, metadata_key: &str) -> Result<Vec<Arc<SnapshotRows>>> {
    Replay::default()
        .table(objects, metadata_key)
        .map(|table| table.snapshots)
}

/// A table as a metadata file shows it.
#[derive(Debug)]
pub struct ReplayedTable {
    /// The metadata.
    pub metadata: Arc<Metadata>,
    /// Each snapshot with the columns of its own time, by sequence number.
    pub snapshots: Vec<Arc<SnapshotRows>>,
    /// The newest snapshot of each branch and tag, with the columns of now.
    pub heads: BTreeMap<String, Arc<SnapshotRows>>,
}

/// A reader that remembers what it has verified.
#[derive(Debug, Default)]
pub struct Replay {
    metadata: HashMap<String, Arc<Metadata>>,
    manifests: HashMap<String, Arc<manifest::Manifest>>,
    files: HashMap<(String, i64), Arc<data::FileRows>>,
    deleted: HashMap<(String, u64, u64), Arc<deletes::Deleted>>,
    snapshots: HashMap<(String, i64, i64), Arc<SnapshotRows>>,
    /// The ids that the rows of each data file of a table begin with, and how many there are.
    row_ids: BTreeMap<String, BTreeMap<i64, (i64, String)>>,
    /// Snapshots that were held against their parents, or were found to have none.
    related: std::collections::HashSet<(String, i64, bool)>,
    /// How many snapshots were read, and not remembered.
    pub read_count: u64,
}

impl Replay {
    /// Reads every snapshot that a metadata file has, and checks each by itself and against its parent.
    ///
    /// # Errors
    /// The first [`Finding`].
    pub fn table(&mut self, objects: &dyn Objects, metadata_key: &str) -> Result<ReplayedTable> {
        let metadata = match self.metadata.get(metadata_key) {
            Some(known) => known.clone(),
            None => {
                let bytes = object(objects, metadata_key)?;
                let parsed = Arc::new(Metadata::parse(metadata_key, &bytes)?);
                self.metadata
                    .insert(metadata_key.to_owned(), parsed.clone());
                parsed
            }
        };
        let mut snapshots = Vec::new();
        for snapshot in &metadata.snapshots {
            let schema_id = snapshot.schema_id.unwrap_or(metadata.current_schema_id);
            snapshots.push(self.remembered(objects, &metadata, snapshot, schema_id)?);
        }
        self.check_history(&metadata, &snapshots)?;
        let mut heads = BTreeMap::new();
        for (name, id) in &metadata.references {
            if let Some(snapshot) = metadata.snapshot(*id) {
                let schema_id = metadata.current_schema_id;
                let head = self.remembered(objects, &metadata, snapshot, schema_id)?;
                heads.insert(name.clone(), head);
            }
        }
        Ok(ReplayedTable {
            metadata,
            snapshots,
            heads,
        })
    }

    fn remembered(
        &mut self,
        objects: &dyn Objects,
        metadata: &Metadata,
        snapshot: &Snapshot,
        schema_id: i64,
    ) -> Result<Arc<SnapshotRows>> {
        let key = (snapshot.manifest_list.clone(), snapshot.id, schema_id);
        if let Some(known) = self.snapshots.get(&key) {
            known.check_files(objects)?;
            return Ok(known.clone());
        }
        let read = Arc::new(self.snapshot(objects, metadata, snapshot, schema_id)?);
        self.read_count += 1;
        self.snapshots.insert(key, read.clone());
        Ok(read)
    }

    /// Forgets what it knows of a table's rows that no snapshot named here holds any more.
    pub fn keep_only(&mut self, tables: &[ReplayedTable]) {
        let live: std::collections::HashSet<&str> = tables
            .iter()
            .flat_map(|table| &table.snapshots)
            .map(|rows| rows.snapshot.manifest_list.as_str())
            .collect();
        self.snapshots
            .retain(|(list, ..), _| live.contains(list.as_str()));
    }
}
