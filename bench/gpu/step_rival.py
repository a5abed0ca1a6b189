#!/usr/bin/env python3
"""torch's side of step.py: writes the common start of a run, and trains it.

`prepare FOLDER` draws the weights and the tokens and writes them: a Hugging Face directory with InternLM2
names and one row of token ids that both sides read in order. `train FOLDER` trains transformers'
LlamaForCausalLM with SDPA (InternLM2 is a renaming of it) from there and prints one JSON line: seconds
and loss of every step, the peak memory, the micro-batch that there was memory for, and the versions of
its libraries. torch gets what makes it fast: causal attention without a mask, by cuDNN where it can, the
fused AdamW, and its loss compiled with the model.
"""

import argparse
import contextlib
import gc
import json
import sys
import time
from pathlib import Path

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from card import torch_versions

RENAMED = {
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
}
CHECKPOINT = "model.safetensors"
# "sdpa" builds a mask under torch.compile, which keeps the fast kernels away; a name without a function for
# masks gets none.
ATTENTION = "causal_sdpa"
AttentionInterface.register(ATTENTION, sdpa_attention_forward)
BACKENDS = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]


def read_shape(path: Path) -> dict:
    shape = yaml.safe_load(path.read_text())["model"]
    for name in ("family", "rope_scaling"):  # the scaling begins beyond the trained length
        shape.pop(name, None)
    return {**shape, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2}


def names_of(shape: dict):
    """(InternLM2 name, shape, standard deviation or None for a norm) of every tensor."""
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    heads, kv_heads = shape["num_attention_heads"], shape["num_key_value_heads"]
    q = hidden
    qkv = q + 2 * kv_heads * (hidden // heads)
    vocabulary = shape["vocab_size"]
    yield "model.tok_embeddings.weight", (vocabulary, hidden), 0.02
    for i in range(shape["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        yield layer + "attention_norm.weight", (hidden,), None
        yield layer + "attention.wqkv.weight", (qkv, hidden), 0.02
        yield layer + "attention.wo.weight", (hidden, q), 0.02
        yield layer + "ffn_norm.weight", (hidden,), None
        yield layer + "feed_forward.w1.weight", (inner, hidden), 0.02
        yield layer + "feed_forward.w3.weight", (inner, hidden), 0.02
        yield layer + "feed_forward.w2.weight", (hidden, inner), 0.02
    yield "model.norm.weight", (hidden,), None
    yield "output.weight", (vocabulary, hidden), 0.02


def prepare(folder: Path, shape: dict, tokens: int, device: str) -> None:
    torch.manual_seed(1)
    (folder / "model").mkdir(parents=True)
    names = {"architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", "bias": False}
    config = {**names, **shape, "torch_dtype": "bfloat16", "hidden_act": "silu"}
    (folder / "model/config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {}
    for name, size, deviation in names_of(shape):
        if deviation is None:
            weights[name] = torch.ones(size, dtype=torch.bfloat16)
        else:
            drawn = torch.randn(size, device=device, dtype=torch.float32) * deviation
            weights[name] = drawn.to(torch.bfloat16).cpu()
    save_file(weights, folder / "model" / CHECKPOINT, metadata={"format": "pt"})
    # A chain in which a token has four successors: there is something to learn.
    generator = torch.Generator().manual_seed(2)
    successors = torch.randint(3, shape["vocab_size"], (shape["vocab_size"], 4), generator=generator)
    choices = torch.randint(0, 4, (tokens + 1,), generator=generator).tolist()
    table, token, ids = successors.tolist(), 3, []
    for choice in choices:
        ids.append(token)
        token = table[token][choice]
    (folder / "document.jsonl").write_text(json.dumps({"input_ids": ids, "labels": ids}) + "\n")


def load(folder: Path, shape: dict, device: str, dtype: torch.dtype) -> LlamaForCausalLM:
    config = LlamaConfig(**shape, attn_implementation=ATTENTION, use_cache=False)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model = model.to(dtype).to_empty(device=device)
    state = dict(model.named_parameters())
    groups = shape["num_key_value_heads"]
    head_dim = shape["hidden_size"] // shape["num_attention_heads"]
    with torch.no_grad(), safe_open(folder / "model" / CHECKPOINT, "pt") as file:
        state["model.embed_tokens.weight"].copy_(file.get_tensor("model.tok_embeddings.weight"))
        state["model.norm.weight"].copy_(file.get_tensor("model.norm.weight"))
        state["lm_head.weight"].copy_(file.get_tensor("output.weight"))
        for i in range(shape["num_hidden_layers"]):
            ours, theirs = f"model.layers.{i}.", f"model.layers.{i}."
            for name, renamed in RENAMED.items():
                state[f"{theirs}{renamed}.weight"].copy_(file.get_tensor(f"{ours}{name}.weight"))
            # Per key/value head: its query heads, then k, then v.
            fused = file.get_tensor(f"{ours}attention.wqkv.weight")
            fused = fused.view(groups, -1, head_dim, shape["hidden_size"])
            parts = {"q": fused[:, :-2], "k": fused[:, -2], "v": fused[:, -1]}
            for part, value in parts.items():
                target = state[f"{theirs}self_attn.{part}_proj.weight"]
                target.copy_(value.reshape(target.shape))
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(device)
    return model


class Trainee:
    def __init__(self, arguments, shape: dict, device: str):
        pure = arguments.precision == "bf16"
        dtype = torch.bfloat16 if pure else torch.float32
        self.device, self.autocast = device, not pure
        self.model = load(arguments.folder, shape, device, dtype)
        if arguments.checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.model.train()
        self.loss = torch.compile(self.loss_of) if arguments.compile else self.loss_of
        matrices = [p for p in self.model.parameters() if p.dim() >= 2]
        vectors = [p for p in self.model.parameters() if p.dim() < 2]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=arguments.lr, betas=(0.9, 0.95), eps=1e-8, fused=True
        )

    def loss_of(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self.model(input_ids=ids).logits
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), reduction="sum"
        )

    def step(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        total = torch.zeros((), device=self.device)
        cast = torch.autocast(self.device, torch.bfloat16) if self.autocast else contextlib.nullcontext()
        for part_ids, part_targets in zip(ids, targets):
            with cast:
                loss = self.loss(part_ids, part_targets) / targets.numel()
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total


def train_with(arguments, micro: int, shape: dict, device: str) -> dict:
    trainee = Trainee(arguments, shape, device)
    row = json.loads((arguments.folder / "document.jsonl").read_text())
    document = torch.tensor(row["input_ids"], device=device)
    steps, length = arguments.steps, arguments.length
    ids = document[:-1].view(-1, arguments.packs // micro, micro, length)
    targets = document[1:].view_as(ids)
    seconds, losses = [], []
    for step in range(steps):
        start = time.perf_counter()
        with sdpa_kernel([*BACKENDS, SDPBackend.MATH], set_priority=True):
            losses.append(trainee.step(ids[step], targets[step]).item())
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    return {"seconds": seconds, "losses": losses, "peak_bytes": peak, "micro": micro}


def train(arguments, shape: dict, device: str) -> dict:
    """With the largest micro-batch, of those that halve --micro, that the card has memory for."""
    micro = arguments.micro
    while True:
        try:
            return train_with(arguments, micro, shape, device)
        except torch.cuda.OutOfMemoryError:
            if micro == 1:
                raise
        print(f"no memory for {micro} packs a micro-batch", file=sys.stderr)
        micro //= 2
        torch._dynamo.reset()
        gc.collect()
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["prepare", "train"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="a file of configs/models")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--packs", type=int, required=True, help="of a step")
    parser.add_argument("--micro", type=int, default=1, help="packs of a micro-batch; fewer where memory runs out")
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--lr", type=float, default=3e-5)
    parser.add_argument("--precision", choices=["autocast", "bf16"], default="autocast")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--cpu", action="store_true", help="to try the program")
    arguments = parser.parse_args()
    device = "cpu" if arguments.cpu else "cuda"
    shape = read_shape(arguments.model)
    if arguments.action == "prepare":
        prepare(arguments.folder, shape, arguments.steps * arguments.packs * arguments.length, device)
        return
    try:
        result = train(arguments, shape, device)
        print(json.dumps({**result, "versions": torch_versions()}), flush=True)
    except torch.cuda.OutOfMemoryError as error:
        print(json.dumps({"error": f"out of memory: {error}".splitlines()[0]}), flush=True)
        sys.exit(0)


if __name__ == "__main__":
    main()
