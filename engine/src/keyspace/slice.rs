//! Bytes that are read.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes of a row: a clone copies nothing.
///
/// ```
/// use moonshine_engine::{Database, Options, Slice};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let users = database.keyspace("users")?;
/// users.insert("ada", "1815")?;
/// let year: Slice = users.get("ada")?.ok_or("nobody")?;
/// assert_eq!(year.len(), 4);
/// assert_eq!(&*year, b"1815");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Slice {
    pub(super) bytes: Arc<[u8]>,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Slice {
    pub(super) fn whole(bytes: Arc<[u8]>) -> Self {
        let end = bytes.len();
        Slice {
            bytes,
            start: 0,
            end,
        }
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.escape_ascii().fmt(formatter)
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Slice {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl Eq for Slice {}
