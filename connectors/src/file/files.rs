//! The lines of one file or of a folder's files in name order, from a position on.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::input::{Step, too_long};
use super::lines::{LINE_BYTES_MAX, LineBuffer};
use super::position::Position;
use crate::SourceError;

/// The files of a folder that are read.
const EXTENSIONS: [&str; 3] = ["jsonl", "ndjson", "json"];

/// What may still be appended to a file that is done: the newline of its last line.
const NEWLINE_BYTES_MAX: u64 = 2;

/// Reads files. A file of a folder is done when it is at its end and a later one exists.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    is_folder: bool,
    /// Whether to wait for more at the end.
    follow: bool,
    current: Option<Current>,
    /// The files before the current one, with their sizes as they were read.
    done: BTreeMap<Arc<str>, u64>,
    /// The files as they were last looked at, in name order.
    listing: Vec<Listed>,
    /// The current file is the last or a later one exists: what it holds now is all that it will hold.
    finishing: bool,
    buffer: LineBuffer,
    line: Range<usize>,
    position: Position,
    taken_bytes: u64,
    known_bytes: u64,
}

#[derive(Debug)]
struct Current {
    name: Arc<str>,
    path: PathBuf,
    file: File,
}

/// A file of the folder.
#[derive(Debug)]
struct Listed {
    name: Arc<str>,
    size_bytes: u64,
}

impl Files {
    /// Opens the file or folder at the position, or at its start.
    pub(super) fn open(
        root: &Path,
        position: Option<Position>,
        follow: bool,
    ) -> Result<Self, SourceError> {
        let metadata = std::fs::metadata(root).map_err(|error| unreadable(root, &error))?;
        if !metadata.is_dir() && !metadata.is_file() {
            return Err(SourceError::Config(format!(
                "{} is neither a file nor a folder",
                root.display()
            )));
        }
        let mut files = Files {
            root: root.to_owned(),
            is_folder: metadata.is_dir(),
            follow,
            current: None,
            done: BTreeMap::new(),
            listing: Vec::new(),
            finishing: false,
            buffer: LineBuffer::default(),
            line: 0..0,
            position: Position::start_of("".into()),
            taken_bytes: 0,
            known_bytes: 0,
        };
        files.listing = files.list()?;
        if let Some(position) = position {
            files.resume(position)?;
        }
        files.count_known();
        Ok(files)
    }

    /// Goes on where an earlier run was.
    fn resume(&mut self, position: Position) -> Result<(), SourceError> {
        let before = self.count_before(&position.file);
        if self
            .listing
            .get(before)
            .is_none_or(|file| file.name != position.file)
        {
            return Err(SourceError::Config(format!(
                "{}: the database is at line {} of file '{}', which is not there; restore the file, or give the source \
                 another name to start afresh",
                self.root.display(),
                position.line,
                position.file
            )));
        }
        if before as u64 > position.files_before {
            return Err(SourceError::Record {
                place: self.root.display().to_string(),
                reason: format!(
                    "{before} files sort before '{}', {} did when it was begun; files are read in name order, so give \
                     the new ones later names",
                    position.file, position.files_before
                ),
            });
        }
        let earlier = self.listing.iter().take(before);
        self.done = earlier
            .map(|file| (Arc::clone(&file.name), file.size_bytes))
            .collect();
        self.enter(position)
    }

    pub(super) fn line(&self) -> &[u8] {
        self.buffer.line(self.line.clone())
    }

    pub(super) fn position(&self) -> &Position {
        &self.position
    }

    pub(super) fn place(&self) -> String {
        format!(
            "{}:{}",
            self.path_of(&self.position.file).display(),
            self.position.line
        )
    }

    pub(super) fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    pub(super) fn known_bytes(&self) -> u64 {
        self.known_bytes
    }

    pub(super) fn step(&mut self) -> Result<Step, SourceError> {
        loop {
            if let Some(line) = self.buffer.take_line() {
                return Ok(self.take(line));
            }
            if self.buffer.rest_bytes() > LINE_BYTES_MAX {
                self.position.line += 1;
                return Err(too_long(self.place()));
            }
            if let Some(current) = &mut self.current
                && self
                    .buffer
                    .fill(&mut current.file)
                    .map_err(|error| unreadable(&current.path, &error))?
                    > 0
            {
                continue;
            }
            if let Some(step) = self.at_end()? {
                return Ok(step);
            }
        }
    }

    /// At the end of what the current file holds; `None`: there may be more to take at once.
    fn at_end(&mut self) -> Result<Option<Step>, SourceError> {
        if let Some(current) = &self.current {
            self.check_unharmed(current)?;
        }
        if self.later().is_none() {
            self.listing = self.list()?;
            self.check_done()?;
            self.count_known();
        }
        let later = self.later();
        if self.current.is_some() && !self.finishing && (later.is_some() || !self.follow) {
            // Only now is it known that the file gets no more; it may have got some before that.
            self.finishing = true;
            return Ok(None);
        }
        if self.finishing
            && let Some(rest) = self.buffer.take_rest()
        {
            return Ok(Some(self.take(rest)));
        }
        match later {
            Some(name) => {
                let files_before = self.count_before(&name) as u64;
                if let Some(current) = self.current.take() {
                    self.done.insert(current.name, self.position.offset);
                }
                self.enter(Position {
                    files_before,
                    ..Position::start_of(name)
                })?;
                Ok(None)
            }
            None if self.follow => {
                self.finishing = false;
                Ok(Some(Step::Idle))
            }
            None => Ok(Some(Step::End)),
        }
    }

    /// The name of the file after the current one, as far as is known.
    fn later(&self) -> Option<Arc<str>> {
        let is_later = |file: &&Listed| {
            self.current
                .as_ref()
                .is_none_or(|current| file.name > current.name)
        };
        self.listing
            .iter()
            .find(is_later)
            .map(|file| Arc::clone(&file.name))
    }

    fn count_before(&self, name: &str) -> usize {
        self.listing
            .partition_point(|file| file.name.as_ref() < name)
    }

    fn take(&mut self, line: Range<usize>) -> Step {
        self.position.offset += line.len() as u64;
        self.position.line += 1;
        self.taken_bytes += line.len() as u64;
        self.line = line;
        Step::Line
    }

    fn path_of(&self, name: &str) -> PathBuf {
        if self.is_folder {
            self.root.join(name)
        } else {
            self.root.clone()
        }
    }

    /// Goes on in that file at that place.
    fn enter(&mut self, mut position: Position) -> Result<(), SourceError> {
        let path = self.path_of(&position.file);
        let mut file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
        let size_bytes = file
            .metadata()
            .map_err(|error| unreadable(&path, &error))?
            .len();
        if size_bytes < position.offset {
            return Err(shrunk(&path, size_bytes, position.offset));
        }
        let mut last = [b'\n'];
        if position.offset > 0 {
            file.read_exact_at(&mut last, position.offset - 1)
                .map_err(|error| unreadable(&path, &error))?;
        }
        if last != [b'\n'] {
            // The last line was taken without its newline, so the newline that follows is no line of its own.
            position.line = position.line.saturating_sub(1);
        }
        file.seek(SeekFrom::Start(position.offset))
            .map_err(|error| unreadable(&path, &error))?;
        self.buffer.clear();
        self.finishing = false;
        self.current = Some(Current {
            name: Arc::clone(&position.file),
            path,
            file,
        });
        self.position = position;
        Ok(())
    }

    /// The files to read, in name order.
    fn list(&self) -> Result<Vec<Listed>, SourceError> {
        if !self.is_folder {
            let name = self
                .root
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .as_ref()
                .into();
            let metadata = match &self.current {
                Some(current) => current.file.metadata(),
                None => std::fs::metadata(&self.root),
            };
            let size_bytes = metadata
                .map_err(|error| unreadable(&self.root, &error))?
                .len();
            return Ok(vec![Listed { name, size_bytes }]);
        }
        let mut listed = Vec::new();
        for entry in
            std::fs::read_dir(&self.root).map_err(|error| unreadable(&self.root, &error))?
        {
            let path = entry
                .map_err(|error| unreadable(&self.root, &error))?
                .path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if extension.is_none_or(|extension| !EXTENSIONS.contains(&extension)) {
                continue;
            }
            let name = path.file_name().unwrap_or_default();
            let name = name.to_str().ok_or_else(|| {
                SourceError::Config(format!("{}: the file's name is not UTF-8", path.display()))
            })?;
            if name.starts_with('.') {
                continue;
            }
            match std::fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => {
                    listed.push(Listed {
                        name: name.into(),
                        size_bytes: metadata.len(),
                    });
                }
                Ok(_) => {}
                // Removed or renamed since the folder was listed.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(&path, &error)),
            }
        }
        listed.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(listed)
    }

    fn count_known(&mut self) {
        let ahead = self.listing.iter().map(|file| match &self.current {
            Some(current) if file.name < current.name => 0,
            Some(current) if file.name == current.name => {
                file.size_bytes.saturating_sub(self.position.offset)
            }
            _ => file.size_bytes,
        });
        self.known_bytes = self.taken_bytes + ahead.sum::<u64>();
    }

    /// What turns up in or among the files that are done would never be read.
    fn check_done(&self) -> Result<(), SourceError> {
        let Some(current) = &self.current else {
            return Ok(());
        };
        for file in self
            .listing
            .iter()
            .take_while(|file| file.name < current.name)
        {
            let what = match self.done.get(&file.name) {
                None => "appeared",
                Some(size_bytes) if file.size_bytes > size_bytes + NEWLINE_BYTES_MAX => "grew",
                Some(_) => continue,
            };
            return Err(SourceError::Record {
                place: self.root.join(file.name.as_ref()).display().to_string(),
                reason: format!(
                    "the file {what} after '{}' was begun, and sorts before it; files are read in name order, each to \
                     its end before the next one",
                    current.name
                ),
            });
        }
        Ok(())
    }

    fn check_unharmed(&self, current: &Current) -> Result<(), SourceError> {
        let open = current
            .file
            .metadata()
            .map_err(|error| unreadable(&current.path, &error))?;
        let read = self.position.offset + self.buffer.rest_bytes() as u64;
        if open.len() < read {
            return Err(shrunk(&current.path, open.len(), read));
        }
        let identity = |metadata: &Metadata| (metadata.dev(), metadata.ino());
        match std::fs::metadata(&current.path) {
            Ok(named) if identity(&named) != identity(&open) => Err(SourceError::Config(format!(
                "{}: another file took its place while it was read (at line {}); rotated files belong in a folder, \
                 each with a name of its own",
                current.path.display(),
                self.position.line
            ))),
            _ => Ok(()),
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> SourceError {
    SourceError::Config(format!("cannot read {}: {error}", path.display()))
}

fn shrunk(path: &Path, size_bytes: u64, offset: u64) -> SourceError {
    SourceError::Config(format!(
        "{}: the file has {size_bytes} bytes, but {offset} were read before: it was truncated or replaced; restore it, or \
         give the source another name to start afresh",
        path.display()
    ))
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
