//! Manifest lists and manifests.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::avro::{Record, bytes as avro_bytes, number as avro_number, records};
use super::metadata::Metadata;
use super::types::Schema;
use super::value::Value;
use super::{Finding, Objects, Result, ensure, object};

/// An entry of a manifest list.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) path: String,
    length: i64,
    pub(super) spec_id: i64,
    pub(super) is_deletes: bool,
    pub(super) sequence_number: i64,
    min_sequence_number: i64,
    pub(super) added_snapshot_id: i64,
    /// Files added, existing and deleted, then their rows.
    counts: [i64; 6],
    pub(super) first_row_id: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Existing,
    Added,
    Deleted,
}

/// An entry of a manifest, with what it inherits.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) status: Status,
    pub(super) snapshot_id: i64,
    /// Of its content.
    pub(super) sequence_number: i64,
    pub(super) file: File,
}

/// A data file or delete file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct File {
    pub(super) is_deletes: bool,
    pub(super) path: String,
    pub(super) format: String,
    pub(super) spec_id: i64,
    /// By the ids of the spec's fields.
    pub(super) partition: Vec<Value>,
    pub(super) record_count: i64,
    pub(super) size_bytes: i64,
    pub(super) first_row_id: Option<i64>,
    pub(super) referenced_data_file: Option<String>,
    pub(super) content_offset: Option<i64>,
    pub(super) content_size_bytes: Option<i64>,
    pub(super) value_counts: BTreeMap<i32, i64>,
    pub(super) null_counts: BTreeMap<i32, i64>,
    pub(super) lower_bounds: BTreeMap<i32, Vec<u8>>,
    pub(super) upper_bounds: BTreeMap<i32, Vec<u8>>,
}

impl File {
    /// What is counted of it in summaries.
    pub(super) fn content_bytes(&self) -> i64 {
        self.content_size_bytes.unwrap_or(self.size_bytes)
    }

    /// What tells it from every other file of a snapshot: vectors may share a Puffin file.
    pub(super) fn identity(&self) -> (String, i64) {
        (self.path.clone(), self.content_offset.unwrap_or(-1))
    }
}

/// A manifest as its file says, without what is inherited.
#[derive(Debug)]
pub(super) struct Manifest {
    entries: Vec<Raw>,
    length: i64,
}

#[derive(Clone, Debug)]
struct Raw {
    status: Status,
    snapshot_id: Option<i64>,
    sequence_number: Option<i64>,
    file_sequence_number: Option<i64>,
    file: File,
}

fn needed<T>(place: &str, name: &str, found: Option<T>) -> Result<T> {
    found.ok_or_else(|| Finding::new(place, format!("an entry has no {name}")))
}

/// The manifests of a snapshot.
pub(super) fn list(objects: &dyn Objects, path: &str) -> Result<Vec<Listed>> {
    let (records, _) = records(path, &object(objects, path)?)?;
    records.iter().map(|record| listed(path, record)).collect()
}

fn listed(path: &str, record: &Record) -> Result<Listed> {
    let number = |name: &str| needed(path, name, record.number(name));
    let names = [
        "added_files_count",
        "existing_files_count",
        "deleted_files_count",
        "added_rows_count",
        "existing_rows_count",
        "deleted_rows_count",
    ];
    let mut counts = [0; 6];
    for (count, name) in counts.iter_mut().zip(names) {
        *count = number(name)?;
    }
    Ok(Listed {
        path: needed(path, "manifest_path", record.text("manifest_path"))?.to_owned(),
        length: number("manifest_length")?,
        spec_id: number("partition_spec_id")?,
        is_deletes: number("content")? == 1,
        sequence_number: number("sequence_number")?,
        min_sequence_number: number("min_sequence_number")?,
        added_snapshot_id: number("added_snapshot_id")?,
        counts,
        first_row_id: record.number("first_row_id"),
    })
}

impl Manifest {
    pub(super) fn read(
        path: &str,
        bytes: &Bytes,
        metadata: &Metadata,
        listed: &Listed,
    ) -> Result<Manifest> {
        let (records, header) = records(path, bytes)?;
        let said = |name: &str| {
            let text = header.get(name).map(|bytes| String::from_utf8_lossy(bytes));
            text.map(|text| text.trim_matches('"').to_owned())
        };
        let content = if listed.is_deletes { "deletes" } else { "data" };
        ensure(said("content").as_deref() == Some(content), path, || {
            format!("its header says content {:?}", said("content"))
        })?;
        let spec_id = said("partition-spec-id").and_then(|id| id.parse().ok());
        ensure(spec_id == Some(listed.spec_id), path, || {
            format!("its header says partition spec {spec_id:?}")
        })?;
        let known = header.get("schema").map(|json| {
            let json = serde_json::from_slice(json).unwrap_or_default();
            Schema::parse(&json)
        });
        needed(path, "schema in its header", known)??;
        let entries = records.iter();
        let entries = entries.map(|record| raw(path, record, metadata, listed.spec_id));
        Ok(Manifest {
            entries: entries.collect::<Result<_>>()?,
            length: bytes.len() as i64,
        })
    }

    /// Its entries as a list that names it has them, and that what the list says of it is true.
    pub(super) fn entries(&self, listed: &Listed) -> Result<Vec<Entry>> {
        let place = &listed.path;
        ensure(self.length == listed.length, place, || {
            format!(
                "it has {} bytes, and its list says {}",
                self.length, listed.length
            )
        })?;
        let mut next_row_id = listed.first_row_id;
        let mut entries = Vec::with_capacity(self.entries.len());
        for raw in &self.entries {
            let inherits = raw.status == Status::Added;
            let inherited = |number: Option<i64>, name: &str| match number {
                Some(number) => Ok(number),
                None if inherits => Ok(listed.sequence_number),
                None => Err(Finding::new(
                    place,
                    format!("an old entry has no {name}: {}", raw.file.path),
                )),
            };
            let sequence_number = inherited(raw.sequence_number, "sequence number")?;
            let file_number = inherited(raw.file_sequence_number, "file sequence number")?;
            ensure(
                sequence_number <= file_number && file_number <= listed.sequence_number,
                place,
                || {
                    format!(
                        "sequence numbers {sequence_number}, {file_number} of {} in a manifest of {}",
                        raw.file.path, listed.sequence_number
                    )
                },
            )?;
            let mut file = raw.file.clone();
            ensure(file.is_deletes == listed.is_deletes, place, || {
                format!("{} is of another content", file.path)
            })?;
            if !file.is_deletes && raw.status != Status::Deleted && file.first_row_id.is_none() {
                file.first_row_id = next_row_id;
                next_row_id = next_row_id.map(|id| id + file.record_count);
            }
            entries.push(Entry {
                status: raw.status,
                snapshot_id: raw.snapshot_id.unwrap_or(listed.added_snapshot_id),
                sequence_number,
                file,
            });
        }
        listed.check(&entries)?;
        Ok(entries)
    }
}

impl Listed {
    fn check(&self, entries: &[Entry]) -> Result<()> {
        let mut counts = [0; 6];
        for entry in entries {
            let side = match entry.status {
                Status::Added => 0,
                Status::Existing => 1,
                Status::Deleted => 2,
            };
            counts[side] += 1;
            counts[side + 3] += entry.file.record_count;
        }
        ensure(counts == self.counts, &self.path, || {
            format!("it has {counts:?}, and its list says {:?}", self.counts)
        })?;
        let live = entries
            .iter()
            .filter(|entry| entry.status != Status::Deleted);
        let least = live.map(|entry| entry.sequence_number).min();
        ensure(
            least.is_none_or(|least| self.min_sequence_number <= least),
            &self.path,
            || {
                format!(
                    "its list says min_sequence_number {}",
                    self.min_sequence_number
                )
            },
        )?;
        let mut added = entries.iter().filter(|entry| entry.status == Status::Added);
        let is_own = |entry: &Entry| entry.snapshot_id == self.added_snapshot_id;
        ensure(added.all(is_own), &self.path, || {
            "an added entry is of another snapshot".to_owned()
        })
    }
}

fn raw(path: &str, record: &Record, metadata: &Metadata, spec_id: i64) -> Result<Raw> {
    let status = match record.number("status") {
        Some(0) => Status::Existing,
        Some(1) => Status::Added,
        Some(2) => Status::Deleted,
        other => return Err(Finding::new(path, format!("an entry of status {other:?}"))),
    };
    let found = needed(path, "data_file", record.record("data_file"))?;
    Ok(Raw {
        status,
        snapshot_id: record.number("snapshot_id"),
        sequence_number: record.number("sequence_number"),
        file_sequence_number: record.number("file_sequence_number"),
        file: file(path, &found, metadata, spec_id)?,
    })
}

fn file(place: &str, record: &Record, metadata: &Metadata, spec_id: i64) -> Result<File> {
    let number = |name: &str| needed(place, name, record.number(name));
    let path = needed(place, "file_path", record.text("file_path"))?.to_owned();
    let content = number("content")?;
    ensure(content != 2, place, || {
        format!("{path} is a file of equality deletes")
    })?;
    let spec = metadata.specs.get(&spec_id);
    let spec = needed(place, "partition spec that is there", spec)?;
    let partition = needed(place, "partition", record.record("partition"))?;
    let bounds = |name: &str| record.by_id(name, avro_bytes).into_iter().collect();
    let counts = |name: &str| record.by_id(name, avro_number).into_iter().collect();
    Ok(File {
        is_deletes: content == 1,
        format: record
            .text("file_format")
            .unwrap_or_default()
            .to_ascii_lowercase(),
        spec_id,
        partition: spec.values(place, &partition, metadata)?,
        record_count: number("record_count")?,
        size_bytes: number("file_size_in_bytes")?,
        first_row_id: record.number("first_row_id"),
        referenced_data_file: record.text("referenced_data_file").map(str::to_owned),
        content_offset: record.number("content_offset"),
        content_size_bytes: record.number("content_size_in_bytes"),
        value_counts: counts("value_counts"),
        null_counts: counts("null_value_counts"),
        lower_bounds: bounds("lower_bounds"),
        upper_bounds: bounds("upper_bounds"),
        path,
    })
}
