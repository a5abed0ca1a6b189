#!/usr/bin/env python3
"""The loss curve of a small InternLM2 trained by Inkstone and by torch: same weights, same tokens.

    python tests/peer/loss_curve.py [--steps 300] [--dtype fp32|bf16] [--keep build/peer/curve]

torch makes the initial weights and writes them as a Hugging Face directory with InternLM2 names; its
own side trains LlamaForCausalLM, of which InternLM2 is a renaming. The data is one long document in a
row of `input_ids` with `labels`, read in order: step s trains on the packs s*B .. s*B+B-1, where the
last token of a pack predicts the first of the next one. Every tenth stretch of the document is not
trained on, so that the trained tokens of the steps differ.

In f32 the two losses stay within 1e-3 of each other (relative) at every step; in bf16 within 1e-2.
"""

import argparse
import json
import math
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from comparison import Verdict, add_binary, read_rows, run_inkstone
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

IGNORED = -100
LIMITS = {"fp32": 1e-3, "bf16": 1e-2}
CONFIG = {
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@dataclass(frozen=True)
class Recipe:
    steps: int
    length: int = 128  # tokens of a pack
    packs: int = 8  # of a step, in two micro-batches
    lr: float = 2e-3
    min_lr: float = 2e-4
    warmup: int = 20
    betas: tuple = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0

    @property
    def tokens(self) -> int:
        return self.steps * self.packs * self.length

    def rate(self, update: int) -> float:
        """Learning rate of update 0, 1, ...: linear warm-up, then a cosine to min_lr."""
        if update < self.warmup:
            return self.lr * (update + 1) / self.warmup
        done = (update - self.warmup) / (self.steps - self.warmup)
        return self.min_lr + (self.lr - self.min_lr) * (1 + math.cos(math.pi * done)) / 2


def make_document(recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """A Markov chain (each token has four successors) and labels; one token more than the packs."""
    rng = np.random.default_rng(1)
    successors = rng.integers(3, CONFIG["vocab_size"], (CONFIG["vocab_size"], 4))
    choices = rng.choice(4, recipe.tokens + 1, p=[0.6, 0.2, 0.15, 0.05])
    ids = np.empty(recipe.tokens + 1, np.int64)
    token = 3
    for i, choice in enumerate(choices):
        ids[i] = token
        token = successors[token, choice]
    stretch = np.arange(len(ids)) // 37
    return ids, np.where(stretch % 10 == 9, IGNORED, ids)


def internlm2_weights(model: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    """InternLM2 names; wqkv holds, per key/value head, its query heads, then k, then v."""
    ours = {
        "model.tok_embeddings.weight": "model.embed_tokens.weight",
        "model.norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
    plain = {
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attention.wo": "self_attn.o_proj",
        "feed_forward.w1": "mlp.gate_proj",
        "feed_forward.w3": "mlp.up_proj",
        "feed_forward.w2": "mlp.down_proj",
    }
    for i in range(CONFIG["num_hidden_layers"]):
        for name, theirs in plain.items():
            ours[f"model.layers.{i}.{name}.weight"] = f"model.layers.{i}.{theirs}.weight"
    state = model.state_dict()
    weights = {name: state[theirs] for name, theirs in ours.items()}
    groups, hidden = CONFIG["num_key_value_heads"], CONFIG["hidden_size"]
    head_dim = hidden // CONFIG["num_attention_heads"]
    for i in range(CONFIG["num_hidden_layers"]):
        q, k, v = (
            state[f"model.layers.{i}.self_attn.{x}_proj.weight"].view(groups, -1, head_dim, hidden)
            for x in "qkv"
        )
        fused = torch.cat([q, k, v], dim=1)
        weights[f"model.layers.{i}.attention.wqkv.weight"] = fused.reshape(-1, hidden)
    return {name: value.contiguous().clone() for name, value in weights.items()}


def write_model(model: LlamaForCausalLM, folder: Path) -> None:
    folder.mkdir(parents=True)
    names = {"architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", "bias": False}
    config = {**names, **CONFIG, "torch_dtype": "float32", "hidden_act": "silu"}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(internlm2_weights(model), folder / "model.safetensors", metadata={"format": "pt"})


def train_inkstone(binary: Path, folder: Path, recipe: Recipe, dtype: str, document) -> list[dict]:
    ids, labels = document
    row = {"input_ids": ids.tolist(), "labels": labels.tolist()}
    (folder / "document.jsonl").write_text(json.dumps(row) + "\n")
    run = {
        "model": {"path": str(folder / "model"), "dtype": dtype},
        "data": {
            "train": [{"path": str(folder / "document.jsonl")}],
            "max_length": recipe.length,
            "order": "sequential",
        },
        "optim": {
            "lr": recipe.lr,
            "min_lr": recipe.min_lr,
            "warmup_steps": recipe.warmup,
            "betas": list(recipe.betas),
            "eps": recipe.eps,
            "weight_decay": recipe.weight_decay,
            "clip_norm": recipe.clip_norm,
        },
        "train": {
            "steps": recipe.steps,
            "micro_batch_size": recipe.packs // 2,
            "global_batch_size": recipe.packs,
        },
        "checkpoint": {"dir": str(folder / "run"), "every": 1_000_000, "hf": "never"},
        "log": {"tensorboard": False, "plot": False},
    }
    # JSON is YAML
    (folder / "run.yaml").write_text(json.dumps(run, indent=2) + "\n")
    run_inkstone(binary, "train", folder / "run.yaml")
    return read_rows(folder / "run" / "metrics.jsonl", "step")


def sum_of_losses(model, ids: torch.Tensor, targets: torch.Tensor, autocast: bool) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = model(input_ids=ids).logits
    return torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )


def train_torch(model, recipe: Recipe, dtype: str, document) -> list[dict]:
    ids = torch.from_numpy(document[0][:-1]).view(recipe.steps, 2, -1, recipe.length)
    targets = torch.from_numpy(document[1][1:]).view_as(ids)
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps)
    rows = []
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        trained = int((targets[step] != IGNORED).sum())
        optimizer.zero_grad()
        loss = 0.0
        for part in range(2):
            mean = sum_of_losses(model, ids[step, part], targets[step, part], dtype == "bf16") / trained
            mean.backward()
            loss += mean.item()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        rate = recipe.rate(step)
        rows.append({"loss": loss, "grad_norm": float(norm), "lr": rate, "trained_tokens": trained})
    return rows


def compare(verdict: Verdict, ours: list[dict], theirs: list[dict], dtype: str) -> None:
    verdict.check("steps", len(ours) == len(theirs), f"{len(ours)}, expected {len(theirs)}")
    pairs = list(zip(ours, theirs))
    for column in ("trained_tokens", "lr", "loss", "grad_norm"):
        errors = [abs(a[column] - b[column]) / abs(b[column]) for a, b in pairs]
        worst = max(range(len(errors)), key=lambda i: errors[i])
        above = [i + 1 for i, e in enumerate(errors) if not e <= LIMITS[dtype]]
        detail = f" at step {worst + 1}; first step {errors[0]:.2g}, last {errors[-1]:.2g}"
        if above:
            detail += f"; above the limit from step {above[0]} on, {len(above)} steps"
        if column == "grad_norm":
            print(f"      gradient norm, largest relative difference {errors[worst]:.3g}{detail}")
            continue
        limit = LIMITS[dtype] if column == "loss" else 1e-6
        verdict.limit(f"{column}, largest relative difference", errors[worst], limit, detail)
    first, last = theirs[0]["loss"], theirs[-1]["loss"]
    print(f"      loss of torch {first:.4f} -> {last:.4f}, of Inkstone -> {ours[-1]['loss']:.4f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_binary(parser)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--dtype", choices=LIMITS, default="fp32", help="bf16: torch under autocast")
    parser.add_argument("--keep", type=Path, help="leave model, data and run in this new folder")
    arguments = parser.parse_args()

    recipe = Recipe(steps=arguments.steps)
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**CONFIG, attn_implementation="sdpa")).float()
    document = make_document(recipe)
    folder = arguments.keep or Path(tempfile.mkdtemp())
    try:
        write_model(model, folder / "model")
        ours = train_inkstone(arguments.inkstone, folder, recipe, arguments.dtype, document)
        theirs = train_torch(model, recipe, arguments.dtype, document)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)
    verdict = Verdict()
    compare(verdict, ours, theirs, arguments.dtype)
    return verdict.exit_code()


if __name__ == "__main__":
    sys.exit(main())
