//! What the server's catalog says about the tables: which there are, their columns, and which columns identify a row.

use moonshine_engine::{COMMENT_SIZE_BYTES_MAX, TableSchema};
use postgres_protocol::escape::escape_identifier;
use tokio_postgres::Client;

use super::config::TablePattern;
use super::pgoutput::Relation;
use super::sql::sql_error;
use super::types::PgType;
use crate::SourceError;

/// What `server_version_num` counts a major version as.
const VERSION_SCALE: i32 = 10_000;
/// First version that says everything this source asks for.
const SERVER_VERSION_MIN: i32 = 130_000;
/// First version of which this source can send and receive values in binary, as `server_version_num` has it.
pub(super) const BINARY_STREAM_VERSION: i32 = 140_000;

/// A table that is mirrored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceTable {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) is_partitioned: bool,
    /// What `COMMENT ON` said of it; may be empty.
    pub(super) comment: String,
    pub(super) columns: Vec<SourceColumn>,
    /// Positions in `columns` of those that identify a row, in key order.
    pub(super) key: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceColumn {
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) type_modifier: i32,
    pub(super) pg_type: PgType,
    pub(super) nullable: bool,
    /// What `COMMENT ON` said of it; may be empty.
    pub(super) comment: String,
}

impl SourceTable {
    /// The name under which the engine has the table.
    pub(super) fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The name for use in SQL.
    pub(super) fn quoted_name(&self) -> String {
        format!(
            "{}.{}",
            escape_identifier(&self.schema),
            escape_identifier(&self.name)
        )
    }

    /// The name for use in SQL, leaving out tables that inherit from this one. A partitioned table has its rows in
    /// such tables only.
    pub(super) fn quoted_name_only(&self) -> String {
        format!(
            "{}{}",
            if self.is_partitioned { "" } else { "ONLY " },
            self.quoted_name()
        )
    }

    pub(super) fn engine_schema(&self) -> Result<TableSchema, SourceError> {
        // PostgreSQL's comments may be longer.
        let cut = |comment: &str| {
            let end = comment.floor_char_boundary(COMMENT_SIZE_BYTES_MAX);
            comment.get(..end).unwrap_or_default().to_owned()
        };
        let mut builder = TableSchema::builder(self.full_name()).comment(cut(&self.comment));
        for column in &self.columns {
            builder = builder
                .column(&column.name, column.pg_type.column_type(), column.nullable)
                .column_comment(cut(&column.comment));
        }
        let key = self
            .key
            .iter()
            .filter_map(|&position| self.columns.get(position));
        Ok(builder
            .primary_key(key.map(|column| column.name.as_str()))
            .build()?)
    }

    /// Whether the stream describes this table as the catalog did.
    ///
    /// # Errors
    /// What differs.
    pub(super) fn check_relation(&self, relation: &Relation) -> Result<(), String> {
        let mut streamed = relation.columns.iter();
        for column in &self.columns {
            match streamed.next() {
                Some(other) if other.name != column.name => {
                    return Err(format!(
                        "its column '{}' is now '{}'",
                        column.name, other.name
                    ));
                }
                Some(other)
                    if (other.type_oid, other.type_modifier)
                        != (column.type_oid, column.type_modifier) =>
                {
                    return Err(format!("the type of its column '{}' changed", column.name));
                }
                Some(_) => {}
                None => return Err(format!("its column '{}' was dropped", column.name)),
            }
        }
        if let Some(added) = streamed.next() {
            return Err(format!("a column '{}' was added", added.name));
        }
        // With the full row as identity every column is flagged, and the key is still the primary key.
        let is_identity = |position: usize| self.key.contains(&position);
        let mut flagged = relation.columns.iter().enumerate();
        match relation.replica_identity {
            b'f' => Ok(()),
            b'n' => Err("its replica identity is NOTHING now".into()),
            _ if flagged.all(|(position, column)| column.is_key == is_identity(position)) => Ok(()),
            _ => Err("its primary key or replica identity changed".into()),
        }
    }
}

/// Checks that the server can decode its log, and says which version it has (`server_version_num`).
pub(super) async fn check_server(client: &Client) -> Result<i32, SourceError> {
    let query = "SELECT current_setting('wal_level'), current_setting('server_version_num')::int4";
    let row = client
        .query_one(query, &[])
        .await
        .map_err(|error| sql_error("reading its settings", &error))?;
    let (wal_level, version): (String, i32) = (get(&row, 0)?, get(&row, 1)?);
    if wal_level != "logical" {
        return Err(SourceError::Config(format!(
            "PostgreSQL has wal_level = {wal_level}, logical replication needs wal_level = logical: set it (ALTER \
             SYSTEM SET wal_level = 'logical') and restart the server"
        )));
    }
    if version < SERVER_VERSION_MIN {
        return Err(SourceError::Config(format!(
            "PostgreSQL is of version {}, this source needs {} or newer",
            version / VERSION_SCALE,
            SERVER_VERSION_MIN / VERSION_SCALE
        )));
    }
    Ok(version)
}

/// The tables that the patterns stand for, by name.
pub(super) async fn load_tables(
    client: &Client,
    patterns: &[TablePattern],
) -> Result<Vec<SourceTable>, SourceError> {
    let query = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relispartition, \
                 c.relreplident::text, coalesce(obj_description(c.oid, 'pg_class'), '') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND n.nspname NOT LIKE 'pg\\_%' \
                 AND n.nspname <> 'information_schema' ORDER BY n.nspname, c.relname";
    let rows = client
        .query(query, &[])
        .await
        .map_err(|error| sql_error("reading its tables", &error))?;
    let mut matched = vec![false; patterns.len()];
    let mut tables = Vec::new();
    for row in &rows {
        let (schema, name): (String, String) = (get(row, 1)?, get(row, 2)?);
        let is_partition: bool = get(row, 4)?;
        let mut wanted = false;
        for (pattern, matched) in patterns.iter().zip(&mut matched) {
            // The rows of a partition are mirrored as its parent's, unless it is named itself.
            let applies = pattern.matches(&schema, &name) && (!is_partition || pattern.is_exact());
            wanted |= applies;
            *matched |= applies;
        }
        if wanted {
            let (oid, kind, identity): (u32, String, String) =
                (get(row, 0)?, get(row, 3)?, get(row, 5)?);
            let mut table = SourceTable {
                oid,
                schema,
                name,
                is_partitioned: kind == "p",
                comment: get(row, 6)?,
                columns: Vec::new(),
                key: Vec::new(),
            };
            table.columns = load_columns(client, &table).await?;
            table.key = load_key(client, &table, &identity).await?;
            tables.push(table);
        }
    }
    match patterns.iter().zip(matched).find(|(_, matched)| !matched) {
        Some((pattern, _)) => Err(SourceError::Config(format!(
            "postgres.tables: no table of the database fits '{pattern}' (temporary and unlogged tables can't be mirrored)"
        ))),
        None => Ok(tables),
    }
}

async fn load_columns(
    client: &Client,
    table: &SourceTable,
) -> Result<Vec<SourceColumn>, SourceError> {
    // Generated columns are not in the stream before PostgreSQL 18.
    let query = "SELECT attname::text, atttypid, atttypmod, attnotnull, format_type(atttypid, atttypmod), \
                 coalesce(col_description(attrelid, attnum), '') FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attgenerated = '' \
                 ORDER BY attnum";
    let rows = client
        .query(query, &[&table.oid])
        .await
        .map_err(|error| sql_error("reading columns", &error))?;
    let mut columns = Vec::with_capacity(rows.len());
    for row in &rows {
        let (name, type_oid, type_modifier): (String, u32, i32) =
            (get(row, 0)?, get(row, 1)?, get(row, 2)?);
        let (not_null, type_name): (bool, String) = (get(row, 3)?, get(row, 4)?);
        let Some(pg_type) = PgType::of(type_oid, type_modifier) else {
            return Err(SourceError::Config(format!(
                "table '{}', column '{name}': the type {type_name} is not supported",
                table.full_name()
            )));
        };
        columns.push(SourceColumn {
            name,
            type_oid,
            type_modifier,
            pg_type,
            nullable: !not_null,
            comment: get(row, 5)?,
        });
    }
    Ok(columns)
}

/// The columns of the index that identifies rows in the stream.
async fn load_key(
    client: &Client,
    table: &SourceTable,
    identity: &str,
) -> Result<Vec<usize>, SourceError> {
    let name = table.full_name();
    let quoted = table.quoted_name();
    if identity == "n" {
        return Err(SourceError::Config(format!(
            "table '{name}' has REPLICA IDENTITY NOTHING, so its updates and deletes can't be mirrored: ALTER TABLE \
             {quoted} REPLICA IDENTITY DEFAULT"
        )));
    }
    let query = "SELECT a.attname::text FROM pg_index i \
                 CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, position) \
                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
                 WHERE i.indrelid = $1 AND i.indimmediate AND i.indisvalid AND k.position <= i.indnkeyatts \
                 AND CASE WHEN $2 THEN i.indisreplident ELSE i.indisprimary END ORDER BY k.position";
    let by_index = identity == "i";
    let rows = client
        .query(query, &[&table.oid, &by_index])
        .await
        .map_err(|error| sql_error("reading keys", &error))?;
    let mut key = Vec::with_capacity(rows.len());
    for row in &rows {
        let column: String = get(row, 0)?;
        match table.columns.iter().position(|other| other.name == column) {
            Some(position) => key.push(position),
            None => {
                return Err(SourceError::Config(format!(
                    "table '{name}': its key column '{column}' is generated, and generated columns are not in the stream"
                )));
            }
        }
    }
    if key.is_empty() {
        return Err(SourceError::Config(format!(
            "table '{name}' has no primary key (that is not deferrable): add one (ALTER TABLE {quoted} ADD PRIMARY KEY \
             (…)) or name a unique index over not-null columns (ALTER TABLE {quoted} REPLICA IDENTITY USING INDEX …)"
        )));
    }
    Ok(key)
}

/// Estimates how many bytes a copy of the tables will read.
pub(super) async fn total_bytes(
    client: &Client,
    tables: &[SourceTable],
) -> Result<u64, SourceError> {
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let query = "SELECT coalesce(sum(pg_relation_size(coalesce(p.relid, t.oid))), 0)::int8 \
                 FROM unnest($1::oid[]) AS t(oid) LEFT JOIN LATERAL pg_partition_tree(t.oid) p ON true";
    let row = client
        .query_one(query, &[&oids])
        .await
        .map_err(|error| sql_error("reading table sizes", &error))?;
    let size_bytes: i64 = get(&row, 0)?;
    Ok(u64::try_from(size_bytes).unwrap_or(0))
}

/// A column of a catalog row.
pub(super) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a tokio_postgres::Row,
    position: usize,
) -> Result<T, SourceError> {
    row.try_get(position)
        .map_err(|error| sql_error("reading the catalog", &error))
}

#[cfg(test)]
mod tests {
    use tokio_postgres::types::Type;

    use super::super::pgoutput::RelationColumn;
    use super::*;

    fn table() -> SourceTable {
        let column = |name: &str, nullable| SourceColumn {
            name: name.to_owned(),
            type_oid: Type::INT4.oid(),
            type_modifier: -1,
            pg_type: PgType::Int4,
            nullable,
            comment: String::new(),
        };
        SourceTable {
            oid: 1,
            schema: "sales".to_owned(),
            name: "Orders \"x\"".to_owned(),
            is_partitioned: false,
            comment: String::new(),
            columns: vec![column("id", false), column("amount", true)],
            key: vec![0],
        }
    }

    fn relation() -> Relation {
        let column = |name: &str, is_key| RelationColumn {
            is_key,
            name: name.to_owned(),
            type_oid: Type::INT4.oid(),
            type_modifier: -1,
        };
        Relation {
            id: 1,
            schema: "sales".to_owned(),
            table: "Orders \"x\"".to_owned(),
            replica_identity: b'd',
            columns: vec![column("id", true), column("amount", false)],
        }
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(
            table().quoted_name_only(),
            "ONLY \"sales\".\"Orders \"\"x\"\"\""
        );
    }

    #[test]
    fn each_change_of_a_tables_shape_is_told_apart() {
        type Change = fn(&mut Relation);
        let cases: [(Change, &str); 6] = [
            (
                |relation| relation.columns[1].name = "sum".into(),
                "'amount' is now 'sum'",
            ),
            (
                |relation| relation.columns[1].type_oid = Type::INT8.oid(),
                "type of its column 'amount'",
            ),
            (
                |relation| drop(relation.columns.pop()),
                "'amount' was dropped",
            ),
            (
                |relation| relation.columns.push(relation.columns[1].clone()),
                "'amount' was added",
            ),
            (
                |relation| relation.columns[1].is_key = true,
                "replica identity changed",
            ),
            (|relation| relation.replica_identity = b'n', "NOTHING"),
        ];
        for (change, words) in cases {
            let mut relation = relation();
            assert_eq!(table().check_relation(&relation), Ok(()));
            change(&mut relation);
            let reason = table().check_relation(&relation).unwrap_err();
            assert!(reason.contains(words), "{reason}");
        }
    }

    #[test]
    fn with_the_full_row_as_identity_every_column_may_be_flagged() {
        let mut relation = relation();
        relation.replica_identity = b'f';
        relation
            .columns
            .iter_mut()
            .for_each(|column| column.is_key = true);
        assert_eq!(table().check_relation(&relation), Ok(()));
    }
}
