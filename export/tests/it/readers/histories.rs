//! Histories of one table: inserts, updates, deletes, keys that change, rows that move between partitions, columns that change,
//! maintenance in between.

use std::collections::BTreeSet;

use moonshine_engine::{ColumnType, Database, SchemaChange, Table, TableSchema, Value};
use moonshine_export::environment::Environment;
use moonshine_export::{
    Exporter, FormatVersion, LayoutSettings, MaintenanceSettings, TableSettings,
};

use super::matrix::{Matrix, Outcome};
use super::nested::{add_columns, changes as nested_changes, nested_value};
use super::process::{Reader, Request};
use super::rows::{TextRow, columns_of, expected_rows};
use crate::support::{Random, VERSIONS, World, ident};

/// Exports of a random history.
const TICKS: u64 = 8;
/// Numbers that keys are made of.
const NUMBERS: u64 = 120;

/// How rows are divided and sorted.
#[derive(Clone, Copy)]
struct Layout {
    partition_by: &'static [&'static str],
    sort_by: &'static [&'static str],
}

/// One partition, sorted by key.
const PLAIN: Layout = Layout {
    partition_by: &[],
    sort_by: &[],
};

/// A random history and the column of the page that it is for.
struct Course {
    what: &'static str,
    seed: u64,
    /// The layout that the table begins with, and the one that it gets half way.
    layouts: [Layout; 2],
    /// Whether the table has lists, structs and maps too, which change within.
    is_nested: bool,
}

/// Of partitioned tables, every update of a row that draws another value moves it.
const COURSES: [Course; 5] = [
    Course {
        what: "histories",
        seed: 1,
        layouts: [PLAIN, PLAIN],
        is_nested: false,
    },
    Course {
        what: "histories",
        seed: 2,
        layouts: [PLAIN, PLAIN],
        is_nested: false,
    },
    Course {
        what: "partitions",
        seed: 3,
        // The column is widened on the way.
        layouts: [Layout {
            partition_by: &["is_paid", "truncate(20000, quantity)"],
            sort_by: &[],
        }; 2],
        is_nested: false,
    },
    Course {
        what: "partitions",
        seed: 4,
        layouts: [
            Layout {
                partition_by: &["bucket(4, ordered_at)", "region"],
                sort_by: &["weight desc nulls last", "number"],
            },
            Layout {
                partition_by: &["is_paid", "bucket(3, quantity)"],
                sort_by: &["price", "quantity desc"],
            },
        ],
        is_nested: false,
    },
    Course {
        what: "nested",
        seed: 5,
        layouts: [
            PLAIN,
            Layout {
                partition_by: &["is_paid"],
                sort_by: &["price"],
            },
        ],
        is_nested: true,
    },
];

pub(super) async fn measure(reader: &mut Reader, matrix: &mut Matrix) {
    for version in VERSIONS {
        step_by_step(version, reader, matrix).await;
        for course in COURSES {
            at_random(version, course, reader, matrix).await;
        }
    }
}

/// One kind of change after the other.
async fn step_by_step(version: FormatVersion, reader: &mut Reader, matrix: &mut Matrix) {
    let cell = |what: &str| format!("v{} {what}", version.number());
    let mut history = History::new(version, 7, PLAIN, false).await;
    history.upsert(0..NUMBERS);
    matrix.note(
        "readers",
        &cell("rows"),
        history.export_and_read(reader).await,
    );

    history.upsert(10..30);
    history.delete(25..50);
    let outcome = history.export_and_read(reader).await;
    history.upsert(5..15);
    history.change_keys(60..70);
    let outcome = outcome.max(history.export_and_read(reader).await);
    matrix.note("readers", &cell("deletes"), outcome);
    let then = history.point().await;
    if version == FormatVersion::V3 {
        matrix.note("readers", "v3 lineage", history.lineage(reader).await);
    }

    history.change_columns();
    let outcome = history.export_and_read(reader).await;
    history.upsert(0..40);
    let outcome = outcome.max(history.export_and_read(reader).await);
    matrix.note("readers", &cell("columns"), outcome);
    if version == FormatVersion::V3 {
        history.add_defaults();
        let outcome = history.export_and_read(reader).await;
        history.upsert(0..40);
        let outcome = outcome.max(history.export_and_read(reader).await);
        matrix.note("readers", "v3 defaults", outcome);
    }
    matrix.note(
        "readers",
        &cell("as of"),
        history.read_point(reader, &then).await,
    );
}

async fn at_random(
    version: FormatVersion,
    course: Course,
    reader: &mut Reader,
    matrix: &mut Matrix,
) {
    let [first, second] = course.layouts;
    let mut history = History::new(version, course.seed, first, course.is_nested).await;
    let cell = format!("v{} {}", version.number(), course.what);
    for tick in 0..TICKS {
        if tick == TICKS / 2 {
            history.lay_out(second).await;
        }
        for _ in 0..=history.random.below(3) {
            let start = history.random.below(NUMBERS);
            let numbers = start..start + 1 + history.random.below(40);
            match history.random.below(8) {
                0..4 => history.upsert(numbers),
                4 | 5 => history.delete(numbers),
                _ => history.change_keys(numbers),
            }
        }
        if tick % 3 == 2 {
            history.change_columns();
        }
        let outcome = history.export_and_read(reader).await;
        matrix.note("readers", &cell, outcome);
        if history.random.below(2) == 0 {
            history.maintain().await;
            matrix.note("readers", &cell, history.read(reader).await);
        }
    }
}

/// A table as of one snapshot.
struct Point {
    snapshot_id: i64,
    columns: Vec<(String, String)>,
    rows: Vec<TextRow>,
}

/// A table that is written, exported and read.
struct History {
    world: World,
    database: Database,
    exporter: Exporter,
    table: Table,
    random: Random,
    /// Columns that were added so far.
    added: u32,
    is_nested: bool,
}

impl History {
    async fn new(version: FormatVersion, seed: u64, layout: Layout, is_nested: bool) -> History {
        let world = World::new(version);
        let database = world.database();
        let price = ColumnType::Decimal {
            precision: 12,
            scale: 2,
        };
        let mut builder = TableSchema::builder("shop.orders")
            .column("region", ColumnType::Utf8, false)
            .column("number", ColumnType::Int64, false)
            .column("quantity", ColumnType::Int32, true)
            .column("price", price, true)
            .column("weight", ColumnType::Float32, true)
            .column("is_paid", ColumnType::Boolean, true)
            .column("note", ColumnType::Utf8, true)
            .column("ordered_at", ColumnType::TimestampTz, true);
        if is_nested {
            builder = add_columns(builder);
        }
        let schema = builder.primary_key(["region", "number"]).build();
        let table = database.create_table(schema.unwrap()).unwrap();
        let exporter = exporter(&world, &database, layout).await;
        History {
            exporter,
            world,
            database,
            table,
            random: Random(seed),
            added: 0,
            is_nested,
        }
    }

    /// The table gets another layout; what is there stays as it lies.
    async fn lay_out(&mut self, layout: Layout) {
        self.exporter = exporter(&self.world, &self.database, layout).await;
    }

    /// Half of the numbers live in one region, half in another, until their key changes.
    fn key(number: u64, region: &str) -> Vec<Value> {
        let region = format!("{region}{}", number % 2);
        vec![Value::Utf8(region), Value::Int64(number as i64)]
    }

    fn row(&mut self, number: u64, region: &str) -> Vec<Value> {
        let mut row = Self::key(number, region);
        for column in self.table.schema().columns().iter().skip(row.len()) {
            row.push(match self.random.below(5) {
                0 if column.nullable => Value::Null,
                _ => value(column.column_type, &mut self.random),
            });
        }
        row
    }

    fn upsert(&mut self, numbers: std::ops::Range<u64>) {
        let mut transaction = self.database.begin();
        for number in numbers {
            let row = self.row(number, "here");
            transaction.upsert(&self.table, row).unwrap();
        }
        transaction.commit().unwrap();
    }

    fn delete(&mut self, numbers: std::ops::Range<u64>) {
        let mut transaction = self.database.begin();
        for number in numbers {
            let key = Self::key(number, "here");
            transaction.delete(&self.table, &key).unwrap();
        }
        transaction.commit().unwrap();
    }

    /// Rows go from one key to another, in one transaction.
    fn change_keys(&mut self, numbers: std::ops::Range<u64>) {
        let mut transaction = self.database.begin();
        for number in numbers {
            let key = Self::key(number, "here");
            transaction.delete(&self.table, &key).unwrap();
            let row = self.row(number, "there");
            transaction.upsert(&self.table, row).unwrap();
        }
        transaction.commit().unwrap();
    }

    /// Adds a column, and in turn renames, widens and drops others.
    fn change_columns(&mut self) {
        self.added += 1;
        let columns = self.table.schema().columns();
        let mut changes = vec![SchemaChange::AddColumn {
            name: format!("added {}", self.added),
            column_type: ColumnType::Int32,
            nullable: true,
            default: None,
        }];
        let wider = columns.iter().find_map(|column| {
            let wider = match column.column_type {
                ColumnType::Int32 => ColumnType::Int64,
                ColumnType::Float32 => ColumnType::Float64,
                ColumnType::Decimal {
                    precision: 12,
                    scale,
                } => ColumnType::Decimal {
                    precision: 20,
                    scale,
                },
                _ => return None,
            };
            Some(SchemaChange::WidenColumn {
                name: column.name.clone(),
                column_type: wider,
            })
        });
        changes.extend(wider);
        match self.added {
            1 => changes.push(SchemaChange::RenameColumn {
                name: "note".into(),
                new_name: "remark".into(),
            }),
            // The name comes back with another meaning.
            2 => changes.extend([
                SchemaChange::DropColumn {
                    name: "remark".into(),
                },
                SchemaChange::AddColumn {
                    name: "note".into(),
                    column_type: ColumnType::Boolean,
                    nullable: true,
                    default: None,
                },
            ]),
            _ => {}
        }
        if self.is_nested {
            changes.extend(nested_changes(self.added));
        }
        self.table = self.database.alter_table(&self.table, &changes).unwrap();
    }

    /// Adds columns that are not null in rows from before.
    fn add_defaults(&mut self) {
        let price = ColumnType::Decimal {
            precision: 12,
            scale: 2,
        };
        let defaults = [
            (ColumnType::Int64, Value::Int64(-5)),
            (price, Value::Decimal(1230)),
            (ColumnType::Float64, Value::Float64(0.1)),
            (ColumnType::Boolean, Value::Boolean(true)),
            (ColumnType::Utf8, Value::Utf8("by default".into())),
            (ColumnType::Date, Value::Date(11_016)),
            (
                ColumnType::TimestampTz,
                Value::TimestampTz(951_827_696_789_012),
            ),
        ];
        let changes = defaults.map(|(column_type, default)| SchemaChange::AddColumn {
            name: format!("defaulted {column_type}"),
            column_type,
            nullable: true,
            default: Some(default),
        });
        self.table = self.database.alter_table(&self.table, &changes).unwrap();
    }

    async fn metadata_location(&self) -> String {
        let catalog = self.world.catalog().await;
        let found = catalog.load(&ident("shop", "orders")).await.unwrap();
        found.unwrap().metadata_location
    }

    async fn export_and_read(&mut self, reader: &mut Reader) -> Outcome {
        let snapshot = self.database.snapshot();
        self.exporter.tick(&snapshot).await.unwrap();
        self.world.check_manifests(&ident("shop", "orders")).await;
        self.read(reader).await
    }

    /// Has all done that there is to do for the table.
    async fn maintain(&self) {
        self.exporter.maintainer().run(None, false).await.unwrap();
        self.world.check_manifests(&ident("shop", "orders")).await;
    }

    async fn read(&self, reader: &mut Reader) -> Outcome {
        let read = reader.read(&Request {
            metadata_location: &self.metadata_location().await,
            columns: columns_of(self.table.schema()),
            lineage: false,
            snapshot_id: None,
        });
        Outcome::of(read, &expected_rows(&self.database, &self.table))
    }

    /// The table as it is now.
    async fn point(&self) -> Point {
        let metadata = self.world.metadata(&ident("shop", "orders")).await;
        Point {
            snapshot_id: metadata.current_snapshot_id().unwrap(),
            columns: columns_of(self.table.schema()),
            rows: expected_rows(&self.database, &self.table),
        }
    }

    /// An earlier snapshot shows the columns and rows of then.
    async fn read_point(&self, reader: &mut Reader, then: &Point) -> Outcome {
        let read = reader.read(&Request {
            metadata_location: &self.metadata_location().await,
            columns: then.columns.clone(),
            lineage: false,
            snapshot_id: Some(then.snapshot_id),
        });
        Outcome::of(read, &then.rows)
    }

    /// Row ids are there, and no two rows share one.
    async fn lineage(&mut self, reader: &mut Reader) -> Outcome {
        let read = reader.read(&Request {
            metadata_location: &self.metadata_location().await,
            columns: columns_of(self.table.schema()),
            lineage: true,
            snapshot_id: None,
        });
        let rows = match read {
            Ok(rows) => rows,
            Err(outcome) => return outcome,
        };
        let column_count = self.table.schema().columns().len();
        let ids: BTreeSet<&String> = rows
            .iter()
            .filter_map(|row| row[column_count].as_ref())
            .collect();
        let are_numbered = rows.iter().all(|row| row[column_count + 1].is_some());
        if ids.len() != rows.len() || !are_numbered {
            return Outcome::Wrong("row ids are missing or shared".into());
        }
        let plain = rows.iter().map(|row| row[..column_count].to_vec());
        let mut plain: Vec<TextRow> = plain.collect();
        plain.sort();
        Outcome::of(Ok(plain), &expected_rows(&self.database, &self.table))
    }
}

async fn exporter(world: &World, database: &Database, layout: Layout) -> Exporter {
    // Few enough for every history to be maintained.
    let maintenance = MaintenanceSettings {
        snapshots_min: 2,
        snapshots_max: 3,
        file_grace_ms: 0,
        manifests_max: 2,
        ..MaintenanceSettings::default()
    };
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let settings = TableSettings {
        format_version: world.version,
        maintenance,
        layout: LayoutSettings {
            partition_by: Some(texts(layout.partition_by)),
            sort_by: Some(texts(layout.sort_by)),
            ..LayoutSettings::default()
        },
        ..TableSettings::default()
    };
    let catalog = world.catalog().await;
    Exporter::open_with(
        database.clone(),
        catalog,
        settings.into(),
        Environment::default(),
    )
    .await
    .unwrap()
}

pub(super) fn value(column_type: ColumnType, random: &mut Random) -> Value {
    if !column_type.nested_fields().is_empty() {
        return nested_value(column_type, random);
    }
    let number = random.below(100_000) as i32 - 50_000;
    match column_type {
        ColumnType::Int32 => Value::Int32(number),
        ColumnType::Int64 => Value::Int64(i64::from(number) << 20),
        ColumnType::Decimal { .. } => Value::Decimal(i128::from(number) * 99_999),
        ColumnType::Float32 => Value::Float32(number as f32 / 7.0),
        ColumnType::Float64 => Value::Float64(f64::from(number) / 7.0),
        ColumnType::Boolean => Value::Boolean(number % 2 == 0),
        ColumnType::TimestampTz => Value::TimestampTz(i64::from(number) * 123_456_789_012),
        ColumnType::Date => Value::Date(number),
        _ => Value::Utf8(format!("text {number}")),
    }
}
