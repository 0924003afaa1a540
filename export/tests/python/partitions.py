"""Checks a table's partitions and bounds by PyIceberg's and DuckDB's own reckoning.

usage: partitions.py METADATA_FILE

Each data file's partition has to be what PyIceberg's transforms make of each of its rows; and a query for a row's value has to
plan the file that holds the row, in fewer files than there are where that is said by a transform. Prints how much was checked.
"""

import json
import sys
import tempfile
import uuid
from datetime import date

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from duckdb_extensions import import_extension
from pyiceberg.expressions import EqualTo, IsNull
from pyiceberg.expressions.literals import LongLiteral, literal
from pyiceberg.table import StaticTable
from pyiceberg.types import DateType, StringType, TimestampType, TimestamptzType, TimeType, UUIDType


def internal(column: pa.ChunkedArray) -> list:
    """A column's values as PyIceberg holds them: dates and times as numbers, UUIDs as bytes."""
    data_type = column.type
    if isinstance(data_type, pa.ExtensionType):
        return [None if value is None else uuid.UUID(bytes=bytes(value)) if not isinstance(value, uuid.UUID) else value
                for value in column.to_pylist()]
    if pa.types.is_date32(data_type):
        column = column.cast(pa.int32())
    elif pa.types.is_time64(data_type) or pa.types.is_timestamp(data_type):
        column = column.cast(pa.int64())
    return column.to_pylist()


def plain(value):
    """A partition's value, in a form that can be compared."""
    if isinstance(value, date):
        return (value - date(1970, 1, 1)).days
    if isinstance(value, uuid.UUID):
        return value.bytes
    return value


def predicate(field, value):
    if value is None:
        return IsNull(field.name)
    if isinstance(field.field_type, (DateType, TimeType, TimestampType, TimestamptzType)):
        return EqualTo(field.name, LongLiteral(value))
    if isinstance(field.field_type, UUIDType) and isinstance(value, bytes):
        value = uuid.UUID(bytes=value)
    return EqualTo(field.name, literal(value))


def main(metadata: str) -> None:
    table = StaticTable.from_metadata(metadata)
    schema = table.schema()
    files = {task.file.file_path: task.file for task in table.scan().plan_files()}
    columns = {path: pq.read_table(path.removeprefix("file://")) for path in files}
    checked = {"values": 0, "planned": 0, "pruned": {field.name: 0 for field in schema.fields}, "duckdb": 0}

    for path, file in files.items():
        spec = table.specs()[file.spec_id]
        for position, field in enumerate(spec.fields):
            source = schema.find_field(field.source_id)
            transform = field.transform.transform(source.field_type)
            found = plain(file.partition[position])
            for value in internal(columns[path].column(source.name)):
                expected = plain(transform(value))
                assert found == expected, f"{path}: {field}: {value!r} is in {found!r}, PyIceberg says {expected!r}"
                checked["values"] += 1

    # It goes with its last use, which is at the end.
    extensions = tempfile.TemporaryDirectory()
    connection = duckdb.connect(":memory:", config={"extension_directory": extensions.name})
    for extension in ("avro", "iceberg"):
        import_extension(extension, con=connection)
        connection.execute(f"LOAD {extension}")
    for field in schema.fields:
        for path in files:
            for row, value in enumerate(internal(columns[path].column(field.name))):
                planned = {task.file.file_path for task in table.scan(row_filter=predicate(field, value)).plan_files()}
                assert path in planned, f"{field.name} = {value!r}: the row's file is not planned"
                checked["planned"] += 1
                checked["pruned"][field.name] += len(planned) < len(files)
                key = columns[path].column("id")[row].as_py()
                given = columns[path].column(field.name)[row].as_py()
                # DuckDB finds no UUID by its bucket.
                if isinstance(field.field_type, (StringType, DateType)) or given is None or isinstance(given, int):
                    condition, values = (f'"{field.name}" IS NULL', []) if given is None else (f'"{field.name}" = ?', [given])
                    found = connection.execute(
                        f"SELECT id FROM iceberg_scan('{metadata}') WHERE {condition}", values
                    ).fetchall()
                    assert (key,) in found, f"DuckDB: {field.name} = {given!r} does not find row {key}"
                    checked["duckdb"] += 1
    print(json.dumps(checked))


main(sys.argv[1])
