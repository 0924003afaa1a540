//! A store in memory that counts what is read and written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use iceberg::Result;
use iceberg::io::{
    FileIO, FileIOBuilder, FileMetadata, FileRead, FileWrite, InputFile, MemoryStorage, OutputFile,
    Storage, StorageConfig, StorageFactory,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// What is done with files, by kind of file: how many, and bytes.
pub(crate) type Counts = BTreeMap<(Access, Kind), (u64, u64)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    Read,
    Write,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Data,
    Deletes,
    Manifest,
    ManifestList,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CountingStore {
    files: MemoryStorage,
    #[serde(skip)]
    counts: Arc<Mutex<Counts>>,
}

/// A file whose reads or writes are counted.
struct Counted<F> {
    inner: F,
    store: CountingStore,
    path: String,
}

impl CountingStore {
    pub(crate) fn file_io(&self) -> FileIO {
        FileIOBuilder::new(Arc::new(self.clone())).build()
    }

    /// What was counted since the last call.
    pub(crate) fn take(&self) -> Counts {
        std::mem::take(&mut self.counts.lock())
    }

    fn count(&self, access: Access, path: &str, files: u64, bytes: usize) {
        let kind = match path {
            _ if path.ends_with("-snapshot.avro") => Kind::ManifestList,
            _ if path.contains("/metadata/") => Kind::Manifest,
            _ if path.contains("-deletes-") => Kind::Deletes,
            _ => Kind::Data,
        };
        let mut counts = self.counts.lock();
        let count = counts.entry((access, kind)).or_default();
        count.0 += files;
        count.1 += bytes as u64;
    }

    fn counted<F>(&self, inner: F, path: &str) -> Box<Counted<F>> {
        Box::new(Counted {
            inner,
            store: self.clone(),
            path: path.to_owned(),
        })
    }
}

#[async_trait]
impl FileRead for Counted<Box<dyn FileRead>> {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let bytes = self.inner.read(range).await?;
        self.store.count(Access::Read, &self.path, 0, bytes.len());
        Ok(bytes)
    }
}

#[async_trait]
impl FileWrite for Counted<Box<dyn FileWrite>> {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.store.count(Access::Write, &self.path, 0, bytes.len());
        self.inner.write(bytes).await
    }

    async fn close(&mut self) -> Result<()> {
        self.inner.close().await
    }
}

#[async_trait]
#[typetag::serde(name = "CountingStore")]
impl Storage for CountingStore {
    async fn exists(&self, path: &str) -> Result<bool> {
        self.files.exists(path).await
    }

    async fn metadata(&self, path: &str) -> Result<FileMetadata> {
        self.files.metadata(path).await
    }

    async fn read(&self, path: &str) -> Result<Bytes> {
        let bytes = self.files.read(path).await?;
        self.count(Access::Read, path, 1, bytes.len());
        Ok(bytes)
    }

    async fn reader(&self, path: &str) -> Result<Box<dyn FileRead>> {
        self.count(Access::Read, path, 1, 0);
        Ok(self.counted(self.files.reader(path).await?, path))
    }

    async fn write(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.count(Access::Write, path, 1, bytes.len());
        self.files.write(path, bytes).await
    }

    async fn writer(&self, path: &str) -> Result<Box<dyn FileWrite>> {
        self.count(Access::Write, path, 1, 0);
        Ok(self.counted(self.files.writer(path).await?, path))
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.files.delete(path).await
    }

    async fn delete_prefix(&self, path: &str) -> Result<()> {
        self.files.delete_prefix(path).await
    }

    async fn delete_stream(&self, paths: BoxStream<'static, String>) -> Result<()> {
        self.files.delete_stream(paths).await
    }

    fn new_input(&self, path: &str) -> Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), path.to_owned()))
    }

    fn new_output(&self, path: &str) -> Result<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_owned()))
    }
}

#[typetag::serde(name = "CountingStore")]
impl StorageFactory for CountingStore {
    fn build(&self, _: &StorageConfig) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(self.clone()))
    }
}
