//! Columns of a data file as the table has them now: what lies in lists, structs and maps is found by its field id.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray, MapArray, StructArray, new_null_array};
use arrow_schema::{ArrowError, DataType, Field, Fields};

const FIELD_ID: &str = "PARQUET:field_id";

/// An array of a file as one of the wanted type, which may be wider, and have other fields in its structs.
///
/// # Errors
/// [`ArrowError`] if the file's type can't become it, or a null stands where none may.
pub(crate) fn adapted(found: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    match (found.data_type(), wanted) {
        (found_type, wanted) if found_type == wanted => Ok(found.clone()),
        (DataType::List(_), DataType::List(item)) => {
            let list = found.as_list::<i32>();
            let elements = adapted(list.values(), item.data_type())?;
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            let list = ListArray::try_new(item.clone(), offsets, elements, nulls)?;
            Ok(Arc::new(list))
        }
        (DataType::Map(..), DataType::Map(entries, is_sorted)) => {
            let (map, DataType::Struct(fields)) = (found.as_map(), entries.data_type()) else {
                return arrow_cast::cast(found, wanted);
            };
            let pairs = with_fields(map.entries(), fields)?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            let map = MapArray::try_new(entries.clone(), offsets, pairs, nulls, *is_sorted)?;
            Ok(Arc::new(map))
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            Ok(Arc::new(with_fields(found.as_struct(), fields)?))
        }
        _ => arrow_cast::cast(found, wanted),
    }
}

fn with_fields(found: &StructArray, wanted: &Fields) -> Result<StructArray, ArrowError> {
    let id = |field: &Field| field.metadata().get(FIELD_ID).cloned();
    let column = |wanted: &Arc<Field>| {
        let mut fields = found.fields().iter().zip(found.columns());
        match fields.find(|(field, _)| id(field).is_some() && id(field) == id(wanted)) {
            Some((_, column)) => adapted(column, wanted.data_type()),
            None => Ok(new_null_array(wanted.data_type(), found.len())),
        }
    };
    let columns = wanted.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    StructArray::try_new_with_length(wanted.clone(), columns, found.nulls().cloned(), found.len())
}
