//! Faults that the soak has to find: what grows without end.

use std::fs::File;
use std::path::Path;

/// What grows, or is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Leak {
    /// Memory of the process.
    Memory,
    /// Open descriptors.
    Descriptors,
    /// Files in the database's folder, of 2 MiB.
    Files,
    /// Threads.
    Threads,
    /// One of a thousand transactions of a writer is not committed.
    Rows,
    /// Stalls are not shown.
    Stalls,
}

/// What has grown so far.
#[derive(Debug, Default)]
pub(crate) struct Leaked {
    memory: Vec<Vec<u8>>,
    descriptors: Vec<File>,
    files: u64,
}

impl Leaked {
    /// A second more of it.
    ///
    /// # Errors
    /// As the system answers.
    pub(crate) fn grow(&mut self, leak: Leak, database: &Path) -> std::io::Result<()> {
        match leak {
            Leak::Memory => self.memory.push(vec![1; 2 << 20]),
            Leak::Descriptors => self.descriptors.push(File::open("/dev/null")?),
            Leak::Files => {
                self.files += 1;
                let name = database.join(format!("leak-{}", self.files));
                std::fs::write(name, vec![1; 2 << 20])?;
            }
            Leak::Threads => {
                std::thread::spawn(|| std::thread::sleep(std::time::Duration::MAX));
            }
            Leak::Rows | Leak::Stalls => {}
        }
        Ok(())
    }
}
