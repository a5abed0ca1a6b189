#!/usr/bin/env python3
"""Predicts a training step of InternLM2 on one H100 from its shapes: operations, bytes, microseconds per token.

    python3 bench/gpu_model.py [1.8b] [7b] [--packs 8] [--length 4096]

Counted is what the program launches for a micro-batch and for an update, kernel by kernel. A part takes the
longer of its operations at the rate of such operations and its bytes at the rate of the memory; parts run one
after another. Nothing here was measured with Inkstone: the rates are those of libraries and of the card, and
every number printed is an estimate. Arguments are all that it reads.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass

PEAK = 989.4e12  # dense bf16, the data sheet
PRODUCTS = 720e12  # what large products keep up over a whole step, where power limits the clock
MEMORY = 2.8e12  # bytes a second of a fused kernel; a copy reaches 3.0e12
GAP = 1e-6  # between two kernels of a graph
PROCESSORS = 132
TILE = (128, 256)  # of a product
# cuDNN 9, causal, head_dim 128, grouped heads: forward and backward by length (measured elsewhere, on an H200).
ATTENTION = {2048: (484e12, 370e12), 4096: (591e12, 474e12), 8192: (644e12, 541e12), 32768: (688e12, 581e12)}


@dataclass(frozen=True)
class Model:
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int = 92544

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def kv(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> list[tuple[int, int]]:
        """(inputs, outputs): wqkv, wo, w1, w3, w2."""
        h, f = self.hidden, self.inner
        return [(h, h + 2 * self.kv), (h, h), (h, f), (h, f), (f, h)]

    @property
    def multiplied(self) -> int:
        """Weights of matrix products."""
        layer = sum(i * o for i, o in self.linears)
        return self.layers * layer + self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        return self.multiplied + self.vocabulary * self.hidden + (2 * self.layers + 1) * self.hidden


@dataclass(frozen=True)
class Case:
    """Of bench/gpu/step.py. Of an optimizer in bf16 moments and gradients are, and weights have no master."""

    model: Model
    micro: int  # packs
    selective: bool  # norms and SwiGLU are rebuilt in backward
    bf16_optimizer: bool

    @property
    def gradient(self) -> int:
        return 2 if self.bf16_optimizer else 4


CASES = {
    "1.8b": Case(Model(2048, 8192, 24, 16, 8), micro=4, selective=False, bf16_optimizer=False),
    "7b": Case(Model(4096, 14336, 32, 32, 8), micro=1, selective=True, bf16_optimizer=True),
}


@dataclass(frozen=True)
class Work:
    """Of a micro-batch."""

    part: str
    flops: float = 0
    bytes: float = 0
    seconds: float = 0
    launches: float = 0


def memory_bound(part: str, bytes_moved: float, launches: float = 1) -> Work:
    return Work(part, 0, bytes_moved, bytes_moved / MEMORY, launches)


def filled(m: int, n: int) -> float:
    """The share of the processors that the last wave of tiles leaves busy."""
    tiles = math.ceil(m / TILE[0]) * math.ceil(n / TILE[1])
    return tiles / (math.ceil(tiles / PROCESSORS) * PROCESSORS)


def product(part: str, m: int, n: int, k: int, result: float) -> Work:
    """[m, k] times [k, n] in bf16; result: bytes that an element of [m, n] is read and written."""
    flops, moved = 2.0 * m * n * k, 2.0 * (m * k + k * n) + result * m * n
    rate = PRODUCTS * min(1.0, filled(m, n) / filled(8192, 8192))
    return Work(part, flops, moved, max(flops / rate, moved / MEMORY), 1)


def products_of_layer(case: Case, tokens: int, first: bool) -> Iterator[Work]:
    added = case.gradient * (1 if first else 2)  # later micro-batches read what they add to
    w1 = 2
    for i, (inputs, outputs) in enumerate(case.model.linears):
        yield product("products of the layers", tokens, outputs, inputs, 2)
        # that of w1 adds to what w3 has given their common input
        yield product("products of the layers", tokens, inputs, outputs, 4 if i == w1 else 2)
        yield product("products of the layers", outputs, inputs, tokens, added)


def attention_of_layer(model: Model, tokens: int, length: int) -> Iterator[Work]:
    known = max(each for each in ATTENTION if each <= length)
    flops = 2.0 * model.hidden * length * tokens
    for share, rate, launches in ((1.0, ATTENTION[known][0], 2), (2.5, ATTENTION[known][1], 4)):
        yield Work("attention", share * flops, 0, share * flops / rate, launches)


def memory_of_layer(case: Case, tokens: int) -> Iterator[Work]:
    """Reads and writes of kernels that no product hides, 2 bytes an element where nothing else is said."""
    model, T = case.model, tokens
    h, f, kv = model.hidden, model.inner, model.kv
    yield memory_bound("norms", 2 * 8 * h * T, 2)  # forward: x, delta, sum, norm
    # backward: dn, h, dh, dx, and an f32 partial sum of the weight's gradient for 16 rows, read again
    yield memory_bound("norms", 2 * (8 * h + 8 * h / 16) * T, 4)
    # From wqkv's result to q, k and v and back; the table of angles is read.
    yield memory_bound("rope", 2 * (4 * (h + 2 * kv) + 4 * model.head_dim) * T, 2)
    yield memory_bound("rope", 2 * 8 * model.heads * T, 2)  # statistics of attention, turned for cuDNN
    yield memory_bound("SwiGLU", (6 + 10) * f * T, 2)
    if case.selective:
        yield memory_bound("rebuilt norms", 2 * 4 * h * T, 2)  # for wqkv; for w3 and w1
        yield memory_bound("rebuilt SwiGLU", 2 * f * T, 0)  # written along with its gradients


def loss_rows(case: Case, tokens: int) -> tuple[int, int, bool]:
    """Rows of logits and of their gradient at a time; does the head's gradient meet in f32 first?"""
    chunk, group = min(tokens, 512), min(tokens, 1536)
    narrow = case.bf16_optimizer and group < tokens
    if narrow and 2 * tokens <= 2 * group + 4 * case.model.hidden:
        return chunk, tokens, False
    return chunk, group, narrow


def head(case: Case, tokens: int) -> Iterator[Work]:
    h, V = case.model.hidden, case.model.vocabulary
    chunk, group, sums = loss_rows(case, tokens)
    for begin in range(0, tokens, chunk):
        yield product("head: products", min(chunk, tokens - begin), V, h, 4)
    for begin in range(0, tokens, group):
        rows = min(group, tokens - begin)
        width = 4 if sums else case.gradient
        yield product("head: products", rows, h, V, 2)
        yield product("head: products", V, h, rows, width if begin == 0 else 2 * width)
    if sums:
        yield memory_bound("head: products", (4 + 2) * V * h)
    # f32 logits and their gradient; the second read of the logits is in shared memory and the second-level cache
    yield memory_bound("loss", (4 + 2) * V * tokens, tokens / chunk)


def ends(case: Case, tokens: int, first: bool) -> Iterator[Work]:
    h, V = case.model.hidden, case.model.vocabulary
    yield memory_bound("embedding, last norm, angles", (4 * h + 16.5 * h + 4 * case.model.head_dim) * tokens, 6)
    yield memory_bound("embedding, last norm, angles", (2 + 2 * case.gradient) * h * tokens, 7)
    if first:
        yield memory_bound("embedding, last norm, angles", case.gradient * V * h)  # zeros


def micro_batch(case: Case, length: int, first: bool) -> Iterator[Work]:
    tokens = case.micro * length
    for _ in range(case.model.layers):
        yield from products_of_layer(case, tokens, first)
        yield from attention_of_layer(case.model, tokens, length)
        yield from memory_of_layer(case, tokens)
    yield from head(case, tokens)
    yield from ends(case, tokens, first)


def update(case: Case) -> Iterator[Work]:
    count = case.model.parameters
    yield memory_bound("gradient norm", case.gradient * count, 3)
    yield memory_bound("AdamW", (14 if case.bf16_optimizer else 30) * count, 2)


def step(case: Case, packs: int, length: int) -> Iterator[Work]:
    for i in range(packs // case.micro):
        yield from micro_batch(case, length, i == 0)
    yield from update(case)


def print_table(works: list[Work], tokens: int) -> float:
    parts = list(dict.fromkeys(work.part for work in works))
    gaps = GAP * sum(work.launches for work in works)
    total = sum(work.seconds for work in works) + gaps
    print("| part | Mflop/token | KB/token | us/token, estimate | share | measured |\n|---|---|---|---|---|---|")
    for part in parts:
        of_part = [work for work in works if work.part == part]
        flops, moved, seconds = (
            sum(getattr(work, name) for work in of_part) / tokens for name in ("flops", "bytes", "seconds")
        )
        print(f"| {part} | {flops / 1e6:.1f} | {moved / 1e3:.1f} | {seconds * 1e6:.2f} | {seconds * tokens / total:.1%} | |")
    print(f"| gaps between kernels | | | {gaps / tokens * 1e6:.2f} | {gaps / total:.1%} | |")
    print(f"| all | | | {total / tokens * 1e6:.2f} | | |")
    return total


def report(name: str, packs: int, length: int) -> None:
    case = CASES[name]
    model, tokens = case.model, packs * length
    works = list(step(case, packs, length))
    print(f"\nInternLM2-{name.upper()}, {packs} packs of {length} tokens a step, {case.micro} of them a micro-batch\n")
    total = print_table(works, tokens)
    rate = tokens / total
    per_token = 6 * model.multiplied + 6 * model.layers * model.hidden * length
    print(f"\n{rate:,.0f} tok/s, {rate * per_token / PEAK:.1%} causal MFU, {total:.3f} s a step (estimate)")
    layer = sum(work.bytes for work in memory_of_layer(case, 1))
    least = 48 * model.hidden + 18 * model.inner
    excess = (layer - least) * model.layers / MEMORY
    print(
        f"kernels bound by memory move {layer / 1e3:.1f} KB a layer and token; 48 h + 18 f would be {least / 1e3:.1f} KB,"
        f" {abs(excess) * 1e6:.2f} us/token or {abs(excess) * tokens / total:.1%} of the step"
        f" {'less' if excess > 0 else 'more'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="of 1.8b, 7b; default: both")
    parser.add_argument("--packs", type=int, default=8, help="of a step")
    parser.add_argument("--length", type=int, default=4096, help="tokens of a pack")
    arguments = parser.parse_args()
    for name in arguments.models or CASES:
        if name not in CASES:
            raise SystemExit(f"expected one of {', '.join(CASES)}, got {name}")
        if arguments.packs < 1 or arguments.packs % CASES[name].micro != 0:
            raise SystemExit(f"--packs: expected a multiple of {CASES[name].micro}, got {arguments.packs}")
        if arguments.length < min(ATTENTION):
            raise SystemExit(f"--length: expected at least {min(ATTENTION)}, got {arguments.length}")
        report(name, arguments.packs, arguments.length)


if __name__ == "__main__":
    main()
