//! The kinds of operations.

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its place in the plan that the seed has; it keeps it when others are left out.
    pub number: usize,
    /// Who does it, if a client does.
    pub client: usize,
    /// What it is.
    pub kind: Kind,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal $weight:literal,)*) => {
        /// What an operation does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Kind] = &[$(Kind::$kind),*];

            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name,)* }
            }

            /// How often it comes, as long as no seed says otherwise.
            pub fn weight(self) -> u64 {
                match self { $(Kind::$kind => $weight,)* }
            }
        }
    };
}

kinds! {
    /// A transaction that reads nothing, committed as one of several durabilities.
    Write "write" 200,
    /// Several transactions that are submitted before the first is waited for.
    Pipeline "pipeline" 40,
    /// An optimistic transaction begins, reads and writes, and stays open.
    Begin "begin" 60,
    /// An open transaction is committed or given up.
    Finish "finish" 60,
    /// Something is read from the newest snapshot.
    Read "read" 60,
    /// A snapshot is taken and kept.
    Hold "hold" 25,
    /// A snapshot that is kept is read.
    ReadHeld "read-held" 40,
    /// A snapshot that is kept is let go.
    Release "release" 20,
    /// A scan is begun and put aside.
    Park "park" 20,
    /// A scan that was put aside goes on.
    Resume "resume" 30,
    /// A keyspace is written to.
    Pairs "pairs" 40,
    /// Transactions of a source come in.
    Ingest "ingest" 60,
    /// What is visible is made durable.
    Sync "sync" 20,
    /// What is in memory goes below level 0.
    Flush "flush" 30,
    /// Everything is compacted.
    Compact "compact" 12,
    /// Rows go below level 0 past the log.
    Load "load" 20,
    /// The columns of a table change.
    Alter "alter" 10,
    /// A copy of the database is made and read.
    Backup "backup" 6,
    /// Figures are looked at.
    Figures "figures" 10,
    /// All clients come to a rest, and everything is compared.
    Settle "settle" 15,
    /// The database is closed and opened.
    Reopen "reopen" 8,
    /// The process dies now.
    Crash "crash" 12,
    /// The process dies at a call to come.
    CrashSoon "crash-soon" 20,
    /// The disk is full from a write on, until the clients come to a rest.
    FullDisk "full-disk" 8,
    /// The disk is slow, now and then very slow, until the process ends.
    SlowDisk "slow-disk" 6,
    /// Calls fail by chance, once or for ever, and then the process dies.
    FaultyDisk "faulty-disk" 8,
    /// Writes fail from one on, and then the process dies.
    FailWrites "fail-writes" 4,
    /// Syncs fail from now on, and then the process dies.
    FailSyncs "fail-syncs" 4,
    /// Everything that changed is exported.
    Tick "tick" 120,
    /// The tables are looked after.
    Maintain "maintain" 40,
    /// Another exporter of the database takes over.
    TakeOver "take-over" 12,
    /// Another writer does something to a table.
    Deed "deed" 20,
    /// What a writer did that stops an export is undone.
    Undo "undo" 20,
    /// An exporter whose process is gone goes on with its requests.
    Wake "wake" 20,
    /// The process and its disk are copied, and the copy goes on; the exporter of the first one wakes up later.
    Fork "fork" 6,
    /// Requests fare otherwise from now on, and time passes.
    Climate "climate" 12,
}

impl Kind {
    /// Whether the world does it, and not a client.
    pub fn is_of_world(self) -> bool {
        self >= Kind::Deed || (Kind::Settle..Kind::Tick).contains(&self)
    }

    /// Whether there is a lake in it.
    pub fn is_of_lake(self) -> bool {
        self >= Kind::Tick
    }

    /// Whether something breaks by it.
    pub fn is_fault(self) -> bool {
        (Kind::Crash..Kind::Tick).contains(&self)
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}
