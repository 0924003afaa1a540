//! What a catalog server's answers mean for a commit, and how tokens are exchanged: beside a server whose answers the test
//! writes.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use iceberg::io::FileIO;
use iceberg::spec::{
    FormatVersion, NestedField, PrimitiveType, Schema, SortOrder, TableMetadataBuilder, Type,
    UnboundPartitionSpec,
};
use moonshine_export::ExportError;
use moonshine_export::catalog::{
    CatalogTable, Change, CommitOutcome, NewTable, RestCatalog, TableCatalog,
};
use moonshine_export::environment::{Clock, Environment, SystemClock};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use crate::installed::moto_python;
use crate::servers::{S3Kind, S3Server};
use crate::support::ident;

/// A server that answers requests in this order, and keeps what it was asked. An empty answer closes the connection.
pub(crate) struct ScriptedServer {
    pub(crate) uri: String,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

impl ScriptedServer {
    pub(crate) async fn start(answers: &[&str]) -> ScriptedServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = asked.clone();
        let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
        tokio::spawn(async move {
            let mut answers = answers.into_iter().peekable();
            let mut listener = Some(listener);
            while let (Some(answer), Some(open)) = (answers.next(), listener.take()) {
                let (mut stream, _) = open.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                kept.lock().push(request);
                // Once the last answer is there nobody listens any more.
                listener = answers.peek().map(|_| open);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        ScriptedServer { uri, asked }
    }

    async fn catalog(&self, rest: serde_json::Value) -> RestCatalog {
        let config = serde_json::json!({
            "catalog_type": "rest", "catalog_uri": self.uri, "rest": rest,
        });
        RestCatalog::open(&serde_json::from_value(config).unwrap())
            .await
            .unwrap()
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await.unwrap();
        request.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&request).to_string();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let wanted = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse::<usize>().unwrap())
        });
        if length == 0 || body.len() >= wanted.unwrap_or(0) {
            return text;
        }
    }
}

pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
}

fn table() -> CatalogTable {
    table_at("file:///t")
}

pub(crate) fn table_at(location: &str) -> CatalogTable {
    let field = NestedField::required(1, "id", Type::Primitive(PrimitiveType::Long));
    let schema = Schema::builder().with_fields([Arc::new(field)]).build();
    let builder = TableMetadataBuilder::new(
        schema.unwrap(),
        UnboundPartitionSpec::builder().build(),
        SortOrder::unsorted_order(),
        location.to_owned(),
        FormatVersion::V3,
        Default::default(),
    );
    CatalogTable {
        ident: ident("shop", "notes"),
        metadata: Arc::new(builder.unwrap().build().unwrap().metadata),
        metadata_location: "file:///t/metadata/0.json".to_owned(),
        file_io: FileIO::new_with_fs(),
    }
}

/// A table that is to be made.
pub(crate) fn new_table_at(location: &str) -> NewTable {
    NewTable {
        schema: table().metadata.current_schema().as_ref().clone(),
        partition_spec: UnboundPartitionSpec::builder().build(),
        sort_order: SortOrder::unsorted_order(),
        format_version: FormatVersion::V3,
        properties: Default::default(),
        location: Some(location.to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_what_became_of_a_commit() {
    let config = answer(
        "200 OK",
        "",
        r#"{"defaults": {"s3.secret-access-key": "hidden"}, "overrides": {"prefix": "lake/a%3Ab%2Fone"}}"#,
    );
    let error = r#"{"error": {"message": "so it is", "type": "Because", "code": 0}}"#;
    let conflict = answer("409 Conflict", "", error);
    let busy = answer("429 Too Many Requests", "Retry-After: 7\r\n", error);
    let broken = answer("500 Internal Server Error", "", error);
    let wrong = answer("400 Bad Request", "", error);
    let expired = answer("401 Unauthorized", "", error);
    let empty = answer("200 OK", "", "{}");
    let server = ScriptedServer::start(&[
        &config, &conflict, &busy, &broken, &wrong, &expired, "", &empty,
    ])
    .await;
    let catalog = server
        .catalog(serde_json::json!({ "token": "secret", "prefix": "mine" }))
        .await;
    let table = table();
    let change = Change::of(&table.metadata, Vec::new());
    let mut outcomes = Vec::new();
    for _ in 0..8 {
        outcomes.push(catalog.commit(&table, &change, Uuid::nil()).await);
    }
    let names: Vec<String> = outcomes
        .iter()
        .map(|outcome| match outcome {
            CommitOutcome::Committed(_) => "committed".to_owned(),
            CommitOutcome::Conflict => "conflict".to_owned(),
            CommitOutcome::Busy { retry_after_ms, .. } => format!("busy {retry_after_ms:?}"),
            CommitOutcome::Refused(_) => "refused".to_owned(),
            CommitOutcome::Unknown(_) => "unknown".to_owned(),
        })
        .collect();
    let expected = [
        "conflict",
        "busy Some(7000)",
        "unknown",
        "refused",
        "refused",
        "unknown",
        "unknown",
        // Nobody listens any more: the request was never sent.
        "busy None",
    ];
    assert_eq!(names, expected, "{outcomes:?}");
    assert!(!format!("{catalog:?}").contains("hidden"), "{catalog:?}");
    let asked = server.asked.lock();
    let commit = &asked[1];
    assert!(
        commit.starts_with("POST /v1/lake/a%3Ab%2Fone/namespaces/shop/tables/notes HTTP"),
        "{commit}"
    );
    assert!(
        commit.contains("assert-ref-snapshot-id") && commit.contains("Bearer secret"),
        "{commit}"
    );
}

/// As the servers of AWS say it.
pub(crate) const MISMATCH: &str = "The signature does not match.\n\n\
    The Canonical String for this request should have been\n'POST\n/\n\nx-amz-security-token:hushed\n'";

/// The server says which request it got, with the token in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_signature_says_no_token() {
    let config = answer("200 OK", "", "{}");
    let model = serde_json::json!({ "message": MISMATCH, "type": "Denied", "code": 403 });
    let known = serde_json::json!({ "error": model }).to_string();
    let known = answer("403 Forbidden", "", &known);
    let unknown = serde_json::json!({ "message": MISMATCH }).to_string();
    let unknown = answer("403 Forbidden", "", &unknown);
    let long = answer("403 Forbidden", "", &"x".repeat(10_000));
    let server = ScriptedServer::start(&[&config, &known, &unknown, &long]).await;
    let json = serde_json::json!({
        "catalog_type": "rest", "catalog_uri": server.uri,
        "rest": { "signing": { "service": "glue", "region": "eu-west-1" } },
        "store": {
            "s3.access-key-id": "me", "s3.secret-access-key": "hush", "s3.session-token": "hushed",
        },
    });
    let catalog = RestCatalog::open(&serde_json::from_value(json).unwrap()).await;
    let catalog = catalog.unwrap();
    for part in ["not match. (Denied)", "not match.", "xxx"] {
        let loaded = catalog.load(&ident("shop", "notes")).await;
        let error = loaded.unwrap_err().to_string();
        assert!(error.contains(part) && error.len() < 500, "{error}");
        assert!(!error.contains("hushed"), "{error}");
    }
    let asked = server.asked.lock();
    assert!(asked[1].contains("x-amz-security-token: hushed"));
}

/// A redirected POST would become a GET whose answer, the table as it is, looks like that of a commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed() {
    let config = answer("200 OK", "", "{}");
    let here = answer("301 Moved Permanently", "Location: /v1/elsewhere\r\n", "");
    let there = answer(
        "307 Temporary Redirect",
        "Location: https://other.example/v1/x\r\n",
        "",
    );
    let server = ScriptedServer::start(&[&config, &here, &there]).await;
    let catalog = server.catalog(serde_json::json!({})).await;
    let table = table();
    let change = Change::of(&table.metadata, Vec::new());
    for target in [server.uri.as_str(), "https://other.example"] {
        let outcome = catalog.commit(&table, &change, Uuid::nil()).await;
        let CommitOutcome::Refused(error) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(error.to_string().ends_with(target), "{error}");
    }
    assert_eq!(server.asked.lock().len(), 3, "each was asked once");
}

/// Only the catalog can say that a table is gone; a gateway's 404 says that the catalog is.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_missing_if_the_catalog_says_so() {
    let error = |name: &str| {
        let body = format!(r#"{{"error": {{"message": "no", "type": "{name}", "code": 404}}}}"#);
        answer("404 Not Found", "", &body)
    };
    let config = answer("200 OK", "", "{}");
    let gateway = answer("404 Not Found", "", "<html>no such page</html>");
    let answers = [
        config,
        error("NoSuchTableException"),
        error("NoSuchNamespaceException"),
        gateway.clone(),
        error("NoSuchWarehouseException"),
        gateway.clone(),
        gateway,
    ];
    let server = ScriptedServer::start(&answers.each_ref().map(String::as_str)).await;
    let catalog = server.catalog(serde_json::json!({})).await;
    let table = ident("shop", "notes");
    for _ in 0..2 {
        assert!(catalog.load(&table).await.unwrap().is_none());
    }
    let is_404 = |error: ExportError| {
        let is_unavailable = matches!(error, ExportError::Unavailable { .. });
        assert!(
            is_unavailable && error.to_string().contains("404"),
            "{error}"
        );
    };
    for _ in 0..2 {
        is_404(catalog.load(&table).await.unwrap_err());
    }
    is_404(catalog.list().await.unwrap_err());
    is_404(catalog.drop_table(&table).await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ended_is_exchanged_for_another() {
    let token = |name: &str| {
        // Some servers write a text.
        let body = format!(
            r#"{{"access_token": "{name}", "token_type": "bearer", "expires_in": "3600"}}"#
        );
        answer("200 OK", "", &body)
    };
    let config = answer("200 OK", "", "{}");
    let ended = answer("419 Authentication Timeout", "", "");
    let namespaces = answer("200 OK", "", r#"{"namespaces": []}"#);
    let (first, second) = (token("first"), token("second"));
    let answers = [&first, &config, &ended, &second, &namespaces].map(String::as_str);
    let server = ScriptedServer::start(&answers).await;
    let rest = serde_json::json!({ "credential": "me:pass", "scope": "all" });
    let catalog = server.catalog(rest).await;
    assert!(catalog.list().await.unwrap().is_empty());
    let asked = server.asked.lock();
    assert!(
        asked[0].starts_with("POST /v1/oauth/tokens HTTP"),
        "{}",
        asked[0]
    );
    for part in [
        "grant_type=client_credentials",
        "client_id=me",
        "client_secret=pass",
        "scope=all",
    ] {
        assert!(asked[0].contains(part), "{}", asked[0]);
    }
    for (number, token) in [(1, "first"), (2, "first"), (4, "second")] {
        assert!(
            asked[number].contains(&format!("Bearer {token}")),
            "{}",
            asked[number]
        );
    }
}

/// Without a token nothing was sent, and asking again at once is of no use.
#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_does_not_do_is_refused() {
    let ended = r#"{"access_token": "first", "token_type": "bearer", "expires_in": 0}"#;
    let ended = answer("200 OK", "", ended);
    let wrong = answer("401 Unauthorized", "", r#"{"error": "invalid_client"}"#);
    let config = answer("200 OK", "", "{}");
    let server = ScriptedServer::start(&[&ended, &config, &wrong]).await;
    let catalog = server
        .catalog(serde_json::json!({ "credential": "me:hush" }))
        .await;
    let table = table();
    let change = Change::of(&table.metadata, Vec::new());
    let outcome = catalog.commit(&table, &change, Uuid::nil()).await;
    let CommitOutcome::Refused(error) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(error.to_string().contains("token or credential"), "{error}");
    assert!(!error.to_string().contains("hush"), "{error}");
    assert_eq!(server.asked.lock().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_named() {
    let config = serde_json::json!({
        "catalog_type": "rest", "catalog_uri": "http://127.0.0.1:9",
    });
    let config = serde_json::from_value(config).unwrap();
    let error = RestCatalog::open(&config).await.unwrap_err();
    assert!(
        matches!(&error, ExportError::Unavailable { place, .. } if place.contains("127.0.0.1")),
        "{error}"
    );
}

/// A server that ignores `parent`, and ends its pages by an empty token.
#[tokio::test(flavor = "multi_thread")]
async fn each_table_is_listed_once() {
    let config = answer("200 OK", "", r#"{"defaults": null, "overrides": null}"#);
    let namespaces = answer(
        "200 OK",
        "",
        r#"{"namespaces": [["a"], ["b"], ["a", "c"]], "next-page-token": ""}"#,
    );
    let unknown = answer("400 Bad Request", "", "{}");
    let tables = |namespace: &str| {
        let body = format!(
            r#"{{"identifiers": [{{"namespace": {namespace}, "name": "t"}}], "next-page-token": ""}}"#
        );
        answer("200 OK", "", &body)
    };
    let top = answer("200 OK", "", r#"{"namespaces": [["a"], ["b"]]}"#);
    let answers = [
        config,
        top,
        tables(r#"["b"]"#),
        namespaces.clone(),
        tables(r#"["a"]"#),
        namespaces,
        tables(r#"["a", "c"]"#),
        unknown,
    ];
    let server = ScriptedServer::start(&answers.each_ref().map(String::as_str)).await;
    let catalog = server.catalog(serde_json::json!({})).await;
    let found = catalog.list().await.unwrap();
    let names: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a.c.t", "a.t", "b.t"]);
    let asked = server.asked.lock();
    assert!(
        asked[6].starts_with("GET /v1/namespaces/a%1Fc/tables HTTP"),
        "{}",
        asked[6]
    );
}

/// A clock that the test sets.
#[derive(Debug)]
struct SetClock(AtomicI64);

#[async_trait]
impl Clock for SetClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    async fn pause(&self, _: u64) {}
}

impl SetClock {
    fn pass(&self, minutes: i64, seconds: i64) {
        let passed_ms = (minutes * 60 + seconds) * 1000;
        self.0.fetch_add(passed_ms, Ordering::SeqCst);
    }
}

/// A table of a bucket, with keys for its files that end then, if they say so.
fn loaded(s3: &S3Server, end_ms: Option<i64>) -> String {
    let mut config = s3.properties();
    config.insert("s3.session-token".into(), "hush".into());
    if let Some(end_ms) = end_ms {
        let name = "s3.session-token-expires-at-ms";
        config.insert(name.into(), end_ms.to_string());
    }
    let body = serde_json::json!({
        "metadata-location": "s3://warehouse/t/metadata/0.json",
        "metadata": table_at("s3://warehouse/t").metadata.as_ref(),
        "config": config,
        "storage-credentials": null,
    });
    answer("200 OK", "", &body.to_string())
}

/// Keys that a catalog gives for a table's files are asked for again before they end, once for all requests that want them;
/// those of before serve as long as the catalog is away and they are good.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_table_are_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(s3) = S3Server::start(S3Kind::Moto, folder.path()) else {
        return;
    };
    let clock = Arc::new(SetClock(AtomicI64::new(SystemClock.now_ms())));
    let hours = |count: i64| Some(clock.now_ms() + count * 3_600_000);
    let config = answer("200 OK", "", "{}");
    let away = answer("400 Bad Request", "", "{}");
    let answers = [
        config,
        loaded(&s3, hours(1)),
        loaded(&s3, hours(2)),
        away.clone(),
        loaded(&s3, hours(3)),
        away,
        loaded(&s3, None),
        loaded(&s3, hours(5)),
    ];
    let server = ScriptedServer::start(&answers.each_ref().map(String::as_str)).await;
    let json = serde_json::json!({ "catalog_type": "rest", "catalog_uri": server.uri });
    let environment = Environment {
        clock: clock.clone(),
        ..Environment::default()
    };
    let config = serde_json::from_value(json).unwrap();
    let catalog = RestCatalog::open_with(&config, environment).await.unwrap();
    let table = catalog.load(&ident("shop", "notes")).await;
    let table = table.unwrap().unwrap();
    assert!(!format!("{table:?} {:?} {catalog:?}", table.file_io).contains("hush"));
    // How much time passes, how often the catalog was asked by then, and whether the keys do.
    for (minutes, seconds, asked, are_good) in [
        (54, 0, 2, true),
        (1, 0, 3, true),
        // Away, with five minutes left.
        (60, 0, 4, true),
        (0, 4, 4, true),
        (0, 1, 5, true),
        // Away, and they are over.
        (65, 0, 6, false),
        (0, 4, 6, false),
        (0, 1, 7, true),
        // They don't say how long they are good.
        (9, 59, 7, true),
        (0, 1, 8, true),
    ] {
        clock.pass(minutes, seconds);
        for number in 0..3 {
            let location = format!("s3://warehouse/t/data/{number}");
            let output = table.file_io.new_output(location).unwrap();
            let written = output.write("x".into()).await;
            assert_eq!(written.is_ok(), are_good, "{asked}: {written:?}");
        }
        assert_eq!(
            server.asked.lock().len(),
            asked,
            "{minutes} min {seconds} s"
        );
    }
}

/// What a server says of its stores by default gives way to the configuration, what it insists on does not.
#[tokio::test(flavor = "multi_thread")]
async fn defaults_of_the_server_give_way_to_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let Some(s3) = S3Server::start(S3Kind::Moto, folder.path()) else {
        return;
    };
    let body = serde_json::json!({
        "metadata-location": "s3://warehouse/t/metadata/0.json",
        "metadata": table_at("s3://warehouse/t").metadata.as_ref(),
    });
    let loaded = answer("200 OK", "", &body.to_string());
    let nowhere = serde_json::json!({ "s3.endpoint": "http://127.0.0.1:9" });
    let region = serde_json::json!({ "s3.region": "eu-west-1", "s3.endpoint": s3.properties()["s3.endpoint"] });
    for (said, configured) in [
        // The configured place is used, as are defaults that nothing contradicts.
        (serde_json::json!({ "defaults": nowhere }), s3.properties()),
        (
            serde_json::json!({ "defaults": region }),
            without(&s3, "s3.endpoint"),
        ),
        (
            serde_json::json!({ "defaults": nowhere, "overrides": region }),
            without(&s3, "s3.region"),
        ),
    ] {
        let config = answer("200 OK", "", &said.to_string());
        let server = ScriptedServer::start(&[&config, &loaded]).await;
        let json = serde_json::json!({
            "catalog_type": "rest", "catalog_uri": server.uri, "store": configured,
        });
        let catalog = RestCatalog::open(&serde_json::from_value(json).unwrap()).await;
        let table = catalog.unwrap().load(&ident("shop", "notes")).await;
        let output = table.unwrap().unwrap().file_io;
        let output = output.new_output("s3://warehouse/t/data/1").unwrap();
        output.write("x".into()).await.unwrap();
    }
}

fn without(s3: &S3Server, name: &str) -> std::collections::BTreeMap<String, String> {
    let mut properties = s3.properties();
    properties.remove(name);
    properties
}

/// The signature is the one that botocore makes of the same request.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_signed_for_amazon() {
    let Some(python) = moto_python() else {
        return;
    };
    let config =
        r#"{"overrides": {"prefix": "arn%3Aaws%3As3tables%3Aeu-west-1%3A1%3Abucket%2Fb"}}"#;
    let (config, conflict) = (
        answer("200 OK", "", config),
        answer("409 Conflict", "", "{}"),
    );
    let server = ScriptedServer::start(&[&config, &conflict]).await;
    let json = serde_json::json!({
        "catalog_type": "rest", "catalog_uri": server.uri,
        "rest": { "signing": { "service": "s3tables", "region": "eu-west-1" }, "warehouse": "a b/c" },
        "store": {
            "s3.access-key-id": "me", "s3.secret-access-key": "hush", "s3.session-token": "session",
        },
    });
    let catalog = RestCatalog::open(&serde_json::from_value(json).unwrap()).await;
    let catalog = catalog.unwrap();
    assert!(!format!("{catalog:?}").contains("hush"));
    let table = table();
    let change = Change::of(&table.metadata, Vec::new());
    let outcome = catalog.commit(&table, &change, Uuid::nil()).await;
    assert!(matches!(outcome, CommitOutcome::Conflict), "{outcome:?}");
    let script = "import datetime, sys\n\
        from botocore.auth import SigV4Auth\n\
        from botocore.awsrequest import AWSRequest\n\
        from botocore.credentials import Credentials\n\
        head, body = sys.argv[2].split('\\r\\n\\r\\n', 1)\n\
        line, *headers = head.split('\\r\\n')\n\
        method, path, _ = line.split(' ')\n\
        headers = {name.lower(): value for name, value in (header.split(': ', 1) for header in headers)}\n\
        parts = dict(part.split('=', 1) for part in headers['authorization'].split(' ', 1)[1].split(', '))\n\
        signed = {name: headers[name] for name in parts['SignedHeaders'].split(';')}\n\
        request = AWSRequest(method, sys.argv[1] + path, headers=signed, data=body)\n\
        auth = SigV4Auth(Credentials('me', 'hush', 'session'), 's3tables', 'eu-west-1')\n\
        request.context['timestamp'] = headers['x-amz-date']\n\
        signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)\n\
        assert signature == parts['Signature'], (signature, parts, auth.canonical_request(request))\n\
        assert {'host', 'x-amz-date', 'x-amz-security-token'} <= set(signed), signed\n";
    let asked = server.asked.lock();
    assert_eq!(asked.len(), 2);
    for request in asked.iter() {
        let checked = Command::new(&python)
            .args(["-c", script, &server.uri, request])
            .output()
            .unwrap();
        assert!(checked.status.success(), "{checked:?}");
    }
}
