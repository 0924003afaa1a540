//! The harness without the rest of the program: flags and job files as `moonshine bench` takes them, the report on
//! standard output.
//!
//! ```sh
//! cargo run --release -p moonshine-sysprobe --example bench -- --output-format=json JOB_FILE
//! ```

use std::error::Error;

use moonshine_sysprobe::bench::arguments::BenchArguments;
use moonshine_sysprobe::bench::output::Results;
use moonshine_sysprobe::bench::{Planner, RunControl, jobfile, run_jobs};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = BenchArguments::parse(std::env::args().skip(1))?;
    let mut planner = Planner::new(&[], &arguments.chosen_sections);
    planner.add_flags(&arguments.sections)?;
    for (index, path) in arguments.job_files.iter().enumerate() {
        planner.add_file(&jobfile::read(path)?, index == 0)?;
    }
    let plan = planner.finish()?;
    let report = run_jobs(&plan.jobs, &[], &RunControl::new(), &())?;
    let results = Results::new(&plan, &report, "moonshine-example");
    print!("{}", results.print(&arguments.formats)?);
    match report
        .threads
        .into_iter()
        .find_map(|thread| thread.error_text)
    {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}
