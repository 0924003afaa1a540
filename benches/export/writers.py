"""Other writers of Iceberg tables, and the rows that they write: those of export/benches/ticks.rs.

A writer is a class: it opens in a folder, `load`s all rows by one append, and `upsert`s those of a tick, which share their ids with
rows that are there. `metadata` is the path of the table's newest metadata file.
"""

import decimal
import json
import os
import pathlib
import shlex
import subprocess
import time
import urllib.request

import numpy
import pyarrow as pa
import pyarrow.compute as pc

STRIDE = 999_999_937


def rows(ids, tick):
    """Rows with these ids as a tick leaves them; the load is tick 0."""
    cents = (ids * 31 + tick) % 1_000_000
    total = pc.multiply(pa.array(cents).cast(pa.decimal128(19, 0)), pa.scalar(decimal.Decimal("0.01")))
    return pa.table(
        {
            "id": pa.array(ids),
            "customer": pc.binary_join_element_wise("customer", pa.array((ids * 7919 + tick) % 100_000).cast("string"), " "),
            "total": total.cast(pa.decimal128(12, 2)),
            "quantity": pa.array((ids + tick) % 100).cast("int32"),
            "is_paid": pa.array((ids + tick) % 2 == 0),
            "ordered_at": pa.array(1_700_000_000_000_000 + ids * 1000 + tick).cast(pa.timestamp("us", "UTC")),
            "note": pc.binary_join_element_wise("note", pa.array(ids % 1000).cast("string"), f"of tick {tick}", " "),
            "weight": pa.array(ids * 0.5 + tick),
        }
    )


def changed_ids(row_count, share, tick):
    return (numpy.arange(int(row_count * share), dtype="int64") * STRIDE + tick * 7) % row_count


class PyIceberg:
    """PyIceberg's own `upsert`, through its SQL catalog."""

    needs_server = False

    def __init__(self, folder, _):
        from pyiceberg.catalog.sql import SqlCatalog

        self._catalog = SqlCatalog("peer", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}")
        self._catalog.create_namespace("shop")

    def load(self, load):
        self.table = self._catalog.create_table("shop.orders", schema=load.schema)
        self.table.append(load)

    def upsert(self, changed):
        self.table.upsert(changed, join_cols=["id"])

    def metadata(self):
        return self.table.metadata_location.removeprefix("file://")


class PyIcebergOverwrite(PyIceberg):
    """The whole table read, joined and written anew."""

    def upsert(self, changed):
        before = self.table.scan().to_arrow()
        stays = before.filter(pc.invert(pc.is_in(before["id"], changed["id"])))
        self.table.overwrite(pa.concat_tables([stays, changed.cast(stays.schema)]))


class Daft(PyIceberg):
    """The same by Daft, which joins and writes files by itself and has PyIceberg commit them."""

    def upsert(self, changed):
        os.environ["DAFT_ANALYTICS_ENABLED"] = "0"
        import daft

        changed = daft.from_arrow(changed)
        stays = daft.read_iceberg(self.table).join(changed, on="id", how="anti")
        stays.concat(changed).write_iceberg(self.table, mode="overwrite")
        self.table.refresh()


class DuckDb:
    """DuckDB's `MERGE INTO`, through a catalog server."""

    needs_server = True

    def __init__(self, folder, server):
        import duckdb
        from duckdb_extensions import import_extension

        self._server = subprocess.Popen(shlex.split(server), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = next(line for line in self._server.stdout if line.startswith("CATALOG"))
        _, self._uri, warehouse = said.split()
        # In a local store it makes files, but no folders.
        for part in ("data", "metadata"):
            pathlib.Path(warehouse, "shop/orders", part).mkdir(parents=True)
        self._connection = duckdb.connect(":memory:", config={"extension_directory": str(folder / "extensions")})
        self._connection.execute("SET autoinstall_known_extensions = false")
        self._connection.execute("SET TimeZone = 'UTC'")
        for extension in ("httpfs", "avro", "iceberg"):
            import_extension(extension, con=self._connection)
            self._connection.execute(f"LOAD {extension}")
        self._connection.execute(f"ATTACH '' AS lake (TYPE iceberg, ENDPOINT '{self._uri}', AUTHORIZATION_TYPE 'none')")
        self._connection.execute("CREATE SCHEMA lake.shop")

    def load(self, load):
        self._connection.register("load", load)
        self._connection.execute("CREATE TABLE lake.shop.orders AS SELECT * FROM load")

    def upsert(self, changed):
        self._connection.register("changed", changed)
        values = ", ".join(f"{name} = changed.{name}" for name in changed.schema.names if name != "id")
        self._connection.execute(
            "MERGE INTO lake.shop.orders AS orders USING changed ON orders.id = changed.id"
            f" WHEN MATCHED THEN UPDATE SET {values} WHEN NOT MATCHED THEN INSERT"
        )

    def metadata(self):
        with urllib.request.urlopen(f"{self._uri}/v1/namespaces/shop/tables/orders") as answer:
            location = json.load(answer)["metadata-location"]
        # Hadoop writes one slash.
        return "/" + location.removeprefix("file:").lstrip("/")

    def close(self):
        self._server.stdin.close()
        self._server.wait()


WRITERS = {
    "PyIceberg, upsert": PyIceberg,
    "PyIceberg, overwrite": PyIcebergOverwrite,
    "Daft, overwrite": Daft,
    "DuckDB, merge": DuckDb,
}


def run(writer, folder, row_count, ticks, share, server, read):
    """Seconds of each tick, and what `read` finds in the table."""
    folder.mkdir()
    peer = writer(folder, server)
    try:
        peer.load(rows(numpy.arange(row_count, dtype="int64"), 0))
        times = []
        for tick in range(1, ticks + 1):
            changed = rows(changed_ids(row_count, share, tick), tick)
            started = time.perf_counter()
            peer.upsert(changed)
            times.append(time.perf_counter() - started)
        return times, read(peer.metadata())
    finally:
        if hasattr(peer, "close"):
            peer.close()
