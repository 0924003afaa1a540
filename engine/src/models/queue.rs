//! The commit queue alone. Who leads writes blocks as `commit::committer` does, but nowhere.

use std::sync::Arc;
use std::sync::Mutex as Leaf;

use uuid::Uuid;

use super::small::{join, start};
use crate::error::Error;
use crate::io::SimulatedIo;
use crate::layout::Layout;
use crate::log::format::RecordKind;
use crate::profile::StoredProfile;
use crate::queue::commit_queue::{CommitQueue, Durability, Ticket, Turn, Woken};
use crate::row_set::budget::MemoryBudget;
use crate::space::RetryPause;
use crate::statistics::counters::Counters;

const WRITERS: u64 = 3;
const RECORDS: u64 = 2;

/// A queue, and the numbers that were written.
struct Log {
    queue: CommitQueue,
    counters: Counters,
    written: Leaf<Vec<u64>>,
    /// The block that fails.
    fails_at: Option<usize>,
    blocks: Leaf<usize>,
}

impl Log {
    fn new(fails_at: Option<usize>) -> Arc<Self> {
        let profile = StoredProfile::from(moonshine_sysprobe::Profile::given(4096, 2));
        let budget = MemoryBudget::new(1 << 20);
        let disk = Arc::new(SimulatedIo::new(1));
        Arc::new(Log {
            queue: CommitQueue::new(Uuid::nil(), 0, &Layout::of(&profile), &budget),
            counters: Counters::new(disk, Arc::default()),
            written: Leaf::default(),
            fails_at,
            blocks: Leaf::default(),
        })
    }

    fn submit(&self, durability: Durability) -> Result<Ticket, Error> {
        let body: Arc<[u8]> = Arc::from([0_u8; 8]);
        let (kind, counters) = (RecordKind::Delta, &self.counters);
        self.queue.submit(kind, body, durability, None, counters)
    }

    /// Writes blocks until a record is written; then whoever waits next leads.
    fn lead(&self, until_number: u64) -> Woken {
        let mut finished = Woken::default();
        loop {
            let records = self.queue.take();
            let Some(last) = records.last() else {
                break;
            };
            let block = {
                let mut blocks = self.blocks.lock().unwrap();
                *blocks += 1;
                *blocks
            };
            if self.fails_at == Some(block) {
                self.queue.fail("the disk is broken");
                break;
            }
            let numbers = records.iter().map(|record| record.ticket.number);
            self.written.lock().unwrap().extend(numbers);
            let (woken, is_quick) = self.queue.finish(last.ticket.number, true);
            let is_done = last.ticket.number >= until_number;
            finished = woken;
            if is_done && !is_quick {
                break;
            }
        }
        self.queue.resign();
        finished
    }

    fn wait(&self, ticket: Ticket) -> Result<(), Error> {
        let failures_before = self.queue.failure_count();
        while self.queue.turn(ticket, failures_before)? == Turn::Lead {
            drop(self.lead(ticket.number));
        }
        let written = self.written.lock().unwrap();
        assert!(written.contains(&ticket.number), "acknowledged early");
        Ok(())
    }

    fn attend(&self) {
        let mut pause = RetryPause::default();
        while self.queue.attend(&mut pause) {
            drop(self.lead(u64::MAX));
        }
    }
}

fn durability(number: u64) -> Durability {
    if number.is_multiple_of(2) {
        Durability::Buffered
    } else {
        Durability::Synced
    }
}

/// Writers that wait, one that leaves its record behind, and the thread that attends.
pub(super) fn acknowledges_once() {
    let log = Log::new(None);
    let attending = log.clone();
    let attendant = start(move || attending.attend());
    let writers = (0..WRITERS).map(|writer| {
        let log = log.clone();
        start(move || {
            for number in 0..RECORDS {
                let ticket = log.submit(durability(writer + number)).unwrap();
                if writer == 0 && number == 0 {
                    log.queue.leave();
                } else {
                    log.wait(ticket).unwrap();
                }
            }
        })
    });
    join(writers.collect());
    log.queue.close();
    join(vec![attendant]);
    let expected: Vec<u64> = (1..=WRITERS * RECORDS).collect();
    assert_eq!(*log.written.lock().unwrap(), expected);
}

/// The second block fails.
pub(super) fn failure_reaches_all() {
    let log = Log::new(Some(2));
    let attending = log.clone();
    let attendant = start(move || attending.attend());
    let writers = (0..WRITERS).map(|writer| {
        let log = log.clone();
        start(move || {
            for number in 0..RECORDS {
                let ticket = log.submit(durability(writer + number));
                match ticket.and_then(|ticket| log.wait(ticket)) {
                    Ok(()) => {}
                    Err(Error::Poisoned(_)) => {
                        assert!(log.submit(Durability::Synced).is_err());
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    join(writers.collect());
    join(vec![attendant]);
    assert!(log.queue.failure().is_some(), "there were fewer blocks");
}
