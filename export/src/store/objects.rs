//! A bucket of an object store.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use iceberg::io::{FileRead, FileWrite};
use iceberg::{Error, Result};
use object_store::path::Path;
use object_store::{
    MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayloadMut,
};
use tokio::task::JoinSet;

use super::StoredFile;
use super::io::failed;

/// Files up to this size are written by one request, larger ones in parts of it. S3 takes 10,000 parts, of 5 MiB or more.
const PART_BYTES: usize = 8 << 20;

/// How many parts of a file are on their way at a time.
const PARTS_AT_A_TIME: usize = 4;

/// A bucket, which Azure calls a container.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    /// What locations of its files begin with, without a slash at the end.
    root: String,
    /// Schemes that mean the same store as the root's.
    schemes: &'static [&'static str],
}

fn failed_at(location: &str, error: object_store::Error) -> Error {
    use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
    let hint = match error {
        PermissionDenied { .. } | Unauthenticated { .. } => {
            "; look at the credentials of the store"
        }
        _ => "",
    };
    let is_missing = matches!(error, NotFound { .. });
    failed(location, is_missing, format!("{error}{hint}"))
}

impl Objects {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        root: String,
        schemes: &'static [&'static str],
    ) -> Self {
        Objects {
            store,
            root,
            schemes,
        }
    }

    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// The key of a location in this bucket.
    fn path(&self, location: &str) -> Result<Path> {
        let elsewhere = || failed(location, false, format!("not a file in {}", self.root));
        let authority = self.root.split_once("://").map(|(_, authority)| authority);
        let key = location
            .split_once("://")
            .filter(|(scheme, _)| self.schemes.contains(scheme))
            .and_then(|(_, rest)| rest.strip_prefix(authority?)?.strip_prefix('/'))
            .ok_or_else(elsewhere)?;
        Path::parse(key).map_err(|error| failed(location, false, error))
    }

    pub(super) async fn exists(&self, location: &str) -> Result<bool> {
        match self.store.head(&self.path(location)?).await {
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            found => found
                .map(|_| true)
                .map_err(|error| failed_at(location, error)),
        }
    }

    pub(super) async fn size_bytes(&self, location: &str) -> Result<u64> {
        let found = self.store.head(&self.path(location)?).await;
        found
            .map(|found| found.size)
            .map_err(|error| failed_at(location, error))
    }

    pub(super) async fn read(&self, location: &str) -> Result<Bytes> {
        let path = self.path(location)?;
        let read = async { self.store.get(&path).await?.bytes().await };
        read.await.map_err(|error| failed_at(location, error))
    }

    pub(super) fn reader(&self, location: &str) -> Result<ObjectReader> {
        Ok(ObjectReader {
            path: self.path(location)?,
            store: self.store.clone(),
            location: location.to_owned(),
        })
    }

    pub(super) fn writer(&self, location: &str) -> Result<ObjectWriter> {
        Ok(ObjectWriter {
            path: self.path(location)?,
            store: self.store.clone(),
            location: location.to_owned(),
            buffer: PutPayloadMut::new(),
            parts: None,
            is_open: true,
        })
    }

    pub(super) async fn put_if_absent(&self, location: &str, bytes: Bytes) -> Result<bool> {
        let path = self.path(location)?;
        let put = self
            .store
            .put_opts(&path, bytes.into(), PutMode::Create.into());
        match put.await {
            Ok(_) => Ok(true),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(false),
            Err(error) => Err(failed_at(location, error)),
        }
    }

    pub(super) async fn delete(&self, location: &str) -> Result<()> {
        match self.store.delete(&self.path(location)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed_at(location, error)),
        }
    }

    /// Deletes many files, with as few requests as the store allows.
    pub(super) async fn delete_stream(&self, locations: BoxStream<'static, String>) -> Result<()> {
        let objects = self.clone();
        let generic = |error: Error| object_store::Error::Generic {
            store: "location",
            source: Box::new(error),
        };
        let paths = locations.map(move |location| objects.path(&location).map_err(generic));
        let mut deleted = self.store.delete_stream(paths.boxed());
        while let Some(deleted) = deleted.next().await {
            match deleted {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed_at(&self.root, error)),
            }
        }
        Ok(())
    }

    pub(super) fn list(&self, folder: &str) -> BoxStream<'static, Result<StoredFile>> {
        let path = match folder == self.root {
            true => Ok(Path::default()),
            false => self.path(folder),
        };
        let path = match path {
            Ok(path) => path,
            Err(error) => return futures::stream::iter([Err(error)]).boxed(),
        };
        let (folder, key_length) = (folder.to_owned(), path.as_ref().len());
        let file = move |found: object_store::Result<ObjectMeta>| {
            let found = found.map_err(|error| failed_at(&folder, error))?;
            let below = found.location.as_ref().get(key_length..);
            let below = below.unwrap_or_default().trim_start_matches('/');
            Ok(StoredFile {
                location: format!("{folder}/{below}"),
                size_bytes: found.size,
                modified_ms: found.last_modified.timestamp_millis(),
            })
        };
        self.store.list(Some(&path)).map(file).boxed()
    }
}

/// Reads parts of a file.
pub(super) struct ObjectReader {
    store: Arc<dyn ObjectStore>,
    path: Path,
    location: String,
}

#[async_trait]
impl FileRead for ObjectReader {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let read = self.store.get_range(&self.path, range).await;
        read.map_err(|error| failed_at(&self.location, error))
    }
}

/// Writes a file from its beginning to its end. It is not there before it is closed.
pub(super) struct ObjectWriter {
    store: Arc<dyn ObjectStore>,
    path: Path,
    location: String,
    /// What is not a part yet.
    buffer: PutPayloadMut,
    /// None of a file that is smaller than a part.
    parts: Option<Parts>,
    is_open: bool,
}

/// The parts of a file that were sent.
struct Parts {
    upload: Box<dyn MultipartUpload>,
    sent: JoinSet<object_store::Result<()>>,
}

impl Parts {
    /// Waits until fewer than so many parts are on their way.
    async fn wait(&mut self, count: usize) -> object_store::Result<()> {
        while self.sent.len() >= count.max(1) {
            if let Some(sent) = self.sent.join_next().await {
                sent??;
            }
        }
        Ok(())
    }
}

impl ObjectWriter {
    /// Makes the buffer a part and sends it.
    async fn send_part(&mut self) -> object_store::Result<()> {
        let parts = match &mut self.parts {
            Some(parts) => parts,
            None => self.parts.insert(Parts {
                upload: self.store.put_multipart(&self.path).await?,
                sent: JoinSet::new(),
            }),
        };
        parts.wait(PARTS_AT_A_TIME).await?;
        let part = std::mem::take(&mut self.buffer).freeze();
        parts.sent.spawn(parts.upload.put_part(part));
        Ok(())
    }

    async fn append(&mut self, mut bytes: Bytes) -> object_store::Result<()> {
        while !bytes.is_empty() {
            let free = PART_BYTES - self.buffer.content_length();
            self.buffer.push(bytes.split_to(free.min(bytes.len())));
            if self.buffer.content_length() == PART_BYTES {
                self.send_part().await?;
            }
        }
        Ok(())
    }

    async fn finish(&mut self) -> object_store::Result<()> {
        if self.parts.is_none() {
            let file = std::mem::take(&mut self.buffer).freeze();
            return self.store.put(&self.path, file).await.map(drop);
        }
        if !self.buffer.is_empty() {
            self.send_part().await?;
        }
        if let Some(parts) = &mut self.parts {
            parts.wait(1).await?;
            parts.upload.complete().await?;
        }
        self.parts = None;
        Ok(())
    }

    fn check_open(&self) -> Result<()> {
        match self.is_open {
            true => Ok(()),
            false => Err(failed(
                &self.location,
                false,
                "the file is closed, or broken",
            )),
        }
    }
}

#[async_trait]
impl FileWrite for ObjectWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.check_open()?;
        let written = self.append(bytes).await;
        self.is_open = written.is_ok();
        written.map_err(|error| failed_at(&self.location, error))
    }

    async fn close(&mut self) -> Result<()> {
        self.check_open()?;
        self.is_open = false;
        let finished = self.finish().await;
        finished.map_err(|error| failed_at(&self.location, error))
    }
}

/// Parts of a file that nobody closes are paid for as long as they stay.
impl Drop for ObjectWriter {
    fn drop(&mut self) {
        let Some(mut parts) = self.parts.take() else {
            return;
        };
        let location = std::mem::take(&mut self.location);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                parts.sent.shutdown().await;
                if let Err(error) = parts.upload.abort().await {
                    tracing::warn!(%location, %error, "parts of an unfinished file stay behind");
                }
            });
        }
    }
}
