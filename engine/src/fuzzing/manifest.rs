//! The manifest, and the profile in it.

use super::DATABASE;
use super::input::{Input, damaged};
use crate::codec::Reader;
use crate::manifest::{FORMAT_VERSION, Manifest};
use crate::profile::StoredProfile;

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let manifests = (0..3).map(|i| {
        let profile = match i {
            0 => StoredProfile::safe_defaults("nothing was measured"),
            1 => moonshine_sysprobe::Profile::given(65_536, 8).into(),
            _ => StoredProfile::from(moonshine_sysprobe::Profile::measured(4096, 7, 2))
                .with_commit_batch_bytes(262_144),
        };
        let manifest = Manifest {
            version: FORMAT_VERSION,
            database_id: DATABASE,
            shard_bits: i,
            profile,
        };
        manifest.encode()
    });
    // Without their checksums, which are put there again.
    manifests
        .map(|bytes| bytes[..bytes.len() - 8].to_vec())
        .collect()
}

pub(super) fn run(bytes: &[u8]) {
    if let Ok(profile) = StoredProfile::decode(&mut Reader::new(bytes)) {
        let mut out = Vec::new();
        profile.encode(&mut out);
        assert_eq!(StoredProfile::decode(&mut Reader::new(&out)), Ok(profile));
    }
    let _ = Manifest::decode(bytes);
    let checksum = xxhash_rust::xxh3::xxh3_64(bytes);
    let sealed = [bytes, &checksum.to_le_bytes()].concat();
    let Ok(manifest) = Manifest::decode(&sealed) else {
        return;
    };
    let encoded = manifest.encode();
    let again = Manifest::decode(&encoded).unwrap();
    let expected = Manifest {
        version: FORMAT_VERSION,
        ..manifest
    };
    assert_eq!(again, expected);
    // Not by the input itself, which has to be a manifest.
    let hash = xxhash_rust::xxh3::xxh3_128(bytes).to_le_bytes();
    let damaged = damaged(&encoded, &mut Input::new(&hash));
    assert!(
        damaged == encoded || Manifest::decode(&damaged).is_err(),
        "{again:?}"
    );
}
