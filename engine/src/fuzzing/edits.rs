//! Edits of the tree, and the log of them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::input::{Input, damaged};
use super::{DATABASE, noise, put_part};
use crate::codec::len_u32;
use crate::deletes::{RangeDelete, RangeDeletes};
use crate::exported::Exported;
use crate::exported::files::{FileChanges, NumberedFile};
use crate::io::{Io, OpenMode, SimulatedIo};
use crate::key_range::KeyInterval;
use crate::log::fact::encode_table;
use crate::log::segments::LogStart;
use crate::origins::Origin;
use crate::row_set::meta::{RowSetHead, RowSetMeta};
use crate::row_set::patch::{PatchMeta, PatchTarget};
use crate::schema::{ColumnType, TableSchema};
use crate::tree::edit::{Change, decode_edit, encode_edit};
use crate::tree::edit_log::{EditLog, replay_edits};
use crate::tree::fragment::FragmentId;
use crate::tree::growth::GrowthPoint;
use crate::tree::state::TreeState;

type Changes = Vec<Change<Arc<RowSetMeta>>>;

/// The first byte says whether edits follow, each behind its length, or what a log of them is to hold.
const ARE_EDITS: u8 = 0;

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let made = edits();
    let mut one_by_one = vec![ARE_EDITS];
    made.iter()
        .for_each(|edit| put_part(&mut one_by_one, &encode_edit(edit)));
    let mut seeds = vec![one_by_one];
    for edit in &made {
        let mut seed = vec![ARE_EDITS];
        put_part(&mut seed, &encode_edit(&made[0]));
        put_part(&mut seed, &encode_edit(edit));
        seeds.push(seed);
    }
    seeds.extend(
        noise(8, 64)
            .into_iter()
            .map(|bytes| [&[1], &bytes[..]].concat()),
    );
    seeds
}

/// Edits of every kind that follow on each other.
fn edits() -> Vec<Changes> {
    let schema = TableSchema::builder("t")
        .column("id", ColumnType::Int64, false)
        .primary_key(["id"])
        .build()
        .unwrap();
    let older = row_set(1, None);
    let patch = PatchMeta {
        file_number: 2,
        offset: 48,
        targets: [PatchTarget {
            place: older.place(),
            ordinal_count: 2,
            live_count: 1,
            size_bytes: 40,
        }]
        .into(),
    };
    let flushed = Change::Flushed {
        seq: 5,
        facts_through_block: 2,
        log_start: LogStart {
            segment_number: 2,
            block_number: 3,
        },
    };
    let origin = Origin {
        source: "shop".into(),
        position: "0/16B3748".into(),
    };
    let mut edits = vec![
        vec![Change::Table {
            record: encode_table(0, &schema).into(),
        }],
        vec![Change::NextFile(2), Change::Add(older), flushed],
        vec![
            Change::Add(row_set(2, Some(Arc::new(patch)))),
            Change::Origins(vec![origin]),
        ],
        deletes(),
    ];
    edits.extend(exports().map(|export| vec![export]));
    edits.push(vec![Change::Remove {
        table_id: 0,
        fragment_id: FragmentId::ROOT,
        file_number: 1,
        offset: 0,
    }]);
    edits
}

fn row_set(file_number: u64, patch: Option<Arc<PatchMeta>>) -> Arc<RowSetMeta> {
    Arc::new(RowSetMeta {
        head: RowSetHead {
            table_id: 0,
            fragment_id: FragmentId::ROOT.0,
            seq_from: file_number * 5,
            seq_to: file_number * 5 + 5,
        },
        file_number,
        row_count: 3,
        key_min: b"a".as_slice().into(),
        key_max: b"z".as_slice().into(),
        patch,
        ..RowSetMeta::default()
    })
}

fn deletes() -> Changes {
    let deleted = RangeDelete {
        seq: 4,
        interval: KeyInterval {
            start: b"b".to_vec(),
            end: Some(b"c".to_vec()),
        },
    };
    vec![
        Change::Truncates {
            table_id: 0,
            seqs: vec![1, 3],
        },
        Change::Deletes {
            table_id: 0,
            deletes: RangeDeletes::default().with(vec![deleted]),
        },
        Change::Grown {
            table_id: 0,
            point: GrowthPoint {
                size_bytes: 4096,
                at: Duration::from_secs(9),
            },
        },
    ]
}

/// Of both forms.
fn exports() -> [Change<Arc<RowSetMeta>>; 2] {
    let of = |seq, files| Change::Exported {
        table_id: 0,
        base: Exported {
            seq,
            token: "4711".into(),
        },
        files,
    };
    let changed = NumberedFile {
        number: 2,
        path: "data/2.parquet".into(),
        live_count: Some(7),
    };
    [
        of(5, FileChanges::Appended(vec!["data/1.parquet".into()])),
        of(
            6,
            FileChanges::Numbered {
                next_number: 3,
                gone: vec![0],
                changed: vec![changed],
            },
        ),
    ]
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.u8() {
        ARE_EDITS => state(&mut input),
        _ => log(&mut input),
    }
}

/// What decodes is encoded to the same; the state that edits lead to is the one that its own edit leads to; an edit that can't
/// be, and one that is taken back, change nothing.
fn state(input: &mut Input<'_>) {
    let mut state = TreeState::<Arc<RowSetMeta>>::default();
    while !input.is_empty() {
        let Ok(edit) = decode_edit(input.part()) else {
            continue;
        };
        assert_eq!(decode_edit(&encode_edit(&edit)).unwrap(), edit);
        let before = encode_edit(&state.changes());
        match state.apply_edit(&edit) {
            Err(_) => assert_eq!(encode_edit(&state.changes()), before),
            Ok(undo) => {
                state.undo(undo);
                assert_eq!(encode_edit(&state.changes()), before);
                assert!(state.apply_edit(&edit).is_ok());
                let stated = decode_edit(&encode_edit(&state.changes())).unwrap();
                let mut again = TreeState::default();
                assert!(again.apply_edit(&stated).is_ok(), "{stated:?}");
                assert_eq!(again.changes(), state.changes());
            }
        }
    }
}

fn folder() -> &'static Path {
    Path::new("/tree")
}

/// A log with damage tells its first edits, and of those before one that is whole all.
fn log(input: &mut Input<'_>) {
    let io = SimulatedIo::new(1);
    io.create_folder(folder()).unwrap();
    let written: Vec<&[u8]> = (0..1 + input.below(5)).map(|_| input.bytes(40)).collect();
    let mut log = EditLog::create(Arc::new(io.clone()), folder(), DATABASE, written[0]).unwrap();
    let mut ends = vec![io.files()[0].1];
    for edit in &written[1..] {
        log.append(edit).unwrap();
        ends.push(io.files()[0].1);
    }
    drop(log);
    let (path, len) = io.files()[0].clone();
    let file = io.open(&path, OpenMode::Write).unwrap();
    let mut before = vec![0; len];
    file.read_exact_at(&mut before, 0).unwrap();
    let mut after = before.clone();
    for _ in 0..input.below(4) {
        after = damaged(&after, input);
    }
    file.set_len(0).unwrap();
    file.write_all_at(&after, 0).unwrap();
    let read = |repair| replay_edits(&io, folder(), DATABASE, repair);
    let found = match read(false) {
        Ok(found) => found.unwrap().edits,
        Err(_) => {
            assert_ne!(before, after, "a log that nothing happened to");
            return;
        }
    };
    assert!(found.len() <= written.len() && found.iter().zip(&written).all(|(a, b)| a == b));
    for i in found.len() + 1..written.len() {
        let record = ends[i - 1]..ends[i];
        assert_ne!(
            before.get(record.clone()),
            after.get(record),
            "edit {} of {} is whole, and {} were found",
            len_u32(i),
            written.len(),
            found.len()
        );
    }
    assert_eq!(read(true).unwrap().unwrap().edits, found);
    assert_eq!(read(true).unwrap().unwrap().edits, found);
}
