//! What a configuration says of partitions and of the order of rows, as text.
//!
//! ```text
//! partition_by: [country, day(created_at), "bucket(16, customer)"]
//! sort_by: [customer, "created_at desc nulls last"]
//! sort_by: ["zorder(customer, created_at)"]
//! ```

use iceberg::spec::{NullOrder, SortDirection, Transform};

use crate::error::{ExportError, Result};

/// A partition field: a transform of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionText {
    pub(crate) column: String,
    pub(crate) transform: Transform,
}

/// A column of a sort order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SortText {
    pub(crate) column: String,
    pub(crate) direction: SortDirection,
    pub(crate) null_order: NullOrder,
}

fn wrong(key: &str, text: &str, reason: &str) -> ExportError {
    ExportError::Config(format!("{key}: '{text}': {reason}"))
}

/// Reads `column` or `transform(column)`; `bucket` and `truncate` take a number before the column.
pub(crate) fn partition(key: &str, text: &str) -> Result<PartitionText> {
    let call = text
        .trim()
        .strip_suffix(')')
        .and_then(|text| text.split_once('('));
    let Some((name, arguments)) = call else {
        return match text.trim() {
            "" => Err(wrong(key, text, "no column")),
            column => Ok(PartitionText {
                column: column.to_owned(),
                transform: Transform::Identity,
            }),
        };
    };
    let numbered = || -> Result<(u32, &str)> {
        let (number, column) = arguments.split_once(',').ok_or_else(|| {
            wrong(
                key,
                text,
                "give a number and a column, as in 'bucket(16, customer)'",
            )
        })?;
        match number.trim().parse::<i32>() {
            Ok(number) if number > 0 => Ok((number.unsigned_abs(), column)),
            _ => Err(wrong(
                key,
                text,
                "the number has to be from 1 to 2147483647",
            )),
        }
    };
    let (transform, column) = match name.trim().to_ascii_lowercase().as_str() {
        "identity" => (Transform::Identity, arguments),
        "year" | "years" => (Transform::Year, arguments),
        "month" | "months" => (Transform::Month, arguments),
        "day" | "days" => (Transform::Day, arguments),
        "hour" | "hours" => (Transform::Hour, arguments),
        "void" => (Transform::Void, arguments),
        "bucket" => numbered().map(|(count, column)| (Transform::Bucket(count), column))?,
        "truncate" => numbered().map(|(width, column)| (Transform::Truncate(width), column))?,
        _ => {
            let known =
                "the transforms are identity, bucket, truncate, year, month, day, hour and void";
            return Err(wrong(key, text, known));
        }
    };
    match column.trim() {
        "" => Err(wrong(key, text, "no column")),
        column => Ok(PartitionText {
            column: column.to_owned(),
            transform,
        }),
    }
}

/// Reads `column [asc|desc] [nulls first|last]`.
pub(crate) fn sort(key: &str, text: &str) -> Result<SortText> {
    let (rest, null_order) = match ending(text, "nulls", &["first", "last"]) {
        Some((rest, "first")) => (rest, Some(NullOrder::First)),
        Some((rest, _)) => (rest, Some(NullOrder::Last)),
        None => (text.trim(), None),
    };
    let (column, direction) = match rest.rsplit_once(char::is_whitespace) {
        Some((column, word)) if word.eq_ignore_ascii_case("asc") => {
            (column, SortDirection::Ascending)
        }
        Some((column, word)) if word.eq_ignore_ascii_case("desc") => {
            (column, SortDirection::Descending)
        }
        _ => (rest, SortDirection::Ascending),
    };
    let null_order = null_order.unwrap_or(match direction {
        SortDirection::Ascending => NullOrder::First,
        SortDirection::Descending => NullOrder::Last,
    });
    match column.trim() {
        "" => Err(wrong(key, text, "no column")),
        column => Ok(SortText {
            column: column.to_owned(),
            direction,
            null_order,
        }),
    }
}

/// Reads `zorder(column, …)`; `None` for anything else.
pub(crate) fn z_order(key: &str, text: &str) -> Result<Option<Vec<String>>> {
    let call = text.trim().strip_suffix(')');
    let Some((name, columns)) = call.and_then(|text| text.split_once('(')) else {
        return Ok(None);
    };
    if !name.trim().eq_ignore_ascii_case("zorder") {
        return Ok(None);
    }
    let columns: Vec<String> = columns
        .split(',')
        .map(|column| column.trim().to_owned())
        .collect();
    if columns.len() < 2 || columns.iter().any(String::is_empty) {
        return Err(wrong(
            key,
            text,
            "give two columns or more, as in 'zorder(customer, created_at)'",
        ));
    }
    Ok(Some(columns))
}

/// Text that ends in `word` and one of `choices`: what comes before, and the choice.
fn ending<'t>(
    text: &'t str,
    word: &str,
    choices: &[&'static str],
) -> Option<(&'t str, &'static str)> {
    let (rest, last) = text.trim().rsplit_once(char::is_whitespace)?;
    let choice = choices
        .iter()
        .find(|choice| choice.eq_ignore_ascii_case(last))?;
    let (rest, before) = rest.trim().rsplit_once(char::is_whitespace)?;
    before
        .eq_ignore_ascii_case(word)
        .then_some((rest.trim(), *choice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_read() {
        for (text, column, transform) in [
            ("country", "country", Transform::Identity),
            (" identity( a ) ", "a", Transform::Identity),
            ("bucket(16, id)", "id", Transform::Bucket(16)),
            ("truncate(3,a name)", "a name", Transform::Truncate(3)),
            ("Days(at)", "at", Transform::Day),
            ("void(x)", "x", Transform::Void),
        ] {
            let found = partition("partition_by", text).unwrap();
            assert_eq!(
                (found.column.as_str(), found.transform),
                (column, transform),
                "{text}"
            );
        }
        for text in [
            "",
            "day()",
            "bucket(id)",
            "bucket(0, id)",
            "bucket(-1, id)",
            "week(at)",
            "bucket(2147483648, id)",
        ] {
            assert!(
                matches!(partition("partition_by", text), Err(ExportError::Config(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn z_orders_are_read() {
        let columns = |text| z_order("sort_by", text).unwrap();
        assert_eq!(
            columns(" ZOrder( a , b c)"),
            Some(vec!["a".to_owned(), "b c".to_owned()])
        );
        for text in ["a", "a desc", "bucket(a, b)"] {
            assert_eq!(columns(text), None, "{text}");
        }
        for text in ["zorder()", "zorder(a)", "zorder(a,)"] {
            assert!(
                matches!(z_order("sort_by", text), Err(ExportError::Config(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn orders_are_read() {
        use NullOrder::{First, Last};
        use SortDirection::{Ascending, Descending};
        for (text, column, direction, null_order) in [
            ("a", "a", Ascending, First),
            ("a desc", "a", Descending, Last),
            ("a  DESC nulls first", "a", Descending, First),
            ("a name asc nulls last ", "a name", Ascending, Last),
            ("nulls nulls last", "nulls", Ascending, Last),
        ] {
            let found = sort("sort_by", text).unwrap();
            let expected = SortText {
                column: column.into(),
                direction,
                null_order,
            };
            assert_eq!(found, expected, "{text}");
        }
        assert!(sort("sort_by", " ").is_err());
    }
}
