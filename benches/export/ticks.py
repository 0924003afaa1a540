#!/usr/bin/env python3
"""What upsert ticks cost, and what they leave for readers.

    cargo bench -p moonshine-export --bench ticks --no-run
    target/test-venv/bin/python benches/export/ticks.py target/release/deps/ticks-… > docs/benchmarks/export-ticks.md

For 1 % and 10 % of the rows changed at each tick, and formats 3 and 2, Moonshine makes a table by that many exports. `write` is
the rows into the database, durably; `export` the Iceberg commit; `maintain` what a sync does beside the exports. DuckDB reads the table
and the same rows as one clean append, in turns: all columns of all rows, medians. Then other writers make the same ticks on fewer
rows, each by the best of its own means (`writers.py`); Moonshine's figures for as many rows stand beside them. Every table that
is timed has to hold the same rows at the end. Prints Markdown. The environment is the one that `scripts/test` makes.

DuckDB writes through a catalog server alone, and by its extension httpfs (PyPI `duckdb-extension-httpfs`, of DuckDB's version).
`--catalog-server` is a command that prints `CATALOG`, a server's address and its warehouse's folder, and ends with its input:

    --catalog-server 'cargo test -p moonshine-export --test it serve_a_catalog -- --ignored --nocapture'
"""

import argparse
import json
import os
import pathlib
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "cli/tests/python"))

import readers  # noqa: E402  (found by the line above)
import report  # noqa: E402
import writers  # noqa: E402

TARGET = 1.15
SHARES = (0.01, 0.1)
COLUMNS = "id, customer, total, quantity, is_paid, ordered_at, note, weight"


def moonshine(program, folder, row_count, ticks, share, version):
    """Seconds of each tick, the load first."""
    command = [program, folder, str(row_count), str(ticks), str(share), str(version)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def metadata_file(warehouse):
    with sqlite3.connect(warehouse / "catalog.db") as catalog:
        (location,) = catalog.execute("SELECT metadata_location FROM iceberg_tables").fetchone()
    return location.removeprefix("file://")


def read(connection, metadata):
    """How many rows the table has, and a sum of all their values."""
    query = f"SELECT count(*), bit_xor(hash({COLUMNS})) FROM iceberg_scan('{metadata}')"
    return connection.execute(query).fetchall()


def read_times(folder, rounds):
    """Median seconds in which DuckDB reads every value of the ticks' table, and of the clean one; their rows are equal."""
    tables = {name: metadata_file(folder / name) for name in ("ticks", "clean")}
    times = {name: [] for name in tables}
    found = {}
    with readers.open_duckdb() as connection:
        for round_number in range(rounds + 1):
            # Who comes first changes.
            for name in sorted(tables, reverse=round_number % 2 == 1):
                started = time.perf_counter()
                found[name] = read(connection, tables[name])
                # The first round warms the caches up.
                if round_number:
                    times[name].append(time.perf_counter() - started)
    if found["ticks"] != found["clean"]:
        raise SystemExit(f"the tables differ: {found}")
    return {name: statistics.median(each) for name, each in times.items()}


def milliseconds(times):
    return f"{statistics.median(times) * 1000:,.0f} ms"


def mean_milliseconds(times):
    """Of what is done at some ticks only."""
    return f"{statistics.mean(times) * 1000:,.0f} ms"


def measure_reading(arguments):
    """Prints what ticks cost, and what they leave for readers."""
    print(f"{arguments.rows:,} rows of 8 columns, {arguments.ticks} ticks, then read; medians. *CPU* is that of all cores; *maintain* is")
    print("the mean, since most ticks need none.\n")
    print(
        "| format | changed a tick | write | export | export, CPU | maintain, CPU | rows a CPU second | DuckDB reads it "
        "| the clean append | ratio |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    ratios = []
    for version in (3, 2):
        for share in SHARES:
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
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
    """Prints what the same ticks cost others."""
    print(f"\nUpsert ticks on {arguments.peer_rows:,} rows, format 2, {arguments.peer_ticks} of them; medians. Moonshine's are write, export and maintenance\n"
          "together. Each table held the same rows at the end.\n")
    peers = [name for name in writers.WRITERS if arguments.catalog_server or not writers.WRITERS[name].needs_server]
    print(f"| changed a tick | Moonshine | {' | '.join(peers)} |\n|---|---|{'---|' * len(peers)}")
    refusals = {}
    for share in SHARES:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder, readers.open_duckdb() as connection:
            folder = pathlib.Path(folder)
            work = (arguments.peer_rows, arguments.peer_ticks, share)
            times = moonshine(arguments.program, folder, *work, 2)
            parts = zip(times["write_s"][1:], times["export_s"][1:], times["maintain_s"][1:])
            cells = [milliseconds([sum(part) for part in parts])]
            expected = read(connection, metadata_file(folder / "clean"))
            for name in peers:
                try:
                    peer_times, found = writers.run(
                        writers.WRITERS[name], folder / name, *work, arguments.catalog_server, lambda path: read(connection, path)
                    )
                except Exception as error:  # What a writer can't do is part of the result.
                    refusals[name] = f"{type(error).__name__}: {error}".split("\n")[0][:300]
                    cells.append("refused")
                    continue
                if found != expected:
                    raise SystemExit(f"{name}: other rows")
                cells.append(milliseconds(peer_times))
        print(f"| {share:.0%} | {' | '.join(cells)} |", flush=True)
    for name, reason in refusals.items():
        print(f"\n{name} refused: {reason}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program", type=os.path.abspath)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--ticks", type=int, default=20)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--peer-rows", type=int, default=100_000)
    arguments.add_argument("--peer-ticks", type=int, default=5)
    arguments.add_argument("--part", choices=["reading", "peers"], help="one of the two tables")
    arguments.add_argument("--catalog-server", help="what serves a REST catalog")
    arguments.add_argument("--folder", default=tempfile.gettempdir(), help="where databases and tables are made")
    arguments = arguments.parse_args()
    packages = ["duckdb", "pyiceberg", "daft", "pyarrow"]
    report.print_head("Upsert ticks, and what they leave for readers", arguments.folder, packages, report.load())
    if arguments.part != "peers":
        measure_reading(arguments)
    if arguments.part != "reading":
        measure_peers(arguments)


if __name__ == "__main__":
    main()
