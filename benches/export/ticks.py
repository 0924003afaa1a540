#!/usr/bin/env python3
"""What upsert ticks cost, and what they leave for readers.

    cargo bench -p moonshine-export --bench ticks --no-run
    target/test-venv/bin/python benches/export/ticks.py target/release/deps/ticks-… > docs/benchmarks/export-ticks.md

For 1 % and 10 % of the rows changed at each tick, and formats 3 and 2, Moonshine makes a table by that many exports (`write` is
the rows into the database, `export` the Iceberg commit, `maintain` what a sync does beside the exports). DuckDB reads it and the same rows as one clean append, in turns: all
columns of all rows, medians. Then PyIceberg makes the same ticks on fewer rows, by `upsert`, and by reading, joining and
`overwrite` of the whole table; Moonshine's figures for as many rows stand beside them. Prints Markdown. The environment is
the one that `scripts/test` makes.
"""

import argparse
import decimal
import json
import os
import pathlib
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog.sql import SqlCatalog

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "cli/tests/python"))

import readers  # noqa: E402  (found by the line above)
import report  # noqa: E402

TARGET = 1.15

STRIDE = 999_999_937
COLUMNS = "id, customer, total, quantity, is_paid, ordered_at, note, weight"


def rows(ids, tick):
    """Rows with these ids as a tick leaves them: the formulas of export/benches/ticks.rs."""
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


def moonshine(program, folder, row_count, ticks, share, version):
    """Seconds of each tick, the load first."""
    command = [program, folder, str(row_count), str(ticks), str(share), str(version)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def metadata_file(warehouse):
    with sqlite3.connect(warehouse / "catalog.db") as catalog:
        (location,) = catalog.execute("SELECT metadata_location FROM iceberg_tables").fetchone()
    return location.removeprefix("file://")


def read_times(folder, rounds):
    """Median seconds in which DuckDB reads every value of the ticks' table, and of the clean one; their rows are equal."""
    tables = {name: metadata_file(folder / name) for name in ("ticks", "clean")}
    times = {name: [] for name in tables}
    found = {}
    with readers.open_duckdb() as connection:
        for round_number in range(rounds + 1):
            for name, path in tables.items():
                started = time.perf_counter()
                query = f"SELECT count(*), bit_xor(hash({COLUMNS})) FROM iceberg_scan('{path}')"
                found[name] = connection.execute(query).fetchall()
                # The first round warms the caches up.
                if round_number:
                    times[name].append(time.perf_counter() - started)
    if found["ticks"] != found["clean"]:
        raise SystemExit(f"the tables differ: {found}")
    return {name: statistics.median(each) for name, each in times.items()}


def pyiceberg(folder, row_count, ticks, share, how):
    """Seconds of each of PyIceberg's ticks, without the load."""
    catalog = SqlCatalog("peer", uri=f"sqlite:///{folder}/{how}.db", warehouse=f"file://{folder}/{how}")
    catalog.create_namespace("shop")
    load = rows(numpy.arange(row_count, dtype="int64"), 0)
    table = catalog.create_table("shop.orders", schema=load.schema)
    table.append(load)
    times = []
    for tick in range(1, ticks + 1):
        changed = rows(changed_ids(row_count, share, tick), tick)
        started = time.perf_counter()
        if how == "upsert":
            table.upsert(changed, join_cols=["id"])
        else:
            before = table.scan().to_arrow()
            stays = before.filter(pc.invert(pc.is_in(before["id"], changed["id"])))
            table.overwrite(pa.concat_tables([stays, changed.cast(stays.schema)]))
        times.append(time.perf_counter() - started)
    return times


def milliseconds(times):
    return f"{statistics.median(times) * 1000:,.0f} ms"


def mean_milliseconds(times):
    """Of what is done at some ticks only."""
    return f"{statistics.mean(times) * 1000:,.0f} ms"


def measure_reading(arguments):
    """Prints what ticks cost, and what they leave for readers."""
    print(f"{arguments.rows:,} rows of 8 columns, {arguments.ticks} ticks, then read; medians. *CPU* is that of all cores.\n")
    print(
        "| format | changed a tick | write | export | export, CPU | maintain, CPU | rows a CPU second | DuckDB reads it "
        "| the clean append | ratio |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    ratios = []
    for version in (3, 2):
        for share in (0.01, 0.1):
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                times = moonshine(arguments.program, folder, arguments.rows, arguments.ticks, share, version)
                read = read_times(folder, arguments.rounds)
            cpu_s = [export + maintain for export, maintain in zip(times["export_cpu_s"], times["maintain_cpu_s"])]
            rate = arguments.rows * share * arguments.ticks / sum(cpu_s[1:])
            ratios.append(read["ticks"] / read["clean"])
            print(
                f"| {version} | {share:.0%} | {milliseconds(times['write_s'][1:])} | {milliseconds(times['export_s'][1:])} |"
                f" {milliseconds(times['export_cpu_s'][1:])} | {mean_milliseconds(times['maintain_cpu_s'][1:])} | {rate:,.0f} |"
                f" {read['ticks'] * 1000:,.0f} ms | {read['clean'] * 1000:,.0f} ms | {ratios[-1]:.2f} |",
                flush=True,
            )
    met = "met" if max(ratios) <= TARGET else "**missed**"
    print(f"\nTarget: read in at most {TARGET} × the time of the clean append; at most {max(ratios):.2f}: {met}.")


def measure_peers(arguments):
    """Prints what the same ticks cost PyIceberg."""
    print(f"\nUpsert ticks on {arguments.peer_rows:,} rows:\n")
    print("| changed a tick | Moonshine, write and export | PyIceberg upsert | PyIceberg overwrite |\n|---|---|---|---|")
    for share in (0.01, 0.1):
        with tempfile.TemporaryDirectory() as folder:
            times = moonshine(arguments.program, folder, arguments.peer_rows, arguments.peer_ticks, share, 2)
            ours = [sum(both) for both in zip(times["write_s"][1:], times["export_s"][1:])]
            peers = [
                pyiceberg(folder, arguments.peer_rows, arguments.peer_ticks, share, how) for how in ("upsert", "overwrite")
            ]
        print(f"| {share:.0%} | {milliseconds(ours)} | {milliseconds(peers[0])} | {milliseconds(peers[1])} |", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program", type=os.path.abspath)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--ticks", type=int, default=20)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--peer-rows", type=int, default=100_000)
    arguments.add_argument("--peer-ticks", type=int, default=3)
    arguments.add_argument("--part", choices=["reading", "peers"], help="one of the two tables")
    arguments = arguments.parse_args()
    packages = ["duckdb", "pyiceberg", "pyarrow"]
    report.print_head("Upsert ticks, and what they leave for readers", tempfile.gettempdir(), packages, report.load())
    if arguments.part != "peers":
        measure_reading(arguments)
    if arguments.part != "reading":
        measure_peers(arguments)


if __name__ == "__main__":
    main()
