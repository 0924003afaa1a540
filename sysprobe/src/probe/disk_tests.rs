use super::*;

const WINDOW: Duration = Duration::from_millis(1);

fn disk(folder: &Path) -> Disk {
    Disk::open(folder, FILLED_BYTES_MIN, Duration::from_secs(60)).unwrap()
}

#[test]
fn every_kind_of_load_reaches_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    assert_eq!(disk.filled_bytes(), FILLED_BYTES_MIN);
    for operation in [Operation::Read, Operation::Write] {
        for pattern in [Pattern::Sequential, Pattern::Random] {
            for (block_size_bytes, threads) in
                [(BLOCK_SIZE_BYTES_MIN, 3), (BLOCK_SIZE_BYTES_MAX, 1)]
            {
                let load = Load {
                    operation,
                    pattern,
                    block_size_bytes,
                    threads,
                };
                let measured = disk.run(&load, WINDOW).unwrap();
                assert!(measured.latencies.count() >= threads, "{load:?}");
                assert!(measured.bytes_per_second > 0.0, "{load:?}");
            }
        }
    }
    assert!(
        disk.run_synced(BLOCK_SIZE_BYTES_MIN, WINDOW)
            .unwrap()
            .count()
            > 0
    );
}

#[test]
fn no_name_is_ever_left_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    drop(disk);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_file_system_in_memory_is_measured_through_the_page_cache() {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    if medium(folder.path()).unwrap() == Medium::Memory {
        assert_eq!(disk(folder.path()).io_mode(), IoMode::Buffered);
    }
}

#[test]
fn a_missing_folder_and_a_full_one_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let opened = Disk::open(&missing, FILLED_BYTES_MIN, WINDOW);
    assert!(
        matches!(opened, Err(ProbeError::Folder { .. })),
        "{opened:?}"
    );
    let file = folder.path().join("file");
    std::fs::write(&file, "content").unwrap();
    let opened = Disk::open(&file, FILLED_BYTES_MIN, WINDOW);
    assert!(
        matches!(opened, Err(ProbeError::Folder { .. })),
        "{opened:?}"
    );
    assert_eq!(std::fs::read(&file).unwrap(), b"content");
    let opened = Disk::open(folder.path(), u64::MAX / 2, WINDOW);
    assert!(
        matches!(opened, Err(ProbeError::Space { .. })),
        "{opened:?}"
    );
}

#[test]
fn offsets_are_whole_blocks_within_the_file() {
    for pattern in [Pattern::Sequential, Pattern::Random] {
        let load = Load {
            operation: Operation::Read,
            pattern,
            block_size_bytes: 8192,
            threads: 4,
        };
        for thread in 0..4 {
            let mut offsets = Offsets::new(&load, thread, 80_000);
            let found: Vec<u64> = (0..40).map(|_| offsets.next()).collect();
            assert!(
                found
                    .iter()
                    .all(|offset| offset % 8192 == 0 && offset + 8192 <= 80_000)
            );
            assert!(
                (0..9).all(|block| pattern == Pattern::Random || found.contains(&(block * 8192)))
            );
        }
    }
}

#[test]
fn buffers_are_aligned_and_not_compressible() {
    let mut buffer = Buffer::random(BLOCK_SIZE_BYTES_MAX);
    assert_eq!(buffer.block().len() as u64, BLOCK_SIZE_BYTES_MAX);
    assert_eq!(buffer.block().as_ptr() as u64 % BLOCK_SIZE_BYTES_MIN, 0);
    assert_eq!(buffer.block_mut().as_ptr() as u64 % BLOCK_SIZE_BYTES_MIN, 0);
    let different: std::collections::HashSet<&[u8]> = buffer.block().chunks_exact(8).collect();
    assert_eq!(different.len() * 8, buffer.block().len());
}
