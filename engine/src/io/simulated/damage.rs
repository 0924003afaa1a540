//! Damage of what is stored, drawn by a seed.

use std::path::PathBuf;
use std::sync::Arc;

use super::SimulatedIo;
use super::content::{Content, SECTOR_SIZE_BYTES};
use super::random::Random;

/// How stored bytes are damaged.
///
/// ```
/// use std::path::Path;
///
/// use moonshine_engine::io::{Damage, Io, OpenMode, SimulatedIo};
/// let io = SimulatedIo::new(1);
/// let file = io.open(Path::new("/a"), OpenMode::CreateNew)?;
/// file.write_all_at(b"moonshine", 0)?;
/// let damaged = io.damage_random(5, Damage::Flip).expect("there is a byte");
/// assert_eq!((damaged.path.as_path(), damaged.size_bytes), (Path::new("/a"), 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A bit flips.
    Flip,
    /// A sector reads as zeros.
    Zero,
    /// The file ends early.
    Cut,
    /// Two sectors of the file lie in each other's place.
    Swap,
    /// A sector holds what it held before the last sync that replaced it, as a device leaves it that said it had written.
    Older,
}

/// Where bytes were damaged.
///
/// ```
/// use moonshine_engine::io::{Damage, Damaged, SimulatedIo};
/// let nothing: Option<Damaged> = SimulatedIo::new(1).damage_random(5, Damage::Cut);
/// assert_eq!(nothing, None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// In which file.
    pub path: PathBuf,
    /// The first damaged byte, and how many there are up to the last. Of two sectors it is the first.
    pub offset: u64,
    /// See [`offset`](Self::offset).
    pub size_bytes: u64,
}

impl SimulatedIo {
    /// Damages a file that the seed picks, and says where; `None` where no file can be damaged so. Bytes change in what is
    /// read and on the device.
    pub fn damage_random(&self, seed: u64, damage: Damage) -> Option<Damaged> {
        let mut random = Random::new(seed);
        let disk = self.shared.disk.lock();
        let mut files: Vec<_> = disk.names.current.files.iter().collect();
        while !files.is_empty() {
            let (path, file) = files.swap_remove(random.below(files.len()));
            if let Some((offset, size_bytes)) = file.lock().damage(damage, &mut random) {
                return Some(Damaged {
                    path: path.clone(),
                    offset: offset as u64,
                    size_bytes: size_bytes as u64,
                });
            }
        }
        None
    }
}

impl Content {
    /// Damages it; returns offset and length of what changed, unless nothing did.
    fn damage(&mut self, damage: Damage, random: &mut Random) -> Option<(usize, usize)> {
        let len = self.current.len();
        if len == 0 {
            return None;
        }
        let mut bytes = (*self.current).clone();
        let sector = |number: usize| {
            let start = number * SECTOR_SIZE_BYTES;
            start..len.min(start + SECTOR_SIZE_BYTES)
        };
        let picked = sector(random.below(len.div_ceil(SECTOR_SIZE_BYTES)));
        match damage {
            Damage::Flip => *bytes.get_mut(random.below(len))? ^= 1 << random.below(8),
            Damage::Zero => bytes.get_mut(picked)?.fill(0),
            Damage::Cut => bytes.truncate(random.below(len)),
            Damage::Swap => {
                let whole = len / SECTOR_SIZE_BYTES;
                let (one, other) = (random.below(whole), random.below(whole));
                let first = bytes.get(sector(one))?.to_vec();
                let second = bytes.get(sector(other))?.to_vec();
                if first.len() != second.len() {
                    return None;
                }
                bytes.get_mut(sector(one))?.copy_from_slice(&second);
                bytes.get_mut(sector(other))?.copy_from_slice(&first);
            }
            Damage::Older => {
                let at = random.below(self.older.len());
                let (number, older) = self.older.iter().nth(at)?;
                let place = bytes.get_mut(sector(*number)).unwrap_or_default();
                for (byte, older) in place.iter_mut().zip(older.iter()) {
                    *byte = *older;
                }
            }
        }
        let same = bytes
            .iter()
            .zip(&**self.current)
            .take_while(|(new, old)| new == old);
        let offset = same.count();
        if offset == len {
            return None;
        }
        let differs = |i: &usize| bytes.get(*i) != self.current.get(*i);
        let end = (offset..len)
            .rev()
            .find(differs)
            .map_or(len, |last| last + 1);
        let bytes = Arc::new(bytes);
        self.unsynced.clear();
        self.synced = bytes.clone();
        self.current = bytes;
        Some((offset, end - offset))
    }
}
