//! Stores: every kind keeps, lists and removes files as the exporter needs it, at real servers.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::TryStreamExt;
use iceberg::ErrorKind;
use moonshine_export::store::{Store, StoreProperties, StoredFile};

use crate::servers::{AzureServer, GcsServer, S3Kind, S3Server};

/// More than two parts of a file.
const LARGE_BYTES: usize = 20 << 20;

fn store(location: &str, properties: BTreeMap<String, String>) -> Store {
    let properties: StoreProperties = properties.into_iter().collect();
    Store::open(location, &properties).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn local_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = format!("file://{}", folder.path().display());
    let store = store(&root, BTreeMap::new());
    keeps_files(&store, &root).await;
    only_the_first_is_put(&store, &format!("{root}/once")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3() {
    let folder = tempfile::tempdir().unwrap();
    for server in S3Server::start_all(folder.path()) {
        let root = server.bucket();
        let right = store(&root, server.properties());
        keeps_files(&right, &root).await;
        only_the_first_is_put(&right, &format!("{root}/once")).await;
        if server.kind == S3Kind::Versity {
            let mut wrong = server.properties();
            wrong.insert("s3.secret-access-key".into(), "wrong".into());
            let store = store(&root, wrong);
            let error = store.put_if_absent(&format!("{root}/x"), "x".into()).await;
            let error = error.unwrap_err().to_string();
            assert!(
                error.contains("403") || error.contains("denied") || error.contains("privileges"),
                "{error}"
            );
            assert!(!error.contains("wrong"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn azure() {
    let folder = tempfile::tempdir().unwrap();
    if let Some(server) = AzureServer::start(folder.path()) {
        let root = server.container();
        let store = store(&root, server.properties());
        keeps_files(&store, &root).await;
        only_the_first_is_put(&store, &format!("{root}/once")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gcs() {
    let folder = tempfile::tempdir().unwrap();
    if let Some(server) = GcsServer::start(folder.path()) {
        let root = server.bucket();
        let right = store(&root, server.properties());
        keeps_files(&right, &root).await;
        only_the_first_is_put(&right, &format!("{root}/once")).await;
        let mut wrong = server.properties();
        wrong.insert("gcs.oauth2.token".into(), "wrong".into());
        let store = store(&root, wrong);
        let error = store.put_if_absent(&format!("{root}/x"), "x".into()).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("401"), "{error}");
        assert!(!error.contains("wrong"), "{error}");
    }
}

async fn list(store: &Store, folder: &str) -> Vec<StoredFile> {
    let mut files: Vec<StoredFile> = store.list(folder).try_collect().await.unwrap();
    files.sort_by(|left, right| left.location.cmp(&right.location));
    files
}

fn pattern(length: usize) -> Bytes {
    (0..length).map(|index| (index % 251) as u8).collect()
}

async fn write_in_pieces(store: &Store, location: &str, bytes: &Bytes, piece: usize) {
    let mut writer = store
        .file_io()
        .new_output(location)
        .unwrap()
        .writer()
        .await
        .unwrap();
    for piece in bytes.chunks(piece) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    writer.close().await.unwrap();
    assert!(writer.write("more".into()).await.is_err());
}

async fn keeps_files(store: &Store, root: &str) {
    let folder = format!("{root}/w/table");
    assert_eq!(list(store, &folder).await, []);
    let file_io = store.file_io();
    let names = [
        "data/p=a b/1.parquet",
        "data/p=%2F/ü+&=~'.parquet",
        "metadata/x.json",
    ];
    let locations = names.map(|name| format!("{folder}/{name}"));
    for (location, length) in locations.iter().zip([0, 5, LARGE_BYTES]) {
        let bytes = pattern(length);
        write_in_pieces(store, location, &bytes, 3_000_000).await;
        let input = file_io.new_input(location).unwrap();
        assert_eq!(input.metadata().await.unwrap().size, length as u64);
        assert_eq!(input.read().await.unwrap(), bytes);
        assert!(file_io.exists(location).await.unwrap());
    }
    let large = file_io
        .new_input(&locations[2])
        .unwrap()
        .reader()
        .await
        .unwrap();
    let range = (8 << 20) - 3..(8 << 20) + 4;
    let part = large.read(range.clone()).await.unwrap();
    assert_eq!(
        part,
        pattern(LARGE_BYTES)[range.start as usize..range.end as usize]
    );

    let listed = list(store, &folder).await;
    let mut expected = locations.to_vec();
    expected.sort();
    let found: Vec<&String> = listed.iter().map(|file| &file.location).collect();
    assert_eq!(found, expected.iter().collect::<Vec<_>>());
    assert!(
        listed
            .iter()
            .all(|file| file.modified_ms > 1_600_000_000_000)
    );
    assert_eq!(
        listed.iter().map(|file| file.size_bytes).sum::<u64>(),
        5 + LARGE_BYTES as u64
    );
    assert_eq!(
        list(store, &format!("{root}/w/tab")).await,
        [],
        "a folder, not a prefix"
    );

    unfinished_files_are_not_there(store, &folder).await;
    file_io.delete(&locations[0]).await.unwrap();
    file_io.delete(&locations[0]).await.unwrap();
    let rest = futures::stream::iter(locations[1..2].to_vec());
    file_io.delete_stream(rest).await.unwrap();
    assert_eq!(list(store, &format!("{folder}/data")).await, []);
    let missing = file_io
        .new_input(&locations[0])
        .unwrap()
        .read()
        .await
        .unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::DataInvalid, "{missing}");
    assert!(!file_io.exists(&locations[0]).await.unwrap());
    file_io.delete_prefix(&folder).await.unwrap();
    assert_eq!(list(store, root).await, []);
    let elsewhere = file_io.new_input("s3://elsewhere/x").unwrap();
    assert!(elsewhere.read().await.is_err());
}

async fn only_the_first_is_put(store: &Store, location: &str) {
    let put = |text: &'static str| store.put_if_absent(location, text.into());
    let (one, two) = tokio::join!(put("one"), put("two"));
    let put_one = one.unwrap();
    assert_ne!(put_one, two.unwrap(), "one of both");
    assert!(!put("three").await.unwrap());
    let text = store
        .file_io()
        .new_input(location)
        .unwrap()
        .read()
        .await
        .unwrap();
    assert_eq!(text, if put_one { "one" } else { "two" });
}

/// Local files are there from their beginning, and nobody refers to them.
async fn unfinished_files_are_not_there(store: &Store, folder: &str) {
    if folder.starts_with("file:") {
        return;
    }
    let location = format!("{folder}/unfinished");
    let mut writer = store
        .file_io()
        .new_output(&location)
        .unwrap()
        .writer()
        .await
        .unwrap();
    writer.write(pattern(LARGE_BYTES)).await.unwrap();
    drop(writer);
    assert!(!store.file_io().exists(&location).await.unwrap());
}
