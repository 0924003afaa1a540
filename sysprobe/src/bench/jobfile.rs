//! fio's job files: INI sections, `include`, comments, `${VARIABLE}` and the words `$ncpus`, `$pagesize`, `$mb_memory`.
//!
//! `;` and `#` begin a comment wherever they stand, also within a value, as in fio.

use std::fs;
use std::io;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::settings::{Place, Section, Setting, SettingsError};

/// Files that include each other deeper than this include themselves.
const INCLUDE_DEPTH_MAX: usize = 16;

/// Reads a job file; `-` is standard input.
///
/// # Errors
///
/// [`SettingsError`], with the file and the line, if it can't be read or a line has no place in a job file.
pub fn read(path: &Path) -> Result<Vec<Section>, SettingsError> {
    let text = text_of(path)?;
    parse(path, &text)
}

/// The sections of the text of the job file `path`, which messages and relative `include`s refer to.
///
/// # Errors
///
/// [`SettingsError`], with the file and the line, if a line has no place in a job file or an included file can't be
/// read.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Section>, SettingsError> {
    let mut sections: Vec<Section> = Vec::new();
    for (place, line) in lines(path, text) {
        let bad_line = |reason: String| SettingsError::Line {
            place: place.clone(),
            reason,
        };
        if let Some(name) = line.strip_prefix('[') {
            let Some(name) = name.strip_suffix(']') else {
                return Err(bad_line(format!("a section is [name], not '{line}'")));
            };
            if name.is_empty() {
                return Err(bad_line("the section has no name".to_owned()));
            }
            sections.push(Section::named(name, place));
            continue;
        }
        let Some(section) = sections.last_mut() else {
            return Err(bad_line(format!(
                "'{line}' stands before the first section; begin with [global] or [job name]"
            )));
        };
        match included(path, line) {
            Some(file) => section.settings.extend(include(&file, 1, &place)?),
            None => section.settings.push(setting(line, place)),
        }
    }
    Ok(sections)
}

/// The lines that say something, without comments.
fn lines<'a>(path: &'a Path, text: &'a str) -> impl Iterator<Item = (Place, &'a str)> {
    text.lines().zip(1..).filter_map(move |(line, number)| {
        let end = line.find([';', '#']).unwrap_or(line.len());
        let line = line.get(..end).unwrap_or_default().trim();
        let place = Place::File {
            path: path.to_owned(),
            line: number,
        };
        (!line.is_empty()).then_some((place, line))
    })
}

fn setting(line: &str, place: Place) -> Setting {
    let line = substituted(line);
    let (name, value) = match line.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim().to_owned())),
        None => (line.trim(), None),
    };
    Setting {
        name: name.to_owned(),
        value,
        place,
    }
}

/// The file that an `include` line names: as it stands, or beside the file that includes it.
fn included(path: &Path, line: &str) -> Option<PathBuf> {
    let file = line.strip_prefix("include")?;
    if !file.starts_with(char::is_whitespace) {
        return None;
    }
    let file = Path::new(file.trim());
    match path.parent() {
        Some(folder) if !file.exists() => Some(folder.join(file)),
        _ => Some(file.to_owned()),
    }
}

/// The settings of an included file, which belong to the section that includes it.
fn include(path: &Path, depth: usize, from: &Place) -> Result<Vec<Setting>, SettingsError> {
    let bad_line = |place: &Place, reason: String| SettingsError::Line {
        place: place.clone(),
        reason,
    };
    if depth > INCLUDE_DEPTH_MAX {
        let reason = format!("{} includes itself", path.display());
        return Err(bad_line(from, reason));
    }
    let text = text_of(path).map_err(|error| bad_line(from, error.to_string()))?;
    let mut settings = Vec::new();
    for (place, line) in lines(path, &text) {
        if line.starts_with('[') {
            let reason = format!("an included file has no sections of its own: '{line}'");
            return Err(bad_line(&place, reason));
        }
        match included(path, line) {
            Some(file) => settings.extend(include(&file, depth + 1, &place)?),
            None => settings.push(setting(line, place)),
        }
    }
    Ok(settings)
}

fn text_of(path: &Path) -> Result<String, SettingsError> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    text.map_err(|error| SettingsError::unreadable(path, error))
}

/// The line with `${VARIABLE}` replaced by the environment's value, or by nothing where there is none, as fio does, and
/// fio's own words by what they stand for.
fn substituted(line: &str) -> String {
    let mut result = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, behind)) = after.split_once('}') else {
            break;
        };
        result.push_str(before);
        result.push_str(&std::env::var(name).unwrap_or_default());
        rest = behind;
    }
    result.push_str(rest);
    for (word, value) in [
        ("$pagesize", rustix::param::page_size() as u64),
        ("$mb_memory", memory_mib()),
        ("$ncpus", cores()),
    ] {
        if result.contains(word) {
            result = result.replace(word, &value.to_string());
        }
    }
    result
}

fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}

fn memory_mib() -> u64 {
    let information = rustix::system::sysinfo();
    #[expect(
        clippy::useless_conversion,
        reason = "the field's type differs between architectures"
    )]
    let memory_bytes = u64::from(information.totalram) * u64::from(information.mem_unit);
    memory_bytes >> 20
}

#[cfg(test)]
#[path = "jobfile_tests.rs"]
mod tests;
