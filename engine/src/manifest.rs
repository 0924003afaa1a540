//! The database's own file: what it is, and what never changes after its creation.

use std::path::Path;

use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::codec::{Malformed, Reader, put_u32, put_u64};
use crate::error::{Error, Result};
use crate::io::{Io, OpenMode};
use crate::log::format::FORMAT_VERSION;

const MAGIC: &[u8; 8] = b"MOONDB\r\n";
const SIZE_BYTES: usize = 40;
const FILE_NAME: &str = "MANIFEST";
/// Bits of the shard number: S-Paral is at most 2^10.
const SHARD_BITS_MAX: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) database_id: Uuid,
    /// A table's rows lie in 2^shard_bits shards.
    pub(crate) shard_bits: u32,
}

impl Manifest {
    /// Reads the manifest of a folder; `None` if there is none.
    pub(crate) fn read(io: &dyn Io, folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE_NAME);
        let file = match io.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::io("open", &path, source)),
        };
        let mut bytes = vec![0; SIZE_BYTES];
        let len_bytes = file
            .len_bytes()
            .map_err(|source| Error::io("read", &path, source))?;
        let corrupt = |reason: &str| Error::Corrupt {
            path: path.clone(),
            offset: 0,
            reason: reason.to_owned(),
        };
        if len_bytes != SIZE_BYTES as u64 {
            return Err(corrupt("a manifest of another length"));
        }
        file.read_exact_at(&mut bytes, 0)
            .map_err(|source| Error::io("read", &path, source))?;
        Self::decode(&bytes)
            .map(Some)
            .map_err(|malformed| corrupt(malformed.0))
    }

    /// Writes the manifest, atomically.
    pub(crate) fn write(self, io: &dyn Io, folder: &Path) -> Result<()> {
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

    fn encode(self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_u32(&mut out, FORMAT_VERSION);
        put_u32(&mut out, self.shard_bits);
        out.extend_from_slice(self.database_id.as_bytes());
        let checksum = xxh3_64(&out);
        put_u64(&mut out, checksum);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if &reader.array::<8>()? != MAGIC {
            return Err(Malformed("not the manifest of a Moonshine database"));
        }
        let version = reader.u32()?;
        let shard_bits = reader.u32()?;
        let database_id = Uuid::from_bytes(reader.array()?);
        if bytes.get(..SIZE_BYTES - 8).map(xxh3_64) != Some(reader.u64()?) {
            return Err(Malformed("the manifest fails its checksum"));
        }
        if version != FORMAT_VERSION {
            return Err(Malformed("a format version that this build does not read"));
        }
        if shard_bits > SHARD_BITS_MAX {
            return Err(Malformed("more shards than can be"));
        }
        Ok(Manifest {
            database_id,
            shard_bits,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_round_trips_and_every_flipped_bit_is_seen() {
        let manifest = Manifest {
            database_id: Uuid::from_u128(5),
            shard_bits: 3,
        };
        let bytes = manifest.encode();
        assert_eq!(bytes.len(), SIZE_BYTES);
        assert_eq!(Manifest::decode(&bytes), Ok(manifest));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(
                Manifest::decode(&damaged).is_err(),
                "bit {bit} flipped unseen"
            );
        }
    }
}
