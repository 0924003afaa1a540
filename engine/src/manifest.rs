//! The database's own file: what it is, and what never changes after its creation.

use std::path::{Path, PathBuf};

use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::codec::{Malformed, Reader, put_u32, put_u64};
use crate::error::{Error, Result};
use crate::io::{Io, OpenMode};
use crate::profile::StoredProfile;

const MAGIC: &[u8; 8] = b"MOONDB\r\n";
/// The format version that is written. Version 1 had no profile, up to version 2 there was no tree, and up to version 3
/// every part of the tree and the log was in its first version.
pub(crate) const FORMAT_VERSION: u32 = 4;
/// The first version with a tree.
const TREE_VERSION: u32 = 3;
/// The checksum, at the end in every version.
const CHECKSUM_SIZE_BYTES: usize = 8;
/// More than any manifest: what is longer is no manifest.
const SIZE_BYTES_MAX: u64 = 64 * 1024;
const FILE_NAME: &str = "MANIFEST";
/// Bits of the shard number: S-Paral is at most 2^10.
const SHARD_BITS_MAX: u32 = 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The format version that was read, or is written.
    pub(crate) version: u32,
    pub(crate) database_id: Uuid,
    /// A table's rows lie in 2^shard_bits shards.
    pub(crate) shard_bits: u32,
    /// What the database was laid out from.
    pub(crate) profile: StoredProfile,
}

/// Why bytes are no manifest for this build.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Malformed(Malformed),
    /// It is of this version, which is newer than the build.
    Newer(u32),
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Self {
        Refused::Malformed(malformed)
    }
}

impl Manifest {
    /// Where the manifest of a folder lies.
    pub(crate) fn path(folder: &Path) -> PathBuf {
        folder.join(FILE_NAME)
    }

    /// Whether the database has a tree.
    pub(crate) fn has_tree(&self) -> bool {
        self.version >= TREE_VERSION
    }

    /// Reads the manifest of a folder; `None` if there is none.
    pub(crate) fn read(io: &dyn Io, folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE_NAME);
        let file = match io.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::io("open", &path, source)),
        };
        let len_bytes = file
            .len_bytes()
            .map_err(|source| Error::io("read", &path, source))?;
        let corrupt = |reason: &str| Error::Corrupt {
            path: path.clone(),
            offset: 0,
            reason: reason.to_owned(),
        };
        if len_bytes > SIZE_BYTES_MAX {
            return Err(corrupt("too long for a manifest"));
        }
        let mut bytes = vec![0; usize::try_from(len_bytes).unwrap_or_default()];
        file.read_exact_at(&mut bytes, 0)
            .map_err(|source| Error::io("read", &path, source))?;
        Self::decode(&bytes)
            .map(Some)
            .map_err(|refused| match refused {
                Refused::Malformed(malformed) => corrupt(malformed.0),
                Refused::Newer(version) => Error::NewerFormat {
                    path: path.clone(),
                    version,
                    version_max: FORMAT_VERSION,
                },
            })
    }

    /// Writes the manifest in the current version, atomically.
    pub(crate) fn write(&self, io: &dyn Io, folder: &Path) -> Result<()> {
        let (path, new_path) = (folder.join(FILE_NAME), folder.join("MANIFEST.new"));
        match io.remove(&new_path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &new_path, error));
            }
            _ => {}
        }
        let file = io
            .open(&new_path, OpenMode::CreateNew)
            .map_err(|source| Error::io("create", &new_path, source))?;
        file.write_all_at(&self.encode(), 0)
            .map_err(|source| Error::io("write", &new_path, source))?;
        file.sync_data()
            .map_err(|source| Error::io("sync", &new_path, source))?;
        io.rename(&new_path, &path)
            .map_err(|source| Error::io("rename", &new_path, source))?;
        io.sync_folder(folder)
            .map_err(|source| Error::io("sync", folder, source))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_u32(&mut out, FORMAT_VERSION);
        put_u32(&mut out, self.shard_bits);
        out.extend_from_slice(self.database_id.as_bytes());
        self.profile.encode(&mut out);
        let checksum = xxh3_64(&out);
        put_u64(&mut out, checksum);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let (covered, checksum) = bytes
            .split_last_chunk::<CHECKSUM_SIZE_BYTES>()
            .ok_or(Malformed("ends early"))?;
        let mut reader = Reader::new(covered);
        if &reader.array::<8>()? != MAGIC {
            return Err(Malformed("not the manifest of a Moonshine database").into());
        }
        if xxh3_64(covered) != u64::from_le_bytes(*checksum) {
            return Err(Malformed("the manifest fails its checksum").into());
        }
        let version = reader.u32()?;
        if version == 0 {
            return Err(Malformed("a format version that never was").into());
        }
        if version > FORMAT_VERSION {
            return Err(Refused::Newer(version));
        }
        let shard_bits = reader.u32()?;
        if shard_bits > SHARD_BITS_MAX {
            return Err(Malformed("more shards than can be").into());
        }
        let database_id = Uuid::from_bytes(reader.array()?);
        let profile = match version {
            1 => StoredProfile::unrecorded(shard_bits),
            _ => StoredProfile::decode(&mut reader)?,
        };
        reader.finish()?;
        Ok(Manifest {
            version,
            database_id,
            shard_bits,
            profile,
        })
    }
}

#[cfg(test)]
mod tests {
    use moonshine_sysprobe::Profile;

    use super::*;
    use crate::profile::Provenance;

    fn manifest() -> Manifest {
        let profile = StoredProfile::from(Profile::measured(65_536, 7, 1));
        Manifest {
            version: FORMAT_VERSION,
            database_id: Uuid::from_u128(5),
            shard_bits: 3,
            profile: profile.with_commit_batch_bytes(262_144),
        }
    }

    #[test]
    fn a_manifest_round_trips_and_every_flipped_bit_is_seen() {
        let manifest = manifest();
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes), Ok(manifest));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(
                Manifest::decode(&damaged).is_err(),
                "bit {bit} flipped unseen"
            );
        }
        for len in 0..bytes.len() {
            assert!(
                Manifest::decode(&bytes[..len]).is_err(),
                "cut to {len} bytes unseen"
            );
        }
    }

    #[test]
    fn version_1_opens_and_says_that_its_profile_was_not_recorded() {
        let mut bytes = MAGIC.to_vec();
        put_u32(&mut bytes, 1);
        put_u32(&mut bytes, 3);
        bytes.extend_from_slice(Uuid::from_u128(5).as_bytes());
        let checksum = xxh3_64(&bytes);
        put_u64(&mut bytes, checksum);
        assert_eq!(bytes.len(), 40);
        let manifest = Manifest::decode(&bytes).unwrap();
        assert_eq!(manifest.database_id, Uuid::from_u128(5));
        assert_eq!(manifest.shard_bits, 3);
        assert!(!manifest.has_tree());
        assert_eq!(manifest.profile.s_paral(), 8);
        assert_eq!(manifest.profile.provenance(), Provenance::Unrecorded);
    }

    #[test]
    fn a_later_version_is_refused() {
        let mut bytes = manifest().encode();
        let covered = bytes.len() - CHECKSUM_SIZE_BYTES;
        bytes.truncate(covered);
        bytes[8] = u8::try_from(FORMAT_VERSION).unwrap() + 1;
        let checksum = xxh3_64(&bytes);
        put_u64(&mut bytes, checksum);
        assert_eq!(
            Manifest::decode(&bytes),
            Err(Refused::Newer(FORMAT_VERSION + 1))
        );
    }
}
