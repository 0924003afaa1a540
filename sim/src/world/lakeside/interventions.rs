//! What happens to the lake between rounds, and at the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use moonshine_engine::Transaction;
use moonshine_engine::io::{CrashStyle, NamesStyle};

use super::client::{Standing, judge};
use super::host::{Order, Task};
use super::{Lakeside, climate, count};
use crate::lake::Climate;
use crate::model::tables::{PEOPLE, TABLE_COUNT, row};
use crate::plan::lake::ClimateConfig;
use crate::plan::operation::{Kind, Operation};
use crate::random::Stream;
use crate::world::World;
use crate::world::acknowledged::Promise;
use crate::world::outcome::{Step, Stop};
use crate::world::process::{Process, tables};

/// So often the exporter is asked until everything is exported.
const TICKS_MAX: usize = 50;
const HOUR_MS: i64 = 3_600_000;

impl World<'_> {
    fn lakeside(&mut self) -> &mut Lakeside {
        self.lakeside.as_mut().unwrap()
    }

    pub(in crate::world) fn intervene_in_lake(
        &mut self,
        operation: &Operation,
        stream: &mut Stream,
    ) -> Step {
        let process = self.process();
        let number = operation.number;
        let lakeside = self.lakeside();
        match operation.kind {
            Kind::Deed => {
                let done = lakeside.disturb(stream);
                process.say(format!("operation {number}: {done:?}"));
            }
            Kind::Undo => {
                let undone = lakeside.undo(&process.database);
                process.say(format!("operation {number}: {undone:?}"));
            }
            Kind::Climate => {
                let drawn = ClimateConfig::draw(stream);
                lakeside.ground.lake.set_climate(climate(drawn));
                let hours = stream.pick(&[0, 0, 1, 30, 200]);
                lakeside.ground.clock.advance(hours * HOUR_MS / 4);
            }
            Kind::Wake => return self.wake(number, stream),
            Kind::Fork => return self.fork(number),
            other => unreachable!("{other:?} is nothing of a lake's"),
        }
        let is_troubled = lakeside.trouble.is_some();
        process.troubled.store(is_troubled, Ordering::SeqCst);
        drop(process);
        self.check_lake(number)
    }

    /// A zombie goes on: one whose process died with what it was at, one that was copied with what it has.
    fn wake(&mut self, number: usize, stream: &mut Stream) -> Step {
        let lakeside = self.lakeside();
        if !lakeside.copied.is_empty() && stream.chance(500) {
            let copied = lakeside.copied.pop().unwrap();
            return self.wake_copied(number, copied, stream);
        }
        // On real threads nobody knows when it is done.
        if cfg!(moonshine_sim) && !lakeside.zombies.is_empty() {
            let at = stream.below(lakeside.zombies.len() as u64) as usize;
            lakeside.zombies[at].wake();
        }
        Ok(())
    }

    /// The process and its disk are copied. The first one stops for a while, and the copy goes on.
    fn fork(&mut self, number: usize) -> Step {
        let process = self.process();
        process.disk.plan(None);
        // What is buffered is not in the copy, and its sequences are given out again: nobody must have exported it.
        let synced = process.database.sync();
        match process.expect(number, "a sync", synced) {
            Ok(()) => {}
            Err(Stop::Dead) => return self.bury(number),
            Err(other) => return Err(other),
        }
        let seq = process.database.durable_seq();
        let image = process
            .disk
            .disk()
            .crash_image(CrashStyle::KeepUnsynced, NamesStyle::Kept);
        let acknowledged = process.acknowledged.clone();
        process.note_durable(seq);
        let promise = Promise {
            seq,
            ..acknowledged.promise(CrashStyle::KeepUnsynced)
        };
        self.let_go();
        self.report.count("copied processes");
        self.lakeside().copied.push(process);
        let stream = Stream::new(self.plan.seed, "start", number as u64 + 1);
        self.start(number, image, acknowledged, promise, stream)
    }

    /// Wakes a process whose copy went on.
    fn wake_copied(&mut self, number: usize, copied: Arc<Process>, stream: &mut Stream) -> Step {
        // Whether every table was taken over.
        let ticked = self.tick_alone(number);
        let is_over = match ticked {
            Ok(ticked) => ticked.is_some(),
            Err(Stop::Dead) => {
                self.lakeside().copied.push(copied);
                return self.bury(number);
            }
            Err(Stop::Explained) => false,
            Err(other) => return Err(other),
        };
        if !is_over || self.lakeside().ground.lake.tables().len() < TABLE_COUNT {
            self.lakeside().copied.push(copied);
            return Ok(());
        }
        let ended = go_on(&copied, number, stream);
        if let Some(host) = &copied.exports {
            host.close();
        }
        match ended {
            // It dies, or meets a fault, as any process.
            Err(Stop::Dead | Stop::Explained) => Ok(()),
            ended => ended,
        }
    }

    /// One export while no client does anything; what it said, unless it failed by a fault.
    fn tick_alone(&mut self, number: usize) -> Step<Option<String>> {
        let process = self.process();
        self.export_alone(number, &process, Task::Tick)
    }

    fn export_alone(
        &mut self,
        number: usize,
        process: &Process,
        task: Task,
    ) -> Step<Option<String>> {
        let Some(host) = &process.exports else {
            return Ok(None);
        };
        let order = Order {
            task,
            database: process.database.clone(),
            snapshot: process.snapshot(number)?,
            polls: u64::MAX,
        };
        let newest = host.seats()[0].clone();
        // Of several that took over side by side nobody knows who is the newest.
        let (seat, standing) = match newest.is_older.load(Ordering::SeqCst) {
            true => (host.add_seat(), Standing::Newer),
            false => (newest, Standing::Alone),
        };
        let begun = host.begin(&seat, order);
        let outcome = host.wait(begun).ok_or(Stop::Dead)?;
        judge(process, number, outcome, standing)
    }

    /// Everything calms down, and has to be as it should be.
    pub(in crate::world) fn end_lake(&mut self, number: usize) -> Step {
        if self.lakeside.is_none() {
            return Ok(());
        }
        // A death that was planned may have begun.
        loop {
            match self.calm_down(number) {
                Err(Stop::Dead) => self.bury(number)?,
                ended => return ended,
            }
        }
    }

    fn calm_down(&mut self, number: usize) -> Step {
        let process = self.process();
        let lakeside = self.lakeside();
        lakeside.undo(&process.database);
        process.troubled.store(false, Ordering::SeqCst);
        lakeside.ground.lake.set_climate(Climate::CALM);
        for zombie in std::mem::take(&mut lakeside.zombies) {
            zombie.wake();
            zombie.close();
        }
        for copied in std::mem::take(&mut lakeside.copied) {
            if let Some(host) = &copied.exports {
                host.close();
            }
        }
        lakeside.ground.lake.deliver_all();
        if let Some(host) = &process.exports {
            host.come_to_rest();
        }
        self.check_lake(number)?;
        self.settle_lake(number, &process)?;
        // Exports may have taken commit sequences of their own.
        self.settle(number)?;
        self.check_lake(number)?;
        self.check_exported(number, &process)?;
        // Of a table that others changed, the first attempt may be made of what was known.
        let by_hand = Task::Maintain { by_hand: true };
        for attempt in 0..3 {
            let done = self.export_alone(number, &process, by_hand)?;
            if done.is_some() {
                break;
            }
            if attempt == 2 {
                return Err(Stop::violation("settles", number, "maintenance fails"));
            }
        }
        self.settle(number)?;
        self.check_lake(number)?;
        count(self.lakeside.as_ref().unwrap(), &mut self.report);
        Ok(())
    }

    /// Ticks until all is exported; the engine's part of a dropped tick may be still at work.
    fn settle_lake(&mut self, number: usize, process: &Process) -> Step {
        for _ in 0..TICKS_MAX {
            match self.export_alone(number, process, Task::Tick)? {
                Some(said) if said == "[]" => return Ok(()),
                Some(_) => {}
                None => moonshine_sim_runtime::sleep(Duration::from_millis(2)),
            }
        }
        let detail = "exports fail though all is calm";
        Err(Stop::violation("settles", number, detail))
    }

    /// Every table is exported up to its newest state, and nothing is pending.
    fn check_exported(&mut self, number: usize, process: &Process) -> Step {
        let wrong = |detail: String| Err(Stop::violation("lake", number, detail));
        let pending = process.database.pending_exports();
        if !pending.is_empty() {
            return wrong(format!("{pending:?} are pending in the end"));
        }
        let lakeside = self.lakeside.as_ref().unwrap();
        let there = lakeside.ground.lake.tables();
        for (at, table) in tables(&process.database, &process.config)
            .iter()
            .enumerate()
        {
            let exported = process.database.exported(table);
            let seq = exported.map_or(0, |exported| exported.seq);
            let name = table.name();
            let states = self.history.states_with_newest(seq);
            let tables = states.map(|(state, newest)| (state.table(at), newest.table(at)));
            let tables: Vec<_> = tables.collect();
            if !tables.iter().any(|(exported, newest)| exported == newest) {
                return wrong(format!("{name} is exported up to {seq} only"));
            }
            let ident = lakeside.names.ident(at);
            if tables.iter().all(|(_, newest)| !newest.is_empty())
                && !there.iter().any(|(known, _)| known == ident)
            {
                return wrong(format!("{name} is missing"));
            }
        }
        Ok(())
    }
}

/// What a process does whose copy went on: it writes, and exports nothing of it.
fn go_on(copied: &Process, number: usize, stream: &mut Stream) -> Step {
    let people = tables(&copied.database, &copied.config).swap_remove(PEOPLE);
    let mut transaction: Transaction = copied.database.begin();
    let of_nobody = row(people.schema(), PEOPLE, 3, stream.next());
    let written = transaction
        .upsert(&people, of_nobody)
        .and_then(|()| transaction.commit());
    copied.expect(number, "a write of a zombie", written)?;
    let Some(host) = &copied.exports else {
        return Ok(());
    };
    let seats = host.seats();
    // One that opens now takes over.
    if !seats[0].is_open.load(Ordering::SeqCst) {
        return Ok(());
    }
    let task = match stream.below(3) {
        0 => Task::Maintain { by_hand: true },
        _ => Task::Tick,
    };
    let order = Order {
        task,
        database: copied.database.clone(),
        snapshot: copied.database.snapshot(),
        polls: u64::MAX,
    };
    let begun = host.begin(&seats[0], order);
    let outcome = host.wait(begun).ok_or(Stop::Dead)?;
    let said = judge(copied, number, outcome, Standing::Older)?;
    match said {
        Some(said) if said != "[]" => {
            let detail = format!("a process whose copy went on did {said}");
            Err(Stop::violation("once", number, detail))
        }
        _ => Ok(()),
    }
}
