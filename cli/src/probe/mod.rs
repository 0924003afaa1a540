//! `moonshine probe`: measures a folder's device and the cores.
//!
//! The library measures; [`text`] is the report for people, [`explain`] says in words what the numbers mean.

mod explain;
mod text;

use moonshine_sysprobe::{Budget, measure};

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
    // A measurement is lost where its profile can't be kept: that is known before it begins.
    if let Some(folder) = arguments.profile.as_deref().and_then(|path| path.parent())
        && !folder.as_os_str().is_empty()
        && !folder.is_dir()
    {
        return Err(CliError::Arguments(format!(
            "--profile: {} is no folder",
            folder.display()
        )));
    }
    eprintln!(
        "measuring {} with a temporary file of at most {} MiB that has no name and goes with this process, within {} s",
        arguments.folder.display(),
        budget.file_size_bytes >> 20,
        budget.duration.as_secs() + 1,
    );
    let report = measure(&arguments.folder, &budget)?;
    if let Some(path) = &arguments.profile {
        report.profile_file().save(path)?;
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
    print(&answer)
}
