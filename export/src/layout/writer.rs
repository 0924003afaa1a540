//! Data files on their way to the store.
//!
//! Rows are read by one thread and encoded by others; encoding hands bytes over as they are ready, and the async side writes
//! them to the store. Between stand at most [`BATCHES_AHEAD_MAX`] batches and [`PIECES_IN_FLIGHT_MAX`] pieces.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use arrow_array::RecordBatch;
use bytes::Bytes;
use iceberg::io::{FileIO, FileWrite};
use moonshine_engine::{Export, TableSchema};
use tokio::sync::mpsc;

use super::divider::Divider;
use super::{Layout, WrittenFile};
use crate::error::{At, ExportError, Result};

/// How many pieces may wait for the store.
const PIECES_IN_FLIGHT_MAX: usize = 2;
/// How many batches may be read and not taken yet.
const BATCHES_AHEAD_MAX: usize = 2;

/// Writes rows to files of about the layout's target size, whose n-th is at `path(n)`.
///
/// `batches` begins to hand out all rows, in the order of their primary key; it is asked again where there are more partitions than
/// files may be open. `started` collects the paths of begun files, so that a caller can remove them when this fails. The keys of the rows are
/// taken down where they are those of an `export`.
pub(crate) async fn write_data_files<B, P>(
    file_io: &FileIO,
    schema: &Arc<TableSchema>,
    layout: Layout,
    batches: impl Fn() -> Result<B> + Send + 'static,
    path: P,
    started: &mut Vec<String>,
    export: Option<Arc<Export>>,
) -> Result<Vec<WrittenFile>>
where
    B: Iterator<Item = Result<RecordBatch>> + Send,
    P: Fn(usize) -> String + Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel(PIECES_IN_FLIGHT_MAX);
    let schema = schema.clone();
    let encode = move || {
        let mut divider = Divider::new(&schema, &layout, Pieces { path, sender }, export);
        loop {
            read_ahead(batches()?, |batch| divider.take(batch))?;
            if !divider.end_pass()? {
                return Ok(divider.finish());
            }
        }
    };
    let encoder = tokio::task::spawn_blocking(encode);
    let stored = store_pieces(file_io, &mut receiver, started).await;
    // A failed store closes the channel, at which the encoder ends early.
    drop(receiver);
    let encoded: Result<Vec<WrittenFile>> = encoder.await.at("the Parquet encoder")?;
    stored?;
    encoded
}

/// Reads batches in a thread of its own, while those before are taken.
fn read_ahead(
    batches: impl Iterator<Item = Result<RecordBatch>> + Send,
    mut take: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(BATCHES_AHEAD_MAX);
        scope.spawn(move || {
            for batch in batches {
                let is_last = batch.is_err();
                // Who takes them may have ended early.
                if sender.send(batch).is_err() || is_last {
                    return;
                }
            }
        });
        receiver.into_iter().try_for_each(|batch| take(batch?))
    })
}

/// Where the bytes of files go.
pub(super) trait Output {
    /// Begins the n-th file; its path.
    fn open(&mut self, number: usize) -> Result<String>;
    /// The next bytes of it.
    fn bytes(&mut self, number: usize, bytes: Vec<u8>) -> Result<()>;
    /// It is complete.
    fn close(&mut self, number: usize) -> Result<()>;
}

enum Piece {
    Open(usize, String),
    Bytes(usize, Bytes),
    Close(usize),
}

struct Pieces<P> {
    path: P,
    sender: mpsc::Sender<Piece>,
}

impl<P> Pieces<P> {
    fn send(&self, piece: Piece) -> Result<()> {
        // Why it stopped is what the store itself answers.
        let stopped = |_| ExportError::unavailable("the store", "it takes no more");
        self.sender.blocking_send(piece).map_err(stopped)
    }
}

impl<P: Fn(usize) -> String> Output for Pieces<P> {
    fn open(&mut self, number: usize) -> Result<String> {
        let path = (self.path)(number);
        self.send(Piece::Open(number, path.clone()))?;
        Ok(path)
    }

    fn bytes(&mut self, number: usize, bytes: Vec<u8>) -> Result<()> {
        self.send(Piece::Bytes(number, bytes.into()))
    }

    fn close(&mut self, number: usize) -> Result<()> {
        self.send(Piece::Close(number))
    }
}

async fn store_pieces(
    file_io: &FileIO,
    receiver: &mut mpsc::Receiver<Piece>,
    started: &mut Vec<String>,
) -> Result<()> {
    let mut open: HashMap<usize, (String, Box<dyn FileWrite>)> = HashMap::new();
    let unavailable = |path: &str, error: iceberg::Error| ExportError::unavailable(path, error);
    while let Some(piece) = receiver.recv().await {
        match piece {
            Piece::Open(number, path) => {
                started.push(path.clone());
                let output = file_io
                    .new_output(&path)
                    .map_err(|error| unavailable(&path, error))?;
                let writer = output
                    .writer()
                    .await
                    .map_err(|error| unavailable(&path, error))?;
                open.insert(number, (path, writer));
            }
            Piece::Bytes(number, bytes) => {
                if let Some((path, writer)) = open.get_mut(&number) {
                    writer
                        .write(bytes)
                        .await
                        .map_err(|error| unavailable(path, error))?;
                }
            }
            Piece::Close(number) => {
                if let Some((path, mut writer)) = open.remove(&number) {
                    writer
                        .close()
                        .await
                        .map_err(|error| unavailable(&path, error))?;
                }
            }
        }
    }
    Ok(())
}
