#!/usr/bin/env python3
"""torch's side of step_100m.py: its own process, which trains as many steps as it is told.

Reads lines: `steps N` trains N steps and answers with one JSON line {"seconds": [...], "cpu_seconds":
[...], "loss": x}; `end` answers {"peak_rss": bytes} and leaves. The model is transformers' LlamaForCausalLM with SDPA, of
which InternLM2 is a renaming; its weights and tokens are random, as a step's time does not depend on
their values.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

MODES = {
    # weights, autocast, compiled
    "f32": (torch.float32, False, False),
    "f32-compiled": (torch.float32, False, True),
    "bf16": (torch.bfloat16, False, False),
    "bf16-compiled": (torch.bfloat16, False, True),
    "autocast": (torch.float32, True, False),
    "autocast-compiled": (torch.float32, True, True),
}


class Trainee:
    def __init__(self, shape: dict, mode: str, batch: int, length: int):
        dtype, self.autocast, compiled = MODES[mode]
        torch.manual_seed(1)
        model = LlamaForCausalLM(LlamaConfig(**shape, attn_implementation="sdpa", use_cache=False))
        self.model = model.to(dtype)
        self.call = torch.compile(self.model) if compiled else self.model
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
        )
        self.ids = torch.randint(0, shape["vocab_size"], (batch, length))

    def step(self) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            loss = self.call(input_ids=self.ids, labels=self.ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()


def serve(trainee: Trainee) -> None:
    for line in sys.stdin:
        if line.split()[0] == "end":
            break
        seconds, cpu_seconds = [], []
        for _ in range(int(line.split()[1])):
            start, cpu_start = time.perf_counter(), time.process_time()
            loss = trainee.step()
            seconds.append(time.perf_counter() - start)
            cpu_seconds.append(time.process_time() - cpu_start)
        print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "loss": loss}), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak_rss": peak}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a file of configs/models")
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    shape = yaml.safe_load(arguments.model.read_text())["model"]
    del shape["family"]
    serve(Trainee(shape, arguments.mode, arguments.batch, arguments.length))


if __name__ == "__main__":
    main()
