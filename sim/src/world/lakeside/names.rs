//! The tables by the names that they have in the lake.

use iceberg::TableIdent;

use crate::model::tables::schemas;

/// The tables in their order, with the field ids of their keys.
#[derive(Debug)]
pub(super) struct Names(Vec<(String, TableIdent, Vec<i32>)>);

impl Names {
    pub(super) fn new() -> Self {
        let schemas = schemas(0);
        let named = schemas.iter().map(|schema| {
            let name = schema.name().to_owned();
            let (namespace, table) = name.rsplit_once('.').unwrap_or(("default", &name));
            let ident = TableIdent::from_strs([namespace, table]).unwrap();
            let key = schema.primary_key().iter();
            let key = key.map(|&position| schema.columns()[position].field_id);
            (name.clone(), ident, key.collect())
        });
        Names(named.collect())
    }

    /// The number of a table.
    pub(super) fn table(&self, ident: &TableIdent) -> Option<usize> {
        self.0.iter().position(|(_, known, _)| known == ident)
    }

    pub(super) fn name(&self, table: usize) -> &str {
        &self.0[table].0
    }

    pub(super) fn ident(&self, table: usize) -> &TableIdent {
        &self.0[table].1
    }

    pub(super) fn key(&self, table: usize) -> &[i32] {
        &self.0[table].2
    }
}
