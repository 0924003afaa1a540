//! RowSets below level 0: the rows of one fragment, sorted by primary key, each key once, as pages of a delta file.
//!
//! A [`DeltaFileWriter`](writer::DeltaFileWriter) takes rows in key order and writes, for each RowSet, its pages of rows
//! ([`rows_page`]), the hash index over them (`index`), the directory by key (`directory`) and a footer; each as a
//! checked [`page`]. A [`RowSet`](reader::RowSet) answers gets through the index and opens cursors through the directory;
//! every page it reads goes through one [`page_cache`] under a memory budget. A [`patch`] says which rows of older RowSets
//! those of a RowSet replace.
//!
//! ```
//! use std::sync::Arc;
//!
//! use moonshine_engine::io::SyscallIo;
//! use moonshine_engine::row_set::budget::MemoryBudget;
//! use moonshine_engine::row_set::file::delta_file_path;
//! use moonshine_engine::row_set::meta::RowSetHead;
//! use moonshine_engine::row_set::page_cache::PageCache;
//! use moonshine_engine::row_set::reader::RowSet;
//! use moonshine_engine::row_set::rows_page::RowRef;
//! use moonshine_engine::row_set::writer::{DeltaFileOptions, DeltaFileWriter};
//! use uuid::Uuid;
//! use xxhash_rust::xxh3::xxh3_64;
//!
//! # let folder = tempfile::tempdir()?;
//! let path = delta_file_path(folder.path(), 1);
//! let options = DeltaFileOptions::default();
//! let mut writer = DeltaFileWriter::create(Arc::new(SyscallIo), &path, Uuid::nil(), 1, options)?;
//! writer.begin(RowSetHead::default())?;
//! for (key, value) in [(b"ant", Some(&b"6 legs"[..])), (b"bee", None)] {
//!     writer.push(RowRef { key, value }, xxh3_64(key), None)?;
//! }
//! let meta = writer.finish_row_set()?.ok_or("no rows")?;
//! let file = writer.finish()?;
//!
//! let cache = PageCache::new(MemoryBudget::new(1 << 20));
//! let row_set = RowSet::open(meta, file, &cache)?;
//! let ant = row_set.get(xxh3_64(b"ant"), b"ant")?.ok_or("no ant")?;
//! assert_eq!(ant.value(), Some(&b"6 legs"[..]));
//! let mut cursor = row_set.cursor();
//! cursor.seek(b"b")?;
//! assert_eq!(cursor.row(), Some(RowRef { key: b"bee", value: None }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod budget;
mod cached_page;
pub mod check;
mod clock;
pub mod cursor;
pub(crate) mod directory;
pub mod file;
pub(crate) mod get;
pub(crate) mod index;
pub mod join;
pub mod location;
pub mod meta;
pub mod multi_get;
pub(crate) mod open_files;
pub mod page;
pub mod page_cache;
mod page_memory;
pub mod page_scan;
pub mod patch;
mod read_lately;
pub mod reader;
pub mod rows_page;
pub(crate) mod rows_page_builder;
pub(crate) mod spill;
pub mod stats;
pub mod writer;

#[cfg(test)]
mod check_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod patch_tests;
#[cfg(test)]
mod row_set_tests;
