//! What ends beside an exporter and comes back, with real servers: a namespace that somebody dropped, keys of a store that are over
//! in the middle of an export. Each is an error that says what it is about, no write of the database waits for it, and exports go on by
//! themselves once it is over. Defends the invariants *once* and *same*.

use std::process::Command;
use std::sync::Arc;

use moonshine_engine::{ColumnType, Database, Table, TableSchema, Value};
use moonshine_export::catalog::open;
use moonshine_export::environment::{Clock, SystemClock};
use moonshine_export::{ExportError, Exporter, FormatVersion, IcebergConfig};
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::installed::python;
use crate::servers::{RestKind, RestServer, S3Kind, S3Server};
use crate::support::{World, notes, write_notes};

/// What PyIceberg does to the namespace of the table `shop.notes`.
const PYTHON: &str = "import json, sys\n\
    from pyiceberg.catalog import load_catalog\n\
    catalog = load_catalog('moonshine', **json.loads(sys.argv[1]))\n\
    if len(sys.argv) == 2:\n\
    \x20   print(catalog.load_table('shop.notes').metadata_location)\n\
    \x20   catalog.drop_table('shop.notes')\n\
    \x20   catalog.drop_namespace('shop')\n\
    else:\n\
    \x20   catalog.create_namespace_if_not_exists('shop')\n\
    \x20   catalog.register_table('shop.notes', sys.argv[2])\n";

fn pyiceberg(properties: &serde_json::Value, location: Option<&str>) -> Option<String> {
    let output = Command::new(python()?)
        .args(["-c", PYTHON, &properties.to_string()])
        .args(location)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

fn parts(database: &Database, name: &str) -> Table {
    let schema = TableSchema::builder(name)
        .column("id", ColumnType::Int64, false)
        .primary_key(["id"])
        .build();
    database.create_table(schema.unwrap()).unwrap()
}

fn write_part(database: &Database, table: &Table, id: i64) {
    let mut transaction = database.begin();
    transaction.upsert(table, vec![Value::Int64(id)]).unwrap();
    transaction.commit().unwrap();
}

/// Its table stops and says so, the tables of others and the new ones of its own are exported, and once it is registered again it
/// gets what it missed.
async fn a_dropped_namespace_comes_back(
    world: &World,
    config: &IcebergConfig,
    python: &serde_json::Value,
) {
    let database = world.database();
    let table = notes(&database);
    let elsewhere = parts(&database, "depot.parts");
    write_notes(&database, &table, [(1, "before".to_owned())], &[]);
    write_part(&database, &elsewhere, 1);
    let mut exporter = Exporter::open(database.clone(), config).await.unwrap();
    exporter.tick(&database.snapshot()).await.unwrap();
    let catalog = open(config, false).await.unwrap();

    let Some(location) = pyiceberg(python, None) else {
        return;
    };
    write_notes(&database, &table, [(2, "meanwhile".to_owned())], &[1]);
    write_part(&database, &elsewhere, 2);
    let later = parts(&database, "shop.later");
    write_part(&database, &later, 3);
    for round in 0..2 {
        let error = exporter.tick(&database.snapshot()).await.unwrap_err();
        assert!(
            matches!(&error, ExportError::Foreign { table, reason }
                if table == "shop.notes" && reason.contains("gone from the catalog")),
            "{error}"
        );
        for table in [&elsewhere, &later] {
            let seq = database.exported(table).map(|exported| exported.seq);
            assert!(seq.is_some(), "{}", table.name());
        }
        write_notes(&database, &table, [(3 + round, "still".to_owned())], &[]);
    }

    pyiceberg(python, Some(&location)).unwrap();
    // The first may find out what became of an export of before.
    for _ in 0..2 {
        exporter.tick(&database.snapshot()).await.unwrap();
    }
    world.check_same_in(&database, catalog).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_of_sqlite_comes_back() {
    let world = World::new(FormatVersion::V3);
    let warehouse = world.path("warehouse");
    let python = json!({
        "type": "sql", "uri": format!("sqlite:///{}/catalog.db", warehouse.display()),
        "warehouse": format!("file://{}", warehouse.display()),
    });
    a_dropped_namespace_comes_back(&world, &world.config(), &python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_of_a_catalog_server_comes_back() {
    let world = World::new(FormatVersion::V3);
    let Some(server) = RestServer::start(RestKind::Reference, &world.path("rest"), None) else {
        return;
    };
    let config = json!({
        "catalog_type": "rest", "catalog_uri": server.uri(), "target_file_size_mb": 1,
    });
    let config = serde_json::from_value(config).unwrap();
    let python = json!({ "type": "rest", "uri": server.uri() });
    a_dropped_namespace_comes_back(&world, &config, &python).await;
}

/// A request or an answer of HTTP.
struct Message {
    /// Of a request: method and path. Of an answer: its status.
    first: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Message {
    fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter();
        let found = found.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    async fn read(stream: &mut TcpStream) -> Option<Message> {
        const END: &[u8] = b"\r\n\r\n";
        let mut bytes = Vec::new();
        loop {
            let mut piece = vec![0; 1 << 16];
            let length = stream
                .read(&mut piece)
                .await
                .ok()
                .filter(|&length| length > 0)?;
            bytes.extend_from_slice(&piece[..length]);
            let end = bytes.windows(END.len()).position(|part| part == END);
            let Some(end) = end else { continue };
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let mut lines = head.lines();
            let mut message = Message {
                first: lines.next()?.rsplit_once(' ')?.0.to_owned(),
                headers: lines
                    .filter_map(|line| line.split_once(": "))
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
                body: bytes[end + END.len()..].to_vec(),
            };
            let wanted = message.header("content-length");
            let wanted = wanted.map_or(0, |text| text.parse().unwrap());
            let mut rest = vec![0; wanted - message.body.len()];
            stream.read_exact(&mut rest).await.ok()?;
            message.body.extend(rest);
            return Some(message);
        }
    }
}

/// What stands between an exporter and its servers: it ends the keys of the store, and puts those of now into what the catalog
/// says of a table.
#[derive(Default)]
struct Gate {
    uri: Mutex<String>,
    /// The session whose keys the store takes; those of others are over.
    session: Mutex<u64>,
    /// After how many more files the session ends.
    files_left: Mutex<Option<u64>>,
}

impl Gate {
    /// Listens before the store and before the catalog, if there is one; their addresses.
    async fn before(store: &str, catalog: Option<&str>) -> (Arc<Gate>, String, String) {
        let gate = Arc::new(Gate::default());
        let store = gate.clone().listen(store).await;
        *gate.uri.lock() = store.clone();
        let catalog = match catalog {
            Some(uri) => gate.clone().listen(uri).await,
            None => String::new(),
        };
        (gate, store, catalog)
    }

    async fn listen(self: Arc<Gate>, target: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let target = target.to_owned();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (gate, client, target) = (self.clone(), client.clone(), target.clone());
                tokio::spawn(async move {
                    let request = Message::read(&mut stream).await?;
                    let answer = match gate.refusal(&request) {
                        Some(refusal) => refusal,
                        None => gate.with_keys(forward(&client, &target, &request).await),
                    };
                    send(&mut stream, &request, &answer).await
                });
            }
        });
        uri
    }

    fn token(&self) -> String {
        format!("session-{}", *self.session.lock())
    }

    /// What the store answers to a request by keys that are over.
    fn refusal(&self, request: &Message) -> Option<Message> {
        let token = request.header("x-amz-security-token")?;
        let mut files_left = self.files_left.lock();
        if request.first.starts_with("PUT") && token == self.token() {
            *files_left = files_left.and_then(|left| {
                if left == 0 {
                    *self.session.lock() += 1;
                }
                left.checked_sub(1)
            });
        }
        let body = "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>";
        (token != self.token()).then(|| Message {
            first: "403 Forbidden".to_owned(),
            headers: Vec::new(),
            body: body.into(),
        })
    }

    /// What a catalog answers about a table, with the keys of now.
    fn with_keys(&self, mut answer: Message) -> Message {
        let said = serde_json::from_slice::<serde_json::Value>(&answer.body);
        let Some(mut said) = said.ok().filter(|said| said.get("metadata").is_some()) else {
            return answer;
        };
        let in_an_hour = SystemClock.now_ms() + 3_600_000;
        said["config"] = json!({
            "s3.endpoint": *self.uri.lock(), "s3.region": "us-east-1", "s3.path-style-access": "true",
            "s3.access-key-id": "key", "s3.secret-access-key": "secret", "s3.session-token": self.token(),
            "s3.session-token-expires-at-ms": in_an_hour.to_string(),
        });
        answer.body = said.to_string().into_bytes();
        answer
    }
}

async fn forward(client: &reqwest::Client, target: &str, request: &Message) -> Message {
    let (method, path) = request.first.split_once(' ').unwrap();
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let mut forwarded = client.request(method, format!("{target}{path}"));
    for (name, value) in &request.headers {
        let is_ours = ["host", "connection", "content-length"];
        if !is_ours.contains(&name.to_ascii_lowercase().as_str()) {
            forwarded = forwarded.header(name, value);
        }
    }
    let answer = forwarded.body(request.body.clone()).send().await.unwrap();
    Message {
        first: answer.status().to_string(),
        headers: answer
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
        body: answer.bytes().await.unwrap().to_vec(),
    }
}

async fn send(stream: &mut TcpStream, request: &Message, answer: &Message) -> Option<()> {
    let length = match answer.header("content-length") {
        Some(length) if request.first.starts_with("HEAD") => length.to_owned(),
        _ => answer.body.len().to_string(),
    };
    let mut head = format!(
        "HTTP/1.1 {}\r\ncontent-length: {length}\r\nconnection: close\r\n",
        answer.first
    );
    for (name, value) in &answer.headers {
        if !["content-length", "connection", "transfer-encoding"].contains(&name.as_str()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(&answer.body).await.ok()
}

fn is_expired(error: &ExportError) -> bool {
    let text = error.to_string();
    matches!(error, ExportError::Unavailable { .. })
        && text.contains("ExpiredToken")
        && text.contains("look at the credentials of the store")
}

/// The keys that a catalog gave end long before they said, after each number of an export's files in turn. The next export has the
/// catalog's new ones.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_catalog_that_end_in_the_middle_of_an_export() {
    let world = World::new(FormatVersion::V3);
    let Some(s3) = S3Server::start(S3Kind::Moto, &world.path("s3")) else {
        return;
    };
    let server = RestServer::start(RestKind::Reference, &world.path("rest"), Some(&s3));
    let Some(server) = server else { return };
    let (gate, _, catalog_uri) = Gate::before(&s3.uri(), Some(&server.uri())).await;
    let config = json!({
        "catalog_type": "rest", "catalog_uri": catalog_uri, "target_file_size_mb": 1,
    });
    let config: IcebergConfig = serde_json::from_value(config).unwrap();
    let database = world.database();
    let table = notes(&database);
    let mut exporter = Exporter::open(database.clone(), &config).await.unwrap();
    write_notes(&database, &table, [(0, "before".to_owned())], &[]);
    exporter.tick(&database.snapshot()).await.unwrap();
    for files in 0.. {
        write_notes(
            &database,
            &table,
            [(0, format!("after {files} files"))],
            &[],
        );
        *gate.files_left.lock() = Some(files);
        let Err(error) = exporter.tick(&database.snapshot()).await else {
            // Data, deletes, their manifests, and the list of those.
            assert!(files >= 4, "an export of {files} files");
            break;
        };
        assert!(is_expired(&error), "after {files} files: {error}");
        write_notes(
            &database,
            &table,
            [(1 + files as i64, "meanwhile".to_owned())],
            &[],
        );
        exporter.tick(&database.snapshot()).await.unwrap();
        let catalog = open(&config, false).await.unwrap();
        world.check_same_in(&database, catalog).await;
    }
}

/// Keys of the configuration that are over until somebody prolongs them.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_configuration_that_end_for_a_while() {
    let world = World::new(FormatVersion::V3);
    let Some(s3) = S3Server::start(S3Kind::Moto, &world.path("s3")) else {
        return;
    };
    let (gate, endpoint, _) = Gate::before(&s3.uri(), None).await;
    let mut store = s3.properties();
    store.insert("s3.endpoint".into(), endpoint);
    store.insert("s3.session-token".into(), gate.token());
    let config = json!({
        "warehouse_path": format!("{}/w", s3.bucket()), "catalog_uri": world.path("catalog.db"),
        "store": store, "target_file_size_mb": 1,
    });
    let config: IcebergConfig = serde_json::from_value(config).unwrap();
    let database = world.database();
    let table = notes(&database);
    let mut exporter = Exporter::open(database.clone(), &config).await.unwrap();
    for round in 0..3 {
        write_notes(&database, &table, [(round, "before".to_owned())], &[]);
        exporter.tick(&database.snapshot()).await.unwrap();
        *gate.files_left.lock() = Some(round as u64);
        for number in 0..2 {
            let rows = [(round, format!("meanwhile {number}"))];
            write_notes(&database, &table, rows, &[]);
            let error = exporter.tick(&database.snapshot()).await.unwrap_err();
            assert!(is_expired(&error), "{error}");
        }
        *gate.session.lock() = 0;
        exporter.tick(&database.snapshot()).await.unwrap();
        let catalog = open(&config, false).await.unwrap();
        world.check_same_in(&database, catalog).await;
    }
}
