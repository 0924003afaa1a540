//! One snapshot: which files it holds, and which rows.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::data::FileRows;
use super::deletes;
use super::manifest::{self, Entry, Listed, Manifest, Status};
use super::metadata::{Metadata, Snapshot};
use super::types::Schema;
use super::value::Value;
use super::{Finding, Objects, Replay, Result, bounds, ensure, object};

/// A row, and who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayedRow {
    /// Its values, in the order of the snapshot's columns.
    pub values: Vec<Value>,
    /// Its id, where the table has ids.
    pub row_id: Option<i64>,
    /// The sequence number of the commit that last changed it.
    pub updated_sequence_number: i64,
    /// Its file.
    pub file: Arc<str>,
    /// Where it is in its file.
    pub position: u64,
}

/// What a snapshot holds.
#[derive(Debug)]
pub struct SnapshotRows {
    /// The snapshot, as the metadata name it.
    pub snapshot: Snapshot,
    /// The columns.
    pub schema: Schema,
    /// The rows, in no order that means anything.
    pub rows: Vec<ReplayedRow>,
    pub(super) entries: BTreeMap<(String, i64), Entry>,
    /// Files that this snapshot took out.
    pub(super) removed: BTreeMap<(String, i64), Entry>,
    /// Every object that is read for it, with its size.
    objects: Vec<(String, u64)>,
}

/// A row by its key, which are the values of the identifier columns.
pub type RowsByKey<'a> = BTreeMap<Vec<Value>, &'a ReplayedRow>;

impl SnapshotRows {
    /// The rows by the values of these columns, which no two rows share.
    ///
    /// # Errors
    /// A [`Finding`] if two do, or a column is not there.
    pub fn by_key(&self, ids: &[i32]) -> Result<RowsByKey<'_>> {
        let fields = &self.schema.fields;
        let position = |id: &i32| {
            let found = fields.iter().position(|field| field.id == *id);
            found.ok_or_else(|| Finding::new(self.place(), format!("no column {id}")))
        };
        let positions: Vec<usize> = ids.iter().map(position).collect::<Result<_>>()?;
        let mut by_key = RowsByKey::new();
        for row in &self.rows {
            let key = positions
                .iter()
                .filter_map(|at| row.values.get(*at).cloned());
            let key: Vec<Value> = key.collect();
            if let Some(other) = by_key.insert(key.clone(), row) {
                let what = format!(
                    "key {key:?} is there twice: {} row {}, {} row {}",
                    other.file, other.position, row.file, row.position
                );
                return Err(Finding::new(self.place(), what));
            }
        }
        Ok(by_key)
    }

    /// A text of the summary.
    pub fn stamp(&self, name: &str) -> Option<&str> {
        self.snapshot.summary.get(name).map(String::as_str)
    }

    /// Every object that is read for it.
    pub fn objects(&self) -> impl Iterator<Item = &str> {
        self.objects.iter().map(|(key, _)| key.as_str())
    }

    /// Whether the exporter made it.
    pub fn is_ours(&self) -> bool {
        self.stamp("moonshine.commit-id").is_some()
    }

    pub(super) fn place(&self) -> String {
        format!("snapshot {}", self.snapshot.id)
    }

    /// Checks that everything is there still.
    pub(super) fn check_files(&self, objects: &dyn Objects) -> Result<()> {
        for (key, size_bytes) in &self.objects {
            let found = objects.size_bytes(key);
            ensure(found == Some(*size_bytes), self.place(), || {
                format!("{key} has {found:?} bytes, not {size_bytes}")
            })?;
        }
        Ok(())
    }

    /// The live files of one content.
    pub(super) fn files(&self, is_deletes: bool) -> impl Iterator<Item = &Entry> {
        let entries = self.entries.values();
        entries.filter(move |entry| entry.file.is_deletes == is_deletes)
    }

    fn check_counters(&self) -> Result<()> {
        type Counted = [i64; 5];
        let count = |mut counts: Counted, entry: &Entry| {
            let at = if entry.file.is_deletes { 2 } else { 0 };
            counts[at] += 1;
            counts[at + 1] += entry.file.record_count;
            counts[4] += entry.file.content_bytes();
            counts
        };
        let is_new =
            |entry: &&Entry| entry.status == Status::Added && entry.snapshot_id == self.snapshot.id;
        let total = self.entries.values().fold(Counted::default(), count);
        let added = self
            .entries
            .values()
            .filter(is_new)
            .fold(Counted::default(), count);
        let removed = self.removed.values().fold(Counted::default(), count);
        let names = [
            ("data-files", "added-data-files", "deleted-data-files"),
            ("records", "added-records", "deleted-records"),
            ("delete-files", "added-delete-files", "removed-delete-files"),
            (
                "position-deletes",
                "added-position-deletes",
                "removed-position-deletes",
            ),
            ("files-size", "added-files-size", "removed-files-size"),
        ];
        for (at, (total_name, added_name, removed_name)) in names.into_iter().enumerate() {
            let total_name = format!("total-{total_name}");
            for (name, found) in [
                (total_name.as_str(), total[at]),
                (added_name, added[at]),
                (removed_name, removed[at]),
            ] {
                let said = self.snapshot.counter(name);
                let is_true = said == Some(found) || (said.is_none() && (found == 0 || at == 4));
                ensure(is_true, self.place(), || {
                    format!("its summary says {name} {said:?}, and it has {found}")
                })?;
            }
        }
        let equality_deletes = self.snapshot.counter("total-equality-deletes");
        ensure(equality_deletes.unwrap_or(0) == 0, self.place(), || {
            format!("its summary says {equality_deletes:?} equality deletes")
        })
    }
}

impl Replay {
    pub(super) fn snapshot(
        &mut self,
        objects: &dyn Objects,
        metadata: &Metadata,
        snapshot: &Snapshot,
        schema_id: i64,
    ) -> Result<SnapshotRows> {
        let mut read = SnapshotRows {
            snapshot: snapshot.clone(),
            schema: metadata.schema(schema_id)?.clone(),
            rows: Vec::new(),
            entries: BTreeMap::new(),
            removed: BTreeMap::new(),
            objects: vec![(snapshot.manifest_list.clone(), 0)],
        };
        for listed in manifest::list(objects, &snapshot.manifest_list)? {
            self.add_manifest(objects, metadata, &listed, &mut read)?;
        }
        let deleted = self.deleted(objects, &read)?;
        let data: Vec<Entry> = read.files(false).cloned().collect();
        for entry in data {
            let positions = deleted.get(&entry.file.path);
            self.add_rows(objects, metadata, &entry, positions, &mut read)?;
        }
        // What other writers say of their snapshots is theirs.
        if read.is_ours() {
            read.check_counters()?;
        }
        read.check_row_ids(metadata)?;
        if !read.schema.identifier_ids.is_empty() {
            read.by_key(&read.schema.identifier_ids)?;
        }
        for (key, size_bytes) in &mut read.objects {
            let found = objects.size_bytes(key);
            *size_bytes = found.ok_or_else(|| Finding::new(&key, "it is named, and gone"))?;
        }
        Ok(read)
    }

    fn add_manifest(
        &mut self,
        objects: &dyn Objects,
        metadata: &Metadata,
        listed: &Listed,
        read: &mut SnapshotRows,
    ) -> Result<()> {
        let snapshot = &read.snapshot;
        let is_own = listed.added_snapshot_id == snapshot.id;
        let number = listed.sequence_number;
        ensure(
            number <= snapshot.sequence_number && (!is_own || number == snapshot.sequence_number),
            &listed.path,
            || {
                format!(
                    "sequence number {number} in snapshot {}",
                    snapshot.sequence_number
                )
            },
        )?;
        let needs_ids = snapshot.first_row_id.is_some() && !listed.is_deletes;
        ensure(
            !needs_ids || listed.first_row_id.is_some(),
            &listed.path,
            || "a manifest of data files without first_row_id".to_owned(),
        )?;
        let known = self.manifests.get(&listed.path).cloned();
        let manifest = match known {
            Some(known) => known,
            None => {
                let bytes = object(objects, &listed.path)?;
                let parsed = Manifest::read(&listed.path, &bytes, metadata, listed)?;
                let parsed = Arc::new(parsed);
                self.manifests.insert(listed.path.clone(), parsed.clone());
                parsed
            }
        };
        read.objects.push((listed.path.clone(), 0));
        for entry in manifest.entries(listed)? {
            let identity = entry.file.identity();
            if entry.status == Status::Deleted {
                if entry.snapshot_id == read.snapshot.id {
                    read.removed.insert(identity, entry);
                }
                continue;
            }
            let path = entry.file.path.clone();
            let is_new = read.entries.insert(identity, entry).is_none();
            ensure(is_new, read.place(), || format!("{path} is there twice"))?;
            read.objects.push((path, 0));
        }
        Ok(())
    }

    /// Which rows are deleted, by data file.
    fn deleted(&mut self, objects: &dyn Objects, read: &SnapshotRows) -> Result<deletes::Deleted> {
        let mut all = deletes::Deleted::new();
        for entry in read.files(true) {
            let file = &entry.file;
            let key = (
                file.path.clone(),
                file.content_offset.unwrap_or(0).cast_unsigned(),
                file.content_size_bytes.unwrap_or(0).cast_unsigned(),
            );
            let deleted = match self.deleted.get(&key) {
                Some(known) => known.clone(),
                None => {
                    let bytes = object(objects, &file.path)?;
                    ensure(bytes.len() as i64 == file.size_bytes, &file.path, || {
                        format!("{} bytes, its entry says {}", bytes.len(), file.size_bytes)
                    })?;
                    let deleted = Arc::new(deletes::read(file, &bytes)?);
                    self.deleted.insert(key, deleted.clone());
                    deleted
                }
            };
            for (path, positions) in deleted.iter() {
                let of = read.entries.get(&(path.clone(), -1));
                let of = of.filter(|data| !data.file.is_deletes);
                let of = of.ok_or_else(|| {
                    Finding::new(&file.path, format!("deletes of {path}, which is not there"))
                })?;
                let is_of_it = of.sequence_number <= entry.sequence_number
                    && (of.file.spec_id, &of.file.partition) == (file.spec_id, &file.partition);
                ensure(is_of_it, &file.path, || {
                    format!("its deletes are not of {path}")
                })?;
                let last = positions.last().copied().unwrap_or(0);
                ensure(
                    last < of.file.record_count.cast_unsigned(),
                    &file.path,
                    || format!("position {last} of {path}"),
                )?;
                let is_only = all.insert(path.clone(), positions.clone()).is_none();
                ensure(is_only, read.place(), || {
                    format!("two delete files of {path}")
                })?;
            }
        }
        Ok(all)
    }

    fn add_rows(
        &mut self,
        objects: &dyn Objects,
        metadata: &Metadata,
        entry: &Entry,
        deleted: Option<&BTreeSet<u64>>,
        read: &mut SnapshotRows,
    ) -> Result<()> {
        let file = &entry.file;
        let key = (file.path.clone(), read.schema.id);
        let rows = match self.files.get(&key) {
            Some(known) => known.clone(),
            None => {
                let bytes = object(objects, &file.path)?;
                ensure(bytes.len() as i64 == file.size_bytes, &file.path, || {
                    format!("{} bytes, its entry says {}", bytes.len(), file.size_bytes)
                })?;
                let rows = FileRows::read(&file.path, bytes, &read.schema)?;
                ensure(
                    rows.rows.len() as i64 == file.record_count,
                    &file.path,
                    || {
                        format!(
                            "{} rows, its entry says {}",
                            rows.rows.len(),
                            file.record_count
                        )
                    },
                )?;
                bounds::check(&read.schema, file, &rows.rows)?;
                if let Some(spec) = metadata.specs.get(&file.spec_id) {
                    spec.check(&read.schema, file, &rows.rows)?;
                }
                let rows = Arc::new(rows);
                self.files.insert(key, rows.clone());
                rows
            }
        };
        let path: Arc<str> = file.path.as_str().into();
        let has_ids = read.snapshot.first_row_id.is_some();
        let both = rows.rows.iter().zip(&rows.lineage);
        for (position, (values, (row_id, updated))) in (0_u64..).zip(both) {
            if deleted.is_some_and(|deleted| deleted.contains(&position)) {
                continue;
            }
            let implied = file
                .first_row_id
                .map(|first| first + position.cast_signed());
            read.rows.push(ReplayedRow {
                values: values.clone(),
                row_id: row_id.or(implied).filter(|_| has_ids),
                updated_sequence_number: updated.unwrap_or(entry.sequence_number),
                file: path.clone(),
                position,
            });
        }
        Ok(())
    }
}

impl SnapshotRows {
    /// Where the table has row ids, each row has one of its own that was given out.
    fn check_row_ids(&self, metadata: &Metadata) -> Result<()> {
        let Some(first) = self.snapshot.first_row_id else {
            return Ok(());
        };
        let end = metadata.next_row_id.unwrap_or(0);
        let added = self.snapshot.added_rows.unwrap_or(0);
        ensure(first + added <= end, self.place(), || {
            format!("its row ids {first} + {added} end behind next-row-id {end}")
        })?;
        let is_new =
            |entry: &&Entry| entry.status == Status::Added && entry.snapshot_id == self.snapshot.id;
        for entry in self.files(false).filter(is_new) {
            let (begin, rows) = (
                entry.file.first_row_id.unwrap_or(-1),
                entry.file.record_count,
            );
            let is_within = first <= begin && begin + rows <= first + added;
            ensure(is_within, &entry.file.path, || {
                format!("its row ids {begin} + {rows} are not of the snapshot's {first} + {added}")
            })?;
        }
        let mut ids = HashSet::new();
        for row in &self.rows {
            let place = || format!("{} row {}", row.file, row.position);
            let id = row
                .row_id
                .ok_or_else(|| Finding::new(place(), "it has no row id"))?;
            ensure(ids.insert(id), place(), || {
                format!("another row has its id {id}")
            })?;
            ensure((0..first + added).contains(&id), place(), || {
                format!("its id {id} was not given out yet")
            })?;
            let updated = row.updated_sequence_number;
            ensure(updated <= self.snapshot.sequence_number, place(), || {
                format!("it was updated by {updated}, which is later")
            })?;
        }
        Ok(())
    }
}
