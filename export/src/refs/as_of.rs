//! A point in a table's history, as people name it.

use std::fmt;
use std::str::FromStr;

use arrow_cast::parse::string_to_timestamp_nanos;
use iceberg::spec::Snapshot;

use crate::error::ExportError;
use crate::summary::Stamp;

/// A point in a table's history: the newest state up to it is meant.
///
/// ```
/// use moonshine_export::AsOf;
/// assert_eq!("1042".parse::<AsOf>()?, AsOf::Commit(1042));
/// assert_eq!("1970-01-01T00:00:01Z".parse::<AsOf>()?, AsOf::Timestamp(1000));
/// assert_eq!("0/16B3748".parse::<AsOf>()?, AsOf::Lsn(0x16B_3748));
/// # Ok::<(), moonshine_export::ExportError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// A commit of the database, by its sequence.
    Commit(u64),
    /// A time, in milliseconds since 1970-01-01T00:00:00Z: what was exported by then.
    Timestamp(i64),
    /// A position in PostgreSQL's log.
    Lsn(u64),
}

impl FromStr for AsOf {
    type Err = ExportError;

    fn from_str(text: &str) -> Result<AsOf, ExportError> {
        if let Ok(commit_seq) = text.parse() {
            return Ok(AsOf::Commit(commit_seq));
        }
        if let Some(lsn) = lsn(text) {
            return Ok(AsOf::Lsn(lsn));
        }
        match string_to_timestamp_nanos(text) {
            Ok(nanoseconds) => Ok(AsOf::Timestamp(nanoseconds.div_euclid(1_000_000))),
            Err(_) => Err(ExportError::Config(format!(
                "'{text}' is no commit (1042), no LSN (0/16B3748) and no time (2026-11-21T12:00:00Z)"
            ))),
        }
    }
}

impl fmt::Display for AsOf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AsOf::Commit(commit_seq) => write!(formatter, "commit {commit_seq}"),
            AsOf::Timestamp(at_ms) => write!(formatter, "{at_ms} ms since 1970"),
            AsOf::Lsn(lsn) => write!(formatter, "LSN {:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff),
        }
    }
}

impl AsOf {
    /// Whether a snapshot, which carries this stamp, shows the table no later than this.
    pub(super) fn reaches(self, snapshot: &Snapshot, stamp: &Stamp) -> bool {
        match self {
            AsOf::Commit(commit_seq) => stamp.commit_seq <= commit_seq,
            AsOf::Timestamp(at_ms) => snapshot.timestamp_ms() <= at_ms,
            AsOf::Lsn(wanted) => {
                let mut positions = stamp.origins.values().filter_map(|text| lsn(text));
                positions.any(|position| position <= wanted)
            }
        }
    }
}

/// PostgreSQL's text of a position in its log.
fn lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let part = |digits: &str| u32::from_str_radix(digits, 16).ok();
    Some(u64::from(part(high)?) << 32 | u64::from(part(low)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_name_is_told_apart() {
        let parse = |text: &str| text.parse::<AsOf>();
        assert_eq!(parse("0/0").unwrap(), AsOf::Lsn(0));
        assert_eq!(parse("1F/A").unwrap(), AsOf::Lsn(0x1f_0000_000a));
        let noon = AsOf::Timestamp(946_728_000_000);
        for text in ["2000-01-01T12:00:00Z", "2000-01-01 13:00:00+01:00"] {
            assert_eq!(parse(text).unwrap(), noon, "{text}");
        }
        for text in ["", "-1", "yesterday", "0/", "1/100000000", "2000-13-01"] {
            assert!(matches!(parse(text), Err(ExportError::Config(_))), "{text}");
        }
    }
}
