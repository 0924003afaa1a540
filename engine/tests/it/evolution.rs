//! Columns that change under rows that are there: random histories of changes, writes, flushes, compactions and crashes
//! against a reference.
//!
//! Defends *durable*, *ordered* and *same*: whatever version of the schema a row was written with, wherever it lies, it is
//! read as the changes since then left it; a snapshot from before a change is read with the schema of then, and with that of
//! now.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::{CrashStyle, SimulatedIo};
use moonshine_engine::{
    COMMENT_SIZE_BYTES_MAX, Column, ColumnType, Database, Durability, Error, NESTING_DEPTH_MAX,
    NestedField, Options, Row, Scan, ScanOrder, SchemaChange, ShardKey, Snapshot, Table,
    TableSchema, Value,
};
use proptest::prelude::*;

use crate::reading::rows_of;

/// What becomes of the values of a struct.
type StructChange = Box<dyn Fn(&mut Vec<Value>)>;
/// The values of a row by field id.
type Fields = BTreeMap<i32, Value>;
/// Rows by the number that their key is made of.
type State = BTreeMap<u8, Fields>;

#[derive(Clone, Debug)]
enum Write {
    Upsert(u8, u8),
    Delete(u8),
    Truncate,
}

#[derive(Clone, Debug)]
enum Alter {
    Add(u8, bool),
    Drop(u8),
    Rename(u8),
    Widen(u8),
    Comment(u8),
    /// Of the structs in the column of lists: a field is added, dropped, renamed or widened.
    Within(u8, u8),
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Write>),
    Alter(Vec<Alter>),
    /// A transaction that is begun before a change and committed after it.
    Overtaken(Vec<Write>, Vec<Alter>),
    Flush,
    Compact,
    Hold,
    Release(usize),
    Reopen,
    Crash(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let write = prop_oneof![
        8 => (0..16_u8, any::<u8>()).prop_map(|(k, v)| Write::Upsert(k, v)),
        3 => (0..16_u8).prop_map(Write::Delete),
        1 => Just(Write::Truncate),
    ];
    let alter = prop_oneof![
        3 => (any::<u8>(), any::<bool>()).prop_map(|(kind, nullable)| Alter::Add(kind, nullable)),
        2 => any::<u8>().prop_map(Alter::Drop),
        2 => any::<u8>().prop_map(Alter::Rename),
        3 => any::<u8>().prop_map(Alter::Widen),
        2 => any::<u8>().prop_map(Alter::Comment),
        4 => (0..4_u8, any::<u8>()).prop_map(|(kind, i)| Alter::Within(kind, i)),
    ];
    let writes = prop::collection::vec(write, 1..8);
    let alters = prop::collection::vec(alter, 1..4);
    prop_oneof![
        8 => writes.clone().prop_map(Step::Commit),
        5 => alters.clone().prop_map(Step::Alter),
        2 => (writes, alters).prop_map(|(writes, alters)| Step::Overtaken(writes, alters)),
        3 => Just(Step::Flush),
        2 => Just(Step::Compact),
        2 => Just(Step::Hold),
        1 => any::<usize>().prop_map(Step::Release),
        1 => Just(Step::Reopen),
        1 => any::<u64>().prop_map(Step::Crash),
    ]
}

const MONEY: ColumnType = ColumnType::Decimal {
    precision: 9,
    scale: 2,
};

/// Lists of structs with these fields.
fn parts_of(fields: Vec<NestedField>) -> ColumnType {
    ColumnType::list(ColumnType::structure(fields), true)
}

fn first_schema(shard_key: ShardKey) -> TableSchema {
    TableSchema::builder("shop.items")
        .column("price", MONEY, true)
        .column("shop", ColumnType::Utf8, false)
        .column("count", ColumnType::Int32, true)
        .column("number", MONEY, false)
        .column("weight", ColumnType::Float32, false)
        .column(
            "parts",
            parts_of(vec![NestedField::new("a", ColumnType::Int32, true)]),
            true,
        )
        .primary_key(["shop", "number"])
        .shard_key(shard_key)
        .build()
        .unwrap()
}

fn value(column_type: ColumnType, v: u8) -> Value {
    match column_type {
        ColumnType::Int32 => Value::Int32(i32::from(v) - 128),
        ColumnType::Int64 => Value::Int64((i64::from(v) - 128) << 33),
        ColumnType::Float32 => Value::Float32(f32::from(v) / 4.0),
        ColumnType::Float64 => Value::Float64(f64::from(v) / 3.0),
        ColumnType::Decimal { .. } => Value::Decimal(i128::from(v) * 100),
        ColumnType::Utf8 => Value::Utf8("x".repeat(usize::from(v) % 40)),
        ColumnType::List(list) => {
            let elements = (0..v % 4).map(|i| v.wrapping_mul(13).wrapping_add(i));
            let element = |v: u8| nullable(list.fields()[0].column_type, v);
            Value::List(elements.map(element).collect())
        }
        ColumnType::Struct(parts) => {
            let parts = (1..).zip(parts.fields());
            let values = parts.map(|(i, part)| nullable(part.column_type, v.wrapping_mul(i)));
            Value::Struct(values.collect())
        }
        _ => Value::Boolean(v.is_multiple_of(2)),
    }
}

fn nullable(column_type: ColumnType, v: u8) -> Value {
    match v % 5 {
        0 => Value::Null,
        _ => value(column_type, v),
    }
}

/// The type that a column can be widened to.
fn wider(column_type: ColumnType) -> Option<ColumnType> {
    match column_type {
        ColumnType::Int32 => Some(ColumnType::Int64),
        ColumnType::Float32 => Some(ColumnType::Float64),
        ColumnType::Decimal { precision, scale } if precision < 38 => Some(ColumnType::Decimal {
            precision: precision + 1,
            scale,
        }),
        _ => None,
    }
}

fn widened(value: &Value, to: ColumnType) -> Value {
    match (value, to) {
        (Value::Int32(v), ColumnType::Int64) => Value::Int64(i64::from(*v)),
        (Value::Float32(v), ColumnType::Float64) => Value::Float64(f64::from(*v)),
        _ => value.clone(),
    }
}

fn key(k: u8) -> Vec<Value> {
    let shop = ["", "a", "b"][usize::from(k) % 3];
    vec![Value::Utf8(shop.into()), Value::Decimal(i128::from(k))]
}

fn row(schema: &TableSchema, k: u8, v: u8) -> Row {
    let mut row: Row = (0..)
        .zip(schema.columns())
        .map(|(i, column)| match v.wrapping_mul(31).wrapping_add(i * 7) {
            v if column.nullable && v.is_multiple_of(3) => Value::Null,
            v => value(column.column_type, v),
        })
        .collect();
    for (value, &position) in key(k).into_iter().zip(schema.primary_key()) {
        row[position] = value;
    }
    row
}

fn fields(schema: &TableSchema, row: Row) -> Fields {
    let ids = schema.columns().iter().map(|column| column.field_id);
    ids.zip(row).collect()
}

fn values(schema: &TableSchema, fields: &Fields) -> Row {
    let columns = schema.columns().iter();
    columns
        .map(|column| fields[&column.field_id].clone())
        .collect()
}

/// A snapshot, the table as it was then, its rows as they were, and as the changes since would have them.
struct Held {
    snapshot: Snapshot,
    table: Table,
    then: State,
    now: State,
    /// The newest commit when the table was changed.
    changed_at: Option<u64>,
}

struct Harness {
    shard_key: ShardKey,
    io: SimulatedIo,
    database: Option<Database>,
    table: Option<Table>,
    state: State,
    /// The state at each commit sequence with the changes since, for what a crash takes away.
    history: Vec<State>,
    held: Vec<Held>,
    names: u32,
    /// The table's comment.
    comment: Option<String>,
    field_ids: Vec<i32>,
}

impl Harness {
    fn new(shard_key: ShardKey) -> Self {
        let mut harness = Harness {
            shard_key,
            io: SimulatedIo::new(1),
            database: None,
            table: None,
            state: State::new(),
            history: vec![State::new()],
            held: Vec::new(),
            names: 0,
            comment: None,
            // Six columns, the element of the lists and the field of the structs.
            field_ids: (1..=8).collect(),
        };
        harness.open();
        harness
    }

    fn open(&mut self) {
        self.held.clear();
        self.table = None;
        self.database = None;
        let options = Options {
            io: Arc::new(self.io.clone()),
            segment_size_bytes_max: Some(2000),
            memory_budget_bytes: 40_000,
            generation_size_bytes_max: Some(6000),
            fragment_size_bytes_max: Some(4000),
            profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
            compaction_threads: Some(2),
        };
        let database = Database::open(Path::new("/db"), options).unwrap();
        let table = database.table("shop.items");
        let expected = self.field_ids.len();
        let table =
            table.unwrap_or_else(|| database.create_table(first_schema(self.shard_key)).unwrap());
        assert_eq!(table.schema().last_field_id() as usize, expected);
        assert_eq!(table.schema().comment(), self.comment.as_deref());
        let seq = database.durable_seq() as usize;
        self.history.truncate(seq + 1);
        self.state = self.history[seq].clone();
        self.table = Some(table);
        self.database = Some(database);
    }

    fn database(&self) -> &Database {
        self.database.as_ref().unwrap()
    }

    fn table(&self) -> &Table {
        self.table.as_ref().unwrap()
    }

    fn transaction(&mut self, writes: &[Write]) -> moonshine_engine::Transaction {
        let table = self.table().clone();
        let mut transaction = self.database().begin();
        for write in writes {
            match *write {
                Write::Upsert(k, v) => {
                    let row = row(table.schema(), k, v);
                    transaction.upsert(&table, row.clone()).unwrap();
                    self.state.insert(k, fields(table.schema(), row));
                }
                Write::Delete(k) => {
                    transaction.delete(&table, &key(k)).unwrap();
                    self.state.remove(&k);
                }
                Write::Truncate => {
                    transaction.truncate(&table).unwrap();
                    self.state.clear();
                }
            }
        }
        transaction.set_durability(if writes.len() > 4 {
            Durability::Buffered
        } else {
            Durability::Synced
        });
        transaction
    }

    fn alter(&mut self, alters: &[Alter]) {
        let mut columns: Vec<Column> = self.table().schema().columns().to_vec();
        let is_key = |column: &Column| column.field_id == 2 || column.field_id == 4;
        let mut changes = Vec::new();
        for alter in alters {
            let pick = |i: u8| usize::from(i) % columns.len();
            match *alter {
                Alter::Add(kind, nullable) => {
                    let types = [
                        ColumnType::Int32,
                        ColumnType::Float32,
                        ColumnType::Utf8,
                        MONEY,
                        ColumnType::Boolean,
                    ];
                    let column_type = types[usize::from(kind) % types.len()];
                    let default =
                        (!nullable || kind.is_multiple_of(2)).then(|| value(column_type, kind));
                    self.names += 1;
                    let field_id = self.field_ids.last().unwrap() + 1;
                    self.field_ids.push(field_id);
                    let column = Column {
                        name: format!("added {}", self.names),
                        column_type,
                        nullable,
                        field_id,
                        default: default.clone(),
                        comment: None,
                    };
                    changes.push(SchemaChange::AddColumn {
                        name: column.name.clone(),
                        column_type,
                        nullable,
                        default: default.clone(),
                    });
                    columns.push(column);
                    let added = default.unwrap_or(Value::Null);
                    self.each_row(|fields| {
                        fields.insert(field_id, added.clone());
                    });
                }
                Alter::Drop(i) => {
                    let at = pick(i);
                    if !is_key(&columns[at]) {
                        let column = columns.remove(at);
                        changes.push(SchemaChange::DropColumn { name: column.name });
                        self.each_row(|fields| {
                            fields.remove(&column.field_id);
                        });
                    }
                }
                Alter::Rename(i) => {
                    let at = pick(i);
                    self.names += 1;
                    let new_name = format!("renamed {}", self.names);
                    let name = std::mem::replace(&mut columns[at].name, new_name.clone());
                    changes.push(SchemaChange::RenameColumn { name, new_name });
                }
                Alter::Widen(i) => {
                    let at = pick(i);
                    if let Some(column_type) = wider(columns[at].column_type) {
                        columns[at].column_type = column_type;
                        let (name, field_id) = (columns[at].name.clone(), columns[at].field_id);
                        changes.push(SchemaChange::WidenColumn { name, column_type });
                        self.each_row(|fields| {
                            let value = fields.get_mut(&field_id).unwrap();
                            *value = widened(value, column_type);
                        });
                    }
                }
                Alter::Within(kind, i) => {
                    let change = self.change_within(&mut columns, kind, i);
                    changes.extend(change);
                }
                Alter::Comment(i) => {
                    let at = pick(i);
                    let comment = (!i.is_multiple_of(3)).then(|| format!("comment {i}"));
                    columns[at].comment.clone_from(&comment);
                    self.comment.clone_from(&comment);
                    let name = columns[at].name.clone();
                    changes.push(SchemaChange::CommentColumn {
                        name,
                        comment: comment.clone(),
                    });
                    changes.push(SchemaChange::CommentTable { comment });
                }
            }
        }
        let old = self.table().clone();
        let table = self.database().alter_table(&old, &changes).unwrap();
        let told = |columns: &[Column]| -> Vec<_> {
            let told = columns.iter().map(|column| {
                let (name, comment) = (column.name.clone(), column.comment.clone());
                (name, column.column_type, column.field_id, comment)
            });
            told.collect()
        };
        assert_eq!(told(table.schema().columns()), told(&columns));
        assert_eq!(table.schema().comment(), self.comment.as_deref());
        if !changes.is_empty() {
            let refused = self
                .database()
                .begin()
                .upsert(&old, row(old.schema(), 1, 1));
            assert!(
                matches!(refused, Err(Error::SchemaChanged { .. })),
                "{refused:?}"
            );
            let refused = self.database().alter_table(&old, &changes);
            assert!(matches!(refused, Err(Error::SchemaChanged { .. })));
        }
        let newest_seq = self.database().snapshot().seq();
        for held in &mut self.held {
            if held.table.schema().version() < table.schema().version() {
                held.changed_at.get_or_insert(newest_seq);
            }
        }
        self.table = Some(table);
    }

    /// A change of the structs in the lists, if the column is still there.
    fn change_within(&mut self, columns: &mut [Column], kind: u8, i: u8) -> Option<SchemaChange> {
        const PARTS: i32 = 6;
        let column = columns.iter_mut().find(|column| column.field_id == PARTS)?;
        let mut element = column.column_type.nested_fields()[0].clone();
        let mut fields = element.column_type.nested_fields().to_vec();
        let at = usize::from(i) % fields.len();
        let name = fields[at].name.clone();
        self.names += 1;
        let new_name = format!("part {}", self.names);
        let mut each_struct: StructChange = Box::new(|_| {});
        let change = match kind {
            0 => {
                let field_id = self.field_ids.last().unwrap() + 1;
                self.field_ids.push(field_id);
                let column_type = [ColumnType::Int32, ColumnType::Utf8][usize::from(i) % 2];
                fields.push(NestedField {
                    field_id,
                    ..NestedField::new(new_name.clone(), column_type, true)
                });
                each_struct = Box::new(|values| values.push(Value::Null));
                SchemaChange::AddColumn {
                    name: new_name,
                    column_type,
                    nullable: true,
                    default: None,
                }
            }
            1 if fields.len() > 1 => {
                fields.remove(at);
                each_struct = Box::new(move |values| drop(values.remove(at)));
                SchemaChange::DropColumn { name }
            }
            2 => {
                fields[at].name.clone_from(&new_name);
                SchemaChange::RenameColumn { name, new_name }
            }
            3 => {
                let column_type = wider(fields[at].column_type)?;
                fields[at].column_type = column_type;
                each_struct =
                    Box::new(move |values| values[at] = widened(&values[at], column_type));
                SchemaChange::WidenColumn { name, column_type }
            }
            _ => return None,
        };
        element.column_type = element.column_type.with_fields(fields);
        column.column_type = column.column_type.with_fields(vec![element]);
        let path = vec![column.name.clone(), "element".into()];
        self.each_row(|fields| {
            if let Some(Value::List(elements)) = fields.get_mut(&PARTS) {
                for element in elements {
                    if let Value::Struct(values) = element {
                        each_struct(values);
                    }
                }
            }
        });
        let change = Box::new(change);
        Some(SchemaChange::Within { path, change })
    }

    fn each_row(&mut self, change: impl Fn(&mut Fields)) {
        let states = self.history.iter_mut().chain([&mut self.state]);
        let states = states.chain(self.held.iter_mut().map(|held| &mut held.now));
        states.flat_map(BTreeMap::values_mut).for_each(change);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit(writes) => {
                self.transaction(writes).commit().unwrap();
                self.history.push(self.state.clone());
            }
            Step::Alter(alters) => self.alter(alters),
            Step::Overtaken(writes, alters) => {
                let transaction = self.transaction(writes);
                self.alter(alters);
                transaction.commit().unwrap();
                self.history.push(self.state.clone());
            }
            Step::Flush => self.database().flush().unwrap(),
            Step::Compact => self.database().compact().unwrap(),
            Step::Hold => {
                let held = Held {
                    snapshot: self.database().snapshot(),
                    table: self.table().clone(),
                    then: self.state.clone(),
                    now: self.state.clone(),
                    changed_at: None,
                };
                self.held.push(held);
            }
            Step::Release(i) if !self.held.is_empty() => {
                drop(self.held.swap_remove(i % self.held.len()));
            }
            Step::Release(_) => {}
            Step::Reopen => self.open(),
            Step::Crash(seed) => {
                self.io = self.io.crash(match seed % 3 {
                    0 => CrashStyle::LoseUnsynced,
                    1 => CrashStyle::KeepUnsynced,
                    _ => CrashStyle::TearUnsynced(*seed),
                });
                self.open();
            }
        }
        self.check();
    }

    fn check(&self) {
        check_rows(&self.database().snapshot(), self.table(), &self.state);
        let reopened = self.database().table("shop.items").unwrap();
        assert_eq!(reopened.schema(), self.table().schema());
        let newest_seq = self.database().snapshot().seq();
        for held in &self.held {
            check_rows(&held.snapshot, &held.table, &held.then);
            check_rows(&held.snapshot, self.table(), &held.now);
            // What was committed after a change is not read with the schema from before it.
            let found = self.database().snapshot().row_count(&held.table);
            match held.changed_at {
                Some(seq) if seq < newest_seq => {
                    assert!(
                        matches!(found, Err(Error::SchemaChanged { .. })),
                        "{found:?}"
                    );
                }
                _ => assert_eq!(found.unwrap(), self.state.len() as u64),
            }
        }
    }
}

fn check_rows(snapshot: &Snapshot, table: &Table, expected: &State) {
    let schema = table.schema();
    let mut rows: Vec<Row> = expected
        .values()
        .map(|fields| values(schema, fields))
        .collect();
    let scan = |order, projection: Option<Vec<usize>>| {
        let scan = Scan {
            order,
            projection,
            batch_rows: 5,
            ..Scan::default()
        };
        snapshot.scan(table, scan).unwrap()
    };
    let all = |order| -> Vec<Row> {
        let batches = scan(order, None);
        batches
            .flat_map(|batch| rows_of(&batch.unwrap(), table))
            .collect()
    };
    let sort = |rows: &mut Vec<Row>| rows.sort_by_key(|row| format!("{row:?}"));
    let (mut ordered, mut unordered) = (all(ScanOrder::Ascending), all(ScanOrder::Unordered));
    for (&k, fields) in expected {
        let found = snapshot.get(table, &key(k)).unwrap();
        assert_eq!(found, Some(values(schema, fields)));
    }
    sort(&mut rows);
    sort(&mut ordered);
    sort(&mut unordered);
    assert_eq!(ordered, rows);
    assert_eq!(unordered, rows);
    let last = schema.columns().len() - 1;
    let projected = scan(ScanOrder::Unordered, Some(vec![last]));
    let count: usize = projected.map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(count, rows.len());
}

proptest! {
    #[test]
    fn rows_are_read_as_the_changes_since_left_them(
        shard_key in prop::sample::select(vec![ShardKey::PrimaryKey, ShardKey::Prefix(1), ShardKey::Range]),
        steps in prop::collection::vec(any_step(), 1..40),
    ) {
        let mut harness = Harness::new(shard_key);
        for step in &steps {
            harness.step(step);
        }
    }
}

#[test]
fn changes_within_that_can_not_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), Options::unmeasured()).unwrap();
    let point = ColumnType::structure([
        NestedField::new("x", ColumnType::Int32, false),
        NestedField::new("y", ColumnType::Utf8, true),
    ]);
    let builder = TableSchema::builder("t")
        .column("id", ColumnType::Int32, false)
        .column(
            "points",
            ColumnType::map(ColumnType::Int32, point, true),
            true,
        )
        .primary_key(["id"]);
    let table = database.create_table(builder.build().unwrap()).unwrap();
    let within = |path: &[&str], change| SchemaChange::Within {
        path: path.iter().map(|name| (*name).to_owned()).collect(),
        change: Box::new(change),
    };
    let widen = |name: &str, column_type| SchemaChange::WidenColumn {
        name: name.into(),
        column_type,
    };
    let add = |name: &str, nullable, default| SchemaChange::AddColumn {
        name: name.into(),
        column_type: ColumnType::Int32,
        nullable,
        default,
    };
    let drop_column = |name: &str| SchemaChange::DropColumn { name: name.into() };
    let value = ["points", "value"];
    for (change, reason) in [
        (
            within(&["points"], widen("key", ColumnType::Int64)),
            "key of a map",
        ),
        (
            within(&["points"], drop_column("value")),
            "can't be changed so",
        ),
        (
            within(&["points"], add("third", true, None)),
            "can't be changed so",
        ),
        (within(&value, add("z", false, None)), "can't be changed so"),
        (
            within(&value, add("z", true, Some(Value::Int32(1)))),
            "can't be changed so",
        ),
        (within(&value, add("x", true, None)), "used twice"),
        (within(&value, drop_column("z")), "there is no 'z'"),
        (
            within(&value, widen("y", ColumnType::Int64)),
            "can't become",
        ),
        (
            within(&["points", "values"], drop_column("x")),
            "there is no 'values'",
        ),
        (within(&["point"], drop_column("x")), "no column 'point'"),
        (within(&[], drop_column("x")), "no column"),
        (within(&["id"], drop_column("x")), "can't be changed so"),
    ] {
        refused(&database, &table, change, reason);
    }
    let both = [
        within(&value, drop_column("x")),
        within(&value, drop_column("y")),
    ];
    let emptied = database.alter_table(&table, &both);
    assert!(matches!(emptied, Err(Error::Schema(_))), "{emptied:?}");
    let key = TableSchema::builder("k").column("id", point, false);
    let refused = key.primary_key(["id"]).build();
    assert!(matches!(refused, Err(Error::Schema(_))), "{refused:?}");
    let mut deep = ColumnType::Int32;
    for depth in 0..=NESTING_DEPTH_MAX {
        let schema = TableSchema::builder("d").column("id", ColumnType::Int32, false);
        let schema = schema.column("deep", deep, true).primary_key(["id"]);
        assert!(schema.build().is_ok(), "{depth}");
        deep = ColumnType::list(deep, true);
    }
    let schema = TableSchema::builder("d").column("id", ColumnType::Int32, false);
    let refused = schema
        .column("deep", deep, true)
        .primary_key(["id"])
        .build();
    assert!(matches!(refused, Err(Error::Schema(_))), "{refused:?}");
}

fn refused(database: &Database, table: &Table, change: SchemaChange, reason: &str) {
    let schema = table.schema().clone();
    match database.alter_table(table, &[change]) {
        Err(Error::Schema(text)) => assert!(text.contains(reason), "{text}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(database.table(table.name()).unwrap().schema(), &schema);
}

#[test]
fn changes_that_can_not_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), Options::unmeasured()).unwrap();
    let schema = TableSchema::builder("t")
        .column("id", ColumnType::Int32, false)
        .column("part", MONEY, false)
        .column("note", ColumnType::Utf8, true)
        .column("size", ColumnType::Int64, true)
        .column("at", ColumnType::Timestamp, true)
        .primary_key(["id", "part"])
        .build()
        .unwrap();
    let table = database.create_table(schema.clone()).unwrap();
    let widen = |name: &str, column_type| SchemaChange::WidenColumn {
        name: name.into(),
        column_type,
    };
    let add = |name: &str, nullable, default| SchemaChange::AddColumn {
        name: name.into(),
        column_type: ColumnType::Int32,
        nullable,
        default,
    };
    let rename = |name: &str, new_name: &str| SchemaChange::RenameColumn {
        name: name.into(),
        new_name: new_name.into(),
    };
    let comment = |name: &str, size_bytes| SchemaChange::CommentColumn {
        name: name.into(),
        comment: Some("x".repeat(size_bytes)),
    };
    let drop_column = |name: &str| SchemaChange::DropColumn { name: name.into() };
    for (change, reason) in [
        (widen("id", ColumnType::Int64), "primary key"),
        (widen("size", ColumnType::Int32), "can't become"),
        (widen("note", ColumnType::Binary), "can't become"),
        (widen("at", ColumnType::TimestampNs), "can't become"),
        (
            widen(
                "part",
                ColumnType::Decimal {
                    precision: 8,
                    scale: 2,
                },
            ),
            "can't become",
        ),
        (
            widen(
                "part",
                ColumnType::Decimal {
                    precision: 12,
                    scale: 3,
                },
            ),
            "can't become",
        ),
        (
            widen(
                "part",
                ColumnType::Decimal {
                    precision: 39,
                    scale: 2,
                },
            ),
            "not supported",
        ),
        (add("note", true, None), "used twice"),
        (add("new", false, None), "default"),
        (add("new", true, Some(Value::Int64(1))), "default"),
        (add("new", false, Some(Value::Null)), "default"),
        (rename("note", "size"), "already"),
        (rename("colour", "tint"), "no column"),
        (drop_column("id"), "primary key"),
        (drop_column("colour"), "no column"),
        (comment("colour", 1), "no column"),
        (comment("note", COMMENT_SIZE_BYTES_MAX + 1), "comment"),
    ] {
        refused(&database, &table, change, reason);
    }
    let keyspace = database.keyspace("pairs").unwrap();
    refused(
        &database,
        keyspace.table(),
        rename("value", "worth"),
        "can't change",
    );
    assert!(matches!(database.keyspace("t"), Err(Error::Schema(_))));

    // A field id is never given twice, also not after a column that had it is gone, and the table was read anew.
    let table = database
        .alter_table(&table, &[add("new", true, None)])
        .unwrap();
    assert_eq!(table.schema().columns()[5].field_id, 6);
    let table = database.alter_table(&table, &[drop_column("new")]).unwrap();
    assert_eq!(
        database.create_table(schema).unwrap().schema(),
        table.schema()
    );
    database.flush().unwrap();
    drop((table, keyspace, database));
    let database = Database::open(folder.path(), Options::unmeasured()).unwrap();
    let table = database.table("t").unwrap();
    let table = database
        .alter_table(&table, &[add("new", true, None)])
        .unwrap();
    assert_eq!(table.schema().columns()[5].field_id, 7);
}
