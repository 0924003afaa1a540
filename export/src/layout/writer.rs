//! Data files on their way to the store.
//!
//! Rows are read by one thread and encoded by others; encoding hands bytes over as they are ready, and the async side writes
//! them to the store. Between stand at most [`BATCHES_AHEAD_MAX`] batches and [`PIECES_IN_FLIGHT_MAX`] pieces; beside them each
//! open file keeps a piece of its own until it is whole, so many open files take many times [`PIECE_SIZE_BYTES`].

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::future::join;
use iceberg::io::{FileIO, FileWrite};
use moonshine_engine::{Export, TableSchema};
use tokio::sync::mpsc;

use super::divider::Divider;
use super::{Layout, WrittenFile};
use crate::environment::Work;
use crate::error::{ExportError, Result};

/// Bytes that are handed to the store at once.
const PIECE_SIZE_BYTES: usize = 1 << 20;
/// How many pieces may wait for the store.
const PIECES_IN_FLIGHT_MAX: usize = 8;
/// How many batches may be read and not taken yet.
const BATCHES_AHEAD_MAX: usize = 2;

/// Where data files go, and on which threads they are made.
#[derive(Clone, Copy)]
pub(crate) struct Destination<'a> {
    /// The store.
    pub(crate) file_io: &'a FileIO,
    /// The threads.
    pub(crate) work: &'a Arc<dyn Work>,
}

/// Writes rows to files of about the layout's target size, whose n-th is at `path(n)`.
///
/// `batches` begins to hand out all rows, in the order of their primary key; it is asked again where there are more partitions than
/// files may be open. `started` collects the paths of begun files, so that a caller can remove them when this fails. The keys of the rows are
/// taken down where they are those of an `export`.
pub(crate) async fn write_data_files<B, P>(
    destination: Destination<'_>,
    schema: &Arc<TableSchema>,
    layout: Layout,
    batches: impl Fn() -> Result<B> + Send + 'static,
    path: P,
    started: &mut Vec<String>,
    export: Option<Arc<Export>>,
) -> Result<Vec<WrittenFile>>
where
    B: Iterator<Item = Result<RecordBatch>> + Send + 'static,
    P: Fn(usize) -> String + Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel(PIECES_IN_FLIGHT_MAX);
    let (schema, work) = (schema.clone(), destination.work.clone());
    let encode = move || {
        let pieces = Pieces {
            path,
            sender,
            work: work.clone(),
        };
        let mut divider = Divider::new(&schema, &layout, pieces, export);
        loop {
            read_ahead(&work, batches()?, |batch| divider.take(batch))?;
            if !divider.end_pass()? {
                return Ok(divider.finish());
            }
        }
    };
    let store = async {
        let stored = store_pieces(destination.file_io, &mut receiver, started).await;
        // A failed store closes the channel, at which the encoder ends early.
        drop(receiver);
        stored
    };
    let encoder = destination.work.away("the Parquet encoder", encode);
    let (encoded, stored) = join(encoder, store).await;
    let encoded: Result<Vec<WrittenFile>> = encoded?;
    stored?;
    encoded
}

/// Reads batches in a thread of its own, while those before are taken.
fn read_ahead(
    work: &Arc<dyn Work>,
    batches: impl Iterator<Item = Result<RecordBatch>> + Send + 'static,
    mut take: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    let (sender, mut receiver) = mpsc::channel(BATCHES_AHEAD_MAX);
    let reader = work.clone();
    work.spawn(Box::new(move || {
        for batch in batches {
            let is_last = batch.is_err();
            // Who takes them may have ended early.
            let sent = reader.output(sender.send(Some(batch)));
            if is_last || !matches!(sent, Some(Ok(()))) {
                return;
            }
        }
        let _unwanted = reader.output(sender.send(None));
    }));
    loop {
        match work.output(receiver.recv()).flatten() {
            Some(Some(batch)) => take(batch?)?,
            Some(None) => return Ok(()),
            None => {
                let reason = "a thread that reads them ended early";
                return Err(ExportError::unavailable("the rows", reason));
            }
        }
    }
}

/// Where files go.
pub(super) trait Output {
    /// Takes the bytes of one file.
    type Bytes: FileBytes;

    /// Begins the n-th file; its path, and what takes its bytes.
    fn open(&mut self, number: usize) -> Result<(String, Self::Bytes)>;
    /// It is complete.
    fn close(&mut self, number: usize) -> Result<()>;
}

/// Takes the bytes of one file.
pub(super) trait FileBytes: Write + Send {
    /// Hands on what it still holds.
    fn end(&mut self) -> Result<()>;
}

enum Piece {
    Open(usize, String),
    Bytes(usize, Bytes),
    Close(usize),
}

struct Pieces<P> {
    path: P,
    sender: mpsc::Sender<Piece>,
    work: Arc<dyn Work>,
}

impl<P> Pieces<P> {
    fn send(&self, piece: Piece) -> Result<()> {
        // Why it stopped is what the store itself answers.
        let stopped = || ExportError::unavailable("the store", "it takes no more");
        let sent = self.work.output(self.sender.send(piece));
        sent.and_then(|sent| sent.ok()).ok_or_else(stopped)
    }
}

impl<P: Fn(usize) -> String> Output for Pieces<P> {
    type Bytes = PiecesOfFile;

    fn open(&mut self, number: usize) -> Result<(String, PiecesOfFile)> {
        let path = (self.path)(number);
        self.send(Piece::Open(number, path.clone()))?;
        let pieces = PiecesOfFile {
            number,
            last: Vec::new(),
            sender: self.sender.clone(),
            work: self.work.clone(),
        };
        Ok((path, pieces))
    }

    fn close(&mut self, number: usize) -> Result<()> {
        self.send(Piece::Close(number))
    }
}

/// Cuts the bytes of a file into pieces of one size, and sends each as soon as it is whole: the memory of one that was stored is
/// there again for another.
struct PiecesOfFile {
    number: usize,
    last: Vec<u8>,
    sender: mpsc::Sender<Piece>,
    work: Arc<dyn Work>,
}

impl PiecesOfFile {
    fn send(&mut self, next: Vec<u8>) -> std::io::Result<()> {
        let piece = std::mem::replace(&mut self.last, next);
        let piece = Piece::Bytes(self.number, piece.into());
        let sent = self.work.output(self.sender.send(piece));
        let stopped = || std::io::Error::other("the store takes no more");
        sent.and_then(|sent| sent.ok()).ok_or_else(stopped)
    }
}

impl Write for PiecesOfFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.last.len() >= PIECE_SIZE_BYTES {
            self.send(Vec::with_capacity(PIECE_SIZE_BYTES))?;
        }
        let room = PIECE_SIZE_BYTES - self.last.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.last.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl FileBytes for PiecesOfFile {
    fn end(&mut self) -> Result<()> {
        if self.last.is_empty() {
            return Ok(());
        }
        let sent = self.send(Vec::new());
        sent.map_err(|error| ExportError::unavailable("the store", error))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::TokioWork;

    #[test]
    fn bytes_of_a_file_leave_in_pieces_of_one_size() {
        let (sender, mut receiver) = mpsc::channel(PIECES_IN_FLIGHT_MAX);
        let mut file = PiecesOfFile {
            number: 3,
            last: Vec::new(),
            sender,
            work: Arc::new(TokioWork),
        };
        let written: Vec<u8> = (0..PIECE_SIZE_BYTES * 5 / 2)
            .map(|i| (i % 251) as u8)
            .collect();
        for bytes in written.chunks(8191) {
            file.write_all(bytes).unwrap();
        }
        file.end().unwrap();
        file.end().unwrap();
        let (mut sizes, mut taken) = (Vec::new(), Vec::new());
        while let Ok(Piece::Bytes(number, bytes)) = receiver.try_recv() {
            assert_eq!(number, 3);
            sizes.push(bytes.len());
            taken.extend_from_slice(&bytes);
        }
        assert_eq!(
            sizes,
            [PIECE_SIZE_BYTES, PIECE_SIZE_BYTES, PIECE_SIZE_BYTES / 2]
        );
        assert_eq!(taken, written);
        // A store that takes no more ends the writing.
        drop(receiver);
        assert!(file.write_all(&written).is_err());
    }
}
