//! A small shop to ask about.

use moonshine_engine::{ColumnType, Database, Options, Table, TableSchema, Value};
use moonshine_export::{Exporter, IcebergConfig, IcebergReader};
use moonshine_query::{OutputFormat, QuerySession, write_batches};

pub(crate) struct Shop {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) database: Database,
    pub(crate) lines: Table,
    pub(crate) pairs: Table,
    config: IcebergConfig,
}

impl Shop {
    pub(crate) fn new(format_version: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path().join("data"), Options::unmeasured()).unwrap();
        let lines = TableSchema::builder("shop.lines")
            .column("note", ColumnType::Utf8, true)
            .column("order_id", ColumnType::Int64, false)
            .column("line", ColumnType::Int32, false)
            .column(
                "price",
                ColumnType::Decimal {
                    precision: 10,
                    scale: 2,
                },
                true,
            )
            .column("at", ColumnType::TimestampTz, true)
            .primary_key(["order_id", "line"]);
        let pairs = TableSchema::builder("pairs")
            .column("key", ColumnType::Binary, false)
            .column("value", ColumnType::Binary, false)
            .primary_key(["key"]);
        let lines = database.create_table(lines.build().unwrap()).unwrap();
        let pairs = database.create_table(pairs.build().unwrap()).unwrap();
        let config = serde_json::json!({
            "warehouse_path": folder.path().join("warehouse"),
            "format_version": format_version,
        });
        Shop {
            database,
            lines,
            pairs,
            config: serde_json::from_value(config).unwrap(),
            folder,
        }
    }

    pub(crate) fn line(order_id: i64, line: i32, n: i64) -> Vec<Value> {
        let note = if n % 5 == 0 {
            Value::Null
        } else {
            Value::Utf8(format!("note {n}"))
        };
        let price = if n % 7 == 0 {
            Value::Null
        } else {
            Value::Decimal(i128::from(n))
        };
        vec![
            note,
            Value::Int64(order_id),
            Value::Int32(line),
            price,
            Value::TimestampTz(n * 1_000_000),
        ]
    }

    pub(crate) async fn export(&self) {
        let mut exporter = Exporter::open(self.database.clone(), &self.config)
            .await
            .unwrap();
        exporter.tick(&self.database.snapshot()).await.unwrap();
    }

    pub(crate) async fn reader(&self) -> IcebergReader {
        IcebergReader::open(&self.config).await.unwrap()
    }

    pub(crate) async fn session(&self) -> QuerySession {
        QuerySession::open(&self.database, Some(&self.reader().await))
            .await
            .unwrap()
    }
}

pub(crate) async fn answer(session: &QuerySession, sql: &str, format: OutputFormat) -> Vec<u8> {
    let mut out = Vec::new();
    let result = session
        .query(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    write_batches(result, format, &mut out).await.unwrap();
    out
}

pub(crate) async fn csv(session: &QuerySession, sql: &str) -> String {
    String::from_utf8(answer(session, sql, OutputFormat::Csv).await).unwrap()
}
