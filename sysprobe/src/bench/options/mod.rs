//! The table of options: the one place that job files and flags, `--help` and the documentation share.
//!
//! A setting's name is looked up in [`GROUPS`]; its value is read by [`value`] and laid down in a [`Draft`], the job that
//! is being described. [`unsupported`] knows the names that fio has and this harness has not.

mod draft;
mod kinds;
mod report;
mod table;
mod unsupported;
mod value;

pub use draft::Draft;
pub use report::ReportOptions;
pub use table::{GROUPS, OptionGroup};

use self::value::Value;
use super::settings::{Setting, SettingsError};

/// Whether an option takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Always.
    Value,
    /// The name alone says yes; `name=0` and `name=1` can be written too.
    Flag,
}

/// One option of a job.
#[derive(Debug)]
pub struct OptionSpec {
    /// Its name.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// Whether it takes a value.
    pub takes: Takes,
    /// What a value looks like, or which ones there are.
    pub values: &'static str,
    /// What holds where it is not given.
    pub default: &'static str,
    /// What it does, in a line.
    pub help: &'static str,
    set: fn(&mut Draft, &Value<'_>) -> Result<(), String>,
}

/// The option of that name or alias.
pub fn find(name: &str) -> Option<&'static OptionSpec> {
    all().find(|option| option.name == name || option.aliases.contains(&name))
}

/// All options, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static OptionSpec> {
    GROUPS.iter().flat_map(|group| group.options)
}

/// The table as Markdown, for the documentation.
pub fn markdown() -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let mut text = String::new();
    for group in &GROUPS {
        text.push_str(&format!(
            "### {}\n\n| option | values | default | meaning |\n|---|---|---|---|\n",
            group.title
        ));
        for option in group.options {
            let names = [option.name]
                .into_iter()
                .chain(option.aliases.iter().copied());
            let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
            text.push_str(&format!(
                "| {} | {} | {} | {} |\n",
                names.join(", "),
                cell(option.values),
                cell(option.default),
                cell(option.help)
            ));
        }
        text.push('\n');
    }
    text
}

/// Lays a setting down in a job.
///
/// # Errors
///
/// [`SettingsError`], with the place and the name, if there is no such option or its value is not allowed.
pub fn apply(draft: &mut Draft, setting: &Setting) -> Result<(), SettingsError> {
    let name = setting.name.as_str();
    let text = setting.value.as_deref();
    let bad_value = |reason| SettingsError::Value {
        place: setting.place.clone(),
        name: name.to_owned(),
        value: text.unwrap_or_default().to_owned(),
        reason,
    };
    let Some(option) = find(name) else {
        return match unsupported::fixed(name, text) {
            Some(true) => {
                draft.given(name, text);
                Ok(())
            }
            _ => Err(SettingsError::Option {
                place: setting.place.clone(),
                reason: unknown(name, text),
            }),
        };
    };
    if text.is_none() && option.takes == Takes::Value {
        let reason = format!("option '{name}' needs a value: {}", option.values);
        return Err(SettingsError::Option {
            place: setting.place.clone(),
            reason,
        });
    }
    let value = Value {
        text,
        base: draft.report.kb_base,
        workloads: draft.workloads,
        allowed: option.values,
    };
    (option.set)(draft, &value).map_err(bad_value)?;
    draft.given(option.name, text);
    Ok(())
}

/// Why an option that is not in the table is not taken.
pub(super) fn unknown(name: &str, value: Option<&str>) -> String {
    if unsupported::fixed(name, value) == Some(false) {
        let values = unsupported::fixed_values(name).join(" or ");
        return format!(
            "option '{name}' is supported only as {name}={values}, what holds without it"
        );
    }
    let hint = nearest(name).map_or_else(String::new, |near| format!("; did you mean '{near}'?"));
    if unsupported::is_known_to_fio(name) {
        format!("option '{name}' of fio is not supported{hint}")
    } else {
        format!("there is no option '{name}'{hint}")
    }
}

/// The name most like this one, if any is like it at all.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    const SIMILARITY_MIN: f64 = 0.8;
    all()
        .flat_map(|option| option.aliases.iter().chain([&option.name]))
        .map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
