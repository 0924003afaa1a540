//! One table: its schema, its shards, and how far it was exported.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::shard::{Change, PlacementRef, RowPointer, Shard};
use crate::codec::len_u32;
use crate::export::{ExportFile, Exported, Placement};
use crate::log::delta::{TablePart, shard_of};
use crate::schema::TableSchema;

/// The hash of a key, which the row keeps for the rest of its life.
pub(crate) fn hash_key(key: &[u8]) -> u64 {
    xxh3_64(key)
}

#[derive(Debug)]
pub(crate) struct TableState {
    pub(crate) database_id: Uuid,
    pub(crate) id: u32,
    pub(crate) schema: Arc<TableSchema>,
    shard_bits: u32,
    shards: Vec<RwLock<Shard>>,
    /// Read while changes are gathered, written when an export is committed: so the changes fit the base.
    exports: RwLock<Exports>,
    /// Whether an export is in flight.
    pub(crate) exporting: Mutex<bool>,
}

#[derive(Debug, Default)]
struct Exports {
    base: Option<Exported>,
    files: Vec<Arc<str>>,
}

/// The rows and keys of an export, as its commit applies them.
#[derive(Clone, Debug)]
pub(crate) struct ExportEffect {
    pub(crate) to_seq: u64,
    pub(crate) files: Vec<ExportFile>,
    /// The keys of the files' rows, in their order.
    pub(crate) placed: Vec<Box<[u8]>>,
    /// The keys whose exported row is gone and not replaced.
    pub(crate) cleared: Vec<Box<[u8]>>,
}

impl TableState {
    pub(crate) fn new(database_id: Uuid, id: u32, schema: TableSchema, shard_bits: u32) -> Self {
        TableState {
            database_id,
            id,
            schema: Arc::new(schema),
            shard_bits,
            shards: (0..1u64 << shard_bits).map(|_| RwLock::default()).collect(),
            exports: RwLock::default(),
            exporting: Mutex::new(false),
        }
    }

    pub(crate) fn shards(&self) -> &[RwLock<Shard>] {
        &self.shards
    }

    fn shard(&self, hash: u64) -> Option<&RwLock<Shard>> {
        self.shards.get(shard_of(hash, self.shard_bits) as usize)
    }

    pub(crate) fn get(&self, key: &[u8], seq: u64) -> Option<RowPointer> {
        let hash = hash_key(key);
        self.shard(hash)?.read().get(hash, key, seq)
    }

    /// Applies a delta's rows. The record was checked when it was written or read.
    pub(crate) fn apply(
        &self,
        seq: u64,
        record: u32,
        part: &TablePart<'_>,
        horizon_seq: u64,
    ) -> Result<(), crate::codec::Malformed> {
        if part.truncate {
            for shard in &self.shards {
                shard.write().truncate(seq, horizon_seq);
            }
        }
        for row_set in &part.row_sets {
            let shard = self.shards.get(row_set.shard as usize);
            let mut shard = shard
                .ok_or(crate::codec::Malformed("shard out of range"))?
                .write();
            for row in part.rows(*row_set) {
                shard.write(seq, record, &row?, horizon_seq);
            }
        }
        Ok(())
    }

    pub(crate) fn exported(&self) -> Option<Exported> {
        self.exports.read().base.clone()
    }

    /// What changed since the last committed export, with that export; unsorted.
    pub(crate) fn changes(&self, seq: u64) -> (Option<Exported>, Vec<Change>, Vec<Arc<str>>) {
        let exports = self.exports.read();
        let changes = self
            .shards
            .iter()
            .flat_map(|shard| shard.read().changes(seq).collect::<Vec<_>>())
            .collect();
        (exports.base.clone(), changes, exports.files.clone())
    }

    /// Records a committed export: its rows have placements from now on.
    pub(crate) fn apply_export(&self, effect: &ExportEffect, token: String, horizon_seq: u64) {
        let mut exports = self.exports.write();
        if let Some(base) = &exports.base {
            assert!(
                effect.to_seq >= base.seq,
                "the exported sequence moves from {} back to {}",
                base.seq,
                effect.to_seq
            );
        }
        for shard in &self.shards {
            shard.write().clean(effect.to_seq);
        }
        for key in &effect.cleared {
            self.place(key, None, effect.to_seq, horizon_seq);
        }
        let mut keys = effect.placed.iter();
        for file in &effect.files {
            let number = len_u32(exports.files.len());
            exports.files.push(file.path.as_str().into());
            for (position, key) in (0..file.row_count).zip(keys.by_ref()) {
                let position = u32::try_from(position).unwrap_or(u32::MAX);
                self.place(
                    key,
                    Some(PlacementRef {
                        file: number,
                        position,
                    }),
                    effect.to_seq,
                    horizon_seq,
                );
            }
        }
        exports.base = Some(Exported {
            seq: effect.to_seq,
            token,
        });
    }

    fn place(&self, key: &[u8], placement: Option<PlacementRef>, to_seq: u64, horizon_seq: u64) {
        let hash = hash_key(key);
        if let Some(shard) = self.shard(hash) {
            shard
                .write()
                .place(hash, key, placement, to_seq, horizon_seq);
        }
    }
}

/// Makes placements that stand by themselves of references into a table's files.
pub(crate) fn resolve_placement(files: &[Arc<str>], placement: PlacementRef) -> Option<Placement> {
    let file = files.get(placement.file as usize)?.clone();
    Some(Placement {
        file,
        position: u64::from(placement.position),
    })
}
