//! Stores: where the files of tables lie.
//!
//! A [`Store`] is a local folder (`local`) or a bucket of S3, Google Cloud Storage or Azure (`objects`, on the crate
//! object_store); a table's location says which, and `properties` how it is reached. To the rest of the crate it is
//! Iceberg's `FileIO`; what that lacks, listing and writing a file only where there is none, are the store's own methods.
//! `credentials` are those that a catalog gives for a table: they end, and are asked for again before.
//!
//! A file is on disk, with its name, before the writer of it is told that it is closed.

mod clients;
mod credentials;
mod io;
mod local;
mod objects;
mod properties;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use iceberg::io::{FileIO, FileIOBuilder};

pub(crate) use self::clients::{aws_credentials, check_location};
pub(crate) use self::credentials::{CredentialSource, Renewal};
use self::local::Local;
use self::objects::Objects;
pub use self::properties::StoreProperties;
use crate::error::{ExportError, Result};

/// A file in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Where it is, as Iceberg's metadata name it.
    pub location: String,
    /// Its size.
    pub size_bytes: u64,
    /// When it was last written, in milliseconds since 1970-01-01T00:00:00Z, by the store's clock.
    pub modified_ms: i64,
}

/// Where files lie: a local folder, or a bucket.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use moonshine_export::store::{Store, StoreProperties};
/// # let folder = tempfile::tempdir()?;
/// let folder = format!("file://{}", folder.path().display());
/// let store = Store::open(&folder, &StoreProperties::default())?;
/// let location = format!("{folder}/a/b.txt");
/// assert!(store.put_if_absent(&location, "first".into()).await?);
/// assert!(!store.put_if_absent(&location, "second".into()).await?);
/// assert_eq!(store.file_io().new_input(&location)?.read().await?, "first");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Store {
    backend: Backend,
}

#[derive(Clone)]
enum Backend {
    Local,
    Objects(Arc<Objects>),
}

/// Without its client, which holds keys.
impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.backend {
            Backend::Local => "file://",
            Backend::Objects(objects) => objects.root(),
        };
        formatter.debug_tuple("Store").field(&place).finish()
    }
}

impl Store {
    /// The store of a location, by its scheme. Nothing is asked of it yet.
    ///
    /// # Errors
    /// [`ExportError::Config`] for a location or a property that does not do.
    pub fn open(location: &str, properties: &StoreProperties) -> Result<Store> {
        Self::open_renewed(location, properties, None)
    }

    /// As [`open`](Self::open), with credentials that end.
    pub(crate) fn open_renewed(
        location: &str,
        properties: &StoreProperties,
        renewal: Option<Renewal>,
    ) -> Result<Store> {
        let backend = match location.split_once("://") {
            None | Some(("file", _)) => Backend::Local,
            Some(_) => Backend::Objects(Arc::new(clients::bucket(location, properties, renewal)?)),
        };
        Ok(Store { backend })
    }

    /// The files of this machine.
    pub fn local() -> Store {
        Store {
            backend: Backend::Local,
        }
    }

    /// Whether the files below a location lie in this store.
    pub(crate) fn holds(&self, location: &str) -> bool {
        match &self.backend {
            Backend::Local => !location.contains("://") || location.starts_with("file:"),
            Backend::Objects(objects) => {
                let below = location.strip_prefix(objects.root());
                below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
            }
        }
    }

    /// The store as Iceberg's crates use one.
    pub fn file_io(&self) -> FileIO {
        FileIOBuilder::new(Arc::new(self.clone())).build()
    }

    /// Every file in a folder and those in it. There are none where there is no such folder.
    ///
    /// # Errors
    /// Items are [`ExportError::Unavailable`] where the store does not answer; [`ExportError::Config`] for a folder
    /// elsewhere.
    pub fn list(&self, folder: &str) -> BoxStream<'static, Result<StoredFile>> {
        let place = folder.trim_end_matches('/').to_owned();
        let listed = match &self.backend {
            Backend::Local => Local::list(&place),
            Backend::Objects(objects) => objects.list(&place),
        };
        let failed = move |error: iceberg::Error| ExportError::unavailable(&place, error);
        listed.map(move |file| file.map_err(&failed)).boxed()
    }

    /// Writes a file where there is none; `false` if there is one. Where a try got no answer, the next one may find its
    /// file and say `false`.
    ///
    /// # Errors
    /// [`ExportError::Unavailable`], also from a store that can't tell.
    pub async fn put_if_absent(&self, location: &str, bytes: Bytes) -> Result<bool> {
        let put = match &self.backend {
            Backend::Local => Local::put_if_absent(location, bytes).await,
            Backend::Objects(objects) => objects.put_if_absent(location, bytes).await,
        };
        put.map_err(|error| ExportError::unavailable(location, error))
    }
}
