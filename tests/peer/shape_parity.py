#!/usr/bin/env python3
"""Checkpoints of many shapes, as transformers writes them, against transformers.

    python tests/peer/shape_parity.py

Makes small LLaMA and Qwen2 models with random weights (odd vocabularies, one key-value head, head sizes
that are no power of two, one layer, tied and untied, f32, bf16 and f16, in one file and in shards) and
checks of each: the tokens `inkstone generate` takes greedily are transformers' own, with
log-probabilities within 1e-4 in f32; bf16 computation is at most twice as far from f32 as
transformers' is; `inkstone export hf` gives back every weight bit for bit, and `inkstone inspect
--verify` accepts both. Leaves with 1 if anything differs.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from comparison import Verdict, add_binary, run_inkstone
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config
from transformers.utils.logging import disable_progress_bar

PROMPTS = 4
PROMPT_TOKENS = 23
NEW_TOKENS = 24
LOGPROB_LIMIT = 1e-4
# Where the two likeliest tokens are closer than this, either is right.
TIE = 1e-4


@dataclass(frozen=True)
class Case:
    family: str
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    layers: int
    ffn: int
    vocab: int
    tied: bool = False
    bias: bool = False  # LLaMA's attention_bias: on q, k, v and o
    dtype: torch.dtype = torch.float32
    shard: str = "2GB"

    def __str__(self) -> str:
        kind = "tied" if self.tied else "untied"
        bias = ", bias" if self.bias else ""
        cut = "" if self.shard == "2GB" else ", shards"
        return (
            f"{self.family} {self.hidden}={self.heads}/{self.kv_heads}x{self.head_dim} "
            f"{self.layers}l ffn {self.ffn} vocab {self.vocab} {kind}{bias} {str(self.dtype)[6:]}{cut}"
        )


CASES = [
    Case("llama", 96, 6, 3, 16, 3, 250, 311),
    Case("llama", 80, 2, 1, 40, 1, 173, 283, tied=True),
    Case("llama", 36, 3, 3, 12, 2, 37, 97, bias=True),
    Case("llama", 256, 2, 1, 128, 2, 300, 1031, dtype=torch.bfloat16, shard="200KB"),
    Case("llama", 64, 4, 2, 80, 2, 129, 509, dtype=torch.float16, shard="50KB"),
    Case("llama", 128, 8, 1, 32, 2, 344, 257, tied=True, dtype=torch.bfloat16, shard="60KB"),
    Case("qwen2", 96, 6, 2, 16, 3, 250, 311),
    Case("qwen2", 80, 2, 1, 40, 1, 173, 283, tied=True, shard="90KB"),
    Case("qwen2", 240, 3, 1, 80, 2, 131, 319, dtype=torch.bfloat16),
    Case("qwen2", 20, 5, 5, 4, 5, 37, 97, tied=True, dtype=torch.float16, shard="5KB"),
]


def make_model(case: Case, seed: int):
    """Weights that are left at no neutral value: norms beside 1, biases beside 0."""
    common = dict(
        vocab_size=case.vocab,
        hidden_size=case.hidden,
        intermediate_size=case.ffn,
        num_hidden_layers=case.layers,
        num_attention_heads=case.heads,
        num_key_value_heads=case.kv_heads,
        tie_word_embeddings=case.tied,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=None,
        dtype=case.dtype,
    )
    if case.family == "qwen2":
        config = Qwen2Config(**common)
    else:
        config = LlamaConfig(**common, head_dim=case.head_dim, attention_bias=case.bias)
    model = AutoModelForCausalLM.from_config(config).float()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.2 * noise if "norm" in name else 0.1 * noise)
    return model.to(case.dtype).eval()


@torch.inference_mode()
def logprobs_of(model, ids: list[int]) -> torch.Tensor:
    """[T, V] in f64: of the token that follows each position."""
    return model(torch.tensor([ids])).logits[0].double().log_softmax(-1)


def generate(binary: Path, model: Path, prompts: list[list[int]], dtype: str) -> list[dict]:
    flags = []
    for prompt in prompts:
        flags += ["--ids", " ".join(map(str, prompt))]
    sampling = ["--temperature", 0, "--max-new-tokens", NEW_TOKENS, "--dtype", dtype, "--device", "cpu"]
    out = run_inkstone(binary, "generate", "--model", model, "--json", *sampling, *flags)
    return [json.loads(line) for line in out.splitlines()]


def compare_generation(verdict: Verdict, what: str, model, prompts: list, rows: list[dict]) -> None:
    """Every token and log-probability, given the tokens before it."""
    worst, wrong = 0.0, []
    for prompt, row in zip(prompts, rows, strict=True):
        table = logprobs_of(model, prompt + row["ids"])[len(prompt) - 1 : -1]
        taken = table[range(NEW_TOKENS), row["ids"]]
        worst = max(worst, float((taken - torch.tensor(row["logprobs"]).double()).abs().max()))
        behind = (table.max(-1).values - taken).tolist()
        wrong += [i for i, distance in enumerate(behind) if distance > TIE]
    detail = "" if not wrong else f", {len(wrong)} tokens are not the likeliest"
    passed = worst <= LOGPROB_LIMIT and not wrong
    verdict.check(what, passed, f"{worst:.2g} (limit {LOGPROB_LIMIT:g}){detail}")


def compare_bf16(verdict: Verdict, what: str, exact, rounded, prompts: list, rows: list[dict]) -> None:
    """Distances of log-probabilities to f32 on the same tokens: ours, and those of transformers in bf16."""
    ours = theirs = 0.0
    for prompt, row in zip(prompts, rows, strict=True):
        at = (range(len(prompt) - 1, len(prompt) + NEW_TOKENS - 1), row["ids"])
        want = logprobs_of(exact, prompt + row["ids"])[at]
        ours += float((torch.tensor(row["logprobs"]).double() - want).square().sum())
        theirs += float((logprobs_of(rounded, prompt + row["ids"])[at] - want).square().sum())
    verdict.limit(what, (ours / theirs) ** 0.5, 2.0)


def compare_export(verdict: Verdict, what: str, binary: Path, source: Path, model, shard: str) -> None:
    out = source.parent / "export"
    run_inkstone(binary, "export", "hf", "--in", source, "--out", out, "--max-shard-size", shard)
    run_inkstone(binary, "inspect", out, "--verify")
    again, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    unused = sorted(info["missing_keys"]) + sorted(info["unexpected_keys"])
    theirs, ours = model.state_dict(), again.state_dict()
    same = theirs.keys() == ours.keys() and all(
        value.dtype == ours[name].dtype and torch.equal(value, ours[name]) for name, value in theirs.items()
    )
    verdict.check(what, same and not unused, ", ".join(unused[:3]))


def run_case(verdict: Verdict, binary: Path, case: Case, seed: int) -> None:
    model = make_model(case, seed)
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.randint(3, case.vocab, (PROMPTS, PROMPT_TOKENS), generator=generator).tolist()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model"
        model.save_pretrained(source, max_shard_size=case.shard)
        shards = len(list(source.glob("*.safetensors")))
        print(f"{case}, {shards} file{'s' * (shards > 1)}", flush=True)
        run_inkstone(binary, "inspect", source, "--verify")
        compare_export(verdict, "  export: every weight", binary, source, model, case.shard)
        # Loaded anew: a model that is converted also converts its rotary frequencies.
        exact = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
        rounded = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16).eval()
        rows = generate(binary, source, prompts, "fp32")
        compare_generation(verdict, "  log-probabilities, f32", exact, prompts, rows)
        rows = generate(binary, source, prompts, "bf16")
        compare_bf16(verdict, "  error in bf16 over that of transformers", exact, rounded, prompts, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_binary(parser)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    verdict = Verdict()
    for number, case in enumerate(CASES):
        run_case(verdict, arguments.inkstone, case, arguments.seed + number)
    return verdict.exit_code()


if __name__ == "__main__":
    sys.exit(main())
