//! Where exported rows lie, 8 bytes a row, in pages of their own beside the rows.

use crate::codec::put_u32;

/// Ordinals that a page of locations covers.
pub(crate) const LOCATIONS_PER_PAGE: u32 = 512;

/// Bytes of a location.
pub(crate) const LOCATION_SIZE_BYTES: usize = 8;

/// Where an exported row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The exported file, by its number in the table; not 2^32 - 1.
    pub file: u32,
    /// The row's position in that file.
    pub position: u32,
}

const NO_FILE: u32 = u32::MAX;

impl Location {
    /// Appends a location; one of a row that was not exported is all ones.
    pub(crate) fn encode(location: Option<Location>, out: &mut Vec<u8>) {
        let location = location.unwrap_or(Location {
            file: NO_FILE,
            position: u32::MAX,
        });
        put_u32(out, location.file);
        put_u32(out, location.position);
    }

    /// The location in that place of a page.
    pub(crate) fn at(content: &[u8], i: usize) -> Option<Location> {
        let [file, position] = content
            .get(i * LOCATION_SIZE_BYTES..)?
            .first_chunk::<LOCATION_SIZE_BYTES>()?
            .as_chunks::<4>()
            .0
        else {
            return None;
        };
        let file = u32::from_le_bytes(*file);
        (file != NO_FILE).then(|| Location {
            file,
            position: u32::from_le_bytes(*position),
        })
    }
}
