//! What is known of a run before it begins: contradictions, groups, and which jobs run at the same time.

use super::error::BenchError;
use super::job::JobOptions;
use super::values::{BlockRange, Distribution, Extent, JobEngine};
use super::workload::WorkloadFactory;

/// Most threads of a run.
const THREADS_MAX: usize = 4096;

/// Jobs that run at the same time: indices of jobs, from one stonewall to the next.
pub(super) fn stages(jobs: &[JobOptions]) -> Vec<Vec<usize>> {
    let mut stages: Vec<Vec<usize>> = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        match stages.last_mut().filter(|_| !job.stonewall) {
            Some(stage) => stage.push(index),
            None => stages.push(vec![index]),
        }
    }
    stages
}

/// The reporting group of each job: a stonewall or `new_group` begins a new one.
pub(super) fn groups(jobs: &[JobOptions]) -> Vec<usize> {
    let mut group = 0;
    let begins = |(index, job): (usize, &JobOptions)| {
        if index > 0 && (job.stonewall || job.new_group) {
            group += 1;
        }
        group
    };
    jobs.iter().enumerate().map(begins).collect()
}

/// The workload that a job names; `None` where it does block I/O.
pub(super) fn workload_of<'a>(
    job: &JobOptions,
    workloads: &[&'a dyn WorkloadFactory],
) -> Result<Option<&'a dyn WorkloadFactory>, BenchError> {
    let JobEngine::Workload(name) = &job.ioengine else {
        return Ok(None);
    };
    let found = workloads.iter().find(|workload| workload.name() == name);
    match found {
        Some(workload) => Ok(Some(*workload)),
        None => Err(wrong(job, format!("there is no ioengine {name}"))),
    }
}

/// Bytes that a thread of a prepared workload does in all, where `size` or the workload says so.
pub(super) fn size_of_workload(job: &JobOptions, workload: &dyn WorkloadFactory) -> Option<u64> {
    match job.size {
        Some(Extent::Bytes(bytes)) => Some(bytes),
        Some(percent) => Some(percent.of(workload.size_bytes(job)?)),
        None => workload.size_bytes(job),
    }
}

/// Refuses a prepared workload that nothing would end.
pub(super) fn check_workload(job: &JobOptions, size: Option<u64>) -> Result<(), BenchError> {
    let is_bounded = job.runtime.is_some()
        || job.number_ios.is_some()
        || size.is_some()
        || matches!(job.io_size, Some(Extent::Bytes(_)));
    match is_bounded {
        true => Ok(()),
        false => Err(wrong(job, "needs runtime, number_ios or size".into())),
    }
}

/// Refuses what contradicts itself.
pub(super) fn check(jobs: &[JobOptions]) -> Result<(), BenchError> {
    let threads: usize = jobs.iter().map(|job| job.numjobs.max(1)).sum();
    for job in jobs {
        check_job(job).map_err(|reason| wrong(job, reason))?;
        if threads > THREADS_MAX {
            let reason = format!("numjobs: {threads} threads in all, at most {THREADS_MAX}");
            return Err(wrong(job, reason));
        }
    }
    Ok(())
}

fn check_job(job: &JobOptions) -> Result<(), String> {
    if job.time_based && job.runtime.is_none() {
        return Err("time_based needs runtime".into());
    }
    for BlockRange {
        least_bytes,
        most_bytes,
    } in [job.block_sizes.read, job.block_sizes.write]
    {
        if least_bytes == 0 || least_bytes > most_bytes {
            return Err(format!(
                "block sizes from {least_bytes} to {most_bytes} bytes"
            ));
        }
        if u32::try_from(most_bytes).is_err() {
            return Err(format!("a block of {most_bytes} bytes is too great"));
        }
    }
    if job.rwmix_read_percent > 100 {
        return Err("rwmixread is more than 100".into());
    }
    check_distribution(job.random_distribution)
}

fn check_distribution(distribution: Distribution) -> Result<(), String> {
    let (fits, center) = match distribution {
        Distribution::Random => return Ok(()),
        Distribution::Zipf { theta, center } => (theta > 0.0 && theta != 1.0, center),
        Distribution::Pareto { h, center } => (h > 0.0 && h < 1.0, center),
        Distribution::Normal {
            deviation_percent,
            center,
        } => ((0.0..=100.0).contains(&deviation_percent), center),
    };
    let is_inside = center.is_none_or(|center| (0.0..=1.0).contains(&center));
    match fits && is_inside {
        true => Ok(()),
        false => Err(format!(
            "random_distribution {distribution:?} is out of its bounds"
        )),
    }
}

fn wrong(job: &JobOptions, reason: String) -> BenchError {
    BenchError::Options {
        job: job.name.clone(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stonewalls_split_stages_and_begin_groups() {
        let job = |stonewall, new_group| JobOptions {
            stonewall,
            new_group,
            ..JobOptions::default()
        };
        let jobs = [
            job(true, false),
            job(false, false),
            job(true, false),
            job(false, true),
        ];
        assert_eq!(stages(&jobs), [vec![0, 1], vec![2, 3]]);
        assert_eq!(groups(&jobs), [0, 0, 1, 2]);
    }

    #[test]
    fn contradictions_are_refused() {
        let bad = [
            JobOptions {
                time_based: true,
                ..JobOptions::default()
            },
            JobOptions {
                random_distribution: Distribution::Zipf {
                    theta: 1.0,
                    center: None,
                },
                ..JobOptions::default()
            },
            JobOptions {
                numjobs: THREADS_MAX + 1,
                ..JobOptions::default()
            },
        ];
        for job in bad {
            assert!(check(std::slice::from_ref(&job)).is_err(), "{job:?}");
        }
        assert!(check(&[JobOptions::default()]).is_ok());
    }
}
