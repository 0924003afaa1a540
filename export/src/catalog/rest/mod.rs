//! A catalog server of the Iceberg REST protocol.
//!
//! `client` sends requests and knows what statuses mean; `messages` are their bodies; `config` says where the server is and
//! who we are; `signing` signs requests for the catalogs of AWS. A commit is the [`Change`] as it is: its requirements and updates. The server makes the metadata.
//!
//! The crate `iceberg-catalog-rest` can't be used for that: it commits what its own transactions made alone, tells a
//! conflict from a busy server by text alone, and keeps a token beyond its end.

mod client;
mod config;
mod messages;
mod signing;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::{NamespaceIdent, TableIdent, TableRequirement};
use reqwest::Method;
use uuid::Uuid;

pub(super) use self::client::{NoAnswer, beginning, http_client, no_answer};
use self::client::{Request, RestClient, json};
pub use self::config::RestConfig;
pub(crate) use self::config::address;
use self::messages::{
    CatalogConfig, CommitTable, CreateNamespace, CreateTable, Namespaces, TableAnswer, Tables,
};
pub(super) use self::signing::Signer;
pub use self::signing::SigningConfig;
use super::{CatalogTable, Change, CommitOutcome, Guard, NewTable, TableCatalog};
use crate::config::IcebergConfig;
use crate::environment::{Clock, Environment};
use crate::error::{ExportError, Result};
use crate::store::{CredentialSource, Renewal, Store, StoreProperties};

/// The id of the first partition spec of a table.
const FIRST_SPEC_ID: i32 = 0;

/// What stands between the parts of a namespace in a path.
const NAMESPACE_SEPARATOR: &str = "\u{1F}";

/// A catalog server of the Iceberg REST protocol.
pub struct RestCatalog {
    client: Arc<RestClient>,
    warehouse: Option<String>,
    /// What the server insists on of the stores of its tables.
    overrides: HashMap<String, String>,
    /// What the configuration says of them, and where it says nothing the server's defaults.
    configured: StoreProperties,
    clock: Arc<dyn Clock>,
}

/// Without the properties, which may hold keys.
impl fmt::Debug for RestCatalog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("RestCatalog");
        shown.field("client", &self.client);
        shown.field("warehouse", &self.warehouse);
        shown.finish_non_exhaustive()
    }
}

impl RestCatalog {
    /// Connects to the server of that configuration.
    ///
    /// # Errors
    /// [`ExportError::Config`]; [`ExportError::Unavailable`].
    pub async fn open(config: &IcebergConfig) -> Result<Self> {
        Self::open_with(config, Environment::default()).await
    }

    /// As [`open`](Self::open), with the caller's clock.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(config: &IcebergConfig, environment: Environment) -> Result<Self> {
        let (base, warehouse) = config.rest_places()?;
        let rest = config.rest.clone().unwrap_or_default();
        let clock = environment.clock.clone();
        let signing = rest.signing.clone();
        let signer = signing.map(|signing| Signer::new(signing, &config.store));
        let mut client = RestClient::new(base, &rest, signer.transpose()?, environment)?;
        let query: Vec<(&str, &str)> = rest
            .warehouse
            .as_deref()
            .map(|warehouse| ("warehouse", warehouse))
            .into_iter()
            .collect();
        let answer = client.ask(&get(&["config"], &query)).await?;
        let CatalogConfig {
            defaults,
            overrides,
        } = answer.json()?;
        let prefix = overrides.get("prefix").or(rest.prefix.as_ref());
        if let Some(prefix) = prefix.or(defaults.get("prefix")) {
            client.set_prefix(prefix);
        }
        Ok(RestCatalog {
            client: Arc::new(client),
            warehouse,
            overrides,
            configured: config.store.over(defaults),
            clock,
        })
    }

    /// Makes a namespace and those that it lies in, where they are missing.
    async fn create_namespace(&self, namespace: &NamespaceIdent) -> Result<()> {
        let parts: &[String] = namespace.as_ref();
        for length in 1..=parts.len() {
            let parts = parts.iter().take(length).cloned();
            let namespace = NamespaceIdent::from_vec(parts.collect())
                .map_err(|error| ExportError::Config(error.to_string()))?;
            let exists = self
                .client
                .ask(&Request {
                    method: Method::HEAD,
                    ..get(&["namespaces", &url_part(&namespace)], &[])
                })
                .await?;
            if exists.is_success() {
                continue;
            }
            let message = CreateNamespace {
                namespace: &namespace,
                properties: HashMap::new(),
            };
            let answer = self
                .client
                .ask(&post(&["namespaces"], json(&message)?))
                .await?;
            // Somebody else may have been faster.
            if !answer.is_success() && answer.status != 409 {
                return Err(answer.error());
            }
        }
        Ok(())
    }

    async fn namespaces(&self, parent: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>> {
        let parent = parent.map(url_part);
        let mut namespaces = Vec::new();
        let mut page: Option<String> = None;
        loop {
            let mut query = Vec::new();
            query.extend(parent.as_deref().map(|parent| ("parent", parent)));
            query.extend(page.as_deref().map(|page| ("pageToken", page)));
            let answer = self.client.ask(&get(&["namespaces"], &query)).await?;
            // So does one that knows no namespaces in others.
            if parent.is_some() && matches!(answer.status, 400 | 404 | 406) {
                return Ok(namespaces);
            }
            let answer: Namespaces = answer.json()?;
            namespaces.extend(answer.namespaces);
            page = answer.next_page_token.filter(|page| !page.is_empty());
            if page.is_none() {
                return Ok(namespaces);
            }
        }
    }

    async fn tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        let namespace = url_part(namespace);
        let mut tables = Vec::new();
        let mut page: Option<String> = None;
        loop {
            let query: Vec<(&str, &str)> = page
                .as_deref()
                .map(|page| ("pageToken", page))
                .into_iter()
                .collect();
            let path = ["namespaces", namespace.as_str(), "tables"];
            let answer = self.client.ask(&get(&path, &query)).await?;
            if answer.is_missing() {
                return Ok(tables);
            }
            let answer: Tables = answer.json()?;
            tables.extend(answer.identifiers);
            page = answer.next_page_token.filter(|page| !page.is_empty());
            if page.is_none() {
                return Ok(tables);
            }
        }
    }

    /// Has the server find a place for a table that is not there yet, and say what may be done there.
    async fn stage(&self, ident: &TableIdent, table: &NewTable) -> Result<TableAnswer> {
        let mut properties = table.properties.clone();
        let format_version = (table.format_version as u8).to_string();
        properties.insert("format-version".to_owned(), format_version);
        let message = CreateTable {
            name: ident.name(),
            location: table.location.as_deref(),
            schema: &table.schema,
            partition_spec: &table.partition_spec,
            write_order: &table.sort_order,
            stage_create: true,
            properties,
        };
        let namespace = url_part(ident.namespace());
        let path = ["namespaces", namespace.as_str(), "tables"];
        self.client.ask(&post(&path, json(&message)?)).await?.json()
    }

    /// The store of a table, with the credentials that came with it.
    fn store_of(&self, ident: &TableIdent, answer: &TableAnswer) -> Result<Store> {
        let properties = answer.store_properties(&self.overrides);
        let renewal = Renewal {
            source: Arc::new(TableCredentials {
                client: self.client.clone(),
                ident: ident.clone(),
                overrides: self.overrides.clone(),
            }),
            configured: self.configured.clone(),
            clock: self.clock.clone(),
        };
        let properties = self.configured.under(&properties);
        Store::open_renewed(answer.metadata.location(), &properties, Some(renewal))
    }

    fn table(&self, ident: &TableIdent, answer: TableAnswer) -> Result<CatalogTable> {
        let store = self.store_of(ident, &answer)?;
        let metadata_location = answer.metadata_location.ok_or_else(|| {
            let place = format!("table '{ident}'");
            ExportError::unavailable(place, "the catalog does not say where its metadata is")
        })?;
        Ok(CatalogTable {
            ident: ident.clone(),
            file_io: store.file_io(),
            metadata: Arc::new(answer.metadata),
            metadata_location,
        })
    }

    async fn send_commit(
        &self,
        ident: &TableIdent,
        change: &Change,
    ) -> Result<client::Answer, NoAnswer> {
        let message = CommitTable {
            identifier: ident,
            requirements: &change.requirements,
            updates: &change.updates,
        };
        let namespace = url_part(ident.namespace());
        let path = ["namespaces", namespace.as_str(), "tables", ident.name()];
        let body = json(&message).map_err(NoAnswer::NotSent)?;
        self.client.send(&post(&path, body)).await
    }
}

#[async_trait]
impl TableCatalog for RestCatalog {
    fn warehouse(&self) -> Option<&str> {
        self.warehouse.as_deref()
    }

    fn guard(&self) -> Guard {
        Guard::Requirements
    }

    async fn list(&self) -> Result<Vec<TableIdent>> {
        let mut tables = Vec::new();
        let mut namespaces = self.namespaces(None).await?;
        while let Some(namespace) = namespaces.pop() {
            tables.extend(self.tables(&namespace).await?);
            let inner = self.namespaces(Some(&namespace)).await?;
            // A server without nested namespaces may answer with all of them.
            let is_inner = |inner: &NamespaceIdent| {
                let parent: &[String] = namespace.as_ref();
                inner.as_ref().starts_with(parent) && inner.as_ref().len() > parent.len()
            };
            namespaces.extend(inner.into_iter().filter(is_inner));
        }
        tables.sort_by_key(ToString::to_string);
        Ok(tables)
    }

    async fn load(&self, ident: &TableIdent) -> Result<Option<CatalogTable>> {
        let answer = ask_for_table(&self.client, ident).await?;
        if answer.is_missing() {
            return Ok(None);
        }
        self.table(ident, answer.json()?).map(Some)
    }

    async fn create(
        &self,
        ident: &TableIdent,
        mut table: NewTable,
        _file_id: Uuid,
    ) -> Result<CatalogTable> {
        // Iceberg's own parser asks for the id, though the protocol does not.
        table.partition_spec = table.partition_spec.with_spec_id(FIRST_SPEC_ID);
        self.create_namespace(ident.namespace()).await?;
        // A table that is made in one step may get its columns numbered anew; one that is staged gets them from us.
        let staged = self.stage(ident, &table).await?;
        let location = staged.metadata.location().to_owned();
        let change = Change {
            requirements: vec![TableRequirement::NotExist],
            updates: table.updates(staged.metadata.uuid(), location),
        };
        let sent = self.send_commit(ident, &change).await;
        if let Ok(answer) = &sent
            && !answer.is_success()
            && answer.status < 500
        {
            return Err(answer.error());
        }
        // The credentials of a commit's answer may be missing, and without an answer only this tells.
        match self.load(ident).await? {
            Some(table) if table.metadata.uuid() == staged.metadata.uuid() => Ok(table),
            _ => Err(match sent {
                Ok(answer) => answer.error(),
                Err(no_answer) => no_answer.into(),
            }),
        }
    }

    async fn commit(&self, base: &CatalogTable, change: &Change, _file_id: Uuid) -> CommitOutcome {
        let answer = match self.send_commit(&base.ident, change).await {
            Ok(answer) => answer,
            Err(NoAnswer::NotSent(error)) => {
                return CommitOutcome::Busy {
                    retry_after_ms: None,
                    error,
                };
            }
            Err(NoAnswer::Denied(error)) => return CommitOutcome::Refused(error),
            Err(NoAnswer::Lost(error)) => return CommitOutcome::Unknown(error),
        };
        match answer.status {
            200..300 => match answer.json::<TableAnswer>() {
                Ok(TableAnswer {
                    metadata,
                    metadata_location: Some(metadata_location),
                    ..
                }) => CommitOutcome::Committed(CatalogTable {
                    metadata: Arc::new(metadata),
                    metadata_location,
                    ..base.clone()
                }),
                Ok(_) => CommitOutcome::Unknown(answer.error()),
                Err(error) => CommitOutcome::Unknown(error),
            },
            409 => CommitOutcome::Conflict,
            429 => CommitOutcome::Busy {
                retry_after_ms: answer.retry_after_ms,
                error: answer.error(),
            },
            408 | 500.. => CommitOutcome::Unknown(answer.error()),
            _ if answer.is_missing() => {
                let reason =
                    "it is gone from the catalog; put it back, by its newest metadata file";
                CommitOutcome::Refused(ExportError::foreign(&base.ident, reason))
            }
            _ => CommitOutcome::Refused(answer.error()),
        }
    }

    async fn store(&self, table: &CatalogTable) -> Result<Option<Store>> {
        let answer = ask_for_table(&self.client, &table.ident).await?;
        self.store_of(&table.ident, &answer.json()?).map(Some)
    }

    async fn drop_table(&self, ident: &TableIdent) -> Result<bool> {
        let namespace = url_part(ident.namespace());
        let path = ["namespaces", namespace.as_str(), "tables", ident.name()];
        let request = Request {
            method: Method::DELETE,
            ..get(&path, &[("purgeRequested", "false")])
        };
        let answer = self.client.send(&request).await?;
        match answer.is_success() {
            true => Ok(true),
            false if answer.is_missing() => Ok(false),
            false => Err(answer.error()),
        }
    }
}

/// Loads a table again, for the credentials that come with it.
struct TableCredentials {
    client: Arc<RestClient>,
    ident: TableIdent,
    overrides: HashMap<String, String>,
}

#[async_trait]
impl CredentialSource for TableCredentials {
    async fn properties(&self) -> Result<HashMap<String, String>> {
        let answer = ask_for_table(&self.client, &self.ident).await?;
        let answer: TableAnswer = answer.json()?;
        Ok(answer.store_properties(&self.overrides))
    }
}

async fn ask_for_table(client: &RestClient, ident: &TableIdent) -> Result<client::Answer> {
    let namespace = url_part(ident.namespace());
    let path = ["namespaces", namespace.as_str(), "tables", ident.name()];
    client.ask(&get(&path, &[])).await
}

/// A namespace as a part of a path.
fn url_part(namespace: &NamespaceIdent) -> String {
    namespace.join(NAMESPACE_SEPARATOR)
}

fn get<'a>(path: &'a [&'a str], query: &'a [(&'a str, &'a str)]) -> Request<'a> {
    Request {
        method: Method::GET,
        path,
        query,
        body: None,
    }
}

fn post<'a>(path: &'a [&'a str], body: Option<Vec<u8>>) -> Request<'a> {
    Request {
        method: Method::POST,
        body,
        ..get(path, &[])
    }
}
