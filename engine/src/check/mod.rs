//! Reading all that a database holds and checking what there is to check, without changing anything.
//!
//! The manifest says which database it is; the edits say which RowSets there are ([`tree`] reads those, several at a time);
//! the log has the rest ([`log`]). Each part notes its [`Problem`]s and goes on, so one run names all that is damaged. Beside
//! a process that writes, files may go while they are looked for, and the log be half written: what is wrong counts only if
//! it is seen twice running and the edits are still the same, else all is read anew.

mod log;
#[cfg(test)]
mod tests;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::database::Database;
use crate::error::{Error, Result};
use crate::io::{Io, OpenMode};
use crate::layout::{Given, Layout};
use crate::log::format::{SEGMENT_HEADER_SIZE_BYTES, SegmentHeader};
use crate::manifest::Manifest;
use crate::options::Options;
use crate::profile::StoredProfile;
use crate::recovery::log_folder;
use crate::sync::Mutex;

/// How often a part is read anew because a process that writes went on meanwhile.
const ATTEMPTS: usize = 1000;

/// What [`Database::check`] found.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// database.keyspace("settings")?.insert("color", "green")?;
/// let check = Database::check(folder.path(), &Options::unmeasured())?;
/// assert_eq!((check.log_rows, check.problems.len()), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// The newest commit sequence that was found.
    pub commit_seq: u64,
    /// Tables below the log.
    pub tables: u64,
    /// Their fragments.
    pub fragments: u64,
    /// The RowSets of those, also of locations of exported rows.
    pub row_sets: u64,
    /// The rows of those, with tombstones.
    pub rows: u64,
    /// Ordinals in patches.
    pub patched_rows: u64,
    /// Delta files that they lie in.
    pub delta_files: u64,
    /// Edits of the tree.
    pub edits: u64,
    /// Segments of the log.
    pub log_segments: u64,
    /// Records of the log.
    pub log_records: u64,
    /// Rows in the log.
    pub log_rows: u64,
    /// Bytes of all that was read.
    pub checked_bytes: u64,
    /// Files that nobody names: left from a crash, or being written just now. The next start that writes removes them.
    pub unnamed_files: Vec<PathBuf>,
    /// What is wrong, in the order in which it was found.
    pub problems: Vec<Problem>,
}

/// Something that is wrong with a database.
///
/// ```
/// use moonshine_engine::Problem;
/// let problem = Problem { path: "log/1".into(), offset: Some(48), reason: "a wrong checksum".into() };
/// assert_eq!(problem.to_string(), "log/1, byte 48: a wrong checksum");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Where in it, in bytes from its start; `None` for the whole of it.
    pub offset: Option<u64>,
    /// What was found there.
    pub reason: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(offset) = self.offset {
            write!(f, ", byte {offset}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl Problem {
    fn of(error: Error, at: &Path) -> Self {
        match error {
            Error::Corrupt {
                path,
                offset,
                reason,
            } => Problem {
                path,
                offset: Some(offset),
                reason,
            },
            Error::Io {
                operation,
                path,
                source,
            } => Problem {
                path,
                offset: None,
                reason: format!("{operation}: {source}"),
            },
            other => Problem {
                path: at.to_owned(),
                offset: None,
                reason: other.to_string(),
            },
        }
    }
}

impl Database {
    /// Reads the whole database in a folder and checks every checksum, the order of keys and of commit sequences, that
    /// every row is found where it belongs, that ordinals and files that are named exist, and that nothing is missing
    /// between the tree and the log. It changes nothing, works beside a process that writes, and goes on after what is
    /// damaged, so that all of it is named.
    ///
    /// It reads with as many threads as the device needs (S-Paral), each with up to 17 MiB of memory; the log a segment at a
    /// time.
    ///
    /// ```
    /// use moonshine_engine::{Database, Options};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let database = Database::open(folder.path(), Options::unmeasured())?;
    /// database.keyspace("settings")?.insert("color", "green")?;
    /// let check = Database::check(folder.path(), &Options::unmeasured())?;
    /// assert_eq!((check.log_rows, check.problems.len()), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no database, [`Error::NewerFormat`] if this build does not read it, [`Error::Io`] if
    /// the system refuses the folder. What is wrong with the database is in [`Check::problems`].
    pub fn check(folder: impl AsRef<Path>, options: &Options) -> Result<Check> {
        let folder = folder.as_ref();
        let io = &options.io;
        let mut check = Check::default();
        let manifest = match Manifest::read(&**io, folder) {
            Ok(Some(manifest)) => Ok(manifest),
            Ok(None) => Err(Error::Usage(format!(
                "there is no database in {}",
                folder.display()
            ))),
            Err(error @ Error::Corrupt { .. }) => {
                check.problems.push(Problem::of(error, folder));
                Err(Error::Usage("the manifest is damaged".into()))
            }
            Err(error) => Err(error),
        };
        let given = Given::of_memory(options.memory_budget_bytes);
        let checking = match manifest {
            Ok(manifest) => Checking {
                io,
                folder,
                database_id: manifest.database_id,
                has_tree: manifest.has_tree(),
                layout: Layout::new(&manifest.profile, manifest.shard_bits, &given),
                found: Mutex::new(check),
            },
            Err(error) => {
                let id = id_in_log(&**io, folder);
                let (Some(database_id), false) = (id, check.problems.is_empty()) else {
                    return match check.problems.is_empty() {
                        true => Err(error),
                        false => Ok(check),
                    };
                };
                // The log names the database as well, so that the rest can be looked at.
                let profile = StoredProfile::unrecorded(0);
                Checking {
                    io,
                    folder,
                    database_id,
                    has_tree: true,
                    layout: Layout::new(&profile, 0, &given),
                    found: Mutex::new(check),
                }
            }
        };
        checking.run()
    }
}

/// The database id that the first readable segment names.
fn id_in_log(io: &dyn Io, folder: &Path) -> Option<Uuid> {
    let mut paths = io.list(&log_folder(folder)).ok()?;
    paths.sort();
    paths.iter().find_map(|path| {
        let mut header = [0; SEGMENT_HEADER_SIZE_BYTES];
        let file = io.open(path, OpenMode::Read).ok()?;
        file.read_exact_at(&mut header, 0).ok()?;
        Some(SegmentHeader::decode(&header).ok()?.database_id)
    })
}

/// A database that is being checked.
struct Checking<'a> {
    io: &'a Arc<dyn Io>,
    folder: &'a Path,
    database_id: Uuid,
    has_tree: bool,
    layout: Layout,
    found: Mutex<Check>,
}

impl Checking<'_> {
    fn run(self) -> Result<Check> {
        let mut seen: Vec<Problem> = Vec::new();
        for _ in 0..ATTEMPTS {
            let before = self.found.lock().clone();
            let edits = self.edits();
            let state = self.check_tree(&edits)?;
            self.check_log(&state)?;
            let is_same = self.version() == edits.as_ref().ok().and_then(Self::version_of);
            let problems = self.found.lock().problems.clone();
            // The log changes without an edit: what was seen of it but once may have been half written. Their order is
            // that of threads.
            let is_seen = |problem| seen.contains(problem);
            let is_settled =
                is_same && seen.len() == problems.len() && problems.iter().all(is_seen);
            if is_settled || problems.len() == before.problems.len() {
                break;
            }
            seen = problems;
            tracing::debug!("checking anew, since the database was written to");
            *self.found.lock() = before;
        }
        Ok(self.found.into_inner())
    }

    fn note(&self, error: Error) {
        let problem = Problem::of(error, self.folder);
        let mut found = self.found.lock();
        if !found.problems.contains(&problem) {
            found.problems.push(problem);
        }
    }
}
