//! From a folder to a database: the edits of the tree, and then the part of the log that they don't contain.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cache::generations::Generations;
use crate::codec::Malformed;
use crate::error::{Error, Result};
use crate::io::Io;
use crate::io::metered::{IoCounters, MeteredIo};
use crate::layout::{Given, Layout, profile_for};
use crate::log::fact::decode_table;
use crate::log::recovery::{LogEnd, LogFolder, replay_log};
use crate::log::segment::{SegmentWriter, segment_number, segment_path};
use crate::manifest::{FORMAT_VERSION, Manifest};
use crate::options::Options;
use crate::queue::commit_queue::CommitQueue;
use crate::replay::Replay;
use crate::row_set::budget::MemoryBudget;
use crate::row_set::open_files::OpenFiles;
use crate::row_set::page_cache::PageCache;
use crate::shared::Shared;
use crate::statistics::counters::Counters;
use crate::sync::thread;
use crate::tree::edit::encode_edit;
use crate::tree::edit_log::{EditLog, Replayed, replay_edits};
use crate::tree::files::delta_files;
use crate::tree::growth::TreeSizes;
use crate::tree::store::{HeldFiles, HeldState, TreeStore};
use crate::tree::table::{TableState, Trees};

/// The log may grow to so many times the size of a generation before one is flushed.
const LOG_PER_GENERATION: u64 = 4;
/// How often a reader beside a writer begins anew because files vanished under it.
const READ_ONLY_ATTEMPTS: usize = 200;

pub(crate) fn log_folder(folder: &Path) -> PathBuf {
    folder.join("log")
}

pub(crate) fn tree_folder(folder: &Path) -> PathBuf {
    folder.join("tree")
}

/// Creates a database in a folder that has none.
pub(crate) fn create(options: &Options, folder: &Path) -> Result<Manifest> {
    let io = &*options.io;
    let log_folder = log_folder(folder);
    io.create_folder(&log_folder)
        .map_err(|source| Error::io("create", &log_folder, source))?;
    let files = io
        .list(&log_folder)
        .map_err(|source| Error::io("list", &log_folder, source))?;
    if let Some(path) = files
        .into_iter()
        .find(|path| segment_number(path).is_some())
    {
        return Err(Error::Corrupt {
            path,
            offset: 0,
            reason: "a log without the manifest of its database".into(),
        });
    }
    let profile = profile_for(&options.profile, io, folder);
    let manifest = Manifest {
        version: FORMAT_VERSION,
        database_id: uuid::Builder::from_random_bytes(io.random_u128().to_be_bytes()).into_uuid(),
        shard_bits: profile.s_paral().ilog2(),
        profile,
    };
    plant(&options.io, folder, &manifest)?;
    Ok(manifest)
}

/// Raises a database of an older version to the current one, and gives it a tree if it has none. An older build refuses
/// it from then on, so it is done before anything new is written.
pub(crate) fn upgrade(io: &Arc<dyn Io>, folder: &Path, manifest: Manifest) -> Result<Manifest> {
    let had_tree = manifest.has_tree();
    let manifest = Manifest {
        version: FORMAT_VERSION,
        ..manifest
    };
    if had_tree {
        manifest.write(&**io, folder)?;
    } else {
        plant(io, folder, &manifest)?;
    }
    Ok(manifest)
}

/// Makes an empty tree, and then the manifest, which says that there is one.
fn plant(io: &Arc<dyn Io>, folder: &Path, manifest: &Manifest) -> Result<()> {
    let tree_folder = tree_folder(folder);
    io.create_folder(&tree_folder)
        .map_err(|source| Error::io("create", &tree_folder, source))?;
    if let Some((_, path)) = delta_files(&**io, &tree_folder)?.pop() {
        return Err(Error::Corrupt {
            path,
            offset: 0,
            reason: "a tree without the manifest of its database".into(),
        });
    }
    EditLog::clear(&**io, &tree_folder)?;
    let state = encode_edit(&HeldState::default().changes());
    EditLog::create(io.clone(), &tree_folder, manifest.database_id, &state)?;
    // The folders of the tree and the log are durable before the name that says that they are there.
    io.sync_folder(folder)
        .map_err(|source| Error::io("sync", folder, source))?;
    manifest.write(&**io, folder)
}

/// Syncs the database's folder, and those that it is in: any of them may have been made with it.
pub(crate) fn sync_folders(io: &dyn Io, folder: &Path) -> Result<()> {
    for (height, folder) in folder.ancestors().enumerate() {
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        match io.sync_folder(folder) {
            Ok(()) => {}
            // Folders further up may belong to others.
            Err(error) if height > 1 => {
                tracing::debug!(%error, folder = %folder.display(), "not synced");
                break;
            }
            Err(source) => return Err(Error::io("sync", folder, source)),
        }
    }
    Ok(())
}

/// Brings a database back, and gives what goes on writing its log.
pub(crate) fn recover(
    options: &Options,
    manifest: Manifest,
    folder: &Path,
) -> Result<(Arc<Shared>, SegmentWriter)> {
    let (options, io_counters) = &metered(options);
    let database_id = manifest.database_id;
    let tree_folder = tree_folder(folder);
    let replayed = replay_edits(&*options.io, &tree_folder, database_id, true)?;
    let replayed = replayed.ok_or_else(|| no_edits(&tree_folder))?;
    let opening = Opening {
        options,
        io_counters,
        manifest: &manifest,
        folder,
        read_only: false,
    };
    let (shared, state, end) = opening.rebuild(Some(&replayed), &mut HeldFiles::new())?;
    let log = EditLog::resume(options.io.clone(), &tree_folder, database_id, &replayed)?;
    shared.store.resume(&options.io, log, state)?;
    let mut writer = SegmentWriter::new(
        options.io.clone(),
        &log_folder(folder),
        database_id,
        shared.layout.log_segment_size_bytes.value,
        end.last_segment_number,
        end.last_block_number,
    );
    if let Some((segment, len_bytes)) = end.tail {
        writer.resume(segment, len_bytes);
    }
    Ok((Arc::new(shared), writer))
}

/// Reads a database as it is now. Beside a writer, files may go while they are looked for; then it looks again.
pub(crate) fn recover_read_only(
    options: &Options,
    manifest: &Manifest,
    folder: &Path,
) -> Result<Arc<Shared>> {
    let (options, io_counters) = &metered(options);
    let opening = Opening {
        options,
        io_counters,
        manifest,
        folder,
        read_only: true,
    };
    // A file that is open can't go any more, so each attempt comes further, however fast the writer is.
    let mut files = HeldFiles::new();
    let mut attempt = 1;
    loop {
        match opening.read_once(&mut files) {
            Ok(shared) => return Ok(Arc::new(shared)),
            Err(error) if attempt == READ_ONLY_ATTEMPTS => return Err(error),
            Err(error) => tracing::debug!(%error, attempt, "reading the database anew"),
        }
        attempt += 1;
        thread::yield_now();
    }
}

/// The same options, with files that are counted.
fn metered(options: &Options) -> (Options, Arc<IoCounters>) {
    let counters = Arc::<IoCounters>::default();
    let io = MeteredIo::new(options.io.clone(), counters.clone());
    let options = Options {
        io: Arc::new(io),
        ..options.clone()
    };
    (options, counters)
}

fn no_edits(tree_folder: &Path) -> Error {
    Error::Corrupt {
        path: tree_folder.to_owned(),
        offset: 0,
        reason: "the log of edits is missing".into(),
    }
}

/// A database that is being opened.
struct Opening<'a> {
    options: &'a Options,
    io_counters: &'a Arc<IoCounters>,
    manifest: &'a Manifest,
    folder: &'a Path,
    read_only: bool,
}

impl Opening<'_> {
    fn read_once(&self, files: &mut HeldFiles) -> Result<Shared> {
        let replayed = if self.manifest.has_tree() {
            let (io, tree_folder) = (&*self.options.io, tree_folder(self.folder));
            let found = replay_edits(io, &tree_folder, self.manifest.database_id, false)?;
            Some(found.ok_or_else(|| no_edits(&tree_folder))?)
        } else {
            None
        };
        let (shared, _, _) = self.rebuild(replayed.as_ref(), files)?;
        Ok(shared)
    }

    /// Checks that a writer was who flushed what the log says is flushed and these edits don't have. Its log has all of that, but for
    /// rows of a bulk load.
    fn check_passed(&self, replayed: &Replayed, may_be_load: bool) -> Result<()> {
        let (io, tree_folder) = (&*self.options.io, tree_folder(self.folder));
        let found = replay_edits(io, &tree_folder, self.manifest.database_id, false)?;
        let end = |replayed: &Replayed| (replayed.path().to_owned(), replayed.len_bytes());
        let (path, offset) = end(replayed);
        if !may_be_load && found.is_some_and(|found| end(&found) != end(replayed)) {
            return Ok(());
        }
        Err(Error::Corrupt {
            path,
            offset,
            reason: "the edits end before what was flushed when the log was written".into(),
        })
    }

    /// The state that the edits and the log lead to.
    fn rebuild(
        &self,
        replayed: Option<&Replayed>,
        files: &mut HeldFiles,
    ) -> Result<(Shared, HeldState, LogEnd)> {
        let Opening {
            options,
            io_counters,
            manifest,
            folder,
            read_only,
        } = *self;
        let given = Given {
            log_segment_size_bytes: options.segment_size_bytes_max,
            generation_size_bytes: options.generation_size_bytes_max,
            fragment_size_bytes: options.fragment_size_bytes_max,
            compaction_threads: options.compaction_threads.map(|threads| threads as u64),
            ..Given::of_memory(options.memory_budget_bytes)
        };
        let layout = Layout::new(&manifest.profile, manifest.shard_bits, &given);
        let budget = MemoryBudget::new(options.memory_budget_bytes);
        let cache = PageCache::new(budget.clone());
        let open_files = OpenFiles::new(options.io.clone(), layout.open_files_max.as_usize());
        let store = TreeStore::new(tree_folder(folder), manifest.database_id, cache, open_files);
        let state = match replayed {
            Some(replayed) => store.load(&options.io, replayed, files, read_only)?,
            None => HeldState::default(),
        };
        let sizes = sizes(&layout, state.flushed_seq, &budget);
        let io = options.io.clone();
        let counters = Counters::new(io.clone(), io_counters.clone());
        let parts = (io, counters, store);
        let mut shared = Shared::new(manifest.clone(), layout, read_only, parts, sizes);
        take_state(&shared, &state).map_err(|malformed| Error::Corrupt {
            path: replayed.map_or_else(|| folder.to_owned(), |replayed| replayed.path().to_owned()),
            offset: 0,
            reason: malformed.0.to_owned(),
        })?;
        let log_folder = log_folder(folder);
        let log = LogFolder {
            io: &*options.io,
            folder: &log_folder,
            database_id: manifest.database_id,
            layout: &layout,
            start: state.log_start,
            flushed_seq: match read_only {
                true => u64::MAX,
                false => state.flushed_seq,
            },
        };
        shared.segments.note_flushed(state.flushed_seq);
        let mut replay = Replay::new(&shared, state.flushed_seq, state.facts_through_block);
        let end = replay_log(&log, !read_only, &mut replay);
        let end = end.map_err(|error| replay.cause(error))?;
        let (last_seq, last_empty_seq) = (replay.last_seq, replay.last_empty_seq);
        if let Some(replayed) = replayed
            && end.flushed_seq > state.flushed_seq
        {
            self.check_passed(replayed, last_empty_seq > state.flushed_seq)?;
        }
        let in_log = |reason: &str| Error::Corrupt {
            path: segment_path(&log_folder, end.last_segment_number),
            offset: 0,
            reason: reason.to_owned(),
        };
        if end.last_block_number < state.facts_through_block {
            return Err(in_log("the log ends before what was flushed from it"));
        }
        shared
            .facts
            .finish()
            .map_err(|malformed| in_log(malformed.0))?;
        let budget = shared.store.cache.budget();
        shared.queue = CommitQueue::new(manifest.database_id, last_seq, &layout, budget);
        Ok((shared, state, end))
    }
}

fn sizes(
    layout: &Layout,
    flushed_seq: u64,
    budget: &Arc<MemoryBudget>,
) -> (TreeSizes, Generations) {
    let generation = layout.generation_size_bytes.value;
    let tree_sizes = TreeSizes {
        fragment_size_bytes_max: layout.fragment_size_bytes.value,
        flush_size_bytes_min: layout.flush_size_bytes_min.value,
        child_bits: layout.child_count.value.ilog2(),
        compaction_threads: layout.compaction_threads.as_usize(),
    };
    let log_bytes_max = generation.saturating_mul(LOG_PER_GENERATION);
    let generations = Generations::new(flushed_seq, generation, log_bytes_max, budget);
    (tree_sizes, generations)
}

/// Gives the shared state what the tree holds.
fn take_state(shared: &Shared, state: &HeldState) -> Result<(), Malformed> {
    for (number, entry) in state.tables.iter().enumerate() {
        let (id, schema) = decode_table(&entry.record)?;
        if id as usize != number {
            return Err(Malformed("a table is missing before this one"));
        }
        let table = TableState::new(shared.database_id, id, schema);
        table.trees.store(Arc::new(Trees {
            rows: entry.rows.clone(),
            locations: entry.locations.clone(),
        }));
        table.exports.store(entry.exports.clone());
        shared.add_table(table);
    }
    for origin in &state.origins {
        shared
            .origins
            .advance(state.flushed_seq, origin.clone(), state.flushed_seq);
    }
    shared.pins.publish(state.flushed_seq, true);
    Ok(())
}
