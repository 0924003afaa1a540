use super::*;
use crate::probe::device::BLOCK_SIZE_BYTES_MIN;

const WINDOW: Duration = Duration::from_millis(1);

fn budget() -> Budget {
    Budget {
        file_size_bytes: FILE_SIZE_BYTES_MIN,
        duration: Duration::from_secs(600),
        ..Budget::quick()
    }
}

fn loads(disk: &Disk) -> Vec<Load> {
    let mut loads = Vec::new();
    for operation in [Operation::Read, Operation::Write] {
        for pattern in [Pattern::Sequential, Pattern::Random] {
            for submission in [Submission::Threads, Submission::Queue] {
                for (block_size_bytes, in_flight) in
                    [(BLOCK_SIZE_BYTES_MIN, 3), (BLOCK_SIZE_BYTES_MAX, 1)]
                {
                    loads.push(Load {
                        operation,
                        pattern,
                        block_size_bytes,
                        submission,
                        in_flight,
                    });
                }
            }
        }
    }
    loads.retain(|load| load.operation == Operation::Read || disk.writes());
    loads.retain(|load| load.submission == Submission::Threads || disk.queues());
    loads
}

#[test]
fn every_kind_of_load_reaches_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), &budget()).unwrap();
    assert_eq!(disk.size_bytes(), FILE_SIZE_BYTES_MIN);
    for load in loads(&disk) {
        let measured = disk.run(&load, WINDOW).unwrap();
        assert!(measured.latencies.count() >= load.in_flight, "{load:?}");
        assert!(measured.bytes_per_second > 0.0, "{load:?}");
    }
    for method in [SyncMethod::Fdatasync, SyncMethod::ODsync] {
        let latencies = disk.run_synced(method, BLOCK_SIZE_BYTES_MIN, WINDOW);
        assert!(latencies.unwrap().count() > 0);
    }
}

#[test]
fn no_name_is_ever_left_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path(), &budget()).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    drop(disk);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_file_system_in_memory_is_measured_as_such() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    if Medium::of(folder.path()).unwrap() == Medium::Memory {
        let disk = Disk::open(folder.path(), &budget()).unwrap();
        assert_eq!(disk.io_mode(), IoMode::Buffered);
        assert_eq!(disk.medium(), Medium::Memory);
    }
}

#[test]
fn what_will_be_used_is_known_before_and_is_what_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let used = disk_use(folder.path(), &budget()).unwrap();
    assert_eq!(used.file_size_bytes, FILE_SIZE_BYTES_MIN);
    assert!(used.to_string().contains("64 MiB"), "{used}");
    let disk = Disk::open(folder.path(), &budget()).unwrap();
    assert!(disk.size_bytes() <= used.file_size_bytes);
    assert_eq!(
        fs::fstat(&disk.file).unwrap().st_size.cast_unsigned(),
        disk.size_bytes()
    );
}

#[test]
fn a_missing_folder_and_a_full_one_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let opened = Disk::open(&missing, &budget());
    assert!(
        matches!(opened, Err(ProbeError::Folder { .. })),
        "{opened:?}"
    );
    let file = folder.path().join("file");
    std::fs::write(&file, "content").unwrap();
    let opened = Disk::open(&file, &budget());
    assert!(
        matches!(opened, Err(ProbeError::Folder { .. })),
        "{opened:?}"
    );
    assert_eq!(std::fs::read(&file).unwrap(), b"content");
    let greedy = Budget {
        file_size_bytes: u64::MAX / 2,
        ..budget()
    };
    let opened = Disk::open(folder.path(), &greedy);
    assert!(
        matches!(opened, Err(ProbeError::Space { .. })),
        "{opened:?}"
    );
}

/// `/proc` takes no files, not even from root: what a read-only file system answers.
#[test]
fn a_folder_that_takes_no_files_is_refused() {
    let folder = Path::new("/proc/self");
    let opened = temporary_file(folder, Medium::Local);
    assert!(opened.is_err(), "{opened:?}");
    let opened = Disk::open(folder, &budget());
    assert!(
        matches!(
            opened,
            Err(ProbeError::Folder { .. } | ProbeError::Space { .. })
        ),
        "{opened:?}"
    );
}

fn existing_file(folder: &Path, name: &str, size_bytes: u64) -> PathBuf {
    let path = folder.join(name);
    let chunk = vec![7_u8; 1 << 20];
    let mut file = File::create(&path).unwrap();
    for _ in 0..size_bytes >> 20 {
        io::Write::write_all(&mut file, &chunk).unwrap();
    }
    file.sync_all().unwrap();
    path
}

#[test]
fn an_existing_file_is_read_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = existing_file(folder.path(), "data", FILE_SIZE_BYTES_MIN + (1 << 20));
    existing_file(folder.path(), "less", 1 << 20);
    let state = || {
        let metadata = std::fs::metadata(&path).unwrap();
        (metadata.len(), metadata.modified().unwrap())
    };
    let before = state();
    for named in [path.as_path(), folder.path()] {
        let disk = Disk::open_read_only(named).unwrap();
        assert_eq!(
            (disk.path(), disk.access()),
            (path.as_path(), Access::ReadOnly)
        );
        // Whole blocks of the greatest size.
        assert_eq!(disk.size_bytes(), FILE_SIZE_BYTES_MIN);
        assert!(!disk.writes() && !disk.has_holes());
        for load in loads(&disk) {
            assert!(disk.run(&load, WINDOW).unwrap().bytes_per_second > 0.0);
        }
        let load = Load {
            operation: Operation::Write,
            ..loads(&disk)[0]
        };
        let written = disk.run(&load, WINDOW);
        assert!(matches!(written, Err(ProbeError::Io { .. })), "{written:?}");
    }
    assert_eq!(state(), before);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    assert!(std::fs::read(&path).unwrap().iter().all(|byte| *byte == 7));
}

#[test]
fn what_cannot_be_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in [
        &folder.path().join("missing"),
        folder.path(),
        Path::new("/dev/null"),
    ] {
        let opened = Disk::open_read_only(path);
        assert!(
            matches!(opened, Err(ProbeError::Unreadable { .. })),
            "{opened:?}"
        );
    }
    let path = existing_file(folder.path(), "small", 1 << 20);
    let opened = Disk::open_read_only(&path);
    assert!(
        matches!(opened, Err(ProbeError::TooSmall { .. })),
        "{opened:?}"
    );
    let sparse = folder.path().join("sparse");
    let file = File::create(&sparse).unwrap();
    file.set_len(FILE_SIZE_BYTES_MIN).unwrap();
    assert!(Disk::open_read_only(&sparse).unwrap().has_holes());
}
