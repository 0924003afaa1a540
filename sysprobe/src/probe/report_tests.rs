use super::*;
use crate::probe::device::Operation;

/// Little of everything, in any time.
fn budget() -> Budget {
    Budget {
        file_size_bytes: 64 << 20,
        duration: std::time::Duration::from_secs(120),
        window: std::time::Duration::from_micros(100),
        rounds_min: 2,
        rounds_max: 2,
        whole_grid: false,
    }
}

#[test]
fn a_report_is_kept_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let report = measure(folder.path(), &budget()).unwrap();
    assert!(report.profile.s_paral as usize >= report.cores);
    assert!(report.fdatasync_us.is_some() && report.commit_batch_bytes.is_some());
    let json = serde_json::to_value(&report).unwrap();
    let point = &json["curves"][0]["points"][0];
    assert_eq!(point["block_size_bytes"], 4096, "{point}");
    assert!(point["bytes_per_second"]["level"].is_f64(), "{point}");
    // Two measurements of a point decide nothing, and that is said.
    assert!(
        report
            .findings
            .iter()
            .any(|one| matches!(one, Finding::Undecided(_))),
        "{:?}",
        report.findings
    );

    let path = folder.path().join("profile.toml");
    report.profile_file().save(&path).unwrap();
    let loaded = ProfileFile::load(&path).unwrap();
    assert_eq!(loaded, report.profile_file());
    assert_eq!(loaded.profile(), report.profile);
    assert!(loaded.has_same_cores());
    assert_eq!(loaded.findings.len(), report.findings.len());
}

#[test]
fn a_report_of_reading_alone_has_no_numbers_of_writing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    std::fs::write(&path, vec![7_u8; 64 << 20]).unwrap();
    let report = measure_read_only(&path, &budget()).unwrap();
    assert_eq!(
        (report.access, report.folder.as_path()),
        (Access::ReadOnly, path.as_path())
    );
    assert_eq!(
        (report.fdatasync_us, report.commit_batch_bytes),
        (None, None)
    );
    assert!(report.synced.is_empty());
    assert!(
        report
            .curves
            .iter()
            .all(|curve| curve.load.operation == Operation::Read)
    );
    assert!(
        report.findings.contains(&Finding::ReadOnly),
        "{:?}",
        report.findings
    );
    let kept = report.profile_file();
    assert_eq!((kept.fdatasync_us, kept.commit_batch_bytes), (None, None));
}
