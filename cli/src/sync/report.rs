//! What `--once` ends with: the tables, and the query to try next.

use moonshine_export::{IcebergConfig, IcebergReader, TableSummary};

use super::setup::Setup;
use crate::args::SyncArguments;
use crate::error::CliError;

/// What the report needs to know of the run before it.
pub(crate) struct Report {
    iceberg: IcebergConfig,
    /// The arguments of `query` that name the same tables.
    query_arguments: String,
}

impl Report {
    pub(crate) fn new(arguments: &SyncArguments, setup: &Setup) -> Self {
        let query_arguments = match &arguments.config {
            Some(config) => quoted(&config.display().to_string()),
            None => format!(
                "--database {} --warehouse {}",
                quoted(&setup.database.display().to_string()),
                quoted(&setup.iceberg.warehouse_path)
            ),
        };
        Report {
            iceberg: setup.iceberg.clone(),
            query_arguments,
        }
    }

    /// Prints the database's tables, given by their names there, as the catalog has them now.
    pub(crate) async fn print(self, table_names: &[String]) -> Result<(), CliError> {
        let reader = IcebergReader::open(&self.iceberg).await?;
        let mut summaries = reader.summary_of(table_names).await?;
        summaries.sort_by(|left, right| left.table.cmp(&right.table));
        print_tables(&summaries);
        match (
            &self.iceberg.catalog_uri,
            self.iceberg.warehouse_path.as_str(),
        ) {
            (Some(uri), "") => println!("\ncatalog: {uri}"),
            (_, warehouse) => println!("\nwarehouse: {warehouse}"),
        }
        if let Some(largest) = summaries.iter().max_by_key(|summary| summary.row_count) {
            println!("\nTry next:\n  {}", self.next_query(&largest.table));
        }
        Ok(())
    }

    fn next_query(&self, table: &str) -> String {
        // Under `cargo run` the program is not on the path.
        let program = if std::env::var_os("CARGO").is_some() {
            "cargo run --release --"
        } else {
            "moonshine"
        };
        let table = sql_name(table.strip_prefix("default.").unwrap_or(table));
        let sql = format!("select * from {table} limit 10");
        // Within double quotes the shell would take those of a name for its own.
        let sql = if sql.contains('"') {
            format!("'{sql}'")
        } else {
            format!("\"{sql}\"")
        };
        format!("{program} query {} {sql}", self.query_arguments)
    }
}

/// A table's name as SQL wants it: quoted where it is not plain lower case.
fn sql_name(table_name: &str) -> String {
    let quoted = |part: &str| {
        let letter = |c: char| c.is_ascii_lowercase() || c == '_';
        let plain =
            part.starts_with(letter) && part.chars().all(|c| letter(c) || c.is_ascii_digit());
        if plain {
            part.to_owned()
        } else {
            format!("\"{}\"", part.replace('"', "\"\""))
        }
    };
    match table_name.rsplit_once('.') {
        Some((namespace, name)) => format!("{}.{}", quoted(namespace), quoted(name)),
        None => quoted(table_name),
    }
}

fn quoted(argument: &str) -> String {
    if argument.contains(char::is_whitespace) {
        format!("'{argument}'")
    } else {
        argument.to_owned()
    }
}

fn print_tables(summaries: &[TableSummary]) {
    let mut rows = vec![[
        "table".to_owned(),
        "rows".into(),
        "files".into(),
        "snapshot".into(),
    ]];
    for summary in summaries {
        rows.push([
            summary.table.clone(),
            summary.row_count.to_string(),
            summary.data_files.to_string(),
            summary
                .snapshot_id
                .map_or("none yet".into(), |id| id.to_string()),
        ]);
    }
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(String::len)
            .max()
            .unwrap_or(0)
    };
    let (table, row_count, files) = (width(0), width(1), width(2));
    for [name, count, file_count, snapshot] in &rows {
        println!("{name:table$}  {count:>row_count$}  {file_count:>files$}  {snapshot}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_sql_would_fold_or_split_them() {
        assert_eq!(sql_name("shop.order_items2"), "shop.order_items2");
        assert_eq!(sql_name("orders"), "orders");
        assert_eq!(sql_name("db.shop.Orders"), "\"db.shop\".\"Orders\"");
        assert_eq!(sql_name("shop.2nd"), "shop.\"2nd\"");
    }
}
