"""What the benchmarks of exports say of the machine and of the programs that they ran on."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def memory_mib():
    (line,) = [line for line in pathlib.Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:")]
    return int(line.split()[1]) // 1024


def file_system(folder):
    command = ["findmnt", "--noheadings", "--output=FSTYPE", "--target", str(folder)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def load():
    return " ".join(f"{average:.2f}" for average in os.getloadavg())


def print_head(title, folder, peers, load_before):
    """The title, the machine, and the versions of these Python packages."""
    versions = ", ".join(f"{peer} {importlib.metadata.version(peer)}" for peer in peers)
    print(f"# {title}\n")
    print(f"Machine: {cpu_model()}, {os.cpu_count()} cores, {memory_mib()} MiB of memory, Linux {platform.release()},")
    print(f"{file_system(folder)}. Load averages: {load_before} before, {load()} after. Peers: {versions}.\n")
