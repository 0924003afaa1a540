use iceberg::puffin::PuffinReader;

use super::*;

fn positions() -> Positions {
    let dense: RoaringTreemap = (0..100_000).collect();
    let wide = RoaringTreemap::from_iter([0, 7, u64::from(u32::MAX), 1 << 40]);
    Positions::from([
        ("file:///d/a.parquet".to_owned(), dense),
        ("file:///d/b.parquet".to_owned(), wide),
    ])
}

async fn round_trip(version: FormatVersion) -> Vec<DataFile> {
    let file_io = FileIO::new_with_memory();
    let mut started = Vec::new();
    let path = |number: usize, extension: &str| format!("memory:///t/data/{number}.{extension}");
    let entries = write_positions(&file_io, version, &positions(), path, &mut started)
        .await
        .unwrap();
    for (entry, (data_file, positions)) in entries.iter().zip(&positions()) {
        assert!(started.contains(&entry.file_path().to_owned()));
        assert_eq!(entry.content_type(), DataContentType::PositionDeletes);
        assert_eq!(entry.referenced_data_file().as_ref(), Some(data_file));
        assert_eq!(entry.record_count(), positions.len());
        assert_eq!(&read_positions(&file_io, entry).await.unwrap(), positions);
    }
    assert_eq!(entries.len(), positions().len());
    entries
}

/// DuckDB 1.5.5 applies the vectors of a shared file to the wrong data files.
#[tokio::test]
async fn vectors_have_a_file_each_and_come_back() {
    let entries = round_trip(FormatVersion::V3).await;
    assert_ne!(entries[0].file_path(), entries[1].file_path());
    for entry in entries {
        assert_eq!(entry.content_offset(), Some(4));
    }
}

/// The file itself, as the reader of Iceberg's own crate finds it.
#[tokio::test]
async fn a_vector_s_file_is_as_puffin_prescribes() {
    let file_io = FileIO::new_with_memory();
    let (path, data_file) = ("memory:///t/v.puffin", "file:///d/a.parquet");
    let positions = RoaringTreemap::from_iter([1, 5, 1 << 40]);
    let entry = vector::write(&file_io, path.to_owned(), data_file, &positions).await;
    let entry = entry.unwrap();
    let file = file_io.new_input(path).unwrap();
    assert_eq!(
        file.metadata().await.unwrap().size,
        entry.file_size_in_bytes()
    );
    let reader = PuffinReader::new(file);
    let description = reader.file_metadata().await.unwrap();
    let created_by = &description.properties()["created-by"];
    assert!(created_by.starts_with("moonshine version"), "{created_by}");
    let [described] = description.blobs() else {
        panic!("{description:?}");
    };
    assert_eq!(described.properties()["referenced-data-file"], data_file);
    assert_eq!(described.properties()["cardinality"], "3");
    let blob = reader.blob(described).await.unwrap();
    assert_eq!(blob.blob_type(), "deletion-vector-v1");
    assert_eq!((blob.snapshot_id(), blob.sequence_number()), (-1, -1));
    assert_eq!(
        Some(blob.data().len() as i64),
        entry.content_size_in_bytes()
    );
    assert_eq!(vector::decode(blob.data()).unwrap(), positions);
}

#[tokio::test]
async fn position_files_belong_to_one_data_file_each() {
    let entries = round_trip(FormatVersion::V2).await;
    assert_ne!(entries[0].file_path(), entries[1].file_path());
    for entry in entries {
        assert_eq!(
            entry.lower_bounds().get(&2_147_483_546),
            entry.upper_bounds().get(&2_147_483_546)
        );
        assert_eq!(entry.sort_order_id(), None);
    }
}

#[tokio::test]
async fn scattered_positions_take_few_bytes() {
    let mut position = 0;
    let scattered = (1..=10_000_u64).map(|number| {
        position += 1 + number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 199;
        position
    });
    let scattered: RoaringTreemap = scattered.collect();
    let file_io = FileIO::new_with_memory();
    let path = "memory:///t/data/0.parquet".to_owned();
    let entry = position::write(&file_io, path, "file:///d/a.parquet", &scattered).await;
    let (entry, count) = (entry.unwrap(), scattered.len());
    let size_bytes = entry.file_size_in_bytes();
    assert!(size_bytes < count * 5 / 2, "{size_bytes} for {count}");
}

/// The bytes that the specification prescribes, put together by hand for the positions 1 and 5.
#[test]
fn a_vector_is_encoded_as_specified() {
    let bitmap: &[u8] = &[
        1, 0, 0, 0, 0, 0, 0, 0, // one 32-bit bitmap
        0, 0, 0, 0, // of the high half 0
        0x3A, 0x30, 0, 0, 1, 0, 0, 0, // cookie without runs, one container
        0, 0, 1, 0, // key 0, cardinality 2 - 1
        16, 0, 0, 0, // offset of the container
        1, 0, 5, 0,
    ];
    let blob = vector::encode(&RoaringTreemap::from_iter([1, 5])).unwrap();
    let checked: Vec<u8> = [0xD1, 0xD3, 0x39, 0x64]
        .iter()
        .chain(bitmap)
        .copied()
        .collect();
    assert_eq!(blob[..4], (checked.len() as u32).to_be_bytes());
    assert_eq!(&blob[4..blob.len() - 4], checked);
    assert_eq!(
        blob[blob.len() - 4..],
        crc32fast::hash(&checked).to_be_bytes()
    );
}

#[test]
fn every_damaged_byte_of_a_vector_is_noticed() {
    let blob = vector::encode(&RoaringTreemap::from_iter([1, 5, 70_000, 1 << 33])).unwrap();
    assert!(vector::decode(&blob).is_ok());
    for index in 0..blob.len() {
        let mut damaged = blob.clone();
        damaged[index] ^= 0x10;
        assert!(vector::decode(&damaged).is_err(), "byte {index}");
        assert!(vector::decode(&blob[..index]).is_err(), "cut at {index}");
    }
}
