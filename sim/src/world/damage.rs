//! Damage to what a process left on its disk: it is named, or harmless.

use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::{CrashStyle, Damage, NamesStyle, SimulatedIo};
use moonshine_engine::{Database, Error};

use super::World;
use super::outcome::{Step, Stop};
use super::process::{Contents, FOLDER, contents, options, tables};
use crate::model::rows::differences;
use crate::random::Stream;

const KINDS: [Damage; 5] = [
    Damage::Flip,
    Damage::Zero,
    Damage::Cut,
    Damage::Swap,
    Damage::Older,
];
/// Images of a disk that are damaged.
const IMAGE_COUNT: usize = 3;

/// Whether bytes are at the end of the log. There, what is missing or as it was before can't be told from what was never written.
fn is_end_of_log(disk: &SimulatedIo, path: &Path) -> bool {
    let is_log = |path: &Path| path.extension().is_some_and(|kind| kind == "mlog");
    let within = |path: &Path| path.starts_with(FOLDER);
    let segments = disk.files().into_iter().map(|(path, _)| path);
    let newest = segments.filter(|path| is_log(path) && within(path)).max();
    newest.as_deref() == Some(path)
}

impl World<'_> {
    /// In some seeds images of the disk are damaged that a closed database of that commit sequence left, and opened.
    pub(super) fn damage(&mut self, number: usize, disk: &SimulatedIo, closed_seq: u64) -> Step {
        let mut stream = Stream::new(self.plan.seed, "damage", 0);
        if !stream.chance(250) {
            return Ok(());
        }
        for _ in 0..IMAGE_COUNT {
            let kind = stream.pick(&KINDS);
            let image = disk.crash_image(CrashStyle::KeepUnsynced, NamesStyle::Kept);
            let Some(damaged) = image.damage_random(stream.next(), kind) else {
                continue;
            };
            self.trace.note(format!("{kind:?}: {damaged:?}"));
            let what = match self.read_damaged(&image) {
                Err(Error::Corrupt { .. }) => "damage that is named",
                Err(error) => {
                    let detail = format!("{kind:?}, {damaged:?}: {error} ({error:?})");
                    return Err(Stop::violation("damage", number, detail));
                }
                Ok((seq, read)) => {
                    let may_be_older = kind != Damage::Flip && is_end_of_log(disk, &damaged.path);
                    let is_seq = seq == closed_seq || (seq < closed_seq && may_be_older);
                    self.compare_damaged(seq, &read)
                        .and_then(|()| match is_seq {
                            true => Ok(()),
                            false => Err(format!("{seq} is newest, {closed_seq} was")),
                        })
                        .map_err(|differs| {
                            let detail = format!("{kind:?}, {damaged:?}: {differs}");
                            Stop::violation("damage", number, detail)
                        })?;
                    match seq == closed_seq {
                        true => "damage that is harmless",
                        false => "damage at the end of the log",
                    }
                }
            };
            self.report.count(what);
        }
        Ok(())
    }

    fn read_damaged(&self, image: &SimulatedIo) -> Result<(u64, Contents), Error> {
        let config = &self.plan.config;
        let database = Database::open(FOLDER, options(config, Arc::new(image.clone())))?;
        let snapshot = database.snapshot();
        // The log that made a table may be gone with its end.
        let names = crate::model::tables::schemas(config.shard_keys);
        if names
            .iter()
            .any(|schema| database.table(schema.name()).is_none())
        {
            return Ok((snapshot.seq(), Contents::new()));
        }
        let read = contents(&snapshot, &tables(&database, config))?;
        Ok((snapshot.seq(), read))
    }

    fn compare_damaged(&self, seq: u64, read: &Contents) -> Result<(), String> {
        let states = self.history.states_at(seq);
        let same = states.map(|state| {
            for (table, (schema, rows)) in read.iter().enumerate() {
                let expected = state.table(table).values();
                let expected: Vec<_> = expected.map(|row| row.as_of(schema)).collect();
                if *rows != expected {
                    let differences = differences(&expected, rows);
                    return Err(format!("'{}' at {seq}: {differences}", schema.name()));
                }
            }
            Ok(())
        });
        same.reduce(Result::or).unwrap_or(Ok(()))
    }
}
