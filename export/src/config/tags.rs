//! Tags that exports are given by themselves.

use std::collections::BTreeMap;

use iceberg::spec::MAIN_BRANCH;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{ExportError, Result};
use crate::refs::AsOf;

/// Which exports of a table get a tag.
///
/// ```
/// let config: moonshine_export::TagsConfig =
///     serde_json::from_str(r#"{"every": "day", "name": "daily-{date}", "keep": 30, "at": {"before-move": "0/16B3748"}}"#)?;
/// assert_eq!(config.keep, Some(30));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TagsConfig {
    /// The first export of each `day` or `hour` (UTC; also `1d`, `1h`) gets a tag.
    pub every: Option<TagPeriod>,
    /// What that is called, with `{date}` (2026-11-21) and `{hour}` (00 to 23). Default: `daily-{date}`, `hourly-{date}-{hour}`.
    pub name: Option<String>,
    /// For so many days or hours it stays. Default: 30.
    pub keep: Option<u32>,
    /// Names for given points: the first export that holds a commit (`1042`) or an LSN (`0/16B3748`, which each source with an
    /// LSN has to have reached, or `source@0/16B3748`). They stay.
    pub at: Option<BTreeMap<String, String>>,
}

/// How often a tag is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TagPeriod {
    /// Each day, in UTC.
    #[serde(alias = "1d")]
    Day,
    /// Each hour.
    #[serde(alias = "1h")]
    Hour,
}

/// Which exports of one table get a tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagSettings {
    /// Tags of periods.
    pub by_time: Option<TagPattern>,
    /// Tags of points, by name.
    pub at: BTreeMap<String, AsOf>,
}

/// Tags of periods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPattern {
    /// How often.
    pub period: TagPeriod,
    /// The name, with `{date}` and `{hour}`.
    pub name: String,
    /// For so many periods it stays.
    pub kept: i64,
}

impl TagsConfig {
    /// These, and those of `others` for what is left out.
    pub(super) fn over(&self, others: &TagsConfig) -> TagsConfig {
        TagsConfig {
            every: self.every.or(others.every),
            name: self.name.clone().or(others.name.clone()),
            keep: self.keep.or(others.keep),
            at: self.at.clone().or(others.at.clone()),
        }
    }

    pub(super) fn settings(&self, place: &str) -> Result<TagSettings> {
        let refused = |text: String| ExportError::Config(format!("{place}tags.{text}"));
        let mut settings = TagSettings::default();
        for (name, point) in self.at.iter().flatten() {
            let point: AsOf = point
                .parse()
                .map_err(|error| refused(format!("at.{name}: {error}")))?;
            if name.is_empty() || name == MAIN_BRANCH {
                return Err(refused(format!("at: '{name}' can't be the name of a tag")));
            }
            if matches!(point, AsOf::Timestamp(_)) {
                return Err(refused(format!("at.{name}: give a commit or an LSN")));
            }
            settings.at.insert(name.clone(), point);
        }
        let Some(period) = self.every else {
            if self.name.is_some() || self.keep.is_some() {
                return Err(refused(
                    "every: it is missing beside name or keep".to_owned(),
                ));
            }
            return Ok(settings);
        };
        let (default, needed) = match period {
            TagPeriod::Day => ("daily-{date}", &["{date}"][..]),
            TagPeriod::Hour => ("hourly-{date}-{hour}", &["{date}", "{hour}"][..]),
        };
        let name = self.name.as_deref().unwrap_or(default);
        if let Some(missing) = needed.iter().find(|part| !name.contains(**part)) {
            return Err(refused(format!(
                "name: '{name}' has no {missing}, so that one name would stand for several times"
            )));
        }
        if self.keep == Some(0) {
            return Err(refused("keep: 0 does not do, give 1 or more".to_owned()));
        }
        settings.by_time = Some(TagPattern {
            period,
            name: name.to_owned(),
            kept: i64::from(self.keep.unwrap_or(30)),
        });
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_do_is_named() {
        for (json, words) in [
            (r#"{"every": "hour", "name": "x-{date}"}"#, "{hour}"),
            (r#"{"every": "day", "name": "x"}"#, "{date}"),
            (r#"{"every": "day", "keep": 0}"#, "tags.keep"),
            (r#"{"name": "{date}"}"#, "tags.every"),
            (r#"{"at": {"x": "yesterday"}}"#, "tags.at.x"),
            (
                r#"{"at": {"x": "2026-11-21T12:00:00Z"}}"#,
                "a commit or an LSN",
            ),
            (r#"{"at": {"main": "1"}}"#, "'main'"),
        ] {
            let config: TagsConfig = serde_json::from_str(json).unwrap();
            let error = config.settings("tables.t: ").unwrap_err().to_string();
            assert!(
                error.contains(words) && error.contains("tables.t"),
                "{error}"
            );
        }
    }
}
