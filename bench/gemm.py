#!/usr/bin/env python3
"""Rates of the products of a training linear: every candidate of Inkstone against torch.matmul.

    python bench/gemm.py [--dtypes f32 bf16] [--repeats 5] [--json out.json]

Shapes are those of `inkstone_bench`'s gemm rows: 1024 tokens by the linears of the 125M model, and its
head over one chunk of the loss. Inkstone and torch take turns on each row. torch writes dW in the
dtype of its operands; Inkstone adds it to f32, which is more work.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import machine

ROOT = Path(__file__).resolve().parent.parent
PRODUCTS = ["y", "dx", "dW"]
SHAPES = [(1024, 768, 768), (1024, 768, 2048), (1024, 2048, 768), (256, 768, 32000)]
# The rate that is aimed at, as a multiple of torch's.
GOALS = {"f32": 1.0, "bf16": 1.1}
LABEL = re.compile(r"\w+ \w+ by (?P<candidate>\w+),")


def inkstone_rates(binary: Path, product: str, shape: tuple, dtype: str, seconds: float) -> dict:
    """GFLOP/s by candidate; those that do not run on this machine or dtype are left out."""
    rows, inputs, outputs = shape
    name = f"gemm/product:{PRODUCTS.index(product)}/T:{rows}/I:{inputs}/O:{outputs}/bf16:{int(dtype == 'bf16')}/"
    command = [binary, f"--benchmark_filter=^{name}", "--benchmark_format=json"]
    command += [f"--benchmark_min_time={seconds}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rates = {}
    for row in json.loads(done.stdout)["benchmarks"]:
        if not row.get("error_occurred"):
            rates[LABEL.match(row["label"])["candidate"]] = row["GFLOP/s"]
    if not rates:
        raise SystemExit(f"{binary} has no row {name}")
    return rates


class Rival:
    def __init__(self, threads: int):
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "bench/gemm_rival.py", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def rate(self, product: str, shape: tuple, dtype: str, seconds: float) -> float:
        self.process.stdin.write(f"{product} {' '.join(map(str, shape))} {dtype} {seconds}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(arguments, rival: Rival, product: str, shape: tuple, dtype: str) -> dict:
    ours, theirs = defaultdict(list), []
    for _ in range(arguments.repeats):
        rates = inkstone_rates(arguments.bench, product, shape, dtype, arguments.seconds)
        for candidate, rate in rates.items():
            ours[candidate].append(rate)
        theirs.append(rival.rate(product, shape, dtype, arguments.seconds))
    medians = {candidate: statistics.median(rates) for candidate, rates in ours.items()}
    best = max(medians, key=medians.get)
    torch_rate = statistics.median(theirs)
    return {
        "product": product,
        "shape": shape,
        "dtype": dtype,
        "inkstone": medians,
        "best": best,
        "torch": torch_rate,
        "ratio": medians[best] / torch_rate,
        "spread": max(machine.spread(ours[best]), machine.spread(theirs)),
    }


def print_row(row: dict) -> None:
    shape = "x".join(map(str, row["shape"]))
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in row["inkstone"].items())
    print(
        f"{row['dtype']:4} {row['product']:2} {shape:14} {row['ratio']:5.2f}x (goal {GOALS[row['dtype']]}x)"
        f"  torch {row['torch']:.0f}, {rates} GFLOP/s, spread {row['spread']:.0%}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, default=ROOT / "build/cpu-release/bench/inkstone_bench")
    parser.add_argument("--dtypes", nargs="*", choices=GOALS, default=list(GOALS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="of one measurement")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()

    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    about = machine.describe()
    machine.print_header(about)
    rival = Rival(arguments.threads)
    rows = []
    for dtype in arguments.dtypes:
        for shape in SHAPES:
            for product in PRODUCTS:
                rows.append(compare(arguments, rival, product, shape, dtype))
                print_row(rows[-1])
    rival.end()
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
