"""What has to stand beside every number: processor, instruction set, threads, load, versions."""

import os
import statistics
from pathlib import Path

# The widest first; what the GEMM kernels choose by.
INSTRUCTION_SETS = {
    "amx_bf16": "AMX bf16",
    "avx512_bf16": "AVX-512 bf16",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
}


def cpu_field(name: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(name):
            return line.split(":", 1)[1].strip()
    return "unknown"


def instruction_set() -> str:
    flags = set(cpu_field("flags").split())
    return next((name for flag, name in INSTRUCTION_SETS.items() if flag in flags), "plain")


def describe() -> dict:
    load = os.getloadavg()[0]
    return {
        "processor": cpu_field("model name"),
        "instruction_set": instruction_set(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(load, 2),
        # Numbers taken while others work on the same cores are lower, and by unequal amounts.
        "quiet": load < 0.5,
    }


def print_header(machine: dict) -> None:
    print(f"{machine['processor']}, {machine['instruction_set']}, {machine['cores']} cores")
    if not machine["quiet"]:
        print(f"WARNING: load {machine['load']} before the start: these numbers are not clean")


def spread(values: list[float]) -> float:
    """Width of the middle of the values, relative to their median: (max - min) / median."""
    return (max(values) - min(values)) / statistics.median(values)
