#!/usr/bin/env python3
"""Kernels of the card against torch and against the copy rate of the same card, in one run.

    python bench/gpu/kernels.py [--families gemm attention] [--rounds 5] [--json out.json] [--tiny]

Each family takes turns with torch (A/B/A/B): inkstone_gpu_bench times every row of the family, then a
process of torch that is kept waiting times its counterpart of each row. Printed are the medians over
the rounds, the spread (max - min) / median, and the ratio of the medians; the JSON has the copy rate, the
clock under load and all versions too. What fails on either side is
named, in the JSON too, and the rest goes on: rows that a family had measured before it failed or hung are
kept. `--tiny` runs both on the CPU in small sizes: it shows that the program works, its times say nothing.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import machine  # noqa: E402

from card import CardWatch, describe_card  # noqa: E402


ROW_SECONDS = 120  # longer than that hangs; the first row imports torch
OVERTIME = 25  # seconds that the round under way may take beyond --minutes


def allowed(seconds: float, end: float) -> float:
    return max(0.0, min(seconds, end - time.monotonic()))


class Failed(Exception):
    """One side did not answer."""


class Rival:
    """torch's process; one that left or hung is followed by another at the next question."""

    def __init__(self, tiny: bool, end: float):
        self.command = [sys.executable, Path(__file__).with_name("kernels_rival.py")]
        self.command += ["--tiny"] if tiny else []
        self.seconds, self.end_of_time = 3600 if tiny else ROW_SECONDS, end
        self.process = None
        self.versions = None

    def ask(self, row: dict) -> dict:
        seconds = allowed(self.seconds, self.end_of_time)
        if seconds == 0:
            raise Failed("no time was left for torch")
        if self.process is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self.process = subprocess.Popen(self.command, text=True, **pipes)
        wanted = {name: row[name] for name in ("family", "kernel", "shape")}
        watch = threading.Timer(seconds, self.process.kill)
        watch.start()
        try:
            self.process.stdin.write(json.dumps(wanted) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
            if answer.startswith('{"versions"'):
                self.versions = json.loads(answer)["versions"]
                answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            watch.cancel()
        if not answer:
            left, self.process = self.process.wait(), None
            raise Failed(f"torch's side left with {left}")
        return json.loads(answer)

    def end(self) -> None:
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


def inkstone_rows(arguments, family: str, end: float) -> tuple[list[dict], str | None]:
    """What the program printed (the card, copies, rows of the family), and what ended it before the last."""
    command = [arguments.bench, "--family", family]
    command += ["--tiny"] if arguments.tiny else ["--samples", str(arguments.samples)]
    limit = None if arguments.tiny else allowed(arguments.seconds, end)
    failure = None
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        try:
            done = subprocess.run(command, stdout=out, stderr=err, timeout=limit)
            if done.returncode != 0:
                err.seek(0)
                failure = f"left with {done.returncode}: {err.read().strip()}"
        except subprocess.TimeoutExpired as hung:
            failure = f"no end after {hung.timeout:.0f} s"
        out.seek(0)
        rows = [json.loads(line) for line in out if line.endswith("\n")]  # the last may be cut off
    return rows, failure


def key(row: dict) -> str:
    return json.dumps([row["family"], row["kernel"], row["shape"]], sort_keys=True)


def compare(arguments, rival: Rival, family: str, deadline: float, about: dict, failures: dict) -> list[dict]:
    """Rows of one family: at least one round, more until the rounds or the time are used up."""
    ours, theirs, known = {}, {}, {}
    for turn in range(arguments.rounds):
        if turn > 0 and time.monotonic() > deadline:
            break
        printed, failure = inkstone_rows(arguments, family, rival.end_of_time)
        rows = [row for row in printed if row.get("family") == family]
        about["inkstone"] = about["inkstone"] or next((row for row in printed if "family" not in row), None)
        about["copies"] += [row for row in printed if row.get("family") == "copy"]
        if failure:
            failures[family] = f"{failure}, after {len(rows)} rows"
            print(f"{family:13} {failures[family]}", flush=True)
        for row in rows:
            known.setdefault(key(row), row)
            ours.setdefault(key(row), []).append(row)
        for name, row in known.items():
            try:
                answer = rival.ask(row)
            except Failed as error:
                answer = {"milliseconds": None, "errors": {"torch": str(error)}}
            if answer["milliseconds"] is not None:
                theirs.setdefault(name, []).append(answer)
            elif answer.get("errors"):
                known[name]["rival_errors"] = answer["errors"]
        if failure:
            break
    return [summary(known[name], ours[name], theirs.get(name)) for name in known]


def summary(row: dict, ours: list[dict], theirs: list[dict] | None) -> dict:
    times = [each["milliseconds"] for each in ours]
    result = {name: row[name] for name in ("family", "kernel", "shape")}
    result["inkstone"] = {"milliseconds": statistics.median(times), "rounds": len(times)}
    if min(times) > 0:
        result["inkstone"]["spread"] = machine.spread(times)
    for rate in ("TFLOP/s", "GB/s", "of_copy"):
        if rate in row:
            result["inkstone"][rate] = statistics.median(each[rate] for each in ours)
    if theirs:
        their_times = [each["milliseconds"] for each in theirs]
        result["torch"] = {
            "milliseconds": statistics.median(their_times),
            "by": theirs[-1]["by"],
            "rounds": len(theirs),
        }
        if theirs[-1].get("peak_bytes"):
            result["torch"]["peak_bytes"] = theirs[-1]["peak_bytes"]
        if min(times) > 0 and min(their_times) > 0:  # torch has no clock of a card in a tiny run
            result["speed"] = result["torch"]["milliseconds"] / result["inkstone"]["milliseconds"]
    if "rival_errors" in row:
        result["torch_errors"] = row["rival_errors"]
    return result


def print_row(row: dict) -> None:
    ours = row["inkstone"]
    rates = [f"{ours[r]:7.1f} {r}" for r in ("TFLOP/s", "GB/s") if r in ours]
    if "of_copy" in ours:
        rates.append(f"{ours['of_copy']:4.0%} of copy")
    text = f"{row['family']:13} {row['kernel']:28} {ours['milliseconds']:9.4f} ms  {' '.join(rates)}"
    if "speed" in row:
        text += f"  {row['speed']:5.2f}x torch ({row['torch']['by']})"
    shape = " ".join(f"{k}={v}" for k, v in row["shape"].items())
    print(f"{text}  [{shape}]", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", type=Path, default=ROOT / "build/cuda-release/bench/gpu/inkstone_gpu_bench")
    parser.add_argument("--families", nargs="*", help="default: all that the program lists")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=3, help="of every row in a round")
    parser.add_argument("--seconds", type=int, default=180, help="of a family in a round: longer than that hangs")
    parser.add_argument("--minutes", type=float, default=7.5, help="after that the round under way is cut off")
    parser.add_argument("--tiny", action="store_true", help="small sizes on the CPU, to try the program")
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    if arguments.tiny:
        arguments.rounds = 1

    listed = subprocess.run([arguments.bench, "--list"], capture_output=True, text=True, check=True)
    families = arguments.families or [f for f in listed.stdout.split() if f != "copy"]
    start = time.monotonic()
    end = float("inf") if arguments.tiny else start + arguments.minutes * 60 + OVERTIME
    rival, rows, failures = Rival(arguments.tiny, end), [], {}
    about = {"card": describe_card(arguments.tiny), "tiny": arguments.tiny}
    about |= {"inkstone": None, "copies": [], "sm_mhz": {}}
    for i, family in enumerate(families):
        # Every family gets an equal part of the time that is left.
        left = start + arguments.minutes * 60 - time.monotonic()
        deadline = time.monotonic() + left / (len(families) - i)
        with CardWatch() as watch:
            rows += compare(arguments, rival, family, deadline, about, failures)
        about["sm_mhz"][family] = watch.clock
        for row in rows:
            if row["family"] == family:
                print_row(row)
        if arguments.json:  # after every family: what comes later may not end
            result = {**about, "torch": rival.versions, "rows": rows, "failures": failures}
            arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    rival.end()
    gemms = [row["speed"] for row in rows if row["family"] == "gemm" and "speed" in row]
    if gemms:
        print(f"gemm: {statistics.geometric_mean(gemms):.3f}x torch on average, least {min(gemms):.3f}x")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
