#!/usr/bin/env python3
"""How the harness compares with fio: the same job files on the same preallocated file, in alternating runs.

    cargo build --release && benches/bench_vs_fio.py --file /mnt/disk/bench.dat [--rounds 5] [--runtime 1]
    cargo build --release -p moonshine-sysprobe --example bench
    benches/bench_vs_fio.py --program target/release/examples/bench --file /mnt/disk/bench.dat

At each point of the grid (engine, operation, block size, iodepth or numjobs) and in each round fio and the harness run one
after the other, in turning order, so that a device that changes its speed changes it for both. A ratio is that of the
harness to fio in one round; what is reported is the median over the rounds. Beside it stands fio's own scatter: how far
the runs of fio alone lie apart at this point. A ratio can be no surer than that.

`--rounds 5 --runtime 1` takes about 20 minutes for the whole grid; `--runtime 0.5`, or fewer engines, operations,
block sizes or depths, take less. `--markdown FILE` writes the tables with the facts of the machine.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BOUND = 0.05
METRICS = ("bandwidth", "IOPS", "p99", "CPU per I/O")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    program = f"{ROOT / 'target/release/moonshine'} bench"
    parser.add_argument("--program", default=program, help="the harness, with its first arguments")
    parser.add_argument("--fio", default="fio")
    parser.add_argument("--file", required=True, type=pathlib.Path, help="made and filled where it is not there")
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runtime", type=float, default=1.0, help="seconds of each run")
    parser.add_argument("--ramp", type=float, default=0.0, help="seconds before each run that are not counted")
    parser.add_argument("--engines", default="psync,io_uring")
    parser.add_argument("--operations", default="randread,randwrite")
    parser.add_argument("--block-sizes", default="4k,16k,64k,256k")
    parser.add_argument("--depths", default="1,4,16,64", help="iodepth of io_uring, numjobs of psync")
    parser.add_argument("--markdown", type=pathlib.Path)
    parser.add_argument("--raw", type=pathlib.Path, help="writes what each run measured, as JSON")
    return parser.parse_args()


def fill(path, size_mib):
    """Blocks that were never written are read without I/O: writes them all."""
    if path.exists() and path.stat().st_size >= size_mib << 20:
        return
    with open(path, "wb") as out:
        for _ in range(size_mib):
            out.write(os.urandom(1 << 20))
        out.flush()
        os.fsync(out.fileno())


def job_file(arguments, point):
    engine, operation, block_size, depth = point
    parallel = f"numjobs={depth}" if engine == "psync" else f"iodepth={depth}"
    lines = [
        "[global]",
        f"filename={arguments.file.resolve()}",
        f"size={arguments.size_mib}m",
        "direct=1",
        "time_based",
        f"runtime={round(arguments.runtime * 1000)}ms",
        "group_reporting",
        f"[{engine}-{operation}-{block_size}-{depth}]",
        f"ioengine={engine}",
        f"rw={operation}",
        f"bs={block_size}",
        parallel,
    ]
    if arguments.ramp:
        lines.insert(6, f"ramp_time={round(arguments.ramp * 1000)}ms")
    return "\n".join(lines) + "\n"


def measure(command, path):
    done = subprocess.run([*command, "--output-format=json", path], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    direction = max((job["read"], job["write"]), key=lambda one: one["total_ios"])
    cpu_percent = job["usr_cpu"] + job["sys_cpu"]
    return {
        "bandwidth": direction["bw_bytes"],
        "IOPS": direction["iops"],
        "p99": direction["clat_ns"]["percentile"]["99.000000"] / 1000,
        "CPU per I/O": cpu_percent * job["job_runtime"] * 10 / direction["total_ios"],
    }


def run_grid(arguments, points):
    programs = {"fio": [arguments.fio], "harness": arguments.program.split()}
    runs = {point: {"fio": [], "harness": []} for point in points}
    rng = random.Random(1)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(arguments.rounds):
            order = list(points)
            rng.shuffle(order)
            for done, point in enumerate(order):
                path = os.path.join(folder, "job.fio")
                pathlib.Path(path).write_text(job_file(arguments, point), encoding="utf-8")
                names = ("fio", "harness") if (turn + done) % 2 == 0 else ("harness", "fio")
                for name in names:
                    runs[point][name].append(measure(programs[name], path))
                share = (turn * len(points) + done + 1) / (arguments.rounds * len(points))
                left = (time.monotonic() - begun) * (1 / share - 1)
                line = f"\r{share:6.1%}, {left:5.0f} s left, {'-'.join(map(str, point)):30}"
                print(line, end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return runs


def ratios(run, metric):
    pairs = zip(run["harness"], run["fio"], strict=True)
    return [ours[metric] / theirs[metric] for ours, theirs in pairs if theirs[metric]]


def scatter(values):
    """The middle half of the runs lies this far apart, as a share of the median."""
    if len(values) < 2:
        return math.nan
    quarters = statistics.quantiles(values, n=4, method="inclusive")
    return (quarters[2] - quarters[0]) / quarters[1]


def is_outside(metric, ratio):
    return ratio > 1 if metric == "CPU per I/O" else abs(ratio - 1) > BOUND


def table(runs):
    lines = [
        "| engine | operation | block | depth | fio IOPS | bandwidth | IOPS | p99 | CPU per I/O | fio's scatter of IOPS, p99 |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for (engine, operation, block_size, depth), run in runs.items():
        cells = []
        for metric in METRICS:
            ratio = statistics.median(ratios(run, metric))
            cells.append(f"**{ratio:.3f}**" if is_outside(metric, ratio) else f"{ratio:.3f}")
        iops = statistics.median(one["IOPS"] for one in run["fio"])
        apart = [scatter([one[metric] for one in run["fio"]]) for metric in ("IOPS", "p99")]
        lines.append(
            f"| {engine} | {operation} | {block_size} | {depth} | {iops:.0f} | {' | '.join(cells)} "
            f"| {apart[0]:.0%}, {apart[1]:.0%} |"
        )
    return "\n".join(lines)


def summary(runs):
    lines = []
    for metric in METRICS:
        medians = [statistics.median(ratios(run, metric)) for run in runs.values()]
        mean = math.exp(statistics.fmean(map(math.log, medians)))
        outside = sum(is_outside(metric, ratio) for ratio in medians)
        sure = sum(
            is_outside(metric, statistics.median(all_ratios)) and (min(all_ratios) > 1 or max(all_ratios) < 1)
            for all_ratios in (ratios(run, metric) for run in runs.values())
        )
        bound = "above 1" if metric == "CPU per I/O" else f"more than {BOUND:.0%} from 1"
        lines.append(
            f"- {metric}: geometric mean of all points {mean:.3f}; {outside} of {len(runs)} points {bound}, "
            f"of which {sure} on the same side in every round"
        )
    return "\n".join(lines)


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def facts(arguments, loads):
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = [line.split(":", 1)[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    folder = str(arguments.file.resolve().parent)
    source = output_of("findmnt", "-n", "-o", "SOURCE", "-T", folder).splitlines()
    return "\n".join(
        [
            f"- {datetime.date.today()}, {models[0] if models else platform.machine()}, {os.cpu_count()} cores, "
            f"Linux {platform.release()}",
            f"- {output_of(arguments.fio, '--version')}; file of {arguments.size_mib} MiB on "
            f"{output_of('stat', '-f', '-c', '%T', folder)} ({source[-1] if source else 'unknown'}), "
            "O_DIRECT",
            f"- {arguments.rounds} rounds of {arguments.runtime:g} s each; load of the machine {loads[0]:.1f} at the "
            f"beginning, {loads[1]:.1f} at the end",
        ]
    )


def main():
    arguments = parse_arguments()
    fill(arguments.file, arguments.size_mib)
    points = [
        (engine, operation, block_size, int(depth))
        for engine in arguments.engines.split(",")
        for operation in arguments.operations.split(",")
        for block_size in arguments.block_sizes.split(",")
        for depth in arguments.depths.split(",")
    ]
    before = os.getloadavg()[0]
    runs = run_grid(arguments, points)
    text = f"{facts(arguments, (before, os.getloadavg()[0]))}\n\n{summary(runs)}\n\n{table(runs)}\n"
    print(text)
    if arguments.raw:
        raw = {"-".join(map(str, point)): run for point, run in runs.items()}
        arguments.raw.write_text(json.dumps(raw, indent=1), encoding="utf-8")
    if arguments.markdown:
        opening = (
            "# The harness beside fio\n\n"
            "Written by `benches/bench_vs_fio.py`, which says how it measures. Each number is the harness's measurement\n"
            "divided by fio's, the median over the rounds; bold ones lie outside of the bounds (5 %, and no more CPU per\n"
            "I/O than fio). Where fio's own scatter is greater than that, a ratio says little.\n\n"
        )
        arguments.markdown.write_text(opening + text, encoding="utf-8")


if __name__ == "__main__":
    main()
