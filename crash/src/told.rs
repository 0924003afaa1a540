//! What a child told, and what must therefore be there after a crash.

use crate::lake::Lake;
use crate::workload::WRITERS;

/// What a database holds, in numbers: all the rest follows from them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The last commit sequence.
    pub seq: u64,
    /// Transactions of each writer.
    pub progress: [u64; WRITERS],
    /// Links of the chain.
    pub chain: u64,
    /// Bulk loads.
    pub loads: u64,
    /// Steps of the evolving table.
    pub steps: u64,
}

/// Which transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Of a writer, by number.
    Writer(usize, u64),
    /// A link of the chain.
    Link(u64),
    /// A bulk load.
    Load(u64),
}

impl State {
    /// Whether a transaction is in it.
    pub fn holds(&self, which: Which) -> bool {
        match which {
            Which::Writer(writer, number) => number <= self.progress[writer],
            Which::Link(k) => k <= self.chain,
            Which::Load(number) => number <= self.loads,
        }
    }

    fn raise(&mut self, which: Which) {
        let (count, number) = match which {
            Which::Writer(writer, number) => (&mut self.progress[writer], number),
            Which::Link(k) => (&mut self.chain, k),
            Which::Load(number) => (&mut self.loads, number),
        };
        *count = number.max(*count);
    }

    /// As one line, for the pipe.
    pub fn to_line(&self) -> String {
        let progress = self.progress.map(|n| n.to_string()).join(" ");
        let State {
            seq,
            chain,
            loads,
            steps,
            ..
        } = self;
        format!("R {seq} {chain} {loads} {steps} {progress}")
    }

    fn from_words(words: &[&str]) -> Option<Self> {
        let numbers: Result<Vec<u64>, _> = words.iter().map(|word| word.parse()).collect();
        let [seq, chain, loads, steps, progress @ ..] = &numbers.ok()?[..] else {
            return None;
        };
        Some(State {
            seq: *seq,
            progress: progress.try_into().ok()?,
            chain: *chain,
            loads: *loads,
            steps: *steps,
        })
    }
}

/// What ends the child: it decides what survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Its death: what the system had is kept.
    Process,
    /// That of the file system: only what was synced is kept.
    Power,
}

/// All that was told since the folder was new.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// What must be there at least.
    floor: State,
    /// Commit sequences that are known since the last start.
    known: Vec<(u64, Which)>,
    /// What the exporters told.
    pub lake: Lake,
    /// The last backup that was whole: its folder's name and commit sequence.
    pub backup: Option<(String, u64)>,
    /// Transactions that were acknowledged.
    pub acknowledged: u64,
    /// How the child's threads ended, where they did by an error.
    pub failures: Vec<String>,
    /// How many calls the child made, if it came to its end.
    pub calls: Option<u64>,
}

impl Told {
    /// What must be there at least.
    pub fn floor(&self) -> &State {
        &self.floor
    }

    /// Takes the lines of a child that ended so. `has_errors`: calls of it were made to fail, so what was submitted may have
    /// been refused, and then its commit sequence says nothing.
    ///
    /// # Errors
    /// In words, what can't be: a start that found less than was acknowledged.
    pub fn take(&mut self, lines: &[String], ends: Ends, has_errors: bool) -> Result<(), String> {
        self.failures.clear();
        self.calls = None;
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let which = self.take_words(&words, line, ends, has_errors);
            which.ok_or(format!("a line that can't be read: {line}"))??;
        }
        Ok(())
    }

    /// Takes lines that were told while the power went: nothing of it need be there. Whether that is all; not so
    /// where an export is among them.
    pub fn take_late(&mut self, lines: &[String]) -> bool {
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["X", ..] => return false,
                ["K" | "k", ..] => self.backup = None,
                ["F", ..] => self.failures.push(line.clone()),
                _ => {}
            }
        }
        true
    }

    fn take_words(
        &mut self,
        words: &[&str],
        line: &str,
        ends: Ends,
        has_errors: bool,
    ) -> Option<Result<(), String>> {
        let number = |at: usize| words.get(at)?.parse::<u64>().ok();
        match *words.first()? {
            "P" => {}
            "R" => {
                let state = State::from_words(&words[1..])?;
                return Some(
                    self.found(&state)
                        .map_err(|why| format!("at its start: {why}")),
                );
            }
            "S" | "A" if words.len() == 5 => {
                let which = Which::Writer(number(1)? as usize, number(2)?);
                self.acknowledge(words[0], which, number(3)?, words[4], ends, has_errors);
            }
            "C" => {
                let which = Which::Link(number(1)?);
                self.acknowledge("A", which, number(2)?, words.get(3)?, ends, has_errors);
            }
            "L" => {
                let which = Which::Load(number(1)?);
                self.acknowledge("A", which, number(2)?, "synced", ends, has_errors);
            }
            "E" => self.floor.steps = number(1)?,
            "D" => self.floor.seq = self.floor.seq.max(number(1)?),
            "K" => self.backup = Some(((*words.get(1)?).to_owned(), number(2)?)),
            "k" => self.backup = None,
            "X" => return Some(self.lake.take(line)),
            "F" => self.failures.push(line.to_owned()),
            "Z" => self.calls = number(1),
            _ => return None,
        }
        Some(Ok(()))
    }

    fn acknowledge(
        &mut self,
        kind: &str,
        which: Which,
        seq: u64,
        durability: &str,
        ends: Ends,
        has_errors: bool,
    ) {
        if !has_errors || kind == "A" {
            self.known.push((seq, which));
        }
        if kind == "A" {
            self.acknowledged += 1;
            if durability == "synced" || ends == Ends::Process {
                self.floor.raise(which);
                self.floor.seq = self.floor.seq.max(seq);
            }
        }
    }

    /// Holds a state that was found behind a crash against what was told, and takes it for what must be there from then on.
    ///
    /// # Errors
    /// In words, what is missing, or is there and can't be.
    pub fn found(&mut self, state: &State) -> Result<(), String> {
        let State {
            seq,
            progress,
            chain,
            loads,
            steps,
        } = &self.floor;
        let missing = state.seq < *seq
            || (0..WRITERS).any(|w| state.progress[w] < progress[w])
            || state.chain < *chain
            || state.loads < *loads
            || state.steps < *steps;
        if missing {
            let floor = &self.floor;
            return Err(format!("acknowledged was {floor:?}, found is {state:?}"));
        }
        self.check_prefix(state)?;
        self.floor = state.clone();
        self.known.clear();
        Ok(())
    }

    /// Whether exactly the transactions up to the state's commit sequence are in it, of those whose sequence is known.
    ///
    /// # Errors
    /// In words, which is there and should not be, or the other way round.
    pub fn check_prefix(&self, state: &State) -> Result<(), String> {
        for (seq, which) in &self.known {
            if state.holds(*which) != (*seq <= state.seq) {
                return Err(format!(
                    "{which:?} has commit sequence {seq}, and of {state:?} it is {}",
                    if state.holds(*which) {
                        "a part"
                    } else {
                        "none"
                    }
                ));
            }
        }
        Ok(())
    }
}
