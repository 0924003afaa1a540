//! What checksums can't see, a check does: pages that verify and say what is not so.
//!
//! Defends *honest*. Each page that is wrong here is written anew under a checksum that fits, as a faulty build would.

use std::cell::Cell;

use xxhash_rust::xxh3::xxh3_64;

use super::check::check_row_set;
use super::file::DeltaFile;
use super::meta::RowSetMeta;
use super::page::{
    Compression, PAGE_HEADER_SIZE_BYTES, PageEncoder, PageKind, PagePlace, PageSeed,
};
use super::row_set_tests::{DATABASE_ID, path, sample, try_write};
use crate::codec::put_blob;
use crate::error::Error;
use crate::io::{Io, OpenMode, SimulatedIo};

/// A RowSet of two pages of rows, with keys that count from 0, 4 bytes each.
struct Written {
    io: SimulatedIo,
    meta: RowSetMeta,
}

impl Written {
    fn new() -> Self {
        let io = SimulatedIo::new(1);
        let meta = try_write(&io, &[sample()], Compression::None, true)
            .unwrap()
            .remove(0);
        assert_eq!((meta.rows_page_count, meta.directory_page_count), (2, 1));
        Written { io, meta }
    }

    fn check(&self, hash_of: impl Fn(&[u8]) -> u64) -> Result<(), Error> {
        let file = DeltaFile::open(&self.io, &path(), DATABASE_ID, 1)?;
        check_row_set(&self.meta, &file, hash_of)
    }

    /// Why the check fails.
    fn reason(&self, hash_of: impl Fn(&[u8]) -> u64) -> String {
        match self.check(hash_of) {
            Err(Error::Corrupt {
                path: at, reason, ..
            }) => {
                assert_eq!(at, path());
                reason
            }
            other => panic!("{other:?}"),
        }
    }

    /// Writes the page from one offset to another anew, with other content.
    fn rewrite(&self, kind: PageKind, (offset, end): (u64, u64), change: impl FnOnce(&mut [u8])) {
        let file = self.io.open(&path(), OpenMode::Write).unwrap();
        let mut content = vec![0; (end - offset) as usize - PAGE_HEADER_SIZE_BYTES];
        let content_at = offset + PAGE_HEADER_SIZE_BYTES as u64;
        file.read_exact_at(&mut content, content_at).unwrap();
        change(&mut content);
        let place = PagePlace {
            offset,
            kind,
            number: 0,
        };
        let mut stored = Vec::new();
        PageEncoder::new(PageSeed::new(DATABASE_ID, 1), Compression::None)
            .unwrap()
            .append(place, &content, &mut stored)
            .unwrap();
        file.write_all_at(&stored, offset).unwrap();
    }

    /// Has the entry say something else, in the footer too.
    fn say(&mut self, change: impl FnOnce(&mut RowSetMeta)) {
        change(&mut self.meta);
        let mut entry = Vec::new();
        self.meta.encode(&mut entry);
        let mut blob = Vec::new();
        put_blob(&mut blob, &entry);
        let footer = (
            self.meta.footer_offset,
            self.meta.offset + self.meta.size_bytes,
        );
        self.rewrite(PageKind::Footer, footer, |content| {
            content[..blob.len()].copy_from_slice(&blob);
        });
    }

    /// Changes the keys of the first page of rows.
    fn change_keys(&self, change: impl FnOnce(&mut [[u8; 4]])) {
        let first_page = (self.meta.offset, self.second_page_offset());
        self.rewrite(PageKind::Rows, first_page, |content| {
            let len_at = |at: usize| u32::from_le_bytes(*content[at..].first_chunk().unwrap());
            let (key_bytes, value_bytes) = (len_at(8) as usize, len_at(12) as usize);
            let end = content.len() - value_bytes;
            change(content[end - key_bytes..end].as_chunks_mut().0);
        });
    }

    fn second_page_offset(&self) -> u64 {
        let file = self.io.open(&path(), OpenMode::Read).unwrap();
        let mut stored_len = [0; 4];
        let at = self.meta.offset + 16;
        file.read_exact_at(&mut stored_len, at).unwrap();
        let header = PAGE_HEADER_SIZE_BYTES as u64;
        self.meta.offset + header + u64::from(u32::from_le_bytes(stored_len))
    }

    /// Where the page of the index starts and ends.
    fn index_page(&self) -> (u64, u64) {
        assert_eq!(self.meta.index_page_count(), 1);
        let (offset, size_bytes) = self.meta.index_page_span(0);
        (offset, offset + size_bytes)
    }
}

/// The hashes that the index was made of, whatever became of the keys: rows are asked for in order.
fn hashes_in_order() -> impl Fn(&[u8]) -> u64 {
    let next = Cell::new(0_u32);
    move |_| {
        let hash = xxh3_64(&next.get().to_be_bytes());
        next.set(next.get() + 1);
        hash
    }
}

#[test]
fn an_entry_that_counts_or_names_others_is_named() {
    type Change = fn(&mut RowSetMeta);
    let counts: [Change; 4] = [
        |meta| meta.row_count += 1,
        |meta| meta.tombstone_count -= 1,
        |meta| meta.key_bytes += 1,
        |meta| meta.value_bytes -= 1,
    ];
    for change in counts {
        let mut written = Written::new();
        written.check(xxh3_64).unwrap();
        written.say(change);
        let reason = written.reason(xxh3_64);
        assert_eq!(reason, "the RowSet's entry counts other rows");
    }
    let keys: [Change; 2] = [
        |meta| meta.key_min = 1_u32.to_be_bytes().into(),
        |meta| meta.key_max = 80_u32.to_be_bytes().into(),
    ];
    for change in keys {
        let mut written = Written::new();
        written.say(change);
        let reason = written.reason(xxh3_64);
        assert_eq!(reason, "the RowSet's entry names other keys");
    }
    // The entry is not the one that the RowSet was written with.
    let mut written = Written::new();
    written.meta.row_count += 1;
    let reason = written.reason(xxh3_64);
    assert_eq!(reason, "the footer is that of another RowSet");
}

#[test]
fn keys_out_of_order_are_named() {
    let written = Written::new();
    written.change_keys(|keys| keys.swap(1, 2));
    assert_eq!(written.reason(hashes_in_order()), "keys are out of order");
    let written = Written::new();
    written.change_keys(|keys| keys[2] = keys[1]);
    assert_eq!(written.reason(hashes_in_order()), "keys are out of order");
}

#[test]
fn an_index_that_leads_elsewhere_is_named() {
    let written = Written::new();
    let reason = written.reason(|key| !xxh3_64(key));
    assert_eq!(reason, "the index does not name a row");
    // Another key in place of the last of its page, which the index knows nothing of.
    let written = Written::new();
    written.change_keys(|keys| keys[62] = [0, 0, 0, 62 | 0x80]);
    assert_eq!(written.reason(xxh3_64), "the index does not name a row");
    // One slot more than there are rows.
    let written = Written::new();
    written.rewrite(PageKind::Index, written.index_page(), |content| {
        let lines = content.as_chunks_mut::<64>().0;
        let line = lines.iter_mut().find(|line| line[60] < 10).unwrap();
        line[60] += 1;
    });
    let reason = written.reason(xxh3_64);
    assert_eq!(reason, "the index names rows that do not exist");
}

/// The key that leads to the second page is too high for its first key, and too low for the last one before it.
#[test]
fn a_directory_that_leads_elsewhere_is_named() {
    for separator in [65, 63] {
        let written = Written::new();
        let directory = (written.index_page().1, written.meta.footer_offset);
        written.rewrite(PageKind::Directory, directory, |content| {
            let last = content.last_mut().unwrap();
            assert_eq!(std::mem::replace(last, separator), 64);
        });
        assert_eq!(written.reason(xxh3_64), "the directory leads elsewhere");
    }
}

/// A check reads all of a RowSet, also what no row leads to.
#[test]
fn a_check_sees_any_flipped_bit() {
    let written = Written::new();
    let start = written.meta.offset as usize;
    for offset in start..start + written.meta.size_bytes as usize {
        let bit = 1 << (offset % 8);
        written.io.damage(&path(), offset, bit).unwrap();
        let found = written.check(xxh3_64);
        assert!(matches!(found, Err(Error::Corrupt { .. })), "byte {offset}");
        written.io.damage(&path(), offset, bit).unwrap();
    }
    written.check(xxh3_64).unwrap();
}
