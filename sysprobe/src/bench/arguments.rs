//! The command line of the harness, as fio has it: flags named like the options, and job files.
//!
//! Each `--name` begins a job; what stands before the first one is global. `--option value` is `--option=value`, one dash
//! is as good as two, and job files may stand anywhere.

use std::path::PathBuf;

use super::options::{self, Takes};
use super::settings::{Place, Section, SectionKind, Setting, SettingsError};

/// What is printed when the run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// fio's text report.
    Normal,
    /// fio's JSON.
    Json,
    /// fio's JSON, with the histograms of the latencies.
    JsonPlus,
    /// One line for each report, fields divided by semicolons, version 3.
    Terse,
}

/// When the live line is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eta {
    /// On a terminal.
    #[default]
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// The command line, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BenchArguments {
    /// What the flags say of jobs.
    pub sections: Vec<Section>,
    /// Job files; `-` is standard input.
    pub job_files: Vec<PathBuf>,
    /// `--section`: the only sections that are run; all where empty.
    pub chosen_sections: Vec<String>,
    /// `--output`: where the report goes instead of standard output.
    pub output: Option<PathBuf>,
    /// `--output-format`; the text report where empty.
    pub formats: Vec<OutputFormat>,
    /// `--eta`.
    pub eta: Eta,
    /// `--parse-only`: looks at everything and runs nothing.
    pub parse_only: bool,
    /// `--showcmd`: prints the job files as flags and runs nothing.
    pub show_command: bool,
    /// `--readonly`: refuses jobs that write.
    pub read_only: bool,
    /// `--warnings-fatal`: a warning is an error.
    pub warnings_fatal: bool,
    /// `--help`: prints the options and runs nothing.
    pub help: bool,
}

/// A flag of the program itself: its name, what its value looks like if it takes one, and what it does.
pub const PROGRAM_FLAGS: &[(&str, Option<&str>, &str)] = &[
    (
        "output",
        Some("FILE"),
        "Write the report there instead of to standard output",
    ),
    (
        "output-format",
        Some("FORMAT,…"),
        "normal, json, json+, terse; several are printed one after the other",
    ),
    ("minimal", None, "The same as --output-format=terse"),
    (
        "eta",
        Some("WHEN"),
        "Show the live line: always, never, or auto: on a terminal",
    ),
    (
        "section",
        Some("NAME"),
        "Run only this section; can be given several times",
    ),
    ("parse-only", None, "Check everything and run nothing"),
    (
        "showcmd",
        None,
        "Print the job files as flags and run nothing",
    ),
    ("readonly", None, "Refuse jobs that write"),
    ("warnings-fatal", None, "Take warnings for errors"),
    ("help", None, "Print this list"),
];

impl BenchArguments {
    /// Takes a command line apart, without the program's name.
    ///
    /// # Errors
    ///
    /// [`SettingsError`], if a flag is unknown, lacks its value or has one that is not allowed.
    ///
    /// # Examples
    ///
    /// ```
    /// use moonshine_sysprobe::bench::arguments::BenchArguments;
    ///
    /// let flags = ["--bs=8k", "--name=one", "--rw=randread", "--name=two", "jobs.fio"];
    /// let arguments = BenchArguments::parse(flags.map(String::from))?;
    /// assert_eq!(arguments.sections.len(), 3);
    /// assert_eq!(arguments.job_files.len(), 1);
    /// # Ok::<(), moonshine_sysprobe::bench::settings::SettingsError>(())
    /// ```
    pub fn parse(flags: impl IntoIterator<Item = String>) -> Result<Self, SettingsError> {
        let mut arguments = BenchArguments::default();
        let mut flags = flags.into_iter();
        while let Some(flag) = flags.next() {
            let bare = flag.strip_prefix("--").or_else(|| flag.strip_prefix('-'));
            match bare {
                Some("") if flag == "--" => {
                    arguments
                        .job_files
                        .extend(flags.by_ref().map(PathBuf::from));
                }
                Some("") | None => arguments.job_files.push(PathBuf::from(flag)),
                Some(bare) => {
                    let (name, value) = match bare.split_once('=') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (bare, None),
                    };
                    arguments.flag(name, value, &mut flags)?;
                }
            }
        }
        Ok(arguments)
    }

    fn flag(
        &mut self,
        name: &str,
        value: Option<String>,
        rest: &mut impl Iterator<Item = String>,
    ) -> Result<(), SettingsError> {
        let program_flag = PROGRAM_FLAGS.iter().find(|(flag, ..)| *flag == name);
        if let Some((flag, takes, _)) =
            program_flag.or_else(|| (name == "h").then(|| PROGRAM_FLAGS.last()).flatten())
        {
            let value = match takes {
                Some(_) => value.or_else(|| rest.next()),
                None => value,
            };
            return self.program_flag(flag, takes.is_some(), value);
        }
        let value = match options::find(name) {
            Some(option) if option.takes == Takes::Value => value.or_else(|| rest.next()),
            _ => value,
        };
        let setting = Setting {
            name: name.to_owned(),
            value,
            place: Place::CommandLine,
        };
        self.job_flag(setting)
    }

    fn job_flag(&mut self, setting: Setting) -> Result<(), SettingsError> {
        if setting.name == "name" {
            let name = setting.value.as_deref().unwrap_or_default();
            if name.is_empty() {
                return Err(bad("--name needs a name"));
            }
            self.sections.push(Section::named(name, Place::CommandLine));
        } else if self.sections.is_empty() {
            self.sections.push(Section {
                kind: SectionKind::Global,
                settings: Vec::new(),
                place: Place::CommandLine,
            });
        }
        let is_global_name =
            |section: &Section| setting.name == "name" && section.kind == SectionKind::Global;
        if let Some(section) = self.sections.last_mut()
            && !is_global_name(section)
        {
            section.settings.push(setting);
        }
        Ok(())
    }

    fn program_flag(
        &mut self,
        name: &str,
        takes_value: bool,
        value: Option<String>,
    ) -> Result<(), SettingsError> {
        let value = match value {
            Some(value) if takes_value && !value.is_empty() => value,
            Some(_) if !takes_value => return Err(bad(format!("--{name} takes no value"))),
            None if !takes_value => String::new(),
            _ => return Err(bad(format!("--{name} needs a value"))),
        };
        match name {
            "output" => self.output = Some(PathBuf::from(value)),
            "output-format" => self.formats = formats(&value)?,
            "minimal" => self.formats = vec![OutputFormat::Terse],
            "eta" => self.eta = eta(&value)?,
            "section" if value.starts_with("global") => {
                return Err(bad("--section: the global section is no job"));
            }
            "section" => self.chosen_sections.push(value),
            "parse-only" => self.parse_only = true,
            "showcmd" => self.show_command = true,
            "readonly" => self.read_only = true,
            "warnings-fatal" => self.warnings_fatal = true,
            _ => self.help = true,
        }
        Ok(())
    }
}

fn bad(reason: impl Into<String>) -> SettingsError {
    SettingsError::Arguments(reason.into())
}

fn formats(value: &str) -> Result<Vec<OutputFormat>, SettingsError> {
    value
        .split(',')
        .map(|name| match name.trim() {
            "normal" => Ok(OutputFormat::Normal),
            "json" => Ok(OutputFormat::Json),
            "json+" => Ok(OutputFormat::JsonPlus),
            "terse" | "minimal" | "csv" => Ok(OutputFormat::Terse),
            other => Err(bad(format!(
                "--output-format: '{other}' is no format; allowed is normal, json, json+, terse"
            ))),
        })
        .collect()
}

fn eta(value: &str) -> Result<Eta, SettingsError> {
    match value {
        "auto" => Ok(Eta::Auto),
        "always" => Ok(Eta::Always),
        "never" => Ok(Eta::Never),
        other => Err(bad(format!(
            "--eta: '{other}' is not allowed; allowed is always, never, auto"
        ))),
    }
}

/// The sections as flags, as fio's `--showcmd` prints them.
pub fn as_command(sections: &[Section]) -> String {
    let mut flags = vec!["moonshine bench".to_owned()];
    for section in sections {
        let name = match &section.kind {
            SectionKind::Job(name) => name,
            // Flags are global only before the first job.
            SectionKind::Global => "global",
        };
        flags.push(format!("--name={}", quoted(name)));
        for setting in &section.settings {
            flags.push(match &setting.value {
                Some(value) => format!("--{}={}", setting.name, quoted(value)),
                None => format!("--{}", setting.name),
            });
        }
    }
    flags.join(" ")
}

/// A word that a shell leaves as it is.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,+%@=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
#[path = "arguments_tests.rs"]
mod tests;
