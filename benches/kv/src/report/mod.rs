//! From samples to tables and plots: medians over rounds, and each row as a ratio to the best peer in it.

mod markdown;
mod svg;
mod targets;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::kv::Result;
use crate::machine::Machine;
use crate::measure::{Measured, Rate};
use crate::runner::{Failure, Outcome, Plan, Sample};
use crate::workloads::{Engine, Sizes};

/// A result file: all that was measured, with what it depends on.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    machine: Machine,
    sizes: Sizes,
    rounds: u32,
    engines: Vec<Engine>,
    samples: Vec<Sample>,
    failures: Vec<Failure>,
}

impl Stored {
    pub(crate) fn new(machine: Machine, plan: &Plan, outcome: Outcome) -> Self {
        let mut engines = plan.engines.clone();
        engines.sort();
        Stored {
            machine,
            sizes: plan.sizes,
            rounds: plan.rounds,
            engines,
            samples: outcome.samples,
            failures: outcome.failures,
        }
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        Ok(std::fs::write(path, serde_json::to_string_pretty(self)?)?)
    }
}

/// Writes the tables to `output.md` and a plot a section beside it.
pub(crate) fn write(stored: &Stored, output: &Path) -> Result<()> {
    let sections = sections(stored);
    let name = output
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .ok_or("the output has no name")?;
    let mut plots = Vec::new();
    for section in &sections {
        let plot = format!("{name}-{}.svg", file_name(&section.name));
        std::fs::write(output.with_file_name(&plot), svg::plot(section))?;
        plots.push(plot);
    }
    let text = markdown::render(stored, &sections, &plots);
    std::fs::write(output.with_extension("md"), &text)?;
    println!("{text}");
    Ok(())
}

/// A section's name as a part of a file name: its words with hyphens between.
fn file_name(section: &str) -> String {
    let words = section.split(|c: char| !c.is_ascii_alphanumeric());
    let words = words
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase);
    words.collect::<Vec<_>>().join("-")
}

/// Rows that belong together.
struct Section {
    name: String,
    lines: Vec<Line>,
}

/// One row of the tables.
struct Line {
    row: String,
    unit: Unit,
    cells: BTreeMap<Engine, Cell>,
    /// The best peer's value in this row, or in the one it is compared with.
    best_peer: Option<(Engine, f64)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Unit {
    /// Operations a second: the more the better.
    OpsPerS,
    /// The less the better.
    Of(String),
}

/// Medians over the rounds.
#[derive(Clone, Copy, Debug)]
struct Cell {
    value: f64,
    cpu_us_per_op: Option<f64>,
    /// The time that all planned operations take.
    planned_s: Option<f64>,
    cut_short: bool,
}

/// Rows that only Moonshine has, and the row in which its peers do the nearest thing.
const COMPARED_WITH: [(&str, &str); 1] = [("full scan, Arrow batches", "full scan, rows")];

impl Line {
    /// How many times better Moonshine is than the best peer.
    fn ratio(&self) -> Option<f64> {
        self.ratio_of(Engine::Moonshine)
    }

    /// How many times better an engine is than the best peer.
    fn ratio_of(&self, engine: Engine) -> Option<f64> {
        let (value, (_, best)) = (self.cells.get(&engine)?.value, self.best_peer?);
        let ratio = if self.unit == Unit::OpsPerS {
            value / best
        } else {
            best / value
        };
        ratio.is_finite().then_some(ratio)
    }

    fn find_best_peer(&self) -> Option<(Engine, f64)> {
        let peers = self.cells.iter().filter(|(engine, _)| engine.is_peer());
        let values = peers.map(|(&engine, cell)| (engine, cell.value));
        match self.unit {
            Unit::OpsPerS => values.max_by(|a, b| a.1.total_cmp(&b.1)),
            Unit::Of(_) => values.min_by(|a, b| a.1.total_cmp(&b.1)),
        }
    }
}

/// The lines of each section, in the order in which they were first measured; peak memory at the end.
fn sections(stored: &Stored) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for sample in &stored.samples {
        let record = &sample.record;
        let section = position_or_push(
            &mut sections,
            |section| section.name == record.section,
            || Section {
                name: record.section.clone(),
                lines: Vec::new(),
            },
        );
        position_or_push(
            &mut section.lines,
            |line| line.row == record.row,
            || Line {
                row: record.row.clone(),
                unit: match &record.measured {
                    Measured::Rate(_) => Unit::OpsPerS,
                    Measured::Figure { unit, .. } => Unit::Of(unit.clone()),
                },
                cells: BTreeMap::new(),
                best_peer: None,
            },
        );
    }
    sections.sort_by_key(|section| section.name == "peak memory");
    for section in &mut sections {
        for line in &mut section.lines {
            line.cells = cells(stored, &section.name, &line.row);
            line.best_peer = line.find_best_peer();
        }
        for (row, compared_with) in COMPARED_WITH {
            let best = section
                .lines
                .iter()
                .find(|line| line.row == compared_with)
                .and_then(|line| line.best_peer);
            if let Some(line) = section.lines.iter_mut().find(|line| line.row == row) {
                line.best_peer = line.best_peer.or(best);
            }
        }
    }
    sections
}

fn position_or_push<T>(
    list: &mut Vec<T>,
    is: impl Fn(&T) -> bool,
    make: impl FnOnce() -> T,
) -> &mut T {
    let position = list.iter().position(is).unwrap_or_else(|| {
        list.push(make());
        list.len() - 1
    });
    &mut list[position]
}

fn cells(stored: &Stored, section: &str, row: &str) -> BTreeMap<Engine, Cell> {
    let of_engine = |engine: Engine| {
        let samples = stored
            .samples
            .iter()
            .filter(move |sample| sample.engine == engine);
        let measured: Vec<_> = samples
            .filter(|sample| sample.record.section == section && sample.record.row == row)
            .map(|sample| &sample.record.measured)
            .collect();
        let rates: Vec<&Rate> = measured
            .iter()
            .filter_map(|m| {
                if let Measured::Rate(rate) = m {
                    Some(rate)
                } else {
                    None
                }
            })
            .collect();
        let figures = measured.iter().filter_map(|m| {
            if let Measured::Figure { value, .. } = m {
                Some(*value)
            } else {
                None
            }
        });
        Some(Cell {
            value: median(rates.iter().map(|rate| rate.ops_per_s()).chain(figures))?,
            cpu_us_per_op: median(rates.iter().map(|rate| rate.cpu_us_per_op())),
            planned_s: median(
                rates
                    .iter()
                    .map(|rate| rate.planned_ops as f64 / rate.ops_per_s()),
            ),
            cut_short: rates.iter().any(|rate| rate.ops < rate.planned_ops),
        })
    };
    stored
        .engines
        .iter()
        .filter_map(|&engine| Some((engine, of_engine(engine)?)))
        .collect()
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(unit: Unit, values: &[(Engine, f64)]) -> Line {
        let cell = |value| Cell {
            value,
            cpu_us_per_op: None,
            planned_s: None,
            cut_short: false,
        };
        let cells = values
            .iter()
            .map(|&(engine, value)| (engine, cell(value)))
            .collect();
        let mut line = Line {
            row: String::new(),
            unit,
            cells,
            best_peer: None,
        };
        line.best_peer = line.find_best_peer();
        line
    }

    #[test]
    fn a_ratio_above_one_is_better_whatever_the_unit() {
        let values = [
            (Engine::Moonshine, 30.0),
            (Engine::Redb, 10.0),
            (Engine::Lmdb, 20.0),
        ];
        assert_eq!(line(Unit::OpsPerS, &values).ratio(), Some(1.5));
        let times = line(Unit::Of("ms".into()), &values);
        assert_eq!(
            (times.best_peer, times.ratio()),
            (Some((Engine::Redb, 10.0)), Some(1.0 / 3.0))
        );
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0].into_iter()), Some(2.5));
        assert_eq!(median([].into_iter()), None);
    }
}
