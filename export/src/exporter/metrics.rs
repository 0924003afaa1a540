//! What the exporter tells Prometheus: of each table how often it is exported and why, and how its exports stand.

use std::fmt::Write;
use std::sync::Arc;

use super::Core;

/// A family of gauges, with what it says.
const INTERVAL: (&str, &str) = (
    "moonshine_export_interval_seconds",
    "Time from one export of a table to the next, and what decided it",
);
const FAILURES: (&str, &str) = (
    "moonshine_export_failures_in_a_row",
    "Exports of a table that failed since the last one that did not",
);
const STOPPED: (&str, &str) = (
    "moonshine_export_stopped",
    "1 for a table that is not exported until somebody mends the cause",
);
const WAITING: (&str, &str) = (
    "moonshine_export_waiting_commits",
    "Commits of the database since the last export that looked at the table",
);
const MAINTENANCE_FAILURES: (&str, &str) = (
    "moonshine_maintenance_failures_in_a_row",
    "Runs of a maintenance task that failed since the last one that did not",
);

/// What an exporter tells about itself, for as long as somebody asks, whatever else it does.
#[derive(Clone, Debug)]
pub struct ExporterMetrics {
    core: Arc<Core>,
}

impl ExporterMetrics {
    pub(super) fn of(core: Arc<Core>) -> ExporterMetrics {
        ExporterMetrics { core }
    }

    /// What [`cadences`](crate::Exporter::cadences) and [`standings`](crate::Exporter::standings) say, and how maintenance stands, as
    /// text that Prometheus reads (OpenMetrics 1.0).
    ///
    /// ```
    /// # use moonshine_engine::{ColumnType, Database, Options, TableSchema};
    /// # use moonshine_export::{Exporter, IcebergConfig};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let database = Database::open(folder.path().join("data"), Options::unmeasured())?;
    /// # let schema = TableSchema::builder("shop.orders").column("id", ColumnType::Int64, false).primary_key(["id"]).build()?;
    /// # database.create_table(schema)?;
    /// # let warehouse = folder.path().join("warehouse");
    /// # let config: IcebergConfig = serde_json::from_value(serde_json::json!({ "warehouse_path": warehouse }))?;
    /// let exporter = Exporter::connect(database, &config).await?;
    /// let text = exporter.metrics().to_metrics(1_000);
    /// assert!(text.contains("moonshine_export_stopped{table=\"shop.orders\"} 0\n"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn to_metrics(&self, freshness_ms: i64) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _never = self.write_metrics(&mut text, freshness_ms);
        text
    }

    fn write_metrics(&self, text: &mut String, freshness_ms: i64) -> std::fmt::Result {
        header(text, INTERVAL)?;
        for (table, cadence) in self.core.cadences(freshness_ms) {
            let seconds = cadence.interval_ms as f64 / 1e3;
            let (name, table, reason) = (INTERVAL.0, escaped(&table), cadence.reason);
            writeln!(
                text,
                "{name}{{table=\"{table}\",reason=\"{reason}\"}} {seconds}"
            )?;
        }
        let standings = self.core.standings();
        header(text, FAILURES)?;
        for (table, standing) in &standings {
            let (name, table) = (FAILURES.0, escaped(table));
            writeln!(text, "{name}{{table=\"{table}\"}} {}", standing.failures)?;
        }
        header(text, STOPPED)?;
        for (table, standing) in &standings {
            let (name, table) = (STOPPED.0, escaped(table));
            let is_stopped = u8::from(standing.is_stopped);
            writeln!(text, "{name}{{table=\"{table}\"}} {is_stopped}")?;
        }
        header(text, WAITING)?;
        let durable_seq = self.core.database.durable_seq();
        for table in self.core.database.tables() {
            let seen_seq = self.core.slot(&table).seen_seq.lock().unwrap_or(0);
            let waiting = durable_seq.saturating_sub(seen_seq);
            let (name, table) = (WAITING.0, escaped(table.name()));
            writeln!(text, "{name}{{table=\"{table}\"}} {waiting}")?;
        }
        header(text, MAINTENANCE_FAILURES)?;
        for table in self.core.database.tables() {
            let slot = self.core.slot(&table);
            for (task, standing) in slot.task_standings.lock().iter() {
                let (name, table, failures) = (
                    MAINTENANCE_FAILURES.0,
                    escaped(table.name()),
                    standing.failures,
                );
                writeln!(
                    text,
                    "{name}{{table=\"{table}\",task=\"{task}\"}} {failures}"
                )?;
            }
        }
        writeln!(text, "# EOF")
    }
}

fn header(text: &mut String, (name, help): (&str, &str)) -> std::fmt::Result {
    writeln!(text, "# TYPE {name} gauge\n# HELP {name} {help}.")
}

/// A label's value.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
