//! What an exporter's files and catalog hold, as the child told: a line that came whole is a commit that the catalog took.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use moonshine_engine::{Changes, RemovedRows};
use uuid::Uuid;

use crate::workload::Rows;

/// The tables of the catalog, by name.
#[derive(Clone, Debug, Default)]
pub struct Lake {
    tables: BTreeMap<String, LakeTable>,
    landed: BTreeSet<Uuid>,
}

/// What the files of a table hold.
#[derive(Clone, Debug, Default)]
pub struct LakeTable {
    /// File and position to key and number.
    rows: BTreeMap<(String, u64), (i64, i64)>,
    /// The commit sequence of the last export.
    pub seq: u64,
}

/// The line that tells a commit to the catalog. All rows are in one file, named by the commit's id.
pub fn line(
    table: &str,
    id: Uuid,
    to_seq: u64,
    rows: &[(i64, i64)],
    removed: &RemovedRows,
) -> String {
    let rows = rows.iter().map(|(id, number)| format!("{id}:{number}"));
    let removed = removed
        .iter()
        .map(|at| format!("{}@{}", at.file, at.position));
    let (rows, removed): (Vec<_>, Vec<_>) = (rows.collect(), removed.collect());
    let (rows, removed) = (rows.join(","), removed.join(","));
    format!("X {table} {id} {to_seq} [{rows}] [{removed}]")
}

fn list<L: FromStr, R: FromStr>(
    text: &str,
    between: char,
) -> impl Iterator<Item = Result<(L, R), String>> {
    let items = text.trim_matches(['[', ']']).split(',');
    items.filter(|item| !item.is_empty()).map(move |item| {
        let parts = item.split_once(between);
        parts
            .and_then(|(left, right)| Some((left.parse().ok()?, right.parse().ok()?)))
            .ok_or_else(|| format!("a row of an export that can't be read: {item}"))
    })
}

impl Lake {
    /// Takes a commit.
    ///
    /// # Errors
    /// In words, where it removes rows that are not there, or the line can't be read.
    pub fn take(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split(' ').collect();
        let ["X", table, id, seq, rows, removed] = words[..] else {
            return Err(format!("an export that can't be read: {line}"));
        };
        let held = self.tables.entry(table.to_owned()).or_default();
        for at in list::<String, u64>(removed, '@') {
            let at = at?;
            if held.rows.remove(&at).is_none() {
                return Err(format!(
                    "an export of {table} removes {at:?}, which is not there"
                ));
            }
        }
        for (position, row) in list(rows, ':').enumerate() {
            held.rows.insert((id.to_owned(), position as u64), row?);
        }
        held.seq = seq.parse().map_err(|_| line.to_owned())?;
        self.landed.insert(id.parse().map_err(|_| line.to_owned())?);
        Ok(())
    }

    /// The ids of the commits that it took.
    pub fn landed(&self) -> &BTreeSet<Uuid> {
        &self.landed
    }

    /// A table of it, empty where nothing was exported yet.
    pub fn table(&self, name: &str) -> LakeTable {
        self.tables.get(name).cloned().unwrap_or_default()
    }
}

impl LakeTable {
    /// The rows with those changes on top.
    ///
    /// # Errors
    /// In words, where a key would be there twice, or what is removed is not there.
    pub fn with(mut self, changes: &Changes, new: Vec<(i64, i64)>) -> Result<Rows, String> {
        for at in changes.removed().iter() {
            if self
                .rows
                .remove(&(at.file.to_string(), at.position))
                .is_none()
            {
                return Err(format!("{at:?} is removed, and is not in the lake"));
            }
        }
        let mut rows = Rows::new();
        for (id, number) in self.rows.into_values().chain(new) {
            if rows.insert(id, number).is_some() {
                return Err(format!("key {id} is in the lake twice"));
            }
        }
        Ok(rows)
    }
}
