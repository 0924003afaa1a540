//! Where all of it lies: a file system of its own that can be filled, or a folder with writes that are told of no space.

use std::path::{Path, PathBuf};

use moonshine_crash::fuse::Fuse;
use moonshine_crash::harness::power::{EXT4, Mounted};

/// The image has holes.
const IMAGE_SIZE_BYTES: u64 = 6 << 30;
/// What a run takes of the disk below, and as much again: one that has no more fills for others' reasons.
const FREE_BYTES_MIN: u64 = 2 << 30;

const BALLAST: &str = "ballast";
/// What others take while the rest is taken: so often it is tried.
const TRIES: usize = 1000;

/// Takes the space that is left in a file system, beside those who write to it.
fn take_rest(folder: &Path) -> std::io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate, statvfs};
    let ballast = std::fs::File::create(folder.join(BALLAST))?;
    let mut len_bytes = 0;
    let mut part_bytes = u64::MAX;
    for _ in 0..TRIES {
        let found = statvfs(folder)?;
        let part = part_bytes.min(found.f_bavail * found.f_frsize);
        if part < found.f_frsize {
            return Ok(());
        }
        match fallocate(&ballast, FallocateFlags::empty(), len_bytes, part) {
            Ok(()) => len_bytes += part,
            Err(rustix::io::Errno::NOSPC) => part_bytes = part / 2,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The disk, which can be full.
pub(crate) enum Disk {
    /// An ext4 on a loop device.
    Mounted(Mounted),
    /// A folder: the engine's own writes alone find no space.
    Folder(PathBuf),
}

impl Disk {
    /// A mounted one where the system lets this process have it; else the reason is told.
    ///
    /// # Errors
    /// In words, where there is little space.
    pub(crate) fn new(place: &Path) -> Result<Self, String> {
        let found = rustix::fs::statvfs(place).map_err(|error| error.to_string())?;
        let free_bytes = found.f_bavail * found.f_frsize;
        if free_bytes < FREE_BYTES_MIN {
            return Err(format!(
                "the soak needs {} MiB of space in {}, where {} MiB are free",
                FREE_BYTES_MIN >> 20,
                place.display(),
                free_bytes >> 20
            ));
        }
        Ok(match Mounted::new(&EXT4, place, IMAGE_SIZE_BYTES) {
            Ok(mounted) => Disk::Mounted(mounted),
            Err(why) => {
                println!(
                    "no file system can be mounted here, so writes are told that there is no space: {why}"
                );
                Disk::Folder(place.to_owned())
            }
        })
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        match self {
            Disk::Mounted(mounted) => &mounted.folder,
            Disk::Folder(folder) => folder,
        }
    }

    /// What it is, in words.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Disk::Mounted(_) => "ext4 on a loop device",
            Disk::Folder(_) => "a folder",
        }
    }

    /// Leaves no space.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn fill(&self, fuse: &Fuse) -> Result<(), String> {
        match self {
            Disk::Mounted(mounted) => {
                take_rest(&mounted.folder).map_err(|error| format!("filling the disk: {error}"))
            }
            Disk::Folder(_) => {
                fuse.set_full(true);
                Ok(())
            }
        }
    }

    /// Gives the space back.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn free(&self, fuse: &Fuse) -> Result<(), String> {
        match self {
            Disk::Mounted(mounted) => std::fs::remove_file(mounted.folder.join(BALLAST))
                .map_err(|error| format!("the ballast: {error}")),
            Disk::Folder(_) => {
                fuse.set_full(false);
                Ok(())
            }
        }
    }
}
