"""One text for each value of an Iceberg type, whatever notation a reader hands it over in.

Two texts are equal exactly when the values are: floats by their bits (every NaN is one), decimals with their scale, dates and
times as counts since the epoch, so that none is out of Python's range. `None` is null.
"""

import decimal
import json
import struct
import uuid

import pyarrow as pa
import pyarrow.compute as pc

# Column types by name, and the Arrow type that a reader's column is cast to without loss before its values are taken.
_COUNTED = {
    "date": (pa.date32(), pa.int32()),
    "time": (pa.time64("us"), pa.int64()),
    "timestamp": (pa.timestamp("us"), pa.int64()),
    "timestamptz": (pa.timestamp("us", tz="UTC"), pa.int64()),
    "timestamp_ns": (pa.timestamp("ns"), pa.int64()),
    "timestamptz_ns": (pa.timestamp("ns", tz="UTC"), pa.int64()),
}


def rows(table, columns):
    """The rows of an Arrow table as tuples of texts; `columns` are pairs of name and type."""
    found = table.column_names
    wanted = [name for name, _ in columns]
    if found != wanted:
        raise ValueError(f"the columns are {found}, not {wanted}")
    texts = [_texts(table.column(name), column_type) for name, column_type in columns]
    return list(zip(*texts)) if texts else []


def _texts(column, column_type):
    if column_type.endswith(">"):
        return _nested_texts(column, column_type)
    base_type = column_type.split("(")[0]
    if base_type in _COUNTED:
        arrow_type, count_type = _COUNTED[base_type]
        if base_type in ("timestamp", "timestamp_ns") and getattr(column.type, "tz", None) is not None:
            raise TypeError(f"{column.type} has a time zone")
        if base_type in ("timestamptz", "timestamptz_ns") and getattr(column.type, "tz", None) is None:
            raise TypeError(f"{column.type} has no time zone")
        if pa.types.is_string(column.type) or pa.types.is_integer(column.type):
            raise TypeError(f"{column.type} instead of {column_type}")
        column = pc.cast(pc.cast(column, arrow_type), count_type)
        return [None if value is None else str(value) for value in column.to_pylist()]
    text = _TEXT[base_type]
    if isinstance(column.type, pa.ExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    return [None if value is None else text(value) for value in column.to_pylist()]


def _parts(text):
    """What stands between commas that lie in no brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "<(") - (character in ">)")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _nested_texts(column, column_type):
    """A list as a JSON array of texts, a struct as one of its fields', a map as one of pairs in the order of their keys."""
    kind, _, inner = column_type[:-1].partition("<")
    is_kind = {
        "list": lambda found: pa.types.is_list(found) or pa.types.is_large_list(found),
        "struct": pa.types.is_struct,
        "map": pa.types.is_map,
    }[kind]
    if not is_kind(column.type):
        raise TypeError(f"{column.type} instead of {column_type}")
    parts = _parts(inner)
    if kind == "struct":
        fields = [part.partition(":") for part in parts]
        found = [column.type.field(index).name for index in range(column.type.num_fields)]
        if found != [name for name, _, _ in fields]:
            raise TypeError(f"{column.type} instead of {column_type}")
        contents = [
            _texts(pc.struct_field(column, index), field_type.strip())
            for index, (_, _, field_type) in enumerate(fields)
        ]
        contents = zip(*contents)
    elif kind == "map":
        contents = [value.is_valid and _entries(value.values, parts) for value in column]
    else:
        contents = [value.is_valid and _texts(_chunked(value.values), parts[0]) for value in column]
    texts = [json.dumps(content, ensure_ascii=False, separators=(",", ":")) for content in contents]
    return [text if value.is_valid else None for text, value in zip(texts, column)]


def _entries(pairs, parts):
    keys, values = (_texts(_chunked(pairs.field(at)), parts[at]) for at in (0, 1))
    return sorted(zip(keys, values), key=lambda entry: entry[0].encode())


def _chunked(array):
    return pa.chunked_array([array])


def _exactly(kind):
    def text(value):
        if type(value) is not kind:
            raise TypeError(f"{value!r} is a {type(value).__name__}, not a {kind.__name__}")
        return str(value)

    return text


def _boolean(value):
    if type(value) is not bool:
        raise TypeError(f"{value!r} is a {type(value).__name__}, not a bool")
    return str(value).lower()


def _float(width, integer):
    def text(value):
        if type(value) is not float:
            raise TypeError(f"{value!r} is a {type(value).__name__}, not a float")
        if value != value:
            return "nan"
        return "{:x}".format(*struct.unpack(f">{integer}", struct.pack(f">{width}", value)))

    return text


def _decimal(value):
    if type(value) is not decimal.Decimal:
        raise TypeError(f"{value!r} is a {type(value).__name__}, not a Decimal")
    sign, digits, exponent = value.as_tuple()
    unscaled = int("".join(map(str, digits))) * (-1 if sign else 1)
    return f"{unscaled}e{exponent}"


def _bytes(value):
    if type(value) is not bytes:
        raise TypeError(f"{value!r} is a {type(value).__name__}, not bytes")
    return value.hex()


def _uuid(value):
    if isinstance(value, uuid.UUID):
        return value.hex
    return uuid.UUID(bytes=value).hex if isinstance(value, bytes) else uuid.UUID(value).hex


_TEXT = {
    "boolean": _boolean,
    "int32": _exactly(int),
    "int64": _exactly(int),
    "float32": _float("f", "I"),
    "float64": _float("d", "Q"),
    "decimal": _decimal,
    "string": _exactly(str),
    "binary": _bytes,
    "uuid": _uuid,
}
