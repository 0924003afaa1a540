#!/usr/bin/env python3
"""How fast a file of change events becomes an Iceberg table.

    cargo build --release && benches/sync.py [--events 1000000] [--rounds 3]

Makes a file of Debezium events of one table (inserts, then updates and deletes of random rows), runs
`moonshine sync --once` over it in a fresh folder, and over the same number of changes again on top; prints for each
round the events a second of wall time, CPU seconds and peak memory, and at the end the medians and what lies on disk.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLUMNS = "id:int64,customer:string,total:decimal(12,2),paid:boolean,at:timestamptz"


def event(op, row):
    before, after = (row, None) if op == "d" else (None, row)
    source = {"schema": "shop", "table": "orders"}
    return json.dumps({"before": before, "after": after, "op": op, "source": source}, separators=(",", ":"))


def write_events(path, count, row_count, rng, first):
    with open(path, "a", encoding="utf-8") as out:
        for i in range(count):
            key = i if first else rng.randrange(row_count)
            row = {
                "id": key,
                "customer": f"customer {rng.randrange(100_000)}",
                "total": f"{rng.randrange(1_000_000) / 100:.2f}",
                "paid": rng.random() < 0.5,
                "at": 1_700_000_000_000_000 + i,
            }
            op = "c" if first else ("d" if rng.random() < 0.1 else "u")
            out.write(event(op, row) + "\n")


def run(program, folder):
    command = [program, "sync", "--from", "events.jsonl", "--table", "shop.orders", "--key", "id", "--columns", COLUMNS]
    command += ["--database", "data", "--warehouse", "warehouse", "--once"]
    # Ten seconds of measuring the device are no part of what is timed here.
    command += ["--profile", "safe-defaults"]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"moonshine sync ended with status {status}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def size_mib(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--events", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--program", default=ROOT / "target/release/moonshine")
    arguments = arguments.parse_args()
    results = {"first load": [], "changes on top": []}
    for round_number in range(arguments.rounds):
        rng = random.Random(7)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            for name, result in results.items():
                first = name == "first load"
                write_events(folder / "events.jsonl", arguments.events, arguments.events, rng, first)
                seconds, cpu_seconds, peak_mib = run(arguments.program, folder)
                result.append(arguments.events / seconds)
                print(
                    f"round {round_number + 1}, {name}: {arguments.events / seconds:,.0f} events/s, "
                    f"{cpu_seconds:.1f} CPU-s, peak memory {peak_mib:,.0f} MiB"
                )
            sizes = {name: size_mib(folder / name) for name in ("data", "warehouse")}
            events_mib = (folder / "events.jsonl").stat().st_size / 2**20
    for name, result in results.items():
        print(f"median, {name}: {statistics.median(result):,.0f} events/s")
    print(f"events {events_mib:,.0f} MiB, log {sizes['data']:,.0f} MiB, warehouse {sizes['warehouse']:,.0f} MiB")


if __name__ == "__main__":
    main()
