//! A point in a table's history, as people name it.

use std::fmt;
use std::str::FromStr;

use arrow_cast::parse::string_to_timestamp_nanos;

use super::TableVersion;
use crate::error::ExportError;

/// A point in a table's history: the newest state up to it is meant.
///
/// ```
/// use moonshine_export::AsOf;
/// assert_eq!("1042".parse::<AsOf>()?, AsOf::Commit(1042));
/// assert_eq!("1970-01-01T00:00:01Z".parse::<AsOf>()?, AsOf::Timestamp(1000));
/// assert_eq!("0/16B3748".parse::<AsOf>()?, AsOf::Lsn(0x16B_3748));
/// # Ok::<(), moonshine_export::ExportError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// A commit of the database, by its sequence.
    Commit(u64),
    /// A time, in milliseconds since 1970-01-01T00:00:00Z: what was exported by then.
    Timestamp(i64),
    /// A position in PostgreSQL's log, of a table with one such source.
    Lsn(u64),
    /// A position in the log of one of several sources.
    SourceLsn {
        /// The source's name.
        source: String,
        /// The position.
        lsn: u64,
    },
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
        if let Some((source, position)) = text.rsplit_once('@')
            && let Some(lsn) = lsn(position)
        {
            let source = source.to_owned();
            return Ok(AsOf::SourceLsn { source, lsn });
        }
        match string_to_timestamp_nanos(text) {
            Ok(nanoseconds) => Ok(AsOf::Timestamp(nanoseconds.div_euclid(1_000_000))),
            Err(_) => Err(ExportError::Config(format!(
                "'{text}' is no commit (1042), no LSN (0/16B3748 or source@0/16B3748) and no time (2026-11-21T12:00:00Z)"
            ))),
        }
    }
}

impl fmt::Display for AsOf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AsOf::Commit(commit_seq) => write!(formatter, "commit {commit_seq}"),
            AsOf::Timestamp(at_ms) => write!(formatter, "{at_ms} ms since 1970"),
            AsOf::Lsn(lsn) => write!(formatter, "LSN {}", lsn_text(*lsn)),
            AsOf::SourceLsn { source, lsn } => {
                write!(formatter, "LSN {} of source '{source}'", lsn_text(*lsn))
            }
        }
    }
}

impl AsOf {
    /// Checks that the sources, as of the newest state, tell what is meant.
    pub(super) fn check(&self, newest: &TableVersion) -> Result<(), ExportError> {
        let names: Vec<&str> = lsns(newest).map(|(source, _)| source).collect();
        match self {
            AsOf::Lsn(lsn) if names.len() > 1 => Err(ExportError::Config(format!(
                "{self}: there are several sources, {}; say which is meant, as in {}@{}",
                names.join(", "),
                names.first().unwrap_or(&""),
                lsn_text(*lsn)
            ))),
            AsOf::SourceLsn { source, .. } if !names.contains(&source.as_str()) => {
                Err(ExportError::Config(format!(
                    "{self}: there is no such source; those with an LSN are: {}",
                    names.join(", ")
                )))
            }
            _ => Ok(()),
        }
    }

    /// Whether a state holds all up to this.
    pub(super) fn is_reached_by(&self, version: &TableVersion) -> bool {
        match self {
            AsOf::Commit(commit_seq) => version.commit_seq >= *commit_seq,
            AsOf::Timestamp(at_ms) => version.exported_at_ms >= *at_ms,
            AsOf::Lsn(wanted) => {
                let mut positions = lsns(version).peekable();
                positions.peek().is_some() && positions.all(|(_, position)| position >= *wanted)
            }
            AsOf::SourceLsn { source, lsn } => {
                lsns(version).any(|(name, position)| name == source && position >= *lsn)
            }
        }
    }

    /// Whether a state shows the table no later than this.
    pub(super) fn reaches(&self, version: &TableVersion) -> bool {
        match self {
            AsOf::Commit(commit_seq) => version.commit_seq <= *commit_seq,
            AsOf::Timestamp(at_ms) => version.exported_at_ms <= *at_ms,
            AsOf::Lsn(wanted) => {
                let mut positions = lsns(version).peekable();
                positions.peek().is_some() && positions.all(|(_, position)| position <= *wanted)
            }
            // A state from before the source's first transaction is earlier than all of them.
            AsOf::SourceLsn { source, lsn } => lsns(version)
                .filter(|(name, _)| name == source)
                .all(|(_, position)| position <= *lsn),
        }
    }
}

/// The sources that have a position in PostgreSQL's log, with it.
fn lsns(version: &TableVersion) -> impl Iterator<Item = (&str, u64)> {
    let origins = version.origins.iter();
    origins.filter_map(|(source, position)| Some((source.as_str(), lsn(position)?)))
}

fn lsn_text(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
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

    /// Invariant 8 "honest": of two sources, one that is early does not speak for the other.
    #[test]
    fn several_sources_are_told_apart() {
        let version = |shop: &str, depot: Option<&str>| TableVersion {
            snapshot_id: 1,
            commit_seq: 1,
            origins: [("shop", Some(shop)), ("depot", depot), ("file", Some("12"))]
                .into_iter()
                .filter_map(|(name, lsn)| Some((name.to_owned(), lsn?.to_owned())))
                .collect(),
            exported_at_ms: 0,
        };
        let of_source = |source: &str, lsn| AsOf::SourceLsn {
            source: source.into(),
            lsn,
        };
        let newest = version("0/99", Some("0/10"));
        let error = AsOf::Lsn(0x50).check(&newest).unwrap_err().to_string();
        assert!(
            error.contains("depot, shop") && error.contains("depot@0/50"),
            "{error}"
        );
        assert!(!AsOf::Lsn(0x50).reaches(&newest));
        assert!(!of_source("shop", 0x50).reaches(&newest));
        assert!(of_source("depot", 0x50).reaches(&newest));
        assert!(of_source("depot", 0x0f).reaches(&version("0/1", None)));
        for name in ["file", "other"] {
            let error = of_source(name, 1).check(&newest).unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains("depot, shop"),
                "{error}"
            );
        }
        AsOf::Lsn(1).check(&version("0/99", None)).unwrap();
        of_source("shop", 1).check(&newest).unwrap();
    }

    #[test]
    fn what_people_name_is_told_apart() {
        let parse = |text: &str| text.parse::<AsOf>();
        assert_eq!(parse("0/0").unwrap(), AsOf::Lsn(0));
        assert_eq!(parse("1F/A").unwrap(), AsOf::Lsn(0x1f_0000_000a));
        let noon = AsOf::Timestamp(946_728_000_000);
        for text in ["2000-01-01T12:00:00Z", "2000-01-01 13:00:00+01:00"] {
            assert_eq!(parse(text).unwrap(), noon, "{text}");
        }
        let of_source = AsOf::SourceLsn {
            source: "shop@eu".into(),
            lsn: 1,
        };
        assert_eq!(parse("shop@eu@0/1").unwrap(), of_source);
        for text in [
            "",
            "-1",
            "shop@",
            "shop@1",
            "yesterday",
            "0/",
            "1/100000000",
            "2000-13-01",
        ] {
            assert!(matches!(parse(text), Err(ExportError::Config(_))), "{text}");
        }
    }
}
