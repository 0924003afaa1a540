//! Writing delta files: RowSets one after the other, in one sequential stream.
//!
//! Pages leave as they fill. Until its RowSet ends a row costs 8 bytes for the index, of memory or of a file that is put aside
//! (`DeltaFileWriter::spill_hashes`), and as many for its location; a page about 20 for the directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::codec::{len_u32, put_blob};
use crate::error::{Error, Result};
use crate::io::{Io, IoFile, OpenMode};

use super::directory::{NodeBuilder, PAGES_PER_LEAF, separator};
use super::file::{DeltaFile, encode_file_header};
use super::index::{HashSpill, IndexBuilder};
use super::location::{LOCATIONS_PER_PAGE, Location};
use super::meta::{RowSetHead, RowSetMeta};
use super::page::{Compression, PageEncoder, PageKind, PagePlace, PageSeed};
use super::patch::{PatchMeta, TargetOrdinals};
use super::rows_page::{ROWS_PER_PAGE_LOG2_MAX, RowRef};
use super::rows_page_builder::RowsPageBuilder;

/// Content of a page of rows that is aimed at, within a factor of √2.
pub(super) const PAGE_SIZE_BYTES_AIM: usize = 4096;

/// A page of rows that holds more than one row is at most this large.
const ROWS_PAGE_SIZE_BYTES_MAX: usize = 64 * 1024;

/// How a delta file is written.
#[derive(Clone, Copy, Debug)]
pub struct DeltaFileOptions {
    /// How pages of rows are stored.
    pub compression: Compression,
    /// Bytes gathered before they are written: S-Size, and at least a mebibyte.
    pub write_size_bytes: usize,
}

impl Default for DeltaFileOptions {
    fn default() -> Self {
        DeltaFileOptions {
            compression: Compression::None,
            write_size_bytes: 1 << 20,
        }
    }
}

/// Writes one delta file: for each RowSet [`begin`](Self::begin), [`push`](Self::push) in key order,
/// [`finish_row_set`](Self::finish_row_set); then [`finish`](Self::finish). After an error the file is of no use; what
/// was written of it is the caller's to remove.
pub struct DeltaFileWriter {
    out: PageStream,
    folder_io: Arc<dyn Io>,
    database_id: Uuid,
    row_set: Option<OpenRowSet>,
    spill: Option<HashSpill>,
}

/// A RowSet that is being written.
#[derive(Default)]
struct OpenRowSet {
    meta: RowSetMeta,
    /// The first rows, by whose size the rows a page are chosen; then the rows of the page that is being filled.
    page: RowsPageBuilder,
    rows_per_page_log2: Option<u8>,
    page_separator: Vec<u8>,
    /// The last key of the page before.
    below: Vec<u8>,
    page_row_counts: Vec<u16>,
    leaves: Vec<NodeBuilder>,
    index: IndexBuilder,
    locations: Vec<Option<Location>>,
    /// Working memory for the content of a page.
    content: Vec<u8>,
}

impl DeltaFileWriter {
    /// Creates a file.
    ///
    /// # Errors
    /// [`Error::Io`] as the system answers; [`Error::Usage`] for a compression level that does not exist.
    pub fn create(
        io: Arc<dyn Io>,
        path: &Path,
        database_id: Uuid,
        file_number: u64,
        options: DeltaFileOptions,
    ) -> Result<Self> {
        let encoder =
            PageEncoder::new(PageSeed::new(database_id, file_number), options.compression)
                .map_err(|error| Error::Usage(format!("{:?}: {error}", options.compression)))?;
        let file = io
            .open(path, OpenMode::CreateNew)
            .map_err(|source| Error::io("create", path, source))?;
        Ok(DeltaFileWriter {
            out: PageStream {
                file,
                path: path.to_owned(),
                file_number,
                encoder,
                write_size_bytes: options.write_size_bytes,
                buffer: encode_file_header(database_id, file_number),
                buffer_offset: 0,
                failed: false,
            },
            folder_io: io,
            database_id,
            row_set: None,
            spill: None,
        })
    }

    /// Has the hashes of RowSets that begin from now on put aside until these end.
    pub(crate) fn spill_hashes(&mut self, spill: HashSpill) {
        self.spill = Some(spill);
    }

    /// Begins a RowSet.
    ///
    /// # Errors
    /// [`Error::Usage`] while another one has not ended.
    pub fn begin(&mut self, head: RowSetHead) -> Result<()> {
        if self.row_set.is_some() {
            return Err(self.out.misused("a RowSet begins within another one"));
        }
        self.row_set = Some(OpenRowSet {
            meta: RowSetMeta {
                head,
                file_number: self.out.file_number,
                offset: self.out.offset(),
                ..RowSetMeta::default()
            },
            index: IndexBuilder::new(self.spill.clone()),
            ..OpenRowSet::default()
        });
        Ok(())
    }

    /// Appends a row with the hash of its key and, if it was exported, where it lies.
    ///
    /// # Errors
    /// [`Error::Usage`] outside of a RowSet, for a key that is not above the one before, and for more rows than ordinals;
    /// [`Error::Io`] as the system answers.
    #[inline]
    pub fn push(&mut self, row: RowRef<'_>, hash: u64, location: Option<Location>) -> Result<()> {
        match &mut self.row_set {
            Some(row_set) => row_set.push(row, hash, location, &mut self.out),
            None => Err(self.out.misused("a row outside of a RowSet")),
        }
    }

    /// Bytes of the file so far.
    pub fn size_bytes(&self) -> u64 {
        self.out.offset()
    }

    /// Ends the RowSet; `None` if it got no rows, and then nothing of it is written.
    ///
    /// # Errors
    /// [`Error::Usage`] where none began, [`Error::Io`] as the system answers.
    pub fn finish_row_set(&mut self) -> Result<Option<RowSetMeta>> {
        match self.row_set.take() {
            Some(row_set) if row_set.meta.row_count == 0 => Ok(None),
            Some(row_set) => row_set.finish(&mut self.out).map(Some),
            None => Err(self.out.misused("a RowSet ends that did not begin")),
        }
    }

    /// Writes a patch: the ordinals of each target, the newest target first.
    ///
    /// # Errors
    /// [`Error::Usage`] within a RowSet, [`Error::Io`] as the system answers.
    pub fn write_patch(&mut self, targets: &[TargetOrdinals]) -> Result<PatchMeta> {
        if self.row_set.is_some() {
            return Err(self.out.misused("a patch within a RowSet"));
        }
        let offset = self.out.offset();
        let mut written = Vec::with_capacity(targets.len());
        for (number, target) in (0..).zip(targets) {
            let before = self.out.offset();
            if !target.content().is_empty() {
                self.out.append(PageKind::Patch, number, target.content())?;
            }
            written.push(target.target(self.out.offset() - before));
        }
        Ok(PatchMeta {
            file_number: self.out.file_number,
            offset,
            targets: written.into(),
        })
    }

    /// Writes what is left and makes the file durable, with its name in the folder.
    ///
    /// # Errors
    /// [`Error::Io`] as the system answers, [`Error::Usage`] within a RowSet or after an error.
    pub fn finish(mut self) -> Result<Arc<DeltaFile>> {
        if self.row_set.is_some() {
            return Err(self.out.misused("the file ends within a RowSet"));
        }
        if self.out.failed {
            return Err(self.out.misused("a write to it failed"));
        }
        self.out.write()?;
        let PageStream { file, path, .. } = self.out;
        file.sync_data()
            .map_err(|source| Error::io("sync", &path, source))?;
        if let Some(folder) = path.parent() {
            self.folder_io
                .sync_folder(folder)
                .map_err(|source| Error::io("sync", folder, source))?;
        }
        Ok(DeltaFile::new(
            &path,
            file,
            self.database_id,
            self.out.file_number,
        ))
    }
}

impl OpenRowSet {
    #[inline]
    fn push(
        &mut self,
        row: RowRef<'_>,
        hash: u64,
        location: Option<Location>,
        out: &mut PageStream,
    ) -> Result<()> {
        let last_key = self.page.last_key().unwrap_or(&self.below);
        if row.key <= last_key && self.meta.row_count > 0 {
            return Err(out.misused("a key that is not above the one before"));
        }
        if self.meta.row_count == 0 {
            self.meta.key_min = row.key.into();
        }
        self.meta.row_count += 1;
        self.meta.tombstone_count += u64::from(row.value.is_none());
        self.meta.key_bytes += row.key.len() as u64;
        self.meta.value_bytes += row.value.map_or(0, <[u8]>::len) as u64;
        self.index.push(hash);
        self.push_location(location);
        self.push_row(row, out)
    }

    /// Rows without a location cost nothing until one has one.
    #[inline]
    fn push_location(&mut self, location: Option<Location>) {
        if location.is_some() || !self.locations.is_empty() {
            let before = self.meta.row_count as usize - 1;
            self.locations.resize(before, None);
            self.locations.push(location);
        }
    }

    #[inline]
    fn push_row(&mut self, row: RowRef<'_>, out: &mut PageStream) -> Result<()> {
        let size_bytes = row.key.len() + row.value.map_or(0, <[u8]>::len) + 8;
        let full = |page: &RowsPageBuilder, more| {
            page.size_bytes() + 8 * page.row_count() + more > ROWS_PAGE_SIZE_BYTES_MAX
        };
        match self.rows_per_page_log2 {
            None => {
                self.page.push(row);
                if self.page.row_count() == 1 << ROWS_PER_PAGE_LOG2_MAX || full(&self.page, 0) {
                    self.choose_rows_per_page(out)?;
                }
                Ok(())
            }
            Some(bits) => {
                if self.page.row_count() == 0 {
                    self.start_page(row.key);
                } else if full(&self.page, size_bytes) {
                    self.end_page(out)?;
                    self.start_page(row.key);
                }
                self.page.push(row);
                if self.page.row_count() == 1 << bits {
                    self.end_page(out)?;
                }
                Ok(())
            }
        }
    }

    /// Chooses the rows a page from those that are there, and distributes them.
    fn choose_rows_per_page(&mut self, out: &mut PageStream) -> Result<()> {
        let first = std::mem::take(&mut self.page);
        let rows = first.row_count().max(1);
        // The largest power of two whose page is at most √2 × the aim.
        let size_bytes_max = PAGE_SIZE_BYTES_AIM * 181 / 128;
        let fits = |bits: &u8| (first.size_bytes() << bits) / rows <= size_bytes_max;
        let bits = (0..=ROWS_PER_PAGE_LOG2_MAX).rev().find(fits).unwrap_or(0);
        self.rows_per_page_log2 = Some(bits);
        for row in first.rows() {
            self.push_row(row, out)?;
        }
        Ok(())
    }

    fn start_page(&mut self, key: &[u8]) {
        self.page_separator.clear();
        if !self.page_row_counts.is_empty() {
            self.page_separator
                .extend_from_slice(separator(&self.below, key));
        }
    }

    fn end_page(&mut self, out: &mut PageStream) -> Result<()> {
        let number = len_u32(self.page_row_counts.len());
        let bits = u32::from(self.rows_per_page_log2.unwrap_or(0));
        if number >= u32::MAX >> bits {
            return Err(out.misused("a RowSet of more rows than there are ordinals"));
        }
        if number.is_multiple_of(PAGES_PER_LEAF) {
            self.leaves.push(NodeBuilder::default());
        }
        if let Some(leaf) = self.leaves.last_mut() {
            leaf.push(out.offset() - self.meta.offset, &self.page_separator);
        }
        self.content.clear();
        self.page.encode(&mut self.content);
        out.append(PageKind::Rows, number, &self.content)?;
        self.page_row_counts
            .push(u16::try_from(self.page.row_count()).unwrap_or(u16::MAX));
        self.below.clear();
        self.below
            .extend_from_slice(self.page.last_key().unwrap_or_default());
        self.page.clear();
        self.index.relieve()
    }

    fn finish(mut self, out: &mut PageStream) -> Result<RowSetMeta> {
        if self.rows_per_page_log2.is_none() {
            self.choose_rows_per_page(out)?;
        }
        if self.page.row_count() > 0 {
            self.end_page(out)?;
        }
        self.meta.key_max = self.below.as_slice().into();
        self.meta.rows_per_page_log2 = self.rows_per_page_log2.unwrap_or(0);
        self.meta.rows_page_count = len_u32(self.page_row_counts.len());
        self.meta.locations_offset = out.offset();
        self.write_locations(out)?;
        self.meta.index_offset = out.offset();
        self.write_index(out)?;
        let top = self.write_leaves(out)?;
        self.meta.footer_offset = out.offset();
        let mut content = Vec::new();
        let mut entry = Vec::new();
        self.meta.encode(&mut entry);
        put_blob(&mut content, &entry);
        top.encode(self.meta.footer_offset - self.meta.offset, &mut content);
        out.append(PageKind::Footer, 0, &content)?;
        self.meta.size_bytes = out.offset() - self.meta.offset;
        Ok(self.meta)
    }

    /// The ordinals of the rows, in order. A page that was closed before it was full leaves some out.
    fn ordinals(&self) -> impl Iterator<Item = u32> + use<> {
        let bits = self.meta.rows_per_page_log2;
        let counts = self.page_row_counts.clone();
        (0u32..).zip(counts).flat_map(move |(page, count)| {
            (0..u32::from(count)).map(move |slot| page << bits | slot)
        })
    }

    fn write_locations(&mut self, out: &mut PageStream) -> Result<()> {
        if self.locations.is_empty() {
            return Ok(());
        }
        let locations = std::mem::take(&mut self.locations);
        let mut placed = self.ordinals().zip(locations).peekable();
        let end = self.meta.ordinal_end();
        for number in 0..end.div_ceil(LOCATIONS_PER_PAGE) {
            self.content.clear();
            let start = number * LOCATIONS_PER_PAGE;
            for ordinal in start..end.min(start.saturating_add(LOCATIONS_PER_PAGE)) {
                let here = placed.next_if(|(at, _)| *at == ordinal);
                Location::encode(here.and_then(|(_, location)| location), &mut self.content);
            }
            out.append(PageKind::Locations, number, &self.content)?;
            self.meta.locations_page_count = number + 1;
        }
        Ok(())
    }

    fn write_index(&mut self, out: &mut PageStream) -> Result<()> {
        let mut number = 0;
        let ordinals = self.ordinals();
        self.index.gather()?;
        self.meta.index_shape = self.index.finish(ordinals, |content| {
            out.append(PageKind::Index, number, content)?;
            number += 1;
            Ok::<_, Error>(())
        })?;
        Ok(())
    }

    /// Writes the directory's leaves; returns the node above them.
    fn write_leaves(&mut self, out: &mut PageStream) -> Result<NodeBuilder> {
        let mut top = NodeBuilder::default();
        let mut content = Vec::new();
        let rows_end = self.meta.locations_offset - self.meta.offset;
        let ends = self
            .leaves
            .iter()
            .skip(1)
            .map(NodeBuilder::first_offset)
            .chain([rows_end]);
        for (number, (leaf, end)) in (0..).zip(self.leaves.iter().zip(ends)) {
            top.push(out.offset() - self.meta.offset, leaf.first_separator());
            content.clear();
            leaf.encode(end, &mut content);
            out.append(PageKind::Directory, number, &content)?;
        }
        self.meta.directory_page_count = len_u32(self.leaves.len());
        Ok(top)
    }
}

/// Pages on their way to the file.
struct PageStream {
    file: Arc<dyn IoFile>,
    path: PathBuf,
    file_number: u64,
    encoder: PageEncoder,
    write_size_bytes: usize,
    buffer: Vec<u8>,
    /// Where in the file the buffer goes.
    buffer_offset: u64,
    failed: bool,
}

impl PageStream {
    /// Where the next page goes.
    fn offset(&self) -> u64 {
        self.buffer_offset + self.buffer.len() as u64
    }

    fn append(&mut self, kind: PageKind, number: u32, content: &[u8]) -> Result<()> {
        let place = PagePlace {
            offset: self.offset(),
            kind,
            number,
        };
        self.encoder
            .append(place, content, &mut self.buffer)
            .map_err(|source| Error::io("compress a page of", &self.path, source))?;
        if self.buffer.len() >= self.write_size_bytes {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        self.file
            .write_all_at(&self.buffer, self.buffer_offset)
            .map_err(|source| {
                self.failed = true;
                Error::io("write", &self.path, source)
            })?;
        self.buffer_offset = self.offset();
        self.buffer.clear();
        Ok(())
    }

    fn misused(&self, what: &str) -> Error {
        Error::Usage(format!("{}: {what}", self.path.display()))
    }
}
