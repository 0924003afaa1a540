#!/usr/bin/env python3
"""How well repeated probes of one folder agree.

    cargo build --release && benches/probe_stability.py [--quick] [--count 10] [--program target/release/moonshine] [FOLDER]

Runs `moonshine probe --json` the given number of times, one after the other, and prints S-Size, S-Paral and what they are
made of for each run; then the share of consecutive pairs that agree within one step (a factor of two), the share of all
pairs that do, and the spread. Ends with status 1 where fewer than 9 of 10 consecutive pairs agree. The JSON of each run is
kept in the folder that --keep names.
"""

import argparse
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARE_WANTED = 0.9
# What is compared: name, and how to find it in a report.
NUMBERS = {
    "S-Size": lambda report: report["profile"]["s_size_bytes"],
    "S-Paral": lambda report: report["profile"]["s_paral"],
    "threads": lambda report: report["io_threads"],
    "depth": lambda report: report.get("io_depth"),
    "commit batch": lambda report: report.get("commit_batch_bytes"),
}
WANTED = ("S-Size", "S-Paral")


def probe(arguments):
    command = [arguments.program, "probe", "--json"] + (["--quick"] if arguments.quick else []) + [arguments.folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} ended with status {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


def size(number):
    for unit, scale in (("MiB", 2**20), ("KiB", 2**10)):
        if number >= scale and number % scale == 0:
            return f"{number // scale} {unit}"
    return str(number)


def agree(pairs):
    """The share of pairs within one step."""
    pairs = list(pairs)
    return sum(max(pair) <= 2 * min(pair) for pair in pairs) / len(pairs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=tempfile.gettempdir())
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--program", default=ROOT / "target/release/moonshine")
    parser.add_argument("--keep", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.count < 2:
        parser.error("--count: two runs are the least that can agree")

    found = {name: [] for name in NUMBERS}
    print(f"{'run':>3}  " + "".join(f"{name:>13}" for name in NUMBERS) + "  seconds   load  notes")
    for run in range(1, arguments.count + 1):
        report = probe(arguments)
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            (arguments.keep / f"{run:02}.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        row = {name: of(report) for name, of in NUMBERS.items()}
        for name, value in row.items():
            found[name].append(value)
        notes = ", ".join(finding["finding"] for finding in report["findings"]) or "none"
        columns = "".join(f"{'-' if value is None else size(value):>13}" for value in row.values())
        print(f"{run:>3}  {columns}  {report['duration_s']:>7.1f}  {os.getloadavg()[0]:>5.1f}  {notes}", flush=True)

    met = True
    print(f"\n{'':>13}  consecutive pairs  all pairs  least … greatest")
    for name, values in found.items():
        values = [value for value in values if value]
        if len(values) < 2:
            continue
        consecutive = agree(itertools.pairwise(values))
        print(
            f"{name:>13}  {consecutive:>16.0%}   {agree(itertools.combinations(values, 2)):>8.0%}"
            f"  {size(min(values))} … {size(max(values))}"
        )
        met = met and (name not in WANTED or consecutive >= SHARE_WANTED)
    print(f"wanted: {' and '.join(WANTED)} within one step in {SHARE_WANTED:.0%} of consecutive pairs: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
