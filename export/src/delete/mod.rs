//! Deleted rows: which positions of which data file no longer count.
//!
//! A data file has at most one delete entry in a snapshot, and that entry belongs to this data file only. An update
//! reads the old positions, joins the new ones and writes a new entry in place of the old. Format v3 holds it as a
//! deletion vector ([`vector`]), v2 as a position delete file ([`position`]). There are no equality deletes.

pub(crate) mod position;
pub(crate) mod vector;

use std::collections::BTreeMap;

use futures::{FutureExt, StreamExt, TryStreamExt};
use iceberg::io::FileIO;
use iceberg::spec::{DataContentType, DataFile, DataFileFormat};
use moonshine_engine::RemovedRows;
use roaring::RoaringTreemap;

use crate::config::FormatVersion;
use crate::error::{ExportError, Result};

/// How many delete files are read or written at once.
pub(crate) const FILES_IN_FLIGHT_MAX: usize = 16;

/// Deleted positions by data file.
pub(crate) type Positions = BTreeMap<String, RoaringTreemap>;

pub(crate) fn positions_of(removed: &RemovedRows) -> Positions {
    let files = removed.files();
    files
        .map(|(path, positions)| (path.as_ref().to_owned(), positions.map(u64::from).collect()))
        .collect()
}

/// Reads the positions of a delete entry.
pub(crate) async fn read_positions(file_io: &FileIO, entry: &DataFile) -> Result<RoaringTreemap> {
    if entry.content_type() != DataContentType::PositionDeletes {
        return Err(ExportError::foreign(
            entry.file_path(),
            "not a file of position deletes",
        ));
    }
    let positions = match entry.file_format() {
        DataFileFormat::Puffin => vector::read(file_io, entry).await?,
        DataFileFormat::Parquet => position::read(file_io, entry).await?,
        format => {
            return Err(ExportError::foreign(
                entry.file_path(),
                format!("deletes in format {format}"),
            ));
        }
    };
    if positions.len() != entry.record_count() {
        return Err(ExportError::corrupt(
            entry.file_path(),
            format!(
                "{} deleted positions, the manifest says {}",
                positions.len(),
                entry.record_count()
            ),
        ));
    }
    Ok(positions)
}

/// Writes one delete entry for each data file. `path(n, extension)` is where the n-th file goes.
///
/// `started` collects the paths of begun files, so that a caller can remove them when this fails.
pub(crate) async fn write_positions(
    file_io: &FileIO,
    version: FormatVersion,
    positions: &Positions,
    path: impl Fn(usize, &str) -> String,
    started: &mut Vec<String>,
) -> Result<Vec<DataFile>> {
    let paths = (0..positions.len()).map(|number| path(number, extension(version)));
    let paths: Vec<String> = paths.collect();
    started.extend_from_slice(&paths);
    let mut writes = Vec::with_capacity(positions.len());
    for ((data_file, positions), path) in positions.iter().zip(paths) {
        writes.push(write_one(file_io, version, path, data_file, positions).boxed());
    }
    futures::stream::iter(writes)
        .buffered(FILES_IN_FLIGHT_MAX)
        .try_collect()
        .await
}

async fn write_one(
    file_io: &FileIO,
    version: FormatVersion,
    path: String,
    data_file: &str,
    positions: &RoaringTreemap,
) -> Result<DataFile> {
    match version {
        FormatVersion::V3 => vector::write(file_io, path, data_file, positions).await,
        FormatVersion::V2 => position::write(file_io, path, data_file, positions).await,
    }
}

fn extension(version: FormatVersion) -> &'static str {
    match version {
        FormatVersion::V3 => "puffin",
        FormatVersion::V2 => "parquet",
    }
}

#[cfg(test)]
mod tests;
