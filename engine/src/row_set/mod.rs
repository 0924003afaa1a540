//! RowSets below level 0: the rows of one fragment, sorted by primary key, each key once, as pages of a delta file.
//!
//! A [`DeltaFileWriter`](writer::DeltaFileWriter) takes rows in key order and writes, for each RowSet, its pages of rows
//! ([`rows_page`]), the hash index over them (`index`), the directory by key (`directory`) and a footer; each as a
//! checked [`page`]. A [`RowSet`](reader::RowSet) answers gets through the index and opens cursors through the directory;
//! every page it reads goes through one [`page_cache`] under a memory budget. [`merge`] turns the cursors of several
//! RowSets into one stream of the newest rows, which is what compactions and scans read.

pub mod budget;
pub mod check;
mod clock;
pub mod cursor;
pub(crate) mod directory;
pub mod file;
pub(crate) mod index;
pub mod location;
pub mod merge;
pub mod meta;
pub mod multi_get;
pub mod page;
pub mod page_cache;
pub mod reader;
pub mod rows_page;
mod rows_page_builder;
pub mod stats;
pub mod writer;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod merge_tests;
#[cfg(test)]
mod row_set_tests;
