//! The object store: objects that nobody changes, and a journal of what became of them.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use iceberg::io::{
    FileIO, FileIOBuilder, FileMetadata, FileRead, FileWrite, InputFile, OutputFile, Storage,
    StorageConfig, StorageFactory,
};
use iceberg::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::clock::yield_once;
use super::network::{Climate, Done, ProcessId, Request, Sending};
use super::{Lake, State};

/// How a store fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// All is well, but for what the climate says.
    Calm,
    /// Whatever is asked takes a while, and one request of some fails.
    Rough,
    /// Nothing more can be written.
    Full,
    /// The credentials are over.
    Expired,
}

/// An object.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) bytes: Bytes,
}

/// Something that became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was put.
    Put {
        /// The object.
        key: String,
    },
    /// It was deleted while the tables were what these metadata files say.
    Deleted {
        /// The object.
        key: String,
        /// The newest metadata file of each table of then.
        metadata_keys: Vec<String>,
    },
}

/// A lake's store, as a process sees it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SimulatedStore {
    #[serde(skip)]
    lake: Lake,
    #[serde(skip)]
    process: ProcessId,
}

fn failed(text: &str) -> Error {
    Error::new(ErrorKind::Unexpected, text)
}

impl State {
    pub(super) fn put(&mut self, key: &str, bytes: Bytes, _now_ms: i64) -> Done {
        if let Some(known) = self.objects.get(key)
            && known.bytes != bytes
        {
            self.violations.push(format!("{key} was written over"));
        }
        let stored = Stored { bytes };
        self.objects.insert(key.to_owned(), stored);
        self.journal.push(Event::Put {
            key: key.to_owned(),
        });
        Done::Stored
    }

    pub(super) fn delete(&mut self, key: &str, _now_ms: i64) -> Done {
        if let Some(stored) = self.objects.remove(key) {
            self.gone.insert(key.to_owned(), stored.bytes);
            let tables = self.tables.values();
            let metadata_keys = tables
                .map(|table| table.metadata_location.clone())
                .collect();
            self.journal.push(Event::Deleted {
                key: key.to_owned(),
                metadata_keys,
            });
        }
        Done::Stored
    }
}

impl SimulatedStore {
    /// The store of a lake, for a process.
    pub(super) fn of(lake: Lake, process: ProcessId) -> Self {
        SimulatedStore { lake, process }
    }

    /// From now on the store fares like this.
    pub fn set(&self, weather: Weather) {
        let mut state = self.lake.shared.state.lock();
        state.network.weather = weather;
        state.network.climate.objects_permille = match weather {
            Weather::Rough => Climate::ROUGH.objects_permille,
            _ => 0,
        };
    }

    /// How many requests failed.
    pub fn failures(&self) -> u64 {
        self.lake.shared.state.lock().network.failures
    }

    /// As Iceberg's crates use a store.
    pub fn file_io(&self) -> FileIO {
        FileIOBuilder::new(Arc::new(self.clone())).build()
    }

    fn count<T>(&self, answer: Result<T>) -> Result<T> {
        if answer.is_err() {
            self.lake.shared.state.lock().network.failures += 1;
        }
        answer
    }

    /// Asks for something that changes nothing, or is about to.
    async fn ask(&self, is_write: bool) -> Result<()> {
        self.lake.pass(self.process).await;
        let (turns, answer) = {
            let mut state = self.lake.shared.state.lock();
            let is_dead = state.dead.contains(&self.process);
            let network = &mut state.network;
            let permille = network.climate.objects_permille;
            let turns = match permille {
                0 => 0,
                _ => network.random.below(4),
            };
            let is_cut = permille > 0 && network.random.permille(permille);
            let answer = match network.weather {
                _ if is_dead => Err(failed("the process is gone")),
                _ if is_cut => Err(failed("connection reset")),
                Weather::Full if is_write => Err(failed("No space left on device (os error 28)")),
                Weather::Expired => Err(failed("403 ExpiredToken: the provided token has expired")),
                _ => Ok(()),
            };
            (turns, answer)
        };
        for _ in 0..turns {
            yield_once().await;
        }
        self.count(answer)
    }

    /// Sends what changes something.
    async fn send(&self, request: Request) -> Result<()> {
        self.ask(matches!(request, Request::Put { .. })).await?;
        let clock = &self.lake.shared.clock;
        let now_ms = clock.now_ms();
        let sending = self.lake.shared.state.lock().send(&request, now_ms);
        let answer = match sending {
            Sending::Done(_) => Ok(()),
            Sending::Awaited { id, at_ms } => {
                self.lake.wait_for(id, at_ms).await;
                Ok(())
            }
            Sending::Told(_) | Sending::Never => Err(failed("connection reset")),
        };
        self.count(answer)
    }

    fn get(&self, path: &str) -> Result<Bytes> {
        let now_ms = self.lake.shared.clock.now_ms();
        let mut state = self.lake.shared.state.lock();
        state.deliver_due(now_ms, now_ms);
        let found = state.objects.get(path).map(|stored| stored.bytes.clone());
        let missing = || Error::new(ErrorKind::DataInvalid, format!("{path}: it is not there"));
        found.ok_or_else(missing)
    }
}

impl Lake {
    /// Waits for the answer of a request that is on its way.
    pub(super) async fn wait_for(&self, id: u64, at_ms: i64) -> Done {
        loop {
            let now_ms = self.shared.clock.now_ms();
            let left_ms = at_ms - now_ms;
            if left_ms > 0 {
                let pause_ms = left_ms.min(50).cast_unsigned();
                self.shared.clock.pause(pause_ms).await;
            }
            let now_ms = self.shared.clock.now_ms();
            let mut state = self.shared.state.lock();
            state.deliver_due(now_ms, now_ms);
            if let Some(done) = state.network.answer(id) {
                return done;
            }
        }
    }
}

/// A file that is written: it is there once it is closed.
struct Writing {
    store: SimulatedStore,
    path: String,
    bytes: BytesMut,
}

#[async_trait]
impl FileWrite for Writing {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.store.ask(true).await?;
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.bytes).freeze();
        let key = self.path.clone();
        self.store.send(Request::Put { key, bytes }).await
    }
}

/// A file that is read.
struct Reading {
    store: SimulatedStore,
    path: String,
}

#[async_trait]
impl FileRead for Reading {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        self.store.ask(false).await?;
        let bytes = self.store.get(&self.path)?;
        let (start, end) = (range.start as usize, range.end as usize);
        let is_within = start <= end && end <= bytes.len();
        let beyond = || Error::new(ErrorKind::DataInvalid, "beyond the end of the file");
        is_within
            .then(|| bytes.slice(start..end))
            .ok_or_else(beyond)
    }
}

#[async_trait]
#[typetag::serde]
impl Storage for SimulatedStore {
    async fn exists(&self, path: &str) -> Result<bool> {
        self.ask(false).await?;
        Ok(self.get(path).is_ok())
    }

    async fn metadata(&self, path: &str) -> Result<FileMetadata> {
        self.ask(false).await?;
        let size = self.get(path)?.len() as u64;
        Ok(FileMetadata { size })
    }

    async fn read(&self, path: &str) -> Result<Bytes> {
        self.ask(false).await?;
        self.get(path)
    }

    async fn reader(&self, path: &str) -> Result<Box<dyn FileRead>> {
        Ok(Box::new(Reading {
            store: self.clone(),
            path: path.to_owned(),
        }))
    }

    async fn write(&self, path: &str, bytes: Bytes) -> Result<()> {
        let key = path.to_owned();
        self.send(Request::Put { key, bytes }).await
    }

    async fn writer(&self, path: &str) -> Result<Box<dyn FileWrite>> {
        self.ask(true).await?;
        Ok(Box::new(Writing {
            store: self.clone(),
            path: path.to_owned(),
            bytes: BytesMut::new(),
        }))
    }

    async fn delete(&self, path: &str) -> Result<()> {
        let key = path.to_owned();
        self.send(Request::Delete { key }).await
    }

    async fn delete_prefix(&self, path: &str) -> Result<()> {
        let keys = self.lake.keys();
        for key in keys.into_iter().filter(|key| key.starts_with(path)) {
            self.send(Request::Delete { key }).await?;
        }
        Ok(())
    }

    async fn delete_stream(&self, mut paths: BoxStream<'static, String>) -> Result<()> {
        while let Some(key) = paths.next().await {
            self.send(Request::Delete { key }).await?;
        }
        Ok(())
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
