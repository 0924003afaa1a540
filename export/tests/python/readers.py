"""Reads Iceberg tables with engines that share no code with Moonshine: a metadata file in, rows as canonical text out.

    readers.py READER

Takes one JSON object a line on standard input: {"metadata": path of the metadata file, "columns": [[name, type], …],
"lineage": whether row ids and sequence numbers are wanted too, "snapshot": id of an older snapshot or null, "out": file}.
Writes a JSON array of texts for each row to `out` and answers with one line: {"rows": count}, {"another type": text} where the
values are not of the columns' types, or {"error": text}. The first line that it prints says the reader's version, or
{"missing": text} where it is not installed. `canonical.py` says what the texts are.
"""

import json
import os
import sys
import tempfile

import pyarrow as pa

import canonical

# What the specification calls them, and the reserved columns' types.
LINEAGE = [["_row_id", "int64"], ["_last_updated_sequence_number", "int64"]]


class DuckDb:
    """DuckDB with its Iceberg extension from the installed packages: nothing is downloaded."""

    def __init__(self):
        import duckdb
        from duckdb_extensions import import_extension

        self.version = duckdb.__version__
        self._extensions = tempfile.TemporaryDirectory()
        self._connection = duckdb.connect(":memory:", config={"extension_directory": self._extensions.name})
        self._connection.execute("SET autoinstall_known_extensions = false")
        self._connection.execute("SET TimeZone = 'UTC'")
        for extension in ("avro", "iceberg"):
            import_extension(extension, con=self._connection)
            self._connection.execute(f"LOAD {extension}")

    def read(self, metadata, columns, snapshot):
        names = ", ".join(f'"{name}"' for name, _ in columns)
        query = f"SELECT {names} FROM iceberg_scan(?)"
        if snapshot is None:
            return self._connection.execute(query, [metadata]).to_arrow_table()
        query = f"SELECT {names} FROM iceberg_scan(?, snapshot_from_id = ?)"
        return self._connection.execute(query, [metadata, snapshot]).to_arrow_table()


class PyIceberg:
    """PyIceberg's own scan."""

    def __init__(self):
        import pyiceberg
        from pyiceberg.table import StaticTable

        self.version = pyiceberg.__version__
        self._open = StaticTable.from_metadata

    def read(self, metadata, columns, snapshot):
        return self._open(metadata).scan(snapshot_id=snapshot).to_arrow().select([name for name, _ in columns])


class Polars:
    """Polars' lazy scan."""

    def __init__(self):
        import polars

        self.version = polars.__version__
        self._scan = polars.scan_iceberg

    def read(self, metadata, columns, snapshot):
        return self._scan(metadata, snapshot_id=snapshot).select([name for name, _ in columns]).collect().to_arrow()


class Daft:
    """Daft, which has PyIceberg plan its scans."""

    def __init__(self):
        os.environ["DAFT_ANALYTICS_ENABLED"] = "0"
        import daft
        from pyiceberg.table import StaticTable

        self.version = daft.__version__
        self._read = daft.read_iceberg
        self._open = StaticTable.from_metadata

    def read(self, metadata, columns, snapshot):
        return self._read(self._open(metadata), snapshot_id=snapshot).select(*(name for name, _ in columns)).to_arrow()


class Chdb:
    """chdb, which is ClickHouse in a library."""

    def __init__(self):
        import chdb
        from chdb import session

        self.version = chdb.__version__
        # It reads local files below the working directory only.
        os.chdir("/")
        self._open = session.Session
        self._session = None

    def read(self, metadata, columns, snapshot):
        table = os.path.dirname(os.path.dirname(metadata))
        names = ", ".join(f"`{name}`" for name, _ in columns)
        file = os.path.relpath(metadata, table)
        query = f"SELECT {names} FROM icebergLocal('{table}', SETTINGS iceberg_metadata_file_path = '{file}')"
        settings = "output_format_arrow_string_as_string = 0"
        if snapshot is not None:
            settings += f", iceberg_snapshot_id = {snapshot}"
        # What a failed query had put out so far would be at the head of the next one's rows.
        self._session = self._session or self._open()
        try:
            output = self._session.query(f"{query} SETTINGS {settings}", "ArrowStream")
            rows = pa.ipc.open_stream(pa.py_buffer(bytes(output.bytes()))).read_all()
        except Exception:
            self._session.close()
            self._session = None
            raise
        return pa.table([self._text(rows.column(name), kind) for name, kind in columns], [name for name, _ in columns])

    @staticmethod
    def _text(column, kind):
        # It has one type for text and bytes.
        return column.cast(pa.string()) if kind == "string" else column


class Sail:
    """Sail: Spark SQL in Rust, with Spark's Python client."""

    def __init__(self):
        import pysail
        from pysail.spark import SparkConnectServer
        from pyspark.sql import SparkSession

        self.version = pysail.__version__
        self._server = SparkConnectServer("127.0.0.1", 0)
        self._server.start()
        _, port = self._server.listening_address
        self._spark = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").getOrCreate()
        self._spark.conf.set("spark.sql.session.timeZone", "UTC")

    def read(self, metadata, columns, snapshot):
        table = os.path.dirname(os.path.dirname(metadata))
        source = self._spark.read.format("iceberg")
        if snapshot is not None:
            source = source.option("snapshotId", str(snapshot))
        frame = source.load(f"file://{table}")
        return frame.select(*(name for name, _ in columns)).toArrow()


class Spark:
    """Apache Spark with Iceberg's own runtime, which Spark's package manager gets from Maven Central."""

    PACKAGE = "org.apache.iceberg:iceberg-spark-runtime-4.0_2.13:1.10.0"

    def __init__(self):
        import pyspark
        from pyspark.sql import SparkSession

        self.version = f"{pyspark.__version__} with Iceberg {self.PACKAGE.rpartition(':')[2]}"
        self._spark = (
            SparkSession.builder.master("local[2]")
            .config("spark.jars.packages", self.PACKAGE)
            .config("spark.sql.session.timeZone", "UTC")
            .config("spark.ui.enabled", "false")
            .getOrCreate()
        )

    def read(self, metadata, columns, snapshot):
        source = self._spark.read.format("iceberg")
        if snapshot is not None:
            source = source.option("snapshot-id", str(snapshot))
        frame = source.load(metadata)
        return frame.select(*(name for name, _ in columns)).toArrow()


READERS = {
    "DuckDB": DuckDb,
    "PyIceberg": PyIceberg,
    "Polars": Polars,
    "Sail": Sail,
    "Daft": Daft,
    "chdb": Chdb,
    "Spark": Spark,
}


def answer(reader, request):
    """Reads one table and writes its rows."""
    columns = request["columns"] + (LINEAGE if request["lineage"] else [])
    table = reader.read(request["metadata"], columns, request["snapshot"])
    try:
        rows = canonical.rows(table, columns)
    except TypeError as error:
        return {"another type": str(error)}
    with open(request["out"], "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row) + "\n")
    return {"rows": len(rows)}


def main(name):
    """Answers requests until standard input ends."""
    # What readers print by themselves goes to standard error; the answers keep the real standard output.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message):
        print(json.dumps(message), file=answers, flush=True)

    try:
        reader = READERS[name]()
    except ImportError as error:
        say({"missing": str(error)})
        return
    say({"version": reader.version})
    for line in sys.stdin:
        try:
            say(answer(reader, json.loads(line)))
        except BaseException as error:  # A panic of a reader written in Rust is no Exception.
            say({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main(sys.argv[1])
