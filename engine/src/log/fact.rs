//! The records that hold no rows: a table's schema, and the steps of an export.

use uuid::Uuid;

use crate::codec::{Malformed, Reader, len_u32, put_blob, put_u32, put_u64};
use crate::export::ExportFile;
use crate::schema::{ColumnType, TableSchema};
use crate::shard_key::ShardKey;

pub(crate) fn encode_table(table_id: u32, schema: &TableSchema) -> Vec<u8> {
    let mut out = Vec::new();
    put_u32(&mut out, table_id);
    put_blob(&mut out, schema.name().as_bytes());
    put_u32(&mut out, len_u32(schema.columns().len()));
    for column in schema.columns() {
        put_blob(&mut out, column.name.as_bytes());
        put_blob(&mut out, column.column_type.to_string().as_bytes());
        out.push(u8::from(column.nullable));
        put_u32(&mut out, column.field_id.unsigned_abs());
    }
    put_u32(&mut out, len_u32(schema.primary_key().len()));
    for &position in schema.primary_key() {
        put_u32(&mut out, len_u32(position));
    }
    schema.shard_key().encode(&mut out);
    out
}

pub(crate) fn decode_table(body: &[u8]) -> Result<(u32, TableSchema), Malformed> {
    let mut reader = Reader::new(body);
    let table_id = reader.u32()?;
    let mut builder = TableSchema::builder(reader.text()?);
    let column_count = reader.count(13)?;
    let mut names = Vec::with_capacity(column_count);
    for _ in 0..column_count {
        let name = reader.text()?;
        let column_type: ColumnType = reader
            .text()?
            .parse()
            .map_err(|_| Malformed("unknown column type"))?;
        let nullable = reader.u8()? != 0;
        let field_id =
            i32::try_from(reader.u32()?).map_err(|_| Malformed("field id out of range"))?;
        builder = builder.column_with_id(name, column_type, nullable, field_id);
        names.push(name);
    }
    let mut primary_key = Vec::new();
    for _ in 0..reader.count(4)? {
        primary_key.push(
            *names
                .get(reader.u32()? as usize)
                .ok_or(Malformed("key column out of range"))?,
        );
    }
    // Up to format 3 every table was divided by the whole key.
    let shard_key = if reader.remaining().is_empty() {
        ShardKey::PrimaryKey
    } else {
        ShardKey::decode(&mut reader)?
    };
    reader.finish()?;
    let schema = builder
        .primary_key(primary_key)
        .shard_key(shard_key)
        .build()
        .map_err(|_| Malformed("a schema that can't be"))?;
    Ok((table_id, schema))
}

/// Keys of an export, as many as one record takes; those of the rows in its files come first, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExportKeys<'a> {
    pub(crate) commit_id: Uuid,
    /// Whether the keys are of rows that the export takes away without replacing, not of rows in its files.
    pub(crate) cleared: bool,
    pub(crate) keys: Vec<&'a [u8]>,
}

impl<'a> ExportKeys<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(21 + self.keys.iter().map(|key| key.len() + 4).sum::<usize>());
        out.extend_from_slice(self.commit_id.as_bytes());
        out.push(u8::from(self.cleared));
        put_u32(&mut out, len_u32(self.keys.len()));
        for key in &self.keys {
            put_blob(&mut out, key);
        }
        out
    }

    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let commit_id = Uuid::from_bytes(reader.array()?);
        let cleared = reader.u8()? != 0;
        let keys = (0..reader.count(4)?)
            .map(|_| reader.blob())
            .collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(ExportKeys {
            commit_id,
            cleared,
            keys,
        })
    }
}

/// An export that is about to be committed to its catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExportPrepared {
    pub(crate) table_id: u32,
    pub(crate) commit_id: Uuid,
    pub(crate) from_seq: u64,
    pub(crate) to_seq: u64,
    pub(crate) files: Vec<ExportFile>,
}

impl ExportPrepared {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_u32(&mut out, self.table_id);
        out.extend_from_slice(self.commit_id.as_bytes());
        put_u64(&mut out, self.from_seq);
        put_u64(&mut out, self.to_seq);
        put_u32(&mut out, len_u32(self.files.len()));
        for file in &self.files {
            put_blob(&mut out, file.path.as_bytes());
            put_u64(&mut out, file.row_count);
        }
        out
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let table_id = reader.u32()?;
        let commit_id = Uuid::from_bytes(reader.array()?);
        let (from_seq, to_seq) = (reader.u64()?, reader.u64()?);
        let files = (0..reader.count(12)?)
            .map(|_| {
                Ok(ExportFile {
                    path: reader.text()?.to_owned(),
                    row_count: reader.u64()?,
                })
            })
            .collect::<Result<_, Malformed>>()?;
        reader.finish()?;
        Ok(ExportPrepared {
            table_id,
            commit_id,
            from_seq,
            to_seq,
            files,
        })
    }
}

/// The outcome of a prepared export: the catalog's token of it, or `None` where it was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExportResolved {
    pub(crate) commit_id: Uuid,
    pub(crate) token: Option<String>,
}

impl ExportResolved {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.commit_id.as_bytes().to_vec();
        match &self.token {
            None => out.push(0),
            Some(token) => {
                out.push(1);
                put_blob(&mut out, token.as_bytes());
            }
        }
        out
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let commit_id = Uuid::from_bytes(reader.array()?);
        let token = match reader.u8()? {
            0 => None,
            _ => Some(reader.text()?.to_owned()),
        };
        reader.finish()?;
        Ok(ExportResolved { commit_id, token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_round_trip() {
        let schema = TableSchema::builder("shop.lines")
            .column_with_id("note", ColumnType::Utf8, true, 7)
            .column_with_id(
                "price",
                ColumnType::Decimal {
                    precision: 10,
                    scale: 2,
                },
                true,
                2,
            )
            .column_with_id("line", ColumnType::Int32, false, 3)
            .primary_key(["line", "note"])
            .shard_key(ShardKey::Prefix(1))
            .build()
            .unwrap();
        assert_eq!(decode_table(&encode_table(4, &schema)), Ok((4, schema)));

        let commit_id = Uuid::from_u128(11);
        let keys = ExportKeys {
            commit_id,
            cleared: true,
            keys: vec![b"a", b"", b"bc"],
        };
        assert_eq!(ExportKeys::decode(&keys.encode()), Ok(keys.clone()));
        let files = vec![ExportFile {
            path: "data/1.parquet".into(),
            row_count: 3,
        }];
        let prepared = ExportPrepared {
            table_id: 1,
            commit_id,
            from_seq: 2,
            to_seq: 9,
            files,
        };
        assert_eq!(
            ExportPrepared::decode(&prepared.encode()),
            Ok(prepared.clone())
        );
        for token in [None, Some("77".to_owned())] {
            let resolved = ExportResolved { commit_id, token };
            assert_eq!(
                ExportResolved::decode(&resolved.encode()),
                Ok(resolved.clone())
            );
        }
    }
}
