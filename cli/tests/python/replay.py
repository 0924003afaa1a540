"""What tables hold after a file of Debezium change events: the plainest replay, as the reference for `moonshine sync`.

Written from Debezium's event format alone. It keeps one dictionary a table and knows nothing of transactions, since the
end of the file is the end of all of them.
"""

import datetime
import decimal
import json
import pathlib
import uuid

_EPOCH = datetime.datetime(1970, 1, 1)
_COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})

# A column type of the configuration file, and the PostgreSQL type whose text form `values.canonical` knows.
_SQL_TYPES = {
    "boolean": "boolean",
    "int32": "integer",
    "int64": "bigint",
    "float32": "real",
    "float64": "double precision",
    "string": "text",
    "binary": "bytea",
    "uuid": "uuid",
    "date": "date",
    "time": "time without time zone",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
}


def write_expected(events_path, tables_path, folder):
    """Replays the events and writes NAME.copy and NAME.columns for each table into the folder.

    `tables_path` is a JSON object: table name to {"key": [column, …], "columns": {column: type, …}}, with the types of
    the configuration file.
    """
    tables = json.loads(pathlib.Path(tables_path).read_text(encoding="utf-8"))
    rows = {name: {} for name in tables}
    with open(events_path, encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                apply(json.loads(line, parse_float=decimal.Decimal), tables, rows)
    for name, table in tables.items():
        write_table(pathlib.Path(folder), name, table, rows[name].values())
    return {name: len(table_rows) for name, table_rows in rows.items()}


def apply(event, tables, rows):
    """Applies one event to the rows by key of each table."""
    if event is None:
        return
    event = event.get("payload", event) if "schema" in event else event
    if event is None or "op" not in event:
        return
    source = event["source"]
    name = f"{source.get('schema') or source['db']}.{source['table']}"
    if event["op"] == "t":
        rows[name].clear()
        return
    key_of = lambda row: tuple(row[column] for column in tables[name]["key"])
    if event["op"] in ("u", "d") and event.get("before") is not None:
        rows[name].pop(key_of(event["before"]), None)
    if event["op"] in ("c", "r", "u"):
        rows[name][key_of(event["after"])] = event["after"]


def write_table(folder, name, table, rows):
    """Writes a table's rows as PostgreSQL's COPY would."""
    columns = table["columns"]
    with open(folder / f"{name}.copy", "w", encoding="utf-8", newline="\n") as out:
        out.write("\t".join(columns) + "\n")
        for row in rows:
            out.write("\t".join(copy_text(row.get(column), kind) for column, kind in columns.items()) + "\n")
    with open(folder / f"{name}.columns", "w", encoding="utf-8") as out:
        for column, kind in columns.items():
            ordinal = table["key"].index(column) + 1 if column in table["key"] else 0
            sql_type = "numeric" if kind.startswith("decimal") else _SQL_TYPES[kind.removesuffix("not null").strip()]
            out.write(f"{column}\t{sql_type}\t{ordinal}\n")


def copy_text(value, kind):
    """A JSON value of an event as COPY text; numbers for dates and times are Debezium's counts since the epoch."""
    if value is None:
        return "\\N"
    kind = kind.removesuffix("not null").strip()
    if kind.startswith("decimal"):
        scale = int(kind.rstrip(")").split(",")[1])
        value = decimal.Decimal(value).quantize(decimal.Decimal(1).scaleb(-scale))
    elif kind == "boolean":
        value = "t" if value else "f"
    elif kind == "uuid":
        value = uuid.UUID(value)
    elif kind == "date" and isinstance(value, int):
        value = (_EPOCH + datetime.timedelta(days=value)).date()
    elif kind == "time" and isinstance(value, int):
        value = (_EPOCH + datetime.timedelta(microseconds=value)).time()
    elif kind == "timestamp" and isinstance(value, int):
        value = (_EPOCH + datetime.timedelta(microseconds=value)).isoformat()
    return str(value).translate(_COPY_ESCAPES)
