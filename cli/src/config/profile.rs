//! What a new database is laid out from, as the configuration or a flag says it.

use std::borrow::Cow;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use moonshine_engine::{Database, Options, ProfileChoice};
use moonshine_sysprobe::ProfileFile;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::error::CliError;

const MEASURE: &str = "measure";
const SAFE_DEFAULTS: &str = "safe-defaults";

/// Where a new database takes its profile from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProfileSetting {
    Measure,
    SafeDefaults,
    /// A file that `moonshine probe --profile` wrote.
    File(PathBuf),
}

impl ProfileSetting {
    /// What the engine is told. A profile file is read, and may be refused, only where a database is about to be created
    /// from it.
    pub(crate) fn choice(
        setting: Option<&ProfileSetting>,
        database: &Path,
    ) -> Result<ProfileChoice, CliError> {
        if Database::exists(database, &Options::default())? {
            // It keeps what it was created with.
            return Ok(ProfileChoice::default());
        }
        Ok(match setting {
            None => ProfileFile::of_database(database)?
                .map_or(ProfileChoice::Measure, |file| ProfileChoice::from(&file)),
            Some(ProfileSetting::Measure) => ProfileChoice::Measure,
            Some(ProfileSetting::SafeDefaults) => ProfileChoice::SafeDefaults,
            Some(ProfileSetting::File(path)) => ProfileChoice::from(&ProfileFile::load(path)?),
        })
    }
}

impl FromStr for ProfileSetting {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            MEASURE => ProfileSetting::Measure,
            SAFE_DEFAULTS => ProfileSetting::SafeDefaults,
            path => ProfileSetting::File(path.into()),
        })
    }
}

impl<'de> Deserialize<'de> for ProfileSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|never: Infallible| match never {})
    }
}

impl JsonSchema for ProfileSetting {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ProfileSetting".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "enum": [MEASURE, SAFE_DEFAULTS] },
                { "type": "string", "description": "The path of a profile." },
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_keyword_is_a_path() {
        for (text, expected) in [
            ("measure", ProfileSetting::Measure),
            ("safe-defaults", ProfileSetting::SafeDefaults),
            ("./measure", ProfileSetting::File("./measure".into())),
        ] {
            assert_eq!(text.parse(), Ok(expected));
        }
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = ProfileSetting::File(folder.path().join("PROFILE.toml"));
        assert!(ProfileSetting::choice(Some(&file), folder.path()).is_err());
        let choice = ProfileSetting::choice(None, folder.path()).unwrap();
        assert_eq!(choice, ProfileChoice::Measure);
    }

    #[test]
    fn a_database_that_exists_needs_no_profile() {
        let folder = tempfile::tempdir().unwrap();
        Database::open(folder.path(), Options::unmeasured()).unwrap();
        std::fs::write(folder.path().join("PROFILE.toml"), "damaged").unwrap();
        assert!(ProfileSetting::choice(None, folder.path()).is_ok());
    }
}
