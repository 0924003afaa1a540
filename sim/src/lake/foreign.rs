//! What other writers do to tables.

use iceberg::TableIdent;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{Lake, State};

/// What another writer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Sets a property.
    SetProperty,
    /// Makes the snapshot before the newest one the newest.
    RollBack,
    /// Removes all snapshots but the newest few of the main branch, down to one that the exporter made, and no file.
    Expire {
        /// How many stay.
        keep: usize,
    },
    /// A snapshot that says it rewrote manifests, and nothing else.
    RewriteManifests,
    /// A snapshot that says it appended a file with a row.
    Append,
    /// A snapshot that says it replaced a file by another with the same rows, as a compaction does.
    Replace,
    /// Adds a column.
    AddColumn,
    /// Makes a snapshot that is there the newest one.
    MakeHead {
        /// The snapshot.
        snapshot_id: i64,
    },
}

/// Before the manifest list that a new snapshot has a copy of.
const COPY_OF: &str = "copy of ";

impl Lake {
    /// Somebody else does something to a table; false if it can't be done to the table as it is.
    pub fn disturb(&self, ident: &TableIdent, deed: Deed) -> bool {
        let now_ms = self.shared.clock.now_ms();
        let mut state = self.shared.state.lock();
        state.deeds += 1;
        match deed {
            Deed::SetProperty => {
                let value = now_ms.to_string();
                state.set_property(ident, "owner", &value, now_ms)
            }
            Deed::RollBack => state.roll_back(ident, now_ms),
            Deed::Expire { keep } => state.edit(ident, now_ms, |metadata| expire(metadata, keep)),
            Deed::RewriteManifests => state.edit(ident, now_ms, |metadata| {
                add_snapshot(metadata, now_ms, "replace", &[])
            }),
            Deed::Append => state.edit(ident, now_ms, |metadata| {
                let counters = [("added-data-files", "1"), ("added-records", "1")];
                add_snapshot(metadata, now_ms, "append", &counters)
            }),
            Deed::Replace => state.edit(ident, now_ms, |metadata| {
                let counters = [("added-data-files", "1"), ("deleted-data-files", "1")];
                add_snapshot(metadata, now_ms, "replace", &counters)
            }),
            Deed::AddColumn => state.edit(ident, now_ms, add_column),
            Deed::MakeHead { snapshot_id } => state.edit(ident, now_ms, |metadata| {
                become_head(metadata, snapshot_id.into(), now_ms)
            }),
        }
    }
}

impl State {
    /// Edits a table's metadata by hand; false if there is no table, or the edit can't be made.
    fn edit(
        &mut self,
        ident: &TableIdent,
        now_ms: i64,
        edit: impl FnOnce(&mut Json) -> Option<()>,
    ) -> bool {
        let Some(table) = self.tables.get(&ident.to_string()).cloned() else {
            return false;
        };
        let Ok(mut metadata) = serde_json::to_value(table.metadata.as_ref()) else {
            return false;
        };
        if edit(&mut metadata).is_none() {
            return false;
        }
        let log = json!({
            "metadata-file": table.metadata_location,
            "timestamp-ms": metadata["last-updated-ms"],
        });
        match metadata
            .get_mut("metadata-log")
            .and_then(Json::as_array_mut)
        {
            Some(entries) => entries.push(log),
            None => metadata["metadata-log"] = json!([log]),
        }
        let before_ms = metadata["last-updated-ms"].as_i64().unwrap_or(0);
        metadata["last-updated-ms"] = before_ms.max(now_ms).into();
        let random = &mut self.network.random;
        let file_id = Uuid::from_u64_pair(random.next(), random.next());
        self.copy_list(&mut metadata, file_id, now_ms);
        self.publish(ident, metadata, file_id, Vec::new(), now_ms);
        true
    }

    /// A new snapshot has a manifest list of its own.
    fn copy_list(&mut self, metadata: &mut Json, file_id: Uuid, now_ms: i64) {
        let location = metadata["location"].as_str().unwrap_or_default().to_owned();
        let snapshots = metadata.get_mut("snapshots").and_then(Json::as_array_mut);
        for snapshot in snapshots.into_iter().flatten() {
            let listed = snapshot["manifest-list"].as_str().unwrap_or_default();
            if let Some(copied) = listed.strip_prefix(COPY_OF) {
                let key = format!("{location}/metadata/foreign-{file_id}.avro");
                let stored = self.objects.get(copied).map(|stored| stored.bytes.clone());
                if let Some(bytes) = stored {
                    self.put(&key, bytes, now_ms);
                }
                snapshot["manifest-list"] = key.into();
            }
        }
    }

    pub(super) fn set_property(
        &mut self,
        ident: &TableIdent,
        name: &str,
        value: &str,
        now_ms: i64,
    ) -> bool {
        self.edit(ident, now_ms, |metadata| {
            metadata["properties"][name] = value.into();
            Some(())
        })
    }

    pub(super) fn roll_back(&mut self, ident: &TableIdent, now_ms: i64) -> bool {
        self.edit(ident, now_ms, |metadata| {
            let head = metadata["current-snapshot-id"].clone();
            let mut snapshots = metadata["snapshots"].as_array()?.iter();
            let head = snapshots.find(|snapshot| snapshot["snapshot-id"] == head)?;
            let parent = head["parent-snapshot-id"].clone();
            let mut snapshots = metadata["snapshots"].as_array()?.iter();
            snapshots.find(|snapshot| snapshot["snapshot-id"] == parent)?;
            become_head(metadata, parent, now_ms)
        })
    }
}

fn become_head(metadata: &mut Json, id: Json, now_ms: i64) -> Option<()> {
    let entry = json!({"snapshot-id": id, "timestamp-ms": now_ms});
    match metadata
        .get_mut("snapshot-log")
        .and_then(Json::as_array_mut)
    {
        Some(log) => log.push(entry),
        None => metadata["snapshot-log"] = json!([entry]),
    }
    metadata["current-snapshot-id"] = id.clone();
    metadata["refs"]["main"] = json!({"snapshot-id": id, "type": "branch"});
    Some(())
}

fn expire(metadata: &mut Json, keep: usize) -> Option<()> {
    let snapshots = metadata["snapshots"].as_array()?;
    let (mut kept, mut is_ours) = (Vec::new(), false);
    let mut next = metadata["current-snapshot-id"].clone();
    while let Some(snapshot) = snapshots.iter().find(|s| s["snapshot-id"] == next) {
        if kept.len() >= keep && is_ours {
            break;
        }
        is_ours |= !snapshot["summary"]["moonshine.commit-id"].is_null();
        kept.push(next);
        next = snapshot["parent-snapshot-id"].clone();
    }
    let references = metadata["refs"].as_object()?.values();
    kept.extend(references.map(|reference| reference["snapshot-id"].clone()));
    let before = snapshots.len();
    let is_kept = |entry: &Json| kept.contains(&entry["snapshot-id"]);
    for name in [
        "snapshots",
        "snapshot-log",
        "statistics",
        "partition-statistics",
    ] {
        if let Some(entries) = metadata.get_mut(name).and_then(Json::as_array_mut) {
            entries.retain(is_kept);
        }
    }
    (metadata["snapshots"].as_array()?.len() < before).then_some(())
}

/// A snapshot on the newest one, with the same files, whose summary says this.
fn add_snapshot(
    metadata: &mut Json,
    now_ms: i64,
    operation: &str,
    counters: &[(&str, &str)],
) -> Option<()> {
    let head = metadata["current-snapshot-id"].clone();
    let mut snapshots = metadata["snapshots"].as_array()?.iter();
    let mut snapshot = snapshots
        .find(|snapshot| snapshot["snapshot-id"] == head)?
        .clone();
    let sequence_number = metadata["last-sequence-number"].as_i64()? + 1;
    let id = (now_ms << 8) + sequence_number;
    let summary = snapshot["summary"].as_object_mut()?;
    summary.retain(|name, _| name.starts_with("total-"));
    summary.insert("operation".to_owned(), operation.into());
    summary.extend(
        counters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into())),
    );
    let last_ms = metadata["last-updated-ms"].as_i64()?;
    let listed = snapshot["manifest-list"].as_str()?;
    snapshot["manifest-list"] = format!("{COPY_OF}{listed}").into();
    snapshot["snapshot-id"] = id.into();
    snapshot["parent-snapshot-id"] = head;
    snapshot["sequence-number"] = sequence_number.into();
    snapshot["timestamp-ms"] = now_ms.max(last_ms).into();
    if metadata["format-version"] == 3 {
        // The list of a snapshot from before the upgrade gives no row its id.
        snapshot["first-row-id"].as_i64()?;
        snapshot["first-row-id"] = metadata["next-row-id"].clone();
        snapshot["added-rows"] = 0.into();
    }
    metadata["last-sequence-number"] = sequence_number.into();
    metadata["snapshots"].as_array_mut()?.push(snapshot);
    become_head(metadata, id.into(), now_ms.max(last_ms))
}

fn add_column(metadata: &mut Json) -> Option<()> {
    let current = metadata["current-schema-id"].as_i64()?;
    let id = metadata["last-column-id"].as_i64()? + 1;
    let schemas = metadata["schemas"].as_array_mut()?;
    let mut schema = schemas
        .iter()
        .find(|schema| schema["schema-id"] == current)?
        .clone();
    let schema_id = schemas
        .iter()
        .filter_map(|schema| schema["schema-id"].as_i64())
        .max()?
        + 1;
    let name = format!("foreign_{id}");
    let column = json!({"id": id, "name": name, "required": false, "type": "long"});
    schema["fields"].as_array_mut()?.push(column);
    schema["schema-id"] = schema_id.into();
    schemas.push(schema);
    metadata["current-schema-id"] = schema_id.into();
    metadata["last-column-id"] = id.into();
    Some(())
}
