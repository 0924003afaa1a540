//! The live line: how many jobs run, what they do, how fast, and how long they will.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::job::JobOptions;
use super::progress_counters::{Snapshot, ThreadSnapshot, ThreadState};
use super::units::{Counted, shortened};
use super::values::{Direction, PerDirection};

/// Digits of the rates.
const DIGITS_MAX: usize = 4;

/// Makes the live line of one moment after the other.
#[derive(Debug)]
pub struct LiveLine<'a> {
    jobs: &'a [JobOptions],
    began: Instant,
    last: Option<Snapshot>,
    /// Characters of the line before, which a shorter one has to cover.
    length_last: usize,
}

impl<'a> LiveLine<'a> {
    /// For a run of these jobs that begins now.
    pub fn new(jobs: &'a [JobOptions]) -> Self {
        LiveLine {
            jobs,
            began: Instant::now(),
            last: None,
            length_last: 0,
        }
    }

    /// The line, without an end. Rates are those since the line before.
    pub fn next(&mut self, snapshot: Snapshot) -> String {
        let mut text = self.line(&snapshot);
        let length = text.chars().count();
        text.extend(std::iter::repeat_n(
            ' ',
            self.length_last.saturating_sub(length),
        ));
        self.length_last = length;
        self.last = Some(snapshot);
        text
    }

    /// Writing to a string can't fail, so results of `write!` are dropped here.
    fn line(&self, snapshot: &Snapshot) -> String {
        let running = |thread: &&ThreadSnapshot| {
            !matches!(thread.state, ThreadState::Waiting | ThreadState::Ended)
        };
        let running: Vec<&ThreadSnapshot> = snapshot.threads.iter().filter(running).collect();
        let files: usize = running.iter().map(|thread| self.files(thread)).sum();
        let mut text = format!("Jobs: {} (f={files})", running.len());
        text.push_str(&self.limits(&running));
        if running.is_empty() {
            return text;
        }
        let elapsed = snapshot.at.saturating_duration_since(self.began);
        let left = snapshot.time_left();
        let is_ramp = running
            .iter()
            .all(|thread| thread.state == ThreadState::Ramp);
        let done = match left {
            Some(left) if !is_ramp => {
                let total = (elapsed + left).as_secs_f64().max(f64::MIN_POSITIVE);
                format!("{:3.1}%", elapsed.as_secs_f64() * 100.0 / total)
            }
            _ => "-.-%".to_owned(),
        };
        let _ = write!(
            text,
            ": [{}][{done}]{}[eta {}]",
            states(&snapshot.threads),
            self.rates(snapshot),
            left.map_or_else(|| "--".to_owned(), in_words),
        );
        text
    }

    fn job(&self, thread: &ThreadSnapshot) -> Option<&JobOptions> {
        self.jobs.get(thread.job)
    }

    fn files(&self, thread: &ThreadSnapshot) -> usize {
        self.job(thread).map_or(0, |job| match job.filenames.len() {
            0 => job.nrfiles,
            named => named,
        })
    }

    /// The limits of all running threads together, if there are any.
    fn limits(&self, running: &[&ThreadSnapshot]) -> String {
        let sum = |limit: fn(&JobOptions) -> &PerDirection<Option<u64>>| {
            let mut sum = 0_u64;
            for thread in running {
                for direction in Direction::ALL {
                    let limit = self.job(thread).and_then(|job| *limit(job).get(direction));
                    if *thread.directions.get(direction) {
                        sum = sum.saturating_add(limit.unwrap_or(0));
                    }
                }
            }
            sum
        };
        let bytes_per_s = sum(|job| &job.rate_bytes_per_s);
        let ios_per_s = sum(|job| &job.rate_iops);
        if bytes_per_s > 0 {
            let most = shortened(bytes_per_s, DIGITS_MAX, true, Counted::BytesPerSecond);
            format!(", 0B/s-{most}")
        } else if ios_per_s > 0 {
            format!(", 0-{ios_per_s} IOPS")
        } else {
            String::new()
        }
    }

    fn rates(&self, snapshot: &Snapshot) -> String {
        let (since, bytes_before, ios_before) = match &self.last {
            Some(last) => (last.at, last.bytes(), last.ios()),
            None => (self.began, PerDirection::both(0), PerDirection::both(0)),
        };
        let seconds = snapshot.at.saturating_duration_since(since).as_secs_f64();
        if seconds <= 0.0 {
            return String::new();
        }
        let (bytes, ios) = (snapshot.bytes(), snapshot.ios());
        let (mut bandwidths, mut operations) = (Vec::new(), Vec::new());
        for (letter, direction) in [('r', Direction::Read), ('w', Direction::Write)] {
            let per_s = |now: &PerDirection<u64>, before: &PerDirection<u64>| {
                let done = now.get(direction).saturating_sub(*before.get(direction));
                (done as f64 / seconds) as u64
            };
            let (bytes_per_s, ios_per_s) = (per_s(&bytes, &bytes_before), per_s(&ios, &ios_before));
            if bytes_per_s == 0 && ios_per_s == 0 {
                continue;
            }
            let bandwidth = shortened(bytes_per_s, DIGITS_MAX, true, Counted::BytesPerSecond);
            let operation = shortened(ios_per_s, DIGITS_MAX, false, Counted::Plain);
            bandwidths.push(format!("{letter}={bandwidth}"));
            operations.push(format!("{letter}={operation}"));
        }
        if bandwidths.is_empty() {
            return String::new();
        }
        format!("[{}][{} IOPS]", bandwidths.join(","), operations.join(","))
    }
}

/// A letter for each thread, those alike counted together: `r(4),_(1)`.
fn states(threads: &[ThreadSnapshot]) -> String {
    let letters: Vec<char> = threads.iter().map(letter).collect();
    let runs = letters.chunk_by(|one, other| one == other);
    let runs: Vec<String> = runs
        .filter_map(|run| Some(format!("{}({})", run.first()?, run.len())))
        .collect();
    runs.join(",")
}

fn letter(thread: &ThreadSnapshot) -> char {
    match thread.state {
        ThreadState::Waiting => 'P',
        ThreadState::Ramp => '/',
        ThreadState::Syncing => 'F',
        ThreadState::Ended => '_',
        ThreadState::Running => {
            let letter = match (thread.directions.read, thread.directions.write) {
                (true, true) => 'M',
                (true, false) => 'R',
                _ => 'W',
            };
            if thread.is_random {
                letter.to_ascii_lowercase()
            } else {
                letter
            }
        }
    }
}

/// A time as `01h:02m:03s`, rounded up; hours and days only where there are some.
fn in_words(time: Duration) -> String {
    let seconds = time.as_millis().div_ceil(1000);
    let (minutes, hours, days) = (seconds / 60 % 60, seconds / 3600 % 24, seconds / 86_400);
    let rest = format!("{minutes:02}m:{:02}s", seconds % 60);
    match (days, hours) {
        (0, 0) => rest,
        (0, hours) => format!("{hours:02}h:{rest}"),
        (days, hours) => format!("{days:02}d:{hours:02}h:{rest}"),
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
