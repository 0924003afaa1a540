//! `moonshine bench`: jobs in fio's syntax, run and reported.
//!
//! The library takes flags and job files apart and runs the jobs; here they are brought together with the engines that
//! the library doesn't know ([`engines`]), with the terminal ([`live`]), with signals ([`signals`]) and with where the
//! report goes ([`sink`]). [`help`] prints the table of options.

mod engines;
mod help;
mod live;
mod signals;
mod sink;

use std::io::{self, IsTerminal};
use std::sync::Arc;

use moonshine_sysprobe::bench::arguments::{self, BenchArguments, Eta, OutputFormat};
use moonshine_sysprobe::bench::output::{self, Results};
use moonshine_sysprobe::bench::settings::Section;
use moonshine_sysprobe::bench::{
    Plan, Planner, RunControl, RunReport, WorkloadFactory, jobfile, run_jobs,
};

use crate::error::CliError;
use crate::query::print;
use sink::Sink;

/// What reports name as the program that made them.
const PROGRAM: &str = concat!("moonshine-", env!("CARGO_PKG_VERSION"));

/// Runs the command.
pub(crate) fn run(flags: &[String]) -> Result<(), CliError> {
    let arguments = BenchArguments::parse(flags.iter().cloned())?;
    if arguments.help {
        return print(&help::text());
    }
    let files = arguments.job_files.iter().map(|path| jobfile::read(path));
    let files = files.collect::<Result<Vec<Vec<Section>>, _>>()?;
    if arguments.show_command {
        let commands = files.iter().map(|file| arguments::as_command(file) + "\n");
        return print(&commands.collect::<String>());
    }
    let engines = engines::all();
    let engines: Vec<&dyn WorkloadFactory> = engines.iter().map(Box::as_ref).collect();
    let plan = plan(&arguments, &files, &engines)?;
    if arguments.parse_only {
        return Ok(());
    }
    let sink = Sink::open(arguments.output.as_deref())?;
    let control = Arc::new(RunControl::new());
    signals::listen(control.clone())?;
    let report = execute(&arguments, &plan, &engines, &sink, &control)?;
    let results = Results::new(&plan, &report, PROGRAM);
    let text = results.print(&arguments.formats);
    sink.print(&text.map_err(|error| CliError::Output(error.to_string()))?)?;
    let failed = report.threads.iter().find(|thread| thread.error != 0);
    match failed {
        Some(thread) => Err(CliError::Job {
            job: thread.name.clone(),
            reason: thread
                .error_text
                .clone()
                .unwrap_or_else(|| io::Error::from_raw_os_error(thread.error).to_string()),
        }),
        None if control.is_stopped() => Err(CliError::Stopped),
        None => Ok(()),
    }
}

/// What the flags and the job files ask for; says on standard error what is not as it was asked for.
fn plan(
    arguments: &BenchArguments,
    files: &[Vec<Section>],
    engines: &[&dyn WorkloadFactory],
) -> Result<Plan, CliError> {
    let names: Vec<&str> = engines.iter().map(|engine| engine.name()).collect();
    let mut planner = Planner::new(&names, &arguments.chosen_sections);
    planner.add_flags(&arguments.sections)?;
    for (index, file) in files.iter().enumerate() {
        planner.add_file(file, index == 0)?;
    }
    let plan = planner.finish()?;
    if let Some(job) = plan.jobs.iter().find(|job| job.rw.writes())
        && arguments.read_only
    {
        let reason = format!("--readonly: job '{}' writes", job.name);
        return Err(CliError::Arguments(reason));
    }
    match plan.warnings.first() {
        Some(warning) if arguments.warnings_fatal => {
            return Err(CliError::Arguments(warning.clone()));
        }
        _ => {}
    }
    for warning in &plan.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(plan)
}

/// Runs the jobs, with the live line where it is wanted.
fn execute(
    arguments: &BenchArguments,
    plan: &Plan,
    engines: &[&dyn WorkloadFactory],
    sink: &Sink,
    control: &RunControl,
) -> Result<RunReport, CliError> {
    let formats = &arguments.formats;
    let has_text = formats.is_empty() || formats.contains(&OutputFormat::Normal);
    if has_text {
        sink.print(&output::start(plan, PROGRAM))?;
    }
    // A report for programs is not to be mixed up with a line for people.
    let is_free = has_text || arguments.output.is_some();
    let is_shown = match arguments.eta {
        Eta::Always => is_free,
        Eta::Auto => is_free && io::stdout().is_terminal(),
        Eta::Never => false,
    };
    let layout = sink::Layout::new(has_text.then_some(sink));
    live::beside(is_shown.then_some(plan.jobs.as_slice()), control, || {
        Ok(run_jobs(&plan.jobs, engines, control, &layout)?)
    })
}
