//! Generations as writers, flushes and readers have them: whoever holds some finds what there was, and memory is counted for as
//! long as anybody does.
//!
//! Defends *ordered* and *bounded*.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::generations::{Frozen, Generations};
use crate::generation::Generation;
use crate::generation::tests::{Writes, get, write};
use crate::log::segments::LogStart;
use crate::row_set::budget::MemoryBudget;

type Known = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

#[derive(Clone, Debug)]
enum Step {
    Write(Known),
    /// The generation that is written waits to be flushed.
    Freeze,
    /// The oldest one goes below.
    Flush,
    /// A reader takes what there is.
    Hold,
    Release(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let value = prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 0..20));
    let rows = prop::collection::btree_map(prop::collection::vec(0..6_u8, 1), value, 1..5);
    prop_oneof![
        6 => rows.prop_map(Step::Write),
        2 => Just(Step::Freeze),
        2 => Just(Step::Flush),
        2 => Just(Step::Hold),
        2 => any::<usize>().prop_map(Step::Release),
    ]
}

/// What a reader has: generations, a commit sequence, what lies below, and what it must find.
struct Reader {
    list: Vec<Arc<Generation>>,
    seq: u64,
    below: Known,
    expected: Known,
}

impl Reader {
    fn check(&self) {
        for key in (0..6_u8).map(|byte| vec![byte]) {
            let mut found = self.list.iter().find_map(|one| get(one, &key, self.seq));
            if found.is_none() {
                found = self.below.get(&key).cloned();
            }
            let expected = self.expected.get(&key).cloned().flatten();
            assert_eq!(found.flatten(), expected, "{key:?} at {}", self.seq);
        }
    }
}

struct Harness {
    budget: Arc<MemoryBudget>,
    generations: Generations,
    seq: u64,
    /// All rows, those of each generation that is not flushed (oldest first), and those below.
    state: Known,
    unflushed: Vec<Known>,
    below: Known,
    held: Vec<Reader>,
}

impl Harness {
    fn new() -> Self {
        let budget = MemoryBudget::new(1 << 30);
        Harness {
            generations: Generations::new(0, 1 << 20, 1 << 20, &budget),
            budget,
            seq: 0,
            state: Known::new(),
            unflushed: vec![Known::new()],
            below: Known::new(),
            held: Vec::new(),
        }
    }

    fn reader(&self) -> Reader {
        Reader {
            list: self.generations.list().to_vec(),
            seq: self.seq,
            below: self.below.clone(),
            expected: self.state.clone(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(rows) => {
                self.seq += 1;
                let truncate = false;
                self.state.extend(rows.clone());
                self.unflushed.last_mut().unwrap().extend(rows.clone());
                let writes = Writes { truncate, rows };
                write(&self.generations.active(), self.seq, &writes);
            }
            Step::Freeze => {
                self.generations.freeze(Frozen {
                    generation: self.generations.active(),
                    seq_to: self.seq,
                    block_number: 0,
                    log_start: LogStart {
                        segment_number: 1,
                        block_number: 1,
                    },
                    exports: Vec::new(),
                    origins: Vec::new(),
                    load: None,
                });
                self.unflushed.push(Known::new());
            }
            Step::Flush if self.generations.frozen_count() > 0 => self.flush(),
            Step::Hold => self.held.push(self.reader()),
            Step::Release(which) if !self.held.is_empty() => {
                self.held.swap_remove(which % self.held.len());
            }
            Step::Flush | Step::Release(_) => {}
        }
        self.check();
    }

    fn flush(&mut self) {
        let frozen = self.generations.next_frozen().unwrap();
        self.below.extend(self.unflushed.remove(0));
        self.generations.drop_flushed(&frozen, || ());
    }

    fn check(&self) {
        self.held.iter().for_each(Reader::check);
        self.reader().check();
        let list = self.generations.list().to_vec();
        assert_eq!(list.len(), self.generations.frozen_count() + 1);
        assert_eq!(list.len(), self.unflushed.len());
        let size_bytes = list.iter().map(|one| one.size_bytes()).sum::<u64>();
        assert_eq!(self.generations.size_bytes(), size_bytes);
        let held = self.held.iter().flat_map(|reader| &reader.list);
        let alive: BTreeMap<*const Generation, u64> = list
            .iter()
            .chain(held)
            .map(|one| (Arc::as_ptr(one), one.size_bytes()))
            .collect();
        let counted = self.generations.held_bytes();
        assert_eq!(
            counted,
            alive.values().sum::<u64>(),
            "what is held, and what is counted"
        );
        assert_eq!(self.budget.used_bytes(), counted);
    }
}

proptest! {
    #[test]
    fn readers_keep_what_they_took_and_memory_is_counted(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut harness = Harness::new();
        for step in steps {
            harness.step(step);
        }
        harness.held.clear();
        while harness.generations.frozen_count() > 0 {
            harness.flush();
        }
        harness.check();
        let budget = harness.budget.clone();
        drop(harness);
        prop_assert_eq!(budget.used_bytes(), 0);
    }
}
