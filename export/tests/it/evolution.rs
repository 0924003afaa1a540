//! Invariant 5, "same", over changes of a table's columns: the Iceberg table's follow by the same field ids, and what was
//! exported before is read as before.

use moonshine_engine::{Column, ColumnType, Database, SchemaChange, Table, TableSchema, Value};
use moonshine_export::{ExportError, FormatVersion};

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

/// The comments of an Iceberg table: its own, and those of its columns.
async fn comments(world: &World) -> Vec<Option<String>> {
    let metadata = world.metadata(&ident("shop", "notes")).await;
    let fields = metadata.current_schema().as_struct().fields().iter();
    let docs = fields.map(|field| field.doc.clone());
    std::iter::once(metadata.properties().get("comment").cloned())
        .chain(docs)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn comments_follow() {
    for version in VERSIONS {
        let world = World::new(version);
        let database = world.database();
        let schema = TableSchema::builder("shop.notes")
            .comment("What was noted")
            .column("id", ColumnType::Int64, false)
            .column_comment("Counted from 0")
            .column("note", ColumnType::Utf8, true)
            .primary_key(["id"]);
        let table = database.create_table(schema.build().unwrap()).unwrap();
        write_notes(&database, &table, [(1, "a".into())], &[]);
        let mut exporter = world.exporter(&database).await.unwrap();
        exporter.tick(&database.snapshot()).await.unwrap();
        let some = |text: &str| Some(text.to_owned());
        let expected = [some("What was noted"), some("Counted from 0"), None];
        assert_eq!(comments(&world).await, expected);

        // They alone are a change, which the columns and the rows stay the same over.
        let comment = |name: &str, text: &str| SchemaChange::CommentColumn {
            name: name.into(),
            comment: some(text),
        };
        let of_table = SchemaChange::CommentTable {
            comment: some("Notes\nof all"),
        };
        let changes = [comment("note", "Ω \"text\""), of_table];
        let table = database.alter_table(&table, &changes).unwrap();
        exporter.tick(&database.snapshot()).await.unwrap();
        let expected = [
            some("Notes\nof all"),
            some("Counted from 0"),
            some("Ω \"text\""),
        ];
        assert_eq!(comments(&world).await, expected);
        world.check_same(&database).await;

        // One that the database has nothing for stays in the Iceberg table.
        let none = SchemaChange::CommentColumn {
            name: "id".into(),
            comment: None,
        };
        let table = database
            .alter_table(&table, &[none, comment("note", "text"), add("size", None)])
            .unwrap();
        drop(exporter);
        let mut exporter = world.exporter(&database).await.unwrap();
        upsert(
            &database,
            &table,
            vec![vec![Value::Int64(2), Value::Null, Value::Int32(7)]],
        );
        exporter.tick(&database.snapshot()).await.unwrap();
        let expected = [
            some("Notes\nof all"),
            some("Counted from 0"),
            some("text"),
            None,
        ];
        assert_eq!(comments(&world).await, expected);
        world.check_same(&database).await;
        world.check_manifests(&ident("shop", "notes")).await;
    }
}

/// One column of each type with a default, and one that may not be null.
fn defaults() -> Vec<SchemaChange> {
    const MAX_38: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;
    let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
    let defaults = [
        (ColumnType::Boolean, Value::Boolean(true)),
        (ColumnType::Int32, Value::Int32(i32::MIN)),
        (ColumnType::Int64, Value::Int64(i64::MAX)),
        (ColumnType::Float32, Value::Float32(0.1)),
        (ColumnType::Float64, Value::Float64(f64::MIN_POSITIVE)),
        (decimal(9, 2), Value::Decimal(-1230)),
        (decimal(38, 38), Value::Decimal(-MAX_38)),
        (decimal(38, 0), Value::Decimal(MAX_38)),
        (ColumnType::Utf8, Value::Utf8("naïve \"Ω\" 🦀".into())),
        (ColumnType::Utf8, Value::Utf8(String::new())),
        (ColumnType::Binary, Value::Binary((0..=255).collect())),
        (ColumnType::Uuid, Value::Uuid([0x80; 16])),
        (ColumnType::Date, Value::Date(-719_162)),
        (ColumnType::Time, Value::Time(86_399_999_999)),
        (ColumnType::Timestamp, Value::Timestamp(-1)),
        (
            ColumnType::TimestampTz,
            Value::TimestampTz(253_402_300_799_999_999),
        ),
    ];
    let added = defaults.into_iter().enumerate();
    let added = added.map(|(number, (column_type, default))| SchemaChange::AddColumn {
        name: format!("added {number}"),
        column_type,
        nullable: number % 2 == 0,
        default: Some(default),
    });
    added.collect()
}

/// Rows that were exported before have the default of a column that is added.
#[tokio::test(flavor = "multi_thread")]
async fn rows_from_before_have_the_default() {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let table = notes(&database);
    let texts = |ids: std::ops::Range<i64>| ids.map(|id| (id, format!("{id}")));
    write_notes(&database, &table, texts(0..20), &[]);
    let mut exporter = world.exporter(&database).await.unwrap();
    exporter.tick(&database.snapshot()).await.unwrap();
    let table = database.alter_table(&table, &defaults()).unwrap();
    exporter.tick(&database.snapshot()).await.unwrap();
    world.check_same(&database).await;

    let nulls = table
        .schema()
        .columns()
        .iter()
        .map(|column| match &column.default {
            Some(_) if column.nullable => Value::Null,
            Some(default) => default.clone(),
            None => Value::Int64(7),
        });
    let mut row: Vec<Value> = nulls.collect();
    row[1] = Value::Utf8("nulls are no defaults".into());
    upsert(&database, &table, vec![row]);
    drop(exporter);
    let widen = SchemaChange::WidenColumn {
        name: "added 1".into(),
        column_type: ColumnType::Int64,
    };
    database.alter_table(&table, &[widen]).unwrap();
    let mut exporter = world.exporter(&database).await.unwrap();
    exporter.tick(&database.snapshot()).await.unwrap();
    world.check_same(&database).await;
}

/// The metadata is JSON, which has no NaN, and text of dates, which ends with the year 9999.
#[tokio::test(flavor = "multi_thread")]
async fn defaults_that_metadata_cant_hold_are_refused() {
    for (column_type, default) in [
        (ColumnType::Float64, Value::Float64(f64::NAN)),
        (ColumnType::Float32, Value::Float32(f32::INFINITY)),
        (ColumnType::Date, Value::Date(i32::MAX)),
        (ColumnType::Timestamp, Value::Timestamp(i64::MIN)),
    ] {
        let world = World::new(FormatVersion::V3);
        let database = world.database();
        let table = notes(&database);
        write_notes(&database, &table, [(1, "a".to_owned())], &[]);
        let mut exporter = world.exporter(&database).await.unwrap();
        exporter.tick(&database.snapshot()).await.unwrap();
        let added = SchemaChange::AddColumn {
            name: "size".into(),
            column_type,
            nullable: true,
            default: Some(default),
        };
        database.alter_table(&table, &[added]).unwrap();
        let refused = exporter.tick(&database.snapshot()).await;
        assert!(
            matches!(&refused, Err(ExportError::Config(text)) if text.contains("'size'")),
            "{refused:?}"
        );
    }
}

/// Where nothing was exported yet, no row lacks the column.
#[tokio::test(flavor = "multi_thread")]
async fn a_default_of_no_rows_is_no_matter() {
    for version in VERSIONS {
        let world = World::new(version);
        let database = world.database();
        let table = notes(&database);
        let mut exporter = world.exporter(&database).await.unwrap();
        exporter.tick(&database.snapshot()).await.unwrap();
        write_notes(&database, &table, [(1, "a".to_owned())], &[]);
        database
            .alter_table(&table, &[add("size", Some(Value::Int32(5)))])
            .unwrap();
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;
    }
}

/// What a table's columns forbid keeps no other table from being exported.
#[tokio::test(flavor = "multi_thread")]
async fn format_2_has_no_defaults() {
    let world = World::new(FormatVersion::V2);
    let database = world.database();
    let table = notes(&database);
    write_notes(&database, &table, [(1, "a".to_owned())], &[]);
    let mut exporter = world.exporter(&database).await.unwrap();
    exporter.tick(&database.snapshot()).await.unwrap();
    let table = database
        .alter_table(&table, &[add("size", Some(Value::Int32(5)))])
        .unwrap();
    let other = TableSchema::builder("shop.other")
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
