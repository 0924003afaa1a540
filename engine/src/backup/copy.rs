//! Putting what was captured into another folder.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::capture::Capture;
use super::target::Target;
use crate::codec::Malformed;
use crate::codec::key::hash_key;
use crate::error::{Error, Result};
use crate::io::{Io, IoFile, OpenMode};
use crate::log::format::{RecordHeader, RecordKind};
use crate::log::recovery::{LogFolder, LogReplay, replay_log};
use crate::log::segment::SegmentWriter;
use crate::log::segments::{LogSegments, OpenSegment};
use crate::parallel;
use crate::recovery::{log_folder, tree_folder};
use crate::row_set::check::check_row_set;
use crate::row_set::file::{DeltaFile, delta_file_path};
use crate::row_set::meta::RowSetMeta;
use crate::row_set::patch::{Replaced, RowSetPlace};
use crate::tree::edit::encode_edit;
use crate::tree::edit_log::EditLog;
use crate::tree::state::Described;
use crate::tree::store::HeldState;

/// Bytes copied at once.
const COPY_SIZE_BYTES: usize = 1 << 20;

/// How delta files get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// By a second name, where the file system can.
    Link,
    /// As checked copies.
    Copy,
}

/// What was put there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Copied {
    pub(super) commit_seq: u64,
    pub(super) linked_files: usize,
    pub(super) linked_bytes: u64,
    pub(super) copied_files: usize,
    pub(super) copied_bytes: u64,
}

/// Copies all but the manifest.
pub(super) fn copy(capture: &Capture<'_>, target: &Target, how: How) -> Result<Copied> {
    let mut copied = Copied::default();
    copy_log(capture, target, &mut copied)?;
    if capture.has_tree {
        copy_delta_files(capture, target, how, &mut copied)?;
        let edits = encode_edit(&capture.state.changes());
        let tree_folder = tree_folder(target.folder());
        EditLog::create(
            capture.io.clone(),
            &tree_folder,
            capture.database_id,
            &edits,
        )?;
        copied.copied_files += 1;
        copied.copied_bytes += edits.len() as u64;
    }
    Ok(copied)
}

/// What of a state lies in a delta file.
#[derive(Default)]
struct FileContent<'a> {
    row_sets: Vec<&'a RowSetMeta>,
    /// RowSets whose patch lies there.
    patched: Vec<&'a RowSetMeta>,
}

/// What a state holds, by file.
struct StateContent<'a> {
    files: Vec<(u64, FileContent<'a>)>,
    by_place: HashMap<RowSetPlace, &'a RowSetMeta>,
}

impl<'a> StateContent<'a> {
    fn of(state: &'a HeldState) -> Self {
        let mut files: BTreeMap<u64, FileContent<'_>> = BTreeMap::new();
        let mut by_place = HashMap::new();
        for meta in state.row_sets().map(Described::meta) {
            by_place.insert(meta.place(), meta);
            files
                .entry(meta.file_number)
                .or_default()
                .row_sets
                .push(meta);
            if let Some(patch) = &meta.patch {
                files
                    .entry(patch.file_number)
                    .or_default()
                    .patched
                    .push(meta);
            }
        }
        StateContent {
            files: files.into_iter().collect(),
            by_place,
        }
    }

    /// Reads all that a file holds of the state.
    fn check(&self, content: &FileContent<'_>, file: &Arc<DeltaFile>) -> Result<()> {
        for meta in &content.row_sets {
            check_row_set(meta, file, hash_key)?;
        }
        for patch in content
            .patched
            .iter()
            .filter_map(|meta| meta.patch.as_ref())
        {
            for target in &patch.targets {
                if let Some(older) = self.by_place.get(&target.place) {
                    patch.mark(file, older, &mut Replaced::none_of(older))?;
                }
            }
        }
        Ok(())
    }
}

fn copy_delta_files(
    capture: &Capture<'_>,
    target: &Target,
    how: How,
    copied: &mut Copied,
) -> Result<()> {
    let state = StateContent::of(&capture.state);
    let threads = capture.layout.recovery_threads.as_usize();
    let done = parallel::map(&state.files, threads, |(number, content)| {
        copy_delta_file(capture, target, how, *number, |file| {
            state.check(content, file)
        })
    });
    for file in done {
        let (is_linked, size_bytes) = file?;
        let (files, bytes) = if is_linked {
            (&mut copied.linked_files, &mut copied.linked_bytes)
        } else {
            (&mut copied.copied_files, &mut copied.copied_bytes)
        };
        *files += 1;
        *bytes += size_bytes;
    }
    Ok(())
}

/// Whether it was linked, and its length.
fn copy_delta_file(
    capture: &Capture<'_>,
    target: &Target,
    how: How,
    number: u64,
    check: impl Fn(&Arc<DeltaFile>) -> Result<()>,
) -> Result<(bool, u64)> {
    let io = &*capture.io;
    let from = delta_file_path(&tree_folder(&capture.folder), number);
    let to = delta_file_path(&tree_folder(target.folder()), number);
    if how == How::Link {
        match io.hard_link(&from, &to) {
            Ok(()) => return Ok((true, len_of(io, &to)?)),
            // What else stands in the way stands in the way of a copy too, which says so.
            Err(error) => tracing::debug!(%error, path = %to.display(), "copied, not linked"),
        }
    }
    let file = open(io, &from)?;
    let len_bytes = file
        .len_bytes()
        .map_err(|source| Error::io("read", &from, source))?;
    copy_bytes(io, (&*file, &from), &to, len_bytes)?;
    let copy = DeltaFile::open(io, &to, capture.database_id, number)?;
    if let Err(error) = check(&copy) {
        // Named where it lies, if it was damaged before.
        check(&DeltaFile::open(io, &from, capture.database_id, number)?)?;
        return Err(error);
    }
    Ok((false, len_bytes))
}

fn open(io: &dyn Io, path: &Path) -> Result<Arc<dyn IoFile>> {
    let opened = io.open(path, OpenMode::Read);
    opened.map_err(|source| match source.kind() {
        ErrorKind::NotFound => Error::Corrupt {
            path: path.to_owned(),
            offset: 0,
            reason: "the file is missing".into(),
        },
        _ => Error::io("open", path, source),
    })
}

fn len_of(io: &dyn Io, path: &Path) -> Result<u64> {
    let len_bytes = open(io, path)?.len_bytes();
    len_bytes.map_err(|source| Error::io("read", path, source))
}

/// Copies so many bytes from the front of a file into a new one, and syncs that.
pub(super) fn copy_bytes(
    io: &dyn Io,
    (file, from): (&dyn IoFile, &Path),
    to: &Path,
    len_bytes: u64,
) -> Result<()> {
    let copy = io
        .open(to, OpenMode::CreateNew)
        .map_err(|source| Error::io("create", to, source))?;
    let mut buffer = vec![0; COPY_SIZE_BYTES];
    let mut offset = 0;
    while offset < len_bytes {
        let left = usize::try_from(len_bytes - offset).unwrap_or(usize::MAX);
        let piece = buffer
            .get_mut(..left.min(COPY_SIZE_BYTES))
            .unwrap_or_default();
        file.read_exact_at(piece, offset)
            .map_err(|source| Error::io("read", from, source))?;
        copy.write_all_at(piece, offset)
            .map_err(|source| Error::io("write", to, source))?;
        offset += piece.len() as u64;
    }
    copy.sync_data()
        .map_err(|source| Error::io("sync", to, source))
}

/// Copies the log, reads the copy, and seals it.
fn copy_log(capture: &Capture<'_>, target: &Target, copied: &mut Copied) -> Result<()> {
    let io = &*capture.io;
    let folder = log_folder(target.folder());
    for (segment, len_bytes) in &capture.segments {
        let name = segment.path.file_name().unwrap_or_default();
        let from = (&*segment.file, segment.path.as_path());
        copy_bytes(io, from, &folder.join(name), *len_bytes)?;
        copied.copied_files += 1;
        copied.copied_bytes += len_bytes;
    }
    let log = LogFolder {
        io,
        folder: &folder,
        database_id: capture.database_id,
        layout: &capture.layout,
        start: capture.state.log_start,
        flushed_seq: capture.state.flushed_seq,
    };
    let mut content = LogContent::new(capture.state.flushed_seq);
    let end = replay_log(&log, true, &mut content)?;
    if content.last_seq < capture.seq_min || content.segments.len() != capture.segments.len() {
        return Err(Error::Corrupt {
            path: folder,
            offset: 0,
            reason: format!(
                "the copy of the log ends at commit {} instead of {}",
                content.last_seq, capture.seq_min
            ),
        });
    }
    copied.commit_seq = content.last_seq;
    let mut writer = SegmentWriter::new(
        capture.io.clone(),
        &folder,
        capture.database_id,
        capture.layout.log_segment_size_bytes.value,
        end.last_segment_number,
        end.last_block_number,
    );
    if let Some((segment, len_bytes)) = end.tail {
        writer.resume(segment, len_bytes);
        let segments = LogSegments::default();
        segments.note_flushed(capture.state.flushed_seq);
        writer.seal(&segments)?;
    }
    Ok(())
}

/// Which segments a log has, and the commit sequence that it ends with.
#[derive(Debug)]
pub(super) struct LogContent {
    pub(super) segments: Vec<OpenSegment>,
    pub(super) last_seq: u64,
}

impl LogContent {
    pub(super) fn new(flushed_seq: u64) -> Self {
        LogContent {
            segments: Vec::new(),
            last_seq: flushed_seq,
        }
    }
}

impl LogReplay for LogContent {
    fn segment(&mut self, segment: &OpenSegment) {
        self.segments.push(segment.clone());
    }

    fn record(&mut self, _: u64, header: RecordHeader, _: &[u8]) -> Result<(), Malformed> {
        if header.kind == RecordKind::Delta {
            self.last_seq = self.last_seq.max(header.seq);
        }
        Ok(())
    }

    fn block_end(&mut self, _: u64) {}
}
