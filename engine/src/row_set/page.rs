//! The page: the unit in which a delta file is read, checked and cached.
//!
//! A stored page is a 24-byte header and its content, compressed or not. The checksum covers both and is seeded with
//! the database, the file and the offset, so that a page that lies where another one belongs is found out too.

use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::codec::{Malformed, Reader, len_u32, put_u32};

/// Bytes before the content of a stored page.
pub(crate) const PAGE_HEADER_SIZE_BYTES: usize = 24;

/// The largest content of a page: more than the largest row that the engine takes.
pub(crate) const PAGE_SIZE_BYTES_MAX: usize = 1 << 30;

/// What a page holds.
///
/// ```
/// use moonshine_engine::{Database, Options, PageKind};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// let pages = database.statistics().reads.pages;
/// let index = pages.by_kind.iter().find(|pages| pages.kind == PageKind::Index);
/// assert_eq!(index.map(|pages| pages.misses), Some(0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageKind {
    /// Rows, in key order.
    Rows,
    /// Where exported rows lie.
    Locations,
    /// Lines of the hash index.
    Index,
    /// Where pages of rows lie, and where their keys start.
    Directory,
    /// What the RowSet is, and where its directory lies.
    Footer,
    /// Ordinals of rows that are replaced; in no RowSet, and never cached.
    Patch,
}

impl PageKind {
    /// The kinds that a RowSet is made of, in the order in which they lie in it.
    pub const ALL: [PageKind; 5] = [
        PageKind::Rows,
        PageKind::Locations,
        PageKind::Index,
        PageKind::Directory,
        PageKind::Footer,
    ];

    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            PageKind::Rows => "rows",
            PageKind::Locations => "locations",
            PageKind::Index => "index",
            PageKind::Directory => "directory",
            PageKind::Footer => "footer",
            PageKind::Patch => "patch",
        }
    }

    fn code(self) -> u8 {
        match self {
            PageKind::Rows => 1,
            PageKind::Locations => 2,
            PageKind::Index => 3,
            PageKind::Directory => 4,
            PageKind::Footer => 5,
            PageKind::Patch => 6,
        }
    }
}

/// How the content of pages is stored. A page that hardly shrinks is stored as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// LZ4 block format: fast both ways.
    Lz4,
    /// Zstandard at that level: smaller, slower to read.
    Zstd {
        /// From 1, fast, to 22, small.
        level: i32,
    },
}

const STORED_AS_IS: u8 = 0;
const STORED_AS_LZ4: u8 = 1;
const STORED_AS_ZSTD: u8 = 2;

/// Where a page lies, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PagePlace {
    /// Where in its file, in bytes.
    pub(crate) offset: u64,
    pub(crate) kind: PageKind,
    /// Its place among the pages of its kind in its RowSet, from 0.
    pub(crate) number: u32,
}

/// What seeds the checksums of a delta file's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageSeed {
    database_seed: u64,
    file_number: u64,
}

impl PageSeed {
    pub(crate) fn new(database_id: Uuid, file_number: u64) -> Self {
        PageSeed {
            database_seed: database_id.as_u64_pair().0,
            file_number,
        }
    }

    pub(crate) fn checksum(self, covered: &[u8], offset: u64) -> u64 {
        let mut place = [0; 16];
        let (file, at) = place.split_at_mut(8);
        file.copy_from_slice(&self.file_number.to_le_bytes());
        at.copy_from_slice(&offset.to_le_bytes());
        xxh3_64_with_seed(covered, xxh3_64_with_seed(&place, self.database_seed))
    }
}

/// Encodes pages, with the working memory for it.
pub(crate) struct PageEncoder {
    seed: PageSeed,
    compressor: Compressor,
    compressed: Vec<u8>,
}

enum Compressor {
    None,
    Lz4,
    Zstd(zstd::bulk::Compressor<'static>),
}

impl PageEncoder {
    /// # Errors
    /// A level that Zstandard does not have, or no memory for it.
    pub(crate) fn new(seed: PageSeed, compression: Compression) -> std::io::Result<Self> {
        let compressor = match compression {
            Compression::None => Compressor::None,
            Compression::Lz4 => Compressor::Lz4,
            Compression::Zstd { level } => Compressor::Zstd(zstd::bulk::Compressor::new(level)?),
        };
        Ok(PageEncoder {
            seed,
            compressor,
            compressed: Vec::new(),
        })
    }

    /// Appends a page; returns its stored length with the header, in bytes.
    pub(crate) fn append(
        &mut self,
        place: PagePlace,
        content: &[u8],
        out: &mut Vec<u8>,
    ) -> std::io::Result<u64> {
        let (stored_as, stored) = match place.kind {
            // Fingerprints don't compress, and pages of one length are found without a directory.
            PageKind::Index | PageKind::Locations => (STORED_AS_IS, content),
            _ => compress(&mut self.compressor, content, &mut self.compressed)?,
        };
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&[place.kind.code(), stored_as, 0, 0]);
        put_u32(out, place.number);
        put_u32(out, len_u32(stored.len()));
        put_u32(out, len_u32(content.len()));
        out.extend_from_slice(stored);
        let checksum = self
            .seed
            .checksum(out.get(start + 8..).unwrap_or_default(), place.offset);
        if let Some(first) = out.get_mut(start..start + 8) {
            first.copy_from_slice(&checksum.to_le_bytes());
        }
        Ok((PAGE_HEADER_SIZE_BYTES + stored.len()) as u64)
    }
}

fn compress<'a>(
    compressor: &mut Compressor,
    content: &'a [u8],
    compressed: &'a mut Vec<u8>,
) -> std::io::Result<(u8, &'a [u8])> {
    let (stored_as, len) = match compressor {
        Compressor::None => return Ok((STORED_AS_IS, content)),
        Compressor::Lz4 => {
            compressed.resize(lz4_flex::block::get_maximum_output_size(content.len()), 0);
            let len = lz4_flex::block::compress_into(content, compressed)
                .map_err(std::io::Error::other)?;
            (STORED_AS_LZ4, len)
        }
        Compressor::Zstd(zstd) => {
            compressed.resize(zstd::zstd_safe::compress_bound(content.len()), 0);
            let len = zstd.compress_to_buffer(content, compressed.as_mut_slice())?;
            (STORED_AS_ZSTD, len)
        }
    };
    // Less than an eighth saved does not pay for the reading.
    if len > content.len() - content.len() / 8 {
        return Ok((STORED_AS_IS, content));
    }
    Ok((stored_as, compressed.get(..len).unwrap_or_default()))
}

/// Checks a stored page and returns its content: a part of `stored`, or what was decompressed into `scratch`.
pub(crate) fn decode_page<'a>(
    stored: &'a [u8],
    place: PagePlace,
    seed: PageSeed,
    scratch: &'a mut PageScratch,
) -> Result<&'a [u8], Malformed> {
    let mut reader = Reader::new(stored);
    let checksum = reader.u64()?;
    if seed.checksum(reader.remaining(), place.offset) != checksum {
        return Err(Malformed("page fails its checksum"));
    }
    let [kind, stored_as, ..] = reader.array::<4>()?;
    let number = reader.u32()?;
    if (kind, number) != (place.kind.code(), place.number) {
        return Err(Malformed("another page lies here"));
    }
    let stored_len = reader.u32()? as usize;
    let len = reader.u32()? as usize;
    if len > PAGE_SIZE_BYTES_MAX {
        return Err(Malformed("page too large"));
    }
    let content = reader.bytes(stored_len)?;
    reader.finish()?;
    scratch.holds_last = stored_as != STORED_AS_IS;
    if stored_as == STORED_AS_IS && stored_len == len {
        return Ok(content);
    }
    scratch
        .decompress(stored_as, content, len)
        .ok_or(Malformed("page does not decompress"))
}

/// Working memory for decoding pages.
#[derive(Default)]
pub(crate) struct PageScratch {
    content: Vec<u8>,
    holds_last: bool,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl PageScratch {
    /// Bytes of memory, without that of Zstandard, which is of one size.
    pub(crate) fn size_bytes(&self) -> usize {
        self.content.capacity()
    }

    /// The first bytes of the content that was decompressed last.
    pub(crate) fn content(&self, len: usize) -> &[u8] {
        self.content.get(..len).unwrap_or_default()
    }

    /// Whether the page that was decoded last was decompressed into it.
    pub(crate) fn holds_last(&self) -> bool {
        self.holds_last
    }

    fn decompress(&mut self, stored_as: u8, stored: &[u8], len: usize) -> Option<&[u8]> {
        let PageScratch { content, zstd, .. } = self;
        if content.len() < len {
            content.resize(len, 0);
        }
        let content = content.get_mut(..len)?;
        let found = match stored_as {
            STORED_AS_LZ4 => lz4_flex::block::decompress_into(stored, content).ok()?,
            STORED_AS_ZSTD => {
                let zstd = match zstd {
                    Some(zstd) => zstd,
                    None => zstd.insert(zstd::bulk::Decompressor::new().ok()?),
                };
                zstd.decompress_to_buffer(stored, content).ok()?
            }
            _ => return None,
        };
        (found == len).then_some(content)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACE: PagePlace = PagePlace {
        offset: 4096,
        kind: PageKind::Rows,
        number: 7,
    };

    fn seed() -> PageSeed {
        PageSeed::new(Uuid::from_u128(9 << 64), 3)
    }

    fn encode(compression: Compression, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let len = PageEncoder::new(seed(), compression)
            .unwrap()
            .append(PLACE, content, &mut out)
            .unwrap();
        assert_eq!(len, out.len() as u64);
        out
    }

    const ALL: [Compression; 3] = [
        Compression::None,
        Compression::Lz4,
        Compression::Zstd { level: 1 },
    ];

    proptest! {
        #[test]
        fn content_round_trips(content in prop::collection::vec(prop::sample::select(b"abc".to_vec()), 0..3000)) {
            for compression in ALL {
                let stored = encode(compression, &content);
                let mut scratch = PageScratch::default();
                prop_assert_eq!(decode_page(&stored, PLACE, seed(), &mut scratch), Ok(&content[..]));
            }
        }
    }

    #[test]
    fn text_shrinks_and_noise_is_stored_as_it_is() {
        let text = b"moon over the sea, ".repeat(100);
        let noise: Vec<u8> = (0..4096u32)
            .map(|i| (xxh3_64_with_seed(&i.to_le_bytes(), 1)) as u8)
            .collect();
        for compression in ALL {
            let shrunk = encode(compression, &text).len() < text.len() / 4;
            assert_eq!(shrunk, compression != Compression::None, "{compression:?}");
            assert_eq!(
                encode(compression, &noise).len(),
                noise.len() + PAGE_HEADER_SIZE_BYTES
            );
        }
    }

    #[test]
    fn every_flipped_bit_every_cut_and_every_other_place_is_seen() {
        let content = b"moon over the sea, ".repeat(8);
        for compression in ALL {
            let stored = encode(compression, &content);
            let bad = |stored: &[u8], place, seed| {
                assert!(decode_page(stored, place, seed, &mut PageScratch::default()).is_err());
            };
            for bit in 0..stored.len() * 8 {
                let mut damaged = stored.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                bad(&damaged, PLACE, seed());
            }
            for cut in 0..stored.len() {
                bad(&stored[..cut], PLACE, seed());
            }
            bad(&stored, PagePlace { offset: 0, ..PLACE }, seed());
            bad(&stored, PagePlace { number: 8, ..PLACE }, seed());
            bad(
                &stored,
                PagePlace {
                    kind: PageKind::Footer,
                    ..PLACE
                },
                seed(),
            );
            bad(&stored, PLACE, PageSeed::new(Uuid::from_u128(9 << 64), 4));
            bad(&stored, PLACE, PageSeed::new(Uuid::from_u128(8 << 64), 3));
        }
    }
}
