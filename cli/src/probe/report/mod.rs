//! The report as a file that stands by itself: an HTML page, or the curves alone as SVG.
//!
//! [`charts`] takes from the report what is drawn, [`chart`] draws it as SVG with the help of [`scale`], [`page`] puts
//! the charts between headline numbers and tables. A file holds no script and loads nothing; colours follow the
//! reader's choice of light or dark.

mod chart;
mod charts;
mod page;
mod scale;
mod tables;

use std::path::Path;

use moonshine_sysprobe::Report;

use crate::error::CliError;

/// What a report file can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReportFormat {
    Html,
    Svg,
}

impl ReportFormat {
    /// The format that a file's extension stands for.
    pub(super) fn of(path: &Path) -> Result<Self, CliError> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("html" | "htm") => Ok(ReportFormat::Html),
            Some("svg") => Ok(ReportFormat::Svg),
            _ => Err(CliError::Arguments(format!(
                "--report: {} ends neither in .html nor in .svg",
                path.display()
            ))),
        }
    }

    /// The report in this format.
    pub(super) fn render(self, report: &Report) -> String {
        let charts = charts::charts(report);
        match self {
            ReportFormat::Html => page::page(report, &charts),
            ReportFormat::Svg => chart::svg_of_all(&charts, &page::title(report)),
        }
    }
}

/// Text with the characters that HTML and XML have for themselves written out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_says_the_format() {
        for (name, expected) in [
            ("a.html", Some(ReportFormat::Html)),
            ("a.HTM", Some(ReportFormat::Html)),
            ("a.b.svg", Some(ReportFormat::Svg)),
            ("a.pdf", None),
            ("svg", None),
        ] {
            assert_eq!(ReportFormat::of(name.as_ref()).ok(), expected, "{name}");
        }
    }

    #[test]
    fn nothing_of_a_text_is_taken_for_markup() {
        assert_eq!(
            escaped("<a href=\"x\">&"),
            "&lt;a href=&quot;x&quot;&gt;&amp;"
        );
    }
}
