//! Where an exported row lies, as a row of the hidden table of locations has it.

use crate::codec::{Malformed, Reader, put_u32, put_varint};

/// What a location takes, in bytes, but for the id of a row whose file says it.
pub(crate) const LOCATION_SIZE_BYTES_MIN: u64 = 8;

/// The place of an exported row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowLocation {
    /// The file, by its number in the table.
    pub(crate) file: u32,
    /// The row's position in it.
    pub(crate) position: u32,
    /// The row's id where the file says it outright. Else it follows from the file's first id and the position.
    pub(crate) row_id: Option<u64>,
}

impl RowLocation {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        put_u32(out, self.file);
        put_u32(out, self.position);
        if let Some(row_id) = self.row_id {
            put_varint(out, row_id);
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let (file, position) = (reader.u32()?, reader.u32()?);
        let row_id = match reader.remaining() {
            [] => None,
            _ => Some(reader.varint()?),
        };
        reader.finish()?;
        Ok(RowLocation {
            file,
            position,
            row_id,
        })
    }
}

/// What the log says of a row of an export's files besides its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowMark(pub(crate) u64);

impl RowMark {
    /// The row's id follows from its position.
    pub(crate) const PLAIN: RowMark = RowMark(0);
    /// The file has a row that counts no more: a newer one of the key was exported while the file was written.
    pub(crate) const SUPERSEDED: RowMark = RowMark(1);

    /// The file says the row's id outright.
    pub(crate) fn of_row_id(row_id: Option<u64>) -> Self {
        row_id.map_or(RowMark::PLAIN, |row_id| RowMark(row_id.saturating_add(2)))
    }

    pub(crate) fn row_id(self) -> Option<u64> {
        self.0.checked_sub(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_and_marks_round_trip() {
        for row_id in [None, Some(0), Some(1), Some(127), Some(128), Some(1 << 62)] {
            let location = RowLocation {
                file: 7,
                position: u32::MAX - 1,
                row_id,
            };
            let mut bytes = Vec::new();
            location.encode(&mut bytes);
            assert_eq!(RowLocation::decode(&bytes), Ok(location));
            assert!(RowLocation::decode(&bytes[..7]).is_err());
            let mark = RowMark::of_row_id(row_id);
            assert_eq!(mark.row_id(), row_id);
            assert_ne!(mark, RowMark::SUPERSEDED);
        }
        assert_eq!(RowMark::SUPERSEDED.row_id(), None);
    }
}
