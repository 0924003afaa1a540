//! The keys of one table that share the first bits of their hash.

use hashbrown::HashTable;

use crate::log::delta::DeltaRow;

const NONE: u32 = u32::MAX;

/// Where an exported row lies: a file of the table, by number, and the row's position in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PlacementRef {
    pub(crate) file: u32,
    pub(crate) position: u32,
}

/// Where a row's value lies: a delta record and the bytes within its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowPointer {
    pub(crate) record: u32,
    pub(crate) value_offset: u32,
    pub(crate) value_size_bytes: u32,
}

#[derive(Clone, Copy, Debug)]
struct Version {
    seq: u64,
    /// `None` for a tombstone.
    row: Option<RowPointer>,
    /// The next older version, in `older`; `NONE` at the end.
    older: u32,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    key: Box<[u8]>,
    newest: Version,
    placement: Option<PlacementRef>,
    /// Whether the entry stands in `dirty`.
    dirty: bool,
    /// Whether the slot is free.
    vacant: bool,
}

/// What an export must know of a key that was written since the last one.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) key: Box<[u8]>,
    /// The row as of the snapshot, if it lives.
    pub(crate) row: Option<RowPointer>,
    /// Where the last committed export put the key's row.
    pub(crate) placement: Option<PlacementRef>,
}

/// A multi-version hash table of keys.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    index: HashTable<u32>,
    entries: Vec<Entry>,
    vacant: Vec<u32>,
    older: Vec<Version>,
    older_vacant: Vec<u32>,
    /// Entries written since the last committed export, each once.
    dirty: Vec<u32>,
    /// Tombstones in commit order, to be dropped once no reader can tell.
    tombstones: std::collections::VecDeque<(u64, u32)>,
}

impl Shard {
    /// Writes a version. Versions that nobody at or after `horizon_seq` can see go.
    pub(crate) fn write(&mut self, seq: u64, record: u32, row: &DeltaRow<'_>, horizon_seq: u64) {
        let pointer = row.value_size_bytes.map(|value_size_bytes| RowPointer {
            record,
            value_offset: row.value_offset,
            value_size_bytes,
        });
        let i = match self.find(row.hash, row.key) {
            Some(i) => {
                self.push_version(i, seq, pointer, horizon_seq);
                i
            }
            None if pointer.is_none() => return,
            None => self.insert(
                row.hash,
                row.key,
                Version {
                    seq,
                    row: pointer,
                    older: NONE,
                },
            ),
        };
        self.mark_dirty(i);
        if pointer.is_none() {
            self.tombstones.push_back((seq, i));
        }
        self.drop_tombstones(horizon_seq);
    }

    /// Writes a tombstone over every live key.
    pub(crate) fn truncate(&mut self, seq: u64, horizon_seq: u64) {
        for i in 0..crate::codec::len_u32(self.entries.len()) {
            if self
                .entry(i)
                .is_some_and(|entry| !entry.vacant && entry.newest.row.is_some())
            {
                self.push_version(i, seq, None, horizon_seq);
                self.mark_dirty(i);
                self.tombstones.push_back((seq, i));
            }
        }
    }

    /// The row of a key at a commit sequence.
    pub(crate) fn get(&self, hash: u64, key: &[u8], seq: u64) -> Option<RowPointer> {
        self.version_at(self.entry(self.find(hash, key)?)?, seq)?
            .row
    }

    /// How many slots [`slot`](Self::slot) may be asked for. A key keeps its slot while a reader can see it.
    pub(crate) fn slot_count(&self) -> usize {
        self.entries.len()
    }

    /// The key and row in a slot at a commit sequence, if one lives there.
    pub(crate) fn slot(&self, slot: usize, seq: u64) -> Option<(&[u8], RowPointer)> {
        let entry = self.entries.get(slot).filter(|entry| !entry.vacant)?;
        Some((&entry.key, self.version_at(entry, seq)?.row?))
    }

    /// What changed since the last committed export, as of a commit sequence.
    pub(crate) fn changes(&self, seq: u64) -> impl Iterator<Item = Change> + '_ {
        self.dirty.iter().filter_map(move |&i| {
            let entry = self.entry(i).filter(|entry| !entry.vacant)?;
            let row = self.version_at(entry, seq).and_then(|version| version.row);
            if row.is_none() && entry.placement.is_none() {
                return None;
            }
            Some(Change {
                key: entry.key.clone(),
                row,
                placement: entry.placement,
            })
        })
    }

    /// Notes that an export up to `to_seq` was committed: entries not written since are clean.
    pub(crate) fn clean(&mut self, to_seq: u64) {
        let Shard { dirty, entries, .. } = self;
        dirty.retain(|&i| {
            let Some(entry) = entries.get_mut(i as usize) else {
                return false;
            };
            entry.dirty = !entry.vacant && entry.newest.seq > to_seq;
            entry.dirty
        });
    }

    /// Sets where a committed export up to `to_seq` put a key's row, or that it has none any more.
    pub(crate) fn place(
        &mut self,
        hash: u64,
        key: &[u8],
        placement: Option<PlacementRef>,
        to_seq: u64,
        horizon_seq: u64,
    ) {
        let i = match (self.find(hash, key), placement) {
            (Some(i), _) => i,
            (None, None) => return,
            (None, Some(_)) => {
                // Deleted since, and forgotten before it was known that the export had it: the next one takes it away.
                let i = self.insert(
                    hash,
                    key,
                    Version {
                        seq: to_seq + 1,
                        row: None,
                        older: NONE,
                    },
                );
                self.mark_dirty(i);
                i
            }
        };
        let Some(entry) = self.entries.get_mut(i as usize) else {
            return;
        };
        entry.placement = placement;
        let newest = entry.newest;
        if newest.row.is_none() {
            // A snapshot may still tell; then a later write to the shard drops it.
            self.tombstones.push_back((newest.seq, i));
            self.drop_tombstones(horizon_seq);
        }
    }

    fn entry(&self, i: u32) -> Option<&Entry> {
        self.entries.get(i as usize)
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let same = |&i: &u32| {
            self.entry(i)
                .is_some_and(|entry| entry.hash == hash && *entry.key == *key)
        };
        self.index.find(hash, same).copied()
    }

    fn version_at(&self, entry: &Entry, seq: u64) -> Option<Version> {
        let mut version = entry.newest;
        while version.seq > seq {
            version = *self.older.get(version.older as usize)?;
        }
        Some(version)
    }

    fn insert(&mut self, hash: u64, key: &[u8], newest: Version) -> u32 {
        let i = match self.vacant.pop() {
            Some(i) => {
                if let Some(entry) = self.entries.get_mut(i as usize) {
                    let dirty = entry.dirty;
                    *entry = Entry {
                        hash,
                        key: key.into(),
                        newest,
                        placement: None,
                        dirty,
                        vacant: false,
                    };
                }
                i
            }
            None => {
                let i = crate::codec::len_u32(self.entries.len());
                assert!(i < NONE, "a shard holds at most 2^32 - 1 keys");
                self.entries.push(Entry {
                    hash,
                    key: key.into(),
                    newest,
                    placement: None,
                    dirty: false,
                    vacant: false,
                });
                i
            }
        };
        let Shard { index, entries, .. } = self;
        index.insert_unique(hash, i, |&i| {
            entries.get(i as usize).map_or(0, |entry| entry.hash)
        });
        i
    }

    fn push_version(&mut self, i: u32, seq: u64, row: Option<RowPointer>, horizon_seq: u64) {
        let Some(entry) = self.entries.get_mut(i as usize) else {
            return;
        };
        let previous = entry.newest;
        if seq == previous.seq {
            // The delta truncated the table before it wrote the row.
            entry.newest.row = row;
            return;
        }
        assert!(
            seq > previous.seq,
            "commit sequence {seq} is written after {}",
            previous.seq
        );
        let kept = match self.older_vacant.pop() {
            Some(slot) => {
                if let Some(version) = self.older.get_mut(slot as usize) {
                    *version = previous;
                }
                slot
            }
            None => {
                self.older.push(previous);
                crate::codec::len_u32(self.older.len() - 1)
            }
        };
        if let Some(entry) = self.entries.get_mut(i as usize) {
            entry.newest = Version {
                seq,
                row,
                older: kept,
            };
        }
        self.drop_older(i, horizon_seq);
    }

    /// Drops the versions of an entry that are older than the newest one at or before the horizon.
    fn drop_older(&mut self, i: u32, horizon_seq: u64) {
        let Some(newest) = self.entry(i).map(|entry| entry.newest) else {
            return;
        };
        // The last version to keep: the newest one, or one of `older`.
        let (mut kept, mut version) = (NONE, newest);
        while version.seq > horizon_seq {
            let Some(next) = self.older.get(version.older as usize) else {
                return;
            };
            (kept, version) = (version.older, *next);
        }
        let kept_older = match self.older.get_mut(kept as usize) {
            Some(version) => Some(&mut version.older),
            None => self
                .entries
                .get_mut(i as usize)
                .map(|entry| &mut entry.newest.older),
        };
        let mut dropped = kept_older.map_or(NONE, |older| std::mem::replace(older, NONE));
        while let Some(version) = self.older.get_mut(dropped as usize) {
            self.older_vacant.push(dropped);
            dropped = std::mem::replace(&mut version.older, NONE);
        }
    }

    fn mark_dirty(&mut self, i: u32) {
        if let Some(entry) = self.entries.get_mut(i as usize)
            && !entry.dirty
        {
            entry.dirty = true;
            self.dirty.push(i);
        }
    }

    fn drop_tombstones(&mut self, horizon_seq: u64) {
        while let Some(&(seq, i)) = self.tombstones.front()
            && seq <= horizon_seq
        {
            self.tombstones.pop_front();
            self.drop_tombstone(seq, i, horizon_seq);
        }
    }

    /// Forgets a key that was deleted at `seq`, if no reader and no export needs to know that it was.
    fn drop_tombstone(&mut self, seq: u64, i: u32, horizon_seq: u64) {
        let Some(entry) = self.entry(i).filter(|entry| !entry.vacant) else {
            return;
        };
        let version = entry.newest;
        if version.seq != seq
            || version.row.is_some()
            || entry.placement.is_some()
            || seq > horizon_seq
        {
            return;
        }
        let hash = entry.hash;
        self.drop_older(i, horizon_seq);
        if let Ok(found) = self.index.find_entry(hash, |&other| other == i) {
            found.remove();
        }
        if let Some(entry) = self.entries.get_mut(i as usize) {
            entry.vacant = true;
            entry.key = Box::default();
        }
        self.vacant.push(i);
    }
}
