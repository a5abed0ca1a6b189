#!/usr/bin/env python3
"""A training step of InternLM2 on one card against torch: same weights, same tokens, same batch.

    python bench/gpu/step.py 1.8b|7b [--turns 2] [--steps N] [--json out.json] [--dry-run]

Inkstone and each rival (Hugging Face eager with SDPA, the same under torch.compile) take turns
(A/B/C/A/B/C), every turn a process of its own that has the card to itself: it loads the common start,
trains the steps, and leaves. The first steps of a turn are left out. Printed are the medians over all
measured steps, tokens per second, MFU with attention counted causal and in full, and the most memory in
use on the card; the JSON has the clock under load and all versions too. A side whose loss leaves the
other's by more than 1e-2 at any step is an error, and its time stands in the JSON alone. So does what
was cut off at the end of the time.

1.8B keeps f32 weights and moments, torch computes under autocast. 7B has bf16 weights, gradients and
moments on both sides; torch rounds its weights to the nearest, which loses small updates that Inkstone
keeps in the mean, so its rate is one at which the weights stay and the losses are those of the same
weights. Neither side has room for all activations then: torch computes every layer again, which is what
transformers offers, Inkstone its norms and SwiGLU. The micro-batches are as large as each side's memory
allows on a card of 80 GB; torch takes smaller ones where it has no memory for them, and a side that has
none for one pack says so in its row. A step has 32,768 tokens, so an update is a small part of it, as
in pretraining. `--dry-run` trains the tiny model on the CPU with the same settings, one turn: it shows
that the program works, its times say nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import machine  # noqa: E402
from run_metrics import step_rows  # noqa: E402

from card import CardWatch, describe_card, peak_rate, require_card  # noqa: E402

LOSS_LIMIT = 1e-2
WARM_UP = 5
LR = 3e-5
OVERTIME = 25  # seconds that the turn under way may take beyond --minutes


@dataclass(frozen=True)
class Case:
    model: str  # a file of configs/models
    length: int
    packs: int  # of a step
    micro: int  # of a micro-batch
    inkstone: dict  # sections of the run file on top of the common ones
    rival: list  # arguments of step_rival.py
    rival_micro: int  # the largest that the rival tries: it halves it where memory runs out
    lr: float = LR
    steps: int = 20  # of a turn, the warm-up included


CASES = {
    "1.8b": Case(
        "internlm2_1_8b.yaml", 4096, 8, 4, {"train": {"recompute": "none"}}, [], 2
    ),
    "7b": Case(
        "internlm2_7b.yaml",
        4096,
        8,
        1,
        {"train": {"recompute": "selective"}, "optim": {"state_dtype": "bf16", "grad_dtype": "bf16"}},
        ["--precision", "bf16", "--checkpointing"],
        1,
        lr=1e-9,
        steps=12,
    ),
}


def dry(case: Case) -> Case:
    """The same settings for the tiny model on the CPU."""
    sizes = {"length": 32, "packs": 4, "micro": 2, "rival_micro": 2, "steps": WARM_UP + 3}
    return replace(case, model="internlm2_tiny.yaml", rival=[*case.rival, "--cpu"], **sizes)


def flops_per_token(shape: dict, length: int, causal: bool) -> float:
    """6 per weight of a matrix product, and attention: half of its square where it is causal."""
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    head_dim = hidden // shape["num_attention_heads"]
    kv = shape["num_key_value_heads"] * head_dim
    layer = 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * inner
    weights = shape["num_hidden_layers"] * layer + hidden * shape["vocab_size"]
    attention = (6 if causal else 12) * shape["num_hidden_layers"] * hidden * length
    return 6 * weights + attention


def rival_command(action: str, folder: Path, case: Case, steps: int) -> list:
    command = [sys.executable, Path(__file__).with_name("step_rival.py"), action, folder]
    command += ["--model", ROOT / "configs/models" / case.model, "--steps", str(steps)]
    command += ["--packs", str(case.packs), "--micro", str(case.rival_micro)]
    return command + ["--length", str(case.length), "--lr", str(case.lr), *case.rival]


def rival_turn(folder: Path, case: Case, steps: int, extra: list, deadline: float) -> dict:
    command = rival_command("train", folder, case, steps) + extra
    seconds = max(0.0, deadline - time.monotonic())
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
    environment = {"PYTORCH_ALLOC_CONF": "expandable_segments:True", **os.environ}  # less is lost between blocks
    try:
        with CardWatch() as card:
            done = subprocess.run(command, **pipes, env=environment, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"cut off after {seconds:.0f} s, at the end of the time"}
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        reason = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        return {"error": f"left with {done.returncode}: {reason}"}
    answer = json.loads(done.stdout.splitlines()[-1])
    return {**answer, "card_mib": card.peak, "sm_mhz": card.clock}


def run_file(folder: Path, case: Case, steps: int, device: str) -> Path:
    run = {
        "model": {"path": str(folder / "model"), "dtype": "bf16"},
        "data": {
            "train": [{"path": str(folder / "document.jsonl")}],
            "max_length": case.length,
            "order": "sequential",
        },
        "optim": {
            "lr": case.lr,
            "min_lr": case.lr,
            "schedule": "constant",
            "warmup_steps": 0,
            "betas": [0.9, 0.95],
            "weight_decay": 0.1,
            "clip_norm": 1.0,
            **case.inkstone.get("optim", {}),
        },
        "train": {
            "steps": 1000,  # the process is ended after the steps that count: nothing is saved
            "micro_batch_size": case.micro,
            "global_batch_size": case.packs,
            "device": device,
            **case.inkstone.get("train", {}),
        },
        "checkpoint": {"every": 1_000_000, "hf": "never"},
        "log": {"every": 1, "tensorboard": False, "plot": False},
    }
    path = folder / "run.yaml"
    path.write_text(json.dumps(run, indent=2) + "\n")  # JSON is YAML
    return path


def version_of(binary: Path) -> list[str]:
    return subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.splitlines()


def inkstone_turn(binary: Path, case: Case, run: Path, steps: int, deadline: float) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder) / "run/metrics.jsonl"
        command = [binary, "train", run, f"checkpoint.dir={metrics.parent}"]
        error = Path(folder) / "error"
        with open(error, "wb") as sink, CardWatch() as card:
            process = subprocess.Popen(command, stdout=sink, stderr=sink)
            while len(step_rows(metrics)) < steps and process.poll() is None:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.05)
            cut = process.poll() is None
            process.kill()
            process.wait()
        rows = step_rows(metrics)[:steps]
        if len(rows) < steps:
            said = error.read_text(errors="replace").strip()
            if cut:
                return {"error": f"cut off after {len(rows)} steps, at the end of the time"}
            return {"error": said or f"left with {process.returncode} after {len(rows)} steps"}
    return {
        "seconds": [row["step_time"] for row in rows],
        "losses": [row["loss"] for row in rows],
        "micro": case.micro,
        "card_mib": card.peak,
        "sm_mhz": card.clock,
        "versions": version_of(binary),
    }


def loss_gap(one: list[float], other: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other))


def summary(turns: list[dict], reference: list[float] | None, case: Case, shape: dict, peak) -> dict:
    failed = [turn["error"] for turn in turns if "error" in turn]
    good = [turn for turn in turns if "error" not in turn]
    if not good:
        return {"error": failed[0]}
    result = {"turns": len(good), "losses": good[0]["losses"]}
    if failed:
        result["failed_turns"] = failed
    if reference is not None:
        result["loss_gap"] = max(loss_gap(turn["losses"], reference) for turn in good)
        if not result["loss_gap"] <= LOSS_LIMIT:  # a NaN is not within the limit
            result["error"] = f"loss differs by {result['loss_gap']:.3g}, limit {LOSS_LIMIT}: no time"
    seconds = [s for turn in good for s in turn["seconds"][WARM_UP:]]
    tokens = case.packs * case.length
    result["median_s"] = statistics.median(seconds)
    result["spread"] = machine.spread(seconds)
    result["steps"] = len(seconds)
    result["tokens_per_s"] = tokens / result["median_s"]
    used = [turn["card_mib"] for turn in good if turn["card_mib"]]
    result["card_mib"] = max(used, default=None)
    clocks = [turn["sm_mhz"] for turn in good if turn["sm_mhz"]]
    result["sm_mhz"] = statistics.median(clocks) if clocks else None
    result["micro"] = good[0]["micro"]
    result["versions"] = good[0]["versions"]
    if peak:
        for name, causal in (("mfu_causal", True), ("mfu_full", False)):
            rate = result["tokens_per_s"] * flops_per_token(shape, case.length, causal)
            result[name] = rate / peak
    return result


def print_side(name: str, side: dict) -> None:
    if "error" in side:
        print(f"{name:16} {side['error']}")
        return
    text = f"{name:16} {side['tokens_per_s']:9.0f} tok/s  {side['median_s'] * 1e3:8.1f} ms"
    text += f"  spread {side['spread']:4.0%}  {side['steps']} steps"
    if "mfu_causal" in side:
        text += f"  MFU {side['mfu_causal']:.1%} causal, {side['mfu_full']:.1%} full"
    text += f"  micro-batch {side['micro']}"
    if side["card_mib"]:
        text += f"  {side['card_mib'] / 1024:.1f} GiB"
    if "loss_gap" in side:
        gap = side["loss_gap"]
        text += "  loss not compared: no rival ran" if gap is None else f"  loss gap {gap:.1e}"
    print(text)


def write_results(arguments, case: Case, card: dict | None, sides: dict[str, list[dict]]) -> dict:
    """After every turn: what comes later may not end."""
    shape = yaml.safe_load((ROOT / "configs/models" / case.model).read_text())["model"]
    peak = peak_rate(card)
    rivals = [name for name in sides if name != "inkstone"]
    reference = next((t["losses"] for name in rivals for t in sides[name] if "losses" in t), None)
    result = {
        name: summary(turns, None if name != "inkstone" else reference, case, shape, peak)
        for name, turns in sides.items()
        if turns
    }
    best = [result[name]["tokens_per_s"] for name in rivals if "tokens_per_s" in result.get(name, {})]
    ours = result.get("inkstone", {"error": "no turn"})
    if rivals and reference is None and "error" not in ours:
        ours["loss_gap"] = None
    if best and "error" not in ours:
        result["speed"] = ours["tokens_per_s"] / max(best)
    if arguments.json:
        about = {"card": card, "case": arguments.size, "dry_run": arguments.dry_run}
        about["settings"] = {
            "length": case.length,
            "packs": case.packs,
            "inkstone": {"micro": case.micro, **case.inkstone},
            "torch": {"largest_micro": case.rival_micro, "options": case.rival},
        }
        arguments.json.write_text(json.dumps({**about, "sides": result}, indent=2) + "\n")
    return result


def take_turns(arguments, case: Case, card: dict | None, start: float) -> dict:
    sides = {"inkstone": [], **{name: [] for name in arguments.rivals}}
    deadline = start + arguments.minutes * 60 + OVERTIME
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        common = Path(folder) / "start"
        subprocess.run(rival_command("prepare", common, case, arguments.steps), check=True)
        run = run_file(common, case, arguments.steps, "cpu" if arguments.dry_run else "cuda")
        for turn in range(arguments.turns):
            if turn > 0 and (time.monotonic() - start) * (turn + 1) > arguments.minutes * 60 * turn:
                break  # another round would take longer than what is left
            ours = inkstone_turn(arguments.inkstone, case, run, arguments.steps, deadline)
            sides["inkstone"].append(ours)
            result = write_results(arguments, case, card, sides)
            for name in arguments.rivals:
                extra = ["--compile"] if name == "compiled" else []
                sides[name].append(rival_turn(common, case, arguments.steps, extra, deadline))
                result = write_results(arguments, case, card, sides)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size", choices=["1.8b", "7b"])
    parser.add_argument("--inkstone", type=Path, default=ROOT / "build/cuda-release/launch/inkstone")
    parser.add_argument("--rivals", nargs="*", choices=["eager", "compiled"], default=["eager", "compiled"])
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--steps", type=int, help="of a turn, the warm-up included; default: 20, of 7b 12")
    parser.add_argument("--minutes", type=float, default=7.5, help="after that the turn under way is cut off")
    parser.add_argument("--folder", type=Path, help="where the common start is written; default: a temporary one")
    parser.add_argument("--dry-run", action="store_true", help="the tiny model on the CPU, to try the program")
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    case = dry(CASES[arguments.size]) if arguments.dry_run else CASES[arguments.size]
    if arguments.steps is None:
        arguments.steps = case.steps
    if arguments.dry_run:
        arguments.turns = 1
    if arguments.steps <= WARM_UP:
        raise SystemExit(f"--steps: expected more than the {WARM_UP} of the warm-up")
    if not arguments.dry_run:
        require_card()

    card = describe_card(arguments.dry_run)
    result = take_turns(arguments, case, card, time.monotonic())
    speed = result.pop("speed", None)
    for name, side in result.items():
        print_side(name, side)
    if speed is not None:
        print(f"speed: {speed:.2f}x the best of torch")
    return 1 if "error" in result["inkstone"] else 0


if __name__ == "__main__":
    sys.exit(main())
