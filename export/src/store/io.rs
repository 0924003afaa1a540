//! A store as Iceberg's crates use one.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use iceberg::io::{
    FileMetadata, FileRead, FileWrite, InputFile, OutputFile, Storage, StorageConfig,
    StorageFactory,
};
use iceberg::{Error, ErrorKind, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::local::Local;
use super::{Backend, Store};

#[async_trait]
#[typetag::serde(name = "MoonshineStore")]
impl Storage for Store {
    async fn exists(&self, path: &str) -> Result<bool> {
        match &self.backend {
            Backend::Local => Local::exists(path).await,
            Backend::Objects(objects) => objects.exists(path).await,
        }
    }

    async fn metadata(&self, path: &str) -> Result<FileMetadata> {
        let size = match &self.backend {
            Backend::Local => Local::size_bytes(path).await,
            Backend::Objects(objects) => objects.size_bytes(path).await,
        }?;
        Ok(FileMetadata { size })
    }

    async fn read(&self, path: &str) -> Result<Bytes> {
        match &self.backend {
            Backend::Local => Local::read(path).await,
            Backend::Objects(objects) => objects.read(path).await,
        }
    }

    async fn reader(&self, path: &str) -> Result<Box<dyn FileRead>> {
        Ok(match &self.backend {
            Backend::Local => Box::new(Local::reader(path).await?),
            Backend::Objects(objects) => Box::new(objects.reader(path)?),
        })
    }

    async fn write(&self, path: &str, bytes: Bytes) -> Result<()> {
        let mut writer = self.writer(path).await?;
        writer.write(bytes).await?;
        writer.close().await
    }

    async fn writer(&self, path: &str) -> Result<Box<dyn FileWrite>> {
        Ok(match &self.backend {
            Backend::Local => Box::new(Local::writer(path).await?),
            Backend::Objects(objects) => Box::new(objects.writer(path)?),
        })
    }

    async fn delete(&self, path: &str) -> Result<()> {
        match &self.backend {
            Backend::Local => Local::delete(path).await,
            Backend::Objects(objects) => objects.delete(path).await,
        }
    }

    async fn delete_prefix(&self, path: &str) -> Result<()> {
        let place = path.trim_end_matches('/');
        let mut listed = match &self.backend {
            Backend::Local => Local::list(place),
            Backend::Objects(objects) => objects.list(place),
        };
        while let Some(file) = listed.next().await {
            self.delete(&file?.location).await?;
        }
        Ok(())
    }

    async fn delete_stream(&self, mut paths: BoxStream<'static, String>) -> Result<()> {
        match &self.backend {
            Backend::Local => {
                while let Some(path) = paths.next().await {
                    Local::delete(&path).await?;
                }
                Ok(())
            }
            Backend::Objects(objects) => objects.delete_stream(paths).await,
        }
    }

    fn new_input(&self, path: &str) -> Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), path.to_owned()))
    }

    fn new_output(&self, path: &str) -> Result<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_owned()))
    }
}

#[typetag::serde(name = "MoonshineStore")]
impl StorageFactory for Store {
    fn build(&self, _: &StorageConfig) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(self.clone()))
    }
}

/// Iceberg's traits ask for it. A store has connections and keys, which do not leave the process.
impl Serialize for Store {
    fn serialize<S: Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a store stays in its process"))
    }
}

impl<'de> Deserialize<'de> for Store {
    fn deserialize<D: Deserializer<'de>>(_: D) -> std::result::Result<Self, D::Error> {
        Err(serde::de::Error::custom("a store stays in its process"))
    }
}

/// An error of a file: that it or a part of it is missing is damage, everything else may pass.
pub(super) fn failed(path: &str, is_damage: bool, error: impl ToString) -> Error {
    let kind = match is_damage {
        true => ErrorKind::DataInvalid,
        false => ErrorKind::Unexpected,
    };
    Error::new(kind, format!("{path}: {}", error.to_string()))
}
