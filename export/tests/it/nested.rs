//! Invariant 5, "same", of lists, structs and maps: they are exported as the database has them, also where they changed within
//! since, and were rewritten.

use crate::support::{VERSIONS, World, ident};
use iceberg::spec::Type;
use moonshine_engine::{
    ColumnType, Database, NestedField, SchemaChange, Table, TableSchema, Value,
};

/// `list<struct<street: string, zip: int32 not null, tags: map<string, list<uuid>>>>`, and behind it a column that is not
/// nested.
fn people(database: &Database) -> Table {
    let tags = ColumnType::map(
        ColumnType::Utf8,
        ColumnType::list(ColumnType::Uuid, true),
        true,
    );
    let address = ColumnType::structure([
        NestedField::new("street", ColumnType::Utf8, true),
        NestedField::new("zip", ColumnType::Int32, false),
        NestedField::new("tags", tags, true),
    ]);
    let schema = TableSchema::builder("shop.people")
        .column("addresses", ColumnType::list(address, true), true)
        .column("id", ColumnType::Int64, false)
        .column("home", address, true)
        .column("name", ColumnType::Utf8, true)
        .primary_key(["id"]);
    database.create_table(schema.build().unwrap()).unwrap()
}

fn text(text: &str) -> Value {
    Value::Utf8(text.into())
}

/// One value of each shape: whole, with nulls, empty, null.
fn addresses(seed: u8) -> Vec<Value> {
    let uuids = Value::List(vec![
        Value::Uuid([seed; 16]),
        Value::Null,
        Value::Uuid([0; 16]),
    ]);
    let tags = vec![
        (text("all"), uuids),
        (text(""), Value::List(vec![])),
        (text("none"), Value::Null),
    ];
    let of = |street, zip, tags| Value::Struct(vec![street, Value::Int32(zip), tags]);
    vec![
        of(
            text(&"x".repeat(usize::from(seed))),
            i32::MIN,
            Value::Map(tags),
        ),
        of(Value::Null, i32::from(seed), Value::Map(vec![])),
        of(text(""), i32::MAX, Value::Null),
    ]
}

fn write(database: &Database, table: &Table, ids: std::ops::Range<u8>, more: &[Value]) {
    let mut transaction = database.begin();
    for id in ids {
        let all = addresses(id);
        let list = match id % 4 {
            0 => Value::List(all.clone().into_iter().chain([Value::Null]).collect()),
            1 => Value::List(vec![]),
            2 => Value::List(vec![Value::Null, Value::Null]),
            _ => Value::Null,
        };
        let home = all
            .into_iter()
            .nth(usize::from(id) % 4)
            .unwrap_or(Value::Null);
        let widened = |value: Value| match value {
            Value::Struct(mut values) if !more.is_empty() => {
                values.remove(0);
                values.extend(more.iter().cloned());
                Value::Struct(values)
            }
            other => other,
        };
        let row = vec![list, Value::Int64(id.into()), widened(home), text("n")];
        transaction.upsert(table, row).unwrap();
    }
    transaction.commit().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_values_come_back_and_change_within() {
    for version in VERSIONS {
        let world = World::new(version);
        let database = world.database();
        let table = people(&database);
        write(&database, &table, 0..40, &[]);
        let mut exporter = world.exporter(&database).await.unwrap();
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;
        // Rows of another file; each of the first is a deleted one too.
        write(&database, &table, 10..50, &[]);
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;

        // In one of the two columns a field goes, one comes in its place, and others follow.
        let within = |change| SchemaChange::Within {
            path: vec!["home".into()],
            change: Box::new(change),
        };
        let table = database
            .alter_table(
                &table,
                &[
                    within(SchemaChange::DropColumn {
                        name: "street".into(),
                    }),
                    within(SchemaChange::RenameColumn {
                        name: "zip".into(),
                        new_name: "code".into(),
                    }),
                    within(SchemaChange::AddColumn {
                        name: "street".into(),
                        column_type: ColumnType::list(ColumnType::Boolean, false),
                        nullable: true,
                        default: None,
                    }),
                    within(SchemaChange::CommentColumn {
                        name: "code".into(),
                        comment: Some("Of the post".into()),
                    }),
                ],
            )
            .unwrap();
        // Those from before are read with the new fields.
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;
        let more = [Value::List(vec![Value::Boolean(true)])];
        write(&database, &table, 30..60, &more);
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;

        let metadata = world.metadata(&ident("shop", "people")).await;
        let home = table.schema().columns()[2].clone();
        let field = metadata
            .current_schema()
            .field_by_id(home.field_id)
            .unwrap();
        let Type::Struct(fields) = &*field.field_type else {
            panic!("{field}")
        };
        let found: Vec<_> = fields
            .fields()
            .iter()
            .map(|field| (field.id, field.name.as_str(), field.doc.as_deref()))
            .collect();
        let expected = home.column_type.nested_fields().iter();
        let expected: Vec<_> = expected
            .map(|field| {
                (
                    field.field_id,
                    field.name.as_str(),
                    field.comment.as_deref(),
                )
            })
            .collect();
        assert_eq!(found, expected);
        assert_eq!(found[0], (found[0].0, "code", Some("Of the post")));
        world.check_manifests(&ident("shop", "people")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn elements_are_widened() {
    for version in VERSIONS {
        let world = World::new(version);
        let database = world.database();
        let schema = TableSchema::builder("shop.lists")
            .column("id", ColumnType::Int64, false)
            .column("numbers", ColumnType::list(ColumnType::Int32, true), true)
            .primary_key(["id"]);
        let table = database.create_table(schema.build().unwrap()).unwrap();
        let mut exporter = world.exporter(&database).await.unwrap();
        let upsert = |table: &Table, id, numbers: Vec<Value>| {
            let mut transaction = database.begin();
            let row = vec![Value::Int64(id), Value::List(numbers)];
            transaction.upsert(table, row).unwrap();
            transaction.commit().unwrap();
        };
        upsert(&table, 1, vec![Value::Int32(i32::MIN), Value::Null]);
        exporter.tick(&database.snapshot()).await.unwrap();
        let widen = SchemaChange::Within {
            path: vec!["numbers".into()],
            change: Box::new(SchemaChange::WidenColumn {
                name: "element".into(),
                column_type: ColumnType::Int64,
            }),
        };
        let table = database.alter_table(&table, &[widen]).unwrap();
        upsert(&table, 2, vec![Value::Int64(i64::MAX)]);
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;
    }
}
