//! Ends and starts of processes, and what a start must find.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use moonshine_engine::io::SimulatedIo;
use parking_lot::Mutex;

use super::World;
use super::acknowledged::{Acknowledged, Promise};
use super::client::Client;
use super::disk::{Death, Moment, ProcessDisk};
use super::outcome::{Faults, Step, Stop};
use super::process::{Process, contents, open, tables};
use super::reads::origins;
use crate::model::attempt::End;
use crate::model::history::Recovered;
use crate::plan::config::Crash;
use crate::random::Stream;
use crate::trace::Trace;

/// Deaths of one start after another at most.
const DEATHS_IN_START_MAX: u64 = 3;

impl World<'_> {
    /// The first process on an empty disk.
    pub(super) fn begin(&mut self, disk: SimulatedIo) -> Step {
        let acknowledged = Arc::new(Acknowledged::default());
        let stream = Stream::new(self.plan.seed, "start", 0);
        self.start(0, disk, acknowledged, Promise::default(), stream)
    }

    /// The process has died: its clients end, and another one starts on what is left.
    pub(super) fn bury(&mut self, operation: usize) -> Step {
        let process = self.process();
        let Some(remains) = process.disk.take_remains() else {
            return Err(Stop::violation("world", operation, "nothing is left"));
        };
        self.report.count("crashes");
        self.report.count(remains.crash.name());
        process.say(format!(
            "operation {operation}: {:?}, {:?}",
            remains.crash, remains.promise
        ));
        let acknowledged = process.acknowledged.clone();
        self.host_of_end(&process);
        self.let_go();
        drop(process);
        let stream = Stream::new(self.plan.seed, "start", operation as u64 + 1);
        self.start(
            operation,
            remains.image,
            acknowledged,
            remains.promise,
            stream,
        )
    }

    /// Clients let go of everything, and the process ends.
    pub(super) fn let_go(&mut self) {
        for client in &mut self.clients {
            client.held.clear();
            client.open.clear();
            for parked in std::mem::take(&mut client.parked) {
                client.end_parked(parked, false);
            }
            for (mut attempt, _, handle) in std::mem::take(&mut client.submitted) {
                attempt.seq = Some(handle.seq());
                attempt.end = End::Unknown;
                client.attempts.push(attempt);
            }
        }
        let keep = |client: &mut Client| {
            let attempts = std::mem::take(&mut client.attempts);
            (attempts, std::mem::take(&mut client.observations))
        };
        self.left_over.extend(self.clients.iter_mut().map(keep));
        self.clients.clear();
        self.process = None;
    }

    /// Closes the database and opens it again.
    pub(super) fn reopen(&mut self, operation: usize) -> Step {
        let process = self.process();
        let disk = process.disk.clone();
        let acknowledged = process.acknowledged.clone();
        let visible_seq = process.database.snapshot().seq();
        self.host_of_end(&process);
        self.let_go();
        drop(process);
        let stream = Stream::new(self.plan.seed, "start", operation as u64 + 1);
        if let Some(remains) = disk.take_remains() {
            // It died while it was closed.
            self.report.count("crashes");
            return self.start(
                operation,
                remains.image,
                acknowledged,
                remains.promise,
                stream,
            );
        }
        self.report.count("reopens");
        let promise = Promise {
            seq: visible_seq,
            ..acknowledged.promise(moonshine_engine::io::CrashStyle::KeepUnsynced)
        };
        acknowledged
            .durable_seq
            .store(visible_seq, Ordering::SeqCst);
        self.start(
            operation,
            disk.disk().clone(),
            acknowledged,
            promise,
            stream,
        )
    }

    /// Starts a process; it may die in the start, and then the next one starts.
    pub(super) fn start(
        &mut self,
        operation: usize,
        mut disk: SimulatedIo,
        acknowledged: Arc<Acknowledged>,
        mut promise: Promise,
        mut stream: Stream,
    ) -> Step {
        let config = Arc::new(self.plan.config.clone());
        for attempt in 0.. {
            // Of what was not promised nothing is kept in mind, as it may be gone.
            acknowledged
                .visible_seq
                .store(promise.seq, Ordering::SeqCst);
            acknowledged.submitted_seq.store(0, Ordering::SeqCst);
            acknowledged
                .schema_version
                .store(promise.schema_version, Ordering::SeqCst);
            let durable_seq = acknowledged.durable_seq.load(Ordering::SeqCst);
            let durable_seq = durable_seq.min(promise.seq);
            acknowledged
                .durable_seq
                .store(durable_seq, Ordering::SeqCst);
            let process_disk = ProcessDisk::new(
                disk.clone(),
                acknowledged.clone(),
                self.trace.clone(),
                config.forgotten_syncs,
            );
            let dies = stream.chance(config.death_in_start_permille);
            let death = draw_death(&mut stream, 60);
            if dies && attempt < DEATHS_IN_START_MAX {
                process_disk.plan(Some(death));
            }
            let opened = open(&config, &process_disk);
            process_disk.plan(None);
            match opened {
                Ok(_) | Err(_) if process_disk.is_dead() => {}
                Ok(database) => {
                    let mut process = Process {
                        seed: self.plan.seed,
                        config: config.clone(),
                        disk: process_disk,
                        database,
                        acknowledged,
                        faults: Arc::new(Faults::default()),
                        trace: self.trace.clone(),
                        exports: None,
                        troubled: AtomicBool::new(false),
                        altered: Mutex::default(),
                    };
                    self.host_of_start(&mut process);
                    self.process = Some(Arc::new(process));
                    return self.look_around(operation, promise, stream);
                }
                Err(error) => {
                    let detail = format!("a start failed: {error} ({error:?})");
                    return Err(Stop::violation("start", operation, detail));
                }
            }
            self.report.count("crashes in a start");
            if let Some(remains) = process_disk.take_remains() {
                self.trace
                    .note(format!("in the start: {:?}", remains.crash));
                disk = remains.image;
                promise = remains.promise;
            }
        }
        Ok(())
    }

    /// What the start found is one of the states that may be there.
    fn look_around(&mut self, operation: usize, promise: Promise, mut stream: Stream) -> Step {
        let process = self.process();
        let snapshot = process.database.snapshot();
        let seq = snapshot.seq();
        process.say(format!(
            "operation {operation}: a start at {seq}, promised {promise:?}"
        ));
        if seq < promise.seq {
            let promised = promise.seq;
            let detail = format!("a start is at commit sequence {seq}, promised was {promised}");
            return Err(Stop::violation("durable", operation, detail));
        }
        let tables = tables(&process.database, &process.config);
        let version = tables[crate::model::tables::PEOPLE].schema().version();
        if u64::from(version) < promise.schema_version {
            let promised = promise.schema_version;
            let detail = format!("the schema has version {version}, promised was {promised}");
            return Err(Stop::violation("durable", operation, detail));
        }
        let read = contents(&snapshot, &tables);
        let recovered = Recovered {
            seq,
            tables: process.expect(operation, "reading after a start", read)?,
            origins: origins(&snapshot),
        };
        process.note_durable(process.database.durable_seq());
        process.note_durable(seq);
        self.clients = (0..self.plan.config.client_count)
            .map(|number| Client::new(number, process.clone()))
            .collect();
        for (attempts, observations) in std::mem::take(&mut self.left_over) {
            self.clients[0].attempts.extend(attempts);
            self.clients[0].observations.extend(observations);
        }
        self.take(Some(recovered.clone()), None)?;
        self.check_lake(operation)?;
        if stream.chance(200) {
            self.start_twice(operation, &recovered, &mut stream)?;
        }
        Ok(())
    }

    /// A machine that dies right after a start finds the same again.
    fn start_twice(&mut self, operation: usize, first: &Recovered, stream: &mut Stream) -> Step {
        let process = self.process();
        let image = {
            let crash = Crash::draw(stream);
            process.disk.disk().crash_image(crash.style, crash.names)
        };
        let disk = ProcessDisk::new(image, Arc::default(), Arc::new(Trace::new(false)), None);
        let opened = open(&process.config, &disk);
        let database = process.expect(operation, "a second start", opened)?;
        self.report.count("second starts");
        let snapshot = database.snapshot();
        let read = contents(&snapshot, &tables(&database, &process.config));
        let tables = process.expect(operation, "reading after a second start", read)?;
        if snapshot.seq() != first.seq || tables != first.tables {
            let detail = format!(
                "a second start found commit sequence {} with {tables:?}, the first {} with {:?}",
                snapshot.seq(),
                first.seq,
                first.tables
            );
            return Err(Stop::violation("same", operation, detail));
        }
        Ok(())
    }
}

/// A death within so many calls.
pub(super) fn draw_death(stream: &mut Stream, calls: u64) -> Death {
    Death {
        calls: stream.below(calls),
        moment: stream.pick(&[Moment::Before, Moment::Within, Moment::Behind]),
        crash: Crash::draw(stream),
    }
}
