//! From sections to jobs: globals are inherited, options applied, contradictions found.

use super::job::JobOptions;
use super::options::{self, Draft, ReportOptions};
use super::settings::{Place, Section, SectionKind, SettingsError};

/// What is to be run, and what is to be said about it.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The jobs, in order.
    pub jobs: Vec<JobOptions>,
    /// How each of them is printed, in the same order.
    pub reports: Vec<ReportOptions>,
    /// The options of the global sections that have a value, as they were given.
    pub global_options: Vec<(String, String)>,
    /// What is not as it was asked for, but no reason to stop.
    pub warnings: Vec<String>,
}

/// What is known while the sections of one source are gone through.
pub struct Planner<'a> {
    plan: Plan,
    workloads: &'a [&'a str],
    /// The only sections that are run; all where empty.
    chosen: &'a [String],
    defaults: Draft<'a>,
}

impl<'a> Planner<'a> {
    /// Nothing is planned yet. `workloads` are the engines that are not made of blocks; `chosen` the only sections that
    /// are run, all where empty.
    pub fn new(workloads: &'a [&'a str], chosen: &'a [String]) -> Self {
        Planner {
            plan: Plan::default(),
            workloads,
            chosen,
            defaults: Draft::new(workloads),
        }
    }

    /// Adds what the flags say; their global ones hold for the first job file too.
    ///
    /// # Errors
    ///
    /// [`SettingsError`], with place and name, if an option is unknown, its value is not allowed or a job contradicts
    /// itself.
    pub fn add_flags(&mut self, sections: &[Section]) -> Result<(), SettingsError> {
        sections
            .iter()
            .try_for_each(|section| self.add(section, false))
    }

    /// Adds a job file. All but the first begin with fio's defaults again, and when all jobs before have ended.
    ///
    /// # Errors
    ///
    /// As [`Self::add_flags`].
    pub fn add_file(&mut self, sections: &[Section], is_first: bool) -> Result<(), SettingsError> {
        if !is_first {
            self.defaults = Draft::new(self.workloads);
        }
        let first_new = self.plan.jobs.len();
        sections
            .iter()
            .try_for_each(|section| self.add(section, true))?;
        if let Some(job) = self.plan.jobs.get_mut(first_new).filter(|_| !is_first) {
            job.stonewall = true;
        }
        Ok(())
    }

    /// The jobs.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Arguments`], if there is none.
    pub fn finish(self) -> Result<Plan, SettingsError> {
        let mut plan = self.plan;
        if plan.jobs.is_empty() {
            let reason = if self.chosen.is_empty() {
                "no job is defined: give a job file, or flags that begin with --name".to_owned()
            } else {
                format!("no job is called {}", self.chosen.join(" or "))
            };
            return Err(SettingsError::Arguments(reason));
        }
        check_groups(&plan.jobs)?;
        plan.global_options = self.defaults.options_given().to_vec();
        Ok(plan)
    }

    fn add(&mut self, section: &Section, is_file: bool) -> Result<(), SettingsError> {
        // As fio sorts them: what other values are read by goes first, names of files last.
        let mut settings: Vec<_> = section.settings.iter().collect();
        if is_file {
            settings.sort_by_key(|setting| match setting.name.as_str() {
                "kb_base" | "unit_base" => 0,
                "filename" => 2,
                _ => 1,
            });
        }
        match &section.kind {
            SectionKind::Global => settings
                .into_iter()
                .try_for_each(|setting| options::apply(&mut self.defaults, setting)),
            // As in fio, what is not chosen is not looked at.
            SectionKind::Job(name) if !self.is_chosen(name) => Ok(()),
            SectionKind::Job(name) => {
                let mut draft = self.defaults.job_named(name);
                settings
                    .into_iter()
                    .try_for_each(|setting| options::apply(&mut draft, setting))?;
                let finished = draft.finish(&section.place, &mut self.plan.warnings);
                let (job, report) =
                    finished.map_err(|reason| job_error(&section.place, name, reason))?;
                self.plan.jobs.push(job);
                self.plan.reports.push(report);
                Ok(())
            }
        }
    }

    fn is_chosen(&self, name: &String) -> bool {
        self.chosen.is_empty() || self.chosen.contains(name)
    }
}

fn job_error(place: &Place, name: &str, reason: String) -> SettingsError {
    SettingsError::Job {
        place: place.clone(),
        job: name.to_owned(),
        reason,
    }
}

/// Threads whose latencies are joined in one report must keep the same ones.
fn check_groups(jobs: &[JobOptions]) -> Result<(), SettingsError> {
    for pair in jobs.windows(2) {
        if let [one, other] = pair
            && one.group_reporting
            && other.group_reporting
            && !(other.stonewall || other.new_group)
            && one.lat_percentiles != other.lat_percentiles
        {
            return Err(SettingsError::Arguments(format!(
                "lat_percentiles differs between '{}' and '{}', which group_reporting joins",
                one.name, other.name
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
