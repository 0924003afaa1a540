//! Invariant 5 "same", as readers nobody here wrote see it: the main branch is what was published, the other what was
//! exported.

use std::path::Path;

use moonshine_export::{Exporter, Publish, TableHistory};

use crate::installed::python;
use crate::support::{VERSIONS, World, ident, notes, rows_at, write_notes};

/// Writes what PyIceberg and DuckDB read of the main branch, and of the one that is named, as of the newest metadata.
const READ: &str = r"
import json, sys, tempfile
import duckdb
from duckdb_extensions import import_extension
from pyiceberg.catalog.sql import SqlCatalog
warehouse, branch, out = sys.argv[1:]
catalog = SqlCatalog('moonshine', uri=f'sqlite:///{warehouse}/catalog.db', warehouse=f'file://{warehouse}')
table = catalog.load_table('shop.notes')
folder = tempfile.TemporaryDirectory()
connection = duckdb.connect(':memory:', config={'extension_directory': folder.name})
for extension in ('avro', 'iceberg'):
    import_extension(extension, con=connection)
    connection.execute(f'LOAD {extension}')
def rows(found):
    return sorted([row['id'], row['note']] for row in found.to_pylist())
def duck(of):
    query = f'SELECT id, note FROM iceberg_scan(?{of})'
    return rows(connection.execute(query, [table.metadata_location]).to_arrow_table())
answers = []
for name in ('main', branch):
    found = table.snapshot_by_name(name)
    if found is None:
        answers.append(None)
        continue
    by_pyiceberg = rows(table.scan(snapshot_id=found.snapshot_id).to_arrow())
    assert by_pyiceberg == duck(f', snapshot_from_id = {found.snapshot_id}')
    if name == 'main':
        assert by_pyiceberg == rows(table.scan().to_arrow())
        assert by_pyiceberg == duck('')
    answers.append(by_pyiceberg)
with open(out, 'w') as file:
    json.dump(answers, file)
";

/// The rows of the main branch and of the audited one, by PyIceberg and DuckDB alike.
fn read(world: &World, python: &Path) -> [serde_json::Value; 2] {
    let output = std::process::Command::new(python)
        .args(["-c", READ])
        .arg(world.path("warehouse"))
        .arg("audit")
        .arg(world.path("answers"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(world.path("answers")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn others_read_what_is_published() {
    let Some(python) = python() else { return };
    for version in VERSIONS {
        let world = World::new(version);
        let database = world.database();
        let table = notes(&database);
        let mut config = world.config();
        let all = config.tables.entry("*".to_owned()).or_default();
        all.branch = Some("audit".to_owned());
        let mut exporter = Exporter::open(database.clone(), &config).await.unwrap();
        let history = TableHistory::open(&config, &database, &table).await;
        let history = history.unwrap();
        let rows_now = || {
            let rows = rows_at(&database.snapshot(), &table).into_values();
            let mut rows: Vec<_> = rows
                .map(|row| serde_json::json!([row[0].parse::<i64>().unwrap(), row[1]]))
                .collect();
            rows.sort_by_key(|row| row[0].as_i64());
            serde_json::Value::Array(rows)
        };
        let mut published = serde_json::Value::Null;
        for step in 0..4 {
            let rows = (step..step + 5).map(|id| (id, format!("{step}")));
            write_notes(&database, &table, rows, &[step - 1]);
            exporter.tick(&database.snapshot()).await.unwrap();
            assert_eq!(
                read(&world, &python),
                [published.clone(), rows_now()],
                "{version:?}"
            );
            if step % 2 == 1 {
                history.publish(Publish::default()).await.unwrap();
                published = rows_now();
                assert_eq!(
                    read(&world, &python),
                    [published.clone(), published.clone()]
                );
            }
        }
        world.check_same(&database).await;
        world.check_manifests(&ident("shop", "notes")).await;
    }
}
