//! Invariant 5, "same", over changes of a table's columns: the Iceberg table's follow by the same field ids, and what was
//! exported before is read as before.

use moonshine_engine::{Column, ColumnType, Database, SchemaChange, Table, Value};
use moonshine_export::ExportError;

use crate::support::{VERSIONS, World, ident, notes, write_notes};

fn upsert(database: &Database, table: &Table, rows: Vec<Vec<Value>>) {
    let mut transaction = database.begin();
    for row in rows {
        transaction.upsert(table, row).unwrap();
    }
    transaction.commit().unwrap();
}

fn add(name: &str, default: Option<Value>) -> SchemaChange {
    SchemaChange::AddColumn {
        name: name.into(),
        column_type: ColumnType::Int32,
        nullable: true,
        default,
    }
}

async fn columns(world: &World) -> Vec<(i32, String, String)> {
    let metadata = world.metadata(&ident("shop", "notes")).await;
    let fields = metadata.current_schema().as_struct().fields().iter();
    fields
        .map(|field| (field.id, field.name.clone(), field.field_type.to_string()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_follow_by_their_field_ids() {
    for version in VERSIONS {
        let world = World::new(version);
        let database = world.database();
        let table = notes(&database);
        write_notes(
            &database,
            &table,
            (0..20).map(|id| (id, format!("{id}"))),
            &[],
        );
        let mut exporter = world.exporter(&database).await.unwrap();
        exporter.tick(&database.snapshot()).await.unwrap();

        let rename = SchemaChange::RenameColumn {
            name: "note".into(),
            new_name: "text".into(),
        };
        let table = database
            .alter_table(&table, &[add("size", None), rename])
            .unwrap();
        let row = |id| vec![Value::Int64(id), Value::Utf8("new".into()), Value::Int32(7)];
        upsert(&database, &table, (10..25).map(row).collect());
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;

        // An exporter that is opened after a change takes an earlier version of the columns for its own.
        drop(exporter);
        let widen = SchemaChange::WidenColumn {
            name: "size".into(),
            column_type: ColumnType::Int64,
        };
        let drop_column = SchemaChange::DropColumn {
            name: "text".into(),
        };
        let table = database
            .alter_table(&table, &[widen, drop_column, add("note", None)])
            .unwrap();
        let mut exporter = world.exporter(&database).await.unwrap();
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;
        let column = |id, name: &str, kind: &str| (id, name.to_owned(), kind.to_owned());
        let expected = [
            column(1, "id", "long"),
            column(3, "size", "long"),
            column(4, "note", "int"),
        ];
        assert_eq!(columns(&world).await, expected);

        let row = vec![Value::Int64(3), Value::Int64(1 << 40), Value::Int32(1)];
        upsert(&database, &table, vec![row]);
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;
        world.check_manifests(&ident("shop", "notes")).await;
    }
}

/// What a table's columns forbid keeps no other table from being exported.
#[tokio::test(flavor = "multi_thread")]
async fn a_default_of_exported_rows_is_refused() {
    let world = World::new(VERSIONS[1]);
    let database = world.database();
    let table = notes(&database);
    write_notes(&database, &table, [(1, "a".to_owned())], &[]);
    let mut exporter = world.exporter(&database).await.unwrap();
    exporter.tick(&database.snapshot()).await.unwrap();
    let table = database
        .alter_table(&table, &[add("size", Some(Value::Int32(5)))])
        .unwrap();
    let other = moonshine_engine::TableSchema::builder("shop.other")
        .column("id", ColumnType::Int64, false)
        .primary_key(["id"])
        .build();
    let other = database.create_table(other.unwrap()).unwrap();
    upsert(&database, &other, vec![vec![Value::Int64(1)]]);
    let refused = exporter.tick(&database.snapshot()).await;
    assert!(
        matches!(&refused, Err(ExportError::Config(text)) if text.contains("'size'")),
        "{refused:?}"
    );
    assert_eq!(
        database.exported(&other).unwrap().seq,
        database.snapshot().seq()
    );

    // A column without a default in its place, and all goes on.
    let drop_column = SchemaChange::DropColumn {
        name: "size".into(),
    };
    let table = database
        .alter_table(&table, &[drop_column, add("size", None)])
        .unwrap();
    let ids: Vec<i32> = table
        .schema()
        .columns()
        .iter()
        .map(|column: &Column| column.field_id)
        .collect();
    assert_eq!(ids, [1, 2, 4]);
    exporter.tick(&database.snapshot()).await.unwrap();
    world.check_same(&database).await;
}
