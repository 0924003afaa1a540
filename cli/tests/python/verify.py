"""Compares tables, row by row and value by value, with what they ought to hold.

    verify.py self-test
    verify.py compare WAREHOUSE EXPECTED_DIR     the Iceberg tables, as PyIceberg and as DuckDB read them
    verify.py compare-output FORMAT DIR EXPECTED_DIR   files NAME.FORMAT that `moonshine query` printed
    verify.py replay EVENTS TABLES EXPECTED_DIR  writes EXPECTED_DIR from Debezium change events

EXPECTED_DIR holds, for each table, NAME.copy (the rows as PostgreSQL's COPY prints them, with a header) and
NAME.columns (name, PostgreSQL type and place in the primary key, 0 for none, separated by tabs). Prints a JSON object with
what was compared; exits 1 and prints the first differences where something differs.
"""

import csv
import json
import pathlib
import sys

import pyarrow.parquet

import readers
import replay
import values

DIFFERENCES_SHOWN = 10


class Difference(Exception):
    """The tables differ; the message says where."""


def expected_tables(folder):
    """The tables of an EXPECTED_DIR: name to (columns, rows by key)."""
    tables = {}
    for path in sorted(pathlib.Path(folder).glob("*.copy")):
        name = path.name.removesuffix(".copy")
        columns = []
        for line in path.with_name(f"{name}.columns").read_text(encoding="utf-8").splitlines():
            column, sql_type, key_ordinal = line.split("\t")
            columns.append((column, sql_type, int(key_ordinal)))
        header, rows = values.read_copy(path)
        tables[name] = (columns, rows_by_key(name, columns, header, rows))
    if not tables:
        raise Difference(f"{folder}: no expected table")
    return tables


def rows_by_key(name, columns, header, rows):
    """Rows as canonical values in the order of `columns`, by primary key."""
    names = [column for column, _, _ in columns]
    if sorted(header) != sorted(names):
        raise Difference(f"{name}: columns {header}, expected {names}")
    places = [(header.index(column), sql_type) for column, sql_type, _ in columns]
    key_places = [at for _, at in sorted((ordinal, at) for at, (_, _, ordinal) in enumerate(columns) if ordinal)]
    by_key = {}
    for row in rows:
        try:
            row = tuple(values.canonical(row[place], sql_type) for place, sql_type in places)
        except (TypeError, ValueError, KeyError, ArithmeticError) as error:
            raise Difference(f"{name}: {row}: {error}") from error
        key = tuple(row[place] for place in key_places)
        if key in by_key:
            raise Difference(f"{name}: key {key} is there twice")
        by_key[key] = row
    return by_key


def compare_rows(name, reader, columns, expected, actual):
    """Raises Difference, with the first differing rows, unless the rows are equal."""
    differences = []
    for key, row in expected.items():
        if key not in actual:
            differences.append(f"key {key} is missing")
        elif actual[key] != row:
            parts = (
                f"{column}: {got!r}, expected {want!r}"
                for (column, _, _), got, want in zip(columns, actual[key], row)
                if got != want
            )
            differences.append(f"key {key} differs in " + "; ".join(parts))
    differences += [f"key {key} should not be there" for key in actual.keys() - expected.keys()]
    if differences:
        shown = "\n  ".join(differences[:DIFFERENCES_SHOWN])
        raise Difference(
            f"{name} as {reader} reads it: {len(differences)} of {len(expected)} rows differ"
            f" ({len(actual)} were read)\n  {shown}"
        )


def arrow_rows(table):
    """An Arrow table's header and rows as Python values."""
    return table.column_names, list(zip(*(column.to_pylist() for column in table.columns)))


def compare(warehouse, expected_dir):
    """Compares every expected table as every reader reads it; the warehouse may hold no other table."""
    tables = expected_tables(expected_dir)
    if readers.table_names(warehouse) != sorted(tables):
        raise Difference(f"{warehouse} holds {readers.table_names(warehouse)}, expected {sorted(tables)}")
    report = {}
    for name, (columns, expected) in tables.items():
        for reader, read in readers.READERS.items():
            actual = rows_by_key(f"{name} ({reader})", columns, *arrow_rows(read(warehouse, name)))
            compare_rows(name, reader, columns, expected, actual)
        report[name] = {"rows": len(expected), **readers.describe(warehouse, name)}
    return report


def read_output(path, output_format):
    """The header and rows of a file that `moonshine query` printed."""
    if output_format == "parquet":
        return arrow_rows(pyarrow.parquet.read_table(path))
    if output_format == "csv":
        with open(path, encoding="utf-8", newline="") as lines:
            header, *rows = csv.reader(lines)
        # CSV has one notation for NULL and the empty text; the tables compared this way hold no empty text.
        return header, [tuple(value or None for value in row) for row in rows]
    with open(path, encoding="utf-8") as file:
        text = file.read()
    records = json.loads(text, parse_float=str) if text.startswith("[") else [
        json.loads(line, parse_float=str) for line in text.splitlines()
    ]
    header = list(dict.fromkeys(column for record in records for column in record))
    return header, [tuple(record.get(column) for column in header) for record in records]


def compare_output(output_format, folder, expected_dir):
    """Compares what `moonshine query` printed for each expected table that has a file in `folder`."""
    report = {}
    for name, (columns, expected) in expected_tables(expected_dir).items():
        path = pathlib.Path(folder) / f"{name}.{output_format}"
        if not path.exists():
            continue
        header, rows = read_output(path, output_format)
        actual = rows_by_key(f"{name} ({output_format})", columns, header, rows)
        compare_rows(name, f"moonshine query --format {output_format}", columns, expected, actual)
        report[name] = {"rows": len(expected)}
    if not report:
        raise Difference(f"{folder}: no *.{output_format} to compare")
    return report


def self_test():
    """Checks this program itself, and that the readers load without a network."""
    values.self_test()
    with readers.open_duckdb():
        pass
    columns = [("id", "integer", 1), ("v", "text", 0)]
    rows = rows_by_key("t", columns, ["v", "id"], [("a", "1"), (None, "2")])
    assert rows == {(1,): (1, "a"), (2,): (2, None)}, rows
    for wrong in ({(1,): (1, "a")}, {**rows, (3,): (3, "")}, {**rows, (2,): (2, "")}):
        try:
            compare_rows("t", "self-test", columns, rows, wrong)
        except Difference:
            continue
        raise AssertionError(f"{wrong} passed for {rows}")
    return {"self-test": "passed"}


COMMANDS = {
    "self-test": self_test,
    "compare": compare,
    "compare-output": compare_output,
    "replay": replay.write_expected,
}


def main(arguments):
    """Runs one command and returns the exit status."""
    if not arguments or arguments[0] not in COMMANDS:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(json.dumps(COMMANDS[arguments[0]](*arguments[1:]), default=str))
    except Difference as difference:
        print(difference, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
