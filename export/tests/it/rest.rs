//! A real catalog server of the REST protocol: exports through it are what the database holds, a newer exporter fences an
//! older one, and PyIceberg opens the tables through the same server.

use std::path::PathBuf;
use std::process::Command;

use moonshine_engine::{ColumnType, SchemaChange, TableSchema, Value};
use moonshine_export::catalog::{RestCatalog, TableCatalog, open};
use moonshine_export::{ExportError, Exporter, IcebergConfig};

use crate::servers::RestServer;
use crate::support::{VERSIONS, World, ident, notes, write_notes};

#[tokio::test(flavor = "multi_thread")]
async fn exports_through_a_server_are_what_the_database_holds() {
    for version in VERSIONS {
        let world = World::new(version);
        let Some(server) = RestServer::start(&world.path("server")) else {
            return;
        };
        let config = server.config(version.number());
        let catalog = open(&config, true).await.unwrap();
        let database = world.database();
        let table = notes(&database);
        let schema = TableSchema::builder("a.b.pairs")
            .column_with_id("right", ColumnType::Utf8, false, 7)
            .column_with_id("left", ColumnType::Int32, false, 3)
            .primary_key(["left", "right"]);
        database.create_table(schema.build().unwrap()).unwrap();
        let mut exporter = Exporter::open(database.clone(), &config).await.unwrap();
        for round in 0..4 {
            let rows = (0..50).map(|id| (id * (round + 1), format!("{round}")));
            write_notes(&database, &table, rows, &[round, round + 100]);
            exporter.tick(&database.snapshot()).await.unwrap();
            world.check_same_in(&database, catalog.clone()).await;
        }
        let change = SchemaChange::AddColumn {
            name: "size".into(),
            column_type: ColumnType::Int32,
            nullable: true,
            default: None,
        };
        let table = database.alter_table(&table, &[change]).unwrap();
        let mut transaction = database.begin();
        let row = vec![Value::Int64(5), Value::Utf8("five".into()), Value::Int32(5)];
        transaction.upsert(&table, row).unwrap();
        transaction.commit().unwrap();
        // Whoever comes later takes over, and the one before finds that out.
        let mut newer = Exporter::open(database.clone(), &config).await.unwrap();
        let error = exporter.tick(&database.snapshot()).await.unwrap_err();
        assert!(matches!(error, ExportError::Fenced { .. }), "{error}");
        newer.tick(&database.snapshot()).await.unwrap();
        world.check_same_in(&database, catalog.clone()).await;

        let names = catalog.list().await.unwrap();
        assert_eq!(names, [nested(), ident("shop", "notes")]);
        let found = catalog.load(&nested()).await.unwrap().unwrap();
        let ids: Vec<i32> = found
            .metadata
            .current_schema()
            .as_struct()
            .fields()
            .iter()
            .map(|field| field.id)
            .collect();
        assert_eq!(ids, [7, 3], "columns keep their field ids");
        pyiceberg_agrees(&server, database.snapshot().row_count(&table).unwrap());
        assert!(catalog.drop_table(&nested()).await.unwrap());
        assert!(!catalog.drop_table(&nested()).await.unwrap());
        assert!(catalog.load(&nested()).await.unwrap().is_none());
    }
}

fn nested() -> iceberg::TableIdent {
    iceberg::TableIdent::from_strs(["a", "b", "pairs"]).unwrap()
}

/// Opens the table through the server with PyIceberg, where it is installed.
fn pyiceberg_agrees(server: &RestServer, row_count: u64) {
    let installed = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let python = match std::env::var_os("MOONSHINE_TEST_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => installed.parent().unwrap().join("test-venv/bin/python"),
    };
    if !python.exists() {
        return;
    }
    let script = "import sys\n\
        from pyiceberg.catalog.rest import RestCatalog\n\
        catalog = RestCatalog('c', uri=sys.argv[1], token=sys.argv[2])\n\
        rows = catalog.load_table('shop.notes').scan().to_arrow()\n\
        five = rows.filter(__import__('pyarrow').compute.field('id') == 5).to_pylist()\n\
        assert five == [{'id': 5, 'note': 'five', 'size': 5}], five\n\
        print(rows.num_rows)\n";
    let output = Command::new(python)
        .args(["-c", script, &server.uri(), server.token()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.trim(), row_count.to_string(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_or_refuses_is_named() {
    let config = |json: serde_json::Value| serde_json::from_value::<IcebergConfig>(json).unwrap();
    let nowhere = config(serde_json::json!({
        "catalog_type": "rest", "catalog_uri": "http://127.0.0.1:9",
    }));
    let error = RestCatalog::open(&nowhere).await.unwrap_err();
    let is_named = |error: &ExportError| matches!(error, ExportError::Unavailable { place, .. } if place.contains("127.0.0.1"));
    assert!(is_named(&error), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let Some(server) = RestServer::start(folder.path()) else {
        return;
    };
    let stranger = config(serde_json::json!({
        "catalog_type": "rest", "catalog_uri": server.uri(), "rest": { "token": "rb_wrong" },
    }));
    let refused = match RestCatalog::open(&stranger).await {
        Ok(catalog) => catalog.list().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(
        is_named(&refused) && refused.to_string().contains("token or credential"),
        "{refused}"
    );
    assert!(
        !format!("{stranger:?}").contains("rb_wrong"),
        "secrets are not shown"
    );
}
