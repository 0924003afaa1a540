//! Where the lines come from: files or standard input, behind one interface.

use std::io::Read;
use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::files::Files;
use super::lines::{CHUNK_BYTES, LINE_BYTES_MAX, LineBuffer};
use super::position::Position;
use crate::SourceError;

/// How often files are looked at for more.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long standard input is waited for before what was read so far is handed on.
const STDIN_WAIT: Duration = Duration::from_millis(50);
/// Chunks that are read ahead of the lines.
const CHUNKS_AHEAD: usize = 4;

/// What the next step of an input brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A line.
    Line,
    /// Nothing now; more may come.
    Idle,
    /// Nothing, and no more will come.
    End,
}

/// An input.
#[derive(Debug)]
pub(super) enum Input {
    Files(Box<Files>),
    Stream(StreamLines),
}

impl Input {
    /// Goes one line on.
    pub(super) fn step(&mut self) -> Result<Step, SourceError> {
        match self {
            Input::Files(files) => files.step(),
            Input::Stream(stream) => stream.step(),
        }
    }

    /// The line that the last step brought.
    pub(super) fn line(&self) -> &[u8] {
        match self {
            Input::Files(files) => files.line(),
            Input::Stream(stream) => stream.buffer.line(stream.line.clone()),
        }
    }

    /// The place after that line.
    pub(super) fn position(&self) -> &Position {
        match self {
            Input::Files(files) => files.position(),
            Input::Stream(stream) => &stream.position,
        }
    }

    /// That line's place, for messages.
    pub(super) fn place(&self) -> String {
        match self {
            Input::Files(files) => files.place(),
            Input::Stream(stream) => format!("stdin:{}", stream.position.line),
        }
    }

    /// Bytes of whole lines taken since the start of this run.
    pub(super) fn taken_bytes(&self) -> u64 {
        match self {
            Input::Files(files) => files.taken_bytes(),
            Input::Stream(stream) => stream.position.offset,
        }
    }

    /// Bytes known to be there for this run in all; 0 if that can't be known.
    pub(super) fn known_bytes(&self) -> u64 {
        match self {
            Input::Files(files) => files.known_bytes(),
            Input::Stream(_) => 0,
        }
    }

    /// After an idle step: waits until it is worth another one.
    pub(super) fn wait(&self, stop: &CancellationToken, runtime: &tokio::runtime::Handle) {
        if let Input::Files(_) = self {
            let _ = runtime
                .block_on(async { tokio::time::timeout(POLL_INTERVAL, stop.cancelled()).await });
        }
    }
}

/// Lines of a stream that can be read once only, such as standard input.
#[derive(Debug)]
pub(super) struct StreamLines {
    chunks: Receiver<std::io::Result<Vec<u8>>>,
    buffer: LineBuffer,
    line: Range<usize>,
    position: Position,
}

impl StreamLines {
    /// Reads on a thread of its own, since a read of standard input can't be cancelled: the thread ends with the stream
    /// or with the process.
    pub(super) fn spawn(
        reader: impl Read + Send + 'static,
        start: Position,
    ) -> std::io::Result<Self> {
        let (sender, chunks) = sync_channel(CHUNKS_AHEAD);
        std::thread::Builder::new()
            .name("file-source-stdin".into())
            .spawn(move || read_chunks(reader, &sender))?;
        Ok(StreamLines {
            chunks,
            buffer: LineBuffer::default(),
            line: 0..0,
            position: start,
        })
    }

    fn step(&mut self) -> Result<Step, SourceError> {
        loop {
            if let Some(line) = self.buffer.take_line() {
                return Ok(self.take(line));
            }
            if self.buffer.rest_bytes() > LINE_BYTES_MAX {
                return Err(too_long(format!("stdin:{}", self.position.line + 1)));
            }
            match self.chunks.recv_timeout(STDIN_WAIT) {
                Ok(Ok(chunk)) => self.buffer.extend(&chunk),
                Ok(Err(error)) => {
                    return Err(SourceError::Unavailable(format!(
                        "cannot read standard input: {error}"
                    )));
                }
                Err(RecvTimeoutError::Timeout) => return Ok(Step::Idle),
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(self
                        .buffer
                        .take_rest()
                        .map_or(Step::End, |rest| self.take(rest)));
                }
            }
        }
    }

    fn take(&mut self, line: Range<usize>) -> Step {
        self.position.offset += line.len() as u64;
        self.position.line += 1;
        self.line = line;
        Step::Line
    }
}

fn read_chunks(mut reader: impl Read, sender: &SyncSender<std::io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES / 4];
        let message = match reader.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => {
                chunk.truncate(count);
                Ok(chunk)
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let is_error = message.is_err();
        if sender.send(message).is_err() || is_error {
            return;
        }
    }
}

/// The error of a line that has no end.
pub(super) fn too_long(place: String) -> SourceError {
    SourceError::Record {
        place,
        reason: format!("the line is longer than {} MiB", LINE_BYTES_MAX >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(input: &mut Input) -> Vec<(String, u64, u64)> {
        let mut lines = Vec::new();
        loop {
            match input.step().unwrap() {
                Step::Line => {
                    let text = String::from_utf8(input.line().to_vec()).unwrap();
                    lines.push((text, input.position().offset, input.position().line));
                }
                Step::Idle => {}
                Step::End => return lines,
            }
        }
    }

    #[test]
    fn a_stream_ends_with_its_last_line_with_or_without_a_newline() {
        for text in ["a\nbc\n", "a\nbc"] {
            let start = Position::start_of("-".into());
            let mut input = Input::Stream(StreamLines::spawn(text.as_bytes(), start).unwrap());
            let lines = drain(&mut input);
            assert_eq!(lines[0], ("a\n".to_owned(), 2, 1));
            assert_eq!(
                (lines[1].0.trim_end(), lines[1].1, lines[1].2),
                ("bc", text.len() as u64, 2)
            );
            assert_eq!(input.place(), "stdin:2");
            assert_eq!(input.step().unwrap(), Step::End);
        }
    }
}
