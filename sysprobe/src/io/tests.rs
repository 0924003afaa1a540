use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use super::*;

const BLOCK: usize = 4096;
const BLOCKS: u64 = 64;

fn file(direct: bool) -> (tempfile::TempDir, File) {
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .custom_flags(if direct { libc::O_DIRECT } else { 0 })
        .open(folder.path().join("file"))
        .unwrap();
    file.set_len(BLOCKS * BLOCK as u64).unwrap();
    (folder, file)
}

fn request(kind: Kind, block: u64) -> Request {
    Request {
        kind,
        offset: block * BLOCK as u64,
        length: BLOCK,
        file: 0,
    }
}

fn content(block: u64) -> Vec<u8> {
    (0..BLOCK as u64)
        .map(|byte| (block * 31 + byte * 7) as u8)
        .collect()
}

/// Keeps all slots busy until each block was done once; checks what was read.
fn all_blocks(engine: &mut dyn IoEngine, depth: usize, kind: Kind) {
    let mut block_of = vec![None; depth];
    let (mut next, mut finished) = (0, 0);
    let mut done = Vec::new();
    while finished < BLOCKS {
        for (slot, block) in block_of.iter_mut().enumerate() {
            if block.is_none() && next < BLOCKS {
                if kind == Kind::Write {
                    engine.buffer_mut(slot).copy_from_slice(&content(next));
                }
                engine.queue(slot, &request(kind, next)).unwrap();
                *block = Some(next);
                next += 1;
            }
        }
        engine.submit().unwrap();
        engine.complete(1, &mut done).unwrap();
        assert!(!done.is_empty());
        for completion in done.drain(..) {
            assert_eq!(completion.result.unwrap(), BLOCK);
            let block = block_of[completion.slot].take().unwrap();
            if kind == Kind::Read {
                assert_eq!(engine.buffer_mut(completion.slot), content(block));
            }
            finished += 1;
        }
    }
}

fn one(engine: &mut dyn IoEngine, request: &Request) -> io::Result<usize> {
    engine.queue(0, request).unwrap();
    engine.submit().unwrap();
    let mut done = Vec::new();
    engine.complete(1, &mut done).unwrap();
    done.pop().unwrap().result
}

#[test]
fn every_engine_reads_what_another_wrote() {
    for direct in [false, true] {
        let (_folder, file) = file(direct);
        let files = [file];
        for (turn, writer) in EngineName::ALL.into_iter().enumerate() {
            let reader = EngineName::ALL[(turn + 1) % EngineName::ALL.len()];
            files[0].set_len(0).unwrap();
            files[0].set_len(BLOCKS * BLOCK as u64).unwrap();
            let options = EngineOptions {
                direct,
                ..EngineOptions::new(8, BLOCK)
            };
            let mut engine = open_engine(writer, &files, &options).unwrap();
            all_blocks(engine.as_mut(), options.depth, Kind::Write);
            for kind in [Kind::DataSync, Kind::Sync] {
                assert_eq!(one(engine.as_mut(), &request(kind, 0)).unwrap(), 0);
            }
            let mut engine = open_engine(reader, &files, &options).unwrap();
            all_blocks(engine.as_mut(), options.depth, Kind::Read);
        }
    }
}

#[test]
fn a_ring_reads_with_registered_buffers_and_files_and_with_a_polling_thread() {
    let (_folder, file) = file(true);
    let files = [file];
    let plain = EngineOptions {
        direct: true,
        ..EngineOptions::new(8, BLOCK)
    };
    let mut engine = open_engine(EngineName::IoUring, &files, &plain).unwrap();
    all_blocks(engine.as_mut(), plain.depth, Kind::Write);
    for (registered_buffers, registered_files, sqpoll) in [
        (true, false, false),
        (false, true, false),
        (true, true, false),
        (true, true, true),
        (false, false, true),
    ] {
        let options = EngineOptions {
            registered_buffers,
            registered_files,
            sqpoll,
            ..plain.clone()
        };
        let mut engine = open_engine(EngineName::IoUring, &files, &options).unwrap();
        all_blocks(engine.as_mut(), options.depth, Kind::Write);
        all_blocks(engine.as_mut(), options.depth, Kind::Read);
    }
}

#[test]
fn the_end_of_a_file_makes_a_read_short() {
    let (_folder, file) = file(false);
    file.set_len(BLOCK as u64 + 100).unwrap();
    let files = [file];
    for name in EngineName::ALL {
        let mut engine = open_engine(name, &files, &EngineOptions::new(1, BLOCK)).unwrap();
        assert_eq!(
            one(engine.as_mut(), &request(Kind::Read, 1)).unwrap(),
            100,
            "{name:?}"
        );
        assert_eq!(
            one(engine.as_mut(), &request(Kind::Read, 2)).unwrap(),
            0,
            "{name:?}"
        );
    }
}

#[test]
fn a_request_that_does_not_fit_is_refused() {
    let (_folder, file) = file(false);
    let files = [file];
    for name in EngineName::ALL {
        let mut engine = open_engine(name, &files, &EngineOptions::new(2, BLOCK)).unwrap();
        let too_long = Request {
            length: BLOCK + 1,
            ..request(Kind::Read, 0)
        };
        let no_file = Request {
            file: 1,
            ..request(Kind::Read, 0)
        };
        for bad in [too_long, no_file] {
            let refused = match engine.queue(0, &bad) {
                Err(_) => true,
                Ok(()) => {
                    engine.submit().unwrap();
                    let mut done = Vec::new();
                    engine.complete(1, &mut done).unwrap();
                    done.pop().unwrap().result.is_err()
                }
            };
            assert!(refused, "{name:?} {bad:?}");
        }
        assert!(engine.buffer_mut(2).is_empty());
    }
}

#[test]
fn a_buffer_that_the_kernel_has_is_given_to_nobody() {
    let (_folder, file) = file(true);
    let files = [file];
    let options = EngineOptions::new(2, BLOCK);
    let mut engine = open_engine(EngineName::IoUring, &files, &options).unwrap();
    engine.queue(0, &request(Kind::Read, 0)).unwrap();
    assert!(engine.buffer_mut(0).is_empty());
    assert!(engine.queue(0, &request(Kind::Read, 1)).is_err());
    assert_eq!(engine.buffer_mut(1).len(), BLOCK);
    engine.submit().unwrap();
    // The engine goes while its request is under way.
    drop(engine);
}

#[test]
fn options_of_a_ring_are_refused_elsewhere() {
    let (_folder, file) = file(false);
    let files = [file];
    let options = EngineOptions {
        registered_buffers: true,
        ..EngineOptions::new(1, BLOCK)
    };
    let refused = open_engine(EngineName::Psync, &files, &options);
    assert!(matches!(refused, Err(EngineError::Setup { .. })));
}
