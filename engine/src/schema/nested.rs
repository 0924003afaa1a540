//! Types that hold other types: lists, structs and maps.
//!
//! A [`ColumnType`] is copied wherever rows are read, so that of a nested one is a reference: each is kept once, for as long
//! as the process lives. There are as many as tables have had such columns.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::{COMMENT_SIZE_BYTES_MAX, ColumnType};

/// How many types may lie within each other.
pub const NESTING_DEPTH_MAX: usize = 32;

/// What is kept of nested types. Its lock is a real one also in a simulation: what a process keeps outlives a run, and belongs to
/// all that it runs side by side.
static KEPT: LazyLock<Mutex<HashSet<&'static Vec<NestedField>>>> = LazyLock::new(Mutex::default);

/// What a nested type holds: the element of a list, the fields of a struct, key and value of a map.
///
/// ```
/// use moonshine_engine::ColumnType;
/// let ColumnType::Map(counts) = ColumnType::map(ColumnType::Utf8, ColumnType::Int64, false) else {
///     unreachable!("a map")
/// };
/// let names: Vec<_> = counts.fields().iter().map(|part| part.name.as_str()).collect();
/// assert_eq!(names, ["key", "value"]);
/// ```
#[derive(Clone, Copy)]
pub struct NestedType(&'static Vec<NestedField>);

/// Each is kept once, so equal ones are the same.
impl PartialEq for NestedType {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for NestedType {}

impl std::hash::Hash for NestedType {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::ptr::hash(self.0, state);
    }
}

impl NestedType {
    fn new(fields: Vec<NestedField>) -> Self {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.get(&fields) {
            return NestedType(known);
        }
        let fields: &'static Vec<NestedField> = Box::leak(Box::new(fields));
        kept.insert(fields);
        NestedType(fields)
    }

    /// Its parts, in order.
    pub fn fields(self) -> &'static [NestedField] {
        self.0
    }
}

impl std::fmt::Debug for NestedType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A part of a nested type, with an identity of its own.
///
/// ```
/// use moonshine_engine::{ColumnType, NestedField};
/// let address = ColumnType::structure([
///     NestedField::new("street", ColumnType::Utf8, true),
///     NestedField::new("zip", ColumnType::Int32, false),
/// ]);
/// assert_eq!(address.to_string(), "struct<street: string, zip: int32 not null>");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NestedField {
    /// Its name: unique in a struct, `element` in a list, `key` and `value` in a map.
    pub name: String,
    /// Its type.
    pub column_type: ColumnType,
    /// Whether it may be null. The key of a map may not.
    pub nullable: bool,
    /// Its identity, of the same numbers as those of columns; 0 until the table gives it one.
    pub field_id: i32,
    /// What it means, for people.
    pub comment: Option<String>,
}

impl NestedField {
    /// A part that gets its field id from the table.
    pub fn new(name: impl Into<String>, column_type: ColumnType, nullable: bool) -> Self {
        NestedField {
            name: name.into(),
            column_type,
            nullable,
            field_id: 0,
            comment: None,
        }
    }
}

impl ColumnType {
    /// A list of elements of a type, which may be null or not.
    ///
    /// ```
    /// use moonshine_engine::{ColumnType, Database, Options, TableSchema, Value};
    /// # let folder = tempfile::tempdir()?;
    /// let database = Database::open(folder.path(), Options::unmeasured())?;
    /// let schema = TableSchema::builder("articles")
    ///     .column("id", ColumnType::Int64, false)
    ///     .column("tags", ColumnType::list(ColumnType::Utf8, false), true)
    ///     .primary_key(["id"])
    ///     .build()?;
    /// let articles = database.create_table(schema)?;
    /// let tags = Value::List(vec![Value::Utf8("new".into()), Value::Utf8("free".into())]);
    /// let mut transaction = database.begin();
    /// transaction.upsert(&articles, vec![Value::Int64(1), tags.clone()])?;
    /// transaction.commit()?;
    /// let row = database.snapshot().get(&articles, &[Value::Int64(1)])?;
    /// assert_eq!(row, Some(vec![Value::Int64(1), tags]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list(element: ColumnType, nullable: bool) -> ColumnType {
        let element = NestedField::new("element", element, nullable);
        ColumnType::List(NestedType::new(vec![element]))
    }

    /// A struct of these fields.
    pub fn structure(fields: impl IntoIterator<Item = NestedField>) -> ColumnType {
        ColumnType::Struct(NestedType::new(fields.into_iter().collect()))
    }

    /// A map from keys, of a type that is not nested, to values, which may be null or not.
    pub fn map(key: ColumnType, value: ColumnType, nullable: bool) -> ColumnType {
        let key = NestedField::new("key", key, false);
        let value = NestedField::new("value", value, nullable);
        ColumnType::Map(NestedType::new(vec![key, value]))
    }

    /// Whether it holds other types.
    pub fn is_nested(self) -> bool {
        matches!(
            self,
            ColumnType::List(_) | ColumnType::Struct(_) | ColumnType::Map(_)
        )
    }

    /// What a nested type holds; nothing of others.
    pub fn nested_fields(self) -> &'static [NestedField] {
        match self {
            ColumnType::List(nested) | ColumnType::Struct(nested) | ColumnType::Map(nested) => {
                nested.fields()
            }
            _ => &[],
        }
    }

    /// The same kind of type with other parts, as where a list's element has a field id of the caller's.
    ///
    /// ```
    /// use moonshine_engine::{ColumnType, NestedField};
    /// let element = NestedField { field_id: 7, ..NestedField::new("element", ColumnType::Utf8, false) };
    /// let tags = ColumnType::list(ColumnType::Utf8, false).with_fields(vec![element]);
    /// assert_eq!(tags.nested_fields()[0].field_id, 7);
    /// ```
    #[must_use]
    pub fn with_fields(self, fields: Vec<NestedField>) -> ColumnType {
        let nested = NestedType::new(fields);
        match self {
            ColumnType::List(_) => ColumnType::List(nested),
            ColumnType::Struct(_) => ColumnType::Struct(nested),
            ColumnType::Map(_) => ColumnType::Map(nested),
            other => other,
        }
    }

    /// The greatest field id in it; 0 if it has none.
    pub(crate) fn last_field_id(self) -> i32 {
        let parts = self.nested_fields().iter();
        let ids = parts.map(|part| part.field_id.max(part.column_type.last_field_id()));
        ids.max().unwrap_or(0)
    }

    /// The same type, in which each part has a field id: those without, or all, get the next after `last`.
    pub(crate) fn with_field_ids(self, last: &mut i32, all: bool) -> ColumnType {
        if !self.is_nested() {
            return self;
        }
        let mut fields = self.nested_fields().to_vec();
        for field in &mut fields {
            if all || field.field_id == 0 {
                *last = last.saturating_add(1);
                field.field_id = *last;
            }
        }
        for field in &mut fields {
            field.column_type = field.column_type.with_field_ids(last, all);
        }
        self.with_fields(fields)
    }

    /// Whether values of this type are encoded as those of the other: names and comments alone differ.
    pub(crate) fn is_encoded_as(self, other: ColumnType) -> bool {
        if !self.is_nested() {
            return self == other;
        }
        let (own, others) = (self.nested_fields(), other.nested_fields());
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
            && own.len() == others.len()
            && own.iter().zip(others).all(|(own, other)| {
                own.field_id == other.field_id && own.column_type.is_encoded_as(other.column_type)
            })
    }

    /// Checks a type with all that is in it, and that no field id of it was seen before; counts its parts.
    ///
    /// # Errors
    /// What can't be.
    pub(super) fn check(self, depth: usize, field_ids: &mut HashSet<i32>) -> Result<(), String> {
        if let ColumnType::Decimal { precision, scale } = self
            && (precision == 0 || precision > 38 || scale > precision)
        {
            return Err(format!(
                "{self} is not supported (1 to 38 digits, scale up to the precision)"
            ));
        }
        if depth > NESTING_DEPTH_MAX {
            return Err(format!(
                "more than {NESTING_DEPTH_MAX} types within each other are not supported"
            ));
        }
        let fields = self.nested_fields();
        let names: HashSet<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        if names.len() < fields.len() || names.contains("") {
            return Err(format!(
                "{self} has a part whose name is empty or used twice"
            ));
        }
        match (self, fields) {
            (ColumnType::List(_), [_]) => {}
            (ColumnType::Map(_), [key, _]) if !key.nullable && !key.column_type.is_nested() => {}
            (ColumnType::Map(_), [_, _]) => {
                return Err("the key of a map is nested, or may be null".to_owned());
            }
            (ColumnType::Struct(_), [_, ..]) => {}
            (other, []) if !other.is_nested() => {}
            _ => return Err(format!("{self} is no type that can be")),
        }
        for field in fields {
            if field.field_id < 1 || !field_ids.insert(field.field_id) {
                return Err(format!(
                    "the field id {} of '{}' is below 1 or used twice",
                    field.field_id, field.name
                ));
            }
            let comment = field.comment.as_ref();
            if comment.is_some_and(|comment| comment.len() > COMMENT_SIZE_BYTES_MAX) {
                return Err(format!(
                    "a comment of more than {COMMENT_SIZE_BYTES_MAX} bytes"
                ));
            }
            field.column_type.check(depth + 1, field_ids)?;
        }
        Ok(())
    }

    /// Writes a nested type as text.
    pub(super) fn fmt_nested(self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, is_struct) = match self {
            ColumnType::List(_) => ("list", false),
            ColumnType::Map(_) => ("map", false),
            _ => ("struct", true),
        };
        write!(f, "{name}<")?;
        let is_key = |at: usize| matches!(self, ColumnType::Map(_)) && at == 0;
        for (at, field) in self.nested_fields().iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            if is_struct {
                write!(f, "{}: ", field.name)?;
            }
            write!(f, "{}", field.column_type)?;
            if !field.nullable && !is_key(at) {
                f.write_str(" not null")?;
            }
        }
        f.write_str(">")
    }

    /// Reads the text of a nested type; `None` if it is none.
    pub(super) fn parse_nested(text: &str) -> Option<ColumnType> {
        if text.matches('<').count() > NESTING_DEPTH_MAX * NESTING_DEPTH_MAX {
            return None;
        }
        let (name, rest) = text.split_once('<')?;
        let parts = parts_of(rest.strip_suffix('>')?)?;
        match (name.trim(), parts.as_slice()) {
            ("list", [element]) => {
                let (element, nullable) = parse_part(element)?;
                Some(ColumnType::list(element, nullable))
            }
            ("map", [key, value]) => {
                let (value, nullable) = parse_part(value)?;
                Some(ColumnType::map(parse_part(key)?.0, value, nullable))
            }
            ("struct", fields) => {
                let fields = fields.iter().map(|field| {
                    let (name, part) = field.split_once(':')?;
                    let (column_type, nullable) = parse_part(part)?;
                    Some(NestedField::new(name.trim(), column_type, nullable))
                });
                Some(ColumnType::structure(fields.collect::<Option<Vec<_>>>()?))
            }
            _ => None,
        }
    }
}

/// A type, and whether it may be null.
fn parse_part(text: &str) -> Option<(ColumnType, bool)> {
    let text = text.trim();
    match text.strip_suffix("not null") {
        Some(not_null) => Some((not_null.parse().ok()?, false)),
        None => Some((text.parse().ok()?, true)),
    }
}

/// What stands between commas that lie in no brackets.
fn parts_of(text: &str) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            '<' | '(' => depth += 1,
            '>' | ')' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => {
                parts.push(text.get(start..at)?);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..)?);
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_they_are_written() {
        for text in [
            "list<int32>",
            "list<decimal(10,2) not null>",
            "map<string, list<struct<a: int32 not null, b: map<uuid, date>>>>",
            "struct<a: struct<b: list<list<boolean>>>, c: timestamp_ns not null>",
        ] {
            let parsed: ColumnType = text.parse().unwrap();
            assert_eq!(parsed.to_string(), text);
            let spaced: ColumnType = text.replace(", ", " ,  ").parse().unwrap();
            assert_eq!(spaced, parsed);
        }
        for bad in [
            "list<>",
            "list<int32",
            "list<int32, int32>",
            "map<string>",
            "struct<int32>",
            "list<int33>",
            "struct<a: int32>>",
            "set<int32>",
        ] {
            assert!(bad.parse::<ColumnType>().is_err(), "{bad}");
        }
    }

    #[test]
    fn each_type_is_kept_once() {
        let (a, b) = (
            ColumnType::list(ColumnType::Int32, true),
            ColumnType::list(ColumnType::Int32, true),
        );
        assert_eq!(a, b);
        assert_ne!(a, ColumnType::list(ColumnType::Int32, false));
    }
}
