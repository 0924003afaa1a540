//! Deletion vectors: Puffin blobs of type `deletion-vector-v1`.
//!
//! Source: the Puffin specification, section "deletion-vector-v1 blob type": the length of what follows it (4 bytes,
//! big-endian), the magic, a 64-bit Roaring bitmap in portable form, and the CRC-32 of magic and bitmap (4 bytes,
//! big-endian). The blob is not compressed.
//!
//! A Puffin file holds one vector. The specification allows several; but DuckDB 1.5.5 with its default settings hands out
//! the preceding range of its file cache for a vector that adjoins another, and so applies one data file's vector to
//! the next, silently.

use iceberg::io::FileIO;
use iceberg::puffin::{CREATED_BY_PROPERTY, DELETION_VECTOR_V1};
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat};
use roaring::RoaringTreemap;

use crate::catalog::write_file;
use crate::error::{At, ExportError, Result};

const MAGIC: [u8; 4] = [0xD1, 0xD3, 0x39, 0x64];
/// What a Puffin file and its footer begin and end with.
const PUFFIN_MAGIC: [u8; 4] = *b"PFA1";
/// The field id that the specification reserves for a row's position in its file.
const ROW_POSITION_FIELD_ID: i32 = 2_147_483_645;
/// A vector takes its snapshot and sequence number from the manifest that lists it.
const INHERITED: i64 = -1;

pub(crate) fn encode(positions: &RoaringTreemap) -> std::io::Result<Vec<u8>> {
    let mut bitmap = positions.clone();
    bitmap.optimize();
    let mut blob = vec![0; 4];
    blob.extend_from_slice(&MAGIC);
    bitmap.serialize_into(&mut blob)?;
    let checked = blob.get(4..).unwrap_or_default();
    let length = u32::try_from(checked.len()).map_err(std::io::Error::other)?;
    let checksum = crc32fast::hash(checked);
    blob.extend_from_slice(&checksum.to_be_bytes());
    if let Some(head) = blob.get_mut(..4) {
        head.copy_from_slice(&length.to_be_bytes());
    }
    Ok(blob)
}

pub(crate) fn decode(blob: &[u8]) -> Result<RoaringTreemap, String> {
    let (length, rest) = blob
        .split_first_chunk::<4>()
        .ok_or("shorter than its length field")?;
    let (checked, checksum) = rest
        .split_last_chunk::<4>()
        .ok_or("shorter than its checksum")?;
    if u64::from(u32::from_be_bytes(*length)) != checked.len() as u64 {
        return Err(format!(
            "its length says {} bytes, there are {}",
            u32::from_be_bytes(*length),
            checked.len()
        ));
    }
    if u32::from_be_bytes(*checksum) != crc32fast::hash(checked) {
        return Err("its checksum does not match".to_owned());
    }
    let bitmap = checked
        .strip_prefix(&MAGIC)
        .ok_or("it does not start with the magic of a deletion vector")?;
    RoaringTreemap::deserialize_from(bitmap).map_err(|error| format!("its bitmap: {error}"))
}

/// Reads the vector of a manifest entry.
pub(crate) async fn read(file_io: &FileIO, entry: &DataFile) -> Result<RoaringTreemap> {
    let place = entry.file_path();
    let range = entry
        .content_offset()
        .zip(entry.content_size_in_bytes())
        .and_then(|(offset, size)| {
            let offset = u64::try_from(offset).ok()?;
            let end = offset.checked_add(u64::try_from(size).ok()?)?;
            (end <= entry.file_size_in_bytes()).then_some(offset..end)
        });
    let range = range
        .ok_or_else(|| ExportError::corrupt(place, "no place of the vector within the file"))?;
    let offset = range.start;
    let blob = file_io
        .new_input(place)
        .at(place)?
        .reader()
        .await
        .at(place)?
        .read(range)
        .await
        .at(place)?;
    decode(&blob).map_err(|reason| {
        ExportError::corrupt(place, format!("deletion vector at byte {offset}: {reason}"))
    })
}

/// A Puffin file of one vector: magic, blob, and a footer of magic, description, its length, flags and magic.
///
/// Source: the Puffin specification, section "File structure".
fn file(data_file: &str, cardinality: u64, vector: &[u8]) -> Result<Vec<u8>, String> {
    let description = serde_json::json!({
        "blobs": [{
            "type": DELETION_VECTOR_V1,
            "fields": [ROW_POSITION_FIELD_ID],
            "snapshot-id": INHERITED,
            "sequence-number": INHERITED,
            "offset": PUFFIN_MAGIC.len(),
            "length": vector.len(),
            "properties": {
                "referenced-data-file": data_file,
                "cardinality": cardinality.to_string(),
            },
        }],
        "properties": {
            CREATED_BY_PROPERTY: concat!("moonshine version ", env!("CARGO_PKG_VERSION")),
        },
    });
    let description = description.to_string();
    let length = u32::try_from(description.len()).map_err(|error| error.to_string())?;
    let magic = PUFFIN_MAGIC.as_slice();
    let file = [
        magic,
        vector,
        magic,
        description.as_bytes(),
        &length.to_le_bytes(),
        // No flag: the description is not compressed.
        &[0; 4],
        magic,
    ];
    Ok(file.concat())
}

/// Writes the vector of one data file.
pub(crate) async fn write(
    file_io: &FileIO,
    path: String,
    data_file: &str,
    positions: &RoaringTreemap,
) -> Result<DataFile> {
    let vector = encode(positions).map_err(|error| ExportError::unavailable(&path, error))?;
    let file = file(data_file, positions.len(), &vector);
    let file = file.map_err(|reason| ExportError::unavailable(&path, reason))?;
    let file_size = file.len() as u64;
    write_file(file_io, &path, file.into()).await?;
    DataFileBuilder::default()
        .content(DataContentType::PositionDeletes)
        .file_path(path.clone())
        .file_format(DataFileFormat::Puffin)
        .record_count(positions.len())
        .file_size_in_bytes(file_size)
        .referenced_data_file(Some(data_file.to_owned()))
        .content_offset(i64::try_from(PUFFIN_MAGIC.len()).ok())
        .content_size_in_bytes(i64::try_from(vector.len()).ok())
        .build()
        .map_err(|error| ExportError::corrupt(&path, error))
}
