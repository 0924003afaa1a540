//! The metadata file.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::partition::Spec;
use super::types::{Schema, id, list, number, text};
use super::{Finding, Result, ensure};

/// What a metadata file says of its table.
#[derive(Debug)]
pub struct Metadata {
    /// Where it is.
    pub key: String,
    /// 2 or 3.
    pub format_version: i64,
    /// The table's own name.
    pub uuid: String,
    /// The table's folder.
    pub location: String,
    /// The greatest sequence number of a snapshot.
    pub last_sequence_number: i64,
    /// The id that the next new row gets; none before format 3.
    pub next_row_id: Option<i64>,
    /// By number.
    pub schemas: BTreeMap<i64, Schema>,
    /// The schema of what is written next.
    pub current_schema_id: i64,
    /// Partition specs by number.
    pub(super) specs: BTreeMap<i64, Spec>,
    /// Properties.
    pub properties: BTreeMap<String, String>,
    /// By sequence number, then by id.
    pub snapshots: Vec<Snapshot>,
    /// Branches and tags: the snapshots that they stand for.
    pub references: BTreeMap<String, i64>,
}

/// A snapshot as the metadata file names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: i64,
    /// The snapshot that it follows on.
    pub parent_id: Option<i64>,
    /// Greater than those of all before it.
    pub sequence_number: i64,
    /// When it was made, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Where its list of manifests is.
    pub manifest_list: String,
    /// The schema of then.
    pub schema_id: Option<i64>,
    /// What happened.
    pub operation: String,
    /// What its writer says of it.
    pub summary: BTreeMap<String, String>,
    /// The id of its first new row; format 3.
    pub first_row_id: Option<i64>,
    /// How many row ids it takes; format 3.
    pub added_rows: Option<i64>,
}

impl Snapshot {
    /// A number of the summary.
    pub fn counter(&self, name: &str) -> Option<i64> {
        self.summary.get(name)?.parse().ok()
    }
}

fn texts(json: Option<&Json>) -> BTreeMap<String, String> {
    let pairs = json.and_then(Json::as_object).into_iter().flatten();
    pairs
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn snapshot(json: &Json) -> Result<Snapshot> {
    let optional = |name: &str| json.get(name).and_then(Json::as_i64);
    let mut summary = texts(json.get("summary"));
    let place = "a snapshot";
    let operation = summary.remove("operation");
    Ok(Snapshot {
        id: number(json, "snapshot-id")?,
        parent_id: optional("parent-snapshot-id"),
        sequence_number: number(json, "sequence-number")?,
        timestamp_ms: number(json, "timestamp-ms")?,
        manifest_list: text(json, "manifest-list")?.to_owned(),
        schema_id: optional("schema-id"),
        operation: operation.ok_or_else(|| Finding::new(place, "it names no operation"))?,
        summary,
        first_row_id: optional("first-row-id"),
        added_rows: optional("added-rows"),
    })
}

impl Metadata {
    pub(super) fn parse(key: &str, bytes: &[u8]) -> Result<Metadata> {
        let json: Json = serde_json::from_slice(bytes)
            .map_err(|error| Finding::new(key, format!("it is no JSON: {error}")))?;
        let parsed = Self::of(key, &json);
        let metadata = parsed.map_err(|finding| Finding::new(key, finding))?;
        metadata.check(&json)?;
        Ok(metadata)
    }

    fn of(key: &str, json: &Json) -> Result<Metadata> {
        let schemas = list(json, "schemas")?.iter().map(Schema::parse);
        let schemas = schemas.map(|schema| schema.map(|schema| (schema.id, schema)));
        let specs = list(json, "partition-specs")?.iter().map(Spec::parse);
        let specs = specs.map(|spec| spec.map(|spec| (spec.id, spec)));
        let found = json.get("snapshots").and_then(Json::as_array);
        let snapshots = found.into_iter().flatten().map(snapshot);
        let mut snapshots: Vec<Snapshot> = snapshots.collect::<Result<_>>()?;
        snapshots.sort_by_key(|snapshot| (snapshot.sequence_number, snapshot.id));
        let references = json.get("refs").and_then(Json::as_object);
        let references = references.into_iter().flatten();
        let references = references
            .map(|(name, reference)| Ok((name.clone(), number(reference, "snapshot-id")?)));
        Ok(Metadata {
            key: key.to_owned(),
            format_version: number(json, "format-version")?,
            uuid: text(json, "table-uuid")?.to_owned(),
            location: text(json, "location")?.to_owned(),
            last_sequence_number: number(json, "last-sequence-number")?,
            next_row_id: json.get("next-row-id").and_then(Json::as_i64),
            schemas: schemas.collect::<Result<_>>()?,
            current_schema_id: number(json, "current-schema-id")?,
            specs: specs.collect::<Result<_>>()?,
            properties: texts(json.get("properties")),
            snapshots,
            references: references.collect::<Result<_>>()?,
        })
    }

    fn check(&self, json: &Json) -> Result<()> {
        let check = |holds: bool, what: &str| ensure(holds, &self.key, || what.to_owned());
        let version = self.format_version;
        check(
            version == 2 || version == 3,
            "its format version is neither 2 nor 3",
        )?;
        check(
            version != 3 || self.next_row_id.is_some(),
            "it has no next-row-id",
        )?;
        check(
            self.schemas.contains_key(&self.current_schema_id),
            "its schema is not there",
        )?;
        let spec_id = number(json, "default-spec-id")?;
        check(
            self.specs.contains_key(&spec_id),
            "its partition spec is not there",
        )?;
        let last_column_id = id(json, "last-column-id")?;
        let mut column_ids = self.schemas.values().map(Schema::last_id);
        check(
            column_ids.all(|id| id <= last_column_id),
            "its last-column-id is too low",
        )?;
        let ids: BTreeSet<i64> = self.snapshots.iter().map(|snapshot| snapshot.id).collect();
        check(
            ids.len() == self.snapshots.len(),
            "two snapshots have one id",
        )?;
        let numbers = self.snapshots.iter();
        let numbers: BTreeSet<i64> = numbers.map(|snapshot| snapshot.sequence_number).collect();
        check(
            numbers.len() == ids.len(),
            "two snapshots have one sequence number",
        )?;
        let last = numbers.last().copied().unwrap_or(0);
        check(
            last <= self.last_sequence_number,
            "its last-sequence-number is too low",
        )?;
        let mut referred = self.references.values();
        check(
            referred.all(|id| ids.contains(id)),
            "a reference stands for no snapshot",
        )?;
        let current = json.get("current-snapshot-id").and_then(Json::as_i64);
        let current = current.filter(|id| *id != -1);
        check(
            current == self.references.get("main").copied(),
            "its current snapshot is not the main branch's",
        )?;
        let mut last_ms = json
            .get("last-updated-ms")
            .and_then(Json::as_i64)
            .into_iter();
        let newest = self.snapshots.last();
        let newest_ms = newest.map_or(0, |snapshot| snapshot.timestamp_ms);
        check(
            last_ms.all(|last_ms| last_ms + 60_000 >= newest_ms),
            "its newest snapshot is of the future",
        )
    }

    /// The snapshot of that id.
    pub fn snapshot(&self, id: i64) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.id == id)
    }

    /// A snapshot and its ancestors, as far as they are there.
    pub fn ancestry(&self, id: i64) -> impl Iterator<Item = &Snapshot> {
        let parent = |child: &&Snapshot| child.parent_id.and_then(|id| self.snapshot(id));
        std::iter::successors(self.snapshot(id), parent)
    }

    /// The columns of that number.
    pub(super) fn schema(&self, id: i64) -> Result<&Schema> {
        let what = || Finding::new(&self.key, format!("schema {id} is not there"));
        self.schemas.get(&id).ok_or_else(what)
    }
}
