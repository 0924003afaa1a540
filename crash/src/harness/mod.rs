//! Starts children, ends them, and looks at what they left.
//!
//! A [`life::Life`] is a folder through many deaths. [`kills`] ends the process at random moments, [`calls`] at each of its
//! calls and by failing calls, [`strace`] within the system's calls, [`power`] takes the file system away below it.

pub mod calls;
pub mod kills;
pub mod ledger;
pub mod life;
pub mod power;
pub mod process;
pub mod strace;

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a run of the harness did.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Kills, failed calls and losses, by kind.
    pub counts: BTreeMap<String, u64>,
    /// Transactions that the children had acknowledged.
    pub acknowledged: u64,
}

impl Totals {
    /// Counts one.
    pub fn count(&mut self, kind: &str) {
        *self.counts.entry(kind.to_owned()).or_default() += 1;
    }
}

/// What must not be, and how to see it again.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What was found.
    pub what: String,
    /// The arguments that repeat it, as far as chance lets them.
    pub command: String,
    /// Where the folder was left as it was found.
    pub kept: Option<PathBuf>,
}

/// What a run needs.
#[derive(Clone, Debug)]
pub struct Request {
    /// The program that is the child, given `child` as its first argument.
    pub program: PathBuf,
    /// Where databases are made.
    pub folder: PathBuf,
    /// Where the folder of what must not be is kept.
    pub kept_in: PathBuf,
    /// All else follows from it.
    pub seed: u64,
    /// Children leave out syncs of files whose name ends so: it must be found.
    pub forget_syncs: Option<String>,
    /// Children tell that a transaction is done before it is: it must be found.
    pub early: bool,
    /// Tells what goes on.
    pub is_verbose: bool,
}

/// Keeps the folder of what must not be, and says how to see it again.
fn keep(what: String, command: String, life: Option<&life::Life>) -> Box<Violation> {
    let kept = life.and_then(|life| {
        let to = life
            .kept_in()
            .join(format!("moonshine-crash-{}", std::process::id()));
        life::copy(life.folder(), &to).ok()?;
        let told = format!("{what}\n{:#?}\n", life.told);
        std::fs::write(to.join("told.txt"), told).ok()?;
        Some(to)
    });
    let command = format!("cargo xtask {command}");
    Box::new(Violation {
        what,
        command,
        kept,
    })
}
