//! Tags that exports are given by themselves: the first export of each day or hour, and the first that holds a given origin.
//!
//! The commit of the export itself gives them, so that a tag names a snapshot or is not there, whatever happens in between. One
//! that is given by time says how old it may become (`max-ref-age-ms`), so that by Iceberg's own rules whoever expires
//! snapshots takes it away.

use std::collections::HashMap;

use chrono::{DateTime, Timelike, Utc};
use iceberg::spec::{SnapshotReference, SnapshotRetention};

use super::{AsOf, TableVersion};
use crate::config::{TagPeriod, TagSettings};

impl TagSettings {
    /// The tags that the snapshot of an export gets, after a state `before` it, in a table with these names.
    pub(crate) fn due(
        &self,
        found: &HashMap<String, SnapshotReference>,
        before: Option<&TableVersion>,
        version: &TableVersion,
    ) -> Vec<(String, SnapshotReference)> {
        let by_time = self.by_time.as_ref().map(|pattern| {
            let name = pattern.period.name(&pattern.name, version.exported_at_ms);
            let period_ms = pattern.period.length_ms();
            (name, Some(period_ms.saturating_mul(pattern.kept)))
        });
        let is_first = |point: &AsOf| {
            point.is_reached_by(version)
                && !before.is_some_and(|before| point.is_reached_by(before))
        };
        let reached = self.at.iter().filter(|(_, point)| is_first(point));
        let reached = reached.map(|(name, _)| (name.clone(), None));
        let is_new = |(name, _): &(String, Option<i64>)| !found.contains_key(name);
        let reference = |(name, max_ref_age_ms)| {
            let retention = SnapshotRetention::Tag { max_ref_age_ms };
            (name, SnapshotReference::new(version.snapshot_id, retention))
        };
        let due = by_time.into_iter().chain(reached);
        due.filter(is_new).map(reference).collect()
    }
}

impl TagPeriod {
    fn length_ms(self) -> i64 {
        const HOUR_MS: i64 = 60 * 60 * 1000;
        match self {
            TagPeriod::Hour => HOUR_MS,
            TagPeriod::Day => 24 * HOUR_MS,
        }
    }

    /// The name of the period that a time is in.
    fn name(self, pattern: &str, at_ms: i64) -> String {
        let at: DateTime<Utc> = DateTime::from_timestamp_millis(at_ms).unwrap_or_default();
        let hour = format!("{:02}", at.hour());
        let date = at.date_naive().to_string();
        pattern.replace("{date}", &date).replace("{hour}", &hour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::IcebergConfig;

    fn settings(tags: &str) -> TagSettings {
        let json = format!(r#"{{"warehouse_path": "w", "tables": {{"*": {{"tags": {tags}}}}}}}"#);
        let config: IcebergConfig = serde_json::from_str(&json).unwrap();
        config.settings_by_table().unwrap().of("t").tags.clone()
    }

    fn version(snapshot_id: i64, lsn: &str, exported_at_ms: i64) -> TableVersion {
        TableVersion {
            snapshot_id,
            commit_seq: 1,
            origins: [("shop".to_owned(), lsn.to_owned())].into(),
            exported_at_ms,
        }
    }

    fn names(due: &[(String, SnapshotReference)]) -> Vec<&str> {
        due.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn the_first_of_each_period_is_named_after_it() {
        let hourly = settings(r#"{"every": "1h", "name": "h-{date}-{hour}", "keep": 3}"#);
        let version = version(7, "0/1", 1_795_266_000_000);
        let due = hourly.due(&HashMap::new(), None, &version);
        assert_eq!(names(&due), ["h-2026-11-21-13"]);
        let retention = SnapshotRetention::Tag {
            max_ref_age_ms: Some(3 * 3_600_000),
        };
        assert_eq!(due[0].1, SnapshotReference::new(7, retention));
        let found = due.into_iter().collect();
        assert!(hourly.due(&found, None, &version).is_empty(), "it is there");
        let daily = settings(r#"{"every": "day"}"#).due(&found, None, &version);
        assert_eq!(names(&daily), ["daily-2026-11-21"]);
    }

    #[test]
    fn the_first_that_holds_an_origin_is_named() {
        let settings = settings(r#"{"at": {"moved": "shop@0/10", "next": "0/20"}}"#);
        let [one, two, three] =
            [(1, "0/F"), (2, "0/1A"), (3, "0/20")].map(|(id, lsn)| version(id, lsn, 0));
        let due = |before, now| settings.due(&HashMap::new(), before, now);
        assert!(due(None, &one).is_empty());
        assert_eq!(names(&due(Some(&one), &two)), ["moved"]);
        assert_eq!(names(&due(Some(&two), &three)), ["next"]);
        assert_eq!(names(&due(None, &three)), ["moved", "next"]);
        assert!(due(Some(&three), &version(4, "0/30", 0)).is_empty());
    }
}
