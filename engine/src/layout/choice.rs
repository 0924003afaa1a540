//! Where a new database takes its profile from.

use std::path::Path;

use moonshine_sysprobe::{Profile, ProfileFile};

use crate::io::Io;
use crate::profile::StoredProfile;

/// Where a new database takes its profile from. One that exists keeps what it was created with.
///
/// ```
/// use moonshine_engine::{Database, Options, ProfileChoice};
/// # let folder = tempfile::tempdir()?;
/// let options = Options { profile: ProfileChoice::SafeDefaults, ..Options::default() };
/// let database = Database::open(folder.path(), options)?;
/// assert!(database.profile().s_size_bytes() > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ProfileChoice {
    /// The device under the database's folder is measured, once, when the database is created; at most ten seconds.
    /// Where it can't be measured, safe defaults, and the log says why.
    #[default]
    Measure,
    /// Safe defaults: the number of cores, and a block size that suits any device.
    SafeDefaults,
    /// What the caller knows.
    Given(StoredProfile),
}

impl From<Profile> for ProfileChoice {
    fn from(profile: Profile) -> Self {
        ProfileChoice::Given(profile.into())
    }
}

impl From<&ProfileFile> for ProfileChoice {
    fn from(file: &ProfileFile) -> Self {
        ProfileChoice::Given(file.into())
    }
}

/// The profile of a database that is about to be created in that folder.
pub(crate) fn profile_for(choice: &ProfileChoice, io: &dyn Io, folder: &Path) -> StoredProfile {
    let profile = match choice {
        ProfileChoice::Measure => io.measure_profile(folder).unwrap_or_else(|error| {
            tracing::warn!(
                folder = %folder.display(),
                reason = %error,
                "the device was not measured, so the database takes safe defaults"
            );
            StoredProfile::safe_defaults(&error.to_string())
        }),
        ProfileChoice::SafeDefaults => StoredProfile::safe_defaults("asked for"),
        ProfileChoice::Given(profile) => profile.clone(),
    };
    tracing::info!(
        s_size_bytes = profile.s_size_bytes(),
        s_paral = profile.s_paral(),
        source = %profile.provenance(),
        "laid out a new database"
    );
    profile
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::SimulatedIo;
    use crate::profile::Provenance;

    #[test]
    fn what_cannot_be_measured_takes_safe_defaults_and_keeps_the_reason() {
        let io = SimulatedIo::new(1);
        let profile = profile_for(&ProfileChoice::Measure, &io, Path::new("/db"));
        assert_eq!(profile.provenance(), Provenance::SafeDefault);
        assert!(profile.method().contains("simulated"), "{profile:?}");
    }

    #[test]
    fn a_given_profile_is_taken_as_it_is() {
        let choice = ProfileChoice::from(Profile::given(65_536, 6));
        let profile = profile_for(&choice, &SimulatedIo::new(1), Path::new("/db"));
        assert_eq!((profile.s_size_bytes(), profile.s_paral()), (65_536, 8));
        assert_eq!(profile.provenance(), Provenance::Given);
    }
}
