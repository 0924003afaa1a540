//! The engine, its exporter, the lake, and what happens to them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use iceberg::TableIdent;
use moonshine_engine::io::{CrashStyle, SimulatedIo};
use moonshine_engine::{ColumnType, Database, Durability, Options, Table, TableSchema, Value};
use moonshine_export::catalog::{Guard, TableCatalog};
use moonshine_export::{
    ExportError, Exporter, FormatVersion, LayoutSettings, MaintenanceSettings, SettingsByTable,
    TableSettings,
};
use moonshine_sim::lake::{
    Climate, Deed, DropAfter, Lake, Random, RunClock, SimulatedCatalog, environment,
};

use crate::check::Checker;
use crate::model::{TableModel, Write};

/// A process: a database on its disk, and an exporter.
struct Process {
    disk: SimulatedIo,
    database: Database,
    exporter: Exporter,
    number: u64,
}

pub(crate) struct World {
    random: Random,
    lake: Lake,
    clock: Arc<RunClock>,
    guard: Guard,
    version: FormatVersion,
    layout: LayoutSettings,
    target_file_size_bytes: u64,
    climate: Climate,
    models: Vec<TableModel>,
    process: Process,
    zombies: Vec<Process>,
    processes: u64,
    checker: Checker,
    /// What somebody did that stops the export of a table, and the snapshots that were its newest before and behind it.
    trouble: Option<(TableIdent, Deed, i64, Option<i64>)>,
    was_rolled_back: bool,
    happened: BTreeMap<String, u32>,
    is_loud: bool,
}

pub(crate) fn open_database(disk: &SimulatedIo) -> Database {
    let options = Options {
        io: Arc::new(disk.clone()),
        segment_size_bytes_max: Some(4000),
        memory_budget_bytes: 200_000,
        generation_size_bytes_max: Some(6000),
        fragment_size_bytes_max: Some(8000),
        compaction_threads: Some(1),
        ..Options::unmeasured()
    };
    Database::open(Path::new("/db"), options).unwrap()
}

pub(crate) fn table_of(database: &Database, name: &str) -> Table {
    if let Some(table) = database.table(name) {
        return table;
    }
    let schema = TableSchema::builder(name)
        .column("id", ColumnType::Int64, false)
        .column("note", ColumnType::Utf8, true)
        .column("amount", ColumnType::Int64, true)
        .primary_key(["id"]);
    database.create_table(schema.build().unwrap()).unwrap()
}

fn ident(name: &str) -> TableIdent {
    let (namespace, name) = name.split_once('.').unwrap();
    TableIdent::from_strs([namespace, name]).unwrap()
}

fn layout(random: &mut Random) -> LayoutSettings {
    let partitions: [&[&str]; 6] = [
        &[],
        &[],
        &["bucket(3, id)"],
        &["truncate(20, amount)"],
        &["truncate(1, note)"],
        &["void(note)"],
    ];
    let orders: [&[&str]; 3] = [&[], &["amount desc"], &["note", "amount"]];
    let texts = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
    LayoutSettings {
        partition_by: texts(partitions[random.below(6) as usize]),
        sort_by: texts(orders[random.below(3) as usize]),
        ..LayoutSettings::default()
    }
}

impl World {
    pub(crate) async fn new(seed: u64) -> World {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            random.next();
        }
        let clock = Arc::new(RunClock::default());
        let lake = Lake::new(random.next(), clock.clone());
        let guard = [Guard::Metadata, Guard::Requirements][random.below(2) as usize];
        let version =
            [FormatVersion::V2, FormatVersion::V3, FormatVersion::V3][random.below(3) as usize];
        let climate = match random.below(4) {
            0 => Climate::CALM,
            _ => Climate {
                commits_permille: [50, 200, 600][random.below(3) as usize],
                looks_permille: random.below(150),
                objects_permille: [0, 3, 20][random.below(3) as usize],
                late_max_ms: [40, 2000, 60_000][random.below(3) as usize],
            },
        };
        let disk = SimulatedIo::new(random.next() | 1);
        let database = open_database(&disk);
        let names = ["shop.a", "shop.b"];
        let count = 1 + random.below(2) as usize;
        let models: Vec<TableModel> = names[..count]
            .iter()
            .map(|name| TableModel::new(name))
            .collect();
        models
            .iter()
            .for_each(|model| drop(table_of(&database, &model.name)));
        lake.set_climate(climate);
        let layout = layout(&mut random);
        let target_file_size_bytes = [700, 3000, 1 << 20][random.below(3) as usize];
        let settings = settings(version, &layout, target_file_size_bytes);
        let catalog = SimulatedCatalog::of(&lake, guard, 1);
        let exporter = open_at_last(&database, &catalog, &clock, settings, &mut random).await;
        let process = Process {
            disk,
            database,
            exporter,
            number: 1,
        };
        World {
            lake,
            clock,
            guard,
            version,
            layout,
            target_file_size_bytes,
            climate,
            models,
            process,
            zombies: Vec::new(),
            processes: 1,
            checker: Checker::default(),
            trouble: None,
            was_rolled_back: false,
            happened: BTreeMap::new(),
            is_loud: std::env::var("MOONSHINE_TEST_LOUD").is_ok(),
            random,
        }
    }

    fn note(&mut self, what: &str) {
        // Asked in any case: it is a lock, at which others may go on.
        let seq = self.process.database.durable_seq();
        if self.is_loud {
            println!("process {} seq {seq}: {what}", self.process.number);
        }
        let name = what.split(':').next().unwrap_or_default();
        *self.happened.entry(name.to_owned()).or_default() += 1;
    }

    pub(crate) async fn run(&mut self) {
        let steps = 10 + self.random.below(40);
        for _ in 0..steps {
            self.step().await;
            self.checker
                .check(&self.lake, &self.models, self.was_rolled_back);
        }
    }

    async fn step(&mut self) {
        match self.random.below(100) {
            0..30 => self.write(),
            30..55 => self.tick(None).await,
            55..63 => {
                let polls = self.random.below(60);
                self.tick(Some(polls)).await;
            }
            63..71 => self.maintain().await,
            71..75 => self.tick_beside_maintenance().await,
            75..82 => self.crash(false).await,
            82..86 => self.crash(true).await,
            86..89 => self.take_over().await,
            89..92 => self.tick_zombie().await,
            92..95 => self.disturb(),
            95..97 => self.change_columns(),
            97 => self.tick_on_a_sick_disk().await,
            98 => {
                self.process.database.flush().unwrap();
                self.process.database.compact().unwrap();
            }
            _ => {
                let hours = self.random.below(200) as i64;
                self.note("time passes");
                self.clock.advance(hours * 3_600_000 / 4);
            }
        }
        if self.trouble.is_some() && self.random.below(3) == 0 {
            self.undo();
        }
    }

    fn write(&mut self) {
        let database = &self.process.database;
        let mut transaction = database.begin();
        if self.random.below(4) == 0 {
            transaction.set_durability(Durability::Buffered);
        }
        let mut all = Vec::new();
        for model in &self.models {
            let table = table_of(database, &model.name);
            let writes = model.draw(&table, &mut self.random);
            for write in &writes {
                match write {
                    Write::Upsert(row) => transaction.upsert(&table, row.clone()).unwrap(),
                    Write::Delete(key) => {
                        transaction.delete(&table, &[Value::Int64(*key)]).unwrap()
                    }
                }
            }
            all.push((table, writes));
        }
        if transaction.is_empty() {
            return;
        }
        let seq = transaction.commit().unwrap();
        for (model, (table, writes)) in self.models.iter_mut().zip(&all) {
            model.commit(table, seq, writes);
        }
        self.note(&format!("write: {seq}"));
    }

    fn change_columns(&mut self) {
        let database = &self.process.database;
        let at = self.random.below(self.models.len() as u64) as usize;
        let table = table_of(database, &self.models[at].name);
        let has_defaults = self.version == FormatVersion::V3;
        let change = self.models[at].draw_change(&table, &mut self.random, has_defaults);
        let table = database
            .alter_table(&table, std::slice::from_ref(&change))
            .unwrap();
        self.models[at].change(&table, &change);
        self.note(&format!("change: {change:?}"));
    }

    /// Whether an error is one that passes, or that what was done explains.
    fn check_error(&mut self, error: &ExportError, is_zombie: bool) {
        self.note(&format!("error: {error}"));
        let is_explained = match error {
            ExportError::Unavailable { .. }
            | ExportError::Conflict { .. }
            // The engine's part of a dropped tick may come to its end after the next one looked.
            | ExportError::Engine(moonshine_engine::Error::Usage(_)) => true,
            // A zombie's settings are of then.
            ExportError::Fenced { .. } | ExportError::Stale { .. } | ExportError::Config(_) => is_zombie,
            ExportError::Foreign { .. } => self.trouble.is_some() || is_zombie,
            _ => false,
        };
        assert!(is_explained, "{error}");
    }

    async fn tick(&mut self, polls: Option<u64>) {
        let snapshot = self.process.database.snapshot();
        let tick = DropAfter {
            inner: Box::pin(self.process.exporter.tick(&snapshot)),
            polls_left: polls.unwrap_or(u64::MAX),
        };
        match tick.await {
            None => self.note("tick dropped"),
            Some(Ok(exports)) => self.note(&format!("tick: {exports:?}")),
            Some(Err(error)) => self.check_error(&error, false),
        }
    }

    /// No sync of the disk comes to its end, so that nobody knows what is in the log; then the process dies.
    async fn tick_on_a_sick_disk(&mut self) {
        self.process.disk.fail_syncs(true);
        let snapshot = self.process.database.snapshot();
        let ticked = self.process.exporter.tick(&snapshot).await;
        self.note(&format!("tick on a sick disk: {ticked:?}"));
        if let Err(error) = ticked
            && !matches!(error, ExportError::Engine(_))
        {
            self.check_error(&error, false);
        }
        self.crash(false).await;
    }

    async fn maintain(&mut self) {
        let maintainer = self.process.exporter.maintainer();
        let polls_left = match self.random.below(3) {
            0 => self.random.below(80),
            _ => u64::MAX,
        };
        if self.random.below(3) == 0 {
            let run = DropAfter {
                inner: Box::pin(maintainer.run_due()),
                polls_left,
            };
            let done = run.await;
            return self.note(&format!("maintenance that is due: {done:?}"));
        }
        let run = DropAfter {
            inner: Box::pin(maintainer.run(None, false)),
            polls_left,
        };
        match run.await {
            None => self.note("maintenance dropped"),
            Some(Ok(actions)) => self.note(&format!("maintenance: {actions:?}")),
            Some(Err(error)) => self.check_error(&error, false),
        }
    }

    async fn tick_beside_maintenance(&mut self) {
        let maintainer = self.process.exporter.maintainer();
        let snapshot = self.process.database.snapshot();
        let by_hand = self.random.below(2) == 0;
        let maintenance = async {
            match by_hand {
                true => maintainer.run(None, false).await.map(drop),
                false => {
                    maintainer.run_due().await;
                    Ok(())
                }
            }
        };
        let (maintained, ticked) =
            futures::future::join(maintenance, self.process.exporter.tick(&snapshot)).await;
        self.note("tick beside maintenance");
        if let Err(error) = maintained {
            self.check_error(&error, false);
        }
        if let Err(error) = ticked {
            self.check_error(&error, false);
        }
    }

    /// The process dies, or only looks dead, and another one goes on with what is on the disk.
    async fn crash(&mut self, is_zombie: bool) {
        let style = match self.random.below(3) {
            0 => CrashStyle::KeepUnsynced,
            1 => CrashStyle::LoseUnsynced,
            _ => CrashStyle::TearUnsynced(self.random.next() | 1),
        };
        // What is buffered may be lost, and its sequences are given out again: the other half must not have exported it.
        if is_zombie {
            self.process.database.sync().unwrap();
            if self.random.below(3) == 0 {
                // It is suspended in the middle of something.
                let polls = self.random.below(60);
                self.tick(Some(polls)).await;
            }
        }
        let durable_seq = self.process.database.durable_seq();
        let disk = self.process.disk.crash(style);
        if !is_zombie {
            self.lake.kill(self.process.number);
        }
        let database = open_database(&disk);
        let recovered = database.durable_seq();
        assert!(recovered >= durable_seq, "{recovered} of {durable_seq}");
        for model in &mut self.models {
            model.states.retain(|seq, _| *seq <= recovered);
        }
        if self.random.below(4) == 0 {
            self.version = FormatVersion::V3;
        }
        if self.random.below(4) == 0 {
            self.layout = layout(&mut self.random);
        }
        self.processes += 1;
        let number = self.processes;
        self.note(&format!("crash: zombie {is_zombie}, {style:?}"));
        let exporter = self.open(&database, number).await;
        let process = Process {
            disk,
            database,
            exporter,
            number,
        };
        let old = std::mem::replace(&mut self.process, process);
        if is_zombie {
            self.zombies.push(old);
        }
    }

    /// Opens an exporter however often it takes.
    async fn open(&mut self, database: &Database, number: u64) -> Exporter {
        let catalog = SimulatedCatalog::of(&self.lake, self.guard, number);
        let mut tries = 0;
        loop {
            let settings = settings(self.version, &self.layout, self.target_file_size_bytes);
            let opened = open(database, &catalog, &self.clock, settings, &mut self.random).await;
            match opened {
                Ok(exporter) => return exporter,
                Err(error) => self.check_error(&error, false),
            }
            tries += 1;
            if self.trouble.is_some() && tries > 3 {
                self.undo();
            }
            assert!(tries < 500, "no exporter opens");
        }
    }

    /// Another exporter of the same database.
    async fn take_over(&mut self) {
        let database = self.process.database.clone();
        self.processes += 1;
        let number = self.processes;
        let exporter = self.open(&database, number).await;
        self.process.number = number;
        let mut older = std::mem::replace(&mut self.process.exporter, exporter);
        self.note("take-over");
        let are_all_there = self.lake.tables().len() == self.models.len();
        if are_all_there && self.random.below(2) == 0 {
            self.write();
            let snapshot = self.process.database.snapshot();
            match older.tick(&snapshot).await {
                Ok(exports) => assert!(exports.is_empty(), "an older one exported: {exports:?}"),
                Err(error) => self.check_error(&error, true),
            }
        }
    }

    /// A process that looked dead goes on on its own disk, with writes that nobody else has.
    async fn tick_zombie(&mut self) {
        if self.zombies.is_empty() || self.lake.tables().len() < self.models.len() {
            return;
        }
        let at = self.random.below(self.zombies.len() as u64) as usize;
        let mut zombie = self.zombies.swap_remove(at);
        let table = table_of(&zombie.database, "shop.a");
        let mut transaction = zombie.database.begin();
        let columns = table.schema().columns().iter();
        let row = columns.map(|column| match column.field_id {
            1 => Value::Int64(7),
            2 => Value::Utf8("of a zombie".to_owned()),
            _ => Value::Null,
        });
        transaction.upsert(&table, row.collect()).unwrap();
        transaction.commit().unwrap();
        let snapshot = zombie.database.snapshot();
        let ticked = match self.random.below(3) {
            0 => zombie
                .exporter
                .maintainer()
                .run(None, false)
                .await
                .map(|_| Vec::new()),
            _ => zombie.exporter.tick(&snapshot).await,
        };
        self.note(&format!("zombie {}: {ticked:?}", zombie.number));
        match ticked {
            Ok(exports) => assert!(exports.is_empty(), "a zombie exported: {exports:?}"),
            Err(error) => self.check_error(&error, true),
        }
        if self.random.below(2) == 0 {
            self.zombies.push(zombie);
        }
    }

    fn head(&self, name: &TableIdent) -> Option<i64> {
        let catalog = SimulatedCatalog::of(&self.lake, self.guard, 0);
        catalog.look(name)?.metadata.current_snapshot_id()
    }

    /// Somebody else does something to a table.
    fn disturb(&mut self) {
        let at = self.random.below(self.models.len() as u64) as usize;
        let name = ident(&self.models[at].name);
        if self.trouble.is_some() {
            return;
        }
        let deed = match self.random.below(6) {
            0 => Deed::SetProperty,
            1 => Deed::RollBack,
            2 => Deed::Expire {
                keep: 1 + self.random.below(3) as usize,
            },
            3 => Deed::RewriteManifests,
            4 => Deed::Append,
            _ => Deed::Replace,
        };
        let Some(head) = self.head(&name) else {
            return;
        };
        if self.lake.disturb(&name, deed) {
            self.note(&format!("deed: {deed:?} {name}"));
            if matches!(deed, Deed::RollBack | Deed::Append | Deed::Replace) {
                self.was_rolled_back = true;
                let after = self.head(&name);
                self.trouble = Some((name, deed, head, after));
            }
        }
    }

    /// What stops an export is undone, as its error asks for.
    fn undo(&mut self) {
        // An export goes on where a rollback took back no row.
        if let Some((name, deed, head, after)) = self.trouble.take()
            && self.head(&name) == after
        {
            self.note(&format!("undone: {deed:?}"));
            self.lake
                .disturb(&name, Deed::MakeHead { snapshot_id: head });
        }
    }

    /// Everything calms down, and has to be as it should be.
    pub(crate) async fn finish(mut self) -> BTreeMap<String, u32> {
        self.undo();
        self.lake.set_climate(Climate::CALM);
        self.lake.deliver_all();
        self.note("end");
        self.checker
            .check(&self.lake, &self.models, self.was_rolled_back);
        self.process.database.sync().unwrap();
        let snapshot = self.process.database.snapshot();
        self.settle(&snapshot).await;
        self.checker
            .check(&self.lake, &self.models, self.was_rolled_back);
        assert!(self.process.database.pending_exports().is_empty());
        let catalog = SimulatedCatalog::of(&self.lake, self.guard, 0);
        for model in &self.models {
            let table = table_of(&self.process.database, &model.name);
            let found = catalog.load(&ident(&model.name)).await.unwrap();
            assert!(
                found.is_some() || model.newest().is_empty(),
                "{} is missing",
                model.name
            );
            let exported = self.process.database.exported(&table);
            let seq = exported.map_or(0, |exported| exported.seq);
            assert_eq!(
                model.at(seq),
                model.newest(),
                "{} is exported up to {seq}",
                model.name
            );
        }
        // Of a table that others changed, the first attempt may be made of what was known.
        let maintainer = self.process.exporter.maintainer();
        if maintainer.run(None, false).await.is_err() {
            maintainer.run(None, false).await.unwrap();
        }
        self.checker
            .check(&self.lake, &self.models, self.was_rolled_back);
        let unnamed = self.checker.unnamed(&self.lake);
        let mut happened = self.happened;
        happened.insert("objects left".to_owned(), unnamed as u32);
        happened.insert("snapshots compared".to_owned(), self.checker.snapshot_count);
        for (fault, count) in self.lake.seen() {
            happened.insert(format!("fault {fault}"), count);
        }
        let _ = self.climate;
        happened
    }

    /// Ticks until all is exported; the engine's part of a dropped tick may be still at work.
    async fn settle(&mut self, snapshot: &moonshine_engine::Snapshot) {
        for _ in 0..50 {
            let first = self.process.exporter.tick(snapshot).await;
            match first {
                Ok(exports) if exports.is_empty() => return,
                Ok(_) => {}
                // Of a table that others changed, what was known is looked at anew after a refusal.
                Err(error @ (ExportError::Engine(_) | ExportError::Unavailable { .. })) => {
                    self.check_error(&error, false);
                    moonshine_sim_runtime::sleep(std::time::Duration::from_millis(2));
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("it does not settle");
    }
}

pub(crate) fn settings(
    version: FormatVersion,
    layout: &LayoutSettings,
    target: u64,
) -> SettingsByTable {
    let settings = TableSettings {
        format_version: version,
        target_file_size_bytes: target,
        layout: layout.clone(),
        maintenance: MaintenanceSettings {
            snapshots_min: 2,
            snapshots_max: 6,
            manifests_max: 3,
            ..MaintenanceSettings::default()
        },
        ..TableSettings::default()
    };
    settings.into()
}

async fn open(
    database: &Database,
    catalog: &Arc<SimulatedCatalog>,
    clock: &Arc<RunClock>,
    settings: SettingsByTable,
    random: &mut Random,
) -> Result<Exporter, ExportError> {
    let environment = environment(clock.clone(), random.next());
    Exporter::open_with(database.clone(), catalog.clone(), settings, environment).await
}

async fn open_at_last(
    database: &Database,
    catalog: &Arc<SimulatedCatalog>,
    clock: &Arc<RunClock>,
    settings: SettingsByTable,
    random: &mut Random,
) -> Exporter {
    loop {
        if let Ok(exporter) = open(database, catalog, clock, settings.clone(), random).await {
            return exporter;
        }
    }
}
