"""Prints the lineage of a table's rows as DuckDB reads it.

usage: lineage.py METADATA_FILE KEY SNAPSHOT_ID...

JSON: for each snapshot the rows as [key, row id, sequence number of the commit that last changed the row].
"""

import json
import sys
import tempfile

import duckdb
from duckdb_extensions import import_extension


def main(metadata: str, key: str, snapshots: list[str]) -> None:
    path = metadata.removeprefix("file://")
    with tempfile.TemporaryDirectory() as extensions:
        with duckdb.connect(":memory:", config={"extension_directory": extensions}) as connection:
            connection.execute("SET autoinstall_known_extensions = false")
            for extension in ("avro", "iceberg"):
                import_extension(extension, con=connection)
                connection.execute(f"LOAD {extension}")
            query = (
                f'SELECT "{key}", _row_id, _last_updated_sequence_number'
                " FROM iceberg_scan(?, snapshot_from_id = ?)"
            )
            rows = [connection.execute(query, [path, int(snapshot)]).fetchall() for snapshot in snapshots]
    print(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
