//! What a backup takes: the state of the tree and the log behind it, as they were at one moment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::copy::LogContent;
use crate::commit::committer;
use crate::error::{Error, Result};
use crate::io::Io;
use crate::layout::{Given, Layout};
use crate::log::recovery::{LogFolder, replay_log};
use crate::log::segments::{OpenSegment, SegmentsHold};
use crate::manifest::Manifest;
use crate::options::Options;
use crate::recovery::{log_folder, tree_folder};
use crate::row_set::budget::MemoryBudget;
use crate::row_set::open_files::OpenFiles;
use crate::row_set::page_cache::PageCache;
use crate::shared::Shared;
use crate::tree::edit_log::replay_edits;
use crate::tree::store::{HeldFiles, HeldState, TreeStore};

/// A database as it was at a moment. While this is held, the files that it needs stay.
#[derive(Debug)]
pub(super) struct Capture<'a> {
    pub(super) io: Arc<dyn Io>,
    pub(super) folder: PathBuf,
    pub(super) database_id: Uuid,
    pub(super) layout: Layout,
    pub(super) state: HeldState,
    pub(super) has_tree: bool,
    /// The segments that are needed, and how much of each.
    pub(super) segments: Vec<(OpenSegment, u64)>,
    /// What the log must lead to.
    pub(super) seq_min: u64,
    version: Option<(PathBuf, usize)>,
    _hold: Option<SegmentsHold<'a>>,
}

impl<'a> Capture<'a> {
    /// The moment is between two blocks of the log and two edits, so that the log holds what the state refers to. The
    /// record of a bulk load is in the log before its rows are in the tree, so it waits for those.
    pub(super) fn of_open(shared: &'a Shared) -> Result<Self> {
        let (state, hold, end, seq_min) = loop {
            let captured = committer::between_blocks(shared, |writer| {
                let visible_seq = shared.pins.visible_seq();
                let logged_seq = shared.generations.active().seq_from();
                if logged_seq > visible_seq {
                    return Ok(Err(logged_seq));
                }
                let hold = shared.segments.hold();
                let state = shared.store.state()?;
                Ok(Ok((state, hold, writer.end(), visible_seq)))
            })?;
            match captured {
                Ok(captured) => break captured,
                Err(logged_seq) => shared.pins.wait_visible(logged_seq)?,
            }
        };
        let mut segments = Vec::new();
        for segment in hold.segments_from(state.log_start) {
            let len_bytes = match &end {
                Some((path, len_bytes)) if *path == segment.path => *len_bytes,
                _ => whole(&segment)?,
            };
            segments.push((segment, len_bytes));
        }
        let folder = shared.store.folder.parent().unwrap_or(Path::new("."));
        Ok(Capture {
            io: shared.io.clone(),
            folder: folder.to_owned(),
            database_id: shared.database_id,
            layout: shared.layout,
            state,
            has_tree: true,
            segments,
            seq_min,
            version: None,
            _hold: Some(hold),
        })
    }

    /// As a reader finds it now.
    pub(super) fn of_closed(
        options: &Options,
        folder: &Path,
        files: &mut HeldFiles,
    ) -> Result<Capture<'static>> {
        let io = &options.io;
        let manifest = Manifest::read(&**io, folder)?
            .ok_or_else(|| Error::Usage(format!("there is no database in {}", folder.display())))?;
        let database_id = manifest.database_id;
        let tree_folder = tree_folder(folder);
        let given = Given::of_memory(options.memory_budget_bytes);
        let layout = Layout::new(&manifest.profile, manifest.shard_bits, &given);
        let mut state = HeldState::default();
        let mut version = None;
        if manifest.has_tree() {
            let replayed = replay_edits(&**io, &tree_folder, database_id, false)?;
            let replayed = replayed.ok_or_else(|| Error::Corrupt {
                path: tree_folder.clone(),
                offset: 0,
                reason: "the log of edits is missing".into(),
            })?;
            version = Some((replayed.path().to_owned(), replayed.edits.len()));
            let cache = PageCache::new(MemoryBudget::new(0));
            let open_files = OpenFiles::new(io.clone(), layout.open_files_max.as_usize());
            let store = TreeStore::new(tree_folder, database_id, cache, open_files);
            state = store.load(io, &replayed, files, true)?;
        }
        let mut content = LogContent::new(state.flushed_seq);
        let log = LogFolder {
            io: &**io,
            folder: &log_folder(folder),
            database_id,
            layout: &layout,
            start: state.log_start,
            flushed_seq: state.flushed_seq,
        };
        let end = replay_log(&log, false, &mut content)?;
        let mut segments = Vec::new();
        for segment in content.segments {
            let len_bytes = match &end.tail {
                Some((tail, len_bytes)) if tail.number == segment.number => *len_bytes,
                _ => whole(&segment)?,
            };
            segments.push((segment, len_bytes));
        }
        Ok(Capture {
            io: io.clone(),
            folder: folder.to_owned(),
            database_id,
            layout,
            state,
            has_tree: manifest.has_tree(),
            segments,
            seq_min: content.last_seq,
            version,
            _hold: None,
        })
    }

    pub(super) fn manifest_path(&self) -> PathBuf {
        Manifest::path(&self.folder)
    }

    /// Which edits it was made from; another one says that a writer went on.
    pub(super) fn version(&self) -> Option<(PathBuf, usize)> {
        self.version.clone()
    }
}

fn whole(segment: &OpenSegment) -> Result<u64> {
    let len_bytes = segment.file.len_bytes();
    len_bytes.map_err(|source| Error::io("read", &segment.path, source))
}
