//! Which data files are worth a rewrite.
//!
//! Small files are taken smallest first, and a larger one only if those before it hold as much together. So each
//! rewrite at least doubles the size of the file that a row lies in, and a row is rewritten a logarithmic number of times, as in
//! size-tiered compaction.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use iceberg::spec::DataFile;

use crate::error::Result;
use crate::manifest::Manifests;

/// A file of less than this share of the target size is small, in per cent.
const SMALL_PER_CENT_MAX: u64 = 50;
/// Files below this share of the target size are taken whatever their sizes are, in per cent.
const TINY_PER_CENT_MAX: u64 = 1;
/// A file with this share of its rows deleted is written anew, in per cent.
const DELETED_PER_CENT_MIN: u64 = 30;
/// A run reads at most so many bytes of files; more only of a single one.
const RUN_BYTES_MAX: u64 = 256 << 20;
/// A run reads at most so many files, which are open at once.
const RUN_FILES_MAX: usize = 64;
/// A run moves at most so many rows, since an export may have to wait for them to be noted; more only of a single file.
const RUN_ROWS_MAX: u64 = 1 << 20;

/// A data file that is to be written anew.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) file: DataFile,
    pub(super) deletes: Vec<DataFile>,
    /// The sequence number of the commit that added the file.
    pub(super) sequence_number: i64,
    live_count: u64,
}

/// What is asked of the files that are chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) target_size_bytes: u64,
    /// Small files are merged once there are so many.
    pub(super) files_min: usize,
    /// Whether files have to have row ids.
    pub(super) with_row_ids: bool,
}

impl Input {
    fn live_bytes(&self) -> u64 {
        let bytes = u128::from(self.file.file_size_in_bytes()) * u128::from(self.live_count);
        u64::try_from(bytes / u128::from(self.file.record_count().max(1))).unwrap_or(u64::MAX)
    }

    fn is_full_of_holes(&self) -> bool {
        let row_count = self.file.record_count();
        (row_count - self.live_count) * 100 >= row_count * DELETED_PER_CENT_MIN
    }
}

/// The files of each partition that are to be written anew, the partition with the oldest first. Only files among `own` are.
pub(super) fn choose(
    manifests: &Manifests,
    own: &HashSet<Arc<str>>,
    wanted: Wanted,
) -> Result<Vec<Vec<Input>>> {
    let deletes = manifests.delete_by_data_file()?;
    let mut partitions: BTreeMap<(i32, String), Vec<Input>> = BTreeMap::new();
    for loaded in &manifests.data {
        for entry in loaded.entries.iter() {
            let path = entry.file.file_path();
            let lacks_row_ids = wanted.with_row_ids && entry.file.first_row_id().is_none();
            if lacks_row_ids || !own.contains(path) || entry.file.record_count() == 0 {
                continue;
            }
            let deletes = deletes.get(path).into_iter().flatten();
            let deletes: Vec<DataFile> = deletes.map(|entry| entry.file.clone()).collect();
            let deleted: u64 = deletes.iter().map(DataFile::record_count).sum();
            let input = Input {
                live_count: entry.file.record_count().saturating_sub(deleted),
                file: entry.file.clone(),
                deletes,
                sequence_number: entry.sequence_number,
            };
            let spec_id = loaded.manifest.partition_spec_id;
            let partition = (spec_id, format!("{:?}", entry.file.partition()));
            partitions.entry(partition).or_default().push(input);
        }
    }
    let due = partitions.into_values().map(|files| due(files, wanted));
    let mut due: Vec<Vec<Input>> = due.filter(|files| !files.is_empty()).collect();
    due.sort_by_key(|files| files.iter().map(|input| input.sequence_number).min());
    Ok(due)
}

/// The files of one partition that are due, within the bounds of a run.
fn due(files: Vec<Input>, wanted: Wanted) -> Vec<Input> {
    let per_cent = |share: u64| wanted.target_size_bytes / 100 * share;
    let is_small = |input: &Input| input.live_bytes() < per_cent(SMALL_PER_CENT_MAX);
    let (full_of_holes, rest): (Vec<Input>, Vec<Input>) =
        files.into_iter().partition(Input::is_full_of_holes);
    let mut small: Vec<Input> = rest.into_iter().filter(is_small).collect();
    small.sort_by_key(|input| (input.live_bytes(), input.file.file_path().to_owned()));
    let mut sum_bytes = per_cent(TINY_PER_CENT_MAX);
    let fits = |input: &&Input| {
        let takes = input.live_bytes() <= sum_bytes;
        sum_bytes += input.live_bytes();
        takes
    };
    let count = small.iter().take_while(fits).count();
    small.truncate(if count >= wanted.files_min { count } else { 0 });
    let (mut bytes, mut rows) = (0, 0);
    let mut chosen: Vec<Input> = Vec::new();
    for input in full_of_holes.into_iter().chain(small) {
        bytes += input.file.file_size_in_bytes();
        rows += input.live_count;
        let is_full = chosen.len() == RUN_FILES_MAX || bytes > RUN_BYTES_MAX || rows > RUN_ROWS_MAX;
        if !chosen.is_empty() && is_full {
            break;
        }
        chosen.push(input);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use iceberg::spec::{
        DataContentType, DataFileBuilder, DataFileFormat, ManifestContentType, ManifestFile,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::{Entry, LoadedManifest};

    fn file(path: String, size_bytes: u64, record_count: u64) -> DataFile {
        let file = DataFileBuilder::default()
            .content(DataContentType::Data)
            .file_path(path)
            .file_format(DataFileFormat::Parquet)
            .record_count(record_count)
            .file_size_in_bytes(size_bytes)
            .build();
        file.unwrap()
    }

    fn input(size_bytes: u64, live_count: u64) -> Input {
        Input {
            file: file(format!("{size_bytes}-{live_count}"), size_bytes, 100),
            deletes: Vec::new(),
            sequence_number: 1,
            live_count,
        }
    }

    fn chosen(files: &[(u64, u64)], files_min: usize) -> Vec<u64> {
        let files = files
            .iter()
            .map(|&(size, live)| input(size, live))
            .collect();
        let wanted = Wanted {
            target_size_bytes: 100_000,
            files_min,
            with_row_ids: false,
        };
        let due = due(files, wanted).into_iter();
        due.map(|input| input.file.file_size_in_bytes()).collect()
    }

    #[test]
    fn small_files_are_taken_while_those_before_hold_as_much() {
        let files = [
            (900, 100),
            (20_000, 100),
            (1_000, 100),
            (1_500, 100),
            (70_000, 100),
        ];
        assert_eq!(chosen(&files, 3), [900, 1_000, 1_500]);
        assert_eq!(chosen(&files, 4), [0_u64; 0]);
        assert_eq!(chosen(&[(70_000, 100), (60_000, 100)], 2), [0_u64; 0]);
    }

    #[test]
    fn files_full_of_holes_are_taken_one_by_one_too() {
        assert_eq!(chosen(&[(90_000, 70), (90_001, 71)], 8), [90_000]);
    }

    fn manifest() -> ManifestFile {
        ManifestFile {
            manifest_path: "m.avro".into(),
            manifest_length: 1,
            partition_spec_id: 0,
            content: ManifestContentType::Data,
            sequence_number: 1,
            min_sequence_number: 1,
            added_snapshot_id: 1,
            added_files_count: None,
            existing_files_count: None,
            deleted_files_count: None,
            added_rows_count: None,
            existing_rows_count: None,
            deleted_rows_count: None,
            partitions: None,
            key_metadata: None,
            first_row_id: None,
        }
    }

    /// The engine knows no rows of what others appended, and a file without rows is full of holes and can't be mended.
    #[test]
    fn files_of_others_and_empty_ones_are_left_alone() {
        let paths = (0..8).flat_map(|i| [(format!("ours {i}"), 5), (format!("theirs {i}"), 5)]);
        let paths = paths.chain([("ours, empty".to_owned(), 0)]);
        let entry = |(path, record_count): (String, u64)| Entry {
            file: file(path, 10, record_count),
            snapshot_id: 1,
            sequence_number: 1,
            file_sequence_number: Some(1),
        };
        let loaded = LoadedManifest {
            manifest: manifest(),
            entries: Arc::new(paths.map(entry).collect()),
        };
        let own = loaded.entries.iter().map(|entry| entry.file.file_path());
        let own = own
            .filter(|path| path.starts_with("ours"))
            .map(Arc::from)
            .collect();
        let manifests = Manifests {
            data: vec![loaded],
            deletes: Vec::new(),
        };
        let wanted = Wanted {
            target_size_bytes: 100_000,
            files_min: 2,
            with_row_ids: false,
        };
        let due = choose(&manifests, &own, wanted).unwrap();
        let paths = due
            .iter()
            .flatten()
            .map(|input| input.file.file_path().to_owned());
        let expected: Vec<String> = (0..8).map(|i| format!("ours {i}")).collect();
        assert_eq!(paths.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_run_is_bounded_but_for_its_first_file() {
        let large = RUN_BYTES_MAX * 2;
        assert_eq!(chosen(&[(large, 10), (large + 1, 10)], 8).len(), 1);
    }

    /// Sizes of every order of magnitude up to that of a run, and how many of a hundred rows are alive.
    fn any_file() -> impl Strategy<Value = (u64, u64)> {
        let size =
            (0..29_u32, any::<u64>()).prop_map(|(log2, rest)| (1 << log2) + rest % (1 << log2));
        let live = prop_oneof![3 => Just(100), 1 => 0..=100_u64];
        (size, live)
    }

    fn inputs(files: &[(u64, u64)]) -> Vec<Input> {
        let numbered = files.iter().enumerate();
        let input = |(number, &(size_bytes, live_count)): (usize, &(u64, u64))| Input {
            file: file(number.to_string(), size_bytes, 100),
            ..input(size_bytes, live_count)
        };
        numbered.map(input).collect()
    }

    fn wanted(files_min: usize) -> Wanted {
        Wanted {
            target_size_bytes: 128 << 20,
            files_min,
            with_row_ids: false,
        }
    }

    proptest! {
        /// *Bounded*: what a run takes; and it takes no file twice, none that is well, and leaves none with holes behind for ever.
        #[test]
        fn a_run_takes_what_is_due_within_its_bounds(
            files in prop::collection::vec(any_file(), 0..150), files_min in 2..12_usize,
        ) {
            let wanted = wanted(files_min);
            let all = inputs(&files);
            let has_holes = all.iter().any(Input::is_full_of_holes);
            let due = due(all, wanted);
            prop_assert!(!has_holes || !due.is_empty());
            let names: HashSet<&str> = due.iter().map(|input| input.file.file_path()).collect();
            prop_assert_eq!(names.len(), due.len(), "a file is taken twice");
            let is_small = |input: &Input| input.live_bytes() < wanted.target_size_bytes / 100 * SMALL_PER_CENT_MAX;
            prop_assert!(due.iter().all(|input| input.is_full_of_holes() || is_small(input)));
            let bytes: u64 = due.iter().map(|input| input.file.file_size_in_bytes()).sum();
            let rows: u64 = due.iter().map(|input| input.live_count).sum();
            let is_bounded = due.len() <= RUN_FILES_MAX && bytes <= RUN_BYTES_MAX && rows <= RUN_ROWS_MAX;
            prop_assert!(due.len() == 1 || is_bounded, "{} files, {bytes} bytes, {rows} rows", due.len());
            prop_assert!(has_holes || due.is_empty() || due.len() >= files_min.min(RUN_FILES_MAX) || bytes > RUN_BYTES_MAX / 2);
        }

        /// Runs come to an end, keep every byte that is alive, and write a row again some times only.
        #[test]
        fn runs_end_and_write_a_row_a_logarithmic_number_of_times(
            files in prop::collection::vec(any_file(), 0..150), files_min in 2..12_usize,
        ) {
            let wanted = wanted(files_min);
            let alive = |files: &[Input]| files.iter().map(Input::live_bytes).sum::<u64>();
            let mut files = inputs(&files);
            let before = alive(&files);
            // By name, how often the rows of a file were written again at most.
            let mut written: BTreeMap<String, u32> = BTreeMap::new();
            for run in 0.. {
                prop_assert!(run < 400, "runs without an end");
                let taken = due(files.clone(), wanted);
                if taken.is_empty() {
                    break;
                }
                let names: HashSet<&str> = taken.iter().map(|input| input.file.file_path()).collect();
                files.retain(|input| !names.contains(input.file.file_path()));
                let times = names.iter().filter_map(|name| written.get(*name)).max().map_or(1, |times| times + 1);
                prop_assert!(times <= 40, "a row is written again {times} times");
                let mut rest = alive(&taken);
                while rest > 0 {
                    let size_bytes = rest.min(wanted.target_size_bytes);
                    rest -= size_bytes;
                    let name = format!("{run} {rest}");
                    written.insert(name.clone(), times);
                    files.push(Input { file: file(name, size_bytes, 100), ..input(size_bytes, 100) });
                }
            }
            prop_assert_eq!(alive(&files), before, "bytes that are alive were lost, or came from nowhere");
        }
    }
}
