//! Stores: where files of tables lie.

use std::collections::HashMap;

use iceberg::io::FileIO;

use crate::error::{ExportError, Result};

/// What reads and writes the files below a location, by its scheme. `properties` are the catalog's for it, credentials
/// among them.
pub(crate) fn file_io(location: &str, properties: &HashMap<String, String>) -> Result<FileIO> {
    match location.split_once("://") {
        None | Some(("file", _)) => Ok(FileIO::new_with_fs()),
        Some((scheme, _)) => Err(ExportError::Config(format!(
            "'{location}': files at {scheme}:// are not supported ({} properties), the catalog's warehouse has to be a local \
             folder",
            properties.len()
        ))),
    }
}
