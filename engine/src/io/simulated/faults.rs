//! Faults that come by chance: which call fails, and how.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::random::Random;

/// Linux's numbers of the errors that are injected.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A call of the disk that may fail.
///
/// ```
/// use moonshine_engine::io::{Fault, Operation, SimulatedIo};
/// let io = SimulatedIo::new(1);
/// assert_eq!(io.fault_counts().of(Operation::Sync, Fault::Error), 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "they are the calls of `Io` and `IoFile`")]
pub enum Operation {
    Read,
    Write,
    Sync,
    SetLen,
    Open,
    Create,
    Rename,
    Remove,
    Link,
    List,
    PunchHole,
    CreateFolder,
    SyncFolder,
}

/// What a file is for.
///
/// ```
/// use std::path::Path;
///
/// use moonshine_engine::io::FileKind;
/// assert_eq!(FileKind::of(Path::new("/db/log/log-00000001.mlog")), FileKind::Log);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// A segment of the log, or their folder.
    Log,
    /// The log of edits.
    Edits,
    /// A delta file.
    Delta,
    /// The database's own file.
    Manifest,
    /// Any other file or folder.
    Other,
}

impl FileKind {
    /// What the file or folder of that name is for.
    pub fn of(path: &Path) -> Self {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        match path.extension().and_then(OsStr::to_str) {
            Some("mlog") => FileKind::Log,
            Some("medits") => FileKind::Edits,
            Some("mdelta") => FileKind::Delta,
            _ if name == "log" => FileKind::Log,
            _ if name.starts_with("MANIFEST") => FileKind::Manifest,
            _ => FileKind::Other,
        }
    }
}

/// How a call fails, or what goes wrong unseen.
///
/// ```
/// use moonshine_engine::io::Fault;
/// assert_eq!(Fault::LostLater.name(), "lost later");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device answers an error (EIO), and nothing happens. A sync that fails so loses what it was to make durable:
    /// as on Linux, each opener of the file is told once, and the next sync succeeds without writing it.
    Error,
    /// There is no space (ENOSPC).
    NoSpace,
    /// A write fails when its first part arrived.
    Short,
    /// A write fails when all of it arrived.
    AfterArrival,
    /// A write succeeds; what it wrote is lost on its way to the device, which the next sync tells.
    LostLater,
    /// A read returns a bit that is not what is stored.
    FlipRead,
    /// A bit that is stored flips, and the read returns it.
    FlipStored,
    /// The call takes so much longer, and succeeds.
    Hang(Duration),
}

impl Fault {
    /// Its name in counts.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Error => "error",
            Fault::NoSpace => "no space",
            Fault::Short => "short",
            Fault::AfterArrival => "error after arrival",
            Fault::LostLater => "lost later",
            Fault::FlipRead => "flip in what is read",
            Fault::FlipStored => "flip at rest",
            Fault::Hang(_) => "hang",
        }
    }

    /// What the call fails with, if it does.
    pub(super) fn error(self) -> Option<Error> {
        match self {
            Fault::Error | Fault::Short | Fault::AfterArrival => {
                Some(Error::from_raw_os_error(EIO))
            }
            Fault::NoSpace => Some(Error::from_raw_os_error(ENOSPC)),
            Fault::LostLater | Fault::FlipRead | Fault::FlipStored | Fault::Hang(_) => None,
        }
    }

    /// Whether it can befall such a call.
    fn fits(self, operation: Operation) -> bool {
        match self {
            Fault::Error | Fault::Hang(_) => true,
            Fault::NoSpace => !matches!(operation, Operation::Read | Operation::List),
            Fault::Short | Fault::AfterArrival | Fault::LostLater => operation == Operation::Write,
            Fault::FlipRead | Fault::FlipStored => operation == Operation::Read,
        }
    }
}

/// How long a fault goes on.
///
/// ```
/// use moonshine_engine::io::Lasts;
/// // A device that breaks for good.
/// let lasts = Lasts::Forever;
/// # let _ = lasts;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// One call, and never again.
    Single,
    /// One call.
    Once,
    /// From then on each such call for the same file fails.
    File,
    /// From then on each such call fails.
    Forever,
}

/// How often a kind of call fails, and how.
///
/// ```
/// use moonshine_engine::io::{Fault, FaultRule, FileKind, Lasts, Operation};
/// // One sync of an edit in a thousand.
/// let rule = FaultRule {
///     operation: Operation::Sync,
///     files: Some(FileKind::Edits),
///     fault: Fault::Error,
///     per_million: 1_000,
///     lasts: Lasts::Once,
/// };
/// # let _ = rule;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FaultRule {
    /// The call. A fault that can't befall it never does.
    pub operation: Operation,
    /// For which files; `None` is all.
    pub files: Option<FileKind>,
    /// How it fails.
    pub fault: Fault,
    /// How often, in a million calls.
    pub per_million: u32,
    /// How long.
    pub lasts: Lasts,
}

/// How long calls take, in simulated time.
///
/// ```
/// use std::path::Path;
/// use std::time::Duration;
///
/// use moonshine_engine::io::{FaultPlan, Io, Latency, OpenMode, SimulatedIo};
/// let io = SimulatedIo::new(1);
/// let latency = Latency { call: Duration::from_secs(1), ..Latency::default() };
/// io.set_faults(FaultPlan { latency, ..FaultPlan::default() });
/// let before = io.now();
/// io.open(Path::new("/a"), OpenMode::CreateNew)?.sync_data()?;
/// assert!(io.now() - before >= Duration::from_secs(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    /// Each read, write and sync.
    pub call: Duration,
    /// Each byte of a read or write, besides.
    pub byte: Duration,
    /// How often a slow episode begins, in a million calls.
    pub episodes_per_million: u32,
    /// How long one lasts, and how many times longer calls take meanwhile.
    pub episode: Duration,
    /// See [`episode`](Self::episode).
    pub episode_factor: u32,
}

/// What goes wrong with a disk, by chance.
///
/// ```
/// use std::path::Path;
///
/// use moonshine_engine::io::{
///     Fault, FaultPlan, FaultRule, FileKind, Io, Lasts, OpenMode, Operation, SimulatedIo,
/// };
/// let io = SimulatedIo::new(1);
/// let file = io.open(Path::new("/db/log/log-00000001.mlog"), OpenMode::CreateNew)?;
/// io.set_faults(FaultPlan {
///     rules: vec![FaultRule {
///         operation: Operation::Write,
///         files: Some(FileKind::Log),
///         fault: Fault::Error,
///         per_million: 1_000_000,
///         lasts: Lasts::Once,
///     }],
///     ..FaultPlan::default()
/// });
/// assert!(file.write_all_at(b"moonshine", 0).is_err());
/// assert_eq!(io.fault_counts().of(Operation::Write, Fault::Error), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    /// What the draws follow from.
    pub seed: u64,
    /// What fails. The first rule that strikes a call counts.
    pub rules: Vec<FaultRule>,
    /// How long calls take.
    pub latency: Latency,
    /// The disk's size; `None` is endless. Files take it in blocks of 4 KiB where they were written, and give it back by
    /// removal, holes and cuts.
    pub capacity_bytes: Option<u64>,
    /// How many files a process can have open; `None` is any number.
    pub open_files_max: Option<u64>,
    /// Folders are listed in no order.
    pub shuffles_lists: bool,
}

/// How often each fault was injected.
///
/// ```
/// use moonshine_engine::io::SimulatedIo;
/// assert_eq!(SimulatedIo::new(1).fault_counts().iter().count(), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts(BTreeMap<(Operation, &'static str), u64>);

impl FaultCounts {
    /// How often a call met a fault.
    pub fn of(&self, operation: Operation, fault: Fault) -> u64 {
        self.0.get(&(operation, fault.name())).copied().unwrap_or(0)
    }

    /// All of them: call, fault, how often.
    pub fn iter(&self) -> impl Iterator<Item = (Operation, &'static str, u64)> + '_ {
        self.0
            .iter()
            .map(|(&(operation, fault), &count)| (operation, fault, count))
    }

    pub(super) fn count(&mut self, operation: Operation, fault: &'static str) {
        *self.0.entry((operation, fault)).or_default() += 1;
    }
}

/// The plan at work.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) plan: FaultPlan,
    pub(super) counts: FaultCounts,
    pub(super) random: Random,
    /// Rules that strike always from now on, or never; and files that each rule strikes.
    lasting: BTreeSet<usize>,
    broken: BTreeSet<(usize, PathBuf)>,
    slow_until: Duration,
}

impl Faults {
    pub(super) fn new(plan: FaultPlan, counts: FaultCounts) -> Self {
        Faults {
            random: Random::new(plan.seed),
            plan,
            counts,
            ..Faults::default()
        }
    }

    /// What befalls a call.
    pub(super) fn strike(&mut self, operation: Operation, path: &Path) -> Option<Fault> {
        for (i, rule) in self.plan.rules.iter().enumerate() {
            let fits = rule.operation == operation && rule.fault.fits(operation);
            if !fits || rule.files.is_some_and(|files| files != FileKind::of(path)) {
                continue;
            }
            if rule.lasts == Lasts::Single && self.lasting.contains(&i) {
                continue;
            }
            let goes_on = self.lasting.contains(&i)
                || (rule.lasts == Lasts::File && self.broken.contains(&(i, path.to_owned())));
            if goes_on || self.random.happens(rule.per_million) {
                match rule.lasts {
                    Lasts::Once => {}
                    Lasts::File => {
                        self.broken.insert((i, path.to_owned()));
                    }
                    Lasts::Single | Lasts::Forever => {
                        self.lasting.insert(i);
                    }
                }
                self.counts.count(operation, rule.fault.name());
                return Some(rule.fault);
            }
        }
        None
    }

    /// How long a call of so many bytes takes that begins now.
    pub(super) fn time_of(
        &mut self,
        now: Duration,
        operation: Operation,
        size_bytes: usize,
    ) -> Duration {
        let latency = self.plan.latency;
        if !matches!(
            operation,
            Operation::Read | Operation::Write | Operation::Sync
        ) {
            return Duration::ZERO;
        }
        let bytes = latency
            .byte
            .saturating_mul(u32::try_from(size_bytes).unwrap_or(u32::MAX));
        let time = latency.call + bytes;
        if now >= self.slow_until && self.random.happens(latency.episodes_per_million) {
            self.slow_until = now + latency.episode;
            self.counts.count(operation, "slow episode");
        }
        match now < self.slow_until {
            true => time * latency.episode_factor,
            false => time,
        }
    }
}
