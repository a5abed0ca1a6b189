#!/usr/bin/env python3
"""torch's side of kernels.py: its own process, which times the counterpart of one row per line.

A line is a row of inkstone_gpu_bench as JSON (family, kernel, shape); the answer is {"milliseconds": x,
"by": what was fastest}, or {"milliseconds": null} where torch has nothing to compare with; before the
first, a line of its own says {"versions": ...}. Of several ways to do the same (backends of attention,
eager or compiled) the fastest counts. Inputs are random and rotate among several sets where one would
fit into the cache. Where torch cannot do the same it does less: its weight gradients are bf16 and new,
Inkstone's are added to f32 ones.
"""

import argparse
import functools
import json
import math
import statistics
import sys

import torch
import torch.nn.functional as F
from torch._functorch import config as functorch_config
from torch.nn.attention import SDPBackend, sdpa_kernel

from card import torch_versions

CACHE_BYTES = 200 << 20  # four times the second-level cache of an H100


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


class Clock:
    """Milliseconds of a call on the device, the median of several samples."""

    def __init__(self, device: str, tiny: bool):
        self.device, self.samples, self.sample_ms = device, 1 if tiny else 5, 0 if tiny else 20

    def stretch(self, call, runs: int) -> float:
        if self.device == "cpu":
            for i in range(runs):
                call(i)
            return 0.0
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for i in range(runs):
            call(i)
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / runs

    def time(self, call) -> float:
        self.stretch(call, 3)
        once = max(self.stretch(call, 3), 1e-3)
        runs = max(1, min(1000, math.ceil(self.sample_ms / once)))
        return statistics.median(self.stretch(call, runs) for _ in range(self.samples))


class Rival:
    def __init__(self, device: str, tiny: bool):
        self.device, self.clock, self.tiny = device, Clock(device, tiny), tiny

    def random(self, *shape, dtype=torch.bfloat16, scale=1.0) -> torch.Tensor:
        return (torch.randn(*shape, device=self.device) * scale).to(dtype)

    def sets(self, make) -> list:
        """As many results of make() as leave nothing of one in the cache when its turn comes."""
        first = make()
        bytes_of_one = sum(t.numel() * t.element_size() for t in first)
        count = 1 if self.tiny else max(1, min(8, math.ceil(CACHE_BYTES / bytes_of_one)))
        return [first] + [make() for _ in range(count - 1)]

    def over(self, sets: list, call) -> float:
        return self.clock.time(lambda i: call(*sets[i % len(sets)]))

    def best(self, ways: dict) -> dict:
        """The fastest of the ways that run at all; `errors` names the others."""
        times, errors = {}, {}
        for name, way in ways.items():
            try:
                times[name] = way()
            except Exception as error:  # a backend that does not take the shape, no compiler
                errors[name] = first_line(error)
        if not times:
            return {"milliseconds": None, "errors": errors}
        by = min(times, key=times.get)
        return {"milliseconds": times[by], "by": by, "all": times, "errors": errors}

    @staticmethod
    def compiled(function):
        """For one shape: kernels that take any would be slower."""
        return torch.compile(function, dynamic=False)

    def eager_and_compiled(self, function, sets: list) -> dict:
        ways = {"eager": lambda: self.over(sets, function)}
        if not self.tiny:
            ways["compiled"] = lambda: self.over(sets, self.compiled(function))
        return self.best(ways)

    def backward(self, function, make) -> dict:
        """Backward alone of function(*inputs), eager and compiled."""

        def way(call):
            sets = []
            for inputs in self.sets(make):
                leaves = [x.requires_grad_() for x in inputs]
                outputs = call(*leaves)
                outputs = outputs if isinstance(outputs, tuple) else (outputs,)
                sets.append((outputs, leaves, [torch.randn_like(y) for y in outputs]))
            return self.over(
                sets, lambda y, leaves, dy: torch.autograd.grad(y, leaves, dy, retain_graph=True)
            )

        ways = {"eager": lambda: way(function)}
        if not self.tiny:
            ways["compiled"] = lambda: way(self.compiled(function))
        return self.best(ways)

    # The families. Names and shapes are those of the rows of inkstone_gpu_bench.

    def gemm(self, kernel: str, s: dict) -> dict:
        T, I, O = s["T"], s["I"], s["O"]
        make = {
            "forward": lambda: (self.random(T, I), self.random(O, I, scale=0.02)),
            "dx": lambda: (self.random(T, O), self.random(O, I, scale=0.02)),
            "dw": lambda: (self.random(T, O), self.random(T, I)),
        }[kernel]
        call = {
            "forward": lambda x, w: torch.matmul(x, w.t()),
            "dx": torch.matmul,
            "dw": lambda dy, x: torch.matmul(dy.t(), x),
        }[kernel]
        sets = self.sets(make)
        return {"milliseconds": self.over(sets, call), "by": "torch.matmul"}

    def attention(self, kernel: str, s: dict) -> dict | None:
        if kernel not in ("forward", "backward"):  # one candidate beside the others
            return None

        def heads(count):
            return self.random(s["documents"], count, s["length"], s["head_dim"])

        inputs = [heads(s["heads"]), heads(s["kv_heads"]), heads(s["kv_heads"])]
        names = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
        if self.device == "cpu":
            names = {"math": SDPBackend.MATH}

        def attend(q, k, v):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

        def way(backend):
            with sdpa_kernel(backend):
                if kernel == "forward":
                    return self.clock.time(lambda i: attend(*inputs))
                leaves = [x.detach().requires_grad_() for x in inputs]
                out = attend(*leaves)
                dout = torch.randn_like(out)
                return self.clock.time(
                    lambda i: torch.autograd.grad(out, leaves, dout, retain_graph=True)
                )

        return self.best({name: lambda b=backend: way(b) for name, backend in names.items()})

    def lm_loss(self, kernel: str, s: dict) -> dict:
        x = self.random(s["T"], s["C"]).requires_grad_()
        w = self.random(s["V"], s["C"], scale=0.02).requires_grad_()
        labels = torch.randint(0, s["V"], (s["T"],), device=self.device)

        def loss_of(x, w, labels):
            return F.cross_entropy(F.linear(x, w).float(), labels)

        def way(function):
            def step(i):
                x.grad = w.grad = None
                function(x, w, labels).backward()

            if self.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            took = self.clock.time(step)
            if self.device == "cuda":
                memory[function] = torch.cuda.max_memory_allocated()
            return took

        memory: dict = {}
        ways = {"eager": lambda: way(loss_of)}
        if not self.tiny:
            ways["compiled"] = lambda: way(self.compiled(loss_of))
        answer = self.best(ways)
        answer["peak_bytes"] = min(memory.values(), default=None)
        return answer

    def norm(self, kernel: str, s: dict) -> dict | None:
        T, C = s["tokens"], s["columns"]
        w = self.random(C, dtype=torch.float32)

        def norm(h, weight=w):
            f = h.float()
            return (f * torch.rsqrt(f.square().mean(-1, keepdim=True) + 1e-5) * weight).to(h.dtype)

        def add_norm(x, delta, weight=w):
            h = x + delta
            return h, norm(h, weight)

        if kernel == "rms_norm_forward":
            return self.eager_and_compiled(norm, self.sets(lambda: (self.random(T, C),)))
        if kernel == "add_rms_norm_forward":
            sets = self.sets(lambda: (self.random(T, C), self.random(T, C)))
            return self.eager_and_compiled(add_norm, sets)
        if kernel == "rms_norm_backward_input":  # with the gradient that comes along the residual
            return self.backward(add_norm, lambda: (self.random(T, C), self.random(T, C)))
        if kernel == "rms_norm_backward":  # and that of the weight
            weight = functools.partial(self.random, C, dtype=torch.float32)
            return self.backward(add_norm, lambda: (self.random(T, C), self.random(T, C), weight()))
        return None

    def swiglu(self, kernel: str, s: dict) -> dict:
        def make():
            return self.random(s["tokens"], s["columns"]), self.random(s["tokens"], s["columns"])

        def swiglu(gate, up):
            return F.silu(gate) * up

        if kernel == "swiglu_forward":
            return self.eager_and_compiled(swiglu, self.sets(make))
        return self.backward(swiglu, make)

    def rope(self, kernel: str, s: dict) -> dict | None:
        """A fused wqkv, groups of (queries, key, value), taken apart; queries and keys rotated."""
        if kernel not in ("rope_split", "rope_join"):
            return None
        T, groups, head_dim = s["tokens"], 8, 128
        queries = {"1.8b": 2, "7b": 4}[s["model"]]
        cos, sin = (self.random(T, 1, head_dim // 2, dtype=torch.float32) for _ in "cs")

        def rotate(x):
            a, b = x.float().chunk(2, dim=-1)
            return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)

        def split(qkv):
            q, k, v = qkv.split([queries, 1, 1], dim=2)
            q = q.reshape(T, -1, head_dim)
            return rotate(q), rotate(k.flatten(1, 2)), v.flatten(1, 2).contiguous()

        def make():
            return (self.random(T, groups, queries + 2, head_dim),)

        if kernel == "rope_join":
            return self.backward(split, make)
        return self.eager_and_compiled(split, self.sets(make))

    def cross_entropy(self, kernel: str, s: dict) -> dict:
        labels = torch.randint(0, s["vocabulary"], (s["rows"],), device=self.device)
        logits = self.random(s["rows"], s["vocabulary"]).requires_grad_()  # so its gradient is bf16

        def loss_of(logits):
            return F.cross_entropy(logits.float(), labels)

        def step(logits):
            return torch.autograd.grad(loss_of(logits), logits)

        ways = {"eager": lambda: self.over([(logits,)], step)}
        if not self.tiny:
            compiled = self.compiled(loss_of)
            ways["compiled"] = lambda: self.over(
                [(logits,)], lambda x: torch.autograd.grad(compiled(x), x)
            )
        return self.best(ways)

    def adamw(self, kernel: str, s: dict) -> dict:
        dtype = torch.float32 if s["states"] == "f32 states" else torch.bfloat16
        each = s["parameters"] // s["tensors"]
        parameters = [
            torch.nn.Parameter(self.random(each, dtype=dtype)) for _ in range(s["tensors"])
        ]
        for p in parameters:
            p.grad = torch.randn_like(p)
        optimizer = torch.optim.AdamW(parameters, lr=1e-6, weight_decay=0.1, fused=True)
        return {"milliseconds": self.clock.time(lambda i: optimizer.step()), "by": "fused"}

    def answer(self, row: dict) -> dict:
        family = FAMILIES.get(row["family"])
        if family is None:
            return {"milliseconds": None}
        try:
            return family(self, row["kernel"], row["shape"]) or {"milliseconds": None}
        except Exception as error:  # the other rows go on
            return {"milliseconds": None, "errors": {"torch": first_line(error)}}
        finally:
            if self.device == "cuda":
                torch.cuda.empty_cache()


FAMILIES = {
    "gemm": Rival.gemm,
    "attention": Rival.attention,
    "lm_loss": Rival.lm_loss,
    "norm": Rival.norm,
    "rope": Rival.rope,
    "swiglu": Rival.swiglu,
    "cross_entropy": Rival.cross_entropy,
    "adamw": Rival.adamw,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="on the CPU, to try the program")
    arguments = parser.parse_args()
    device = "cpu" if arguments.tiny else "cuda"
    torch.manual_seed(1)
    # A compiled backward may else use its saved tensors only once.
    functorch_config.donated_buffer = False
    # Past the limit torch would go on eagerly without a word; a function is compiled once per shape.
    torch._dynamo.config.recompile_limit = 64
    print(json.dumps({"versions": torch_versions()}), flush=True)
    rival = Rival(device, arguments.tiny)
    for line in sys.stdin:
        print(json.dumps(rival.answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
