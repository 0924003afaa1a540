//! What a crash leaves of the bytes of files.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::content::{Change, Content, Effect, SECTOR_SIZE_BYTES, Space};
use super::disk::Disk;
use super::names::{File, Names, NamesStyle, Tree};
use super::random::Random;
use crate::sync::Mutex;

/// What becomes of writes that were not synced when the power fails.
///
/// ```
/// use moonshine_engine::io::{CrashStyle, SimulatedIo};
/// use moonshine_engine::{Database, Durability, Options};
/// let io = SimulatedIo::new(1);
/// let open = |io: &SimulatedIo| {
///     let io = std::sync::Arc::new(io.clone());
///     Database::open("/db", Options { io, ..Options::unmeasured() })?.keyspace("pairs")
/// };
/// let pairs = open(&io)?;
/// pairs.insert("synced", "")?;
/// pairs.clone().with_durability(Durability::Buffered).insert("buffered", "")?;
/// let pairs = open(&io.crash(CrashStyle::LoseUnsynced))?;
/// assert!(pairs.contains_key("synced")? && !pairs.contains_key("buffered")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashStyle {
    /// All of them are lost. Of a sync under way any part is done.
    LoseUnsynced,
    /// Each sector of each file is in any of the states that it was in since the last sync, by the random numbers of that
    /// seed: torn and reordered. So is each file's length.
    TearUnsynced(u64),
    /// All of them arrived up to one, of which a part did: of the writes to all files, or of those to each.
    PrefixUnsynced(u64),
    /// Each of them arrived or not.
    SubsetUnsynced(u64),
    /// The process died and the machine lives: all of them arrived, of a write under way the first part.
    KeepUnsynced,
}

impl CrashStyle {
    fn seed(self) -> Option<u64> {
        match self {
            CrashStyle::TearUnsynced(seed)
            | CrashStyle::PrefixUnsynced(seed)
            | CrashStyle::SubsetUnsynced(seed) => Some(seed),
            CrashStyle::LoseUnsynced | CrashStyle::KeepUnsynced => None,
        }
    }
}

/// A crash that is drawn: the same for all files.
struct Drawn {
    style: CrashStyle,
    random: Random,
    /// The last change that arrived of all, for a prefix of the writes to all files.
    through: Option<u64>,
}

/// The names and files that a machine finds after a crash.
pub(super) fn image(disk: &Disk, style: CrashStyle, names: NamesStyle, space: &Space) -> Names {
    let is_kept = style == CrashStyle::KeepUnsynced;
    let seed = style.seed().unwrap_or_else(|| disk.random.clone().next());
    let mut drawn = Drawn {
        style,
        random: Random::new(seed),
        through: None,
    };
    let found = match is_kept {
        true => Tree::default(),
        false => disk.names.after_crash(names),
    };
    if let CrashStyle::PrefixUnsynced(_) = style
        && drawn.random.coin()
    {
        let pending = found.files.values().flat_map(|file| {
            let content = file.lock();
            let changes = content.unsynced.iter().chain(&content.in_flight);
            changes.map(|change| change.sequence).collect::<Vec<_>>()
        });
        let mut pending: Vec<u64> = pending.collect();
        pending.sort_unstable();
        let last = drawn.random.below(pending.len() + 1).checked_sub(1);
        drawn.through = Some(last.and_then(|at| pending.get(at).copied()).unwrap_or(0));
    }
    let mut files: HashMap<*const Mutex<Content>, File> = HashMap::new();
    let mut map = |file: &File| {
        let image = files
            .entry(Arc::as_ptr(file))
            .or_insert_with(|| Arc::new(Mutex::new(drawn.content(&file.lock(), space))));
        image.clone()
    };
    let found = match is_kept {
        true => disk.names.mapped(map),
        false => Names::found(Tree {
            files: found
                .files
                .iter()
                .map(|(path, file)| (path.clone(), map(file)))
                .collect(),
            folders: found.folders,
        }),
    };
    for file in found.current.files.values() {
        file.lock().name_count += 1;
    }
    // A removal that is not durable yet: the file may come back, and takes no space.
    files
        .values()
        .for_each(|file| file.lock().free_if_gone(space));
    found
}

impl Drawn {
    /// What is left of a file.
    fn content(&mut self, content: &Content, space: &Space) -> Content {
        if self.style == CrashStyle::KeepUnsynced {
            let mut current = content.current.clone();
            let mut unsynced = content.unsynced.clone();
            for change in &content.in_flight {
                let part = self.first_part(change);
                part.effect.apply(Arc::make_mut(&mut current));
                unsynced.push(part);
            }
            let mut kept =
                Content::found(content.synced.clone(), current, unsynced, content, space);
            kept.created = content.created;
            return kept;
        }
        let all = || content.unsynced.iter().chain(&content.in_flight).cloned();
        let bytes = if content.unsynced.is_empty() && content.in_flight.is_empty() {
            content.synced.clone()
        } else {
            match self.style {
                CrashStyle::PrefixUnsynced(_) => self.prefix(&content.synced, all().collect()),
                CrashStyle::SubsetUnsynced(_) => self.subset(&content.synced, all()),
                CrashStyle::TearUnsynced(_) => Arc::new(torn(
                    &content.synced,
                    &all().collect::<Vec<_>>(),
                    &mut self.random,
                )),
                CrashStyle::LoseUnsynced | CrashStyle::KeepUnsynced => {
                    let through = content.syncing.iter().copied().max().unwrap_or(0);
                    let syncing: Vec<Change> = all()
                        .take_while(|change| change.sequence <= through)
                        .collect();
                    match syncing.is_empty() {
                        true => content.synced.clone(),
                        false => Arc::new(torn(&content.synced, &syncing, &mut self.random)),
                    }
                }
            }
        };
        Content::found(bytes.clone(), bytes, Vec::new(), content, space)
    }

    /// The first bytes of a write, often none.
    fn first_part(&mut self, change: &Change) -> Change {
        let size_bytes = match self.random.coin() {
            true => 0,
            false => self.random.below(change.effect.size_bytes() + 1),
        };
        Change {
            sequence: change.sequence,
            effect: change.effect.first(size_bytes),
        }
    }

    fn prefix(&mut self, synced: &Arc<Vec<u8>>, changes: Vec<Change>) -> Arc<Vec<u8>> {
        let whole = match self.through {
            Some(through) => changes.partition_point(|change| change.sequence < through),
            None => self.random.below(changes.len() + 1),
        };
        let mut bytes = synced.clone();
        for (i, change) in changes.iter().enumerate().take(whole + 1) {
            let is_last = i == whole;
            if is_last
                && self
                    .through
                    .is_some_and(|through| change.sequence > through)
            {
                break;
            }
            let part = if is_last {
                &self.first_part(change)
            } else {
                change
            };
            if !is_last || part.effect.size_bytes() > 0 {
                part.effect.apply(Arc::make_mut(&mut bytes));
            }
        }
        bytes
    }

    fn subset(
        &mut self,
        synced: &Arc<Vec<u8>>,
        changes: impl Iterator<Item = Change>,
    ) -> Arc<Vec<u8>> {
        let of_eight = share_of_eight(&mut self.random);
        let mut bytes = synced.clone();
        for change in changes {
            if self.random.below(8) < of_eight {
                change.effect.apply(Arc::make_mut(&mut bytes));
            }
        }
        bytes
    }
}

/// Few arrive, or half of them, or most.
fn share_of_eight(random: &mut Random) -> usize {
    [1, 4, 7].get(random.below(3)).copied().unwrap_or(4)
}

/// A file each of whose sectors is in any state that the changes led it through, and whose length is any that it had.
pub(super) fn torn(synced: &[u8], changes: &[Change], random: &mut Random) -> Vec<u8> {
    let sector_size_bytes = match random.below(4) {
        0 => 8 * SECTOR_SIZE_BYTES,
        _ => SECTOR_SIZE_BYTES,
    };
    let of_eight = share_of_eight(random);
    let mut lens = vec![synced.len()];
    for change in changes {
        let before = lens.last().copied().unwrap_or_default();
        lens.push(change.effect.len_after(before));
    }
    let len_max = lens.iter().copied().max().unwrap_or_default();
    let mut touched: BTreeMap<usize, Vec<&Effect>> = BTreeMap::new();
    for change in changes {
        let range = change.effect.range(len_max);
        let sectors = range.start / sector_size_bytes..range.end.div_ceil(sector_size_bytes);
        for sector in sectors {
            touched.entry(sector).or_default().push(&change.effect);
        }
    }
    let mut bytes = synced.to_vec();
    bytes.resize(len_max, 0);
    let sectors = bytes.chunks_mut(sector_size_bytes);
    let mut touched = touched.into_iter().peekable();
    for (i, sector) in sectors.enumerate() {
        let Some((_, effects)) = touched.next_if(|(number, _)| *number == i) else {
            continue;
        };
        let versions = match random.below(8) < of_eight {
            true => effects.len(),
            false => random.below(effects.len() + 1),
        };
        for effect in effects.into_iter().take(versions) {
            effect.apply_within(i * sector_size_bytes, sector);
        }
    }
    bytes.truncate(drawn_len(&lens, random));
    bytes
}

/// One of the lengths that a file had; where it grew last, also one in between.
fn drawn_len(lens: &[usize], random: &mut Random) -> usize {
    let at = random.below(lens.len());
    let len = lens.get(at).copied().unwrap_or_default();
    let before = at.checked_sub(1).and_then(|at| lens.get(at).copied());
    match before {
        Some(before) if before < len && random.below(4) == 0 => {
            let sectors = (len - before) / SECTOR_SIZE_BYTES;
            let whole = before - before % SECTOR_SIZE_BYTES;
            (whole + random.below(sectors + 1) * SECTOR_SIZE_BYTES).clamp(before, len)
        }
        _ => len,
    }
}
