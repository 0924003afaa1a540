//! A database whose checksums all fit and that says what is not so, as a faulty build might have written it.
//!
//! Defends *honest*: each such thing is named by a check, and nothing else.

use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::tree::NamedState;
use crate::codec::key::hash_key;
use crate::database::Database;
use crate::exported::location::RowLocation;
use crate::generation::LOCATIONS_BIT;
use crate::io::{Io, SimulatedIo};
use crate::manifest::Manifest;
use crate::options::Options;
use crate::recovery::tree_folder;
use crate::row_set::file::delta_file_path;
use crate::row_set::meta::{RowSetHead, RowSetMeta};
use crate::row_set::patch::TargetOrdinals;
use crate::row_set::rows_page::RowRef;
use crate::row_set::writer::{DeltaFileOptions, DeltaFileWriter};
use crate::tree::edit::{Change, encode_edit};
use crate::tree::edit_log::{EditLog, Replayed, replay_edits};
use crate::tree::fragment::{Fragment, FragmentId};
use crate::tree::store::state_of;

const FOLDER: &str = "/db";

/// A keyspace, of a tree that is divided, and the log behind it.
struct Forged {
    io: SimulatedIo,
    database_id: Uuid,
}

impl Forged {
    fn new() -> Self {
        let io = SimulatedIo::new(1);
        let database = Database::open(FOLDER, options(&io)).unwrap();
        let pairs = database.keyspace("pairs").unwrap();
        for i in 0..200_u32 {
            pairs.insert(i.to_be_bytes(), [7; 100]).unwrap();
        }
        database.flush().unwrap();
        database.compact().unwrap();
        drop((database, pairs));
        let manifest = Manifest::read(&io, Path::new(FOLDER)).unwrap().unwrap();
        let forged = Forged {
            io,
            database_id: manifest.database_id,
        };
        assert_eq!(forged.reasons(), Vec::<String>::new());
        assert!(leaves(&forged.state()).len() > 1);
        forged
    }

    fn reasons(&self) -> Vec<String> {
        let check = Database::check(FOLDER, &options(&self.io)).unwrap();
        let problems = check.problems.into_iter();
        problems.map(|problem| problem.reason).collect()
    }

    fn edits(&self) -> Replayed {
        let folder = tree_folder(Path::new(FOLDER));
        let edits = replay_edits(&self.io, &folder, self.database_id, true);
        edits.unwrap().unwrap()
    }

    fn state(&self) -> NamedState {
        state_of(&self.edits()).unwrap()
    }

    fn append(&self, changes: &[Change<Arc<RowSetMeta>>]) {
        let folder = tree_folder(Path::new(FOLDER));
        let io = Arc::new(self.io.clone());
        let mut log = EditLog::resume(io, &folder, self.database_id, &self.edits()).unwrap();
        log.append(&encode_edit(changes)).unwrap();
    }

    /// Adds a RowSet of one row to a fragment, newer than all others, and with the patch that is given.
    fn add(
        &self,
        (table_id, fragment_id): (u32, FragmentId),
        row: (&[u8], &[u8]),
        patch: &[TargetOrdinals],
    ) {
        let seq_from = self.state().flushed_seq;
        let head = RowSetHead {
            table_id,
            fragment_id: fragment_id.0,
            seq_from,
            seq_to: seq_from + 1,
        };
        self.add_with(head, row, patch);
    }

    fn add_with(&self, head: RowSetHead, (key, value): (&[u8], &[u8]), patch: &[TargetOrdinals]) {
        let number = self.state().next_file_number;
        let path = delta_file_path(&tree_folder(Path::new(FOLDER)), number);
        let io: Arc<dyn Io> = Arc::new(self.io.clone());
        let options = DeltaFileOptions::default();
        let mut writer =
            DeltaFileWriter::create(io, &path, self.database_id, number, options).unwrap();
        writer.begin(head).unwrap();
        let row = RowRef {
            key,
            value: Some(value),
        };
        writer.push(row, hash_key(key), None).unwrap();
        let meta = writer.finish_row_set().unwrap().unwrap();
        let patch = match patch {
            [] => None,
            targets => Some(Arc::new(writer.write_patch(targets).unwrap())),
        };
        writer.finish().unwrap();
        let added = Arc::new(RowSetMeta { patch, ..meta });
        self.append(&[Change::NextFile(number + 1), Change::Add(added)]);
    }
}

fn options(io: &SimulatedIo) -> Options {
    Options {
        io: Arc::new(io.clone()),
        generation_size_bytes_max: Some(4096),
        fragment_size_bytes_max: Some(4096),
        ..Options::unmeasured()
    }
}

/// The leaves of the first table.
fn leaves(state: &NamedState) -> Vec<Arc<Fragment<Arc<RowSetMeta>>>> {
    let fragments = state.tables[0].rows.fragments.fragments();
    let leaves = fragments.into_iter().filter(|one| one.children.is_none());
    leaves.cloned().collect()
}

/// A key that belongs to the leaf, or to another one.
fn key_of(state: &NamedState, leaf: FragmentId, belongs: bool) -> Vec<u8> {
    let tree = &state.tables[0].rows.fragments;
    let mut keys = (1_000_000..1_001_000_u32).map(|i| i.to_be_bytes());
    let is_wanted = |key: &[u8; 4]| {
        let mut path = tree.path(hash_key(key), key);
        path.any(|fragment| fragment.id == leaf) == belongs
    };
    keys.find(is_wanted).unwrap().to_vec()
}

#[test]
fn a_row_of_another_fragment_is_named() {
    let forged = Forged::new();
    let state = forged.state();
    let leaf = leaves(&state)[0].id;
    let right = key_of(&state, leaf, true);
    forged.add((0, leaf), (&right, b"value"), &[]);
    assert_eq!(forged.reasons(), Vec::<String>::new());
    let forged = Forged::new();
    let wrong = key_of(&state, leaf, false);
    forged.add((0, leaf), (&wrong, b"value"), &[]);
    assert_eq!(forged.reasons(), ["a row belongs to another fragment"]);
}

#[test]
fn a_patch_of_rows_that_nothing_replaces_is_named() {
    let forged = Forged::new();
    let state = forged.state();
    let leaf = leaves(&state)
        .into_iter()
        .find(|leaf| !leaf.row_sets.is_empty())
        .unwrap();
    let mut target = TargetOrdinals::new(leaf.row_sets[0].place());
    target.push(0, true);
    let key = key_of(&state, leaf.id, true);
    forged.add((0, leaf.id), (&key, b"value"), &[target]);
    let reason = "a patch names a row that nothing replaces";
    assert_eq!(forged.reasons(), [reason]);
}

#[test]
fn a_location_in_an_unknown_file_is_named() {
    let mut location = Vec::new();
    let place = RowLocation {
        file: 0,
        position: 3,
        row_id: None,
    };
    place.encode(&mut location);
    // One that can't be read is no better.
    for value in [&location[..], b"?"] {
        let forged = Forged::new();
        forged.add((LOCATIONS_BIT, FragmentId::ROOT), (b"key", value), &[]);
        let reason = "a location names a file that the table was not exported to";
        assert_eq!(forged.reasons(), [reason]);
    }
}

#[test]
fn a_log_that_ends_before_what_was_flushed_is_named() {
    let forged = Forged::new();
    let state = forged.state();
    forged.append(&[Change::Flushed {
        seq: state.flushed_seq,
        facts_through_block: state.facts_through_block + 1000,
        log_start: state.log_start,
    }]);
    let reason = "the log ends before what was flushed from it";
    assert_eq!(forged.reasons(), [reason]);
}

#[test]
fn missing_edits_are_named() {
    let forged = Forged::new();
    let path = forged.edits().path().to_owned();
    forged.io.remove(&path).unwrap();
    let reasons = forged.reasons();
    let is_named = |reason: &String| reason.contains("the log of edits is missing");
    assert!(reasons.iter().any(is_named), "{reasons:?}");
}

#[test]
fn older_commits_above_newer_ones_are_named() {
    let forged = Forged::new();
    let head = RowSetHead {
        table_id: 0,
        fragment_id: FragmentId::ROOT.0,
        seq_from: 0,
        seq_to: 1,
    };
    forged.add_with(head, (b"key", b"value"), &[]);
    let reasons = forged.reasons();
    let order = "the edits place a RowSet wrongly: its commits are not older than those before it";
    assert!(
        !reasons.is_empty() && reasons.iter().all(|reason| reason == order),
        "{reasons:?}"
    );
}

#[test]
fn a_missing_file_is_named() {
    let forged = Forged::new();
    let number = forged.state().next_file_number;
    let head = RowSetHead {
        fragment_id: FragmentId::ROOT.0,
        seq_from: forged.state().flushed_seq,
        seq_to: forged.state().flushed_seq + 1,
        ..RowSetHead::default()
    };
    let meta = RowSetMeta {
        head,
        file_number: number,
        ..RowSetMeta::default()
    };
    forged.append(&[Change::NextFile(number + 1), Change::Add(Arc::new(meta))]);
    assert_eq!(forged.reasons(), ["the file is missing"]);
}
