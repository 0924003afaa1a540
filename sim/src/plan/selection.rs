//! What is left of a plan.

use std::collections::BTreeSet;
use std::fmt::{Display, Formatter};

use super::config::Config;
use super::operation::{Kind, Operation};

/// What a plan is restricted to; everything by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Whether there is a lake, and an exporter into it.
    pub has_lake: bool,
    /// The numbers of the operations; `None` for all.
    pub operations: Option<BTreeSet<usize>>,
    /// Kinds of operations that are left out.
    pub without: BTreeSet<Kind>,
    /// At most so many clients.
    pub clients_max: Option<usize>,
    /// Syncs of files with this ending are left out.
    pub forgotten_syncs: Option<&'static str>,
}

impl Selection {
    /// Restricts what a seed drew.
    pub fn apply(&self, config: &mut Config) {
        if let Some(clients_max) = self.clients_max {
            config.client_count = config.client_count.min(clients_max);
        }
        config.forgotten_syncs = self.forgotten_syncs;
    }

    /// Whether an operation is left.
    pub fn has(&self, operation: &Operation) -> bool {
        let is_chosen = match &self.operations {
            Some(numbers) => numbers.contains(&operation.number),
            None => true,
        };
        is_chosen && !self.without.contains(&operation.kind)
    }

    /// Reads numbers and ranges of them, as `0-12,15`.
    ///
    /// # Errors
    /// What is no number.
    pub fn parse_numbers(text: &str) -> Result<BTreeSet<usize>, String> {
        let number = |text: &str| {
            let parsed = text.trim().parse::<usize>();
            parsed.map_err(|_| format!("'{text}' is no number of an operation"))
        };
        let mut numbers = BTreeSet::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            numbers.extend(number(first)?..=number(last)?);
        }
        Ok(numbers)
    }
}

/// As the command line has it.
impl Display for Selection {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        if self.has_lake {
            f.write_str(" --lake")?;
        }
        if let Some(numbers) = &self.operations {
            write!(f, " --operations {}", ranges(numbers))?;
        }
        if !self.without.is_empty() {
            let names: Vec<&str> = self.without.iter().map(|kind| kind.name()).collect();
            write!(f, " --without {}", names.join(","))?;
        }
        if let Some(clients_max) = self.clients_max {
            write!(f, " --clients {clients_max}")?;
        }
        if let Some(ending) = self.forgotten_syncs {
            write!(f, " --forget-syncs {ending}")?;
        }
        Ok(())
    }
}

fn ranges(numbers: &BTreeSet<usize>) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => parts.push((number, number)),
        }
    }
    let parts = parts.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    parts.collect::<Vec<_>>().join(",")
}
