//! A backup: a second folder that holds the database at one commit sequence, made beside its writers.
//!
//! What is taken ([`capture`]) is decided in one moment: the state of the tree, whose delta files stay as long as it is held,
//! and how long the log is. Then the parts are put into the new folder ([`target`]): delta files by a second name, or as
//! copies that are checked ([`copy`]); the log's bytes up to that length, with a block that seals them; a log of edits that
//! makes the state at once; and at last the manifest, without which there is no database. A folder in which this does not
//! come to its end is no database, and what a failed backup made is removed.
//!
//! The copy has the same database id, which all its checksums are seeded with. So it can go on where the original was
//! lost; and of two that export to one Iceberg table, the one that comes second finds a snapshot that it does not know.

mod capture;
mod copy;
mod target;

use std::path::{Path, PathBuf};

use capture::Capture;
use copy::How;
use target::Target;

use crate::database::Database;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::tree::store::HeldFiles;

/// How often a database that another process writes to is begun anew because files went while they were copied.
const ATTEMPTS: usize = 1000;

/// A backup that was made, or a database that was restored from one.
///
/// ```
/// use moonshine_engine::{Database, Options};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// # let target = folder.path().join("backup");
/// let backup = database.backup(&target)?;
/// println!(
///     "{} files share their space with the original, {} bytes were copied",
///     backup.linked_files, backup.copied_bytes
/// );
/// assert_eq!(backup.folder, target);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// Its folder.
    pub folder: PathBuf,
    /// The newest commit sequence that it holds; all before it are there.
    pub commit_seq: u64,
    /// Delta files that it shares with the original, as second names of the same files.
    pub linked_files: usize,
    /// Bytes of those.
    pub linked_bytes: u64,
    /// Files that were written: copies of delta files, of the log, the edits and the manifest.
    pub copied_files: usize,
    /// Bytes of those.
    pub copied_bytes: u64,
}

impl Database {
    /// Makes a backup of the database in an empty folder, or one that does not exist: a database of its own that holds
    /// all that is visible now. Writers, flushes and compactions go on meanwhile.
    ///
    /// On the same file system a backup takes no space for delta files until the original lets go of them: they are hard
    /// links. Elsewhere they are copied and checked. A backup is opened with [`open`](Self::open), or copied once more by
    /// [`restore`](Self::restore). It works on a database that is read-only, beside the process that writes to it, and on one
    /// that takes no more writes.
    ///
    /// ```
    /// use moonshine_engine::{Database, Options};
    ///
    /// # let parent = tempfile::tempdir()?;
    /// # let (folder, target) = (parent.path().join("data"), parent.path().join("backup"));
    /// let database = Database::open(&folder, Options::unmeasured())?;
    /// let keyspace = database.keyspace("settings")?;
    /// keyspace.insert("color", "green")?;
    /// let backup = database.backup(&target)?;
    /// keyspace.insert("color", "red")?;
    ///
    /// assert_eq!(backup.commit_seq, 1);
    /// let copy = Database::open(&target, Options::unmeasured())?;
    /// assert_eq!(copy.keyspace("settings")?.get("color")?.as_deref(), Some(&b"green"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Usage`] if the folder holds anything, [`Error::NoSpace`] and [`Error::Io`] as the system answers,
    /// [`Error::Corrupt`] for a damaged file that had to be copied. What was made is removed.
    pub fn backup(&self, folder: impl AsRef<Path>) -> Result<Backup> {
        let (shared, folder) = (self.shared(), folder.as_ref());
        // What takes no more writes has nobody who knows where its log ends.
        if shared.read_only || shared.queue.failure().is_some() {
            let source = shared.store.folder.parent().unwrap_or(Path::new("."));
            let options = Options {
                io: shared.io.clone(),
                ..Options::unmeasured()
            };
            return copy_closed(&options, source, folder, How::Link);
        }
        let target = Target::begin(&shared.io, folder)?;
        let capture = Capture::of_open(shared)?;
        let copied = copy::copy(&capture, &target, How::Link)?;
        target.finish(&capture.manifest_path(), copied)
    }

    /// Copies a backup into an empty folder, or one that does not exist, and checks every file of the copy. The backup stays
    /// as it is; the copy shares no file with it. Any other database can be copied so, too.
    ///
    /// # Errors
    /// As [`backup`](Self::backup).
    pub fn restore(
        backup: impl AsRef<Path>,
        folder: impl AsRef<Path>,
        options: &Options,
    ) -> Result<Backup> {
        copy_closed(options, backup.as_ref(), folder.as_ref(), How::Copy)
    }
}

/// Copies a database that this process does not write to. Beside a writer, files may go while they are looked for; then
/// it looks again, unless nothing has changed meanwhile.
fn copy_closed(options: &Options, source: &Path, folder: &Path, how: How) -> Result<Backup> {
    // What is open already is not opened again, so each attempt comes further.
    let mut files = HeldFiles::new();
    let mut failed = None;
    for attempt in 1..=ATTEMPTS {
        let target = Target::begin(&options.io, folder)?;
        let mut version = None;
        let copied = Capture::of_closed(options, source, &mut files).and_then(|capture| {
            version = capture.version();
            let copied = copy::copy(&capture, &target, how)?;
            Ok((capture.manifest_path(), copied))
        });
        let error = match copied {
            Ok((manifest_path, copied)) => return target.finish(&manifest_path, copied),
            Err(error @ (Error::Corrupt { .. } | Error::Io { .. })) => error,
            Err(error) => return Err(error),
        };
        match (target.clear(), error) {
            // A file that was missed may have gone meanwhile, and it can't look again.
            (Err(left), error @ Error::Corrupt { .. }) => {
                let reason = std::io::Error::other(format!("{left}; before that, {error}"));
                return Err(Error::io("clear", folder, reason));
            }
            (Err(_), error) => return Err(error),
            (Ok(()), error) => {
                let now = Some((version, error.to_string()));
                if now == failed || attempt == ATTEMPTS {
                    return Err(error);
                }
                tracing::debug!(%error, attempt, "copying the database anew");
                failed = now;
            }
        }
    }
    Err(Error::Usage("the database was not copied".into()))
}
