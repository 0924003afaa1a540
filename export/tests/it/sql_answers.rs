//! What an SQL catalog does beside a database that does not answer, that refuses, or that others keep locked.
//! Defends the invariants *once* and *same*.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use moonshine_engine::Database;
use moonshine_export::catalog::{Change, CommitOutcome, open};
use moonshine_export::{ExportError, Exporter, FormatVersion, IcebergConfig};
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use crate::postgres_server::PostgresServer;
use crate::rest_answers::new_table_at;
use crate::support::{World, ident, notes, write_notes};

/// Far more than any statement here may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is in the message that has a commit prepared, the first time that a connection makes one.
const PREPARED: &[u8] = b"UPDATE iceberg_tables";
/// What is in the message that has it made.
const MADE: &[u8] = b".metadata.json";

/// Stands between a client and PostgreSQL, and may swallow every answer from the next commit's on.
struct Network {
    address: SocketAddr,
    /// From the next message with this in it on nothing is answered.
    dies_at: Arc<Mutex<Option<&'static [u8]>>>,
    /// Whether connections get answers.
    is_dead: Arc<AtomicBool>,
}

impl Network {
    async fn before(port: u16) -> Network {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dies_at = Arc::<Mutex<Option<&[u8]>>>::default();
        let is_dead = Arc::<AtomicBool>::default();
        let kept = (dies_at.clone(), is_dead.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::spawn(serve(client, server, kept.0.clone(), kept.1.clone()));
            }
        });
        Network {
            address,
            dies_at,
            is_dead,
        }
    }
}

/// Passes requests on, and answers until the network is dead. A connection that was alive then stays without answers.
async fn serve(
    client: TcpStream,
    server: TcpStream,
    dies_at: Arc<Mutex<Option<&'static [u8]>>>,
    is_dead: Arc<AtomicBool>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let kept = is_dead.clone();
    tokio::spawn(async move {
        let mut piece = vec![0; 1 << 16];
        let mut is_silent = false;
        while let Ok(length @ 1..) = from_server.read(&mut piece).await {
            is_silent |= kept.load(Ordering::SeqCst);
            if !is_silent && to_client.write_all(&piece[..length]).await.is_err() {
                return;
            }
        }
        // It stays open, as for someone who will never hear of the other's end.
        std::future::pending::<()>().await;
    });
    let mut piece = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from_client.read(&mut piece).await {
        let is_in_it = |text: &[u8]| piece[..length].windows(text.len()).any(|part| part == text);
        if dies_at.lock().take_if(|text| is_in_it(text)).is_some() {
            is_dead.store(true, Ordering::SeqCst);
        }
        if to_server.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

fn config(world: &World, user: &str, port: u16) -> IcebergConfig {
    serde_json::from_value(json!({
        "warehouse_path": world.path("warehouse"),
        "catalog_uri": format!("postgresql://{user}@127.0.0.1:{port}/postgres"),
        "sql": { "password": "secret", "timeout_secs": 1 },
    }))
    .unwrap()
}

/// The answers to commits are lost with their connections, time and again: the export ends with an error soon, and what took
/// place is found out as soon as the database answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_falls_silent_is_given_up_and_asked_again() {
    let Some(server) = PostgresServer::start() else {
        return;
    };
    let world = World::new(FormatVersion::V3);
    let network = Network::before(server.port()).await;
    let config = config(&world, "postgres", network.address.port());
    let database = world.database();
    let table = notes(&database);
    let mut exporter = Exporter::open(database.clone(), &config).await.unwrap();
    // More often than there are connections at a time.
    for (round, dies_at) in (0..).zip([PREPARED, MADE, MADE, MADE]) {
        *network.dies_at.lock() = Some(dies_at);
        let rows = (0..20).map(|id| (id, format!("round {round}")));
        write_notes(&database, &table, rows, &[20 + round]);
        let error = tick(&mut exporter, &database).await.unwrap_err();
        assert!(
            matches!(&error, ExportError::Unavailable { place, .. } if place.contains("catalog")),
            "{error}"
        );
        write_notes(&database, &table, [(100 + round, "meanwhile".into())], &[]);
        network.is_dead.store(false, Ordering::SeqCst);
        // Connections that died while nobody used them are found out one by one.
        let mut is_exported = false;
        for _ in 0..4 {
            is_exported = is_exported || tick(&mut exporter, &database).await.is_ok();
        }
        assert!(is_exported, "round {round}");
        let catalog = open(&config, false).await.unwrap();
        world.check_same_in(&database, catalog).await;
    }
}

/// Ends, with or without the database.
async fn tick(exporter: &mut Exporter, database: &Database) -> Result<(), ExportError> {
    let snapshot = database.snapshot();
    let ended = tokio::time::timeout(PATIENCE, exporter.tick(&snapshot)).await;
    ended.expect("an export does not wait for ever").map(drop)
}

/// Somebody's session that locks the catalog's tables.
const LOCKERS: &str = "FROM pg_locks WHERE relation = 'iceberg_tables'::regclass \
                       AND mode = 'AccessExclusiveLock' AND granted";

fn lock(server: &PostgresServer) -> Child {
    let statements = "BEGIN; LOCK TABLE iceberg_tables; SELECT pg_sleep(600)";
    let mut psql = server.program("psql");
    psql.args(["--no-psqlrc", "-c", statements])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let locker = psql.spawn().unwrap();
    while server.sql(&format!("SELECT count(*) {LOCKERS}")) != "1" {
        std::thread::sleep(Duration::from_millis(20));
    }
    locker
}

fn unlock(server: &PostgresServer, mut locker: Child) {
    server.sql(&format!(
        "SELECT pg_terminate_backend(pid, 60000) {LOCKERS}"
    ));
    locker.wait().unwrap();
}

/// A catalog that can't be asked whether it tells tables from views is not one that does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_no_table_whatever_the_database_answered_first() {
    let Some(server) = PostgresServer::start() else {
        return;
    };
    let world = World::new(FormatVersion::V3);
    let config = config(&world, "postgres", server.port());
    open(&config, true).await.unwrap();
    server.sql(
        "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, iceberg_type) \
         VALUES ('moonshine', 'shop', 'a_view', 'VIEW'), ('moonshine', 'shop', 'a_table', 'TABLE')",
    );
    let locker = lock(&server);
    let error = open(&config, false).await.map(drop).unwrap_err();
    assert!(matches!(error, ExportError::Unavailable { .. }), "{error}");
    unlock(&server, locker);
    let catalog = open(&config, false).await.unwrap();
    assert_eq!(catalog.list().await.unwrap(), [ident("shop", "a_table")]);
}

/// The tables of PyIceberg's catalog tell no views, and their user may make none.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_there_need_no_right_to_make_any() {
    let Some(server) = PostgresServer::start() else {
        return;
    };
    let world = World::new(FormatVersion::V3);
    open(&config(&world, "postgres", server.port()), true)
        .await
        .unwrap();
    server.sql(
        "ALTER TABLE iceberg_tables DROP COLUMN iceberg_type; \
         CREATE ROLE scram_user LOGIN PASSWORD 'secret'; REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON iceberg_tables, iceberg_namespace_properties TO scram_user",
    );
    let config = config(&world, "scram_user", server.port());
    let database = world.database();
    let table = notes(&database);
    write_notes(&database, &table, [(1, "one".to_owned())], &[]);
    let mut exporter = Exporter::open(database.clone(), &config).await.unwrap();
    exporter.tick(&database.snapshot()).await.unwrap();
    let catalog = open(&config, false).await.unwrap();
    world.check_same_in(&database, catalog).await;
}

/// Of a table whose name is taken no metadata file stays behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_there_is_not_made_again() {
    let world = World::new(FormatVersion::V3);
    let catalog = open(&world.config(), true).await.unwrap();
    let (name, folder) = (ident("shop", "notes"), world.path("there"));
    let create = |number| {
        let table = new_table_at(&format!("file://{}", folder.display()));
        catalog.create(&name, table, Uuid::from_u128(number))
    };
    let made = create(1).await.unwrap();
    let error = create(2).await.unwrap_err();
    assert!(error.to_string().contains("of that name"), "{error}");
    let found = catalog.load(&name).await.unwrap().unwrap();
    assert_eq!(found.metadata_location, made.metadata_location);
    let files = std::fs::read_dir(folder.join("metadata")).unwrap();
    assert_eq!(files.count(), 1);
}

/// A store that does not take the metadata file has refused nothing: the next attempt may succeed.
#[tokio::test(flavor = "multi_thread")]
async fn a_metadata_file_that_can_not_be_written_is_tried_again() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let table = notes(&database);
    write_notes(&database, &table, [(1, "one".to_owned())], &[]);
    let mut exporter = world.exporter(&database).await.unwrap();
    exporter.tick(&database.snapshot()).await.unwrap();
    let catalog = world.catalog().await;
    let base = catalog.load(&ident("shop", "notes")).await.unwrap();
    let base = base.unwrap();
    let folder = base.metadata_location.rsplit_once('/').unwrap().0;
    let folder = std::path::Path::new(folder.trim_start_matches("file://"));
    let away = folder.with_extension("away");
    let change = Change::of(&base.metadata, Vec::new());
    std::fs::rename(folder, &away).unwrap();
    std::fs::write(folder, "in its way").unwrap();
    let outcome = catalog.commit(&base, &change, Uuid::from_u128(1)).await;
    assert!(matches!(outcome, CommitOutcome::Busy { .. }), "{outcome:?}");
    std::fs::remove_file(folder).unwrap();
    std::fs::rename(&away, folder).unwrap();
    let outcome = catalog.commit(&base, &change, Uuid::from_u128(2)).await;
    assert!(
        matches!(outcome, CommitOutcome::Committed(_)),
        "{outcome:?}"
    );
}
