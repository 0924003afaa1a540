//! What is known of a RowSet without reading it: the entry that a manifest holds for it.

use std::sync::Arc;

use crate::codec::{Malformed, Reader, put_blob, put_u32, put_u64};

use super::index::{IndexShape, LINE_SIZE_BYTES, LINES_PER_PAGE};
use super::location::{LOCATION_SIZE_BYTES, LOCATIONS_PER_PAGE};
use super::page::PAGE_HEADER_SIZE_BYTES;
use super::patch::{PatchMeta, PatchTarget, RowSetPlace};
use super::rows_page::ROWS_PER_PAGE_LOG2_MAX;

/// Which rows a RowSet holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowSetHead {
    /// The table.
    pub table_id: u32,
    /// The fragment of the table.
    pub fragment_id: u64,
    /// Its rows were committed after this sequence,
    pub seq_from: u64,
    /// and at or before this one; 0 where that is not known yet, in a RowSet that a bulk load writes.
    pub seq_to: u64,
}

/// A RowSet of a delta file: what it holds and where its parts lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowSetMeta {
    /// Which rows it holds.
    pub head: RowSetHead,
    /// The delta file.
    pub file_number: u64,
    /// Where in the file the RowSet starts, in bytes.
    pub offset: u64,
    /// Bytes from there to its end.
    pub size_bytes: u64,
    /// Rows, with the tombstones.
    pub row_count: u64,
    /// Rows that say that their key is deleted.
    pub tombstone_count: u64,
    /// Bytes of all keys.
    pub key_bytes: u64,
    /// Bytes of all values.
    pub value_bytes: u64,
    /// The first key.
    pub key_min: Box<[u8]>,
    /// The last key.
    pub key_max: Box<[u8]>,
    /// A page holds up to 2^n rows; an ordinal is page × 2^n + slot.
    pub rows_per_page_log2: u8,
    /// Pages of rows.
    pub rows_page_count: u32,
    /// Pages of locations; 0 if no row has one.
    pub locations_page_count: u32,
    /// Pages of the directory.
    pub directory_page_count: u32,
    /// The size of the hash index.
    pub(crate) index_shape: IndexShape,
    /// Where the locations start, and the pages of rows end.
    pub(crate) locations_offset: u64,
    /// Where the pages of the index start.
    pub(crate) index_offset: u64,
    /// Where the footer lies.
    pub(crate) footer_offset: u64,
    /// Which rows of older RowSets it replaces, as far as that is known. No part of the entry.
    pub patch: Option<Arc<PatchMeta>>,
}

impl RowSetMeta {
    /// What names it.
    pub fn place(&self) -> RowSetPlace {
        RowSetPlace {
            file_number: self.file_number,
            offset: self.offset,
        }
    }

    /// The part that an older RowSet has in its patch; `None` while it is not known which of its rows are replaced.
    pub fn target(&self, older: &RowSetMeta) -> Option<&PatchTarget> {
        self.patch.as_ref()?.target(older.place())
    }

    /// Pages of the hash index.
    pub fn index_page_count(&self) -> u32 {
        self.index_shape.line_count.div_ceil(LINES_PER_PAGE as u32)
    }

    /// Bytes of the hash index.
    pub fn index_size_bytes(&self) -> u64 {
        u64::from(self.index_shape.line_count) * LINE_SIZE_BYTES as u64
    }

    /// Where a page of the index lies, and its stored length.
    pub(crate) fn index_page_span(&self, number: u32) -> (u64, u64) {
        let full = (PAGE_HEADER_SIZE_BYTES + LINES_PER_PAGE * LINE_SIZE_BYTES) as u64;
        let before = u64::from(number) * LINES_PER_PAGE as u64;
        let lines = u64::from(self.index_shape.line_count)
            .saturating_sub(before)
            .min(LINES_PER_PAGE as u64);
        (
            self.index_offset.saturating_add(u64::from(number) * full),
            PAGE_HEADER_SIZE_BYTES as u64 + lines * LINE_SIZE_BYTES as u64,
        )
    }

    /// One more than the largest ordinal that a row of full pages could have.
    pub(crate) fn ordinal_end(&self) -> u32 {
        self.rows_page_count
            .checked_shl(self.rows_per_page_log2.into())
            .unwrap_or(u32::MAX)
    }

    /// Where a page of locations lies, and its stored length.
    pub(crate) fn locations_page_span(&self, number: u32) -> (u64, u64) {
        let full = PAGE_HEADER_SIZE_BYTES + LOCATIONS_PER_PAGE as usize * LOCATION_SIZE_BYTES;
        let before = number.saturating_mul(LOCATIONS_PER_PAGE);
        let count = self
            .ordinal_end()
            .saturating_sub(before)
            .min(LOCATIONS_PER_PAGE);
        (
            self.locations_offset
                .saturating_add(u64::from(number) * full as u64),
            (PAGE_HEADER_SIZE_BYTES + count as usize * LOCATION_SIZE_BYTES) as u64,
        )
    }

    /// Bytes of the stored footer.
    pub(crate) fn footer_size_bytes(&self) -> u64 {
        self.offset
            .saturating_add(self.size_bytes)
            .saturating_sub(self.footer_offset)
    }

    /// Appends the entry.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u32(out, self.head.table_id);
        for number in [
            self.head.fragment_id,
            self.head.seq_from,
            self.head.seq_to,
            self.file_number,
            self.offset,
            self.size_bytes,
            self.row_count,
            self.tombstone_count,
            self.key_bytes,
            self.value_bytes,
            self.locations_offset,
            self.index_offset,
            self.footer_offset,
        ] {
            put_u64(out, number);
        }
        for number in [
            u32::from(self.rows_per_page_log2),
            self.rows_page_count,
            self.locations_page_count,
            self.directory_page_count,
            self.index_shape.home_line_count,
            self.index_shape.line_count,
        ] {
            put_u32(out, number);
        }
        put_blob(out, &self.key_min);
        put_blob(out, &self.key_max);
    }

    /// Takes an entry from the front.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(RowSetMeta {
            head: RowSetHead {
                table_id: reader.u32()?,
                fragment_id: reader.u64()?,
                seq_from: reader.u64()?,
                seq_to: reader.u64()?,
            },
            file_number: reader.u64()?,
            offset: reader.u64()?,
            size_bytes: reader.u64()?,
            row_count: reader.u64()?,
            tombstone_count: reader.u64()?,
            key_bytes: reader.u64()?,
            value_bytes: reader.u64()?,
            locations_offset: reader.u64()?,
            index_offset: reader.u64()?,
            footer_offset: reader.u64()?,
            rows_per_page_log2: u8::try_from(reader.u32()?)
                .ok()
                .filter(|bits| *bits <= ROWS_PER_PAGE_LOG2_MAX)
                .ok_or(Malformed("more rows a page than can be"))?,
            rows_page_count: reader.u32()?,
            locations_page_count: reader.u32()?,
            directory_page_count: reader.u32()?,
            index_shape: IndexShape {
                home_line_count: reader.u32()?,
                line_count: reader.u32()?,
            },
            key_min: reader.blob()?.into(),
            key_max: reader.blob()?.into(),
            patch: None,
        })
    }
}
