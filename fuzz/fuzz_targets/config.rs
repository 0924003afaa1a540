//! Any text as a configuration file, by the program's own module: it is read, or refused with a line that the file has.

#![no_main]

extern crate self as moonshine_export;

#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the program uses all of it"
)]
#[path = "../../cli/src/config/mod.rs"]
mod config;

use config::{Config, ConfigError};
use serde::Deserialize;

/// The program's own error, as far as the module names it.
mod error {
    #[derive(Debug, thiserror::Error)]
    #[allow(dead_code, reason = "nothing makes one here")]
    pub(crate) enum CliError {
        #[error(transparent)]
        Engine(#[from] moonshine_engine::Error),
        #[error(transparent)]
        Profile(#[from] moonshine_sysprobe::ProfileError),
    }
}

/// In place of the exporter's section, which would take all of the exporter with it.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it is read alone")]
pub struct IcebergConfig {
    warehouse_path: String,
    #[serde(default)]
    catalog_type: Option<String>,
    #[serde(default)]
    format_version: Option<u8>,
    #[serde(default)]
    store: std::collections::BTreeMap<String, String>,
}

const SEEDS: [&str; 6] = [
    "database: ./elsewhere\nfile:\n  path: changes.jsonl\n  tables:\n    - name: shop.orders\n      key: [order_id]\n      columns: { order_id: int64 not null, total: 'decimal(10,2)' }\n",
    "postgres:\n  - name: shop\n    url: postgres://${PGUSER:-ann}@localhost/shop\n    tables: [public.orders, 'sales.*']\n  - name: hr\n    url: postgres://ann@localhost/hr\n    tables: [public.people]\n",
    "iceberg:\n  warehouse_path: ./warehouse\n  catalog_type: sql\n  format_version: 3\n  store: { s3.region: \"${DIR}\" }\nbuffer: { flush_interval_secs: ${SECONDS}, flush_batch_size: 1000, hot_max_size_mb: 64 }\n",
    "monitoring: { log_level: debug }\nmetrics:\n  listen: '127.0.0.1:9184'\nprofile: safe-defaults\n",
    "base: &base { path: '-', tables: [] }\nfile:\n  <<: *base\n  other_tables: skip\n",
    "# nothing\n---\nbuffer:\n  flush_interval_secs: .inf\n  hot_max_size_mb: 0x10\n...\n",
];

fn seeds() -> Vec<Vec<u8>> {
    SEEDS.map(|text| text.as_bytes().to_vec()).into()
}

fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let lookup = |name: &str| match name {
        "DIR" => Some("/srv/it's: {here}".to_owned()),
        "SECONDS" => Some("2.5".to_owned()),
        _ => None,
    };
    let line_count = text
        .split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'])
        .count() as u64;
    match Config::parse(text, "sync.yaml", &lookup) {
        Ok(config) => {
            assert!(config.buffer.flush_interval().as_secs() <= 86_400);
            assert!(
                config
                    .metrics
                    .listen
                    .is_none_or(|address| address.ip().is_loopback())
            );
        }
        Err(ConfigError::Syntax { line, .. } | ConfigError::Value { line, .. }) => {
            assert!(
                (1..=line_count + 1).contains(&line),
                "line {line} of {line_count}"
            );
        }
        Err(ConfigError::Read { .. }) => unreachable!("no file is read"),
    }
}

moonshine_fuzz::target!(run, seeds);
