//! Log lines on standard error, around the progress bars that may stand there.

use std::io::{self, Write};

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogLevel;

/// What libraries below say is theirs to debug.
const LIBRARIES: &str = "sqlx=warn,iceberg=warn,datafusion=warn";

/// Sets up logging; `RUST_LOG` goes before the configured level.
pub(crate) fn start(level: LogLevel, bars: &MultiProgress) {
    let configured = || EnvFilter::new(format!("{},{LIBRARIES}", level.directive()));
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => {
            EnvFilter::try_new(directives).unwrap_or_else(|_| configured())
        }
        _ => configured(),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(bars_are_shown())
        .with_writer(AroundBars(bars.clone()));
    // A second start in one process leaves the first one in place.
    let _ = subscriber.try_init();
}

/// Whether standard error is a terminal, so that bars can be drawn.
pub(crate) fn bars_are_shown() -> bool {
    io::IsTerminal::is_terminal(&io::stderr())
}

#[derive(Clone, Debug)]
struct AroundBars(MultiProgress);

impl Write for AroundBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for AroundBars {
    type Writer = AroundBars;

    fn make_writer(&'a self) -> AroundBars {
        self.clone()
    }
}
