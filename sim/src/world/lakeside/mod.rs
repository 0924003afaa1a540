//! The lake of a world, and the exporters that write to it.
//!
//! Each process has a [`Host`] with an exporter, which runs on fibers of its own: clients ask it to export and to look after
//! tables, and wait for that as long as the process lives. When it dies its exporters die with it, or are held up at their
//! next request (`crate::lake`'s gate) and wake up later, beside those of the next process: zombies, whose disk is gone and
//! whose requests are as good as anybody's. What a process sent before it died arrives all the same.
//! After each round all tables are read from nothing and held against the model (`check`).

mod check;
mod client;
mod deeds;
mod expected;
mod host;
mod interventions;
mod names;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moonshine_export::FormatVersion;
use moonshine_export::catalog::Guard;

use self::check::{Checker, Reference};
use self::deeds::Trouble;
use self::expected::Defaults;
use self::host::Ground;
pub use self::host::Host;
use self::names::Names;
use super::outcome::{Step, Stop};
use super::process::{Process, tables};
use super::{Report, World};
use crate::lake::{Climate, Lake, RunClock};
use crate::model::attempt::{Attempt, End};
use crate::model::tables::TABLE_COUNT;
use crate::plan::Plan;
use crate::plan::lake::{ClimateConfig, LakeConfig};
use crate::random::Stream;

/// So many commit sequences at most are of what an exporter does by one order: each table may have an export and a rewrite of files.
const EMPTY_DELTAS_MAX: u64 = 2 * TABLE_COUNT as u64;

/// The lake, and what is known of it.
#[derive(Debug)]
pub(super) struct Lakeside {
    ground: Ground,
    names: Names,
    config: LakeConfig,
    seed: u64,
    format_version: FormatVersion,
    process_count: u64,
    /// Exporters of processes that died.
    zombies: Vec<Arc<Host>>,
    /// Processes that were copied, and whose copy goes on.
    copied: Vec<Arc<Process>>,
    checker: Checker,
    defaults: Defaults,
    trouble: Option<Trouble>,
    /// Orders up to the start of the process before the one that runs, and up to its own.
    orders_by_process: [u64; 2],
}

fn climate(config: ClimateConfig) -> Climate {
    Climate {
        commits_permille: config.commits_permille,
        looks_permille: config.looks_permille,
        objects_permille: config.objects_permille,
        late_max_ms: config.late_max_ms,
    }
}

impl Lakeside {
    /// The lake of a plan, if that has one.
    pub(super) fn of(plan: &Plan) -> Option<Self> {
        let config = plan.config.lake.clone()?;
        let clock = Arc::new(RunClock::default());
        let lake = Lake::new(Stream::new(plan.seed, "network", 0).next(), clock.clone());
        lake.set_climate(climate(config.climate));
        let guard = match config.swaps_metadata {
            true => Guard::Metadata,
            false => Guard::Requirements,
        };
        Some(Lakeside {
            ground: Ground {
                lake,
                clock,
                guard,
                next_number: Arc::new(AtomicU64::new(1)),
                orders: Arc::default(),
            },
            names: Names::new(),
            format_version: match config.is_format_2 {
                true => FormatVersion::V2,
                false => FormatVersion::V3,
            },
            config,
            seed: plan.seed,
            process_count: 0,
            zombies: Vec::new(),
            copied: Vec::new(),
            checker: Checker::default(),
            defaults: Defaults::default(),
            trouble: None,
            orders_by_process: [0; 2],
        })
    }

    /// The exporters of a new process.
    fn host(&mut self) -> Arc<Host> {
        self.process_count += 1;
        let orders = self.ground.orders.load(Ordering::SeqCst);
        self.orders_by_process = [self.orders_by_process[1], orders];
        let mut stream = Stream::new(self.seed, "host", self.process_count);
        if stream.chance(250) {
            self.format_version = FormatVersion::V3;
        }
        let becomes_zombie = stream.chance(self.config.zombie_permille);
        let size_bytes = self.config.target_file_size_bytes;
        let settings = settings::draw(&self.names, self.format_version, size_bytes, &mut stream);
        Arc::new(Host::new(&self.ground, settings, self.seed, becomes_zombie))
    }
}

/// Nobody waits for zombies once a violation ended the world.
impl Drop for Lakeside {
    fn drop(&mut self) {
        self.zombies.iter().for_each(|zombie| zombie.end());
    }
}

impl World<'_> {
    /// A process has started: it gets exporters.
    pub(super) fn host_of_start(&mut self, process: &mut Process) {
        if let Some(lakeside) = &mut self.lakeside {
            let host = lakeside.host();
            process.disk.tell(host.clone());
            process.exports = Some(host);
            let is_troubled = lakeside.trouble.is_some();
            process.troubled.store(is_troubled, Ordering::SeqCst);
        }
    }

    /// Where nothing but locations fill a generation, an empty delta goes into the log, which is of no client. Of a task that was
    /// dropped rounds ago the engine's part may still do that.
    pub(super) fn empty_deltas(&self) -> Option<Attempt> {
        let lakeside = self.lakeside.as_ref()?;
        let orders = lakeside.ground.orders.load(Ordering::SeqCst);
        let [before, _] = lakeside.orders_by_process;
        let mut attempt = Attempt::new(0, Vec::new(), 0);
        attempt.end = End::Nothing;
        attempt.spare_seqs = (orders - before) * EMPTY_DELTAS_MAX;
        Some(attempt)
    }

    /// A process is over: its exporters end with it, or become zombies.
    pub(super) fn host_of_end(&mut self, process: &Process) {
        let (Some(lakeside), Some(host)) = (&mut self.lakeside, &process.exports) else {
            return;
        };
        if process.disk.is_dead() && host.is_zombie() {
            self.report.count("zombies");
            lakeside.zombies.push(host.clone());
        } else {
            host.close();
        }
    }

    /// All Iceberg tables are what the model says, as far as they are new.
    pub(super) fn check_lake(&mut self, operation: usize) -> Step {
        let process = self.process();
        let Some(lakeside) = &mut self.lakeside else {
            return Ok(());
        };
        // Defaults are widened with their columns, and rows that were exported before have them as they were first.
        for (number, schema) in process.altered.lock().drain(..) {
            lakeside.defaults.note(number, &schema);
        }
        let tables = tables(&process.database, &process.config);
        for (number, table) in tables.iter().enumerate() {
            lakeside.defaults.note(number, table.schema());
        }
        let reference = Reference {
            names: &lakeside.names,
            history: &self.history,
            defaults: &lakeside.defaults,
        };
        let checked = lakeside.checker.check(&lakeside.ground.lake, &reference);
        checked.map_err(|(check, detail)| Stop::violation(check, operation, detail))
    }
}

/// Puts what happened in the lake into a report.
fn count(lakeside: &Lakeside, report: &mut Report) {
    report.add("snapshots compared", lakeside.checker.snapshot_count);
    for (fault, count) in lakeside.ground.lake.seen() {
        report.add(fault_name(&fault), u64::from(count));
    }
}

/// Names of faults live as long as the program, and there are few.
fn fault_name(fault: &str) -> &'static str {
    static NAMES: parking_lot::Mutex<std::collections::BTreeSet<&'static str>> =
        parking_lot::Mutex::new(std::collections::BTreeSet::new());
    let name = format!("lake {fault}");
    let mut names = NAMES.lock();
    if let Some(known) = names.get(&*name) {
        return known;
    }
    let leaked = &*Box::leak(name.into_boxed_str());
    names.insert(leaked);
    leaked
}
