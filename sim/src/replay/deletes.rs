//! Deleted rows: position delete files of format 2 and deletion vectors of format 3.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use bytes::Bytes;
use roaring::RoaringTreemap;
use serde_json::Value as Json;

use super::data::batches;
use super::manifest::File;
use super::{Finding, Result, ensure};

const FILE_PATH: i32 = 2_147_483_546;
const POSITION: i32 = 2_147_483_545;
const VECTOR_MAGIC: [u8; 4] = [0xD1, 0xD3, 0x39, 0x64];
const PUFFIN_MAGIC: &[u8] = b"PFA1";

/// Positions by the data file that they are of.
pub(super) type Deleted = BTreeMap<String, BTreeSet<u64>>;

/// What a delete file deletes.
pub(super) fn read(file: &File, bytes: &Bytes) -> Result<Deleted> {
    let deleted = match file.format.as_str() {
        "puffin" => vector(file, bytes)?,
        "parquet" => positions(file, bytes)?,
        other => return Err(Finding::new(&file.path, format!("deletes as {other}"))),
    };
    let count: usize = deleted.values().map(BTreeSet::len).sum();
    ensure(count as i64 == file.record_count, &file.path, || {
        format!("{count} deletes, and its entry says {}", file.record_count)
    })?;
    if let Some(data_file) = &file.referenced_data_file {
        ensure(
            deleted.keys().all(|path| path == data_file),
            &file.path,
            || format!("deletes of other files than {data_file}"),
        )?;
    }
    Ok(deleted)
}

fn positions(file: &File, bytes: &Bytes) -> Result<Deleted> {
    let place = &file.path;
    let (batches, columns) = batches(place, bytes.clone())?;
    let missing = || Finding::new(place, "it lacks a path or a position");
    let (paths, positions) = (columns.get(&FILE_PATH), columns.get(&POSITION));
    let (paths, positions) = (paths.ok_or_else(missing)?, positions.ok_or_else(missing)?);
    let mut deleted = Deleted::new();
    let mut last: Option<(String, u64)> = None;
    for batch in &batches {
        let paths = batch.column(*paths).as_string_opt::<i32>();
        let positions = batch.column(*positions).as_primitive_opt::<Int64Type>();
        let (paths, positions) = paths.zip(positions).ok_or_else(missing)?;
        for (path, position) in paths.iter().zip(positions) {
            let (path, position) = path.zip(position).ok_or_else(missing)?;
            let position = u64::try_from(position).map_err(|_| missing())?;
            let next = (path.to_owned(), position);
            ensure(last.as_ref().is_none_or(|last| *last < next), place, || {
                format!("{next:?} is not in its order")
            })?;
            deleted.entry(path.to_owned()).or_default().insert(position);
            last = Some(next);
        }
    }
    Ok(deleted)
}

fn range(bytes: &Bytes, start: usize, length: usize) -> Option<&[u8]> {
    bytes.get(start..start.checked_add(length)?)
}

fn array<const N: usize>(bytes: &[u8], start: usize) -> Option<[u8; N]> {
    bytes.get(start..start.checked_add(N)?)?.try_into().ok()
}

/// A blob of type `deletion-vector-v1`.
fn vector(file: &File, bytes: &Bytes) -> Result<Deleted> {
    let place = &file.path;
    let failed = |what: &str| Finding::new(place, what);
    let data_file = file.referenced_data_file.clone();
    let data_file = data_file.ok_or_else(|| failed("a vector of no data file"))?;
    let (offset, size) = file
        .content_offset
        .zip(file.content_size_bytes)
        .ok_or_else(|| failed("a vector without a place"))?;
    check_footer(file, bytes, offset, size)?;
    let place_of = |number: i64| usize::try_from(number).map_err(|_| failed("a negative place"));
    let blob = range(bytes, place_of(offset)?, place_of(size)?);
    let blob = blob.ok_or_else(|| failed("a vector beyond the end of its file"))?;
    let parse = || {
        let length = u32::from_be_bytes(array(blob, 0)?) as usize;
        let body = blob.get(4..4_usize.checked_add(length)?)?;
        let checksum = u32::from_be_bytes(array(blob, 4 + length)?);
        (blob.len() == length + 8).then_some((body, checksum))
    };
    let (body, checksum) = parse().ok_or_else(|| failed("a vector of another length"))?;
    ensure(body.starts_with(&VECTOR_MAGIC), place, || {
        "a vector without its magic".to_owned()
    })?;
    ensure(crc32fast::hash(body) == checksum, place, || {
        "a vector's checksum".to_owned()
    })?;
    let mut rest = body.get(VECTOR_MAGIC.len()..).unwrap_or_default();
    let positions = RoaringTreemap::deserialize_from(&mut rest);
    let positions = positions.map_err(|error| Finding::new(place, error))?;
    ensure(rest.is_empty(), place, || {
        "bytes behind a vector".to_owned()
    })?;
    Ok(Deleted::from([(
        data_file,
        positions.into_iter().collect(),
    )]))
}

/// The Puffin footer names the blob.
fn check_footer(file: &File, bytes: &Bytes, offset: i64, size: i64) -> Result<()> {
    let parse = || {
        let tail = bytes.len().checked_sub(12)?;
        let is_marked = bytes.starts_with(PUFFIN_MAGIC) && bytes.ends_with(PUFFIN_MAGIC);
        let length = u32::from_le_bytes(array(bytes, tail)?) as usize;
        let start = tail.checked_sub(length)?;
        let is_marked = is_marked && range(bytes, start.checked_sub(4)?, 4)? == PUFFIN_MAGIC;
        let json: Json = serde_json::from_slice(range(bytes, start, length)?).ok()?;
        is_marked.then_some(json)
    };
    let json = parse().ok_or_else(|| Finding::new(&file.path, "it is no Puffin file"))?;
    let blobs = json.get("blobs").and_then(Json::as_array);
    let is_it = |blob: &&Json| {
        let number = |name: &str| blob.get(name).and_then(Json::as_i64);
        let property = |name: &str| blob.get("properties")?.get(name)?.as_str();
        blob.get("type").and_then(Json::as_str) == Some("deletion-vector-v1")
            && number("offset") == Some(offset)
            && number("length") == Some(size)
            && property("referenced-data-file") == file.referenced_data_file.as_deref()
            && property("cardinality") == Some(&file.record_count.to_string())
    };
    ensure(
        blobs.into_iter().flatten().any(|blob| is_it(&blob)),
        &file.path,
        || format!("its footer names no such vector: {json}"),
    )
}
