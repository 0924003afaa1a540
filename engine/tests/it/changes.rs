//! What is to be exported, of more rows than are looked up together: *same*. That of few rows is in `model.rs`.

use moonshine_engine::{
    ColumnType, Database, ExportFile, Options, Placement, Table, TableSchema, Value,
};
use uuid::Uuid;

/// More than twice as many as are looked up together.
const ROW_COUNT: i64 = 10_000;
const FIRST_FILE_ROWS: i64 = 6_001;

fn place(id: i64) -> Placement {
    let (file, first) = match id < FIRST_FILE_ROWS {
        true => ("a", 0),
        false => ("b", FIRST_FILE_ROWS),
    };
    Placement {
        file: file.into(),
        position: (id - first) as u64,
    }
}

/// A table whose rows 0 up to [`ROW_COUNT`] were exported to two files.
fn exported(database: &Database) -> Table {
    let schema = TableSchema::builder("t")
        .column("id", ColumnType::Int64, false)
        .primary_key(["id"]);
    let table = database.create_table(schema.build().unwrap()).unwrap();
    let mut transaction = database.begin();
    for id in 0..ROW_COUNT {
        transaction.upsert(&table, vec![Value::Int64(id)]).unwrap();
    }
    transaction.commit().unwrap();
    let mut export = database.begin_export(&table, &database.snapshot()).unwrap();
    let files = [("a", FIRST_FILE_ROWS), ("b", ROW_COUNT - FIRST_FILE_ROWS)];
    let files = files.map(|(path, row_count)| ExportFile {
        path: path.into(),
        row_count: row_count as u64,
    });
    export.prepare(Uuid::from_u128(1), &files).unwrap();
    export.commit("first".into()).unwrap();
    table
}

#[test]
fn each_written_row_is_found_where_it_was_exported_to() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path(), Options::unmeasured()).unwrap();
    let table = exported(&database);
    for is_flushed in [false, true] {
        if is_flushed {
            database.flush().unwrap();
        }
        let mut transaction = database.begin();
        let (mut removed, mut replaced, mut row) = (Vec::new(), Vec::new(), 0);
        for id in 0..ROW_COUNT + 5_000 {
            let key = vec![Value::Int64(id)];
            match id % 3 {
                0 => continue,
                1 => {
                    transaction.upsert(&table, key).unwrap();
                    if id < ROW_COUNT {
                        replaced.push((row, place(id)));
                    }
                    row += 1;
                }
                _ => transaction.delete(&table, &key).unwrap(),
            }
            if id < ROW_COUNT {
                removed.push(place(id));
            }
        }
        transaction.commit().unwrap();
        let changes = database.changes(&table, &database.snapshot()).unwrap();
        assert!(changes.removed().iter().eq(removed));
        assert_eq!(changes.row_count(), row);
        let export = database.begin_export(&table, &database.snapshot()).unwrap();
        let found = export.replaced().map(Result::unwrap);
        let found: Vec<_> = found.map(|one| (one.row, one.placement)).collect();
        assert_eq!(found, replaced);
        assert_eq!(export.replaced_count(), replaced.len() as u64);
    }
}
