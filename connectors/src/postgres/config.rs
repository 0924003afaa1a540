//! What a user states about a PostgreSQL source, and what follows from it.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio_postgres::config::SslMode;

use crate::SourceError;

/// Longest name that PostgreSQL keeps, in bytes (`NAMEDATALEN` - 1).
const NAME_BYTES_MAX: usize = 63;

/// How long connecting may take, unless the URL says otherwise (`connect_timeout`).
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// How long sent bytes may stay without a receipt before the connection counts as lost, unless the URL says otherwise
/// (`tcp_user_timeout`).
const TCP_USER_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// A PostgreSQL database whose tables are mirrored by logical replication.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// Where the server is: `postgres://user:password@host:port/database`, or the key-value form of libpq. Without a
    /// password here, the environment variable `PGPASSWORD` is used.
    pub url: String,
    /// The tables, as `schema.table`; `*` stands for any characters in either part (`sales.*`).
    pub tables: Vec<String>,
    /// Name of the replication slot; created if missing. Default: `moonshine_` and the source's name.
    #[serde(default)]
    pub slot_name: Option<String>,
    /// Name of the publication; created if missing, extended by missing tables. Default: the slot's name.
    #[serde(default)]
    pub publication_name: Option<String>,
    /// Most rows of one engine transaction while the rows that exist already are copied.
    #[serde(default = "copy_batch_rows_default")]
    pub copy_batch_rows: NonZeroU32,
    /// Whether the server is to send values of the stream in its binary form, which is faster. The text form is the
    /// other choice, and the only one before PostgreSQL 14.
    #[serde(default = "binary_default")]
    pub binary: bool,
}

fn copy_batch_rows_default() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(49_999)
}

fn binary_default() -> bool {
    true
}

impl std::fmt::Debug for PostgresConfig {
    /// Leaves the URL out, since it may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("tables", &self.tables)
            .field("slot_name", &self.slot_name)
            .field("publication_name", &self.publication_name)
            .field("copy_batch_rows", &self.copy_batch_rows)
            .field("binary", &self.binary)
            .finish_non_exhaustive()
    }
}

/// A [`PostgresConfig`] that was checked, with every default filled in.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) connection: tokio_postgres::Config,
    pub(super) patterns: Vec<TablePattern>,
    pub(super) slot_name: String,
    pub(super) publication_name: String,
    pub(super) copy_batch_rows: u64,
    pub(super) binary: bool,
}

impl Settings {
    pub(super) fn new(source_name: &str, config: PostgresConfig) -> Result<Self, SourceError> {
        let slot_name = match config.slot_name {
            Some(name) => name,
            None => default_slot_name(source_name),
        };
        let slot_character = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if slot_name.is_empty()
            || slot_name.len() > NAME_BYTES_MAX
            || !slot_name.chars().all(slot_character)
        {
            return Err(SourceError::Config(format!(
                "postgres.slot_name '{slot_name}': a slot's name has 1 to {NAME_BYTES_MAX} characters of a-z, 0-9 and _"
            )));
        }
        let publication_name = config.publication_name.unwrap_or_else(|| slot_name.clone());
        if publication_name.is_empty()
            || publication_name.len() > NAME_BYTES_MAX
            || publication_name.contains(['\0', '"', '\'', ',', '\\'])
        {
            return Err(SourceError::Config(format!(
                "postgres.publication_name '{publication_name}': a publication's name has 1 to {NAME_BYTES_MAX} bytes, \
                 without quotes, commas and backslashes"
            )));
        }
        if config.tables.is_empty() {
            return Err(SourceError::Config(
                "postgres.tables is empty: name at least one table, for example public.orders or public.*".into(),
            ));
        }
        Ok(Self {
            connection: parse_url(&config.url)?,
            patterns: config
                .tables
                .iter()
                .map(|text| text.parse())
                .collect::<Result<_, _>>()?,
            slot_name,
            publication_name,
            copy_batch_rows: u64::from(config.copy_batch_rows.get()),
            binary: config.binary,
        })
    }
}

fn default_slot_name(source_name: &str) -> String {
    let plain = |c: char| {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            c
        } else {
            '_'
        }
    };
    let mut name = String::from("moonshine_");
    name.extend(source_name.chars().map(plain));
    name.truncate(NAME_BYTES_MAX);
    name
}

fn parse_url(url: &str) -> Result<tokio_postgres::Config, SourceError> {
    let wrong = |reason: String| SourceError::Config(format!("postgres.url: {reason}"));
    if url.contains("sslmode=verify-") {
        return Err(wrong(
            "TLS is not supported by this source yet; use sslmode=disable or sslmode=prefer".into(),
        ));
    }
    let mut connection = tokio_postgres::Config::from_str(url).map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        wrong(cause.unwrap_or_else(|| error.to_string()))
    })?;
    if connection.get_ssl_mode() == SslMode::Require {
        return Err(wrong(
            "TLS is not supported by this source yet; use sslmode=disable or sslmode=prefer".into(),
        ));
    }
    if connection.get_hosts().is_empty() && connection.get_hostaddrs().is_empty() {
        return Err(wrong("it names no host".into()));
    }
    // Ordinary and replication connections have to reach the same server.
    if connection.get_hosts().len() > 1 || connection.get_hostaddrs().len() > 1 {
        return Err(wrong(
            "it names several hosts, but a replication slot lives on one".into(),
        ));
    }
    let Some(user) = connection.get_user().map(str::to_owned) else {
        return Err(wrong("it names no user".into()));
    };
    if connection.get_dbname().is_none() {
        connection.dbname(user);
    }
    if connection.get_password().is_none()
        && let Ok(password) = std::env::var("PGPASSWORD")
    {
        connection.password(password);
    }
    if connection.get_connect_timeout().is_none() {
        connection.connect_timeout(CONNECT_TIMEOUT_DEFAULT);
    }
    if connection.get_tcp_user_timeout().is_none() {
        connection.tcp_user_timeout(TCP_USER_TIMEOUT_DEFAULT);
    }
    if connection.get_application_name().is_none() {
        connection.application_name("moonshine");
    }
    Ok(connection)
}

/// Which tables one entry of `tables` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TablePattern {
    schema: String,
    table: String,
}

impl TablePattern {
    pub(super) fn matches(&self, schema: &str, table: &str) -> bool {
        wildcard_matches(&self.schema, schema) && wildcard_matches(&self.table, table)
    }

    /// Whether this names one table, without a wildcard.
    pub(super) fn is_exact(&self) -> bool {
        !self.schema.contains('*') && !self.table.contains('*')
    }
}

impl std::fmt::Display for TablePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

impl FromStr for TablePattern {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        match text.split_once('.') {
            Some((schema, table)) if !schema.is_empty() && !table.is_empty() => Ok(Self {
                schema: schema.to_owned(),
                table: table.to_owned(),
            }),
            _ => Err(SourceError::Config(format!(
                "postgres.tables: '{text}' is not of the form schema.table, such as public.orders or sales.*"
            ))),
        }
    }
}

/// Whether the whole text fits the pattern, in which `*` stands for any characters.
fn wildcard_matches(pattern: &str, text: &str) -> bool {
    let Some((head, mut tail)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut rest) = text.strip_prefix(head) else {
        return false;
    };
    // Taking each middle part at its first place leaves the most room for those after it.
    while let Some((part, after)) = tail.split_once('*') {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
        tail = after;
    }
    rest.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> PostgresConfig {
        serde_json::from_str(json).unwrap()
    }

    fn refusal(json: &str) -> String {
        Settings::new("shop", config(json)).unwrap_err().to_string()
    }

    #[test]
    fn defaults_follow_from_the_source_name() {
        let settings = Settings::new(
            "Shop-1",
            config(r#"{"url":"postgres://u@h/d","tables":["public.orders"]}"#),
        )
        .unwrap();
        assert_eq!(settings.slot_name, "moonshine_shop_1");
        assert_eq!(settings.publication_name, "moonshine_shop_1");
        assert_eq!(settings.copy_batch_rows, 50_000);
        assert!(settings.binary);
    }

    #[test]
    fn unknown_fields_are_refused() {
        let error = serde_json::from_str::<PostgresConfig>(r#"{"url":"x","tables":[],"slot":"y"}"#)
            .unwrap_err();
        assert!(error.to_string().contains("slot_name"), "{error}");
    }

    #[test]
    fn wrong_settings_are_named() {
        assert!(refusal(r#"{"url":"postgres://u@h/d","tables":[]}"#).contains("postgres.tables"));
        assert!(refusal(r#"{"url":"postgres://u@h/d","tables":["orders"]}"#).contains("'orders'"));
        assert!(
            refusal(r#"{"url":"postgres://u@h/d?port=x","tables":["a.b"]}"#)
                .contains("postgres.url")
        );
        assert!(
            refusal(r#"{"url":"postgres://u@h/d","tables":["a.b"],"slot_name":"A"}"#)
                .contains("'A'")
        );
        let url_refusal = |url: &str| refusal(&format!(r#"{{"url":"{url}","tables":["a.b"]}}"#));
        assert!(url_refusal("postgres://u@h,i/d").contains("several hosts"));
        assert!(url_refusal("postgres://h/d").contains("no user"));
        assert!(url_refusal("user=u").contains("no host"));
        for mode in ["require", "verify-ca", "verify-full"] {
            let json = format!(r#"{{"url":"postgres://u@h/d?sslmode={mode}","tables":["a.b"]}}"#);
            assert!(refusal(&json).contains("TLS"), "{mode}");
        }
    }

    #[test]
    fn debug_output_holds_no_password() {
        let text = format!(
            "{:?}",
            config(r#"{"url":"postgres://u:secret@h/d","tables":["a.b"]}"#)
        );
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn wildcards_match_whole_names() {
        let matches = |pattern: &str, schema, table| {
            pattern
                .parse::<TablePattern>()
                .unwrap()
                .matches(schema, table)
        };
        assert!(matches("sales.*", "sales", "orders"));
        assert!(!matches("sales.*", "sales2", "orders"));
        assert!(matches("*.orders", "sales", "orders"));
        assert!(matches("s.or*_*x", "s", "or_a_bx"));
        assert!(!matches("s.or*_*x", "s", "or_ab"));
        assert!(!matches("s.a*a", "s", "a"));
    }
}
