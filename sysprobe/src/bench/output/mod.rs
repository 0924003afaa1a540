//! Reports as fio prints them.
//!
//! [`Results`] joins what a run came to with how its jobs are to be printed; [`normal`] is the text for people, [`json`]
//! for programs, [`terse`] the line of fields. [`start`] is what the text report begins with before anything ran.

mod groups;
mod json;
mod normal;
mod start;
mod terse;

use groups::GroupStats;
pub use start::start;

use super::arguments::OutputFormat;
use super::options::ReportOptions;
use super::plan::Plan;
use super::stats::{DiskUtil, JobStats, RunReport};

/// A run that has ended, ready to be printed.
#[derive(Clone, Debug)]
pub struct Results<'a> {
    plan: &'a Plan,
    run: &'a RunReport,
    jobs: Vec<JobStats>,
    groups: Vec<GroupStats>,
    program: String,
    fallback: ReportOptions,
}

impl<'a> Results<'a> {
    /// Joins the threads of each group that is reported as one; `program` is the name and version that reports begin with.
    pub fn new(plan: &'a Plan, run: &'a RunReport, program: &str) -> Self {
        let jobs = run.reported();
        let groups = groups::groups(&jobs);
        Results {
            plan,
            run,
            jobs,
            groups,
            program: program.to_owned(),
            fallback: ReportOptions::default(),
        }
    }

    /// The report in one format; several follow each other in the order of fio: terse, JSON, text.
    ///
    /// # Errors
    ///
    /// None of the run's numbers is one that JSON can't hold, so the writer's errors are what remains.
    pub fn print(&self, formats: &[OutputFormat]) -> Result<String, serde_json::Error> {
        let has = |format| formats.contains(&format);
        let mut text = String::new();
        if has(OutputFormat::Terse) {
            text.push_str(&terse::lines(self));
        }
        if has(OutputFormat::Json) || has(OutputFormat::JsonPlus) {
            text.push_str(&json::document(self, has(OutputFormat::JsonPlus))?);
        }
        if has(OutputFormat::Normal) || formats.is_empty() {
            text.push_str(&normal::report(self));
        }
        Ok(text)
    }

    fn reports_of(&self, job: &JobStats) -> &ReportOptions {
        self.plan.reports.get(job.job).unwrap_or(&self.fallback)
    }

    fn group_of(&self, job: &JobStats) -> GroupStats {
        self.groups.get(job.group).cloned().unwrap_or_default()
    }

    fn disks(&self) -> &[DiskUtil] {
        &self.run.disk_util
    }
}

/// A moment as the C library writes it, in local time: `Sat Nov 21 05:27:40 2026`.
fn in_local_time(moment: std::time::SystemTime) -> String {
    let local: chrono::DateTime<chrono::Local> = moment.into();
    local.format("%a %b %e %H:%M:%S %Y").to_string()
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
