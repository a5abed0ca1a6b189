#!/usr/bin/env python3
"""Speed of `inkstone data prepare` against `spm_encode` of the SentencePiece package, on one thread each.

    python bench/prepare.py --text FILE --model tokenizer.model [--rounds 3] [--json out.json]

Every line that is not empty is a document for Inkstone and a sentence for spm_encode; both write
ids, Inkstone as a packed token store. Whole processes are timed, in turns (A/B/A/B); printed are the
medians, the spread and the ratio. Before that, the tokens of both are counted: Inkstone's are
spm_encode's and the two borders of every document.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine

ROOT = Path(__file__).resolve().parent.parent
FLOOR = 0.9


def seconds(command: list, stdout=subprocess.DEVNULL) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=stdout, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def check_equal_work(binary: Path, store: Path, ids: Path) -> int:
    shown = subprocess.run([binary, "inspect", store, "--json"], capture_output=True, check=True)
    ours = json.loads(shown.stdout)["train"]
    with open(ids, encoding="utf-8") as lines:
        theirs = sum(len(line.split()) for line in lines)
    if ours["tokens"] != theirs + 2 * ours["documents"]:
        raise SystemExit(f"expected {theirs} tokens and 2 borders in each document, got {ours}")
    return theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--inkstone", type=Path, default=ROOT / "build/cpu-release/launch/inkstone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    about = machine.describe()
    machine.print_header(about)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = folder / "text.txt"
        lines = [line for line in arguments.text.read_text("utf-8", "ignore").splitlines() if line.strip()]
        text.write_text("\n".join(lines) + "\n", encoding="utf-8")
        store, ids = folder / "tokens.h5", folder / "ids.txt"
        ours = [arguments.inkstone, "data", "prepare", "--in", text, "--format", "lines", "--out", store]
        ours += ["--tokenizer", arguments.model, "--max-length", "2048", "--workers", "1", "--overwrite"]
        theirs = ["spm_encode", f"--model={arguments.model}", "--output_format=id", text]
        sides: dict[str, list[float]] = {"inkstone": [], "spm_encode": []}
        for _ in range(arguments.rounds):
            sides["inkstone"].append(seconds(ours))
            with open(ids, "wb") as sink:
                sides["spm_encode"].append(seconds(theirs, sink))
        tokens = check_equal_work(arguments.inkstone, store, ids)
        megabytes = text.stat().st_size / 1e6

    for side, values in sides.items():
        median = statistics.median(values)
        print(f"{side:12} {megabytes / median:6.2f} MB/s  {median:6.2f} s  spread {machine.spread(values):4.0%}")
    ratio = statistics.median(sides["spm_encode"]) / statistics.median(sides["inkstone"])
    print(f"{'':12} {megabytes:.1f} MB, {tokens} tokens, speed {ratio:.2f}x (floor >= {FLOOR})")
    if arguments.json:
        result = {"machine": about, "seconds": sides, "megabytes": megabytes, "tokens": tokens, "ratio": ratio}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if ratio < FLOOR:
        sys.exit(1)


if __name__ == "__main__":
    main()
