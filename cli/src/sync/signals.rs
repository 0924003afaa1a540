//! SIGINT and SIGTERM.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::error::CliError;

/// The shell's status of a process that an interrupt ended.
const EXIT_CODE_INTERRUPTED: i32 = 130;

/// Cancels `stop` at the first signal; ends the process at the second, since somebody can't wait.
pub(crate) fn listen(stop: CancellationToken) -> Result<(), CliError> {
    let failed =
        |error: std::io::Error| CliError::Output(format!("listening for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(EXIT_CODE_INTERRUPTED);
            }
            tracing::info!("draining; once more to stop at once");
            stop.cancel();
        }
    });
    Ok(())
}
