#!/usr/bin/env python3
"""Greedy generation, token ids and exported weights of a Hugging Face directory against transformers.

    python tests/peer/generate_parity.py --model build/peer/smollm2

Checks, in f32: the same ids for the same text; on 20 prompts the same greedy tokens, with
log-probabilities within 1e-4; `inkstone export hf` of the directory loads in transformers, with equal
logits and an equal tokenizer. Leaves with 1 if anything differs.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from comparison import Verdict, add_binary, relative_error, run_inkstone
from transformers import AutoModelForCausalLM, AutoTokenizer

NEW_TOKENS = 32
LOGPROB_LIMIT = 1e-4
LOGIT_LIMIT = 1e-5

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "Water boils at",
    "The three laws of motion were written by",
    "def fibonacci(n):\n    ",
    "Q: What is 17 + 25?\nA:",
    "The quick brown fox",
    "In 1969, two astronauts",
    "Dear Sir or Madam,\n\nI am writing to",
    "A good recipe for bread needs flour,",
    "#include <vector>\n\nint main() {\n",
    "The opposite of hot is",
    "Photosynthesis is the process by which",
    "1, 1, 2, 3, 5, 8,",
    "Le chat est assis sur",
    "北京是",
    "The best way to learn a language is",
    "SELECT name FROM users WHERE",
    "Red, green and blue are three",
    "Her name was Alice, and she",
]

# No special tokens: Inkstone never reads them from a prompt, transformers does.
TEXTS = PROMPTS + [
    " leading and trailing  spaces   ",
    "tabs\tand\nnew\n\n\nlines\r\n",
    "don't we'll they've I'd it's you're I'm",
    "digits 0123456789, 3.14159 and 1e-10; ١٢٣ ４５６ ½",
    "naïve café, Straße, Ελληνικά, русский, עברית, العربية, हिन्दी",
    "日本語の文章です。中文没有空格。한국어 문장",
    "emoji 😀👩‍👩‍👧‍👦🇫🇷 and combining e\u0301",
    "zero\u200bwidth, nbsp\u00a0, \u3000ideographic",
    "almost special: <|im_start|, <|, |>, <im_end>",
    "x" * 300,
    "http://example.org/a?b=c&d=%20#e_f-g",
]


def run_generate(binary: Path, model: Path, texts: list[str], new_tokens: int) -> list[dict]:
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps({"prompt": text}) + "\n")
        file.flush()
        sampling = ["--temperature", 0, "--max-new-tokens", new_tokens]
        out = run_inkstone(
            binary, "generate", "--model", model, "-i", file.name, "--json", "--dtype", "fp32", *sampling
        )
    rows = [json.loads(line) for line in out.splitlines()]
    if len(rows) != len(texts):
        raise SystemExit(f"expected {len(texts)} rows of generate --json, got {len(rows)}")
    return rows


def compare_ids(verdict: Verdict, what: str, texts: list[str], ours: list, theirs: list) -> None:
    wrong = [i for i in range(len(texts)) if ours[i] != theirs[i]]
    detail = f"{len(texts)} texts"
    if wrong:
        i = wrong[0]
        detail = f"{len(wrong)} of {len(texts)} differ; {texts[i]!r}: {ours[i]}, expected {theirs[i]}"
    verdict.check(what, not wrong, detail)


@torch.inference_mode()
def generate_reference(model, ids: list[int]) -> tuple[list[int], list[float], list[float]]:
    """Greedy ids, their log-probabilities, and the distance to the second likeliest token."""
    out = model.generate(
        torch.tensor([ids]),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    new = out.sequences[0, len(ids) :].tolist()
    logprobs = torch.cat(out.logits).double().log_softmax(-1)
    top = logprobs.topk(2).values
    return new, logprobs[range(len(new)), new].tolist(), (top[:, 0] - top[:, 1]).tolist()


def first_difference(ours: list[int], theirs: list[int]) -> int | None:
    for i, (a, b) in enumerate(zip(ours, theirs)):
        if a != b:
            return i
    return None if len(ours) == len(theirs) else min(len(ours), len(theirs))


def compare_generation(verdict: Verdict, model, stop_ids: set[int], rows: list[dict], ids: list) -> None:
    worst = 0.0
    compared = 0
    for prompt, row, prompt_ids in zip(PROMPTS, rows, ids):
        theirs, logprobs, margins = generate_reference(model, prompt_ids)
        ours = row["ids"]
        # transformers returns the stop token, Inkstone may leave it out of the text's ids
        if theirs[-1] in stop_ids and ours[-1:] != theirs[-1:]:
            theirs.pop()
        at = first_difference(ours, theirs)
        same = len(theirs) if at is None else at
        errors = [abs(a - b) for a, b in zip(row["logprobs"][:same], logprobs[:same])]
        worst = max([worst, *errors])
        compared += same
        if at is not None:
            got = ours[at] if at < len(ours) else "the end"
            expected = theirs[at] if at < len(theirs) else "the end"
            margin = margins[at] if at < len(margins) else float("nan")
            detail = f"token {at}: {got}, expected {expected}, margin {margin:.2g}"
            verdict.check(f"greedy tokens of {prompt[:24]!r}", False, detail)
    verdict.check("greedy tokens, all prompts", not verdict.failed, f"{compared} tokens compared")
    verdict.limit("log-probabilities, largest difference", worst, LOGPROB_LIMIT)


@torch.inference_mode()
def compare_export(verdict: Verdict, binary: Path, source: Path, model, tokenizer, ids: list) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "export"
        run_inkstone(binary, "export", "hf", "--in", source, "--out", out)
        theirs, info = AutoModelForCausalLM.from_pretrained(
            out, dtype=torch.float32, output_loading_info=True
        )
        unused = sorted(info["missing_keys"]) + sorted(info["unexpected_keys"])
        verdict.check("export: every tensor found and used", not unused, ", ".join(unused[:3]))
        theirs.eval()
        worst = max(
            relative_error(theirs(torch.tensor([row])).logits, model(torch.tensor([row])).logits)
            for row in ids[: len(PROMPTS)]
        )
        verdict.limit("export: logits, largest relative difference", worst, LOGIT_LIMIT)
        again = AutoTokenizer.from_pretrained(out)
        compare_ids(verdict, "export: token ids of text", TEXTS, [again(t).input_ids for t in TEXTS], ids)
        verdict.check(
            "export: decoded text",
            all(again.decode(row) == tokenizer.decode(row) for row in ids),
            f"{len(ids)} texts",
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_binary(parser)
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face directory")
    parser.add_argument("--skip-export", action="store_true")
    arguments = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    ids = [tokenizer(text).input_ids for text in TEXTS]
    stop = model.generation_config.eos_token_id
    stop_ids = set(stop) if isinstance(stop, list) else {stop}

    verdict = Verdict()
    rows = run_generate(arguments.inkstone, arguments.model, TEXTS, 1)
    compare_ids(verdict, "token ids of text", TEXTS, [row["prompt_ids"] for row in rows], ids)
    rows = run_generate(arguments.inkstone, arguments.model, PROMPTS, NEW_TOKENS)
    compare_generation(verdict, model, stop_ids, rows, ids)
    if not arguments.skip_export:
        compare_export(verdict, arguments.inkstone, arguments.model, model, tokenizer, ids)
    return verdict.exit_code()


if __name__ == "__main__":
    sys.exit(main())
