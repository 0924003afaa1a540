//! What the disks below the files did, by the kernel's counters.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::stats::DiskUtil;

/// The counters of `stat` of a block device (Documentation/block/stat.rst of the kernel), at one moment.
type Counters = [u64; 11];

/// Watches the disks of some files from its beginning on.
pub(super) struct DiskWatch {
    disks: BTreeMap<PathBuf, Counters>,
    began: Instant,
}

impl DiskWatch {
    /// Disks of files that have none that the kernel counts, such as those in memory, are left out.
    pub(super) fn begin<'a>(files: impl Iterator<Item = &'a Path>) -> Self {
        let disks = files
            .filter_map(disk_of)
            .filter_map(|disk| Some((disk.clone(), counters(&disk)?)))
            .collect();
        DiskWatch {
            disks,
            began: Instant::now(),
        }
    }

    /// What was done since.
    pub(super) fn end(&self) -> Vec<DiskUtil> {
        let elapsed_ms = self.began.elapsed().as_secs_f64() * 1000.0;
        self.disks
            .iter()
            .filter_map(|(disk, before)| {
                let name = disk.file_name()?.to_string_lossy().into_owned();
                let after = counters(disk)?;
                let mut since = [0; 11];
                for ((since, after), before) in since.iter_mut().zip(after).zip(before) {
                    *since = after.wrapping_sub(*before);
                }
                let [
                    read_ios,
                    read_merges,
                    _,
                    read_ticks,
                    write_ios,
                    write_merges,
                    _,
                    write_ticks,
                    _,
                    busy_ms,
                    in_queue,
                ] = since;
                Some(DiskUtil {
                    name,
                    read_ios,
                    write_ios,
                    read_merges,
                    write_merges,
                    read_ticks,
                    write_ticks,
                    in_queue,
                    util: (busy_ms as f64 * 100.0 / elapsed_ms.max(1.0)).min(100.0),
                })
            })
            .collect()
    }
}

/// The folder in `/sys` of the whole disk that a file lies on, or that it is.
fn disk_of(file: &Path) -> Option<PathBuf> {
    let metadata = fs::metadata(file).ok()?;
    let number = match metadata.file_type().is_block_device() {
        true => metadata.rdev(),
        false => metadata.dev(),
    };
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let device = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    match device.join("partition").exists() {
        true => device.parent().map(Path::to_owned),
        false => Some(device),
    }
}

fn counters(disk: &Path) -> Option<Counters> {
    let text = fs::read_to_string(disk.join("stat")).ok()?;
    let mut counters = [0; 11];
    let mut fields = text.split_whitespace();
    for counter in &mut counters {
        *counter = fields.next()?.parse().ok()?;
    }
    Some(counters)
}
