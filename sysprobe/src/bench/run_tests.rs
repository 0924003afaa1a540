use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::io::EngineName;

const BLOCK: u64 = 4096;
const BLOCKS: u64 = 200;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap()
}

fn job(folder: &Path, rw: Rw) -> JobOptions {
    JobOptions {
        name: "job".into(),
        directory: Some(folder.to_owned()),
        rw,
        size: Some(Extent::Bytes(BLOCKS * BLOCK)),
        ..JobOptions::default()
    }
}

fn run(job: &JobOptions) -> RunReport {
    run_jobs(std::slice::from_ref(job), &[], &RunControl::new(), &()).unwrap()
}

fn run_one(job: &JobOptions) -> JobStats {
    let mut threads = run(job).threads;
    assert_eq!(threads.len(), 1);
    let stats = threads.remove(0);
    assert_eq!(stats.error_text, None);
    stats
}

fn is_all_zeros(file: &Path) -> bool {
    let content = std::fs::read(file).unwrap();
    assert_eq!(content.len() as u64, BLOCKS * BLOCK);
    content.iter().all(|byte| *byte == 0)
}

#[test]
fn every_engine_writes_every_block_once_and_reads_it_back() {
    for engine in EngineName::ALL {
        for direct in [false, true] {
            let folder = folder();
            let job = JobOptions {
                ioengine: JobEngine::Io(engine),
                iodepth: if engine == EngineName::Mmap { 1 } else { 7 },
                direct,
                overwrite: true,
                buffer_content: BufferContent::Zeros,
                ..job(folder.path(), Rw::RandWrite)
            };
            let stats = run_one(&job);
            let write = &stats.directions.write;
            let case = format!("{engine:?} direct {direct}");
            assert_eq!(
                (write.total_ios, write.io_bytes),
                (BLOCKS, BLOCKS * BLOCK),
                "{case}"
            );
            assert_eq!(
                (write.clat.count(), write.lat.count()),
                (BLOCKS, BLOCKS),
                "{case}"
            );
            let submissions = if engine.is_synchronous() { 0 } else { BLOCKS };
            assert_eq!(write.slat.count(), submissions, "{case}");
            assert_eq!(stats.depth_level.iter().sum::<u64>(), BLOCKS, "{case}");
            assert!(is_all_zeros(&folder.path().join("job.0.0")), "{case}");
            let stats = run_one(&JobOptions {
                rw: Rw::Read,
                ..job
            });
            assert_eq!(stats.directions.read.total_ios, BLOCKS, "{case}");
            assert_eq!(stats.directions.write.total_ios, 0, "{case}");
        }
    }
}

#[test]
fn sizes_of_a_range_add_up() {
    let folder = folder();
    let stats = run_one(&JobOptions {
        block_sizes: PerDirection::both(BlockRange {
            least_bytes: BLOCK,
            most_bytes: 8 * BLOCK,
        }),
        ..job(folder.path(), Rw::RandRead)
    });
    let read = &stats.directions.read;
    assert_eq!(read.io_bytes, BLOCKS * BLOCK);
    assert!(
        (BLOCKS / 8..BLOCKS).contains(&read.total_ios),
        "{}",
        read.total_ios
    );
}

#[test]
fn a_mix_has_its_share_of_reads() {
    let folder = folder();
    let stats = run_one(&JobOptions {
        rwmix_read_percent: 70,
        norandommap: true,
        loops: 20,
        ..job(folder.path(), Rw::RandRw)
    });
    let (read, write) = (&stats.directions.read, &stats.directions.write);
    let ios = read.total_ios + write.total_ios;
    assert_eq!(ios, 20 * BLOCKS);
    let share = read.total_ios as f64 / ios as f64;
    assert!((share - 0.7).abs() < 0.03, "{share}");
}

#[test]
fn syncs_come_after_each_so_many_writes_and_at_the_end() {
    let folder = folder();
    for engine in [EngineName::Psync, EngineName::IoUring] {
        let base = JobOptions {
            ioengine: JobEngine::Io(engine),
            ..job(folder.path(), Rw::Write)
        };
        let syncs = |job: &JobOptions| run_one(job).sync.total_ios;
        assert_eq!(syncs(&base), 0);
        // After the last write the job is over: no sync follows it but the one at the end, which is not counted.
        let every_tenth = JobOptions {
            fdatasync: 10,
            ..base.clone()
        };
        assert_eq!(syncs(&every_tenth), BLOCKS / 10 - 1);
        let with_end = JobOptions {
            fsync: 10,
            end_fsync: true,
            ..base
        };
        assert_eq!(syncs(&with_end), BLOCKS / 10 - 1);
    }
}

#[test]
fn a_rate_is_kept() {
    let folder = folder();
    for engine in [EngineName::Psync, EngineName::IoUring] {
        let stats = run_one(&JobOptions {
            ioengine: JobEngine::Io(engine),
            iodepth: 4,
            number_ios: Some(50),
            rate_iops: PerDirection {
                read: Some(1000),
                write: None,
            },
            ..job(folder.path(), Rw::RandRead)
        });
        let read = &stats.directions.read;
        assert_eq!(read.total_ios, 50);
        assert!(read.runtime_ms >= 48, "{} ms", read.runtime_ms);
    }
}

#[test]
fn loops_and_io_size_say_how_much_is_done() {
    let folder = folder();
    let bytes = |job: &JobOptions| run_one(job).directions.read.io_bytes;
    let base = job(folder.path(), Rw::RandRead);
    let thrice = JobOptions {
        loops: 3,
        ..base.clone()
    };
    assert_eq!(bytes(&thrice), 3 * BLOCKS * BLOCK);
    let more = JobOptions {
        io_size: Some(Extent::Bytes(BLOCKS * BLOCK * 5 / 2)),
        ..base.clone()
    };
    assert_eq!(bytes(&more), BLOCKS * BLOCK * 5 / 2);
    let less = JobOptions {
        io_size: Some(Extent::Bytes(10 * BLOCK)),
        ..base
    };
    assert_eq!(bytes(&less), 10 * BLOCK);
}

#[test]
fn threads_with_an_offset_increment_share_a_file() {
    let folder = folder();
    let file = folder.path().join("shared");
    std::fs::write(&file, vec![1; (BLOCKS * BLOCK) as usize]).unwrap();
    let report = run(&JobOptions {
        filenames: vec!["shared".into()],
        numjobs: 4,
        size: Some(Extent::Bytes(BLOCKS * BLOCK / 4)),
        offset_increment: Some(Extent::Bytes(BLOCKS * BLOCK / 4)),
        buffer_content: BufferContent::Zeros,
        group_reporting: true,
        ..job(folder.path(), Rw::Write)
    });
    assert_eq!(report.threads.len(), 4);
    let joined = report.reported();
    assert_eq!(joined.len(), 1);
    assert_eq!(joined[0].directions.write.total_ios, BLOCKS);
    assert!(is_all_zeros(&file));
}

#[test]
fn each_thread_has_its_own_files_and_unlink_removes_them() {
    let folder = folder();
    let base = JobOptions {
        numjobs: 2,
        nrfiles: 3,
        ..job(folder.path(), Rw::Write)
    };
    let names = || {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let written: u64 = run(&base)
        .threads
        .iter()
        .map(|stats| stats.directions.write.io_bytes)
        .sum();
    assert_eq!(written, 2 * BLOCKS * BLOCK);
    let expected = [
        "job.0.0", "job.0.1", "job.0.2", "job.1.0", "job.1.1", "job.1.2",
    ];
    assert_eq!(names(), expected);
    run(&JobOptions {
        unlink: true,
        ..base
    });
    assert!(names().is_empty());
}

#[test]
fn a_stopped_run_reports_what_was_done() {
    let folder = folder();
    let job = JobOptions {
        time_based: true,
        runtime: Some(Duration::from_secs(3600)),
        ioengine: JobEngine::Io(EngineName::IoUring),
        iodepth: 4,
        ..job(folder.path(), Rw::RandRead)
    };
    let control = RunControl::new();
    let report = std::thread::scope(|scope| {
        let run = scope.spawn(|| run_jobs(std::slice::from_ref(&job), &[], &control, &()));
        while control.snapshot().ios().read < 10 {
            std::thread::yield_now();
        }
        let snapshot = control.snapshot();
        assert_eq!(snapshot.threads[0].state, ThreadState::Running);
        assert!(snapshot.time_left().unwrap() > Duration::from_secs(3000));
        control.stop();
        run.join().unwrap().unwrap()
    });
    assert!(report.threads[0].directions.read.total_ios >= 10);
    assert_eq!(control.snapshot().threads[0].state, ThreadState::Ended);
}

struct Truncates;

impl RunObserver for Truncates {
    fn file_reused(&self, _job: &str, path: &Path) {
        std::fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(BLOCK * 3)
            .unwrap();
    }
}

#[test]
fn an_io_that_fails_ends_its_job_alone() {
    let folder = folder();
    std::fs::write(
        folder.path().join("bad"),
        vec![0; (BLOCKS * BLOCK) as usize],
    )
    .unwrap();
    for (engine, iodepth) in [(EngineName::Psync, 1), (EngineName::IoUring, 4)] {
        std::fs::File::options()
            .write(true)
            .open(folder.path().join("bad"))
            .unwrap()
            .set_len(BLOCKS * BLOCK)
            .unwrap();
        let bad = JobOptions {
            name: "bad".into(),
            filenames: vec!["bad".into()],
            ioengine: JobEngine::Io(engine),
            iodepth,
            ..job(folder.path(), Rw::Read)
        };
        let good = JobOptions {
            unlink: true,
            ..job(folder.path(), Rw::Write)
        };
        let report = run_jobs(&[bad, good], &[], &RunControl::new(), &Truncates).unwrap();
        let [bad, good] = &report.threads[..] else {
            panic!("{} threads", report.threads.len())
        };
        assert_eq!(bad.error, libc::EIO);
        let text = bad.error_text.as_deref().unwrap();
        assert!(
            text.contains("job bad: read of 4096 bytes at 12288"),
            "{text}"
        );
        assert_eq!(bad.directions.read.total_ios, 3);
        assert_eq!((good.error, good.directions.write.total_ios), (0, BLOCKS));
    }
}

#[test]
fn a_job_that_cannot_begin_keeps_all_from_beginning() {
    let folder = folder();
    let good = JobOptions {
        fallocate: Fallocate::None,
        ..job(folder.path(), Rw::Write)
    };
    let bad = JobOptions {
        name: "bad".into(),
        fixedbufs: true,
        ..good.clone()
    };
    let refused = run_jobs(&[good, bad], &[], &RunControl::new(), &());
    assert!(
        matches!(&refused, Err(BenchError::Engine { job, .. }) if job == "bad"),
        "{refused:?}"
    );
    let written = std::fs::metadata(folder.path().join("job.0.0"))
        .unwrap()
        .len();
    assert_eq!(written, 0);
}

#[test]
fn folders_and_sizes_that_are_not_there_are_told() {
    let folder = folder();
    let missing = job(&folder.path().join("missing"), Rw::Write);
    let empty = JobOptions {
        size: None,
        ..job(folder.path(), Rw::Read)
    };
    let too_great = JobOptions {
        size: Some(Extent::Bytes(BLOCK / 2)),
        ..job(folder.path(), Rw::Read)
    };
    for (bad, word) in [
        (missing, "missing"),
        (empty, "needs size"),
        (too_great, "don't fit"),
    ] {
        let refused = run_jobs(&[bad], &[], &RunControl::new(), &()).unwrap_err();
        assert!(matches!(refused, BenchError::Options { .. }), "{refused}");
        assert!(refused.to_string().contains(word), "{refused}");
    }
}

#[derive(Default)]
struct Counting {
    syncs: AtomicU64,
}

struct CountingThread<'a> {
    factory: &'a Counting,
    step: u64,
    fails_at: u64,
}

impl Workload for CountingThread<'_> {
    fn step(&mut self) -> Result<OperationDone, String> {
        self.step += 1;
        if self.step == self.fails_at {
            return Err("the key is gone".into());
        }
        let direction = if self.step.is_multiple_of(4) {
            Direction::Write
        } else {
            Direction::Read
        };
        Ok(OperationDone {
            direction,
            bytes: 100,
        })
    }

    fn sync(&mut self) -> Result<(), String> {
        self.factory.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

static COUNTING: Counting = Counting {
    syncs: AtomicU64::new(0),
};

impl WorkloadFactory for &'static Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn prepare(&self, _job: &JobOptions) -> Result<(), String> {
        Ok(())
    }

    fn thread(&self, job: &JobOptions, _thread: usize) -> Result<Box<dyn Workload>, String> {
        Ok(Box::new(CountingThread {
            factory: self,
            step: 0,
            fails_at: job.database.records,
        }))
    }

    fn finish(&self, _job: &JobOptions) -> Result<Vec<String>, String> {
        Ok(vec!["all counted".into()])
    }
}

#[test]
fn a_workload_runs_under_the_same_limits() {
    let counting = &COUNTING;
    let job = JobOptions {
        name: "count".into(),
        ioengine: JobEngine::Workload("counting".into()),
        number_ios: Some(400),
        numjobs: 2,
        fsync: 10,
        ..JobOptions::default()
    };
    let workloads: [&dyn WorkloadFactory; 1] = [&counting];
    let report = run_jobs(
        std::slice::from_ref(&job),
        &workloads,
        &RunControl::new(),
        &(),
    )
    .unwrap();
    for stats in &report.threads {
        assert_eq!(stats.directions.read.total_ios, 300);
        assert_eq!(stats.directions.write.io_bytes, 100 * 100);
        assert_eq!(stats.sync.total_ios, 10);
    }
    assert_eq!(counting.syncs.load(Ordering::Relaxed), 20);
    assert_eq!(report.threads[0].report_lines, ["all counted"]);
    let mut failing = job.clone();
    failing.database.records = 50;
    let report = run_jobs(&[failing], &workloads, &RunControl::new(), &()).unwrap();
    let stats = &report.threads[1];
    assert_eq!(
        stats.directions.read.total_ios + stats.directions.write.total_ios,
        49
    );
    assert!(
        stats
            .error_text
            .as_deref()
            .unwrap()
            .contains("the key is gone")
    );
    let unknown = run_jobs(&[job], &[], &RunControl::new(), &());
    assert!(matches!(
        unknown,
        Err(BenchError::Workload { .. } | BenchError::Options { .. })
    ));
}
