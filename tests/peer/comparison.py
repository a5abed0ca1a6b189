"""What the comparisons of this folder share: running the binary, and a verdict per row."""

import json
import subprocess
from pathlib import Path

import torch

DEFAULT_BINARY = Path("build/cpu-release/launch/inkstone")


def add_binary(parser) -> None:
    parser.add_argument("--inkstone", type=Path, default=DEFAULT_BINARY, help="the binary")


def run_inkstone(binary: Path, *arguments) -> str:
    """Standard output; a failure ends the comparison with the binary's own error."""
    command = [str(binary), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command[:3])} left with {done.returncode}:\n{done.stderr}")
    return done.stdout


def read_rows(path: Path, event: str) -> list[dict]:
    with open(path, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row for row in rows if row["event"] == event]


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Frobenius norm of the difference, relative to that of the reference."""
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


class Verdict:
    """Prints one line per comparison and remembers whether one of them failed."""

    def __init__(self):
        self.failed = False

    def check(self, what: str, passed: bool, detail: str) -> None:
        self.failed |= not passed
        print(f"{'ok  ' if passed else 'FAIL'}  {what:44} {detail}", flush=True)

    def limit(self, what: str, value: float, limit: float, detail: str = "") -> None:
        # A NaN is not within any limit.
        self.check(what, value <= limit, f"{value:.3g} (limit {limit:g}){detail}")

    def exit_code(self) -> int:
        return 1 if self.failed else 0
