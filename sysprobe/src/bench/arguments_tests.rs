use super::*;

fn parsed(flags: &[&str]) -> Result<BenchArguments, SettingsError> {
    BenchArguments::parse(flags.iter().map(|flag| (*flag).to_owned()))
}

fn section(name: Option<&str>, settings: &[(&str, Option<&str>)]) -> Section {
    let settings = settings.iter().map(|(name, value)| Setting {
        name: (*name).to_owned(),
        value: value.map(str::to_owned),
        place: Place::CommandLine,
    });
    Section {
        kind: name.map_or(SectionKind::Global, |name| {
            SectionKind::Job(name.to_owned())
        }),
        settings: settings.collect(),
        place: Place::CommandLine,
    }
}

#[test]
fn names_begin_jobs_and_flags_take_values_in_both_ways() {
    let arguments = parsed(&[
        "--bs=8k",
        "--direct",
        "1",
        "--name=one",
        "-rw=read",
        "--group_reporting",
        "--numjobs",
        "4",
        "--name",
        "two",
        "--filename=a=b",
        "x.fio",
        "--thread=0",
        "-",
        "--name=global",
        "--size=1m",
        "--",
        "--y.fio",
    ])
    .unwrap();
    assert_eq!(
        arguments.sections,
        [
            section(None, &[("bs", Some("8k")), ("direct", Some("1"))]),
            section(
                Some("one"),
                &[
                    ("name", Some("one")),
                    ("rw", Some("read")),
                    ("group_reporting", None),
                    ("numjobs", Some("4"))
                ]
            ),
            section(
                Some("two"),
                &[
                    ("name", Some("two")),
                    ("filename", Some("a=b")),
                    ("thread", Some("0"))
                ]
            ),
            section(None, &[("size", Some("1m"))]),
        ]
    );
    let files = ["x.fio", "-", "--y.fio"].map(PathBuf::from);
    assert_eq!(arguments.job_files, files);
}

#[test]
fn flags_of_the_program_are_its_own() {
    let arguments = parsed(&[
        "--output=out",
        "--output-format",
        "terse,json+,normal",
        "--eta=always",
        "--section=a",
        "--section",
        "b",
        "--parse-only",
        "--showcmd",
        "--readonly",
        "--warnings-fatal",
        "-h",
    ])
    .unwrap();
    assert_eq!(
        arguments,
        BenchArguments {
            output: Some(PathBuf::from("out")),
            formats: vec![
                OutputFormat::Terse,
                OutputFormat::JsonPlus,
                OutputFormat::Normal
            ],
            eta: Eta::Always,
            chosen_sections: vec!["a".to_owned(), "b".to_owned()],
            parse_only: true,
            show_command: true,
            read_only: true,
            warnings_fatal: true,
            help: true,
            ..BenchArguments::default()
        }
    );
    assert_eq!(
        parsed(&["--minimal"]).unwrap().formats,
        [OutputFormat::Terse]
    );
}

#[test]
fn a_flag_without_its_value_or_with_a_wrong_one_is_named() {
    for (flags, part) in [
        (&["--name"][..], "--name needs a name"),
        (&["--output"], "--output needs a value"),
        (&["--output="], "--output needs a value"),
        (&["--output-format=xml"], "'xml'"),
        (&["--eta=soon"], "'soon'"),
        (&["--parse-only=1"], "--parse-only takes no value"),
        (&["--section=global"], "global"),
    ] {
        let error = parsed(flags).unwrap_err().to_string();
        assert!(error.contains(part), "{flags:?}: {error}");
    }
}

#[test]
fn a_command_can_be_given_back_to_a_shell() {
    let sections = [
        section(None, &[("size", Some("1m")), ("thread", None)]),
        section(Some("it's one"), &[("filename", Some("a b:c"))]),
    ];
    assert_eq!(
        as_command(&sections),
        r"moonshine bench --name=global --size=1m --thread --name='it'\''s one' --filename='a b:c'"
    );
}
