//! One child, from its start to its end.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A child that may be running; dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    /// The child, or strace around it.
    child: Child,
    lines: Receiver<String>,
    complaints: Receiver<String>,
    told: Vec<String>,
}

impl Process {
    /// Starts `program child …`, within another command if there is one.
    ///
    /// # Errors
    /// In words, why it can't be started.
    pub fn start(around: &[String], program: &Path, arguments: &[String]) -> Result<Self, String> {
        let mut words = around.to_vec();
        words.push(program.display().to_string());
        words.push("child".into());
        words.extend_from_slice(arguments);
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{} does not start: {error}", words[0]))?;
        let out = child.stdout.take().ok_or("it has no pipe")?;
        let mut err = child.stderr.take().ok_or("it has no pipe")?;
        let (complain, complaints) = channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = err.read_to_string(&mut text);
            complain.send(text)
        });
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in whole_lines(out) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Process {
            child,
            lines,
            complaints,
            told: Vec::new(),
        })
    }

    /// Hears it until it ends or the time is over; whether it ended.
    pub fn hear(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.told.push(line),
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }

    /// How many lines were heard.
    pub fn heard(&self) -> usize {
        self.told.len()
    }

    /// Kills it; all that it told.
    ///
    /// # Errors
    /// What it wrote to stderr, if a thread of it panicked.
    pub fn end(mut self) -> Result<Vec<String>, String> {
        self.kill();
        while let Ok(line) = self.lines.recv() {
            self.told.push(line);
        }
        let _ = self.child.wait();
        match self.complaints.recv() {
            Ok(text) if text.contains("panicked at") => Err(text),
            _ => Ok(std::mem::take(&mut self.told)),
        }
    }

    fn kill(&mut self) {
        // The first line is its own id, which is not that of what is around it.
        let told = self.told.first().and_then(|line| line.strip_prefix("P "));
        if let Some(pid) = told.and_then(|id| Pid::from_raw(id.parse().ok()?))
            && self.child.id() as i32 != pid.as_raw_nonzero().get()
            && self.child.try_wait().is_ok_and(|ended| ended.is_none())
        {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe that came whole: the last one may have been cut by the end.
fn whole_lines(out: ChildStdout) -> impl Iterator<Item = String> {
    let mut out = BufReader::new(out);
    std::iter::from_fn(move || {
        let mut line = String::new();
        let read = out.by_ref().read_line(&mut line);
        read.ok()?;
        line.strip_suffix('\n').map(str::to_owned)
    })
}
