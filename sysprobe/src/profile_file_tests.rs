use std::path::PathBuf;

use super::*;

fn file() -> ProfileFile {
    ProfileFile {
        version: VERSION,
        measured_at: "2026-01-02T03:04:05Z".into(),
        method: "quick".into(),
        s_size_bytes: 65_536,
        s_paral: 8,
        io_threads: Some(3),
        io_depth: Some(8),
        cores: 2,
        commit_batch_bytes: Some(65_536),
        fdatasync_us: Some(123.5),
        findings: vec!["the device is \"shared\"".into()],
        machine: Machine::this(),
    }
}

fn saved(change: impl FnOnce(&mut ProfileFile)) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(PROFILE_FILE_NAME);
    let mut file = file();
    change(&mut file);
    file.save(&path).unwrap();
    (folder, path)
}

#[track_caller]
fn assert_damaged(path: &Path, what: &str) {
    let loaded = ProfileFile::load(path);
    assert!(
        matches!(loaded, Err(ProfileError::Damaged { .. })),
        "{what}: {loaded:?}"
    );
}

#[test]
fn a_profile_comes_back() {
    let (folder, _) = saved(|_| ());
    let loaded = ProfileFile::of_database(folder.path()).unwrap().unwrap();
    assert_eq!(loaded, file());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let none = ProfileFile::of_database(&folder.path().join("none"));
    assert!(none.unwrap().is_none());
}

#[test]
fn a_profile_without_writes_comes_back() {
    let without = |file: &mut ProfileFile| {
        (file.io_depth, file.commit_batch_bytes, file.fdatasync_us) = (None, None, None);
        file.s_paral = 4;
    };
    let (_folder, path) = saved(without);
    let loaded = ProfileFile::load(&path).unwrap();
    assert_eq!((loaded.io_depth, loaded.fdatasync_us), (None, None));
}

#[test]
fn the_cores_part_of_s_paral_is_this_process_s_own() {
    let file = file();
    assert_eq!(file.profile_on(2).s_paral, 8);
    assert_eq!(file.profile_on(12).s_paral, 16);
    let (_folder, path) = saved(|file| (file.cores, file.s_paral) = (4096, 1024));
    let loaded = ProfileFile::load(&path).unwrap();
    assert!(!loaded.has_same_cores());
    assert_eq!(loaded.profile(), file.profile_on(cores()));
}

#[test]
fn every_changed_byte_is_refused() {
    let (_folder, path) = saved(|_| ());
    let whole = std::fs::read(&path).unwrap();
    for position in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[position] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_damaged(&path, &format!("byte {position}"));
        std::fs::write(&path, &whole[..position]).unwrap();
        assert_damaged(&path, &format!("cut at {position}"));
    }
}

#[test]
fn a_foreign_or_newer_file_is_refused() {
    let (_folder, path) = saved(|file| file.machine.id = "another".into());
    let loaded = ProfileFile::load(&path);
    assert!(
        matches!(loaded, Err(ProfileError::Foreign { .. })),
        "{loaded:?}"
    );
    let (_folder, path) = saved(|file| file.version = VERSION + 1);
    let loaded = ProfileFile::load(&path);
    assert!(
        matches!(loaded, Err(ProfileError::Newer { version, .. }) if version == VERSION + 1),
        "{loaded:?}"
    );
}

#[test]
fn numbers_that_no_measurement_gives_are_refused() {
    type Change = fn(&mut ProfileFile);
    let changes: [(&str, Change); 5] = [
        ("S-Paral", |file| file.s_paral = 3),
        ("S-Size", |file| file.s_size_bytes = 100),
        ("parts", |file| file.io_threads = Some(9)),
        ("cores", |file| file.cores = 100),
        ("fdatasync", |file| file.fdatasync_us = Some(f64::NAN)),
    ];
    for (what, change) in changes {
        let (_folder, path) = saved(change);
        assert_damaged(&path, what);
    }
}

fn write_version_one(path: &Path, machine: &Machine, more: &str) {
    let body = format!(
        "version = 1\nmeasured_at = \"2026-01-02T03:04:05Z\"\nmethod = \"quick\"\ns_size_bytes = 65536\ns_paral = 4\n{more}\n\
         [machine]\nid = \"{}\"\ncores = 3\nprocessor = \"{}\"\n",
        machine.id, machine.processor
    );
    std::fs::write(path, with_checksum(&body)).unwrap();
}

#[test]
fn a_file_of_version_1_is_read_whatever_its_cores() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(PROFILE_FILE_NAME);
    write_version_one(&path, &Machine::this(), "");
    let loaded = ProfileFile::load(&path).unwrap();
    assert_eq!(loaded.profile(), Profile::measured(65_536, 4, 1));
    assert_eq!((loaded.cores, loaded.commit_batch_bytes), (3, None));
    write_version_one(&path, &Machine::this(), "io_threads = 3");
    assert_damaged(&path, "a field of version 2");
    let mut other = Machine::this();
    other.id = "another".into();
    write_version_one(&path, &other, "");
    let loaded = ProfileFile::load(&path);
    assert!(
        matches!(loaded, Err(ProfileError::Foreign { .. })),
        "{loaded:?}"
    );
}
