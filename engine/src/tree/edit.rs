//! An edit: changes of the state that count together.

use std::sync::Arc;
use std::time::Duration;

use super::fragment::{Division, FragmentId};
use super::growth::GrowthPoint;
use super::state::Described;
use crate::codec::{Malformed, Reader, len_u32, put_blob, put_u32, put_u64};
use crate::deletes::RangeDeletes;
use crate::exported::Exported;
use crate::exported::files::{FileChanges, NumberedFile};
use crate::generation::LOCATIONS_BIT;
use crate::log::segments::LogStart;
use crate::origins::Origin;
use crate::row_set::meta::RowSetMeta;
use crate::row_set::patch::PatchMeta;

/// What becomes different. A table's id with its first bit set means the locations of the table's exported rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change<R> {
    /// The next table.
    Table {
        /// As the log has it.
        record: Arc<[u8]>,
    },
    /// A RowSet is in the fragment that it names, with the patch that it has.
    Add(R),
    /// A RowSet is no more.
    Remove {
        table_id: u32,
        fragment_id: FragmentId,
        file_number: u64,
        offset: u64,
    },
    /// A fragment has children.
    Divide {
        table_id: u32,
        fragment_id: FragmentId,
        division: Division,
    },
    /// The deltas that emptied a table and still matter.
    Truncates { table_id: u32, seqs: Vec<u64> },
    /// The ranges of a table that deltas deleted and that still matter.
    Deletes {
        table_id: u32,
        deletes: RangeDeletes,
    },
    /// A table doubled.
    Grown { table_id: u32, point: GrowthPoint },
    /// A table was exported.
    Exported {
        table_id: u32,
        base: Exported,
        files: FileChanges,
    },
    /// How far the log is contained in the state.
    Flushed {
        seq: u64,
        facts_through_block: u64,
        log_start: LogStart,
    },
    /// How far each source is.
    Origins(Vec<Origin>),
    /// Delta files have smaller numbers.
    NextFile(u64),
}

/// The bytes of an edit.
pub(crate) fn encode_edit<R: Described>(changes: &[Change<R>]) -> Vec<u8> {
    let mut out = Vec::new();
    put_u32(&mut out, len_u32(changes.len()));
    for change in changes {
        change.encode(&mut out);
    }
    out
}

/// The changes of an edit.
pub(crate) fn decode_edit(bytes: &[u8]) -> Result<Vec<Change<Arc<RowSetMeta>>>, Malformed> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(8)?;
    let changes: Result<_, Malformed> = (0..count).map(|_| decode(&mut reader)).collect();
    reader.finish()?;
    changes
}

impl<R: Described> Change<R> {
    /// The table whose entry it changes, if it changes one; for locations that of the table.
    pub(crate) fn table_id(&self) -> Option<u32> {
        let id = match self {
            Change::Add(row_set) => row_set.meta().head.table_id,
            Change::Remove { table_id, .. }
            | Change::Divide { table_id, .. }
            | Change::Truncates { table_id, .. }
            | Change::Deletes { table_id, .. }
            | Change::Grown { table_id, .. }
            | Change::Exported { table_id, .. } => *table_id,
            Change::Table { record } => Reader::new(record).u32().ok()?,
            Change::Flushed { .. } | Change::Origins(_) | Change::NextFile(_) => return None,
        };
        Some(id & !LOCATIONS_BIT)
    }
}

impl<R> Change<R> {
    /// The same with what else stands for a RowSet.
    pub(crate) fn map<S, E>(self, mut make: impl FnMut(R) -> Result<S, E>) -> Result<Change<S>, E> {
        Ok(match self {
            Change::Add(row_set) => Change::Add(make(row_set)?),
            Change::Table { record } => Change::Table { record },
            Change::Remove {
                table_id,
                fragment_id,
                file_number,
                offset,
            } => Change::Remove {
                table_id,
                fragment_id,
                file_number,
                offset,
            },
            Change::Divide {
                table_id,
                fragment_id,
                division,
            } => Change::Divide {
                table_id,
                fragment_id,
                division,
            },
            Change::Truncates { table_id, seqs } => Change::Truncates { table_id, seqs },
            Change::Deletes { table_id, deletes } => Change::Deletes { table_id, deletes },
            Change::Grown { table_id, point } => Change::Grown { table_id, point },
            Change::Exported {
                table_id,
                base,
                files,
            } => Change::Exported {
                table_id,
                base,
                files,
            },
            Change::Flushed {
                seq,
                facts_through_block,
                log_start,
            } => Change::Flushed {
                seq,
                facts_through_block,
                log_start,
            },
            Change::Origins(origins) => Change::Origins(origins),
            Change::NextFile(number) => Change::NextFile(number),
        })
    }
}

impl<R: Described> Change<R> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Change::Table { record } => {
                put_u32(out, 1);
                put_blob(out, record);
            }
            Change::Add(row_set) => encode_row_set(row_set.meta(), out),
            Change::Remove {
                table_id,
                fragment_id,
                file_number,
                offset,
            } => {
                put_u32(out, 3);
                put_u32(out, *table_id);
                put_u64(out, fragment_id.0);
                put_u64(out, *file_number);
                put_u64(out, *offset);
            }
            Change::Divide {
                table_id,
                fragment_id,
                division,
            } => {
                put_u32(out, 4);
                put_u32(out, *table_id);
                put_u64(out, fragment_id.0);
                division.encode(out);
            }
            Change::Truncates { table_id, seqs } => {
                put_u32(out, 5);
                put_u32(out, *table_id);
                put_u32(out, len_u32(seqs.len()));
                seqs.iter().for_each(|seq| put_u64(out, *seq));
            }
            Change::Deletes { table_id, deletes } => {
                put_u32(out, 12);
                put_u32(out, *table_id);
                deletes.encode(out);
            }
            Change::Grown { table_id, point } => {
                put_u32(out, 11);
                put_u32(out, *table_id);
                put_u64(out, point.size_bytes);
                put_u64(out, u64::try_from(point.at.as_millis()).unwrap_or(u64::MAX));
            }
            Change::Exported {
                table_id,
                base,
                files,
            } => encode_exported(*table_id, base, files, out),
            Change::Flushed {
                seq,
                facts_through_block,
                log_start,
            } => {
                put_u32(out, 7);
                put_u64(out, *seq);
                put_u64(out, *facts_through_block);
                put_u64(out, log_start.segment_number);
                put_u64(out, log_start.block_number);
            }
            Change::Origins(origins) => encode_origins(origins, out),
            Change::NextFile(number) => {
                put_u32(out, 9);
                put_u64(out, *number);
            }
        }
    }
}

fn encode_row_set(meta: &RowSetMeta, out: &mut Vec<u8>) {
    put_u32(out, if meta.patch.is_some() { 10 } else { 2 });
    meta.encode(out);
    if let Some(patch) = &meta.patch {
        patch.encode(out);
    }
}

fn decode_patched(reader: &mut Reader<'_>) -> Result<RowSetMeta, Malformed> {
    let meta = RowSetMeta::decode(reader)?;
    let patch = PatchMeta::decode(reader)?;
    Ok(RowSetMeta {
        patch: Some(Arc::new(patch)),
        ..meta
    })
}

fn encode_origins(origins: &[Origin], out: &mut Vec<u8>) {
    put_u32(out, 8);
    put_u32(out, len_u32(origins.len()));
    for origin in origins {
        put_blob(out, origin.source.as_bytes());
        put_blob(out, origin.position.as_bytes());
    }
}

fn encode_exported(table_id: u32, base: &Exported, files: &FileChanges, out: &mut Vec<u8>) {
    let is_numbered = matches!(files, FileChanges::Numbered { .. });
    put_u32(out, if is_numbered { 13 } else { 6 });
    put_u32(out, table_id);
    put_u64(out, base.seq);
    put_blob(out, base.token.as_bytes());
    match files {
        FileChanges::Appended(paths) => {
            put_u32(out, len_u32(paths.len()));
            paths.iter().for_each(|path| put_blob(out, path.as_bytes()));
        }
        FileChanges::Numbered {
            next_number,
            gone,
            changed,
        } => {
            put_u32(out, *next_number);
            put_u32(out, len_u32(gone.len()));
            gone.iter().for_each(|number| put_u32(out, *number));
            put_u32(out, len_u32(changed.len()));
            for file in changed {
                put_u32(out, file.number);
                put_blob(out, file.path.as_bytes());
                put_u64(out, file.live_count.unwrap_or(u64::MAX));
            }
        }
    }
}

fn decode_exported(
    reader: &mut Reader<'_>,
    is_numbered: bool,
) -> Result<Change<Arc<RowSetMeta>>, Malformed> {
    let table_id = reader.u32()?;
    let base = Exported {
        seq: reader.u64()?,
        token: reader.text()?.to_owned(),
    };
    let files = match is_numbered {
        false => FileChanges::Appended(
            (0..reader.count(4)?)
                .map(|_| reader.text().map(Arc::from))
                .collect::<Result<_, _>>()?,
        ),
        true => FileChanges::Numbered {
            next_number: reader.u32()?,
            gone: (0..reader.count(4)?)
                .map(|_| reader.u32())
                .collect::<Result<_, _>>()?,
            changed: (0..reader.count(16)?)
                .map(|_| decode_file(reader))
                .collect::<Result<_, _>>()?,
        },
    };
    Ok(Change::Exported {
        table_id,
        base,
        files,
    })
}

fn decode_file(reader: &mut Reader<'_>) -> Result<NumberedFile, Malformed> {
    Ok(NumberedFile {
        number: reader.u32()?,
        path: reader.text()?.into(),
        live_count: Some(reader.u64()?).filter(|count| *count != u64::MAX),
    })
}

fn decode(reader: &mut Reader<'_>) -> Result<Change<Arc<RowSetMeta>>, Malformed> {
    Ok(match reader.u32()? {
        1 => Change::Table {
            record: reader.blob()?.into(),
        },
        2 => Change::Add(Arc::new(RowSetMeta::decode(reader)?)),
        3 => Change::Remove {
            table_id: reader.u32()?,
            fragment_id: FragmentId(reader.u64()?),
            file_number: reader.u64()?,
            offset: reader.u64()?,
        },
        4 => Change::Divide {
            table_id: reader.u32()?,
            fragment_id: FragmentId(reader.u64()?),
            division: Division::decode(reader)?,
        },
        5 => Change::Truncates {
            table_id: reader.u32()?,
            seqs: (0..reader.count(8)?)
                .map(|_| reader.u64())
                .collect::<Result<_, _>>()?,
        },
        6 => decode_exported(reader, false)?,
        13 => decode_exported(reader, true)?,
        7 => Change::Flushed {
            seq: reader.u64()?,
            facts_through_block: reader.u64()?,
            log_start: LogStart {
                segment_number: reader.u64()?,
                block_number: reader.u64()?,
            },
        },
        8 => {
            let count = reader.count(8)?;
            let origin = |reader: &mut Reader<'_>| {
                Ok::<_, Malformed>(Origin {
                    source: reader.text()?.to_owned(),
                    position: reader.text()?.to_owned(),
                })
            };
            Change::Origins(
                (0..count)
                    .map(|_| origin(reader))
                    .collect::<Result<_, _>>()?,
            )
        }
        9 => Change::NextFile(reader.u64()?),
        11 => Change::Grown {
            table_id: reader.u32()?,
            point: GrowthPoint {
                size_bytes: reader.u64()?,
                at: Duration::from_millis(reader.u64()?),
            },
        },
        12 => Change::Deletes {
            table_id: reader.u32()?,
            deletes: RangeDeletes::decode(reader)?,
        },
        10 => Change::Add(Arc::new(decode_patched(reader)?)),
        _ => return Err(Malformed("a change of an unknown kind")),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::edit_log::VERSION;
    use super::super::state::TreeState;
    use super::*;
    use crate::codec::check_bytes;
    use crate::deletes::RangeDelete;
    use crate::key_range::KeyInterval;
    use crate::log::fact::encode_table;
    use crate::row_set::meta::RowSetHead;
    use crate::row_set::patch::{PatchTarget, RowSetPlace};
    use crate::schema::{ColumnType, TableSchema};

    type State = TreeState<Arc<RowSetMeta>>;

    fn row_set(
        table_id: u32,
        fragment_id: u64,
        seq_from: u64,
        file_number: u64,
    ) -> Arc<RowSetMeta> {
        Arc::new(RowSetMeta {
            head: RowSetHead {
                table_id,
                fragment_id,
                seq_from,
                seq_to: seq_from + 5,
            },
            file_number,
            ..RowSetMeta::default()
        })
    }

    fn patched(row_set: Arc<RowSetMeta>) -> Arc<RowSetMeta> {
        let target = PatchTarget {
            place: RowSetPlace {
                file_number: 4,
                offset: 0,
            },
            ordinal_count: 2,
            live_count: 1,
            size_bytes: 30,
        };
        Arc::new(RowSetMeta {
            patch: Some(Arc::new(PatchMeta {
                file_number: 8,
                offset: 48,
                targets: [target].into(),
            })),
            ..(*row_set).clone()
        })
    }

    fn table() -> Arc<[u8]> {
        let schema = TableSchema::builder("t")
            .column("id", ColumnType::Int64, false)
            .primary_key(["id"])
            .build()
            .unwrap();
        encode_table(0, &schema).into()
    }

    fn exported(token: &str, files: FileChanges) -> Change<Arc<RowSetMeta>> {
        Change::Exported {
            table_id: 0,
            base: Exported {
                seq: 7,
                token: token.into(),
            },
            files,
        }
    }

    fn numbered() -> FileChanges {
        FileChanges::Numbered {
            next_number: 4,
            gone: vec![0],
            changed: vec![NumberedFile {
                number: 3,
                path: "c".into(),
                live_count: Some(9),
            }],
        }
    }

    fn changes() -> Vec<Change<Arc<RowSetMeta>>> {
        vec![
            Change::NextFile(9),
            Change::Table { record: table() },
            Change::Add(row_set(0, 1, 10, 3)),
            Change::Add(row_set(0, 1, 0, 4)),
            Change::Remove {
                table_id: 0,
                fragment_id: FragmentId::ROOT,
                file_number: 3,
                offset: 0,
            },
            Change::Add(patched(row_set(0, 1, 10, 3))),
            Change::Add(row_set(1 << 31, 1, 0, 4)),
            Change::Divide {
                table_id: 0,
                fragment_id: FragmentId::ROOT,
                division: Division::Hash { bits: 2 },
            },
            Change::Add(row_set(0, 6, 0, 5)),
            Change::Remove {
                table_id: 0,
                fragment_id: FragmentId::ROOT,
                file_number: 4,
                offset: 0,
            },
            Change::Truncates {
                table_id: 0,
                seqs: vec![3, 8],
            },
            Change::Deletes {
                table_id: 0,
                deletes: RangeDeletes::default().with(vec![RangeDelete {
                    seq: 7,
                    interval: KeyInterval {
                        start: b"a".to_vec(),
                        end: Some(b"b".to_vec()),
                    },
                }]),
            },
            Change::Grown {
                table_id: 0,
                point: GrowthPoint {
                    size_bytes: 9,
                    at: Duration::from_millis(1234),
                },
            },
            exported("t", FileChanges::Appended(vec!["a".into(), "b".into()])),
            exported("later", numbered()),
            Change::Flushed {
                seq: 15,
                facts_through_block: 20,
                log_start: LogStart {
                    segment_number: 2,
                    block_number: 17,
                },
            },
            Change::Origins(vec![Origin {
                source: "s".into(),
                position: "p".into(),
            }]),
        ]
    }

    fn applied(changes: &[Change<Arc<RowSetMeta>>]) -> Result<State, Malformed> {
        let mut state = State::default();
        for change in changes {
            state.apply(change.clone())?;
        }
        Ok(state)
    }

    #[test]
    fn a_state_is_made_again_by_one_edit() {
        let state = applied(&changes()).unwrap();
        assert_eq!(decode_edit(&encode_edit(&changes())), Ok(changes()));
        let restated = applied(&decode_edit(&encode_edit(&state.changes())).unwrap()).unwrap();
        assert_eq!(format!("{state:?}"), format!("{restated:?}"));
        let newest_first: Vec<u64> = state.row_sets().map(|meta| meta.file_number).collect();
        assert_eq!(newest_first, [3, 5, 4]);
    }

    #[test]
    fn bytes_of_edits_change_with_their_version() {
        let mut all = changes();
        all.push(Change::Divide {
            table_id: 0,
            fragment_id: FragmentId::ROOT,
            division: Division::Range {
                splits: [b"m".as_slice().into()].into(),
                ids: [FragmentId(7), FragmentId(8)].into(),
            },
        });
        check_bytes(
            "edits",
            &encode_edit(&all),
            VERSION,
            (5, 0xf02c_a088_85e7_f4a5),
        );
    }

    #[test]
    fn changes_that_can_not_be_are_refused() {
        let remove = |file_number| Change::Remove {
            table_id: 0,
            fragment_id: FragmentId::ROOT,
            file_number,
            offset: 0,
        };
        let again = |seq| Change::Flushed {
            seq,
            facts_through_block: 20,
            log_start: LogStart {
                segment_number: 2,
                block_number: 17,
            },
        };
        for wrong in [
            Change::Add(row_set(0, 1, 12, 5)),
            Change::Add(row_set(0, 77, 90, 5)),
            Change::Add(row_set(5, 1, 90, 5)),
            Change::Add(row_set(0, 1, 90, 9)),
            remove(4),
            again(14),
            Change::Truncates {
                table_id: 0,
                seqs: vec![3, 3],
            },
        ] {
            let mut all = changes();
            all.push(wrong.clone());
            assert!(applied(&all).is_err(), "{wrong:?}");
        }
        let mut all = changes();
        all.extend([remove(3), again(15)]);
        assert!(applied(&all).is_ok());
    }

    proptest! {
        #[test]
        fn damaged_edits_are_refused_or_decode_without_a_panic(
            position: prop::sample::Index, byte: u8, cut: prop::sample::Index,
        ) {
            let mut bytes = encode_edit(&changes());
            *position.get_mut(&mut bytes) = byte;
            bytes.truncate(cut.index(bytes.len() + 1));
            if let Ok(changes) = decode_edit(&bytes) {
                let _ = applied(&changes);
            }
        }
    }
}
