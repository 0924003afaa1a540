//! How many delta files are open at once: a limit, whatever the size of the database.
//!
//! A file that is not open is opened by the next read that misses the page cache. Which one is closed for it, a clock
//! decides: the oldest that was not read since it was looked at last.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::io::Io;
use crate::sync::Mutex;

use super::file::DeltaFile;

/// The delta files of a database that are open.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    pub(crate) io: Arc<dyn Io>,
    count_max: usize,
    /// In the order in which they are looked at.
    files: Mutex<VecDeque<Weak<DeltaFile>>>,
}

impl OpenFiles {
    /// At least one file may be open.
    pub(crate) fn new(io: Arc<dyn Io>, count_max: usize) -> Arc<Self> {
        Arc::new(OpenFiles {
            io,
            count_max: count_max.max(1),
            files: Mutex::default(),
        })
    }

    /// Counts a file that was opened, and closes others for it.
    pub(crate) fn note(&self, file: Weak<DeltaFile>) {
        let mut files = self.files.lock();
        files.push_back(file);
        // Each is passed over once at most before it is closed.
        for _ in 0..2 * files.len() {
            if files.len() <= self.count_max {
                break;
            }
            let Some(oldest) = files.pop_front() else {
                break;
            };
            if let Some(file) = oldest.upgrade()
                && !file.close_if_unused()
            {
                files.push_back(oldest);
            }
        }
    }
}
