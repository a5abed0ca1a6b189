#!/usr/bin/env python3
"""torch's side of gemm.py: its own process, which times one product per line it reads.

A line is `PRODUCT ROWS INPUTS OUTPUTS DTYPE SECONDS`; the answer is the rate in GFLOP/s. The products
are those of a linear layer: y = x W^T, dx = dy W, dW = dy^T x.
"""

import sys
import time

import torch

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def operands(product: str, rows: int, inputs: int, outputs: int, dtype: torch.dtype):
    x = (torch.rand(rows, inputs) - 0.5).to(dtype)
    w = (torch.rand(outputs, inputs) - 0.5).to(dtype)
    dy = (torch.rand(rows, outputs) - 0.5).to(dtype)
    return {"y": (x, w.t()), "dx": (dy, w), "dW": (dy.t(), x)}[product]


def rate(a: torch.Tensor, b: torch.Tensor, seconds: float) -> float:
    out = torch.matmul(a, b)
    calls, start, elapsed = 0, time.perf_counter(), 0.0
    while elapsed < seconds:
        torch.matmul(a, b, out=out)
        calls += 1
        elapsed = time.perf_counter() - start
    return calls * 2e-9 * a.shape[0] * a.shape[1] * b.shape[1] / elapsed


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    for line in sys.stdin:
        product, rows, inputs, outputs, dtype, seconds = line.split()
        a, b = operands(product, int(rows), int(inputs), int(outputs), DTYPES[dtype])
        print(rate(a, b, float(seconds)), flush=True)


if __name__ == "__main__":
    main()
