use std::path::Path;
use std::time::Duration;

use super::super::jobfile;
use super::super::values::{BlockRange, BufferContent, Extent, JobEngine, PerDirection, Rw};
use super::*;

fn planned_of(texts: &[&str], chosen: &[String]) -> Result<Plan, SettingsError> {
    let mut planner = Planner::new(&["moonshine"], chosen);
    for (index, text) in texts.iter().enumerate() {
        planner.add_file(&jobfile::parse(Path::new("test.fio"), text)?, index == 0)?;
    }
    planner.finish()
}

fn planned(text: &str) -> Result<Plan, SettingsError> {
    planned_of(&[text], &[])
}

/// The only job of a text.
fn job(settings: &str) -> JobOptions {
    let plan = planned(&format!("[job]\n{settings}\n"));
    plan.unwrap().jobs.remove(0)
}

fn error(settings: &str) -> String {
    planned(&format!("[job]\n{settings}\n"))
        .unwrap_err()
        .to_string()
}

#[test]
fn jobs_inherit_the_globals_before_them() {
    let plan = planned(
        "[global]\nsize=1m\nbs=4k\nthread\n[a]\nrw=randrw\nbs=8k\n[global]\niodepth=4\nioengine=io_uring\n[b]\n",
    )
    .unwrap();
    let [a, b] = plan.jobs.as_slice() else {
        panic!("not two jobs");
    };
    assert_eq!((a.size, b.size), (Some(Extent::Bytes(1 << 20)), a.size));
    assert_eq!((a.iodepth, b.iodepth), (1, 4));
    assert_eq!(a.block_sizes.read, BlockRange::fixed(8192));
    assert_eq!(b.block_sizes.read, BlockRange::fixed(4096));
    assert_eq!(a.rw, Rw::RandRw);
    assert!(a.thread && b.thread);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(a.options_given, [pair("rw", "randrw"), pair("bs", "8k")]);
    assert_eq!(b.options_given, []);
    assert_eq!(
        plan.global_options,
        [
            pair("size", "1m"),
            pair("bs", "4k"),
            pair("iodepth", "4"),
            pair("ioengine", "io_uring")
        ]
    );
}

#[test]
fn a_second_file_begins_anew_and_behind_the_first() {
    let texts = [
        "[global]\nbs=8k\n[a]\nsize=1m\n",
        "[b]\nsize=1m\n[c]\nsize=1m\n",
    ];
    let plan = planned_of(&texts, &[]).unwrap();
    let walls: Vec<bool> = plan.jobs.iter().map(|job| job.stonewall).collect();
    assert_eq!(walls, [false, true, false]);
    assert_eq!(plan.jobs[1].block_sizes.read, BlockRange::fixed(4096));
}

#[test]
fn only_the_chosen_sections_run() {
    let texts = ["[a]\nsize=1m\n[b]\nsize=2m\nno_such_option=1\n"];
    let plan = planned_of(&texts, &["a".to_owned()]).unwrap();
    assert_eq!(plan.jobs.len(), 1);
    let error = planned_of(&texts, &["c".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("no job is called c"));
    assert!(planned("[global]\nbs=4k\n").is_err());
}

#[test]
fn sizes_of_blocks_come_from_bs_and_before_it_from_bsrange() {
    let range = |least_bytes, most_bytes| BlockRange {
        least_bytes,
        most_bytes,
    };
    let sizes = |settings: &str| {
        let sizes = job(settings).block_sizes;
        (sizes.read, sizes.write)
    };
    let (k4, k8) = (BlockRange::fixed(4096), BlockRange::fixed(8192));
    assert_eq!(sizes("bs=8k"), (k8, k8));
    assert_eq!(sizes("bs=4k,8k"), (k4, k8));
    assert_eq!(sizes("bs=,8k,16k"), (k4, k8));
    assert_eq!(sizes("bs=8k,"), (k8, k4));
    assert_eq!(sizes("blocksize=4kib\nkb_base=1000"), (k4, k4));
    let r4_8 = range(4096, 8192);
    assert_eq!(sizes("bsrange=8k-4k"), (r4_8, r4_8));
    assert_eq!(
        sizes("bsrange=4k-8k,8k:16k\nbs=1m"),
        (r4_8, range(8192, 16384))
    );
    assert_eq!(sizes("bsrange=4k-8k,\nbs=8k"), (r4_8, k8));
}

#[test]
fn contents_of_buffers_are_settled() {
    assert_eq!(
        job("buffer_pattern=0xdeadbeef").buffer_content,
        BufferContent::Pattern(vec![0xde, 0xad, 0xbe, 0xef])
    );
    let text = job("buffer_pattern=\"ab\"\nzero_buffers");
    assert_eq!(text.buffer_content, BufferContent::Pattern(b"ab".to_vec()));
    assert!(!text.scramble_buffers);
    assert_eq!(
        job("buffer_pattern=258").buffer_content,
        BufferContent::Pattern(vec![2, 1])
    );
    let zeros = job("zero_buffers");
    assert_eq!(zeros.buffer_content, BufferContent::Zeros);
    assert!(!zeros.scramble_buffers);
    assert!(job("zero_buffers\nscramble_buffers=1").scramble_buffers);
}

#[test]
fn what_fio_mends_with_a_message_is_a_warning() {
    let warnings = |settings: &str| planned(&format!("[job]\n{settings}\n")).unwrap().warnings;
    for (settings, part) in [
        ("time_based", "time_based"),
        ("iodepth=4", "ioengine=psync"),
        ("rw=randread\nba=8k", "norandommap"),
    ] {
        let warnings = warnings(settings);
        assert_eq!(warnings.len(), 1, "{settings}: {warnings:?}");
        assert!(warnings[0].starts_with("test.fio:1: job 'job'"));
        assert!(warnings[0].contains(part), "{warnings:?}");
    }
    assert!(job("rw=randread\nba=8k").norandommap);
    assert!(!job("time_based").time_based);
    assert!(job("rw=randread\nrandom_distribution=zipf").norandommap);
    assert_eq!(
        warnings("iodepth=4\nioengine=io_uring\nrw=randread"),
        [""; 0]
    );
}

#[test]
fn settings_that_exclude_each_other_are_refused() {
    for (settings, part) in [
        ("rate=1m\nrate_iops=5", "exclude each other"),
        ("size=2k", "smallest block"),
        ("fixedbufs", "fixedbufs is an option of ioengine=io_uring"),
        ("ioengine=mmap\nhipri", "hipri"),
        ("workload=get", "ioengine=moonshine"),
    ] {
        let error = error(settings);
        assert!(error.starts_with("test.fio:1: job 'job'"), "{error}");
        assert!(error.contains(part), "{settings}: {error}");
    }
    let globals = "[global]\nioengine=io_uring\nfixedbufs\nhipri\n[a]\nioengine=psync\n[b]\n";
    let jobs = planned(globals).unwrap().jobs;
    assert!(!jobs[0].fixedbufs && !jobs[0].hipri && jobs[1].fixedbufs && jobs[1].hipri);
    let differing = "[global]\ngroup_reporting\n[a]\n[b]\nlat_percentiles=1\n";
    assert!(planned(differing).is_err());
    planned("[global]\ngroup_reporting\n[a]\n[b]\nnew_group\nlat_percentiles=1\n").unwrap();
}

#[test]
fn an_option_that_is_not_taken_is_named_with_its_line() {
    for (setting, parts) in [
        ("bss=4k", &["test.fio:3", "'bss'", "did you mean 'bs'"][..]),
        (
            "bssplit=4k/50:8k/50",
            &["'bssplit'", "of fio is not supported"],
        ),
        ("iodepht=4", &["there is no option 'iodepht'", "'iodepth'"]),
        ("qqqq", &["there is no option 'qqqq'"]),
        ("verify=crc32c", &["'verify'", "verify=none"]),
        ("rw", &["'rw'", "needs a value", "randread"]),
    ] {
        let error = error(&format!("size=1m\n{setting}"));
        for part in parts {
            assert!(error.contains(part), "{setting}: {error}");
        }
    }
    let harmless = job("verify=0\nunified_rw_reporting=none\ngtod_reduce=0");
    assert_eq!(harmless.options_given.len(), 3);
}

#[test]
fn a_bad_value_is_named_with_what_is_allowed() {
    for (setting, parts) in [
        ("rw=foo", &["test.fio:2: rw=foo", "randread"][..]),
        ("rw=randread:8", &["randread"]),
        ("bs=4x", &["'x'", "16mb"]),
        ("bs=0", &["1 or more"]),
        ("bs=1k,2k,3k,4k", &["at most three"]),
        ("bs=", &["missing"]),
        ("bsrange=4k", &["4k-64k"]),
        ("direct=yes", &["0 or 1"]),
        ("direct=2", &["0 or 1"]),
        ("iodepth=0", &["1 to 65536"]),
        ("rwmixread=101", &["0 to 100"]),
        ("size=101%", &["0% to 100%"]),
        ("runtime=10sec", &["'sec'", "30s"]),
        ("startdelay=5-3", &["shortest"]),
        ("ioengine=libaio", &["io_uring", "moonshine"]),
        ("random_distribution=zipf:1", &["not 1"]),
        ("random_distribution=pareto:1", &["between 0 and 1"]),
        ("random_distribution=normal:100", &["below 100"]),
        ("random_distribution=zipf:1.2:2", &["center"]),
        ("random_distribution=random:1", &["no parameter"]),
        ("random_distribution=zipf:1.1:0.5:1", &["too many"]),
        ("random_distribution=zipf:x", &["'x'"]),
        (
            "random_distribution=zoned:50/5",
            &["zoned is not supported"],
        ),
        ("percentile_list=50:101", &["101"]),
        ("buffer_pattern=0xzz", &["pattern"]),
        ("buffer_pattern=0x", &["1 to 512"]),
        ("filename=a::b", &["empty"]),
        ("directory=a:b", &["one folder"]),
    ] {
        let error = error(setting);
        for part in parts {
            assert!(error.contains(part), "{setting}: {error}");
        }
    }
}

#[test]
fn every_kind_of_value_arrives() {
    let job = job(
        "size=50%\nio_size=2g\noffset=1m\nfilename=a\\:b:c\nrate=1m,500k\nstartdelay=1-3\nruntime=2m\n\
         thinktime=5ms\npercentile_list=99:50\nioengine=moonshine\nworkload=ycsb-f\nrwmixwrite=30\nnumber_ios=1k\n\
         buffered=0\nsync=1",
    );
    assert_eq!(job.size, Some(Extent::Percent(50)));
    assert_eq!(job.io_size, Some(Extent::Bytes(2 << 30)));
    assert_eq!(job.offset, Extent::Bytes(1 << 20));
    assert_eq!(
        job.filenames,
        ["a:b", "c"].map(Into::<std::path::PathBuf>::into)
    );
    let rates = PerDirection {
        read: Some(1 << 20),
        write: Some(500 << 10),
    };
    assert_eq!(job.rate_bytes_per_s, rates);
    assert_eq!(job.startdelay.least, Duration::from_secs(1));
    assert_eq!(job.startdelay.most, Duration::from_secs(3));
    assert_eq!(job.runtime, Some(Duration::from_secs(120)));
    assert_eq!(job.thinktime, Duration::from_millis(5));
    assert_eq!(job.percentile_list, [50.0, 99.0]);
    assert_eq!(job.ioengine, JobEngine::Workload("moonshine".to_owned()));
    assert_eq!(job.rwmix_read_percent, 70);
    assert_eq!(job.number_ios, Some(1024));
    assert!(job.direct);
}
