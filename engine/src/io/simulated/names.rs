//! The names of files and folders, and which changes of them a crash may take back.
//!
//! Each change is atomic and belongs to the folder whose sync makes it durable. POSIX promises no more than that. File
//! systems with one journal (ext4, xfs) promise the order of all changes as well, and with a file's own sync its creation.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::content::Content;
use super::random::Random;
use crate::sync::Mutex;

/// A file, however many names it has.
pub(super) type File = Arc<Mutex<Content>>;

/// What becomes of changes of names whose folder was not synced when the power fails: creations, renames, removals, links.
///
/// ```
/// use std::path::Path;
///
/// use moonshine_engine::io::{CrashStyle, Io, NamesStyle, OpenMode, SimulatedIo};
/// let io = SimulatedIo::new(1);
/// io.open(Path::new("/a"), OpenMode::CreateNew)?.sync_data()?;
/// let after = |names| io.crash_image(CrashStyle::LoseUnsynced, names).files().len();
/// // The file's own sync made its name durable on a file system with a journal; POSIX does not promise that.
/// assert!((0..20).all(|seed| after(NamesStyle::Ordered(seed)) == 1));
/// assert!((0..20).any(|seed| after(NamesStyle::Any(seed)) == 0));
/// io.sync_folder(Path::new("/"))?;
/// assert!((0..20).all(|seed| io.crash_image(CrashStyle::LoseUnsynced, NamesStyle::Any(seed)).files().len() == 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamesStyle {
    /// All of them are kept.
    Kept,
    /// All up to one of them, as by the journal of ext4 or xfs.
    Ordered(u64),
    /// Each of them or not, as POSIX allows.
    Any(u64),
}

/// A change of one name.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Set(PathBuf, File),
    Unset(PathBuf),
    MakeFolder(PathBuf),
    RemoveFolder(PathBuf),
}

/// Changes that happen at once.
#[derive(Clone, Debug)]
pub(super) struct NameStep {
    sequence: u64,
    /// The folder whose sync makes it durable.
    folder: PathBuf,
    changes: Vec<NameChange>,
}

/// Files and folders by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    pub(super) files: BTreeMap<PathBuf, File>,
    pub(super) folders: BTreeSet<PathBuf>,
}

impl Tree {
    fn apply(&mut self, changes: &[NameChange]) {
        for change in changes {
            match change {
                NameChange::Set(path, file) => {
                    self.files.insert(path.clone(), file.clone());
                }
                NameChange::Unset(path) => {
                    self.files.remove(path);
                }
                NameChange::MakeFolder(path) => {
                    self.folders.insert(path.clone());
                }
                NameChange::RemoveFolder(path) => {
                    self.folders.remove(path);
                }
            }
        }
    }

    /// The files of a folder, sorted.
    pub(super) fn list(&self, folder: &Path) -> Vec<PathBuf> {
        let from = self.files.range(folder.to_owned()..);
        let below = from.take_while(|(path, _)| path.starts_with(folder));
        let here = below.filter(|(path, _)| path.parent() == Some(folder));
        here.map(|(path, _)| path.clone()).collect()
    }

    pub(super) fn file(&self, path: &Path) -> Result<File> {
        let file = self.files.get(path).cloned();
        file.ok_or_else(|| ErrorKind::NotFound.into())
    }
}

/// The names as they are, and as they are durable.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) current: Tree,
    durable: Tree,
    /// What leads from the durable names to the current ones, in order.
    journal: Vec<NameStep>,
    /// Up to here a file system with one journal has everything.
    ordered_through: u64,
}

impl Names {
    /// The names that a disk is found with, all of them durable.
    pub(super) fn found(tree: Tree) -> Self {
        Names {
            durable: tree.clone(),
            current: tree,
            ..Names::default()
        }
    }

    /// Changes names, which the sync of that folder makes durable.
    pub(super) fn change(&mut self, sequence: u64, folder: &Path, changes: Vec<NameChange>) {
        self.current.apply(&changes);
        self.journal.push(NameStep {
            sequence,
            folder: folder.to_owned(),
            changes,
        });
    }

    /// Makes a folder and those above it that are missing.
    pub(super) fn make_folders(&mut self, path: &Path, mut next_sequence: impl FnMut() -> u64) {
        let mut missing: Vec<&Path> = path
            .ancestors()
            .filter(|folder| folder.parent().is_some() && !self.current.folders.contains(*folder))
            .collect();
        while let Some(folder) = missing.pop() {
            let parent = folder.parent().unwrap_or(folder);
            let made = vec![NameChange::MakeFolder(folder.to_owned())];
            self.change(next_sequence(), parent, made);
        }
    }

    /// Makes what changed in a folder durable.
    pub(super) fn sync_folder(&mut self, folder: &Path) {
        let makes =
            |change: &NameChange| matches!(change, NameChange::MakeFolder(path) if path == folder);
        let mut left = Vec::new();
        for step in self.journal.drain(..) {
            let is_here = step.folder == folder;
            if is_here || step.changes.iter().any(makes) {
                self.ordered_through = self.ordered_through.max(step.sequence);
            }
            if is_here {
                self.durable.apply(&step.changes);
            } else {
                left.push(step);
            }
        }
        self.journal = left;
    }

    /// The own sync of a file that was made by that change.
    pub(super) fn sync_file(&mut self, created: u64) {
        self.ordered_through = self.ordered_through.max(created);
    }

    /// The names that a machine finds after a crash.
    pub(super) fn after_crash(&self, style: NamesStyle) -> Tree {
        let mut tree = self.durable.clone();
        let survives: Vec<bool> = match style {
            NamesStyle::Kept => return self.current.clone(),
            NamesStyle::Ordered(seed) => {
                let is_hard = |step: &NameStep| step.sequence <= self.ordered_through;
                let hard = self
                    .journal
                    .iter()
                    .rposition(is_hard)
                    .map_or(0, |at| at + 1);
                let soft = Random::new(seed).below(self.journal.len() - hard + 1);
                (0..self.journal.len()).map(|i| i < hard + soft).collect()
            }
            NamesStyle::Any(seed) => {
                let mut random = Random::new(seed);
                // Few are lost, or half, or most.
                let of_eight = [1, 4, 7].get(random.below(3)).copied().unwrap_or(4);
                self.journal
                    .iter()
                    .map(|_| random.below(8) < of_eight)
                    .collect()
            }
        };
        let mut folders = self.current.folders.clone();
        for (step, survives) in self.journal.iter().zip(survives) {
            if survives {
                tree.apply(&step.changes);
            }
            folders.extend(step.changes.iter().filter_map(|change| match change {
                NameChange::MakeFolder(path) => Some(path.clone()),
                _ => None,
            }));
        }
        // What lies in a folder goes with it.
        let is_there = |path: &Path| {
            let mut above = path.ancestors().skip(1);
            above.all(|folder| !folders.contains(folder) || tree.folders.contains(folder))
        };
        let (mut found, mut found_folders) = (tree.files.clone(), tree.folders.clone());
        found.retain(|path, _| is_there(path));
        found_folders.retain(|path| is_there(path));
        Tree {
            files: found,
            folders: found_folders,
        }
    }

    /// The same names of other files.
    pub(super) fn mapped(&self, mut map: impl FnMut(&File) -> File) -> Self {
        let mut map_tree = |tree: &Tree| Tree {
            files: tree
                .files
                .iter()
                .map(|(path, file)| (path.clone(), map(file)))
                .collect(),
            folders: tree.folders.clone(),
        };
        let (current, durable) = (map_tree(&self.current), map_tree(&self.durable));
        let mut journal = self.journal.clone();
        for change in journal.iter_mut().flat_map(|step| &mut step.changes) {
            if let NameChange::Set(_, file) = change {
                *file = map(file);
            }
        }
        Names {
            current,
            durable,
            journal,
            ordered_through: self.ordered_through,
        }
    }
}
