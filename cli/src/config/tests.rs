use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "sync.yaml", &|name| match name {
        "DIR" => Some("/srv/it's: {here}".into()),
        "SECONDS" => Some("2.5".into()),
        "DIGITS" => Some("0012".into()),
        _ => None,
    })
}

fn error_of(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

const WHOLE: &str = "\
database: ./elsewhere
file:
  path: changes.jsonl
  tables:
    - name: shop.orders
      key: [order_id]
      columns: { order_id: int64 not null, total: 'decimal(10,2)' }
postgres:
  - name: shop
    url: postgres://${PGUSER:-ann}@localhost/shop
    tables: [public.orders, 'sales.*']
  - name: hr
    url: postgres://ann@localhost/hr
    tables: [public.people]
iceberg:
  warehouse_path: ./warehouse
  catalog_type: sql
buffer: { flush_interval_secs: 5, flush_batch_size: 1000, hot_max_size_mb: 64 }
monitoring: { log_level: debug }
";

#[test]
fn a_whole_file_is_read() {
    let config = parse(WHOLE).unwrap();
    assert_eq!(config.database, Path::new("./elsewhere"));
    assert_eq!(config.file.0.len(), 1);
    assert_eq!(source_name("file", &config.file.0[0]), "file");
    let columns = config.file.0[0].settings.tables[0].columns.clone().unwrap();
    assert_eq!(columns.keys().collect::<Vec<_>>(), ["order_id", "total"]);
    let names: Vec<_> = config
        .postgres
        .0
        .iter()
        .map(|section| source_name("postgres", section))
        .collect();
    assert_eq!(names, ["shop", "hr"]);
    assert_eq!(
        config.postgres.0[0].settings.url,
        "postgres://ann@localhost/shop"
    );
    assert_eq!(config.iceberg.unwrap().warehouse_path, "./warehouse");
    assert_eq!(config.buffer.flush_interval(), Duration::from_secs(5));
    assert_eq!(config.buffer.memory_budget_bytes(), Some(64 << 20));
    assert_eq!(config.monitoring.log_level, LogLevel::Debug);
}

#[test]
fn metrics_are_served_to_this_machine_only() {
    let config = parse("metrics: { listen: \"[::1]:9184\" }\n").unwrap();
    assert_eq!(config.metrics.listen.unwrap().port(), 9184);
    assert_eq!(
        error_of("metrics:\n  listen: 0.0.0.0:9184\n"),
        "sync.yaml:2: metrics.listen: 0.0.0.0:9184 is no loopback address; metrics are told to this machine only"
    );
    assert!(error_of("metrics:\n  listen: here\n").starts_with("sync.yaml:2: metrics.listen: "));
}

#[test]
fn everything_but_the_sources_has_a_default() {
    let config = parse("buffer:\nmonitoring: {}\n").unwrap();
    assert_eq!(config.database, Path::new("./data"));
    assert_eq!(config.buffer.flush_interval(), Duration::from_secs(1));
    assert_eq!(config.monitoring.log_level, LogLevel::Info);
    assert!(config.iceberg.is_none() && config.file.0.is_empty() && config.postgres.0.is_empty());
}

#[test]
fn variables_are_filled_in_and_take_the_type_of_their_key() {
    let config =
        parse("database: \"${DIR}/x\"\nbuffer: { flush_interval_secs: \"${SECONDS}\" }\n").unwrap();
    assert_eq!(config.database, Path::new("/srv/it's: {here}/x"));
    assert_eq!(config.buffer.flush_interval(), Duration::from_millis(2500));
    assert_eq!(
        parse("database: ${DIGITS}").unwrap().database,
        Path::new("0012")
    );
    assert_eq!(parse("database: 1.10").unwrap().database, Path::new("1.10"));
}

#[test]
fn an_unset_variable_is_named_with_its_place() {
    assert_eq!(
        error_of("postgres:\n  url: ${NOT_SET}\n  tables: [a.b]\n"),
        "sync.yaml:2: postgres.url: environment variable NOT_SET is not set; set it or give a default as \
         ${NOT_SET:-default}"
    );
    assert!(
        error_of("file:\n- path: x\n  tables:\n  - name: ${NOT_SET}\n")
            .starts_with("sync.yaml:4: file[0].tables[0].name: ")
    );
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_valid_one() {
    let message = error_of("database: x\niceberg:\n  warehose_path: y\n");
    assert!(
        message.starts_with("sync.yaml:3: iceberg.warehose_path: unknown key; did you mean 'warehouse_path'?; the keys here are"),
        "{message}"
    );
    let message = error_of("postgress: {}");
    assert!(
        message.starts_with("sync.yaml:1: postgress: unknown key; did you mean 'postgres'?"),
        "{message}"
    );
    let message = error_of(
        "file:\n  path: x\n  tables:\n    - name: a.b\n      key: [id]\n      colums: {}\n",
    );
    assert!(
        message.starts_with(
            "sync.yaml:6: file.tables[0].colums: unknown key; did you mean 'columns'?"
        ),
        "{message}"
    );
    let message = error_of("postgres:\n  - name: a\n    url: x\n    tabels: [a.b]\n");
    assert!(
        message.starts_with("sync.yaml:4: postgres[0].tabels: unknown key; did you mean 'tables'?"),
        "{message}"
    );
    assert!(!error_of("zzz: 1").contains("did you mean"));
}

#[test]
fn keys_that_are_known_and_not_supported_say_so() {
    for (text, path) in [
        ("kafka: { brokers: [x] }", "kafka"),
        ("performance: { writer_threads: 2 }", "performance"),
        ("buffer: { hot_ttl_secs: 60 }", "buffer.hot_ttl_secs"),
        (
            "iceberg: { warehouse_path: x, default_partition_spec: [] }",
            "iceberg.default_partition_spec",
        ),
        (
            "monitoring: { metrics_port: 9090 }",
            "monitoring.metrics_port",
        ),
    ] {
        let message = error_of(text);
        assert!(
            message.starts_with(&format!(
                "sync.yaml:1: {path}: this version does not support"
            )),
            "{message}"
        );
    }
}

#[test]
fn a_wrong_value_is_named_with_its_place() {
    for (text, expected) in [
        (
            "buffer:\n  flush_batch_size: many\n",
            "sync.yaml:2: buffer.flush_batch_size: expected a whole number, 0 or more, found 'many'",
        ),
        (
            "buffer:\n  flush_batch_size: -1\n",
            "sync.yaml:2: buffer.flush_batch_size: expected a whole number, 0 or more, found -1",
        ),
        (
            "buffer:\n  flush_batch_size: 0\n",
            "sync.yaml:2: buffer.flush_batch_size: 0 is too small; the least is 1",
        ),
        (
            "buffer:\n\n  flush_interval_secs: 0\n",
            "sync.yaml:3: buffer.flush_interval_secs: 0 is not from 0.01 to 86400",
        ),
        (
            "buffer: [1]",
            "sync.yaml:1: buffer: expected a section of keys, found a list",
        ),
        (
            "database:\n  a: b\n",
            "sync.yaml:2: database: expected a text, found a section of keys",
        ),
        (
            "file:\n  path: x\n",
            "sync.yaml:2: file: key 'tables' is missing",
        ),
        (
            "file:\n  path: x\n  tables: a.b\n",
            "sync.yaml:3: file.tables: expected a list, found 'a.b'",
        ),
        (
            "postgres: [{ url: x, tables: [a.b] }, { url: y, tables: [a.b] }]",
            "sync.yaml:1: postgres[0]: key 'name' is missing; each of several sources needs one",
        ),
        (
            "[1, 2]",
            "sync.yaml:1: expected a section of keys, found a list",
        ),
    ] {
        assert_eq!(error_of(text), expected, "{text}");
    }
    let message = error_of("monitoring:\n  log_level: inf\n");
    assert!(
        message.starts_with(
            "sync.yaml:2: monitoring.log_level: unknown value 'inf'; did you mean 'info'?"
        ),
        "{message}"
    );
    let message = error_of(
        "file: { path: x, tables: [{ name: a.b, key: [id] }], name: postgres }\npostgres: { url: x, tables: [a.b] }\n",
    );
    assert!(
        message.contains("postgres.name: another source is named 'postgres' too"),
        "{message}"
    );
}

#[test]
fn a_value_from_the_environment_is_not_shown() {
    let message = error_of("buffer: { flush_batch_size: '${DIR}' }");
    assert!(
        message.contains("found a text") && !message.contains("srv"),
        "{message}"
    );
}

#[test]
fn broken_yaml_and_double_keys_are_named_with_line_and_column() {
    let message = error_of("database: x\nbuffer: {\n");
    assert!(message.starts_with("sync.yaml:"), "{message}");
    let message = error_of("database: x\ndatabase: y\n");
    assert!(message.starts_with("sync.yaml:2:1: "), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn a_missing_file_is_named() {
    let message = Config::load(Path::new("no/such.yaml"))
        .unwrap_err()
        .to_string();
    assert!(message.starts_with("no/such.yaml: "), "{message}");
}
