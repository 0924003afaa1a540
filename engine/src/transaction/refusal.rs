//! Why a commit is refused, over one key.

use crate::codec::key::decode_key;
use crate::error::Error;
use crate::schema::TableSchema;

/// Another transaction wrote a key that this one read or writes.
pub(super) fn conflict(schema: &TableSchema, key: &[u8]) -> Error {
    Error::Conflict {
        table: schema.name().to_owned(),
        key: decode_key(schema, key).unwrap_or_default(),
    }
}

/// A key that was to be new is there.
pub(super) fn exists(schema: &TableSchema, key: &[u8]) -> Error {
    Error::Exists {
        table: schema.name().to_owned(),
        key: decode_key(schema, key).unwrap_or_default(),
    }
}
