//! Catalogs and stores: the same exports, conflicts, takeovers and clean-ups through every kind of catalog, on every kind of
//! store, with real servers; PyIceberg opens the tables through the same catalog.
//!
//! Defends the invariants *same*, *once* and *monotonic*.

use std::collections::{BTreeMap, HashMap};
use std::process::Command;

use iceberg::{TableIdent, TableUpdate};
use moonshine_engine::{ColumnType, Database, SchemaChange, Table, TableSchema, Value};
use moonshine_export::catalog::{CatalogTable, Change, CommitOutcome, TableCatalog, open};
use moonshine_export::{ExportError, Exporter, FormatVersion, IcebergConfig, IcebergReader};
use serde_json::json;
use uuid::Uuid;

use crate::installed::python;
use crate::postgres_server::PostgresServer;
use crate::servers::{GcsServer, HiveServer, RestKind, RestServer, S3Kind, S3Server};
use crate::support::{VERSIONS, World, ident, notes, write_notes};

const NESTED: &str = "a.b.pairs";

/// A catalog and a store.
struct Place {
    /// Moonshine's configuration.
    config: serde_json::Value,
    /// What PyIceberg is told.
    python: serde_json::Value,
    /// The name of the other table, in a nested namespace where the catalog has such.
    pairs: &'static str,
}

impl Place {
    fn config(&self, version: FormatVersion) -> IcebergConfig {
        let mut config = self.config.clone();
        config["format_version"] = version.number().into();
        config["target_file_size_mb"] = 1.into();
        serde_json::from_value(config).unwrap()
    }

    /// Puts the store's properties into both configurations.
    fn on(mut self, store: &BTreeMap<String, String>) -> Place {
        self.config["store"] = json!(store);
        for (name, value) in store {
            self.python[name] = value.clone().into();
        }
        self
    }
}

fn sqlite(world: &World, warehouse: &str) -> Place {
    let file = world.path("catalog.db");
    Place {
        config: json!({ "warehouse_path": warehouse, "catalog_uri": file }),
        python: json!({
            "type": "sql", "uri": format!("sqlite:///{}", file.display()), "warehouse": warehouse,
        }),
        pairs: NESTED,
    }
}

fn postgres(server: &PostgresServer, warehouse: &str) -> Place {
    let address = format!("127.0.0.1:{}/postgres", server.port());
    Place {
        config: json!({
            "warehouse_path": warehouse, "catalog_uri": format!("postgresql://scram_user@{address}"),
            "sql": { "password": "it's:@secret" },
        }),
        python: json!({
            "type": "sql", "uri": format!("postgresql+psycopg2://postgres@{address}"), "warehouse": warehouse,
        }),
        pairs: NESTED,
    }
}

/// A server with a user who needs a password.
fn postgres_server() -> Option<PostgresServer> {
    let server = PostgresServer::start()?;
    server.sql("CREATE ROLE scram_user LOGIN PASSWORD 'it''s:@secret'; GRANT ALL ON SCHEMA public TO scram_user");
    Some(server)
}

fn rest(server: &RestServer) -> Place {
    Place {
        config: json!({
            "catalog_type": "rest", "catalog_uri": server.uri(), "rest": { "token": server.token() },
        }),
        python: json!({ "type": "rest", "uri": server.uri(), "token": server.token() }),
        pairs: NESTED,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_and_local_files() {
    let world = World::new(FormatVersion::V3);
    let warehouse = format!("file://{}", world.path("warehouse").display());
    conforms(&world, &sqlite(&world, &warehouse)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_and_s3() {
    let world = World::new(FormatVersion::V3);
    for server in S3Server::start_all(&world.path("s3")) {
        let warehouse = format!("{}/tables", server.bucket());
        let place = sqlite(&world, &warehouse).on(&server.properties());
        conforms(&world, &place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_and_gcs() {
    let world = World::new(FormatVersion::V3);
    if let Some(server) = GcsServer::start(&world.path("gcs")) {
        let warehouse = format!("{}/tables", server.bucket());
        let place = sqlite(&world, &warehouse).on(&server.properties());
        conforms(&world, &place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_and_local_files() {
    let world = World::new(FormatVersion::V3);
    let Some(server) = postgres_server() else {
        return;
    };
    let warehouse = format!("file://{}", world.path("warehouse").display());
    let place = postgres(&server, &warehouse);
    let reader = IcebergReader::open_if_exists(&place.config(FormatVersion::V3)).await;
    assert!(reader.unwrap().is_none(), "nobody made the tables yet");
    conforms(&world, &place).await;
    let reader = IcebergReader::open_if_exists(&place.config(FormatVersion::V3)).await;
    reader.unwrap().unwrap().check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_and_s3() {
    let world = World::new(FormatVersion::V3);
    let s3 = S3Server::start(S3Kind::Moto, &world.path("s3"));
    let (Some(server), Some(s3)) = (postgres_server(), s3) else {
        return;
    };
    let warehouse = format!("{}/tables", s3.bucket());
    conforms(&world, &postgres(&server, &warehouse).on(&s3.properties())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_and_local_files() {
    for kind in [RestKind::Reference, RestKind::Rustberg] {
        let world = World::new(FormatVersion::V3);
        if let Some(server) = RestServer::start(kind, &world.path("rest"), None) {
            conforms(&world, &rest(&server)).await;
        }
    }
}

/// The server gives out the bucket's keys: the configuration says where the store is, and holds none.
#[tokio::test(flavor = "multi_thread")]
async fn rest_and_s3() {
    let world = World::new(FormatVersion::V3);
    let Some(s3) = S3Server::start(S3Kind::Moto, &world.path("s3")) else {
        return;
    };
    let server = RestServer::start(RestKind::Reference, &world.path("rest"), Some(&s3));
    if let Some(server) = server {
        let mut properties = s3.properties();
        properties.retain(|name, _| !name.contains("key"));
        conforms(&world, &rest(&server).on(&properties)).await;
    }
}

/// Glue's namespaces have one part.
#[tokio::test(flavor = "multi_thread")]
async fn glue_and_s3() {
    let world = World::new(FormatVersion::V3);
    let server = S3Server::start(S3Kind::MotoWithGlue, &world.path("s3"));
    if let Some(server) = server {
        conforms(&world, &glue(&server)).await;
    }
}

fn glue(server: &S3Server) -> Place {
    let warehouse = format!("{}/glue", server.bucket());
    let place = Place {
        config: json!({
            "catalog_type": "glue", "catalog_uri": server.uri(), "warehouse_path": warehouse,
            "glue": { "region": "us-east-1" },
        }),
        python: json!({
            "type": "glue", "warehouse": warehouse, "glue.endpoint": server.uri(), "glue.region": "us-east-1",
            "glue.access-key-id": "testing", "glue.secret-access-key": "testing",
        }),
        pairs: "pairs",
    };
    place.on(&server.properties())
}

/// Hive's namespaces have one part too.
#[tokio::test(flavor = "multi_thread")]
async fn hive_and_local_files() {
    let world = World::new(FormatVersion::V3);
    if let Some(server) = HiveServer::start(&world.path("hive")) {
        let place = hive(&world, &server);
        conforms(&world, &place).await;
        writers_at_once(&world, &place).await;
    }
}

fn hive(world: &World, server: &HiveServer) -> Place {
    let warehouse = format!("file://{}", world.path("warehouse").display());
    Place {
        config: json!({
            "catalog_type": "hive", "catalog_uri": server.uri(), "warehouse_path": warehouse,
        }),
        python: json!({ "type": "hive", "uri": server.uri(), "warehouse": warehouse }),
        pairs: "pairs",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_once_in_glue() {
    let world = World::new(FormatVersion::V3);
    if let Some(server) = S3Server::start(S3Kind::MotoWithGlue, &world.path("s3")) {
        writers_at_once(&world, &glue(&server)).await;
    }
}

/// Of writers that build on the same, each by a catalog of its own, one is taken, as the catalog compares before it changes.
async fn writers_at_once(world: &World, place: &Place) {
    let config = place.config(FormatVersion::V3);
    let database = world.database_in(&format!("database-{}", Uuid::new_v4()));
    let table = notes(&database);
    write_round(&database, &table, 0);
    let mut exporter = Exporter::open(database.clone(), &config).await.unwrap();
    exporter.tick(&database.snapshot()).await.unwrap();
    let catalog = open(&config, true).await.unwrap();
    for round in 0..5 {
        let base = load(&*catalog).await;
        let writers = (0..4).map(async |writer| {
            let catalog = open(&config, true).await.unwrap();
            let name = format!("writer-{round}-{writer}");
            let change = Change::of(&base.metadata, property(&name));
            match catalog.commit(&base, &change, Uuid::new_v4()).await {
                CommitOutcome::Committed(_) => Some(name),
                CommitOutcome::Conflict => None,
                other => panic!("{other:?}"),
            }
        });
        let taken = futures::future::join_all(writers).await;
        let taken: Vec<String> = taken.into_iter().flatten().collect();
        let properties = load(&*catalog).await.metadata.properties().clone();
        let start = format!("writer-{round}-");
        let kept = properties
            .into_keys()
            .filter(|name| name.starts_with(&start));
        assert_eq!(kept.collect::<Vec<_>>(), taken);
        assert_eq!(taken.len(), 1);
    }
    write_round(&database, &table, 1);
    exporter.tick(&database.snapshot()).await.unwrap();
    world.check_same_in(&database, catalog).await;
}

async fn conforms(world: &World, place: &Place) {
    for version in VERSIONS {
        let config = place.config(version);
        let catalog = open(&config, true).await.unwrap();
        assert_eq!(catalog.list().await.unwrap(), []);
        let database = world.database_in(&format!("database-{}", Uuid::new_v4()));
        let table = notes(&database);
        pairs_table(&database, place.pairs);
        let mut exporter = Exporter::open(database.clone(), &config).await.unwrap();
        for round in 0..3 {
            write_round(&database, &table, round);
            exporter.tick(&database.snapshot()).await.unwrap();
            world.check_same_in(&database, catalog.clone()).await;
        }
        let names = catalog.list().await.unwrap();
        let pairs = pairs_ident(place.pairs);
        assert_eq!(names, [pairs.clone(), ident("shop", "notes")]);
        field_ids_are_kept(&*catalog, &pairs).await;

        let before = load(&*catalog).await;
        write_round(&database, &table, 3);
        exporter.tick(&database.snapshot()).await.unwrap();
        a_change_of_what_was_is_refused(&*catalog, &before).await;

        let mut newer = Exporter::open(database.clone(), &config).await.unwrap();
        write_round(&database, &table, 4);
        let error = exporter.tick(&database.snapshot()).await.unwrap_err();
        assert!(matches!(error, ExportError::Fenced { .. }), "{error}");
        newer.tick(&database.snapshot()).await.unwrap();
        world.check_same_in(&database, catalog.clone()).await;

        an_old_snapshot_is_removed(&*catalog).await;
        let table = with_a_size(&database, &table);
        newer.tick(&database.snapshot()).await.unwrap();
        world.check_same_in(&database, catalog.clone()).await;
        pyiceberg_agrees(place, &database, &table);
        for name in names {
            assert!(catalog.drop_table(&name).await.unwrap());
            assert!(!catalog.drop_table(&name).await.unwrap());
            assert!(catalog.load(&name).await.unwrap().is_none());
        }
    }
}

fn pairs_ident(name: &str) -> TableIdent {
    match name.contains('.') {
        true => TableIdent::from_strs(name.split('.')).unwrap(),
        false => ident("default", name),
    }
}

fn pairs_table(database: &Database, name: &str) {
    let schema = TableSchema::builder(name)
        .column_with_id("right", ColumnType::Utf8, false, 7)
        .column_with_id("left", ColumnType::Int32, false, 3)
        .primary_key(["left", "right"]);
    let table = database.create_table(schema.build().unwrap()).unwrap();
    let mut transaction = database.begin();
    let row = vec![Value::Utf8("r".into()), Value::Int32(1)];
    transaction.upsert(&table, row).unwrap();
    transaction.commit().unwrap();
}

fn write_round(database: &Database, table: &Table, round: i64) {
    let rows = (0..50).map(|id| (id * (round + 1), format!("{round}")));
    write_notes(database, table, rows, &[round, round + 100]);
}

/// Adds a column, and a row that has it.
fn with_a_size(database: &Database, table: &Table) -> Table {
    let change = SchemaChange::AddColumn {
        name: "size".into(),
        column_type: ColumnType::Int32,
        nullable: true,
        default: None,
    };
    let table = database.alter_table(table, &[change]).unwrap();
    let mut transaction = database.begin();
    let row = vec![Value::Int64(5), Value::Utf8("five".into()), Value::Int32(5)];
    transaction.upsert(&table, row).unwrap();
    transaction.commit().unwrap();
    table
}

async fn load(catalog: &dyn TableCatalog) -> CatalogTable {
    let found = catalog.load(&ident("shop", "notes")).await.unwrap();
    found.expect("the table is there")
}

async fn field_ids_are_kept(catalog: &dyn TableCatalog, ident: &TableIdent) {
    let found = catalog.load(ident).await.unwrap().unwrap();
    let fields = found.metadata.current_schema().as_struct().clone();
    let ids: Vec<i32> = fields.fields().iter().map(|field| field.id).collect();
    assert_eq!(ids, [7, 3], "columns keep their field ids");
}

fn property(name: &str) -> Vec<TableUpdate> {
    vec![TableUpdate::SetProperties {
        updates: HashMap::from([(name.to_owned(), "1".to_owned())]),
    }]
}

async fn a_change_of_what_was_is_refused(catalog: &dyn TableCatalog, before: &CatalogTable) {
    let late = Change::of(&before.metadata, property("late"));
    let outcome = catalog.commit(before, &late, Uuid::new_v4()).await;
    assert!(matches!(outcome, CommitOutcome::Conflict), "{outcome:?}");
    let now = load(catalog).await;
    assert!(!now.metadata.properties().contains_key("late"));
    assert_ne!(now.metadata_location, before.metadata_location);
    let timely = Change::of(&now.metadata, property("timely"));
    let outcome = catalog.commit(&now, &timely, Uuid::new_v4()).await;
    assert!(
        matches!(&outcome, CommitOutcome::Committed(table) if table.metadata.properties().contains_key("timely")),
        "{outcome:?}"
    );
}

async fn an_old_snapshot_is_removed(catalog: &dyn TableCatalog) {
    let now = load(catalog).await;
    let oldest = now
        .metadata
        .snapshots()
        .min_by_key(|snapshot| snapshot.sequence_number());
    let oldest = oldest.unwrap().snapshot_id();
    let updates = vec![TableUpdate::RemoveSnapshots {
        snapshot_ids: vec![oldest],
    }];
    let outcome = catalog
        .commit(&now, &Change::of(&now.metadata, updates), Uuid::new_v4())
        .await;
    assert!(
        matches!(outcome, CommitOutcome::Committed(_)),
        "{outcome:?}"
    );
    let now = load(catalog).await;
    assert!(now.metadata.snapshot_by_id(oldest).is_none());
    assert!(now.metadata.current_snapshot().is_some());
}

/// Opens the table through the same catalog with PyIceberg.
fn pyiceberg_agrees(place: &Place, database: &Database, table: &Table) {
    let Some(python) = python() else {
        return;
    };
    let script = "import json, sys\n\
        from pyiceberg.catalog import load_catalog\n\
        catalog = load_catalog('moonshine', **json.loads(sys.argv[1]))\n\
        rows = catalog.load_table('shop.notes').scan().to_arrow().sort_by('id').to_pylist()\n\
        print(json.dumps([[row['id'], row['note'], row['size']] for row in rows]))\n";
    let output = Command::new(python)
        .args(["-c", script, &place.python.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let found: Vec<(i64, String, Option<i32>)> =
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{output:?}"));
    let snapshot = database.snapshot();
    assert_eq!(found.len() as u64, snapshot.row_count(table).unwrap());
    for (id, text, size) in found {
        let size = size.map_or(Value::Null, Value::Int32);
        let row = snapshot.get(table, &[Value::Int64(id)]).unwrap();
        assert_eq!(row, Some(vec![Value::Int64(id), Value::Utf8(text), size]));
    }
}
