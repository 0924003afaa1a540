//! The log of edits: how the tree came to be what it is, one record an edit, each synced before it counts.
//!
//! A file begins with an edit that makes the whole state from nothing; edits to it follow. When they outgrow the state,
//! a file with the next number is begun and the old one removed. A start reads the newest file whose first edit is
//! whole: if that is not the newest one there is, a crash came between, and nothing of it counted yet.
//!
//! A record that does not verify is *damage* if a later one verifies, since each is durable before the next is written;
//! at the end it is what a crash cut short, and is cut off.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::codec::{self, Malformed, Reader, len_u32, put_u32, put_u64};
use crate::error::{Error, Result};
use crate::io::{Io, IoFile, OpenMode};

/// The version of what stands in the files. Version 1 had no patches, version 2 no row ids.
pub(super) const VERSION: u32 = 5;
const VERSION_MIN: u32 = 1;
const MAGIC: &[u8; 8] = b"MOONEDT\n";
const FILE_HEADER_SIZE_BYTES: usize = 48;
/// Checksum, number of the record in its file, length of the edit.
const RECORD_HEADER_SIZE_BYTES: usize = 16;
/// Edits may take this many times the bytes of the state they lead to before a new file is begun.
const EDITS_PER_STATE: u64 = 2;
/// A new file costs three syncs, so a small state gets more edits.
const EDIT_BYTES_MIN: u64 = 1 << 20;

/// Appends edits.
#[derive(Debug)]
pub(crate) struct EditLog {
    io: Arc<dyn Io>,
    folder: PathBuf,
    database_id: Uuid,
    file_number: u64,
    file: Arc<dyn IoFile>,
    path: PathBuf,
    len_bytes: u64,
    state_size_bytes: u64,
    next_record: u32,
    version: u32,
}

/// What a log held.
#[derive(Debug)]
pub(crate) struct Replayed {
    /// The edits, the one that makes the state first.
    pub(crate) edits: Vec<Vec<u8>>,
    version: u32,
    file_number: u64,
    file: Arc<dyn IoFile>,
    path: PathBuf,
    len_bytes: u64,
}

impl Replayed {
    /// The file that was read.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The length of what was read.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// The error for edits that can't be.
    pub(crate) fn corrupt(&self, malformed: Malformed) -> Error {
        Error::Corrupt {
            path: self.path.clone(),
            offset: 0,
            reason: malformed.0.to_owned(),
        }
    }
}

impl EditLog {
    /// Begins a log in an empty folder with the edit that makes its first state.
    ///
    /// # Errors
    /// [`Error::Io`] as the system answers.
    pub(crate) fn create(
        io: Arc<dyn Io>,
        folder: &Path,
        database_id: Uuid,
        state: &[u8],
    ) -> Result<Self> {
        Self::begin(io, folder, database_id, 1, state)
    }

    /// Removes what is left of a log whose database was not made to its end.
    ///
    /// # Errors
    /// [`Error::Io`] as the system answers.
    pub(crate) fn clear(io: &dyn Io, folder: &Path) -> Result<()> {
        for (_, path) in edit_files(io, folder)? {
            io.remove(&path)
                .map_err(|source| Error::io("remove", &path, source))?;
        }
        Ok(())
    }

    /// Goes on where a log that was read ends.
    ///
    /// # Errors
    /// [`Error::Io`] as the system answers.
    pub(crate) fn resume(
        io: Arc<dyn Io>,
        folder: &Path,
        database_id: Uuid,
        replayed: &Replayed,
    ) -> Result<Self> {
        let log = EditLog {
            io,
            folder: folder.to_owned(),
            database_id,
            file_number: replayed.file_number,
            file: replayed.file.clone(),
            path: replayed.path.clone(),
            len_bytes: replayed.len_bytes,
            state_size_bytes: replayed.edits.first().map_or(0, |state| state.len() as u64),
            next_record: len_u32(replayed.edits.len()),
            version: replayed.version,
        };
        if edit_files(&*log.io, folder)?.len() > 1 {
            // The process that made this one may have died before its name was durable.
            log.sync_folder()?;
        }
        log.remove_others()?;
        Ok(log)
    }

    /// Appends an edit; it counts when this returns.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: the edit does not count and never will. [`Error::Io`] as the system answers; whether the edit
    /// counts is then open until the next start.
    pub(crate) fn append(&mut self, edit: &[u8]) -> Result<()> {
        let record = encode_record(self.database_id, self.file_number, self.next_record, edit);
        let written = self.file.write_all_at(&record, self.len_bytes);
        written.map_err(|source| {
            let error = Error::io("write", &self.path, source);
            error.undone(|| self.file.set_len(self.len_bytes))
        })?;
        self.file
            .sync_data()
            .map_err(|source| Error::io("sync", &self.path, source))?;
        self.len_bytes += record.len() as u64;
        self.next_record += 1;
        Ok(())
    }

    /// Whether a new file is to be begun: the edits have outgrown the state, or an older build began this one.
    pub(crate) fn is_outgrown(&self) -> bool {
        let edit_bytes = self.len_bytes.saturating_sub(self.state_size_bytes);
        edit_bytes > (self.state_size_bytes * EDITS_PER_STATE).max(EDIT_BYTES_MIN)
            || self.version < VERSION
    }

    /// Goes on in a new file that begins with that state.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub(crate) fn restate(&mut self, state: &[u8]) -> Result<()> {
        *self = Self::begin(
            self.io.clone(),
            &self.folder,
            self.database_id,
            self.file_number + 1,
            state,
        )?;
        self.remove_others()
    }

    fn begin(
        io: Arc<dyn Io>,
        folder: &Path,
        database_id: Uuid,
        file_number: u64,
        state: &[u8],
    ) -> Result<Self> {
        let path = edits_path(folder, file_number);
        let file = io
            .open(&path, OpenMode::CreateNew)
            .map_err(|source| Error::io("create", &path, source))?;
        let header = encode_header(database_id, file_number);
        file.write_all_at(&header, 0).map_err(|source| {
            let error = Error::io("write", &path, source);
            error.undone(|| io.remove(&path))
        })?;
        let mut log = EditLog {
            io,
            folder: folder.to_owned(),
            database_id,
            file_number,
            file,
            path,
            len_bytes: header.len() as u64,
            state_size_bytes: state.len() as u64,
            next_record: 0,
            version: VERSION,
        };
        log.append(state)
            .map_err(|error| error.undone(|| log.io.remove(&log.path)))?;
        log.sync_folder()?;
        Ok(log)
    }

    fn sync_folder(&self) -> Result<()> {
        self.io
            .sync_folder(&self.folder)
            .map_err(|source| Error::io("sync", &self.folder, source))
    }

    /// Removes the files before and behind: the old one, and what a crash left of one that was not finished.
    fn remove_others(&self) -> Result<()> {
        for (file_number, path) in edit_files(&*self.io, &self.folder)? {
            if file_number != self.file_number {
                self.io
                    .remove(&path)
                    .map_err(|source| Error::io("remove", &path, source))?;
            }
        }
        Ok(())
    }
}

/// Reads the log of a folder; `None` if there is none. With `repair`, what a crash cut short is cut off.
///
/// # Errors
/// [`Error::Corrupt`] naming file and byte, [`Error::Io`] as the system answers.
pub(crate) fn replay_edits(
    io: &dyn Io,
    folder: &Path,
    database_id: Uuid,
    repair: bool,
) -> Result<Option<Replayed>> {
    let mut unfinished = None;
    for (file_number, path) in edit_files(io, folder)?.into_iter().rev() {
        let read = read_file(io, path, database_id, file_number, repair)?;
        match read {
            Ok(replayed) => return Ok(Some(replayed)),
            Err(corrupt) => unfinished = unfinished.or(Some(corrupt)),
        }
    }
    // Without an older file, the first edit was durable once: the older one was removed only then. Or it is the very
    // first file, and the database's creation did not come to its end; then its manifest is missing too.
    unfinished.map_or(Ok(None), Err)
}

/// The edits of a file; the inner error if not even its first edit is whole.
fn read_file(
    io: &dyn Io,
    path: PathBuf,
    database_id: Uuid,
    file_number: u64,
    repair: bool,
) -> Result<Result<Replayed, Error>> {
    let mode = if repair {
        OpenMode::Write
    } else {
        OpenMode::Read
    };
    let unreadable = |source| Error::io("read", &path, source);
    let file = io.open(&path, mode).map_err(unreadable)?;
    let len = file.len_bytes().map_err(unreadable)?;
    let len =
        usize::try_from(len).map_err(|_| unreadable(std::io::ErrorKind::FileTooLarge.into()))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).map_err(unreadable)?;
    let corrupt = |offset: usize, malformed: Malformed| Error::Corrupt {
        path: path.clone(),
        offset: offset as u64,
        reason: malformed.0.to_owned(),
    };
    let version = match check_header(&bytes, database_id, file_number) {
        Ok(version) => version,
        Err(malformed) => return Ok(Err(corrupt(0, malformed))),
    };
    let mut edits = Vec::new();
    let mut offset = FILE_HEADER_SIZE_BYTES;
    // Where the last edit begins, or the file if that is the first.
    let mut last = 0;
    while offset < len {
        match decode_record(
            &bytes,
            offset,
            database_id,
            file_number,
            len_u32(edits.len()),
        ) {
            Ok(edit) => {
                last = if edits.is_empty() { 0 } else { offset };
                offset += RECORD_HEADER_SIZE_BYTES + edit.len();
                edits.push(edit.to_vec());
            }
            Err(malformed) if edits.is_empty() => return Ok(Err(corrupt(offset, malformed))),
            Err(malformed) => {
                let next = len_u32(edits.len()) + 1;
                if holds_record(&bytes, offset + 1, database_id, file_number, next) {
                    return Err(corrupt(offset, malformed));
                }
                break;
            }
        }
    }
    if edits.is_empty() {
        return Ok(Err(corrupt(offset, Malformed("there is no edit"))));
    }
    if repair {
        // If its sync failed, it may be in the page cache alone and count as written there.
        let unsure = bytes.get(last..offset).unwrap_or_default();
        file.write_all_at(unsure, last as u64)
            .map_err(|source| Error::io("write", &path, source))?;
        cut(&*file, &path, offset, len)?;
    }
    Ok(Ok(Replayed {
        version,
        edits,
        file_number,
        file,
        path,
        len_bytes: offset as u64,
    }))
}

/// Cuts off what does not count, and makes durable what does: it may be in the page cache alone.
fn cut(file: &dyn IoFile, path: &Path, valid_len: usize, len: usize) -> Result<()> {
    if valid_len < len {
        tracing::warn!(
            path = %path.display(),
            offset = valid_len,
            dropped_bytes = len - valid_len,
            "dropped the end of an edit that a crash cut short"
        );
        file.set_len(valid_len as u64)
            .map_err(|source| Error::io("cut", path, source))?;
    }
    file.sync_data()
        .map_err(|source| Error::io("sync", path, source))
}

fn edits_path(folder: &Path, file_number: u64) -> PathBuf {
    folder.join(format!("edits-{file_number:08}.medits"))
}

/// The files of a log by number, ascending.
fn edit_files(io: &dyn Io, folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let number_of = |path: &Path| -> Option<u64> {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix("edits-")?
            .strip_suffix(".medits")?
            .parse()
            .ok()
    };
    let files = io
        .list(folder)
        .map_err(|source| Error::io("list", folder, source))?;
    let mut numbered: Vec<_> = files
        .into_iter()
        .filter_map(|path| Some((number_of(&path)?, path)))
        .collect();
    numbered.sort();
    Ok(numbered)
}

fn encode_header(database_id: Uuid, file_number: u64) -> Vec<u8> {
    codec::encode_file_header(MAGIC, VERSION, database_id, file_number)
}

fn check_header(bytes: &[u8], database_id: Uuid, file_number: u64) -> Result<u32, Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.array::<8>()? != *MAGIC {
        return Err(Malformed("not a log of edits"));
    }
    let version = reader.u32()?;
    if !(VERSION_MIN..=VERSION).contains(&version) {
        return Err(Malformed("a format version that this build does not read"));
    }
    let expected = codec::encode_file_header(MAGIC, version, database_id, file_number);
    if bytes.get(..FILE_HEADER_SIZE_BYTES) != Some(expected.as_slice()) {
        return Err(Malformed(
            "the header is damaged, or of another database or place",
        ));
    }
    Ok(version)
}

fn encode_record(database_id: Uuid, file_number: u64, record: u32, edit: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(RECORD_HEADER_SIZE_BYTES + edit.len());
    put_u64(&mut out, 0);
    put_u32(&mut out, record);
    put_u32(&mut out, len_u32(edit.len()));
    out.extend_from_slice(edit);
    let checksum = checksum_of(database_id, file_number, out.get(8..).unwrap_or_default());
    if let Some(place) = out.first_chunk_mut::<8>() {
        *place = checksum.to_le_bytes();
    }
    out
}

/// Seeded with database and file, so that a copy of another record that lies in an edit does not verify.
fn checksum_of(database_id: Uuid, file_number: u64, bytes: &[u8]) -> u64 {
    let (high, low) = database_id.as_u64_pair();
    xxh3_64_with_seed(bytes, high ^ low.rotate_left(32) ^ file_number)
}

fn decode_record(
    bytes: &[u8],
    offset: usize,
    database_id: Uuid,
    file_number: u64,
    record: u32,
) -> Result<&[u8], Malformed> {
    let rest = bytes.get(offset..).unwrap_or_default();
    let mut reader = Reader::new(rest);
    let checksum = reader.u64()?;
    if reader.u32()? != record {
        return Err(Malformed("another record than the next one"));
    }
    let len = reader.u32()? as usize;
    let edit = reader.bytes(len)?;
    let covered = rest
        .get(8..RECORD_HEADER_SIZE_BYTES + len)
        .unwrap_or_default();
    if checksum_of(database_id, file_number, covered) != checksum {
        return Err(Malformed("an edit fails its checksum"));
    }
    Ok(edit)
}

/// Whether a record of at least that number verifies anywhere from an offset on.
fn holds_record(
    bytes: &[u8],
    from: usize,
    database_id: Uuid,
    file_number: u64,
    record: u32,
) -> bool {
    (from..bytes.len().saturating_sub(RECORD_HEADER_SIZE_BYTES - 1)).any(|offset| {
        let number = bytes
            .get(offset + 8..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map(|number| u32::from_le_bytes(*number));
        // Few numbers are plausible, so checksums are computed for few offsets.
        number.is_some_and(|number| {
            (record..record.saturating_add(len_u32(bytes.len()))).contains(&number)
                && decode_record(bytes, offset, database_id, file_number, number).is_ok()
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::io::{CrashStyle, SimulatedIo};

    const DATABASE: Uuid = Uuid::from_u128(7);

    fn folder() -> &'static Path {
        Path::new("/tree")
    }

    fn replay(io: &SimulatedIo) -> Result<Option<Replayed>> {
        replay_edits(io, folder(), DATABASE, true)
    }

    fn edits(io: &SimulatedIo) -> Vec<Vec<u8>> {
        replay(io)
            .unwrap()
            .map_or_else(Vec::new, |replayed| replayed.edits)
    }

    fn create(io: &SimulatedIo, state: &[u8]) -> EditLog {
        io.create_folder(folder()).unwrap();
        EditLog::create(Arc::new(io.clone()), folder(), DATABASE, state).unwrap()
    }

    fn resume(io: &SimulatedIo) -> EditLog {
        let replayed = replay(io).unwrap().unwrap();
        EditLog::resume(Arc::new(io.clone()), folder(), DATABASE, &replayed).unwrap()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append(Vec<u8>),
        Restate(Vec<u8>),
        Reopen,
        /// Dies in the middle of a step: after that many writes.
        Crash(u64, u64, bool),
    }

    fn any_edit() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..40)
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => any_edit().prop_map(Step::Append),
            2 => any_edit().prop_map(Step::Restate),
            1 => Just(Step::Reopen),
            2 => (any::<u64>(), 0..4_u64, any::<bool>()).prop_map(|(s, w, r)| Step::Crash(s, w, r)),
        ]
    }

    proptest! {
        /// *Durable*, *atomic*: after any crash the edits that counted are there, and at most the one under way besides.
        #[test]
        fn edits_survive_as_they_counted(steps in prop::collection::vec(any_step(), 0..20)) {
            let mut io = SimulatedIo::new(1);
            let mut log = create(&io, b"first");
            let mut expected = vec![b"first".to_vec()];
            for step in steps {
                match step {
                    Step::Append(edit) => {
                        log.append(&edit).unwrap();
                        expected.push(edit);
                    }
                    Step::Restate(state) => {
                        log.restate(&state).unwrap();
                        expected = vec![state];
                    }
                    Step::Reopen => log = resume(&io),
                    Step::Crash(seed, writes, is_restating) => {
                        io.fail_writes_after(writes);
                        let under_way = b"under way".to_vec();
                        let done = match is_restating {
                            true => log.restate(&under_way),
                            false => log.append(&under_way),
                        };
                        io = io.crash(CrashStyle::TearUnsynced(seed));
                        let found = edits(&io);
                        let with_it = match is_restating {
                            true => vec![under_way],
                            false => [expected.clone(), vec![under_way]].concat(),
                        };
                        prop_assert!(found == with_it || (done.is_err() && found == expected));
                        expected = found;
                        log = resume(&io);
                    }
                }
                prop_assert_eq!(&edits(&io), &expected);
                prop_assert_eq!(io.files().len(), 1);
            }
        }
    }

    /// *Honest*: a flipped byte is an error, or, in the last record, the end of the log; never other edits.
    #[test]
    fn damage_is_named_or_cuts_the_last_edit() {
        let io = SimulatedIo::new(1);
        let mut log = create(&io, b"state");
        for edit in [&b"one"[..], b"", b"three"] {
            log.append(edit).unwrap();
        }
        let whole = edits(&io);
        let (path, len) = io.files().remove(0);
        let last_start = len - RECORD_HEADER_SIZE_BYTES - 5;
        for offset in 0..len {
            let damaged = io.crash(CrashStyle::KeepUnsynced);
            damaged.damage(&path, offset, 0x10).unwrap();
            match replay_edits(&damaged, folder(), DATABASE, false) {
                Ok(Some(replayed)) => {
                    assert!(offset >= last_start, "byte {offset}");
                    assert_eq!(replayed.edits, whole[..3]);
                }
                Ok(None) => panic!("byte {offset}: the log is gone"),
                Err(Error::Corrupt { path: named, .. }) => {
                    assert!(offset < last_start, "byte {offset}");
                    assert_eq!(named, path);
                }
                Err(other) => panic!("byte {offset}: {other}"),
            }
        }
    }

    #[test]
    fn edits_that_outgrow_their_state_ask_for_a_new_one() {
        let io = SimulatedIo::new(1);
        let mut log = create(&io, b"state");
        assert!(!log.is_outgrown());
        log.append(&vec![0; EDIT_BYTES_MIN as usize]).unwrap();
        assert!(log.is_outgrown());
        log.restate(b"state").unwrap();
        assert!(!log.is_outgrown());
    }

    /// *Atomic*: an edit that finds no space leaves nothing behind, nor does a file that can't be begun.
    #[test]
    fn an_edit_that_finds_no_space_leaves_the_log_as_it_was() {
        let io = SimulatedIo::new(1);
        let mut log = create(&io, b"state");
        log.append(b"one").unwrap();
        let before = io.files();
        for writes in 0..2 {
            io.fill_after(Some(0));
            let failed = log.append(&[7; 1000]);
            assert!(matches!(failed, Err(Error::NoSpace { .. })), "{failed:?}");
            io.fill_after(Some(writes));
            let failed = log.restate(&[7; 1000]);
            assert!(matches!(failed, Err(Error::NoSpace { .. })), "{failed:?}");
            assert_eq!(io.files(), before);
        }
        io.fill_after(None);
        log.append(b"two").unwrap();
        assert_eq!(edits(&io), [&b"state"[..], b"one", b"two"]);
    }

    /// What an older build began, this one does not add to.
    #[test]
    fn a_file_of_version_1_is_read_and_followed_by_another() {
        let io = SimulatedIo::new(1);
        create(&io, b"state").append(b"edit").unwrap();
        let (path, _) = io.files().remove(0);
        let header = codec::encode_file_header(MAGIC, 1, DATABASE, 1);
        let file = io.open(&path, OpenMode::Write).unwrap();
        file.write_all_at(&header, 0).unwrap();
        assert_eq!(edits(&io), [b"state".to_vec(), b"edit".to_vec()]);
        let mut log = resume(&io);
        assert!(log.is_outgrown());
        log.restate(b"both").unwrap();
        assert!(!resume(&io).is_outgrown());
        assert_eq!(edits(&io), [b"both".to_vec()]);
    }

    #[test]
    fn a_folder_without_a_log_has_none() {
        let io = SimulatedIo::new(1);
        io.create_folder(folder()).unwrap();
        assert!(replay(&io).unwrap().is_none());
    }
}
