//! A small database of one table, and what that is exported with.

use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{ColumnType, Database, Options, Table, TableSchema, Value};
use moonshine_export::{
    FormatVersion, LayoutSettings, MaintenanceSettings, SettingsByTable, TableSettings,
};

pub(crate) fn open_database(disk: &SimulatedIo) -> Database {
    let options = Options {
        io: Arc::new(disk.clone()),
        segment_size_bytes_max: Some(4000),
        memory_budget_bytes: 200_000,
        generation_size_bytes_max: Some(6000),
        fragment_size_bytes_max: Some(8000),
        compaction_threads: Some(1),
        ..Options::unmeasured()
    };
    Database::open(Path::new("/db"), options).unwrap()
}

pub(crate) fn table_of(database: &Database, name: &str) -> Table {
    if let Some(table) = database.table(name) {
        return table;
    }
    let schema = TableSchema::builder(name)
        .column("id", ColumnType::Int64, false)
        .column("note", ColumnType::Utf8, true)
        .column("amount", ColumnType::Int64, true)
        .primary_key(["id"]);
    database.create_table(schema.build().unwrap()).unwrap()
}

pub(crate) fn write(database: &Database, keys: std::ops::Range<i64>, note: &str) {
    let table = table_of(database, "shop.a");
    let mut transaction = database.begin();
    for key in keys {
        let row = vec![
            Value::Int64(key),
            Value::Utf8(note.to_owned()),
            Value::Int64(key % 7),
        ];
        transaction.upsert(&table, row).unwrap();
    }
    transaction.commit().unwrap();
}

pub(crate) fn settings(
    version: FormatVersion,
    layout: &LayoutSettings,
    target: u64,
) -> SettingsByTable {
    let settings = TableSettings {
        format_version: version,
        target_file_size_bytes: target,
        layout: layout.clone(),
        maintenance: MaintenanceSettings {
            snapshots_min: 2,
            snapshots_max: 6,
            manifests_max: 3,
            ..MaintenanceSettings::default()
        },
        ..TableSettings::default()
    };
    settings.into()
}
