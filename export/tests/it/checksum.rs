//! Invariant 8 "honest": data files that hold other rows than those that were exported are found out.

use moonshine_export::{ExportError, IcebergReader};

use crate::support::{VERSIONS, World, ident, notes, write_notes};

/// A world whose one table holds that note, and its only data file.
async fn exported(
    version: moonshine_export::FormatVersion,
    note: &str,
) -> (World, std::path::PathBuf) {
    let world = World::new(version);
    let database = world.database();
    let table = notes(&database);
    write_notes(&database, &table, [(1, note.to_owned())], &[]);
    let mut exporter = world.exporter(&database).await.unwrap();
    exporter.tick(&database.snapshot()).await.unwrap();
    let location = world
        .metadata(&ident("shop", "notes"))
        .await
        .location()
        .to_owned();
    let folder = std::path::Path::new(location.strip_prefix("file://").unwrap()).join("data");
    let files = std::fs::read_dir(folder).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    let [file] = files.try_into().unwrap();
    (world, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_file_with_other_rows_is_found_out() {
    for version in VERSIONS {
        let (world, file) = exported(version, "right").await;
        let (_elsewhere, other) = exported(version, "wrong").await;
        let database = world.database();
        let table = notes(&database);
        let token = database.exported(&table).unwrap().token;
        let reader = IcebergReader::open(&world.config()).await.unwrap();
        assert!(reader.check_rows(&table, &token).await.unwrap());
        assert_eq!(
            std::fs::metadata(&other).unwrap().len(),
            std::fs::metadata(&file).unwrap().len()
        );
        std::fs::copy(other, file).unwrap();
        let error = reader.check_rows(&table, &token).await.unwrap_err();
        assert!(matches!(&error, ExportError::Corrupt { .. }), "{error}");
    }
}
