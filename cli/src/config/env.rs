//! `${NAME}` in the text values of a configuration.
//!
//! `${NAME}` becomes the value of the environment variable, `${NAME:-default}` the default where the variable is unset
//! or empty, and `$${` stands for `${` itself. Any other `$` is a plain character. What was filled in is not read again:
//! a value holds YAML syntax or another `${…}` without harm.

use std::borrow::Cow;

/// Fills in every `${…}` of a text; borrowed where there is none.
///
/// The error is a reason without a place; it never holds a variable's value.
pub(super) fn fill<'a>(
    text: &'a str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Cow<'a, str>, String> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = after;
            continue;
        }
        filled.push_str(before);
        let Some((reference, after)) = after.split_once('}') else {
            return Err(
                "'${' without a closing '}'; write $${ for the characters themselves".into(),
            );
        };
        filled.push_str(&resolve(reference, lookup)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(Cow::Owned(filled))
}

fn resolve(reference: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let name_is_valid = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !name_is_valid {
        return Err(format!(
            "'${{{reference}}}' names no environment variable; the forms are ${{NAME}} and ${{NAME:-default}}"
        ));
    }
    match (lookup(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "environment variable {name} is not set; set it or give a default as ${{{name}:-default}}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "USER" => Some("ann".into()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${USER}".into()),
            _ => None,
        }
    }

    #[test]
    fn references_are_filled_in_anywhere_in_a_text() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${USER}", "ann"),
            (
                "postgres://${USER}@${HOST:-localhost}/db",
                "postgres://ann@localhost/db",
            ),
            ("${EMPTY}|${EMPTY:-x}", "|x"),
            ("${NESTED}", "${USER}"),
            ("$${USER} costs $5", "${USER} costs $5"),
            ("${HOST:-}", ""),
        ] {
            assert_eq!(fill(text, &lookup).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_an_error() {
        assert!(
            fill("${MISSING}", &lookup).is_err_and(|reason| reason.contains("MISSING is not set"))
        );
        assert!(fill("${USER", &lookup).is_err_and(|reason| reason.contains("closing")));
        assert!(fill("${}", &lookup).is_err_and(|reason| reason.contains("names no")));
        assert!(fill("${A B}", &lookup).is_err_and(|reason| reason.contains("'${A B}'")));
    }
}
