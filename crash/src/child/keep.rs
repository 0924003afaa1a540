//! Work that writes no rows: flushes, compactions, syncs and backups.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use moonshine_engine::Result;

use super::work::Work;
use super::{Child, tell};

/// One of them at a time.
#[derive(Default)]
pub(super) struct Keeper {
    steps: u64,
    backup: Option<(String, PathBuf)>,
}

impl Keeper {
    fn back_up(&mut self, child: &Child) -> Result<()> {
        if let Some((name, folder)) = self.backup.take() {
            tell(&format!("k {name}"));
            let _ = std::fs::remove_dir_all(folder);
        }
        let name = format!("backup-{}-{}", child.flags.run, self.steps);
        let folder = child.flags.folder.with_file_name(&name);
        let made = child.database.backup(&folder)?;
        tell(&format!("K {name} {}", made.commit_seq));
        self.backup = Some((name, folder));
        Ok(())
    }
}

impl Work for Keeper {
    fn name(&self) -> &'static str {
        "keeper"
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(7)
    }

    fn step(&mut self, child: &Child) -> Result<()> {
        self.steps += 1;
        match self.steps % 5 {
            0 => self.back_up(child),
            1 => {
                let seq = child.acknowledged_seq.load(Ordering::SeqCst);
                child.database.sync()?;
                tell(&format!("D {seq}"));
                Ok(())
            }
            2 => child.database.compact(),
            3 => {
                tell(&format!("D {}", child.database.durable_seq()));
                Ok(())
            }
            _ => child.database.flush(),
        }
    }
}
