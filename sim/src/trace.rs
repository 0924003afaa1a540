//! What happened, for whoever looks for the cause of a failure.

use std::collections::VecDeque;

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

/// So many of the last steps are kept.
const STEPS_MAX: usize = 20_000;

/// The last steps of a simulation, in words.
#[derive(Debug)]
pub struct Trace {
    steps: Mutex<VecDeque<String>>,
    is_verbose: bool,
}

impl Trace {
    /// Nothing happened yet. If it is verbose, each step goes to stderr as well.
    pub fn new(is_verbose: bool) -> Self {
        Trace {
            steps: Mutex::default(),
            is_verbose,
        }
    }

    /// Notes a step.
    pub fn note(&self, step: String) {
        if self.is_verbose {
            eprintln!("{step}");
        }
        // As a part of the run's hash.
        moonshine_sim_runtime::note("step", &[xxh3_64(step.as_bytes())]);
        let mut steps = self.steps.lock();
        if steps.len() == STEPS_MAX {
            steps.pop_front();
        }
        steps.push_back(step);
    }

    /// The steps, oldest first.
    pub fn steps(&self) -> Vec<String> {
        self.steps.lock().iter().cloned().collect()
    }
}
