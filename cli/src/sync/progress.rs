//! How far the sources are: bars on a terminal, log lines elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanCount, MultiProgress, ProgressBar, ProgressStyle};
use moonshine_connectors::{Phase, Progress, ProgressReading, Source};

use crate::log::bars_are_shown;

/// Time from one log line about a source to the next.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Time over which rows a second are taken.
const RATE_INTERVAL: Duration = Duration::from_secs(1);

/// Shows all sources.
pub(crate) struct Display {
    sources: Vec<SourceDisplay>,
    last_line: Instant,
}

struct SourceDisplay {
    name: String,
    progress: Arc<Progress>,
    bar: Option<ProgressBar>,
    rate: Rate,
    last_logged: Option<ProgressReading>,
}

/// Rows a second.
struct Rate {
    since: Instant,
    rows: u64,
    rows_per_second: f64,
}

impl Rate {
    fn update(&mut self, rows: u64) {
        let elapsed = self.since.elapsed();
        if elapsed >= RATE_INTERVAL {
            self.rows_per_second = rows.saturating_sub(self.rows) as f64 / elapsed.as_secs_f64();
            (self.since, self.rows) = (Instant::now(), rows);
        }
    }
}

impl Display {
    pub(crate) fn new(
        sources: &[Box<dyn Source>],
        progress: &[Arc<Progress>],
        bars: &MultiProgress,
    ) -> Self {
        let sources = sources
            .iter()
            .zip(progress)
            .map(|(source, progress)| SourceDisplay {
                name: source.name().to_owned(),
                progress: progress.clone(),
                bar: bars_are_shown().then(|| bars.add(ProgressBar::new_spinner())),
                rate: Rate {
                    since: Instant::now(),
                    rows: 0,
                    rows_per_second: 0.0,
                },
                last_logged: None,
            });
        Display {
            sources: sources.collect(),
            last_line: Instant::now(),
        }
    }

    /// Redraws the bars, or writes a line a source when it is time.
    pub(crate) fn update(&mut self) {
        let line_due = self.last_line.elapsed() >= LINE_INTERVAL;
        if line_due {
            self.last_line = Instant::now();
        }
        for source in &mut self.sources {
            source.update(line_due);
        }
    }

    /// Takes the bars away.
    pub(crate) fn finish(&mut self) {
        for source in &mut self.sources {
            source.update(true);
            if let Some(bar) = &source.bar {
                bar.finish_and_clear();
            }
        }
    }
}

impl SourceDisplay {
    fn update(&mut self, line_due: bool) {
        let reading = self.progress.read();
        self.rate.update(reading.rows);
        match &self.bar {
            Some(bar) => draw(bar, &self.name, &reading, self.rate.rows_per_second),
            None if line_due && self.last_logged != Some(reading) => {
                tracing::info!(
                    source = %self.name,
                    phase = phase_name(reading.phase),
                    rows = reading.rows,
                    rows_per_second = self.rate.rows_per_second.round(),
                    bytes = reading.bytes,
                    lag_bytes = reading.lag_bytes,
                    "progress"
                );
                self.last_logged = Some(reading);
            }
            None => {}
        }
    }
}

fn draw(bar: &ProgressBar, name: &str, reading: &ProgressReading, rows_per_second: f64) {
    let with_total = reading.total_bytes > 0 && reading.phase != Phase::Finished;
    let template = if with_total {
        "{prefix} {bar:30} {percent}% {msg}"
    } else {
        "{prefix} {spinner} {msg}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(format!("{name}: {}", phase_name(reading.phase)));
    if with_total {
        bar.set_length(reading.total_bytes);
        bar.set_position(reading.bytes.min(reading.total_bytes));
    } else {
        bar.tick();
    }
    bar.set_message(format!(
        "{} rows, {} rows/s, {}, lag {}",
        HumanCount(reading.rows),
        HumanCount(rows_per_second as u64),
        BinaryBytes(reading.bytes),
        BinaryBytes(reading.lag_bytes)
    ));
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Copying => "copying",
        Phase::Streaming => "streaming",
        Phase::Finished => "finished",
    }
}
