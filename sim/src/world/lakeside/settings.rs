//! How a process exports the tables, as a seed draws it.

use moonshine_export::{
    FormatVersion, LayoutSettings, MaintenanceSettings, SettingsByTable, TableSettings,
};

use super::names::Names;
use crate::model::tables::TABLE_COUNT;
use crate::random::Stream;

/// Partitions and orders of each table, by columns that nobody changes.
const LAYOUTS: [(&[&str], &[&str]); TABLE_COUNT] = [
    (
        &["bucket(3, line)", "truncate(1, shop)", "shop"],
        &["amount desc", "at"],
    ),
    (&["bucket(3, key)", "truncate(1, key)"], &["value"]),
    (&["bucket(2, id)"], &["id desc"]),
    (&["truncate(10, id)", "bucket(2, id)"], &["id desc"]),
];

fn texts(text: Option<&str>) -> Option<Vec<String>> {
    Some(text.into_iter().map(str::to_owned).collect())
}

fn layout(table: usize, stream: &mut Stream) -> LayoutSettings {
    let (partitions, orders) = LAYOUTS[table];
    let mut one_of = |from: &[&'static str]| {
        let is_given = stream.chance(500);
        is_given.then(|| stream.pick(from))
    };
    LayoutSettings {
        partition_by: texts(one_of(partitions)),
        sort_by: texts(one_of(orders)),
        ..LayoutSettings::default()
    }
}

/// What each table is exported with.
pub(super) fn draw(
    names: &Names,
    format_version: FormatVersion,
    target_file_size_bytes: u64,
    stream: &mut Stream,
) -> SettingsByTable {
    let all = TableSettings {
        format_version,
        target_file_size_bytes,
        maintenance: MaintenanceSettings {
            snapshots_min: 2,
            snapshots_max: 6,
            manifests_max: 3,
            ..MaintenanceSettings::default()
        },
        ..TableSettings::default()
    };
    (0..TABLE_COUNT).fold(all.clone().into(), |settings: SettingsByTable, table| {
        let layout = layout(table, stream);
        settings.with(
            names.name(table),
            TableSettings {
                layout,
                ..all.clone()
            },
        )
    })
}
