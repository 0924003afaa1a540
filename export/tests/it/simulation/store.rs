//! A store in memory that fills up, refuses, fails now and then, or is slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use iceberg::io::{
    FileIO, FileIOBuilder, FileMetadata, FileRead, FileWrite, InputFile, MemoryStorage, OutputFile,
    Storage, StorageConfig, StorageFactory,
};
use iceberg::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::support::Random;

/// How a store fares.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(u8)]
pub(crate) enum Weather {
    Calm,
    /// Whatever is asked takes a while, and one request of some fails.
    Rough,
    /// Nothing more can be written.
    Full,
    /// The credentials are over.
    Expired,
}

/// A store in memory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SimulatedStore {
    files: MemoryStorage,
    #[serde(skip)]
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    weather: AtomicU8,
    failures: AtomicU64,
    random: Mutex<Random>,
}

impl Default for State {
    fn default() -> Self {
        State {
            weather: AtomicU8::new(Weather::Calm as u8),
            failures: AtomicU64::new(0),
            random: Mutex::new(Random(77)),
        }
    }
}

fn failed(text: &str) -> Error {
    Error::new(ErrorKind::Unexpected, text)
}

impl SimulatedStore {
    pub(crate) fn set(&self, weather: Weather) {
        self.state.weather.store(weather as u8, Ordering::SeqCst);
    }

    /// How many requests failed.
    pub(crate) fn failures(&self) -> u64 {
        self.state.failures.load(Ordering::SeqCst)
    }

    pub(crate) fn file_io(&self) -> FileIO {
        FileIOBuilder::new(Arc::new(self.clone())).build()
    }

    async fn ask(&self, is_write: bool) -> Result<()> {
        let weather = self.state.weather.load(Ordering::SeqCst);
        let answer = if weather == Weather::Rough as u8 {
            let (turns, dice) = {
                let mut random = self.state.random.lock();
                (random.below(4), random.below(60))
            };
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            match dice {
                0 => Err(failed("connection reset")),
                _ => Ok(()),
            }
        } else if weather == Weather::Full as u8 && is_write {
            Err(failed("No space left on device (os error 28)"))
        } else if weather == Weather::Expired as u8 {
            Err(failed("403 ExpiredToken: the provided token has expired"))
        } else {
            Ok(())
        };
        if answer.is_err() {
            self.state.failures.fetch_add(1, Ordering::SeqCst);
        }
        answer
    }
}

struct Writing {
    store: SimulatedStore,
    inner: Box<dyn FileWrite>,
}

#[async_trait]
impl FileWrite for Writing {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.store.ask(true).await?;
        self.inner.write(bytes).await
    }

    async fn close(&mut self) -> Result<()> {
        self.store.ask(true).await?;
        self.inner.close().await
    }
}

#[async_trait]
#[typetag::serde]
impl Storage for SimulatedStore {
    async fn exists(&self, path: &str) -> Result<bool> {
        self.ask(false).await?;
        self.files.exists(path).await
    }

    async fn metadata(&self, path: &str) -> Result<FileMetadata> {
        self.ask(false).await?;
        self.files.metadata(path).await
    }

    async fn read(&self, path: &str) -> Result<Bytes> {
        self.ask(false).await?;
        self.files.read(path).await
    }

    async fn reader(&self, path: &str) -> Result<Box<dyn FileRead>> {
        self.ask(false).await?;
        self.files.reader(path).await
    }

    async fn write(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.ask(true).await?;
        self.files.write(path, bytes).await
    }

    async fn writer(&self, path: &str) -> Result<Box<dyn FileWrite>> {
        self.ask(true).await?;
        let inner = self.files.writer(path).await?;
        let store = self.clone();
        Ok(Box::new(Writing { store, inner }))
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.ask(false).await?;
        self.files.delete(path).await
    }

    async fn delete_prefix(&self, path: &str) -> Result<()> {
        self.ask(false).await?;
        self.files.delete_prefix(path).await
    }

    async fn delete_stream(&self, paths: BoxStream<'static, String>) -> Result<()> {
        self.ask(false).await?;
        self.files.delete_stream(paths).await
    }

    fn new_input(&self, path: &str) -> Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), path.to_owned()))
    }

    fn new_output(&self, path: &str) -> Result<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_owned()))
    }
}

#[typetag::serde]
impl StorageFactory for SimulatedStore {
    fn build(&self, _: &StorageConfig) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(self.clone()))
    }
}
