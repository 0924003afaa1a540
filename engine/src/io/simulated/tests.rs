//! The disk against a small reference of what a crash may leave.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

const SEEDS: u64 = 3000;

pub(super) fn create(io: &SimulatedIo, path: &str) -> Arc<dyn IoFile> {
    io.open(Path::new(path), OpenMode::CreateNew).unwrap()
}

pub(super) fn bytes(io: &SimulatedIo, path: &str) -> Vec<u8> {
    let file = io.open(Path::new(path), OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len_bytes().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Which letter each sector holds, and where the file ends: `aab` is two sectors of `a` and one of `b`; `.` is zeros.
pub(super) fn letters(bytes: &[u8]) -> String {
    let letter = |sector: &[u8]| {
        assert!(
            sector.iter().all(|byte| *byte == sector[0]),
            "a sector is torn"
        );
        match sector[0] {
            0 => '.',
            byte => char::from(byte),
        }
    };
    bytes.chunks(512).map(letter).collect()
}

/// Changes of a file of sectors.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// From which sector on, how many, of which letter.
    Write(usize, usize, char),
    Length(usize),
    Sync,
}

pub(super) fn make(steps: &[Step]) -> SimulatedIo {
    let io = SimulatedIo::new(1);
    let file = create(&io, "/a");
    for step in steps {
        match *step {
            Step::Write(at, count, letter) => {
                let sectors = vec![u8::try_from(letter).unwrap(); count * 512];
                file.write_all_at(&sectors, at as u64 * 512).unwrap();
            }
            Step::Length(count) => file.set_len(count as u64 * 512).unwrap(),
            Step::Sync => file.sync_data().unwrap(),
        }
    }
    io
}

/// The states of a file from the last sync on.
fn states(steps: &[Step]) -> Vec<Vec<char>> {
    let mut states = vec![Vec::new()];
    for step in steps {
        let mut state = states.last().unwrap().clone();
        match *step {
            Step::Write(at, count, letter) => {
                state.resize(state.len().max(at + count), '.');
                state[at..at + count].fill(letter);
            }
            Step::Length(count) => state.resize(count, '.'),
            Step::Sync => states.clear(),
        }
        states.push(state);
    }
    states
}

/// Every file that sectors of any of the states, and a length between any two that follow each other, make.
fn torn(steps: &[Step]) -> BTreeSet<String> {
    let states = states(steps);
    let mut lens: BTreeSet<usize> = states.iter().map(Vec::len).collect();
    for pair in states.windows(2) {
        lens.extend(pair[0].len()..=pair[1].len());
    }
    let mut found = BTreeSet::new();
    for len in lens {
        let mut files = vec![String::new()];
        for sector in 0..len {
            let versions: BTreeSet<char> = states
                .iter()
                .map(|state| state.get(sector).copied().unwrap_or('.'))
                .collect();
            files = files
                .iter()
                .flat_map(|file| versions.iter().map(move |letter| format!("{file}{letter}")))
                .collect();
        }
        found.extend(files);
    }
    found
}

/// The files that any of the steps since the last sync make, in order.
fn subsets(steps: &[Step], is_allowed: impl Fn(usize, usize) -> bool) -> BTreeSet<String> {
    let synced = steps
        .iter()
        .rposition(|step| matches!(step, Step::Sync))
        .map_or(0, |at| at + 1);
    let (before, since) = steps.split_at(synced);
    let subset = |mask: usize| {
        let chosen = since.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1);
        let steps: Vec<Step> = before
            .iter()
            .copied()
            .chain(chosen.map(|(_, step)| *step))
            .collect();
        states(&steps).last().unwrap().iter().collect()
    };
    let masks = (0..1_usize << since.len()).filter(|mask| is_allowed(*mask, since.len()));
    masks.map(subset).collect()
}

fn drawn(io: &SimulatedIo, style: impl Fn(u64) -> CrashStyle) -> BTreeSet<String> {
    (0..SEEDS)
        .map(|seed| letters(&bytes(&io.crash(style(seed)), "/a")))
        .collect()
}

const HISTORIES: [&[Step]; 5] = [
    &[Step::Write(0, 2, 'a')],
    &[
        Step::Write(0, 3, 'a'),
        Step::Sync,
        Step::Write(1, 1, 'b'),
        Step::Write(1, 2, 'c'),
    ],
    &[
        Step::Write(0, 2, 'a'),
        Step::Sync,
        Step::Length(1),
        Step::Write(2, 1, 'b'),
    ],
    &[
        Step::Write(0, 1, 'a'),
        Step::Write(1, 1, 'b'),
        Step::Write(0, 1, 'c'),
        Step::Write(1, 1, 'd'),
    ],
    &[
        Step::Length(2),
        Step::Sync,
        Step::Write(0, 1, 'a'),
        Step::Length(0),
        Step::Write(1, 1, 'b'),
    ],
];

#[test]
fn a_torn_file_is_any_that_its_sectors_can_make() {
    for steps in HISTORIES {
        let (allowed, found) = (torn(steps), drawn(&make(steps), CrashStyle::TearUnsynced));
        let wrong: Vec<_> = found.difference(&allowed).collect();
        assert!(wrong.is_empty(), "{steps:?}: {wrong:?}");
        // Sectors of 4096 bytes come together; of the rest all are drawn, if only often enough.
        assert!(
            found.len() * 4 >= allowed.len() * 3,
            "{steps:?}: {found:?} of {allowed:?}"
        );
    }
}

#[test]
fn a_subset_is_any_and_all_subsets() {
    for steps in HISTORIES {
        let found = drawn(&make(steps), CrashStyle::SubsetUnsynced);
        assert_eq!(found, subsets(steps, |_, _| true), "{steps:?}");
    }
}

#[test]
fn a_prefix_is_any_and_all_prefixes_with_a_part_of_the_next() {
    for steps in HISTORIES {
        let io = make(steps);
        let whole = subsets(steps, |mask, _| (mask + 1).is_power_of_two());
        let found: BTreeSet<Vec<u8>> = (0..SEEDS)
            .map(|seed| bytes(&io.crash(CrashStyle::PrefixUnsynced(seed)), "/a"))
            .collect();
        let is_whole = |file: &&Vec<u8>| {
            let sectors = file.chunks(512);
            file.len().is_multiple_of(512)
                && sectors
                    .into_iter()
                    .all(|one| one.iter().all(|b| *b == one[0]))
        };
        let at_sectors: BTreeSet<String> =
            found.iter().filter(is_whole).map(|f| letters(f)).collect();
        assert!(
            at_sectors.is_superset(&whole),
            "{steps:?}: {at_sectors:?} of {whole:?}"
        );
        assert!(
            at_sectors.is_subset(&torn(steps)),
            "{steps:?}: {at_sectors:?}"
        );
        assert!(
            found.len() > at_sectors.len(),
            "no write is cut in its middle"
        );
    }
}

#[test]
fn the_order_over_all_files_is_kept_in_some_crashes_and_not_in_others() {
    let io = SimulatedIo::new(1);
    let (one, other) = (create(&io, "/one"), create(&io, "/other"));
    one.write_all_at(&[1; 512], 0).unwrap();
    other.write_all_at(&[2; 512], 0).unwrap();
    let outcomes: BTreeSet<(bool, bool)> = (0..SEEDS)
        .map(|seed| io.crash(CrashStyle::PrefixUnsynced(seed)))
        .map(|after| {
            (
                bytes(&after, "/one").len() == 512,
                bytes(&after, "/other").len() == 512,
            )
        })
        .collect();
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
    let reversed = (0..SEEDS)
        .map(|seed| io.crash(CrashStyle::SubsetUnsynced(seed)))
        .filter(|after| bytes(after, "/one").is_empty() && !bytes(after, "/other").is_empty());
    assert!(reversed.count() > 100);
}

#[test]
fn what_only_the_page_cache_has_survives_a_process_and_not_a_machine() {
    let io = make(HISTORIES[1]);
    let killed = io.crash(CrashStyle::KeepUnsynced);
    assert_eq!(letters(&bytes(&killed, "/a")), "acc");
    assert_eq!(
        letters(&bytes(&killed.crash(CrashStyle::LoseUnsynced), "/a")),
        "aaa"
    );
    let file = killed.open(Path::new("/a"), OpenMode::Write).unwrap();
    file.sync_data().unwrap();
    assert_eq!(
        letters(&bytes(&killed.crash(CrashStyle::LoseUnsynced), "/a")),
        "acc"
    );
    // The disk that the image is of goes its own way.
    assert_eq!(
        letters(&bytes(&io.crash(CrashStyle::LoseUnsynced), "/a")),
        "aaa"
    );
}

/// The names that are found after crashes of a style.
fn names(io: &SimulatedIo, style: fn(u64) -> NamesStyle) -> BTreeSet<Vec<String>> {
    let found = |seed| {
        let after = io.crash_image(CrashStyle::LoseUnsynced, style(seed));
        let files = after.files().into_iter();
        files.map(|(path, _)| path.display().to_string()).collect()
    };
    (0..SEEDS).map(found).collect()
}

#[test]
fn names_are_lost_in_order_or_in_any_order_until_their_folder_is_synced() {
    let io = SimulatedIo::new(1);
    create(&io, "/old");
    io.sync_folder(Path::new("/")).unwrap();
    create(&io, "/new");
    io.rename(Path::new("/new"), Path::new("/old")).unwrap();
    create(&io, "/b");
    io.remove(Path::new("/b")).unwrap();
    let set = |lists: &[&[&str]]| -> BTreeSet<Vec<String>> {
        let owned = lists
            .iter()
            .map(|list| list.iter().map(|name| (*name).to_owned()).collect());
        owned.collect()
    };
    let ordered = set(&[&["/old"], &["/new", "/old"], &["/b", "/old"]]);
    assert_eq!(names(&io, NamesStyle::Ordered), ordered);
    let any = set(&[
        &["/old"],
        &["/new", "/old"],
        &["/b", "/old"],
        &["/b", "/new", "/old"],
    ]);
    assert_eq!(names(&io, NamesStyle::Any), any);
    io.sync_folder(Path::new("/")).unwrap();
    assert_eq!(names(&io, NamesStyle::Any), set(&[&["/old"]]));
}

#[test]
fn a_files_own_sync_keeps_its_name_where_names_have_an_order() {
    let io = SimulatedIo::new(1);
    create(&io, "/a");
    create(&io, "/b").sync_data().unwrap();
    create(&io, "/c");
    let counts = |style| -> BTreeSet<usize> { names(&io, style).iter().map(Vec::len).collect() };
    assert_eq!(counts(NamesStyle::Ordered), BTreeSet::from([2, 3]));
    assert_eq!(counts(NamesStyle::Any), BTreeSet::from([0, 1, 2, 3]));
    assert_eq!(counts(|_| NamesStyle::Kept), BTreeSet::from([3]));
}

#[test]
fn a_folder_that_is_lost_takes_what_is_in_it() {
    let io = SimulatedIo::new(1);
    io.create_folder(Path::new("/db/log")).unwrap();
    create(&io, "/db/log/a");
    io.sync_folder(Path::new("/db/log")).unwrap();
    let any = |io: &SimulatedIo| names(io, NamesStyle::Any).len();
    assert_eq!(any(&io), 2, "its own folder's sync is not enough");
    assert_eq!(names(&io, NamesStyle::Ordered).len(), 1);
    io.sync_folder(Path::new("/db")).unwrap();
    assert_eq!(any(&io), 2);
    io.sync_folder(Path::new("/")).unwrap();
    assert_eq!(any(&io), 1);
}
