//! What Glue's answers mean for a commit and for a table that is to be made: beside a server whose answers the test writes.

use std::collections::HashMap;

use iceberg::TableUpdate;
use iceberg::io::FileIO;
use moonshine_export::ExportError;
use moonshine_export::catalog::{
    CatalogTable, Change, CommitOutcome, LocationCatalog, TableCatalog,
};
use uuid::Uuid;

use crate::rest_answers::{MISMATCH, ScriptedServer, answer, new_table_at, table_at};
use crate::support::ident;

/// Names a table's first metadata file.
const FIRST: Uuid = Uuid::from_u128(5);

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

    async fn create(&self) -> Result<CatalogTable, ExportError> {
        let table = new_table_at(self.table.metadata.location());
        self.catalog.create(&self.table.ident, table, FIRST).await
    }

    /// The operations that were asked for.
    fn operations(&self) -> Vec<String> {
        let asked = self.server.asked.lock();
        let operation = |request: &String| {
            let (_, rest) = request.split_once("x-amz-target: AWSGlue.").unwrap();
            rest.lines().next().unwrap().to_owned()
        };
        asked.iter().map(operation).collect()
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

/// What became of a commit. Whatever Glue answers may be said of a copy of the request that came after one that it took, so the
/// metadata file stays.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_what_became_of_a_commit() {
    let bad = |name| error("400 Bad Request", name);
    let lost = String::new();
    for (answered, outcome) in [
        (answer("200 OK", "", "{}"), "committed"),
        (bad("ConcurrentModificationException"), "conflict"),
        (bad("ThrottlingException"), "busy"),
        (bad("ResourceNotReadyException"), "busy"),
        (answer("429 Too Many Requests", "", "<html>"), "busy"),
        (bad("AccessDeniedException"), "refused"),
        (bad("EntityNotFoundException"), "refused"),
        (bad("OperationTimeoutException"), "unknown"),
        (
            error("500 Internal Server Error", "InternalServiceException"),
            "unknown",
        ),
        (answer("504 Gateway Timeout", "", "<html>"), "unknown"),
        (answer("200 OK", "", "<html>"), "unknown"),
        (lost, "unknown"),
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
            (outcome, 1),
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

/// What is seen before an update is sent leaves no metadata file behind: a table that moved on, that is gone, that may not be seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_not_sent_leaves_nothing_behind() {
    let missing = error("400 Bad Request", "EntityNotFoundException");
    let denied = error("400 Bad Request", "AccessDeniedException");
    for found in [
        glue_table("file:///elsewhere"),
        missing.clone(),
        denied.clone(),
    ] {
        let scene = Scene::new(&[&found]).await;
        let outcome = scene.commit().await;
        let is_it = match &outcome {
            CommitOutcome::Conflict => found.contains("elsewhere"),
            CommitOutcome::Refused(_) => found == missing,
            CommitOutcome::Busy { .. } => found == denied,
            _ => false,
        };
        assert!(is_it, "{found}: {outcome:?}");
        assert_eq!(scene.metadata_files(), 0, "{found}");
        assert_eq!(scene.operations(), ["GetTable"]);
    }
}

/// Whether a table was made, Glue is asked where its answer does not say so. Its metadata file goes where Glue certainly does not
/// refer to it, then and later.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_what_became_of_a_new_table() {
    let bad = |name| error("400 Bad Request", name);
    let made = || answer("200 OK", "", "{}");
    let hive = || {
        answer(
            "200 OK",
            "",
            r#"{"Table": {"Name": "notes", "Parameters": {}}}"#,
        )
    };
    let another = || glue_table("file:///elsewhere");
    let ours = |table: &CatalogTable| {
        let folder = table.metadata.location();
        glue_table(&format!("{folder}/metadata/00000-{FIRST}.metadata.json"))
    };
    let missing = || bad("EntityNotFoundException");
    let exists = || bad("AlreadyExistsException");
    let denied = || bad("AccessDeniedException");
    let lost = String::new;
    for (answered, found, is_made, files) in [
        (made(), None, true, 1),
        (exists(), Some("ours".to_owned()), true, 1),
        (exists(), Some(another()), false, 0),
        (exists(), Some(hive()), false, 0),
        (exists(), Some(missing()), false, 1),
        (lost(), Some("ours".to_owned()), true, 1),
        (lost(), Some(another()), false, 0),
        (lost(), Some(missing()), false, 1),
        (
            bad("ConcurrentModificationException"),
            Some(missing()),
            false,
            1,
        ),
        (
            bad("ConcurrentModificationException"),
            Some(another()),
            false,
            0,
        ),
        (bad("ThrottlingException"), Some(missing()), false, 1),
        (denied(), Some(missing()), false, 0),
        (denied(), Some(denied()), false, 1),
    ] {
        let scene = Scene::with(|table| {
            let found = found.clone().map(|found| match found.as_str() {
                "ours" => ours(table),
                _ => found,
            });
            [made(), answered.clone()]
                .into_iter()
                .chain(found)
                .collect()
        });
        let scene = scene.await;
        let created = scene.create().await;
        assert_eq!(
            (created.is_ok(), scene.metadata_files()),
            (is_made, files),
            "{answered}, {found:?}: {created:?}"
        );
        let wanted = ["GetDatabase", "CreateTable", "GetTable"];
        let asked = 2 + usize::from(found.is_some());
        assert_eq!(scene.operations(), wanted[..asked], "{answered}");
    }
}

/// A database is made where it is missing; whoever else makes it at the same time does no harm.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_made_once() {
    let bad = |name| error("400 Bad Request", name);
    let made = answer("200 OK", "", "{}");
    let missing = bad("EntityNotFoundException");
    let exists = bad("AlreadyExistsException");
    let changed = bad("ConcurrentModificationException");
    let denied = bad("AccessDeniedException");
    for (answers, is_made) in [
        (vec![made.clone()], true),
        (vec![exists.clone()], true),
        (vec![String::new(), exists.clone()], true),
        (vec![changed.clone(), made.clone()], true),
        (vec![changed, exists], true),
        (vec![denied], false),
    ] {
        let mut script = vec![missing.as_str()];
        script.extend(answers.iter().map(String::as_str));
        script.push(&made);
        let scene = Scene::new(&script).await;
        let created = scene.create().await;
        assert_eq!(created.is_ok(), is_made, "{answers:?}: {created:?}");
        assert_eq!(scene.metadata_files(), usize::from(is_made));
        let mut wanted = vec!["GetDatabase"];
        wanted.extend(answers.iter().map(|_| "CreateDatabase"));
        wanted.extend(is_made.then_some("CreateTable"));
        assert_eq!(scene.operations(), wanted, "{answers:?}");
    }
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
