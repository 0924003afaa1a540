//! Tables with one fault each: the reader from nothing finds it. What it checks, it checks.

use std::collections::BTreeMap;
use std::sync::Arc;

use apache_avro::types::Value as Avro;
use apache_avro::{Reader, Writer};
use bytes::Bytes;
use moonshine_engine::io::SimulatedIo;
use moonshine_export::catalog::Guard;
use moonshine_export::{Exporter, FormatVersion, LayoutSettings};
use moonshine_sim::lake::{Lake, SimulatedCatalog, SimulatedClock, environment};
use moonshine_sim::replay::{Objects, Replay};
use serde_json::{Value as Json, json};

use crate::database::{open_database, settings, table_of, write};

/// A table's objects, and where its newest metadata are.
#[derive(Clone)]
struct Copy {
    objects: BTreeMap<String, Bytes>,
    metadata_key: String,
}

impl Objects for Copy {
    fn object(&self, key: &str) -> Option<Bytes> {
        self.objects.get(key).cloned()
    }
}

/// Four snapshots: rows, others of them written anew twice, and the files rewritten.
fn healthy(version: FormatVersion) -> Copy {
    moonshine_sim_runtime::block_on(async {
        let clock = Arc::new(SimulatedClock::default());
        let lake = Lake::new(1, clock.clone());
        let catalog = SimulatedCatalog::of(&lake, Guard::Requirements, 0);
        let disk = SimulatedIo::new(1);
        let database = open_database(&disk);
        table_of(&database, "shop.a");
        let layout = LayoutSettings {
            partition_by: Some(vec!["bucket(2, id)".to_owned()]),
            ..LayoutSettings::default()
        };
        let environment = environment(clock, 1);
        let settings = settings(version, &layout, 1 << 20);
        let exporter = Exporter::open_with(database.clone(), catalog, settings, environment);
        let mut exporter = exporter.await.unwrap();
        for (round, keys) in [0..20, 5..8, 6..9].into_iter().enumerate() {
            write(&database, keys, &format!("round {round}"));
            exporter.tick(&database.snapshot()).await.unwrap();
        }
        let objects = lake.keys().into_iter();
        let objects = objects.map(|key| (key.clone(), lake.object(&key).unwrap()));
        Copy {
            objects: objects.collect(),
            metadata_key: lake.tables().remove(0).1,
        }
    })
}

type Fields = Vec<(String, Avro)>;

/// The field of that name, below a union.
fn field<'a>(fields: &'a mut Fields, name: &str) -> &'a mut Avro {
    let (_, value) = fields.iter_mut().find(|(field, _)| field == name).unwrap();
    match value {
        Avro::Union(_, inner) => inner,
        value => value,
    }
}

fn set(fields: &mut Fields, name: &str, change: impl Fn(i64) -> i64) {
    match field(fields, name) {
        Avro::Int(number) => *number = change(i64::from(*number)) as i32,
        Avro::Long(number) => *number = change(*number),
        other => panic!("{name} is {other:?}"),
    }
}

impl Copy {
    fn metadata(&self) -> Json {
        serde_json::from_slice(&self.objects[&self.metadata_key]).unwrap()
    }

    fn edit_metadata(&mut self, edit: impl FnOnce(&mut Json)) {
        let mut metadata = self.metadata();
        edit(&mut metadata);
        let bytes = metadata.to_string().into();
        self.objects.insert(self.metadata_key.clone(), bytes);
    }

    /// Edits the records of an Avro file; the new size.
    fn edit_avro(&mut self, key: &str, mut edit: impl FnMut(&mut Vec<Fields>)) -> usize {
        let bytes = self.objects[key].clone();
        let reader = Reader::new(bytes.as_ref()).unwrap();
        let schema = reader.writer_schema().clone();
        let header = reader.user_metadata().clone();
        let records = reader.map(|record| match record.unwrap() {
            Avro::Record(fields) => fields,
            other => panic!("{other:?}"),
        });
        let mut records: Vec<Fields> = records.collect();
        edit(&mut records);
        let mut writer = Writer::new(&schema, Vec::new());
        for (name, value) in header {
            writer.add_user_metadata(name, value).unwrap();
        }
        for record in records {
            writer.append(Avro::Record(record)).unwrap();
        }
        let bytes = Bytes::from(writer.into_inner().unwrap());
        let size = bytes.len();
        self.objects.insert(key.to_owned(), bytes);
        size
    }

    fn newest_list(&self) -> String {
        let metadata = self.metadata();
        let snapshots = metadata["snapshots"].as_array().unwrap();
        let newest = snapshots
            .iter()
            .max_by_key(|snapshot| snapshot["sequence-number"].as_i64());
        newest.unwrap()["manifest-list"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Edits what the newest list says of manifests of that content.
    fn edit_list(&mut self, content: i64, edit: impl Fn(&mut Fields)) {
        let list = self.newest_list();
        self.edit_avro(&list, |records| {
            let mut of_content = records.iter_mut().filter_map(|record| {
                let Avro::Int(found) = field(record, "content") else {
                    return None;
                };
                (i64::from(*found) == content).then_some(record)
            });
            edit(of_content.next().unwrap());
        });
    }

    /// Edits the entries of the newest manifest of that content, and has the lists know its new size.
    fn edit_manifest(&mut self, content: i64, edit: impl Fn(&mut Vec<Fields>)) {
        let path = std::cell::RefCell::new(String::new());
        self.edit_list(content, |listed| {
            let Avro::String(found) = field(listed, "manifest_path") else {
                panic!("no path");
            };
            path.replace(found.clone());
        });
        let path = path.into_inner();
        let size = self.edit_avro(&path, |records| edit(records)) as i64;
        let lists: Vec<String> = self.objects.keys().cloned().collect();
        for list in lists.iter().filter(|key| key.ends_with("snapshot.avro")) {
            self.edit_avro(list, |records| {
                for record in records {
                    if *field(record, "manifest_path") == Avro::String(path.clone()) {
                        set(record, "manifest_length", |_| size);
                    }
                }
            });
        }
    }

    fn edit_files(&mut self, content: i64, edit: impl Fn(&mut Fields)) {
        self.edit_manifest(content, |entries| {
            let Avro::Record(file) = field(&mut entries[0], "data_file") else {
                panic!("no file");
            };
            edit(file);
        });
    }

    fn finding(&self) -> Option<String> {
        let read = Replay::default().table(self, &self.metadata_key);
        read.err().map(|finding| finding.to_string())
    }

    #[track_caller]
    fn is_found(&self, expected: &str) {
        let finding = self.finding().unwrap_or_default();
        assert!(
            finding.contains(expected),
            "{expected:?} is not in {finding:?}"
        );
    }
}

fn snapshot(metadata: &mut Json, at: usize) -> &mut Json {
    let snapshots = metadata["snapshots"].as_array_mut().unwrap();
    snapshots.sort_by_key(|snapshot| snapshot["sequence-number"].as_i64());
    &mut snapshots[at]
}

const VERSIONS: [FormatVersion; 2] = [FormatVersion::V2, FormatVersion::V3];
const DATA: i64 = 0;
const DELETES: i64 = 1;

/// Invariants 4 "once" and 6 "monotonic".
#[test]
fn positions_that_are_wrong_are_found() {
    for version in VERSIONS {
        let healthy = healthy(version);
        assert_eq!(healthy.finding(), None);
        let stamp = |at: usize, name: &str, value: Json| {
            let mut copy = healthy.clone();
            copy.edit_metadata(|metadata| snapshot(metadata, at)["summary"][name] = value);
            copy
        };
        let mut metadata = healthy.metadata();
        let first_id = snapshot(&mut metadata, 0)["summary"]["moonshine.commit-id"].clone();
        stamp(2, "moonshine.commit-id", first_id).is_found("is there twice");
        stamp(0, "moonshine.commit-seq", "1000000".into()).is_found("behind it");
        stamp(0, "moonshine.writer-epoch", "9000000000000".into()).is_found("behind it");
        stamp(1, "total-records", "1".into()).is_found("total-records");
        stamp(1, "added-data-files", "7".into()).is_found("added-data-files");
        stamp(2, "removed-delete-files", "0".into()).is_found("removed-delete-files");
    }
}

/// Invariant 5 "same": what readers go by.
#[test]
fn metadata_that_are_wrong_are_found() {
    for version in VERSIONS {
        let healthy = healthy(version);
        let edited = |edit: &dyn Fn(&mut Json)| {
            let mut copy = healthy.clone();
            copy.edit_metadata(edit);
            copy
        };
        edited(&|metadata| snapshot(metadata, 1)["sequence-number"] = json!(1))
            .is_found("sequence number");
        edited(&|metadata| metadata["last-sequence-number"] = json!(1)).is_found("last-sequence");
        edited(&|metadata| metadata["current-snapshot-id"] = json!(1)).is_found("current snapshot");
        edited(&|metadata| metadata["last-column-id"] = json!(1)).is_found("last-column-id");
        edited(&|metadata| metadata["format-version"] = json!(1)).is_found("format version");
        edited(&|metadata| snapshot(metadata, 2)["timestamp-ms"] = json!(1)).is_found("its parent");
        if version == FormatVersion::V3 {
            edited(&|metadata| metadata["next-row-id"] = json!(5)).is_found("next-row-id");
            edited(&|metadata| snapshot(metadata, 0)["added-rows"] = json!(3))
                .is_found("are not of the snapshot");
        }
    }
}

/// Invariant 5 "same": whatever is named is there.
#[test]
fn objects_that_are_gone_are_found() {
    for version in VERSIONS {
        let healthy = healthy(version);
        let is_named = |key: &&String| key.contains("/data/") || key.ends_with(".avro");
        let keys: Vec<&String> = healthy.objects.keys().filter(is_named).collect();
        assert!(keys.len() > 8);
        for key in keys {
            let mut copy = healthy.clone();
            copy.objects.remove(key);
            copy.is_found(key);
            // Remembered as it was, and gone since.
            let mut replay = Replay::default();
            replay.table(&healthy, &healthy.metadata_key).unwrap();
            let finding = replay.table(&copy, &copy.metadata_key).unwrap_err();
            assert!(finding.to_string().contains(key.as_str()), "{finding}");
        }
    }
}

/// Invariant 8 "honest": any bit of a deletion vector.
#[test]
fn vectors_that_are_damaged_are_found() {
    let healthy = healthy(FormatVersion::V3);
    let vectors = healthy
        .objects
        .keys()
        .filter(|key| key.ends_with(".puffin"));
    for key in vectors {
        for byte in 4..30 {
            let mut copy = healthy.clone();
            let mut bytes = copy.objects[key].to_vec();
            bytes[byte] ^= 1 << (byte % 8);
            copy.objects.insert(key.clone(), bytes.into());
            copy.is_found(key);
        }
    }
}

/// Invariant 5 "same": manifests and their lists.
#[test]
fn manifests_that_are_wrong_are_found() {
    for version in VERSIONS {
        let healthy = healthy(version);
        let listed = |content: i64, edit: &dyn Fn(&mut Fields)| {
            let mut copy = healthy.clone();
            copy.edit_list(content, edit);
            copy
        };
        listed(DATA, &|listed| {
            set(listed, "added_files_count", |count| count + 1)
        })
        .is_found("its list says");
        listed(DATA, &|listed| {
            set(listed, "manifest_length", |length| length + 1)
        })
        .is_found("bytes, and its list says");
        listed(DATA, &|listed| {
            set(listed, "sequence_number", |number| number + 50)
        })
        .is_found("sequence number");
        listed(DATA, &|listed| {
            set(listed, "min_sequence_number", |number| number + 50)
        })
        .is_found("min_sequence_number");
        listed(DATA, &|listed| {
            set(listed, "partition_spec_id", |id| id + 1)
        })
        .is_found("partition spec");
        let of_file = |content: i64, edit: &dyn Fn(&mut Fields)| {
            let mut copy = healthy.clone();
            copy.edit_files(content, edit);
            copy
        };
        of_file(DELETES, &|file| set(file, "content", |_| 2)).is_found("equality deletes");
        of_file(DATA, &|file| set(file, "record_count", |count| count + 1))
            .is_found("its list says");
        of_file(DATA, &|file| {
            set(file, "file_size_in_bytes", |size| size + 1)
        })
        .is_found("its entry says");
        of_file(DELETES, &|file| {
            set(file, "record_count", |count| count - 1)
        })
        .is_found("its list says");
        of_file(DATA, &|file| {
            let Avro::Record(partition) = field(file, "partition") else {
                panic!("no partition");
            };
            partition[0].1 = Avro::Union(1, Box::new(Avro::Int(77)));
        })
        .is_found("in partition");
        of_file(DATA, &|file| {
            let Avro::Array(bounds) = field(file, "lower_bounds") else {
                panic!("no bounds");
            };
            for bound in bounds {
                let Avro::Record(bound) = bound else {
                    panic!("no bound");
                };
                if *field(bound, "key") == Avro::Int(1) {
                    *field(bound, "value") = Avro::Bytes(100_i64.to_le_bytes().to_vec());
                }
            }
        })
        .is_found("outside of");
    }
}

/// Invariant 5 "same": one vector a data file at most, and rows that keep their ids.
#[test]
fn deletes_and_row_ids_that_are_wrong_are_found() {
    let healthy = healthy(FormatVersion::V3);
    let mut copy = healthy.clone();
    copy.edit_files(DELETES, |file| {
        *field(file, "referenced_data_file") = Avro::String("memory://nowhere".to_owned());
    });
    copy.is_found("names no such vector");
    let mut copy = healthy.clone();
    copy.edit_files(DELETES, |file| {
        set(file, "content_offset", |offset| offset + 1)
    });
    copy.is_found("names no such vector");
    let mut copy = healthy.clone();
    copy.edit_list(DATA, |listed| set(listed, "first_row_id", |_| 0));
    copy.is_found("its row ids");
    let mut copy = healthy.clone();
    copy.edit_list(DATA, |listed| set(listed, "first_row_id", |id| id + 1));
    copy.edit_metadata(|metadata| metadata["next-row-id"] = json!(500));
    copy.is_found("its row ids");
}
