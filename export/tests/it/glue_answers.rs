//! What Glue's answers mean for a commit: beside a server whose answers the test writes.

use std::collections::HashMap;

use iceberg::TableUpdate;
use iceberg::io::FileIO;
use moonshine_export::ExportError;
use moonshine_export::catalog::{
    CatalogTable, Change, CommitOutcome, LocationCatalog, TableCatalog,
};
use uuid::Uuid;

use crate::rest_answers::{MISMATCH, ScriptedServer, answer, table_at};
use crate::support::ident;

/// A table in a folder, and the catalog at the server.
struct Scene {
    folder: tempfile::TempDir,
    table: CatalogTable,
    server: ScriptedServer,
    catalog: LocationCatalog,
}

impl Scene {
    async fn new(answers: &[&str]) -> Scene {
        Self::with(|_| answers.iter().map(ToString::to_string).collect()).await
    }

    /// With the answers that `answers` makes of the table.
    async fn with(answers: impl FnOnce(&CatalogTable) -> Vec<String>) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let location = format!("file://{}", folder.path().display());
        let file_io = FileIO::new_with_fs();
        let table = CatalogTable {
            metadata_location: format!("{location}/metadata/00003-x.metadata.json"),
            file_io,
            ..table_at(&location)
        };
        let answers = answers(&table);
        let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
        let server = ScriptedServer::start(&answers).await;
        let config = serde_json::json!({
            "catalog_type": "glue", "catalog_uri": server.uri, "warehouse_path": location,
            "glue": { "region": "eu-west-1", "catalog_id": "123456789012" },
            "store": {
                "s3.access-key-id": "me", "s3.secret-access-key": "hush", "s3.session-token": "hushed",
            },
        });
        let config = serde_json::from_value(config).unwrap();
        let catalog = LocationCatalog::glue(&config).unwrap();
        Scene {
            folder,
            table,
            server,
            catalog,
        }
    }

    async fn commit(&self) -> CommitOutcome {
        let updates = HashMap::from([("a".to_owned(), "b".to_owned())]);
        let change = vec![TableUpdate::SetProperties { updates }];
        let change = Change::of(&self.table.metadata, change);
        self.catalog
            .commit(&self.table, &change, Uuid::new_v4())
            .await
    }

    fn metadata_files(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("metadata")).map_or(0, Iterator::count)
    }
}

/// Glue's table, with its metadata there.
fn glue_table(metadata_location: &str) -> String {
    let parameters = serde_json::json!({
        "table_type": "iceberg", "metadata_location": metadata_location, "theirs": "kept",
    });
    let body = serde_json::json!({ "Table": {
        "Name": "notes", "VersionId": "7", "Owner": "somebody", "CreateTime": 1.5e9,
        "Parameters": parameters,
        "StorageDescriptor": { "Columns": [{ "Name": "id", "Comment": "of the note" }] },
    } });
    answer("200 OK", "", &body.to_string())
}

fn error(status: &str, name: &str) -> String {
    let body = format!(r#"{{"__type": "com.amazonaws.glue#{name}", "Message": "so it is"}}"#);
    answer(status, "", &body)
}

/// What became of a commit; its metadata file stays where the table may refer to it, and is removed elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_what_became_of_a_commit() {
    let bad = |name| error("400 Bad Request", name);
    let lost = String::new();
    for (answered, outcome, files) in [
        (answer("200 OK", "", "{}"), "committed", 1),
        (bad("ConcurrentModificationException"), "conflict", 1),
        (bad("ThrottlingException"), "busy", 0),
        (bad("ResourceNotReadyException"), "busy", 0),
        (bad("AccessDeniedException"), "refused", 0),
        (bad("EntityNotFoundException"), "refused", 0),
        (bad("OperationTimeoutException"), "unknown", 1),
        (
            error("500 Internal Server Error", "InternalServiceException"),
            "unknown",
            1,
        ),
        (answer("504 Gateway Timeout", "", "<html>"), "unknown", 1),
        (answer("200 OK", "", "<html>"), "unknown", 1),
        (lost, "unknown", 1),
    ] {
        let found = |table: &CatalogTable| glue_table(&table.metadata_location);
        let scene = Scene::with(|table| vec![found(table), answered.clone()]).await;
        let became = scene.commit().await;
        let name = match &became {
            CommitOutcome::Committed(table) => {
                assert!(table.metadata_location.contains("/metadata/00004-"));
                "committed"
            }
            CommitOutcome::Conflict => "conflict",
            CommitOutcome::Busy { .. } => "busy",
            CommitOutcome::Refused(_) => "refused",
            CommitOutcome::Unknown(_) => "unknown",
        };
        assert_eq!(
            (name, scene.metadata_files()),
            (outcome, files),
            "{answered}: {became:?}"
        );
        let asked = scene.server.asked.lock();
        assert_eq!(asked.len(), 2, "an update is sent once");
        assert!(
            asked[0].contains("x-amz-target: AWSGlue.GetTable"),
            "{}",
            asked[0]
        );
        let (head, body) = asked[1].split_once("\r\n\r\n").unwrap();
        assert!(head.contains("x-amz-target: AWSGlue.UpdateTable"), "{head}");
        assert!(head.contains("/eu-west-1/glue/aws4_request"), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (&body["VersionId"], &body["CatalogId"]),
            (&"7".into(), &"123456789012".into())
        );
        let input = &body["TableInput"];
        assert_eq!(
            (&input["Owner"], &input["Parameters"]["theirs"]),
            (&"somebody".into(), &"kept".into())
        );
        assert_eq!(
            input["Parameters"]["previous_metadata_location"],
            scene.table.metadata_location
        );
        let columns = &input["StorageDescriptor"]["Columns"];
        assert_eq!(columns[0]["Comment"], "of the note");
        assert!(input.get("CreateTime").is_none());
    }
}

/// A table that moved on is seen before anything is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_moved_on_is_a_conflict() {
    let scene = Scene::new(&[&glue_table("file:///elsewhere")]).await;
    let outcome = scene.commit().await;
    assert!(matches!(outcome, CommitOutcome::Conflict), "{outcome:?}");
    assert_eq!(scene.metadata_files(), 0);
    assert_eq!(scene.server.asked.lock().len(), 1);
}

/// While Glue is busy, what changes nothing is asked again; a table of another kind is not taken for one that is missing.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_in_glue() {
    let busy = error("400 Bad Request", "ThrottlingException");
    let missing = error("400 Bad Request", "EntityNotFoundException");
    let hive = answer(
        "200 OK",
        "",
        r#"{"Table": {"Name": "notes", "Parameters": {}}}"#,
    );
    let denied = error("400 Bad Request", "AccessDeniedException");
    let scene = Scene::new(&[&busy, &missing, &hive, &denied]).await;
    let name = ident("shop", "notes");
    assert!(scene.catalog.load(&name).await.unwrap().is_none());
    let foreign = scene.catalog.load(&name).await.unwrap_err();
    assert!(matches!(foreign, ExportError::Foreign { .. }), "{foreign}");
    let denied = scene.catalog.load(&name).await.unwrap_err();
    assert!(
        denied.to_string().contains("AccessDeniedException"),
        "{denied}"
    );
    assert!(!format!("{:?}", scene.catalog).contains("hush"));
}

/// Of a signature that does not match Glue says which request it signed, with the token in it; of a gateway there is what it says.
#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_happened_and_no_token() {
    let body = serde_json::json!({ "message": MISMATCH });
    let mismatch = answer(
        "403 Forbidden",
        "x-amzn-ErrorType: InvalidSignatureException:http://internal/\r\n",
        &body.to_string(),
    );
    // Not JSON, though it looks so.
    let unlike = answer("403 Forbidden", "", &format!("{body}}}"));
    let page = "<html>\r\n<head><title>502</title>";
    let gateway = answer("403 Forbidden", "", page);
    let scene = Scene::new(&[&mismatch, &unlike, &gateway]).await;
    let name = ident("shop", "notes");
    for ending in [
        "status 403: The signature does not match. (InvalidSignatureException)",
        "The signature does not match.",
        "status 403: <html>",
    ] {
        let error = scene.catalog.load(&name).await.unwrap_err().to_string();
        assert!(error.ends_with(ending), "{error}");
        assert!(!error.contains("hushed"), "{error}");
    }
    let asked = scene.server.asked.lock();
    assert!(asked[0].contains("x-amz-security-token: hushed"));
}

/// Glue would write it in small letters, and know it by no other name.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_glue_does_not_have_are_refused() {
    let scene = Scene::new(&[]).await;
    for (namespace, name) in [("shop", "Notes"), ("a.b", "notes")] {
        let parts = namespace.split('.').chain([name]);
        let ident = iceberg::TableIdent::from_strs(parts).unwrap();
        let error = scene.catalog.load(&ident).await.unwrap_err();
        assert!(matches!(error, ExportError::Config(_)), "{error}");
    }
}

/// All pages of databases and of their tables; tables of other kinds are none, nor are those of a database that goes meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn tables_are_listed_page_by_page() {
    let ok = |body: &str| answer("200 OK", "", body);
    let table = |name: &str| {
        format!(
            r#"{{"Name": "{name}", "Parameters": {{"table_type": "ICEBERG", "metadata_location": "l"}}}}"#
        )
    };
    let first = ok(&format!(
        r#"{{"TableList": [{}], "NextToken": "more"}}"#,
        table("b")
    ));
    let second = ok(&format!(
        r#"{{"TableList": [{}, {{"Name": "hive"}}]}}"#,
        table("a")
    ));
    let databases = ok(r#"{"DatabaseList": [{"Name": "gone"}], "NextToken": "next"}"#);
    let more = ok(r#"{"DatabaseList": [{"Name": "shop"}]}"#);
    let gone = error("400 Bad Request", "EntityNotFoundException");
    let scene = Scene::new(&[&databases, &more, &gone, &first, &second]).await;
    let found = scene.catalog.list().await.unwrap();
    assert_eq!(found, [ident("shop", "a"), ident("shop", "b")]);
    let asked = scene.server.asked.lock();
    assert!(asked[1].contains(r#""NextToken":"next""#), "{}", asked[1]);
    assert!(asked[4].contains(r#""NextToken":"more""#), "{}", asked[4]);
}
