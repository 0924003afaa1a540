//! What happened in a run: a hash of all of it, and the last of it as text.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

use crate::random::mix;

/// How many notes a failure is reported with.
const KEPT_NOTES: usize = 20_000;
/// How many numbers of a note are kept as text; the hash has them all.
const KEPT_NUMBERS: usize = 4;

#[derive(Debug)]
struct Note {
    time: Duration,
    task: usize,
    kind: &'static str,
    numbers: [u64; KEPT_NUMBERS],
    number_count: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: u64,
    keeps_all: bool,
    kept: VecDeque<Note>,
}

impl Trace {
    pub(crate) fn new(keeps_all: bool) -> Self {
        Trace {
            keeps_all,
            ..Trace::default()
        }
    }

    pub(crate) fn note(
        &mut self,
        time: Duration,
        task: usize,
        kind: &'static str,
        numbers: &[u64],
    ) {
        self.add(time.as_nanos() as u64);
        self.add(task as u64);
        for byte in kind.bytes() {
            self.add(u64::from(byte));
        }
        for number in numbers {
            self.add(*number);
        }
        if self.kept.len() == KEPT_NOTES && !self.keeps_all {
            self.kept.pop_front();
        }
        let mut kept = [0; KEPT_NUMBERS];
        kept.iter_mut()
            .zip(numbers)
            .for_each(|(kept, number)| *kept = *number);
        self.kept.push_back(Note {
            time,
            task,
            kind,
            numbers: kept,
            number_count: numbers.len().min(KEPT_NUMBERS),
        });
    }

    fn add(&mut self, number: u64) {
        self.hash = mix(self.hash.rotate_left(5) ^ number);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The last notes, a line each.
    pub(crate) fn text(&self, task_name: impl Fn(usize) -> String) -> String {
        let mut text = String::new();
        for note in &self.kept {
            let numbers = &note.numbers[..note.number_count];
            let name = task_name(note.task);
            // Writing to a string never fails.
            let _ = writeln!(text, "{:?} {name} {} {numbers:?}", note.time, note.kind);
        }
        text
    }
}
