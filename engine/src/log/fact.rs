//! The records that hold no rows: a table's schema, and the steps of an export.

use uuid::Uuid;

use crate::codec::row::{decode_value, encode_value};
use crate::codec::{Malformed, Reader, len_u32, put_blob, put_u32, put_u64};
use crate::exported::ExportFile;
use crate::schema::ShardKey;
use crate::schema::past::PastVersion;
use crate::schema::{ColumnType, NESTING_DEPTH_MAX, NestedField, TableSchema, some_text};

pub(crate) fn encode_table(table_id: u32, schema: &TableSchema) -> Vec<u8> {
    let mut out = Vec::new();
    put_u32(&mut out, table_id);
    put_blob(&mut out, schema.name().as_bytes());
    put_u32(&mut out, len_u32(schema.columns().len()));
    for column in schema.columns() {
        put_blob(&mut out, column.name.as_bytes());
        encode_type(column.column_type, &mut out);
        out.push(u8::from(column.nullable));
        put_u32(&mut out, column.field_id.unsigned_abs());
    }
    put_u32(&mut out, len_u32(schema.primary_key().len()));
    for &position in schema.primary_key() {
        put_u32(&mut out, len_u32(position));
    }
    encode_shard_key(schema.shard_key(), &mut out);
    encode_versions(schema, &mut out);
    put_blob(&mut out, schema.comment().unwrap_or_default().as_bytes());
    for column in schema.columns() {
        put_blob(
            &mut out,
            column.comment.as_deref().unwrap_or_default().as_bytes(),
        );
    }
    out
}

/// What is known of past versions, and of columns that were added to rows that were there.
fn encode_versions(schema: &TableSchema, out: &mut Vec<u8>) {
    out.push(u8::from(schema.has_row_versions()));
    put_u32(out, schema.last_field_id().unsigned_abs());
    for column in schema.columns() {
        out.push(u8::from(column.default.is_some()));
        if let Some(default) = &column.default {
            encode_value(default.into(), out);
        }
    }
    put_u32(out, len_u32(schema.past_versions().len()));
    for past in schema.past_versions() {
        put_u64(out, past.until_seq);
        put_u32(out, len_u32(past.columns.len()));
        for (field_id, column_type) in &past.columns {
            put_u32(out, field_id.unsigned_abs());
            encode_type(*column_type, out);
        }
    }
}

fn decode_field_id(reader: &mut Reader<'_>) -> Result<i32, Malformed> {
    i32::try_from(reader.u32()?).map_err(|_| Malformed("field id out of range"))
}

fn encode_shard_key(shard_key: ShardKey, out: &mut Vec<u8>) {
    let (kind, count) = match shard_key {
        ShardKey::PrimaryKey => (0, 0),
        ShardKey::Prefix(count) => (1, count),
        ShardKey::PrefixBytes(count) => (2, count),
        ShardKey::Range => (3, 0),
    };
    put_u32(out, kind);
    put_u32(out, count);
}

fn decode_shard_key(reader: &mut Reader<'_>) -> Result<ShardKey, Malformed> {
    match (reader.u32()?, reader.u32()?) {
        (0, 0) => Ok(ShardKey::PrimaryKey),
        (1, count) => Ok(ShardKey::Prefix(count)),
        (2, count) => Ok(ShardKey::PrefixBytes(count)),
        (3, 0) => Ok(ShardKey::Range),
        _ => Err(Malformed("a shard key of an unknown kind")),
    }
}

const LIST: &str = "list";
const STRUCT: &str = "struct";
const MAP: &str = "map";

fn encode_type(column_type: ColumnType, out: &mut Vec<u8>) {
    let name = match column_type {
        ColumnType::List(_) => LIST,
        ColumnType::Struct(_) => STRUCT,
        ColumnType::Map(_) => MAP,
        plain => return put_blob(out, plain.to_string().as_bytes()),
    };
    put_blob(out, name.as_bytes());
    let fields = column_type.nested_fields();
    put_u32(out, len_u32(fields.len()));
    for field in fields {
        put_blob(out, field.name.as_bytes());
        encode_type(field.column_type, out);
        out.push(u8::from(field.nullable));
        put_u32(out, field.field_id.unsigned_abs());
        put_blob(out, field.comment.as_deref().unwrap_or_default().as_bytes());
    }
}

/// Reads a type that lies in so many others.
fn decode_type(reader: &mut Reader<'_>, depth: usize) -> Result<ColumnType, Malformed> {
    let name = reader.text()?;
    if !matches!(name, LIST | STRUCT | MAP) {
        return name.parse().map_err(|_| Malformed("unknown column type"));
    }
    if depth >= NESTING_DEPTH_MAX {
        return Err(Malformed("too many types within each other"));
    }
    let fields = (0..reader.count(17)?)
        .map(|_| {
            let name = reader.text()?;
            let column_type = decode_type(reader, depth + 1)?;
            let nullable = reader.u8()? != 0;
            Ok(NestedField {
                field_id: decode_field_id(reader)?,
                comment: some_text(reader.text()?.to_owned()),
                ..NestedField::new(name, column_type, nullable)
            })
        })
        .collect::<Result<Vec<_>, Malformed>>()?;
    // Whether these are the parts that such a type has is checked with the schema.
    let of_kind = match name {
        LIST => ColumnType::list(ColumnType::Boolean, true),
        MAP => ColumnType::map(ColumnType::Boolean, ColumnType::Boolean, true),
        _ => ColumnType::structure([]),
    };
    Ok(of_kind.with_fields(fields))
}

fn decode_past(reader: &mut Reader<'_>) -> Result<PastVersion, Malformed> {
    Ok(PastVersion {
        until_seq: reader.u64()?,
        columns: (0..reader.count(8)?)
            .map(|_| Ok((decode_field_id(reader)?, decode_type(reader, 0)?)))
            .collect::<Result<_, Malformed>>()?,
    })
}

pub(crate) fn decode_table(body: &[u8]) -> Result<(u32, TableSchema), Malformed> {
    let mut reader = Reader::new(body);
    let table_id = reader.u32()?;
    let table_name = reader.text()?;
    let column_count = reader.count(13)?;
    let mut columns = Vec::with_capacity(column_count);
    for _ in 0..column_count {
        let (name, column_type) = (reader.text()?, decode_type(&mut reader, 0)?);
        let nullable = reader.u8()? != 0;
        columns.push((name, column_type, nullable, decode_field_id(&mut reader)?));
    }
    let mut primary_key = Vec::new();
    for _ in 0..reader.count(4)? {
        let column = columns.get(reader.u32()? as usize);
        let (name, ..) = column.ok_or(Malformed("key column out of range"))?;
        primary_key.push(*name);
    }
    // Up to format 3 every table was divided by the whole key, and its columns never changed.
    let is_old = reader.remaining().is_empty();
    let shard_key = match is_old {
        true => ShardKey::PrimaryKey,
        false => decode_shard_key(&mut reader)?,
    };
    let has_row_versions = !is_old && reader.u8()? != 0;
    let last_field_id = match is_old {
        true => 0,
        false => decode_field_id(&mut reader)?,
    };
    let mut builder = TableSchema::builder(table_name)
        .primary_key(primary_key)
        .shard_key(shard_key);
    for (name, column_type, nullable, field_id) in columns {
        builder = builder.column_with_id(name, column_type, nullable, field_id);
        if !is_old && reader.u8()? != 0 {
            let default = decode_value(column_type, &mut reader)?;
            builder = builder.with_default(default.to_value(column_type)?);
        }
    }
    if !is_old {
        let past_versions = (0..reader.count(12)?)
            .map(|_| decode_past(&mut reader))
            .collect::<Result<_, Malformed>>()?;
        builder = builder.with_past(last_field_id, past_versions);
    }
    // Up to version 3 of what the record stands in there were none.
    if !reader.remaining().is_empty() {
        let comment = reader.text()?;
        let comments = (0..column_count)
            .map(|_| reader.text())
            .collect::<Result<Vec<_>, Malformed>>()?;
        builder = builder.comment(comment).with_column_comments(&comments);
    }
    reader.finish()?;
    if !has_row_versions {
        builder = builder.without_row_versions();
    }
    let schema = builder
        .build()
        .map_err(|_| Malformed("a schema that can't be"))?;
    Ok((table_id, schema))
}

/// An export that is about to be committed to its catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExportPrepared {
    pub(crate) table_id: u32,
    pub(crate) commit_id: Uuid,
    pub(crate) from_seq: u64,
    pub(crate) to_seq: u64,
    pub(crate) files: Vec<ExportFile>,
    /// What becomes of older files; `None` where an older build did not say.
    pub(crate) older: Option<OlderFiles>,
}

/// What an export or a relocation takes from the files of those before, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OlderFiles {
    /// How many rows of each file count no more.
    pub(crate) taken: Vec<(u32, u64)>,
    /// Files that a relocation replaces; empty for an export.
    pub(crate) replaced: Vec<u32>,
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
        if let Some(older) = &self.older {
            put_u32(&mut out, len_u32(older.taken.len()));
            for (number, row_count) in &older.taken {
                put_u32(&mut out, *number);
                put_u64(&mut out, *row_count);
            }
            put_u32(&mut out, len_u32(older.replaced.len()));
            older
                .replaced
                .iter()
                .for_each(|number| put_u32(&mut out, *number));
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
        let older = match reader.remaining() {
            [] => None,
            _ => Some(OlderFiles {
                taken: (0..reader.count(12)?)
                    .map(|_| Ok((reader.u32()?, reader.u64()?)))
                    .collect::<Result<_, Malformed>>()?,
                replaced: (0..reader.count(4)?)
                    .map(|_| reader.u32())
                    .collect::<Result<_, Malformed>>()?,
            }),
        };
        reader.finish()?;
        Ok(ExportPrepared {
            table_id,
            commit_id,
            from_seq,
            to_seq,
            files,
            older,
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
    use crate::codec::check_bytes;
    use crate::exported::location::RowMark;
    use crate::log::export_keys::ExportKeysBody;
    use crate::log::format::SEGMENT_VERSION;

    #[test]
    fn shard_keys_round_trip() {
        for shard_key in [
            ShardKey::PrimaryKey,
            ShardKey::Prefix(2),
            ShardKey::PrefixBytes(8),
            ShardKey::Range,
        ] {
            let mut bytes = Vec::new();
            encode_shard_key(shard_key, &mut bytes);
            assert_eq!(decode_shard_key(&mut Reader::new(&bytes)), Ok(shard_key));
        }
    }

    /// A list of maps to structs, one part of which has a comment.
    fn nested() -> ColumnType {
        let mut part = NestedField::new("part", ColumnType::Uuid, false);
        part.comment = Some("Of what".to_owned());
        let parts = [part, NestedField::new("size", ColumnType::Date, true)];
        let parts = ColumnType::structure(parts);
        ColumnType::list(ColumnType::map(ColumnType::Utf8, parts, true), false)
    }

    #[test]
    fn tables_round_trip() {
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
            .column_comment("Counted from 1")
            .column("at", nested(), true)
            .comment("What an order is made of")
            .primary_key(["line", "note"])
            .shard_key(ShardKey::Prefix(1))
            .build()
            .unwrap();
        let record = encode_table(4, &schema);
        assert_eq!(decode_table(&record), Ok((4, schema.clone())));

        // Without comments it is the record of an older build.
        let comments = "Counted from 1".len() + "What an order is made of".len() + 4 * 5;
        let (id, older) = decode_table(&record[..record.len() - comments]).unwrap();
        assert_eq!((id, older.comment()), (4, None));
        assert!(
            older
                .columns()
                .iter()
                .all(|column| column.comment.is_none())
        );
        assert!(older.is_same_definition(&schema));
    }

    #[test]
    fn facts_round_trip() {
        let commit_id = Uuid::from_u128(11);
        let files = vec![ExportFile {
            path: "data/1.parquet".into(),
            row_count: 3,
        }];
        let older = OlderFiles {
            taken: vec![(3, 1), (4, 1 << 40)],
            replaced: vec![4],
        };
        for older in [None, Some(OlderFiles::default()), Some(older)] {
            let prepared = ExportPrepared {
                table_id: 1,
                commit_id,
                from_seq: 2,
                to_seq: 9,
                files: files.clone(),
                older,
            };
            assert_eq!(
                ExportPrepared::decode(&prepared.encode()),
                Ok(prepared.clone())
            );
        }
        for token in [None, Some("77".to_owned())] {
            let resolved = ExportResolved { commit_id, token };
            assert_eq!(
                ExportResolved::decode(&resolved.encode()),
                Ok(resolved.clone())
            );
        }
    }

    #[test]
    fn bytes_of_facts_change_with_their_version() {
        let schema = TableSchema::builder("shop.lines")
            .column("line", ColumnType::Int32, false)
            .column_comment("Counted from 1")
            .column("at", nested(), true)
            .comment("What an order is made of")
            .primary_key(["line"])
            .shard_key(ShardKey::Range)
            .build()
            .unwrap();
        let commit_id = Uuid::from_u128(11);
        let mut keys = ExportKeysBody::new(false);
        for (key, row_id) in [("a", None), ("b", Some(77))] {
            let put = |bytes: &mut Vec<u8>| {
                bytes.extend_from_slice(key.as_bytes());
                Ok::<(), ()>(())
            };
            keys.push_with(RowMark::of_row_id(row_id), put).unwrap();
        }
        let prepared = ExportPrepared {
            table_id: 1,
            commit_id,
            from_seq: 2,
            to_seq: 9,
            files: vec![ExportFile {
                path: "data/1.parquet".into(),
                row_count: 3,
            }],
            older: Some(OlderFiles {
                taken: vec![(3, 1)],
                replaced: vec![4],
            }),
        };
        let resolved = ExportResolved {
            commit_id,
            token: Some("77".to_owned()),
        };
        let all = [
            encode_table(4, &schema),
            keys.finish(commit_id),
            ExportKeysBody::new(true).finish(commit_id),
            prepared.encode(),
            resolved.encode(),
        ];
        check_bytes(
            "facts",
            &all.concat(),
            SEGMENT_VERSION,
            (6, 0xdb37_0f70_cf32_7654),
        );
    }
}
