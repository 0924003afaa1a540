#!/usr/bin/env python3
"""One large clean export beside the writers of DuckDB and pyarrow.

    cargo bench -p moonshine-export --bench append --no-run
    target/test-venv/bin/python benches/export/append.py target/release/deps/append-… [--rows 10000000] [--rounds 3]

The rows, 16 columns of mixed types, are in Moonshine's database, in a table of DuckDB's in memory, and in a pyarrow table. Each
writes them as Parquet with zstd of level 1 and all cores, in turns. Moonshine's figures hold the whole export: the scan of the
database, the Parquet files with page indexes and a bloom filter, the Iceberg metadata and commit, and the engine's record
of where each row lies. Prints Markdown: medians, rows a second of CPU time, and each one's ratio to the faster peer.
The environment is the one that `scripts/test` makes.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time


def timed(write, out):
    started, cpu = time.monotonic(), os.times()
    write()
    wall_s, after = time.monotonic() - started, os.times()
    cpu_s = after.user + after.system - cpu.user - cpu.system
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return {"wall_s": wall_s, "cpu_s": cpu_s, "bytes": size}


def duckdb_writes(data, out):
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE rows AS SELECT * FROM read_parquet('{data}/*.parquet')")
    query = f"COPY rows TO '{out}/rows.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
    return timed(lambda: connection.execute(query), out)


def pyarrow_writes(data, out):
    import pyarrow.parquet as pq

    table = pq.ParquetDataset(data).read()
    options = {"compression": "zstd", "compression_level": 1, "write_page_index": True}
    return timed(lambda: pq.write_table(table, out / "rows.parquet", **options), out)


PEERS = {"DuckDB": duckdb_writes, "pyarrow": pyarrow_writes}


def run_peer(name, data, folder):
    out = folder / "peer"
    out.mkdir()
    command = [sys.executable, __file__, "--peer", name, str(data), str(out)]
    result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    shutil.rmtree(out)
    return result


def run_moonshine(program, folder, warehouse):
    copy = folder / "copy"
    shutil.copytree(folder / "database", copy)
    command = [program, "export", str(copy), str(warehouse)]
    result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    shutil.rmtree(copy)
    return result


def measure(program, rows, rounds, folder):
    subprocess.run([program, "load", str(folder / "database"), str(rows)], check=True, stdout=subprocess.DEVNULL)
    warehouse = folder / "warehouse"
    first = run_moonshine(program, folder, warehouse)
    assert first["rows"] == rows, first
    data = warehouse / "shop" / "orders" / "data"
    results = {name: [] for name in ("Moonshine", *PEERS)}
    for _ in range(rounds):
        again = folder / "again"
        results["Moonshine"].append(run_moonshine(program, folder, again))
        shutil.rmtree(again)
        for name in PEERS:
            results[name].append(run_peer(name, data, folder))
    return results


def report(results, rows):
    median = {
        name: {key: statistics.median(run[key] for run in runs) for key in ("cpu_s", "wall_s", "bytes")}
        for name, runs in results.items()
    }
    rate = {name: rows / figures["cpu_s"] for name, figures in median.items()}
    best = max(rate[name] for name in PEERS)
    print("| writer | CPU s | rows per CPU second | ratio to the faster peer | wall s | MB |")
    print("|---|---|---|---|---|---|")
    for name, figures in median.items():
        print(
            f"| {name} | {figures['cpu_s']:.2f} | {rate[name]:,.0f} | {rate[name] / best:.2f} "
            f"| {figures['wall_s']:.2f} | {figures['bytes'] / 1e6:.0f} |"
        )


def main():
    if sys.argv[1:2] == ["--peer"]:
        _, _, name, data, out = sys.argv
        print(json.dumps(PEERS[name](pathlib.Path(data), pathlib.Path(out))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="where databases and files go; the system's own for such by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        results = measure(arguments.program, arguments.rows, arguments.rounds, pathlib.Path(folder))
    report(results, arguments.rows)


main()
