//! `moonshine probe`: measures a folder's device and the cores.
//!
//! The library measures; [`text`] is the report for people, [`mod@report`] the same as a page with curves, [`explain`] says
//! in words what the numbers mean.

mod explain;
mod report;
mod text;

use std::path::Path;

use moonshine_sysprobe::{Budget, disk_use, measure, measure_read_only};
use report::ReportFormat;

use crate::args::ProbeArguments;
use crate::error::CliError;
use crate::query::print;

/// Runs the command.
pub(crate) fn run(arguments: &ProbeArguments) -> Result<(), CliError> {
    let budget = if arguments.quick {
        Budget::quick()
    } else {
        Budget::full()
    };
    // A measurement is lost where its profile or its report can't be kept: that is known before it begins.
    check_folder("--profile", arguments.profile.as_deref())?;
    check_folder("--report", arguments.report.as_deref())?;
    let format = arguments
        .report
        .as_deref()
        .map(ReportFormat::of)
        .transpose()?;
    let report = match read_only_path(arguments) {
        Some(path) => {
            eprintln!(
                "reading {} for at most {} s; nothing is written",
                path.display(),
                budget.duration.as_secs() + 1
            );
            measure_read_only(path, &budget)?
        }
        None => {
            eprintln!("{}", disk_use(&arguments.folder, &budget)?);
            measure(&arguments.folder, &budget)?
        }
    };
    if let Some(path) = &arguments.profile {
        report.profile_file().save(path)?;
    }
    if let (Some(path), Some(format)) = (&arguments.report, format) {
        let written = std::fs::write(path, format.render(&report));
        written.map_err(|error| CliError::Output(format!("{}: {error}", path.display())))?;
    }
    let mut answer = if arguments.json {
        let json = serde_json::to_string_pretty(&report);
        json.map_err(|error| CliError::Output(error.to_string()))? + "\n"
    } else {
        text::text(&report)
    };
    if arguments.explain {
        answer.push_str(&explain::explain(&report));
    }
    if let Some(path) = arguments.profile.as_deref().filter(|_| !arguments.json) {
        answer.push_str(&format!("profile written to {}\n", path.display()));
    }
    if let Some(path) = arguments.report.as_deref().filter(|_| !arguments.json) {
        answer.push_str(&format!("report written to {}\n", path.display()));
    }
    print(&answer)
}

/// Refuses a file whose folder is not there.
fn check_folder(flag: &str, file: Option<&Path>) -> Result<(), CliError> {
    match file.and_then(Path::parent) {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => Err(
            CliError::Arguments(format!("{flag}: {} is no folder", folder.display())),
        ),
        _ => Ok(()),
    }
}

/// What is read where nothing may be written: the file that the flag names, or what is measured otherwise.
fn read_only_path(arguments: &ProbeArguments) -> Option<&Path> {
    let named = arguments.read_only.as_ref()?;
    Some(named.as_deref().unwrap_or(&arguments.folder))
}
