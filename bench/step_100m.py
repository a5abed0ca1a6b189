#!/usr/bin/env python3
"""Time and memory of a training step of the 125M InternLM2 on the CPU, against torch.

    python bench/step_100m.py [--pairs f32 bf16] [--rounds 3] [--json out.json]

A step is 2 packs of 512 tokens with AdamW and clipping. Inkstone and torch take turns (A/B/A/B): each
round, Inkstone runs once from its start and torch, kept waiting in a process of its own, goes on.
The first steps of each are left out. Printed are the medians over all measured steps, the spread
(max - min) / median, the ratio of the medians, and the largest resident size of each process. Last
comes the time from starting `inkstone train` to the first step of the small model.

On a machine that others use, `--threads 1 --clock cpu` compares the processor time of one thread
instead: less true to what a user sees, but hardly disturbed by the neighbours.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import machine
from run_metrics import step_rows

ROOT = Path(__file__).resolve().parent.parent
BATCH, LENGTH = 2, 512
WARM_UP = 1  # steps of every run of Inkstone; torch warms up once
RIVAL_WARM_UP = 2
LOOK_EVERY = 0.01  # seconds between two looks at the metrics of a run

BF16_STATES = ["model.dtype=bf16", "optim.state_dtype=bf16"]
PAIRS = {
    # name: (overrides of Inkstone, mode of the rival, floor of the time ratio, of the memory ratio)
    "f32": (["model.dtype=fp32"], "f32", 1.15, 0.7),
    "f32-compiled": (["model.dtype=fp32"], "f32-compiled", None, None),
    "bf16": (BF16_STATES, "bf16", 1.3, 0.85),
    "bf16-compiled": (BF16_STATES, "bf16-compiled", None, None),
    "autocast": (["model.dtype=bf16"], "autocast", None, None),
    "autocast-compiled": (["model.dtype=bf16"], "autocast-compiled", 1.3, 0.85),
}
# Without AMX the floor of the bf16 pairs is higher: torch has to emulate most of it.
FLOOR_WITHOUT_AMX = 2.0


@dataclass
class Side:
    seconds: list[float]
    peak_rss: int = 0

    def median(self) -> float:
        return statistics.median(self.seconds)

    def summary(self) -> dict:
        return {
            "median_s": self.median(),
            "tokens_per_s": BATCH * LENGTH / self.median(),
            "spread": machine.spread(self.seconds),
            "steps": len(self.seconds),
            "seconds": [round(seconds, 4) for seconds in self.seconds],
            "peak_rss": self.peak_rss,
        }


@dataclass
class Part:
    rows: list[dict]  # the step rows of metrics.jsonl
    cpu: list[float]  # processor time that the process had used when each of them appeared
    seconds: float  # from starting the process to the last of them
    peak_rss: int


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # user, system


def run_part(binary: Path, run_file: str, steps: int, overrides: list[str]) -> Part:
    """Trains until `steps` steps are done, then ends the process: the save at the end of a run is no
    part of a step, neither of its time nor of its memory."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [binary, "train", ROOT / "configs/runs" / run_file, f"checkpoint.dir={run}"]
        command += ["train.steps=1000", "log.tensorboard=false", "log.plot=false", *overrides]
        error = Path(folder) / "error"
        start = time.perf_counter()
        with open(error, "wb") as sink:
            process = subprocess.Popen(command, stdout=sink, stderr=sink)
        metrics, size = run / "metrics.jsonl", 0
        rows, cpu = [], []
        while len(rows) < steps and process.poll() is None:
            # Looking is to cost next to nothing: the run computes on all cores.
            time.sleep(LOOK_EVERY)
            if size == (size := metrics.stat().st_size if metrics.exists() else 0):
                continue
            rows = step_rows(metrics)
            cpu += [cpu_seconds(process.pid)] * (len(rows) - len(cpu))
        seconds = time.perf_counter() - start
        if process.returncode is not None:
            raise SystemExit(f"{command} left with {process.returncode}:\n{error.read_text()}")
        process.kill()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Part(rows[:steps], cpu[:steps], seconds, usage.ru_maxrss * 1024)


def inkstone_steps(binary: Path, overrides: list[str], steps: int) -> Part:
    shape = [
        f"data.max_length={LENGTH}",
        f"data.train.0.synthetic.length={LENGTH}",
        f"train.global_batch_size={BATCH}",
        f"train.micro_batch_size={BATCH}",
    ]
    part = run_part(binary, "bench_100m.yaml", WARM_UP + steps, shape + overrides)
    for row in part.rows:
        if row["tokens"] != BATCH * LENGTH:
            raise SystemExit(f"step {row['step']} has {row['tokens']} tokens, not {BATCH * LENGTH}")
    return part


def step_seconds(part: Part, clock: str) -> list[float]:
    """Of the steps after the warm-up."""
    if clock == "cpu":
        return [b - a for a, b in itertools.pairwise(part.cpu[WARM_UP - 1 :])]
    return [row["step_time"] for row in part.rows[WARM_UP:]]


class Rival:
    def __init__(self, mode: str, threads: int):
        command = [sys.executable, ROOT / "bench/step_rival.py", "--mode", mode]
        command += ["--model", ROOT / "configs/models/bench_100m.yaml", "--threads", str(threads)]
        command += ["--batch", str(BATCH), "--length", str(LENGTH)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, line: str) -> dict:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the rival left with {self.process.wait()}")
        return json.loads(answer)

    def steps(self, count: int, clock: str) -> list[float]:
        return self.ask(f"steps {count}")["cpu_seconds" if clock == "cpu" else "seconds"]

    def end(self) -> int:
        peak = self.ask("end")["peak_rss"]
        self.process.wait()
        return peak


def compare(name: str, arguments) -> dict:
    overrides, mode, time_floor, memory_floor = PAIRS[name]
    if mode != "f32" and time_floor and machine.instruction_set() != "AMX bf16":
        time_floor = FLOOR_WITHOUT_AMX
    ours, theirs = Side([]), Side([])
    rival = Rival(mode, arguments.threads)
    rival.steps(RIVAL_WARM_UP, arguments.clock)
    for _ in range(arguments.rounds):
        part = inkstone_steps(arguments.inkstone, overrides, arguments.steps)
        ours.seconds += step_seconds(part, arguments.clock)
        ours.peak_rss = max(ours.peak_rss, part.peak_rss)
        theirs.seconds += rival.steps(arguments.steps, arguments.clock)
    theirs.peak_rss = rival.end()
    return {
        "pair": name,
        "inkstone": ours.summary(),
        "torch": theirs.summary(),
        "speed": theirs.median() / ours.median(),
        "speed_floor": time_floor,
        "memory": ours.peak_rss / theirs.peak_rss,
        "memory_floor": memory_floor,
    }


def print_pair(row: dict) -> None:
    for side in ("inkstone", "torch"):
        s = row[side]
        print(
            f"{row['pair']:18} {side:9} {s['tokens_per_s']:7.0f} tok/s {s['median_s'] * 1e3:7.0f} ms"
            f"  spread {s['spread']:4.0%}  {s['steps']} steps  {s['peak_rss'] / 2**30:5.2f} GiB"
        )

    def bound(value, sign):
        return f" (floor {sign} {value})" if value else ""

    speed = f"speed {row['speed']:.2f}x{bound(row['speed_floor'], '>=')}"
    print(f"{'':18} {speed}, memory {row['memory']:.2f}x{bound(row['memory_floor'], '<=')}", flush=True)


def time_to_first_step(binary: Path) -> float:
    """Seconds from starting the process to the first step row of the small model."""
    return run_part(binary, "pretrain_synthetic.yaml", 1, []).seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inkstone", type=Path, default=ROOT / "build/cpu-release/launch/inkstone")
    parser.add_argument("--pairs", nargs="*", choices=PAIRS, default=["f32", "bf16", "autocast-compiled"])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--steps", type=int, default=3, help="measured steps of a turn")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()

    if arguments.clock == "cpu" and arguments.threads != 1:
        raise SystemExit("--clock cpu compares single threads: expected --threads 1")
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    about = machine.describe()
    machine.print_header(about)
    rows = []
    for name in arguments.pairs:
        rows.append(compare(name, arguments))
        print_pair(rows[-1])
    starts = [time_to_first_step(arguments.inkstone) for _ in range(5)]
    print(
        f"start to first step, small model: {statistics.median(starts):.2f} s (goal < 1 s),"
        f" spread {machine.spread(starts):.0%}"
    )
    if arguments.json:
        result = {"machine": about, "clock": arguments.clock, "pairs": rows, "start_seconds": starts}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
