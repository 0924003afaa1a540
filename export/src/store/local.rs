//! The files of this machine.
//!
//! A file and its entry in the folder, and the folders that were made for it, are synced before the file counts as
//! written: a commit must not outlive the files that it names.

#![allow(
    clippy::disallowed_methods,
    reason = "the one place where local files enter this crate"
)]

use std::fs::{File, Metadata, ReadDir};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use iceberg::Result;
use iceberg::io::{FileRead, FileWrite};
use parking_lot::Mutex;

use super::StoredFile;
use super::io::failed;

/// The files of this machine.
pub(super) struct Local;

/// The path of a location: `file:///path`, `file:/path` or the path itself.
fn path_of(location: &str) -> PathBuf {
    let path = location.strip_prefix("file:").unwrap_or(location);
    match path.trim_start_matches('/') {
        relative if relative.len() < path.len() => Path::new("/").join(relative),
        _ => PathBuf::from(path),
    }
}

/// Runs something that waits for a disk.
async fn blocking<T: Send + 'static>(
    location: &str,
    run: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    let path = path_of(location);
    let ran = tokio::task::spawn_blocking(move || run(&path)).await;
    let is_damage = |error: &std::io::Error| {
        matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof)
    };
    ran.map_err(|error| failed(location, false, error))?
        .map_err(|error| failed(location, is_damage(&error), error))
}

impl Local {
    pub(super) async fn exists(location: &str) -> Result<bool> {
        blocking(location, |path| path.try_exists()).await
    }

    pub(super) async fn size_bytes(location: &str) -> Result<u64> {
        blocking(location, |path| Ok(path.metadata()?.len())).await
    }

    pub(super) async fn read(location: &str) -> Result<Bytes> {
        blocking(location, |path| Ok(std::fs::read(path)?.into())).await
    }

    pub(super) async fn reader(location: &str) -> Result<LocalReader> {
        let file = blocking(location, |path| File::open(path)).await?;
        Ok(LocalReader {
            location: location.to_owned(),
            file: Arc::new(Mutex::new(file)),
        })
    }

    pub(super) async fn writer(location: &str) -> Result<LocalWriter> {
        let file = blocking(location, |path| {
            make_folder(path)?;
            File::create(path)
        });
        Ok(LocalWriter {
            location: location.to_owned(),
            file: Some(file.await?),
        })
    }

    pub(super) async fn put_if_absent(location: &str, bytes: Bytes) -> Result<bool> {
        let put = move |path: &Path| {
            make_folder(path)?;
            let mut file = match File::create_new(path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
                created => created?,
            };
            file.write_all(&bytes)?;
            sync(&file, path)?;
            Ok(true)
        };
        blocking(location, put).await
    }

    pub(super) async fn delete(location: &str) -> Result<()> {
        let delete = |path: &Path| match std::fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            deleted => deleted,
        };
        blocking(location, delete).await
    }

    /// Every file in a folder and those in it, one folder at a time, page by page.
    pub(super) fn list(folder: &str) -> BoxStream<'static, Result<StoredFile>> {
        let listing = Listing {
            folders: vec![folder.to_owned()],
            open: None,
        };
        let next = |listing: Listing| async move {
            let folder = match &listing.open {
                Some((folder, _)) => folder,
                None => listing.folders.last()?,
            };
            let place = folder.clone();
            match blocking(&place, |_| listing.next_page()).await {
                Ok((files, listing)) => Some((files.into_iter().map(Ok).collect(), Some(listing))),
                Err(error) => Some((vec![Err(error)], None)),
            }
        };
        let pages = stream::unfold(
            Some(listing),
            move |listing| async move { next(listing?).await },
        );
        pages.flat_map(stream::iter).boxed()
    }
}

/// Files of a page.
const PAGE_FILES: usize = 1000;

/// Folders that are gone through.
struct Listing {
    /// Whose files were not listed yet.
    folders: Vec<String>,
    /// The folder whose entries are read.
    open: Option<(String, ReadDir)>,
}

impl Listing {
    /// The next files of the folder that is open, or of the next one. There are none where there is no such folder.
    fn next_page(mut self) -> std::io::Result<(Vec<StoredFile>, Listing)> {
        let mut files = Vec::new();
        if self.open.is_none()
            && let Some(folder) = self.folders.pop()
        {
            match std::fs::read_dir(path_of(&folder)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                entries => self.open = Some((folder, entries?)),
            }
        }
        while let Some((folder, entries)) = &mut self.open
            && files.len() < PAGE_FILES
        {
            let Some(entry) = entries.next() else {
                self.open = None;
                break;
            };
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let location = format!("{folder}/{name}");
            // What was deleted meanwhile is not there.
            match entry.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(metadata) if metadata.is_dir() => self.folders.push(location),
                Ok(metadata) if metadata.is_file() => files.push(StoredFile {
                    location,
                    size_bytes: metadata.len(),
                    modified_ms: modified_ms(&metadata)?,
                }),
                Ok(_) => {}
            }
        }
        Ok((files, self))
    }
}

fn modified_ms(metadata: &Metadata) -> std::io::Result<i64> {
    let since = metadata.modified()?.duration_since(UNIX_EPOCH);
    Ok(since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }))
}

/// Makes the folder of a file, and syncs each folder that an entry was made in.
fn make_folder(path: &Path) -> std::io::Result<()> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.is_dir())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    missing.iter().try_for_each(|made| sync_folder_of(made))
}

fn sync(file: &File, path: &Path) -> std::io::Result<()> {
    file.sync_all()?;
    sync_folder_of(path)
}

fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Reads parts of a file.
pub(super) struct LocalReader {
    location: String,
    file: Arc<Mutex<File>>,
}

#[async_trait]
impl FileRead for LocalReader {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let file = self.file.clone();
        let read = move |_: &Path| {
            let length = usize::try_from(range.end.saturating_sub(range.start));
            let mut bytes = vec![0; length.map_err(std::io::Error::other)?];
            let mut file = file.lock();
            file.seek(SeekFrom::Start(range.start))?;
            file.read_exact(&mut bytes)?;
            Ok(bytes.into())
        };
        blocking(&self.location, read).await
    }
}

/// Writes a file from its beginning to its end.
pub(super) struct LocalWriter {
    location: String,
    /// None once it is closed, or a write failed.
    file: Option<File>,
}

impl LocalWriter {
    fn take(&mut self) -> Result<File> {
        let gone = || failed(&self.location, false, "the file is closed, or broken");
        self.file.take().ok_or_else(gone)
    }
}

#[async_trait]
impl FileWrite for LocalWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let mut file = self.take()?;
        let write = move |_: &Path| file.write_all(&bytes).map(|()| file);
        self.file = Some(blocking(&self.location, write).await?);
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        let file = self.take()?;
        blocking(&self.location, move |path| sync(&file, path)).await
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use iceberg::io::Storage;

    use super::super::Store;
    use super::*;

    #[test]
    fn every_spelling_of_a_path() {
        for location in ["file:///a/b", "file:/a/b", "/a/b", "file:////a/b"] {
            assert_eq!(path_of(location), Path::new("/a/b"), "{location}");
        }
        assert_eq!(path_of("a/b"), Path::new("a/b"));
    }

    #[tokio::test]
    async fn files_are_written_read_listed_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let root = format!("file://{}", folder.path().display());
        let store = Store::local();
        let nothing: Vec<StoredFile> = store.list(&root).try_collect().await.unwrap();
        assert!(nothing.is_empty());
        let inner = format!("{root}/a/b/c.txt");
        let mut writer = store.writer(&inner).await.unwrap();
        writer.write("ab".into()).await.unwrap();
        writer.write("cd".into()).await.unwrap();
        writer.close().await.unwrap();
        assert!(writer.close().await.is_err());
        store
            .write(&format!("{root}/d.txt"), "e".into())
            .await
            .unwrap();

        assert_eq!(store.read(&inner).await.unwrap(), "abcd");
        let reader = store.reader(&inner).await.unwrap();
        assert_eq!(reader.read(1..3).await.unwrap(), "bc");
        let short = reader.read(3..5).await.unwrap_err();
        assert_eq!(short.kind(), iceberg::ErrorKind::DataInvalid);
        assert_eq!(store.metadata(&inner).await.unwrap().size, 4);
        let mut files: Vec<StoredFile> = store.list(&root).try_collect().await.unwrap();
        files.sort_by(|left, right| left.location.cmp(&right.location));
        let names: Vec<&str> = files.iter().map(|file| file.location.as_str()).collect();
        assert_eq!(names, [inner.as_str(), &format!("{root}/d.txt")]);
        assert!(
            files
                .iter()
                .all(|file| file.modified_ms > 1_600_000_000_000)
        );

        store.delete(&inner).await.unwrap();
        store.delete(&inner).await.unwrap();
        assert!(!store.exists(&inner).await.unwrap());
        let missing = store.read(&inner).await.unwrap_err();
        assert_eq!(missing.kind(), iceberg::ErrorKind::DataInvalid);
        store.delete_prefix(&root).await.unwrap();
        assert!(!store.exists(&format!("{root}/d.txt")).await.unwrap());
    }
}
