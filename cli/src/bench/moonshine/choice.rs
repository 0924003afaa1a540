//! Which record the next operation takes.

use moonshine_sysprobe::bench::ycsb::{Random, RecordChooser};

use super::plan::Choice;

/// Draws numbers of records.
pub(super) enum Chooser {
    Ycsb(RecordChooser),
}

impl Chooser {
    pub(super) fn new(choice: Choice, _seed: u64) -> Self {
        match choice {
            Choice::Ycsb(requests) => Chooser::Ycsb(RecordChooser::new(requests)),
            Choice::Distribution(_) => Chooser::Ycsb(RecordChooser::new(
                moonshine_sysprobe::bench::ycsb::Requests::Uniform,
            )),
        }
    }

    /// One of the records from 0 to `records` - 1.
    pub(super) fn choose(&mut self, records: u64, random: &mut Random) -> u64 {
        match self {
            Chooser::Ycsb(chooser) => chooser.choose(records, || random.draw()),
        }
    }
}
