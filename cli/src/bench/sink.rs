//! Where the report goes: standard output, or a file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use moonshine_sysprobe::bench::RunObserver;

use crate::error::CliError;
use crate::query::print;

/// Takes what is to be printed.
pub(super) enum Sink {
    Standard,
    File { path: PathBuf, file: Mutex<File> },
}

impl Sink {
    /// Standard output, or the file, which is emptied before anything runs.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, CliError> {
        let Some(path) = path else {
            return Ok(Sink::Standard);
        };
        match File::create(path) {
            Ok(file) => Ok(Sink::File {
                path: path.to_owned(),
                file: Mutex::new(file),
            }),
            Err(error) => Err(CliError::Arguments(format!(
                "--output: {}: {error}",
                path.display()
            ))),
        }
    }

    pub(super) fn print(&self, text: &str) -> Result<(), CliError> {
        match self {
            Sink::Standard => print(text),
            Sink::File { path, file } => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let written = file.write_all(text.as_bytes());
                written.map_err(|error| CliError::Output(format!("{}: {error}", path.display())))
            }
        }
    }
}

/// Says which files are laid out, as the text report begins.
pub(super) struct Layout<'a>(Option<&'a Sink>);

impl<'a> Layout<'a> {
    /// Says nothing without a sink.
    pub(super) fn new(sink: Option<&'a Sink>) -> Self {
        Layout(sink)
    }
}

impl RunObserver for Layout<'_> {
    fn laying_out(&self, job: &str, files: usize, size_bytes: u64) {
        let size_mib = size_bytes >> 20;
        let text = match files {
            1 => format!("{job}: Laying out IO file (1 file / {size_mib}MiB)\n"),
            _ => format!("{job}: Laying out IO files ({files} files / total {size_mib}MiB)\n"),
        };
        if let Some(sink) = self.0 {
            // The report itself will say if nothing can be written there.
            let _ = sink.print(&text);
        }
    }
}
