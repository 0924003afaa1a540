"""Iceberg tables as two engines read them that share no code with Moonshine, nor with each other.

Each reader takes the SQL catalog of a warehouse and a table's name, and returns a pyarrow table of the current
snapshot.
"""

import contextlib
import pathlib
import sqlite3
import tempfile

import duckdb
from duckdb_extensions import import_extension
from pyiceberg.catalog.sql import SqlCatalog

CATALOG_NAME = "moonshine"


def open_catalog(warehouse):
    """The catalog that Moonshine keeps in its warehouse by default, as PyIceberg opens it."""
    warehouse = pathlib.Path(warehouse).resolve()
    return SqlCatalog(CATALOG_NAME, uri=f"sqlite:///{warehouse}/catalog.db", warehouse=f"file://{warehouse}")


def table_names(warehouse):
    """Every table of the warehouse as namespace.name, sorted."""
    with sqlite3.connect(pathlib.Path(warehouse) / "catalog.db") as catalog:
        rows = catalog.execute(
            "SELECT table_namespace || '.' || table_name FROM iceberg_tables WHERE catalog_name = ? ORDER BY 1",
            (CATALOG_NAME,),
        )
        return [name for (name,) in rows]


def read_pyiceberg(warehouse, name):
    """The table as PyIceberg reads it through the catalog."""
    return open_catalog(warehouse).load_table(name).scan().to_arrow()


def read_duckdb(warehouse, name):
    """The table as DuckDB reads it from the metadata file that the catalog names."""
    namespace, _, table = name.rpartition(".")
    with sqlite3.connect(pathlib.Path(warehouse) / "catalog.db") as catalog:
        (location,) = catalog.execute(
            "SELECT metadata_location FROM iceberg_tables"
            " WHERE catalog_name = ? AND table_namespace = ? AND table_name = ?",
            (CATALOG_NAME, namespace, table),
        ).fetchone()
    with open_duckdb() as connection:
        path = location.removeprefix("file://")
        return connection.execute("SELECT * FROM iceberg_scan(?)", [path]).to_arrow_table()


@contextlib.contextmanager
def open_duckdb():
    """DuckDB with its Iceberg reader, loaded from the installed Python packages: nothing is downloaded."""
    with tempfile.TemporaryDirectory() as extensions:
        with duckdb.connect(":memory:", config={"extension_directory": extensions}) as connection:
            connection.execute("SET autoinstall_known_extensions = false")
            connection.execute("SET TimeZone = 'UTC'")
            for extension in ("avro", "iceberg"):
                import_extension(extension, con=connection)
                connection.execute(f"LOAD {extension}")
            yield connection


def count_files(table, snapshots):
    """How many files of each kind these snapshots are made of together."""
    manifests = {}
    for snapshot in snapshots:
        manifests.update((manifest.manifest_path, manifest) for manifest in snapshot.manifests(table.io))
    kinds = {}
    for manifest in manifests.values():
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            file = entry.data_file
            kind = f"{file.content.name.lower()} {file.file_format.name.lower()}"
            kinds.setdefault(kind, set()).add(file.file_path)
    return {kind: len(files) for kind, files in kinds.items()}


def describe(warehouse, name):
    """What the table is made of, now and in all its snapshots, as PyIceberg sees it."""
    table = open_catalog(warehouse).load_table(name)
    snapshot = table.current_snapshot()
    return {
        "format_version": table.metadata.format_version,
        "snapshots": len(table.metadata.snapshots),
        "summary": {} if snapshot is None else dict(snapshot.summary.additional_properties),
        "files": count_files(table, [] if snapshot is None else [snapshot]),
        "files_ever": count_files(table, table.metadata.snapshots),
    }


READERS = {"pyiceberg": read_pyiceberg, "duckdb": read_duckdb}
