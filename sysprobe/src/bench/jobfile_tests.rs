use super::super::settings::SectionKind;
use super::*;

fn parsed(text: &str) -> Result<Vec<Section>, SettingsError> {
    parse(Path::new("test.fio"), text)
}

fn pairs(section: &Section) -> Vec<(&str, Option<&str>)> {
    section
        .settings
        .iter()
        .map(|setting| (setting.name.as_str(), setting.value.as_deref()))
        .collect()
}

#[test]
fn sections_settings_and_comments_are_read_as_fio_reads_them() {
    let sections = parsed(
        "; a comment\n\n[global]\nsize=256k   # behind\r\n bs = 4k ; also\ngroup_reporting\n\
         [first one]\nfilename=a:b\ndescription=x=y;gone\nempty=\n[global2]\nthread\n",
    )
    .unwrap();
    assert_eq!(sections.len(), 3);
    assert_eq!(sections[0].kind, SectionKind::Global);
    assert_eq!(
        pairs(&sections[0]),
        [
            ("size", Some("256k")),
            ("bs", Some("4k")),
            ("group_reporting", None)
        ]
    );
    assert_eq!(sections[0].settings[1].place.to_string(), "test.fio:5");
    assert_eq!(sections[1].kind, SectionKind::Job("first one".to_owned()));
    assert_eq!(
        pairs(&sections[1]),
        [
            ("filename", Some("a:b")),
            ("description", Some("x=y")),
            ("empty", Some(""))
        ]
    );
    assert_eq!(sections[2].kind, SectionKind::Global);
    assert_eq!(parsed("").unwrap(), []);
}

#[test]
fn a_line_that_has_no_place_is_named() {
    for (text, position) in [
        ("size=1m\n[a]\n", "test.fio:1"),
        ("[a]\nsize=1m\n[b\n", "test.fio:3"),
        ("\n[]\n", "test.fio:2"),
        ("[a]x\n", "test.fio:1"),
        ("[a]\ninclude no-such-file.inc\n", "test.fio:2"),
    ] {
        let error = parsed(text).unwrap_err().to_string();
        assert!(error.starts_with(position), "{text}: {error}");
    }
}

#[test]
fn an_included_file_is_found_beside_and_adds_to_the_section() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("outer.inc"), "bs=4k\ninclude inner.inc\n").unwrap();
    fs::write(path("inner.inc"), "iodepth=8 ; deep\n").unwrap();
    fs::write(path("sections.inc"), "bs=4k\n[b]\n").unwrap();
    fs::write(path("itself.inc"), "include itself.inc\n").unwrap();
    let job = |name: &str| {
        parse(
            &path("job.fio"),
            &format!("[a]\nrw=read\ninclude {name}\nsize=1m\n"),
        )
    };
    let sections = job("outer.inc").unwrap();
    assert_eq!(
        pairs(&sections[0]),
        [
            ("rw", Some("read")),
            ("bs", Some("4k")),
            ("iodepth", Some("8")),
            ("size", Some("1m"))
        ]
    );
    let error = job("sections.inc").unwrap_err().to_string();
    assert!(error.contains("sections.inc:2"), "{error}");
    let error = job("itself.inc").unwrap_err().to_string();
    assert!(error.contains("includes itself"), "{error}");
}

#[test]
fn variables_and_words_are_replaced() {
    let path = std::env::var("PATH").unwrap();
    assert_eq!(
        substituted("filename=${PATH}x"),
        format!("filename={path}x")
    );
    assert_eq!(substituted("a=${MOONSHINE_IS_NOT_SET}b"), "a=b");
    assert_eq!(substituted("a=${open"), "a=${open");
    assert_eq!(
        substituted("numjobs=$ncpus"),
        format!("numjobs={}", cores())
    );
    assert!(memory_mib() > 0);
}
