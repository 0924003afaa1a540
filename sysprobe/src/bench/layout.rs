//! A job's files: their names, how great they are, and how they are made, all as in fio.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate, ftruncate};
use rustix::io::Errno;

use super::error::BenchError;
use super::job::JobOptions;
use super::offsets::{FileRange, least_block};
use super::progress_counters::RunControl;
use super::random::Random;
use super::run::RunObserver;
use super::values::{Extent, FadviseHint, Fallocate, JobEngine, SyncMode};
use crate::io::EngineName;

/// Bytes that are written at once while a file is laid out.
const LAYOUT_STEP: usize = 1 << 20;

/// A file of a thread, and the part that the thread uses.
#[derive(Clone, Debug)]
pub(super) struct JobFile {
    pub(super) path: PathBuf,
    pub(super) range: FileRange,
}

/// The files of one thread of a job: named, sized and there.
#[derive(Clone, Debug, Default)]
pub(super) struct ThreadFiles {
    pub(super) files: Vec<JobFile>,
    /// Bytes of one loop: those of all parts.
    pub(super) size: u64,
}

struct Existing {
    path: PathBuf,
    size: u64,
    is_regular: bool,
}

/// Finds or makes the files of one thread.
pub(super) fn prepare(
    job: &JobOptions,
    thread: usize,
    control: &RunControl,
    observer: &dyn RunObserver,
) -> Result<ThreadFiles, BenchError> {
    if let Some(folder) = &job.directory
        && !folder.is_dir()
    {
        let reason = format!("directory {} is not there", folder.display());
        return Err(wrong(job, reason));
    }
    let mut existing = Vec::new();
    for path in paths(job, thread) {
        existing.push(look_up(job, path)?);
    }
    let ranges = ranges(job, thread, &existing)?;
    let of_parts: u64 = ranges.iter().map(|range| range.size).sum();
    let size = match job.size {
        Some(Extent::Bytes(size)) => size.min(of_parts),
        _ => of_parts,
    };
    let least = least_block(job.rw, &job.block_sizes);
    if size < least {
        return Err(wrong(
            job,
            format!("blocks of {least} bytes don't fit in {size} bytes of files"),
        ));
    }
    let too_small: Vec<bool> = existing
        .iter()
        .zip(&ranges)
        .map(|(file, range)| file.is_regular && range.start + range.size > file.size)
        .collect();
    let extended = || {
        existing
            .iter()
            .zip(&ranges)
            .zip(&too_small)
            .filter(|(_, too_small)| **too_small)
    };
    if too_small.contains(&true) {
        let size = extended()
            .map(|((_, range), _)| range.start + range.size)
            .sum();
        observer.laying_out(&job.name, extended().count(), size);
    }
    let mut files = Vec::new();
    for ((file, mut range), too_small) in existing.into_iter().zip(ranges).zip(too_small) {
        if too_small {
            range.file_size = range.start + range.size;
            lay_out(job, &file.path, range.file_size, control)
                .map_err(|(operation, source)| failed(job, operation, &file.path, source))?;
        } else {
            observer.file_reused(&job.name, &file.path);
        }
        files.push(JobFile {
            path: file.path,
            range,
        });
    }
    Ok(ThreadFiles { files, size })
}

/// Opens a file for one thread, as the job's options say.
pub(super) fn open(job: &JobOptions, file: &JobFile) -> Result<File, BenchError> {
    let mut flags = 0;
    if job.direct {
        flags |= libc::O_DIRECT;
    }
    match job.sync {
        SyncMode::None => {}
        SyncMode::Sync => flags |= libc::O_SYNC,
        SyncMode::Dsync => flags |= libc::O_DSYNC,
    }
    let opened = OpenOptions::new()
        .read(true)
        .write(job.rw.writes())
        .create(job.rw.writes())
        .truncate(false)
        .custom_flags(flags)
        .open(&file.path)
        .map_err(|source| {
            let operation = match job.direct && source.raw_os_error() == Some(libc::EINVAL) {
                true => "opening with direct=1, which this file system may not support,",
                false => "opening",
            };
            failed(job, operation, &file.path, source)
        })?;
    let length = std::num::NonZeroU64::new(file.range.size);
    if job.invalidate {
        // A cache that stays is slower to measure but not wrong to use: as in fio no reason to stop.
        let _ = fadvise(&opened, file.range.start, length, Advice::DontNeed);
    }
    let is_random = match job.fadvise_hint {
        FadviseHint::None => return Ok(opened),
        FadviseHint::ByPattern => job.rw.is_random(),
        FadviseHint::Random => true,
        FadviseHint::Sequential => false,
    };
    let advice = if is_random {
        Advice::Random
    } else {
        Advice::Sequential
    };
    let _ = fadvise(&opened, file.range.start, length, advice);
    Ok(opened)
}

/// `filename`, or names made by `filename_format`, in `directory`.
fn paths(job: &JobOptions, thread: usize) -> Vec<PathBuf> {
    let folder = job.directory.clone().unwrap_or_default();
    if job.filenames.is_empty() {
        let name = |file: usize| {
            let name = job
                .filename_format
                .replace("$jobnum", &thread.to_string())
                .replace("$filenum", &file.to_string())
                .replace("$jobname", &job.name);
            folder.join(name)
        };
        return (0..job.nrfiles.max(1)).map(name).collect();
    }
    job.filenames.iter().map(|name| folder.join(name)).collect()
}

fn look_up(job: &JobOptions, path: PathBuf) -> Result<Existing, BenchError> {
    let metadata = match std::fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Existing {
                path,
                size: 0,
                is_regular: true,
            });
        }
        Err(source) => return Err(failed(job, "looking up", &path, source)),
    };
    if metadata.is_file() {
        return Ok(Existing {
            path,
            size: metadata.len(),
            is_regular: true,
        });
    }
    if !metadata.file_type().is_block_device() {
        return Err(wrong(
            job,
            format!("{} is neither a file nor a block device", path.display()),
        ));
    }
    let size = File::open(&path)
        .and_then(|mut device| device.seek(SeekFrom::End(0)))
        .map_err(|source| failed(job, "finding the size of", &path, source))?;
    Ok(Existing {
        path,
        size,
        is_regular: false,
    })
}

/// The part of each file that a thread uses.
fn ranges(
    job: &JobOptions,
    thread: usize,
    existing: &[Existing],
) -> Result<Vec<FileRange>, BenchError> {
    let least = least_block(job.rw, &job.block_sizes);
    let count = existing.len().max(1) as u64;
    let size_bytes = match job.size {
        Some(Extent::Bytes(bytes)) => Some(bytes),
        _ => None,
    };
    let share = size_bytes.unwrap_or(0) / count;
    // What does not divide evenly makes the first files greater.
    let mut greater = (size_bytes.unwrap_or(0) - share * count) / least;
    let mut ranges = Vec::new();
    for file in existing {
        let increment = job
            .offset_increment
            .map_or(0, |extent| extent.of(file.size));
        let start = job.offset.of(file.size) + increment * thread as u64;
        let rest = |size: u64| {
            size.checked_sub(start).ok_or_else(|| {
                let path = file.path.display();
                wrong(
                    job,
                    format!("offset {start} lies beyond the {size} bytes of {path}"),
                )
            })
        };
        let mut size = match (job.filesize_bytes, share) {
            (Some(filesize), _) => rest(filesize)?,
            (None, 0) => rest(file.size)?,
            (None, share) if greater > 0 => {
                greater -= 1;
                share + least
            }
            (None, share) => share,
        };
        if let Some(Extent::Percent(percent)) = job.size {
            let part = Extent::Percent(percent).of(size + start).min(size);
            size = part - part % least;
        }
        if size == 0 && file.size == 0 {
            return Err(wrong(
                job,
                format!("needs size: {} is not there or empty", file.path.display()),
            ));
        }
        ranges.push(FileRange {
            start,
            size,
            file_size: file.size,
        });
    }
    Ok(ranges)
}

/// Makes a file of that size anew. Its blocks are written where the job reads them or overwrites them, and where it maps
/// them; else room is made for them.
fn lay_out(
    job: &JobOptions,
    path: &Path,
    size: u64,
    control: &RunControl,
) -> Result<(), (&'static str, io::Error)> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| ("making the folder of", source))?;
    }
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(("removing", source));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(|source| ("making", source))?;
    let is_mapped = job.ioengine == JobEngine::Io(EngineName::Mmap);
    preallocate(job.fallocate, &file, size).map_err(|source| ("preallocating", source))?;
    if !(job.rw.reads() || job.overwrite || is_mapped) {
        return Ok(());
    }
    ftruncate(&file, size).map_err(|errno| ("lengthening", errno.into()))?;
    let mut random = Random::new(size);
    let mut content = vec![0; LAYOUT_STEP];
    let mut left = size;
    while left > 0 && !control.is_stopped() {
        let step = usize::try_from(left).unwrap_or(usize::MAX).min(LAYOUT_STEP);
        let part = content.get_mut(..step).unwrap_or_default();
        random.fill(part);
        file.write_all(part)
            .map_err(|source| ("laying out", source))?;
        left -= step as u64;
    }
    if left > 0 {
        return std::fs::remove_file(path).map_err(|source| ("removing", source));
    }
    file.sync_all().map_err(|source| ("syncing", source))?;
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    Ok(())
}

fn preallocate(how: Fallocate, file: &File, size: u64) -> io::Result<()> {
    let allocated = match how {
        Fallocate::None => Ok(()),
        Fallocate::Native | Fallocate::Posix => fallocate(file, FallocateFlags::empty(), 0, size),
        Fallocate::Keep => fallocate(file, FallocateFlags::KEEP_SIZE, 0, size),
        Fallocate::Truncate => ftruncate(file, size),
    };
    match allocated {
        // Where the file system cannot, the C library would write zeros; the blocks come with the job's own writes.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(ftruncate(file, size)?),
        allocated => Ok(allocated?),
    }
}

fn failed(job: &JobOptions, operation: &'static str, path: &Path, source: io::Error) -> BenchError {
    BenchError::File {
        job: job.name.clone(),
        operation,
        path: path.to_owned(),
        source,
    }
}

fn wrong(job: &JobOptions, reason: String) -> BenchError {
    BenchError::Options {
        job: job.name.clone(),
        reason,
    }
}
