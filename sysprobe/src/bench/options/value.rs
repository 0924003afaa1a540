//! Reads the values of options.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::units::{self, Amount, KiloBase};
use super::super::values::{Extent, PerDirection};

/// A value as it was given, with what is needed to read it.
pub(super) struct Value<'a> {
    /// What was given; `None` for a name alone.
    pub(super) text: Option<&'a str>,
    /// What `k` stands for.
    pub(super) base: KiloBase,
    /// Engines that are not made of blocks.
    pub(super) workloads: &'a [&'a str],
    /// What is allowed, for messages.
    pub(super) allowed: &'static str,
}

impl Value<'_> {
    pub(super) fn text(&self) -> Result<&str, String> {
        match self.text.map(str::trim) {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(format!("a value is missing; allowed is {}", self.allowed)),
        }
    }

    /// Yes or no; the name alone is yes.
    pub(super) fn flag(&self) -> Result<bool, String> {
        match self.text.map(str::trim) {
            None | Some("1") => Ok(true),
            Some("0") => Ok(false),
            Some(_) => Err("allowed is 0 or 1".to_owned()),
        }
    }

    pub(super) fn size(&self) -> Result<u64, String> {
        units::size(self.text()?, self.base).map_err(|error| error.to_string())
    }

    pub(super) fn size_at_least(&self, least: u64) -> Result<u64, String> {
        let size = self.size()?;
        if size < least {
            return Err(format!("allowed is {least} or more"));
        }
        Ok(size)
    }

    pub(super) fn extent(&self) -> Result<Extent, String> {
        let amount = units::amount(self.text()?, self.base).map_err(|error| error.to_string())?;
        match amount {
            Amount::Bytes(bytes) => Ok(Extent::Bytes(bytes)),
            Amount::Percent(percent) => u8::try_from(percent)
                .ok()
                .filter(|percent| *percent <= 100)
                .map(Extent::Percent)
                .ok_or_else(|| "a percentage is 0% to 100%".to_owned()),
        }
    }

    pub(super) fn count(&self, range: RangeInclusive<u64>) -> Result<u64, String> {
        let count = units::count(self.text()?, self.base).map_err(|error| error.to_string())?;
        if range.contains(&count) {
            return Ok(count);
        }
        Err(match *range.end() {
            u64::MAX => format!("allowed is {} or more", range.start()),
            end => format!("allowed is {} to {end}", range.start()),
        })
    }

    /// A count of things that are held in memory.
    pub(super) fn small_count(&self, range: RangeInclusive<u32>) -> Result<usize, String> {
        let count = self.count(u64::from(*range.start())..=u64::from(*range.end()))?;
        usize::try_from(count).map_err(|error| error.to_string())
    }

    pub(super) fn percent(&self) -> Result<u8, String> {
        let percent = self.count(0..=100)?;
        u8::try_from(percent).map_err(|error| error.to_string())
    }

    /// A time; a number without a unit counts seconds.
    pub(super) fn seconds(&self) -> Result<Duration, String> {
        time(self.text()?, 1_000_000)
    }

    /// A time; a number without a unit counts microseconds.
    pub(super) fn microseconds(&self) -> Result<Duration, String> {
        time(self.text()?, 1)
    }

    /// One time, or a shortest and a longest one.
    pub(super) fn seconds_range(&self) -> Result<(Duration, Duration), String> {
        let text = self.text()?;
        let (least, most) = text.split_once([',', ':', '-']).unwrap_or((text, text));
        let (least, most) = (time(least, 1_000_000)?, time(most, 1_000_000)?);
        if least > most {
            return Err("the first time is the shortest, the second the longest".to_owned());
        }
        Ok((least, most))
    }

    /// One of the names; what it stands for.
    pub(super) fn choice<T: Clone>(&self, choices: &[(&str, T)]) -> Result<T, String> {
        let text = self.text()?;
        choices
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| value.clone())
            .ok_or_else(|| {
                let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                format!("allowed is {}", names.join(", "))
            })
    }

    /// One value for reads and writes, or `read,write`, each of which may be empty; a third one, for trims, is none of
    /// this harness's directions. What is empty stays as it was.
    pub(super) fn per_direction<T: Copy>(
        &self,
        read_value: impl Fn(&Value<'_>) -> Result<T, String>,
        current: &mut PerDirection<T>,
    ) -> Result<(), String> {
        let parts: Vec<&str> = self.text()?.split(',').collect();
        if parts.len() > 3 {
            return Err("at most three values: of reads, writes and trims".to_owned());
        }
        let value = |part: &str| {
            read_value(&Value {
                text: Some(part),
                ..*self
            })
        };
        if let [one] = *parts {
            *current = PerDirection::both(value(one)?);
            return Ok(());
        }
        let mut parts = parts.into_iter().map(str::trim);
        if let Some(part) = parts.next().filter(|part| !part.is_empty()) {
            current.read = value(part)?;
        }
        if let Some(part) = parts.next().filter(|part| !part.is_empty()) {
            current.write = value(part)?;
        }
        Ok(())
    }

    /// The names between colons; `\:` is a colon within a name.
    pub(super) fn names(&self) -> Result<Vec<String>, String> {
        let mut names = vec![String::new()];
        let mut characters = self.text()?.chars().peekable();
        while let Some(character) = characters.next() {
            let Some(name) = names.last_mut() else { break };
            match character {
                '\\' if characters.peek() == Some(&':') => {
                    characters.next();
                    name.push(':');
                }
                ':' => names.push(String::new()),
                other => name.push(other),
            }
        }
        if names.iter().any(String::is_empty) {
            return Err("a name between two colons is empty".to_owned());
        }
        Ok(names)
    }

    /// Percentiles, sorted, and the most decimals that one was written with.
    pub(super) fn percentiles(&self) -> Result<(Vec<f64>, usize), String> {
        const COUNT_MAX: usize = 20;
        let mut percentiles = Vec::new();
        let mut decimals = 0;
        for part in self.text()?.split([':', ',']) {
            let part = part.trim();
            let percentile = part
                .parse::<f64>()
                .ok()
                .filter(|percentile| *percentile > 0.0 && *percentile <= 100.0)
                .ok_or_else(|| format!("'{part}' is no percentile above 0, up to 100"))?;
            let fraction = part.split_once('.').map_or("", |(_, fraction)| fraction);
            decimals = decimals.max(fraction.len());
            percentiles.push(percentile);
        }
        if percentiles.len() > COUNT_MAX {
            return Err(format!("at most {COUNT_MAX} percentiles"));
        }
        percentiles.sort_by(f64::total_cmp);
        Ok((percentiles, decimals))
    }
}

fn time(text: &str, unit_us: u64) -> Result<Duration, String> {
    units::time_us(text, unit_us)
        .map(Duration::from_micros)
        .map_err(|error| error.to_string())
}
