//! SIGINT and SIGTERM end a run in order: what was measured till then is reported.

use std::sync::Arc;

use moonshine_sysprobe::bench::RunControl;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{CliError, EXIT_CODE_STOPPED};

/// Stops the run at the first signal; ends the process at the second, since somebody can't wait.
pub(super) fn listen(control: Arc<RunControl>) -> Result<(), CliError> {
    let failed =
        |error: std::io::Error| CliError::Output(format!("listening for signals: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(failed)?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (
            signal(SignalKind::interrupt()).map_err(failed)?,
            signal(SignalKind::terminate()).map_err(failed)?,
        )
    };
    let listener = move || {
        runtime.block_on(async {
            loop {
                let number = tokio::select! {
                    _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
                    _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
                };
                if control.is_stopped() {
                    std::process::exit(EXIT_CODE_STOPPED.into());
                }
                eprintln!("\nmoonshine: terminating on signal {number}; once more to end at once");
                control.stop();
            }
        });
    };
    let builder = std::thread::Builder::new().name("signals".to_owned());
    builder.spawn(listener).map_err(failed)?;
    Ok(())
}
