//! An export whose locations go into the tree by a load, beside who looks for changes.

use uuid::Uuid;

use super::small::{join, open, start};
use crate::database::Database;
use crate::error::Error;
use crate::export::Export;
use crate::exported::ExportFile;
use crate::io::SimulatedIo;
use crate::keyspace::Keyspace;

/// The least there is. Locations of so many keys that are so long take more.
const GENERATION_SIZE_BYTES: u64 = 4096;
const KEYS: u8 = 8;
const KEY_SIZE_BYTES: usize = 512;

fn write_all(keyspace: &Keyspace) {
    let mut batch = keyspace.batch();
    for key in 0..KEYS {
        batch
            .insert([key; KEY_SIZE_BYTES], [])
            .expect("a key that is short enough");
    }
    batch.commit().expect("the disk is sound");
}

/// Exports all keys to a file of that number, but for the last step.
fn prepared(database: &Database, keyspace: &Keyspace, number: u128) -> Export {
    let (table, snapshot) = (keyspace.table(), database.snapshot());
    let mut export = database
        .begin_export(table, &snapshot)
        .expect("nobody else exports");
    let file = ExportFile {
        path: number.to_string(),
        row_count: u64::from(KEYS),
    };
    let commit_id = Uuid::from_u128(number);
    export
        .prepare(commit_id, &[file])
        .expect("the disk is sound");
    export
}

/// All rows are in the place of exported ones, or nothing is different any more.
pub(super) fn changes_know_their_places() {
    let database = open(&SimulatedIo::new(1), GENERATION_SIZE_BYTES);
    let keyspace = database.keyspace("numbers").expect("the disk is sound");
    write_all(&keyspace);
    let first = prepared(&database, &keyspace, 1);
    first.commit("1".into()).expect("the disk is sound");
    write_all(&keyspace);
    let second = prepared(&database, &keyspace, 2);
    let committer = start(move || second.commit("2".into()).expect("the disk is sound"));
    let (looking, table) = (database.clone(), keyspace.table().clone());
    let reader = start(move || {
        for _ in 0..2 {
            match looking.changes(&table, &looking.snapshot()) {
                Ok(changes) => assert_eq!(
                    changes.row_count(),
                    changes.removed().row_count(),
                    "rows that were exported have no place"
                ),
                // The snapshot is of before the export, which is known by now.
                Err(Error::Usage(why)) if why.contains("the snapshot is older") => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    join(vec![committer, reader]);
    let exported = database.exported(keyspace.table()).expect("it was");
    assert_eq!(exported.token, "2");
    assert!(database.pending_exports().is_empty());
}
