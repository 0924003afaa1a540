//! What a catalog server does with a commit: requirements are looked at, and updates made, on the metadata's JSON. It shares
//! no code with the client, so a client's claim about what becomes of a table is checked.

use std::sync::Arc;

use iceberg::TableIdent;
use iceberg::spec::TableMetadata;
use moonshine_export::catalog::{Change, NewTable};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::network::{Commit, Done};
use super::{LakeTable, State};

/// How many old metadata files a table keeps unless it says otherwise.
const PREVIOUS_VERSIONS_MAX: usize = 100;

type Applied<T> = Result<T, String>;

fn list<'a>(metadata: &'a mut Json, name: &str) -> &'a mut Vec<Json> {
    if !metadata[name].is_array() {
        metadata[name] = json!([]);
    }
    metadata[name].as_array_mut().expect("it was just made one")
}

fn number(json: &Json, name: &str) -> Applied<i64> {
    json[name]
        .as_i64()
        .ok_or_else(|| format!("no number {name} in {json}"))
}

/// The greatest field id within a schema or a type.
fn last_field_id(json: &Json) -> i64 {
    match json {
        Json::Object(parts) => {
            let ids = ["id", "element-id", "key-id", "value-id"];
            let own = ids.iter().filter_map(|name| parts.get(*name)?.as_i64());
            own.chain(parts.values().map(last_field_id))
                .max()
                .unwrap_or(0)
        }
        Json::Array(parts) => parts.iter().map(last_field_id).max().unwrap_or(0),
        _ => 0,
    }
}

/// Whether the table is what a requirement demands.
fn holds(metadata: &Json, requirement: &Json) -> Applied<bool> {
    let same = |name: &str, as_name: &str| requirement[name] == metadata[as_name];
    Ok(match requirement["type"].as_str().unwrap_or_default() {
        "assert-create" => false,
        "assert-table-uuid" => same("uuid", "table-uuid"),
        "assert-ref-snapshot-id" => {
            let name = requirement["ref"].as_str().unwrap_or_default();
            requirement["snapshot-id"] == metadata["refs"][name]["snapshot-id"]
        }
        "assert-last-assigned-field-id" => same("last-assigned-field-id", "last-column-id"),
        "assert-current-schema-id" => same("current-schema-id", "current-schema-id"),
        "assert-last-assigned-partition-id" => {
            same("last-assigned-partition-id", "last-partition-id")
        }
        "assert-default-spec-id" => same("default-spec-id", "default-spec-id"),
        "assert-default-sort-order-id" => same("default-sort-order-id", "default-sort-order-id"),
        other => return Err(format!("an unknown requirement {other}")),
    })
}

/// Adds something that has an id to a list, or finds what is the same but for the id; the id.
fn add(metadata: &mut Json, name: &str, id_name: &str, mut added: Json) -> Applied<i64> {
    let listed = list(metadata, name);
    let mut ids = Vec::new();
    for known in listed.iter() {
        let id = number(known, id_name)?;
        added[id_name] = id.into();
        if *known == added {
            return Ok(id);
        }
        ids.push(id);
    }
    let id = ids.into_iter().max().map_or(0, |id| id + 1);
    added[id_name] = id.into();
    listed.push(added);
    Ok(id)
}

/// The ids of added things, which `-1` stands for.
#[derive(Default)]
struct Added {
    schema: Option<i64>,
    spec: Option<i64>,
    order: Option<i64>,
    /// When the newest added snapshot was made.
    snapshot_ms: Option<i64>,
    snapshots: Vec<i64>,
}

fn update(metadata: &mut Json, update: &Json, added: &mut Added) -> Applied<()> {
    let set_default = |metadata: &mut Json, name: &str, said: &str, last: Option<i64>| {
        let id = number(update, said)?;
        let id = if id == -1 {
            last.ok_or("nothing was added")?
        } else {
            id
        };
        metadata[name] = id.into();
        Applied::Ok(())
    };
    match update["action"].as_str().unwrap_or_default() {
        "assign-uuid" => metadata["table-uuid"] = update["uuid"].clone(),
        "upgrade-format-version" => {
            let version = number(update, "format-version")?;
            if version >= 3 && metadata["next-row-id"].is_null() {
                metadata["next-row-id"] = 0.into();
            }
            metadata["format-version"] = version.into();
        }
        "add-schema" => {
            let last = last_field_id(&update["schema"]).max(number(metadata, "last-column-id")?);
            added.schema = Some(add(
                metadata,
                "schemas",
                "schema-id",
                update["schema"].clone(),
            )?);
            metadata["last-column-id"] = last.into();
        }
        "set-current-schema" => {
            set_default(metadata, "current-schema-id", "schema-id", added.schema)?;
        }
        "add-spec" => {
            let spec = bound_spec(metadata, &update["spec"])?;
            added.spec = Some(add(metadata, "partition-specs", "spec-id", spec)?);
        }
        "set-default-spec" => set_default(metadata, "default-spec-id", "spec-id", added.spec)?,
        "add-sort-order" => added.order = Some(add_order(metadata, &update["sort-order"])?),
        "set-default-sort-order" => {
            set_default(
                metadata,
                "default-sort-order-id",
                "sort-order-id",
                added.order,
            )?;
        }
        _ => update_contents(metadata, update, added)?,
    }
    Ok(())
}

/// As [`update`], of what is not the table's shape.
fn update_contents(metadata: &mut Json, update: &Json, added: &mut Added) -> Applied<()> {
    match update["action"].as_str().unwrap_or_default() {
        "add-snapshot" => add_snapshot(metadata, &update["snapshot"], added)?,
        "set-snapshot-ref" => set_reference(metadata, update)?,
        "remove-snapshots" => remove_snapshots(metadata, update)?,
        "remove-snapshot-ref" => {
            let name = update["ref-name"].as_str().unwrap_or_default();
            let references = metadata["refs"].as_object_mut().ok_or("no refs")?;
            references.remove(name);
            if name == "main" {
                metadata["current-snapshot-id"] = Json::Null;
            }
        }
        "set-location" => metadata["location"] = update["location"].clone(),
        "set-properties" => {
            let updates = update["updates"].as_object().ok_or("no updates")?;
            for (name, value) in updates {
                metadata["properties"][name] = value.clone();
            }
        }
        "remove-properties" => {
            let removals = update["removals"].as_array().ok_or("no removals")?;
            let properties = metadata["properties"]
                .as_object_mut()
                .ok_or("no properties")?;
            let names = removals.iter().filter_map(Json::as_str);
            names.for_each(|name| drop(properties.remove(name)));
        }
        "set-statistics" => {
            let file = update["statistics"].clone();
            let id = number(&file, "snapshot-id")?;
            let files = list(metadata, "statistics");
            files.retain(|known| known["snapshot-id"] != id);
            files.push(file);
        }
        "remove-statistics" | "remove-partition-statistics" => {
            let id = number(update, "snapshot-id")?;
            let name = match update["action"] == "remove-statistics" {
                true => "statistics",
                false => "partition-statistics",
            };
            list(metadata, name).retain(|known| known["snapshot-id"] != id);
        }
        other => return Err(format!("an unknown update {other}")),
    }
    Ok(())
}

/// A partition spec whose fields have ids: those of the same fields of earlier specs, or new ones.
fn bound_spec(metadata: &mut Json, spec: &Json) -> Applied<Json> {
    let mut last = number(metadata, "last-partition-id")?;
    let earlier: Vec<Json> = list(metadata, "partition-specs").clone();
    let earlier = earlier.iter().filter_map(|spec| spec["fields"].as_array());
    let known: Vec<Json> = earlier.flatten().cloned().collect();
    let mut fields = spec["fields"].as_array().cloned().unwrap_or_default();
    for field in &mut fields {
        let is_it = |known: &&Json| {
            known["source-id"] == field["source-id"] && known["transform"] == field["transform"]
        };
        let id = known
            .iter()
            .find(is_it)
            .and_then(|known| known["field-id"].as_i64());
        let id = id.unwrap_or_else(|| {
            last += 1;
            last
        });
        field["field-id"] = id.into();
    }
    metadata["last-partition-id"] = last.into();
    Ok(json!({"spec-id": 0, "fields": fields}))
}

/// The order of number 0 is none.
fn add_order(metadata: &mut Json, order: &Json) -> Applied<i64> {
    let mut added = order.clone();
    let is_unsorted = added["fields"].as_array().is_none_or(Vec::is_empty);
    let orders = list(metadata, "sort-orders");
    let mut ids = vec![0];
    for known in orders.iter() {
        if known["fields"] == added["fields"] {
            return number(known, "order-id");
        }
        ids.push(number(known, "order-id")?);
    }
    let next = ids.into_iter().max().unwrap_or(0) + 1;
    let id = if is_unsorted { 0 } else { next };
    added["order-id"] = id.into();
    orders.push(added);
    Ok(id)
}

fn add_snapshot(metadata: &mut Json, snapshot: &Json, added: &mut Added) -> Applied<()> {
    let id = number(snapshot, "snapshot-id")?;
    let sequence_number = number(snapshot, "sequence-number")?;
    let last = number(metadata, "last-sequence-number")?;
    if list(metadata, "snapshots")
        .iter()
        .any(|known| known["snapshot-id"] == id)
    {
        return Err(format!("snapshot {id} is there already"));
    }
    if sequence_number <= last {
        return Err(format!("sequence number {sequence_number} behind {last}"));
    }
    if number(metadata, "format-version")? >= 3 {
        let next = number(metadata, "next-row-id")?;
        let first = number(snapshot, "first-row-id")?;
        if first < next {
            return Err(format!("first-row-id {first} below next-row-id {next}"));
        }
        metadata["next-row-id"] = (first + number(snapshot, "added-rows")?).into();
    }
    metadata["last-sequence-number"] = sequence_number.into();
    added.snapshot_ms = Some(number(snapshot, "timestamp-ms")?);
    added.snapshots.push(id);
    list(metadata, "snapshots").push(snapshot.clone());
    Ok(())
}

fn set_reference(metadata: &mut Json, update: &Json) -> Applied<()> {
    let name = update["ref-name"].as_str().ok_or("no ref-name")?;
    let id = number(update, "snapshot-id")?;
    if list(metadata, "snapshots")
        .iter()
        .all(|known| known["snapshot-id"] != id)
    {
        return Err(format!(
            "reference {name} to snapshot {id}, which is not there"
        ));
    }
    let parts = update.as_object().ok_or("no object")?.iter();
    let parts = parts.filter(|(name, value)| {
        !["action", "ref-name"].contains(&name.as_str()) && !value.is_null()
    });
    let reference: Map<String, Json> = parts
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    metadata["refs"][name] = reference.into();
    if name == "main" {
        metadata["current-snapshot-id"] = id.into();
        list(metadata, "snapshot-log").push(json!({"snapshot-id": id, "timestamp-ms": null}));
    }
    Ok(())
}

fn remove_snapshots(metadata: &mut Json, update: &Json) -> Applied<()> {
    let removed = update["snapshot-ids"]
        .as_array()
        .ok_or("no snapshot-ids")?
        .clone();
    list(metadata, "snapshots").retain(|known| !removed.contains(&known["snapshot-id"]));
    for name in ["statistics", "partition-statistics"] {
        list(metadata, name).retain(|known| !removed.contains(&known["snapshot-id"]));
    }
    let references = metadata["refs"].as_object_mut().ok_or("no refs")?;
    references.retain(|_, reference| !removed.contains(&reference["snapshot-id"]));
    if references.get("main").is_none() {
        metadata["current-snapshot-id"] = Json::Null;
    }
    // What lies before a gap in the log is no history any more.
    let log = list(metadata, "snapshot-log");
    let gap = log
        .iter()
        .rposition(|entry| removed.contains(&entry["snapshot-id"]));
    if let Some(gap) = gap {
        log.drain(..=gap);
    }
    Ok(())
}

/// What follows on some metadata, and the metadata files that fall off its log.
pub(super) fn apply(
    base: &LakeTable,
    change: &Change,
    now_ms: i64,
) -> Applied<(Json, Vec<String>)> {
    let said = |error: serde_json::Error| error.to_string();
    let mut metadata = serde_json::to_value(base.metadata.as_ref()).map_err(said)?;
    let before_ms = number(&metadata, "last-updated-ms")?;
    let mut added = Added::default();
    for each in &change.updates {
        let each = serde_json::to_value(each).map_err(said)?;
        update(&mut metadata, &each, &mut added).map_err(|error| format!("{each}: {error}"))?;
    }
    let updated_ms = added.snapshot_ms.unwrap_or(now_ms).max(before_ms);
    metadata["last-updated-ms"] = updated_ms.into();
    for entry in list(&mut metadata, "snapshot-log") {
        if entry["timestamp-ms"].is_null() {
            entry["timestamp-ms"] = updated_ms.into();
        }
    }
    let kept = &metadata["properties"]["write.metadata.previous-versions-max"];
    let kept = kept.as_str().and_then(|count| count.parse().ok());
    let kept = kept.unwrap_or(PREVIOUS_VERSIONS_MAX).max(1);
    let deletes = &metadata["properties"]["write.metadata.delete-after-commit.enabled"];
    let deletes = deletes == "true";
    let log = list(&mut metadata, "metadata-log");
    log.push(json!({"metadata-file": base.metadata_location, "timestamp-ms": before_ms}));
    let expired = log.drain(..log.len().saturating_sub(kept));
    let expired = expired.filter_map(|entry| entry["metadata-file"].as_str().map(str::to_owned));
    let expired: Vec<String> = expired.filter(|_| deletes).collect();
    Ok((metadata, expired))
}

/// The metadata of a new table.
pub(super) fn new_metadata(table: &NewTable, uuid: Uuid, now_ms: i64) -> Applied<Json> {
    let said = |error: serde_json::Error| error.to_string();
    let schema = serde_json::to_value(&table.schema).map_err(said)?;
    let order = serde_json::to_value(&table.sort_order).map_err(said)?;
    let location = table.location.clone().ok_or("it has no folder")?;
    let mut metadata = json!({
        "format-version": table.format_version as u8,
        "table-uuid": uuid.to_string(),
        "location": location,
        "last-sequence-number": 0,
        "last-updated-ms": now_ms,
        "last-column-id": last_field_id(&schema),
        "schemas": [],
        "partition-specs": [],
        "last-partition-id": 999,
        "sort-orders": [],
        "properties": table.properties,
        "refs": {},
        "snapshots": [],
    });
    if table.format_version as u8 >= 3 {
        metadata["next-row-id"] = 0.into();
    }
    let spec = serde_json::to_value(&table.partition_spec).map_err(said)?;
    let spec = bound_spec(&mut metadata, &spec)?;
    metadata["current-schema-id"] = add(&mut metadata, "schemas", "schema-id", schema)?.into();
    metadata["default-spec-id"] = add(&mut metadata, "partition-specs", "spec-id", spec)?.into();
    metadata["default-sort-order-id"] = add_order(&mut metadata, &order)?.into();
    Ok(metadata)
}

impl State {
    /// Makes a commit, if the table is what it demands.
    pub(super) fn commit(&mut self, commit: &Commit, now_ms: i64) -> Done {
        let Some(current) = self.tables.get(&commit.base.ident.to_string()).cloned() else {
            return Done::Refused("status 404".to_owned());
        };
        let is_base = current.metadata_location == commit.base.metadata_location;
        if commit.compares_location && !is_base {
            return Done::Conflict;
        }
        let metadata = match serde_json::to_value(current.metadata.as_ref()) {
            Ok(metadata) => metadata,
            Err(error) => return Done::Refused(error.to_string()),
        };
        for requirement in &commit.change.requirements {
            let requirement = serde_json::to_value(requirement).unwrap_or_default();
            match holds(&metadata, &requirement) {
                Ok(true) => {}
                Ok(false) => return Done::Conflict,
                Err(error) => return Done::Refused(error),
            }
        }
        match apply(&current, &commit.change, now_ms) {
            Ok((next, expired)) => {
                self.publish(&current.ident, next, commit.file_id, expired, now_ms)
            }
            Err(error) => {
                // The exporter demanded what it needs: what it asks for then has to be possible. Only other writers can take a
                // sequence number and have the table look as before, and no demand can name the version of the format.
                let versions = [&current, &commit.base].map(|one| one.metadata.format_version());
                if self.deeds == 0 && versions[0] == versions[1] {
                    self.violations.push(format!("{}: {error}", current.ident));
                }
                Done::Refused(error)
            }
        }
    }

    /// Makes this the newest metadata of a table.
    pub(super) fn publish(
        &mut self,
        ident: &TableIdent,
        metadata: Json,
        file_id: Uuid,
        expired: Vec<String>,
        now_ms: i64,
    ) -> Done {
        let parsed: TableMetadata = match serde_json::from_value(metadata.clone()) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.violations
                    .push(format!("{ident}: {error}: {metadata}"));
                return Done::Refused(error.to_string());
            }
        };
        let number = metadata["metadata-log"].as_array().map_or(0, Vec::len);
        let location = parsed.location();
        let table = LakeTable {
            ident: ident.clone(),
            metadata_location: format!("{location}/metadata/{number:05}-{file_id}.metadata.json"),
            metadata: Arc::new(parsed),
        };
        self.put(
            &table.metadata_location,
            metadata.to_string().into(),
            now_ms,
        );
        self.tables.insert(table.ident.to_string(), table.clone());
        for key in expired {
            self.delete(&key, now_ms);
        }
        Done::Committed(table)
    }
}
