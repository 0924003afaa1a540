//! `ioengine=moonshine`: the database itself under the harness.
//!
//! The [`MoonshineFactory`] turns a job's options into a [`plan`], opens the job's database and loads the records it
//! lacks ([`dataset`]); jobs that name one database share it. Each thread then is a [`worker`]: it draws an operation by
//! the workload's mix and a record by its choice, carries it out on the one database of all threads, and is timed by
//! the harness as if it were one I/O. [`record`] makes keys and values that say whose they are, so that every read is
//! checked; [`inserted`] knows which records can be read while others are being written; [`counting_io`] counts what
//! the engine does to its files. When a job has ended, [`job_state`] says what there was to do and what it cost.

mod counting_io;
mod dataset;
mod inserted;
mod job_state;
mod plan;
mod record;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moonshine_sysprobe::bench::ycsb::Random;
use moonshine_sysprobe::bench::{JobOptions, RunControl, Workload, WorkloadFactory};

use dataset::Dataset;
use job_state::JobState;
use plan::Plan;
use worker::Worker;

/// The name that `ioengine` gives.
const ENGINE_NAME: &str = "moonshine";

/// Runs jobs on databases.
#[derive(Debug, Default)]
pub(crate) struct MoonshineFactory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Jobs that are prepared and have not ended.
    jobs: Vec<(JobOptions, Arc<JobState>)>,
    /// Their databases and how many jobs each has.
    datasets: HashMap<PathBuf, (Arc<Dataset>, usize)>,
}

impl State {
    /// The database of a plan, opened and loaded if no job has it open.
    fn dataset(
        &mut self,
        folder: PathBuf,
        plan: &Plan,
        control: &RunControl,
    ) -> Result<Arc<Dataset>, String> {
        if let Some((dataset, users)) = self.datasets.get_mut(&folder) {
            let same = dataset.format.key_size_bytes() == plan.key_size as u64
                && dataset.format.size_bytes() == (plan.key_size + plan.value_size) as u64;
            if !same || dataset.inserted.visible() < plan.records {
                return Err(format!(
                    "a job that runs at the same time uses {} with other records; stonewall keeps them apart",
                    folder.display()
                ));
            }
            *users += 1;
            return Ok(dataset.clone());
        }
        let dataset = Arc::new(Dataset::open(&folder, plan, control)?);
        self.datasets.insert(folder, (dataset.clone(), 1));
        Ok(dataset)
    }
}

impl MoonshineFactory {
    /// No database is open yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn job(&self, job: &JobOptions) -> Result<Arc<JobState>, String> {
        let state = self.state();
        let mut jobs = state.jobs.iter();
        jobs.find_map(|(options, state)| (options == job).then(|| state.clone()))
            .ok_or_else(|| format!("job {} was not prepared", job.name))
    }
}

impl WorkloadFactory for MoonshineFactory {
    fn name(&self) -> &'static str {
        ENGINE_NAME
    }

    fn prepare(&self, job: &JobOptions, control: &RunControl) -> Result<(), String> {
        let plan = Plan::of(job)?;
        let folder = plan::folder(job)?;
        let mut state = self.state();
        let dataset = state.dataset(folder, &plan, control)?;
        let prepared = Arc::new(JobState::new(plan, dataset));
        state.jobs.push((job.clone(), prepared));
        Ok(())
    }

    /// As many bytes as the records have: about one operation a record. Who counts operations means all of them.
    fn size_bytes(&self, job: &JobOptions) -> Option<u64> {
        if job.number_ios.is_some() && job.io_size.is_none() && job.size.is_none() {
            return None;
        }
        let state = self.job(job).ok()?;
        let plan = &state.plan;
        let records = plan.records.max(1);
        Some(records.saturating_mul(state.dataset.format.size_bytes()))
    }

    fn thread(&self, job: &JobOptions, thread: usize) -> Result<Box<dyn Workload>, String> {
        let state = self.job(job)?;
        let random = Random::of_thread(job, thread);
        Ok(Box::new(Worker::new(state, thread as u64, random)))
    }

    fn finish(&self, job: &JobOptions) -> Result<Vec<String>, String> {
        let ended = {
            let mut state = self.state();
            let i = state.jobs.iter().position(|(options, _)| options == job);
            i.map(|i| state.jobs.swap_remove(i).1)
        };
        let ended = ended.ok_or_else(|| format!("job {} was not prepared", job.name))?;
        let report = ended.report();
        let folder = ended.dataset.folder.clone();
        drop(ended);
        let mut state = self.state();
        let is_last = match state.datasets.get_mut(&folder) {
            Some((_, users)) => {
                *users -= 1;
                *users == 0
            }
            None => false,
        };
        if is_last {
            // Closes the database, since no thread has it any more.
            state.datasets.remove(&folder);
            if job.unlink {
                std::fs::remove_dir_all(&folder)
                    .map_err(|error| format!("unlink: {}: {error}", folder.display()))?;
            }
        }
        report
    }
}
