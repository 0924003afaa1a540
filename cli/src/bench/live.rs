//! Shows the live line while jobs run.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use moonshine_sysprobe::bench::progress::LiveLine;
use moonshine_sysprobe::bench::{JobOptions, RunControl};

use crate::error::CliError;
use crate::query::print;

const INTERVAL: Duration = Duration::from_secs(1);

/// Runs `work`, and beside it the live line of these jobs, if any.
pub(super) fn beside<T: Send>(
    jobs: Option<&[JobOptions]>,
    control: &RunControl,
    work: impl FnOnce() -> Result<T, CliError>,
) -> Result<T, CliError> {
    let Some(jobs) = jobs else {
        return work();
    };
    let (ended, has_ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut line = LiveLine::new(jobs);
            while has_ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let text = line.next(control.snapshot());
                // Without a reader the program ends by itself; other failures are the report's to tell.
                let _ = print(&format!("{text}\r"));
            }
        });
        let result = work();
        drop(ended);
        result
    })
}
