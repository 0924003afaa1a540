//! How far a `file` source is: what its origins hold.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The place after a line. Stored as JSON text in the origin of the transaction that the line ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Position {
    /// The file's name, without its folder, so that the folder may move; `-` for standard input.
    pub(crate) file: Arc<str>,
    /// Bytes from the file's start to the byte after the line.
    pub(crate) offset: u64,
    /// The line's number, from 1.
    pub(crate) line: u64,
    /// In a folder: how many files come before this one. One more of them later would never be read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) files_before: u64,
    /// For standard input, which is applied from its first byte each time: how many runs read it, so that the position
    /// of a source never moves back.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) run: u64,
    /// The table of the delete that the line was, if it was one: the tombstone that may follow doesn't name its table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deleted_from: Option<Arc<str>>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Position {
    /// The start of a file.
    pub(crate) fn start_of(file: Arc<str>) -> Self {
        Position {
            file,
            offset: 0,
            line: 0,
            files_before: 0,
            run: 0,
            deleted_from: None,
        }
    }

    /// Reads what [`to_text`](Self::to_text) wrote.
    pub(crate) fn from_text(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| {
            format!("the stored position '{text}' is not of a file source: {error}")
        })
    }

    /// The text for an origin.
    pub(crate) fn to_text(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_short_and_reads_back() {
        let mut position = Position {
            offset: 120,
            line: 3,
            ..Position::start_of("a.jsonl".into())
        };
        let text = position.to_text().unwrap();
        assert_eq!(text, r#"{"file":"a.jsonl","offset":120,"line":3}"#);
        assert_eq!(Position::from_text(&text).unwrap(), position);
        position.files_before = 4;
        position.run = 2;
        position.deleted_from = Some("shop.orders".into());
        assert_eq!(
            Position::from_text(&position.to_text().unwrap()).unwrap(),
            position
        );
        assert!(
            Position::from_text("0/1234")
                .unwrap_err()
                .contains("0/1234")
        );
    }
}
