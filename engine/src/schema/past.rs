//! Past versions of a table's schema, and how their rows become rows of today.

use super::{ColumnType, TableSchema};

/// What the rows of a past version hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PastVersion {
    /// The columns outside the key, in their order.
    pub(crate) columns: Vec<(i32, ColumnType)>,
    /// Rows of later versions were committed after this sequence.
    pub(crate) until_seq: u64,
}

/// How a row of a past version becomes one of the current version.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Translation {
    /// For each column of the past version outside the key: its type, and its place and type among those of today.
    steps: Vec<(ColumnType, Option<(usize, ColumnType)>)>,
    /// For each of today's columns outside the key: its position in the schema.
    positions: Vec<usize>,
    /// Whether rows of the past version are rows of this one as they are: names and comments alone differ.
    is_identity: bool,
}

impl Translation {
    /// The translation of rows that hold these columns, given by field id.
    pub(crate) fn new(schema: &TableSchema, past: &[(i32, ColumnType)]) -> Self {
        let positions: Vec<usize> = (0..schema.columns().len())
            .filter(|position| !schema.is_key(*position))
            .collect();
        let today = |field_id: i32| {
            let columns = positions.iter().enumerate();
            columns
                .filter_map(|(place, &position)| Some((place, schema.columns().get(position)?)))
                .find(|(_, column)| column.field_id == field_id)
                .map(|(place, column)| (place, column.column_type))
        };
        let steps: Vec<_> = past
            .iter()
            .map(|&(field_id, column_type)| (column_type, today(field_id)))
            .collect();
        let mut places = steps.iter().enumerate();
        let is_identity = steps.len() == positions.len()
            && places.all(|(place, (column_type, today))| {
                today.is_some_and(|(today_place, today_type)| {
                    today_place == place && column_type.is_encoded_as(today_type)
                })
            });
        Translation {
            steps,
            positions,
            is_identity,
        }
    }

    /// Whether rows of the past version are rows of this one as they are.
    pub(crate) fn is_identity(&self) -> bool {
        self.is_identity
    }

    /// For each column of the past version outside the key: its type, and its place and type among those of today.
    pub(crate) fn steps(&self) -> &[(ColumnType, Option<(usize, ColumnType)>)] {
        &self.steps
    }

    /// For each of today's columns outside the key: its position in the schema.
    pub(crate) fn positions(&self) -> &[usize] {
        &self.positions
    }
}
