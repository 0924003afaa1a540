use std::sync::Arc;

use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, ManifestContentType, ManifestFile,
    ManifestListWriter, ManifestWriterBuilder, NestedField, Operation, PartitionSpec,
    PrimitiveType, Schema, Snapshot, SortOrder, Struct, Summary, TableMetadata,
    TableMetadataBuilder, Type,
};

use super::*;

const SNAPSHOT_ID: i64 = 1;

struct Files {
    file_io: FileIO,
    metadata: TableMetadata,
    snapshot: Snapshot,
}

fn data_file(path: &str) -> DataFile {
    file(path, DataContentType::Data, None)
}

fn file(path: &str, content: DataContentType, deletes_of: Option<&str>) -> DataFile {
    DataFileBuilder::default()
        .content(content)
        .file_path(path.to_owned())
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .partition_spec_id(0)
        .record_count(10)
        .file_size_in_bytes(100)
        .referenced_data_file(deletes_of.map(str::to_owned))
        .build()
        .unwrap()
}

async fn write_manifest(
    file_io: &FileIO,
    number: usize,
    content: ManifestContentType,
    files: Vec<DataFile>,
) -> ManifestFile {
    let field = NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long));
    let schema = Schema::builder().with_fields([field.into()]).build();
    let builder = ManifestWriterBuilder::new(
        file_io
            .new_output(format!("memory:///m/{number}.avro"))
            .unwrap(),
        Some(SNAPSHOT_ID),
        Arc::new(schema.unwrap()),
        PartitionSpec::unpartition_spec(),
    );
    let mut writer = match content {
        ManifestContentType::Data => builder.build_v3_data(),
        ManifestContentType::Deletes => builder.build_v3_deletes(),
    };
    for file in files {
        writer.add_file(file, -1).unwrap();
    }
    writer.write_manifest_file().await.unwrap()
}

impl Files {
    async fn new(manifests: Vec<(ManifestContentType, Vec<DataFile>)>) -> Files {
        let file_io = FileIO::new_with_memory();
        let place = "memory:///m/list.avro";
        let output = file_io.new_output(place).unwrap().writer().await.unwrap();
        let mut list = ManifestListWriter::v3(output, SNAPSHOT_ID, None, 1, Some(0));
        for (number, (content, files)) in manifests.into_iter().enumerate() {
            let manifest = write_manifest(&file_io, number, content, files).await;
            list.add_manifests([manifest].into_iter()).unwrap();
        }
        list.close().await.unwrap();
        let snapshot = Snapshot::builder()
            .with_snapshot_id(SNAPSHOT_ID)
            .with_sequence_number(1)
            .with_timestamp_ms(0)
            .with_manifest_list(place)
            .with_summary(Summary {
                operation: Operation::Append,
                additional_properties: HashMap::new(),
            })
            .with_row_range(0, 0)
            .build();
        let builder = TableMetadataBuilder::new(
            Schema::builder().build().unwrap(),
            PartitionSpec::unpartition_spec(),
            SortOrder::unsorted_order(),
            "memory:///m".to_owned(),
            iceberg::spec::FormatVersion::V3,
            HashMap::new(),
        );
        Files {
            file_io,
            metadata: builder.unwrap().build().unwrap().metadata,
            snapshot,
        }
    }

    async fn list(&self, cache: &mut ManifestCache) -> Arc<Listing> {
        let listing = cache.list(&self.file_io, &self.metadata, Some(&self.snapshot));
        listing.await.unwrap()
    }

    async fn find(
        &self,
        cache: &mut ManifestCache,
        content: ManifestContentType,
        of: &str,
    ) -> Result<Vec<String>> {
        let listing = self.list(cache).await;
        let found = cache.find(&self.file_io, &listing, content, [of]).await?;
        let paths = found.of(of).map(|(_, _, entry)| entry.file.file_path());
        Ok(paths.map(str::to_owned).collect())
    }
}

/// Invariant 7 "bounded": entries go where there is no room, and are read again.
#[tokio::test]
async fn entries_are_found_with_room_for_few_and_for_all() {
    let manifest = |name: &'static str| {
        let files = (0..3).map(|number| data_file(&format!("{name}{number}")));
        (ManifestContentType::Data, files.collect())
    };
    let deletes = vec![file("d", DataContentType::PositionDeletes, Some("b1"))];
    let deletes = (ManifestContentType::Deletes, deletes);
    let files = Files::new(vec![manifest("a"), manifest("b"), deletes]).await;
    for bytes_max in [0, 3_000, 1 << 20] {
        let mut cache = ManifestCache::with_room(bytes_max);
        for path in ["a1", "b0", "a2", "b2", "a1"] {
            let data = ManifestContentType::Data;
            assert_eq!(files.find(&mut cache, data, path).await.unwrap(), [path]);
            assert!(cache.entries_bytes() <= bytes_max);
            let none = files.find(&mut cache, data, "c").await.unwrap();
            assert!(none.is_empty());
        }
        let deletes = ManifestContentType::Deletes;
        assert_eq!(files.find(&mut cache, deletes, "b1").await.unwrap(), ["d"]);
        let none = files.find(&mut cache, deletes, "b2").await.unwrap();
        assert!(none.is_empty());
        let listing = files.list(&mut cache).await;
        assert_eq!(listing.manifests.len(), 3);
        let all = cache.load(&files.file_io, &files.metadata, Some(&files.snapshot));
        let all = all.await.unwrap();
        assert_eq!((all.data.len(), all.deletes.len()), (2, 1));
        assert_eq!(all.data_files().count(), 6);
        assert!(cache.entries_bytes() <= bytes_max);
    }
}

/// Whoever looks for deletes learns of those that may be of any file.
#[tokio::test]
async fn deletes_of_others_are_named() {
    let of_all = file("e", DataContentType::EqualityDeletes, None);
    let of_many = file("p", DataContentType::PositionDeletes, None);
    for (foreign, reason) in [(of_all, "equality"), (of_many, "several data files")] {
        let files = vec![(ManifestContentType::Data, vec![data_file("a")])];
        let deletes = vec![(ManifestContentType::Deletes, vec![foreign])];
        let files = Files::new([files, deletes].concat()).await;
        let mut cache = ManifestCache::default();
        let data = ManifestContentType::Data;
        assert_eq!(files.find(&mut cache, data, "a").await.unwrap(), ["a"]);
        let deletes = ManifestContentType::Deletes;
        let error = files.find(&mut cache, deletes, "a").await.unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}
